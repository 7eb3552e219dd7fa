"""What is written in the form: texts, checked field by field, and the jobs that they mean. No Textual."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuscale_tui.engine.intake import MOST_JOBS, check_provider
from gpuscale_tui.model.durations import format_duration, parse_duration
from gpuscale_tui.model.errors import FieldError, nearest
from gpuscale_tui.model.gpus import canonical_gpu
from gpuscale_tui.model.jobs import STOP_SIGNALS, Job, JobSpec, is_secret_name, parse_git, parse_start
from gpuscale_tui.model.money import parse_usd
from gpuscale_tui.model.offers import Market
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.model.states import Rehearsal
from gpuscale_tui.model.sweep import PARAM_PREFIX, Axis, count, expand, parse_sweep


@dataclass(frozen=True, slots=True)
class FormField:
    """One line of the form. `name` is what JobSpec's errors call it.

    `seldom` ones are folded away on a small screen until they are asked for or have something to say.
    """

    name: str
    label: str
    hint: str
    secret: bool = False
    seldom: bool = False


FIELDS: tuple[FormField, ...] = (
    FormField("command", "command", "a shell line; {lr} stands for a value of the sweep"),
    FormField("name", "name", "how it is called here; empty: its id"),
    FormField("sweep", "sweep", "lr=1e-3,5e-4 seed=1..3: one job for each combination"),
    FormField("gpu", "GPU", "a model such as RTX 4090; none for no GPU"),
    FormField("gpus", "GPUs", "how many, all on one machine"),
    FormField("max_price", "max price", "USD an hour and GPU, fees included"),
    FormField("image", "image", "a Docker image"),
    FormField("priority", "priority", "1 is served first, 10 last"),
    FormField("max_runtime", "max runtime", "such as 90m or 2h; empty: no limit"),
    FormField("workdir", "workdir", "a directory that is copied to the machine"),
    FormField("git", "git", "URL@REV instead of a workdir: cloned here, so the machine needs no git"),
    FormField("data", "data sets", "words=/data/words: brought once to a machine, found as $DATA_WORDS"),
    FormField("env", "environment", "A=1 B='two words'; secrets move to the next line"),
    FormField("secret", "secrets", "HF_TOKEN=...: kept in a 0600 file, shown nowhere", secret=True),
    FormField("project", "project", "what its cost is booked to"),
    FormField("checkpoint_dir", "checkpoints", "where it saves, if not in $CHECKPOINT_DIR", seldom=True),
    FormField("from", "starts from", "a snapshot such as j17/3: its first attempt finds it in $CHECKPOINT_DIR",
              seldom=True),
    FormField("stop_signal", "stop signal", "what tells it to save and end: TERM, INT, HUP, QUIT, USR1 or USR2",
              seldom=True),
    FormField("grace", "grace", "time that it has after that signal, such as 30s or 5m", seldom=True),
    FormField("rehearse", "rehearse", "yes: moved once on purpose after its first snapshot, to see that it resumes",
              seldom=True),
    FormField("provider", "provider", "clore or ssh; empty: any", seldom=True),
    FormField("market", "market", "on-demand or spot; empty: as the settings say", seldom=True),
    FormField("retries", "retries", "times it is put back after its machine failed", seldom=True),
)  # fmt: skip
NAMES = tuple(each.name for each in FIELDS)
MARKETS = tuple(market.value for market in Market)
YES, NO = "yes", "no"
Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Checked:
    """What the texts mean: the jobs, or what is wrong with which field; `notes` are remarks that refuse nothing."""

    specs: tuple[JobSpec, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    jobs: int = 0


def empty(settings: Settings) -> dict[str, str]:
    """A form as it is first opened: the settings' own values where there are some."""
    scaler = settings.scaler
    return {
        **dict.fromkeys(NAMES, ""),
        "gpu": scaler.gpu_type,
        "gpus": "1",
        "max_price": f"{scaler.max_price_per_gpu:g}",
        "image": scaler.docker_image,
        "priority": "5",
    }


def of_job(job: Job, settings: Settings) -> dict[str, str]:
    """A form with the values of a job. Of its secrets there are the names: an empty value means that of the job."""
    spec = job.spec
    env = {name: value for name, value in spec.env.items() if not name.startswith(PARAM_PREFIX)}
    return {
        **empty(settings),
        "command": spec.command if spec.command is not None else shlex.join(spec.argv),
        "name": spec.name,
        "gpu": spec.gpu_type or "none",
        "gpus": str(spec.gpu_count),
        "max_price": "" if spec.max_price is None else amount(spec.max_price),
        "image": spec.image,
        "priority": str(spec.priority),
        "max_runtime": format_duration(spec.max_runtime_sec) if spec.max_runtime_sec else "",
        "workdir": spec.workdir or "",
        "checkpoint_dir": spec.checkpoint_dir or "",
        "env": joined(env.items()),
        "project": spec.project or "",
        "provider": spec.provider or "",
        "market": spec.market or "",
        "retries": "" if spec.retries is None else str(spec.retries),
        "from": spec.start_from.label if spec.start_from else "",
        "git": spec.git.label if spec.git else "",
        "data": joined(spec.data.items()),
        "stop_signal": "" if spec.stop_signal == STOP_SIGNALS[0] else spec.stop_signal,
        "grace": "" if spec.grace_sec is None else format_duration(spec.grace_sec),
        "rehearse": YES if spec.rehearse and job.rehearsal != Rehearsal.VERIFIED else "",  # shown once is enough
        "secret": joined(spec.secret_env.items()),
    }


def check(texts: Texts, user: str, most: int | None = None) -> Checked:
    """Check every field by itself, so that each error stands at its own; then make the jobs, the first `most` of them.

    How many there are in all is `jobs`.
    """
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name in NAMES:
        try:
            values.update(_PARSERS[name](texts[name].strip()))
            _try(name, values)
        except FieldError as error:
            errors[name] = error.allowed if texts[name].strip() else f"needed: {error.allowed}"
    axes: tuple[Axis, ...] = values.pop("axes", ())
    notes = _notes(axes, values)
    if count(axes) > MOST_JOBS:
        errors["sweep"] = f"at most {MOST_JOBS:,} jobs at once; these are {count(axes):,}"
    if errors:
        return Checked(errors=errors, notes=notes, jobs=count(axes))
    try:
        specs = tuple(expand(JobSpec(**values, user=user), axes, most))
    except FieldError as error:
        return Checked(errors={_form_name(error.field): error.allowed}, notes=notes, jobs=count(axes))
    return Checked(specs, {}, notes, count(axes))


def _try(name: str, values: Mapping[str, Any]) -> None:
    """Let JobSpec judge one field beside harmless others."""
    keys = _KEYS.get(name, (name,))
    JobSpec(**{"image": "x", "command": "x", **{key: values[key] for key in keys if key in values}})


def _form_name(field_name: str) -> str:
    return field_name if field_name in NAMES else "command"


def _notes(axes: tuple[Axis, ...], values: Mapping[str, Any]) -> dict[str, str]:
    command = str(values.get("command", ""))
    absent = [axis.name for axis in axes if f"{{{axis.name}}}" not in command]
    if not absent:
        return {}
    return {"sweep": f"{{{absent[0]}}} is not in the command"}


def amount(micros: int) -> str:
    """Micro-dollars as dollars, exactly and as short as that can be."""
    whole, rest = divmod(micros, 1_000_000)
    return f"{whole}.{rest:06}".rstrip("0").rstrip(".")


def joined(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values as one line that the form reads back."""
    return " ".join(f"{name}={shlex.quote(value) if value else ''}" for name, value in pairs)


def is_readable(line: str) -> bool:
    """Whether a line of names and values is as the form reads it: quotes closed, each word with its `=`."""
    try:
        return all("=" in word for word in shlex.split(line))
    except ValueError:
        return False


def without_secrets(line: str) -> str:
    """A line of variables without those whose names say that they are secret; nothing of one that cannot be told."""
    if not is_readable(line):
        return "" if is_secret_name(line) else line
    return joined((name, value) for name, value in variables(line) if not is_secret_name(name))


def variables(line: str) -> list[tuple[str, str]]:
    """Names and values of a line, as far as it can be read."""
    try:
        pairs = [word.partition("=") for word in shlex.split(line)]
    except ValueError:
        return []
    return [(name, value) for name, separator, value in pairs if separator]


def secret_names(texts: Texts) -> list[str]:
    """Names of the secrets that are written, in either line."""
    found = [name for name, _ in variables(texts["env"]) if is_secret_name(name)]
    return [*(name for name, _ in variables(texts["secret"])), *found]


def move_secrets(texts: Texts) -> dict[str, str]:
    """Take variables whose names say that they are secret out of the environment, which is shown, to the secrets."""
    try:
        words = shlex.split(texts["env"])
    except ValueError:
        return dict(texts)
    secret = [word for word in words if "=" in word and is_secret_name(word.partition("=")[0])]
    if not secret:
        return dict(texts)
    plain = [word for word in words if word not in secret]
    return {
        **texts,
        "env": " ".join(_quoted(word) for word in plain),
        "secret": " ".join([texts["secret"], *(_quoted(word) for word in secret)]).strip(),
    }


def _quoted(word: str) -> str:
    name, separator, value = word.partition("=")
    return name + separator + (shlex.quote(value) if value else "")


def _whole(name: str, text: str, allowed: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise FieldError(name, text, allowed)
    return int(text)


def _variables(name: str, text: str) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise FieldError(name, text, "A=1 B='two words', with its quotes closed") from error
    pairs = [word.partition("=") for word in words]
    for key, separator, _ in pairs:
        if not separator:
            raise FieldError(name, key, f"NAME=VALUE; {key!r} has no =")
    if len({key for key, _, _ in pairs}) < len(pairs):
        raise FieldError(name, text, "each name once")
    return {key: value for key, _, value in pairs}


def _price(text: str) -> dict[str, Any]:
    try:
        return {"max_price": parse_usd(text) if text else None}
    except ValueError as error:
        raise FieldError("max_price", text, "dollars such as 0.50") from error


def _provider(text: str) -> dict[str, Any]:
    check_provider(text or None)
    return {"provider": text or None}


def _market(text: str) -> dict[str, Any]:
    if text and text not in MARKETS:
        raise FieldError("market", text, f"{' or '.join(MARKETS)}{nearest(text, MARKETS)}")
    return {"market": Market(text) if text else None}


def _data(text: str) -> dict[str, Any]:
    pairs = _variables("data", text)
    if not all(pairs.values()):
        raise FieldError("data", text, "NAME=PATH with the path of a file or directory")
    return {"data": {name: _expanded(path) for name, path in pairs.items()}}


def _grace(text: str) -> dict[str, Any]:
    return {"grace_sec": 0 if text in {"0", "0s"} else parse_duration(text, "grace") if text else None}


def _rehearse(text: str) -> dict[str, Any]:
    if text and text not in {YES, NO}:
        raise FieldError("rehearse", text, f"{YES}, or {NO} as if it were empty")
    return {"rehearse": text == YES}


def _signal(text: str) -> dict[str, Any]:
    return {"stop_signal": text.upper().removeprefix("SIG") or STOP_SIGNALS[0]}


_PARSERS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "command": lambda text: {"command": text},
    "name": lambda text: {"name": text},
    "sweep": lambda text: {"axes": parse_sweep(text)},
    "gpu": lambda text: {"gpu_type": None if text.lower() == "none" else canonical_gpu(text)},
    "gpus": lambda text: {"gpu_count": _whole("gpus", text, "a whole number, 1 to 64")},
    "max_price": _price,
    "image": lambda text: {"image": text},
    "priority": lambda text: {"priority": _whole("priority", text, "a whole number, 1 (first) to 10 (last)")},
    "max_runtime": lambda text: {"max_runtime_sec": parse_duration(text, "max_runtime") if text else None},
    "workdir": lambda text: {"workdir": _expanded(text) if text else None},
    "checkpoint_dir": lambda text: {"checkpoint_dir": text or None},
    "env": lambda text: {"env": _variables("env", text)},
    "secret": lambda text: {"secret_env": _variables("secret", text)},
    "project": lambda text: {"project": text or None},
    "provider": _provider,
    "market": _market,
    "retries": lambda text: {"retries": _whole("retries", text, "a whole number, 0 to 10000") if text else None},
    "from": lambda text: {"start_from": parse_start(text) if text else None},
    "git": lambda text: {"git": parse_git(text) if text else None},
    "data": _data,
    "stop_signal": _signal,
    "grace": _grace,
    "rehearse": _rehearse,
}
_KEYS: Mapping[str, tuple[str, ...]] = {
    "sweep": (),
    "gpu": ("gpu_type",),
    "gpus": ("gpu_count",),
    "max_runtime": ("max_runtime_sec",),
    "secret": ("secret_env",),
    "from": ("start_from",),
    "grace": ("grace_sec",),
}


def _expanded(text: str) -> str:
    from pathlib import Path

    return str(Path(text).expanduser().absolute())
