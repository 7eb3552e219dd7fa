"""From what a user wrote (options, or an entry of a job file) to specifications of jobs.

An entry is a mapping with the keys of `KEYS`; options have the same names. Every wrong key or value is a FieldError.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuscale_tui.engine import intake
from gpuscale_tui.engine.view import gpu_of
from gpuscale_tui.model.durations import parse_duration
from gpuscale_tui.model.errors import FieldError, GpuscaleError, nearest
from gpuscale_tui.model.jobs import JobSpec, is_secret_name, parse_git, parse_start
from gpuscale_tui.model.money import parse_usd
from gpuscale_tui.model.offers import Market
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.model.sweep import Axis, count, expand, parse_axes

MAX_JOBS = intake.MOST_JOBS


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an entry is read with: defaults, the environment of `--env NAME`, where relative directories begin."""

    settings: Settings
    environ: Mapping[str, str]
    base: Path
    user: str
    checked: dict[Path, intake.CheckedWorkdir] = field(default_factory=dict)
    """Directories that were looked into already: a file of many jobs often names one directory."""


class EntryError(GpuscaleError):
    """An entry that is refused; `errors` has everything that is wrong with it."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = tuple(errors)


def specs_of(entry: Mapping[str, Any], around: Surroundings) -> list[JobSpec]:
    """The jobs of one entry: one, or one for each combination of its sweep. Raises EntryError."""
    fields = _fields(entry, around)
    try:
        return _jobs(fields, around)
    except FieldError as error:
        raise EntryError([error]) from error


def fields_of(entry: Mapping[str, Any], around: Surroundings) -> dict[str, Any]:
    """What the keys of an entry mean for a specification that has all others already, secrets taken out of `env`;
    `axes` are those of a sweep. Raises EntryError."""
    fields = _fields(entry, around)
    secrets = _split_secrets(fields) if "env" in fields else {}
    return {**fields, "secret_env": {**secrets, **fields.get("secret_env", {})}}


def _fields(entry: Mapping[str, Any], around: Surroundings) -> dict[str, Any]:
    """Everything that is wrong is told at once."""
    errors: list[FieldError] = []
    fields: dict[str, Any] = {}
    for key, value in entry.items():
        try:
            fields.update(_read(key, value, around))
        except FieldError as error:
            errors.append(error)
    if errors:
        raise EntryError(errors)
    return fields


def _read(key: str, value: Any, around: Surroundings) -> dict[str, Any]:
    reader = KEYS.get(key)
    if reader is None:
        raise FieldError(key, "an unknown key", f"{', '.join(KEYS)}{nearest(key, KEYS)}")
    _check_encoding(key, value)
    return reader(key, value, around)


def _check_encoding(key: str, value: Any) -> None:
    """Refuse text that no machine could be given: what the shell or JSON had as bytes that are no UTF-8."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise FieldError(key, value.encode(errors="replace").decode(), "text in UTF-8") from error
    elif isinstance(value, Mapping):
        for name, part in value.items():
            _check_encoding(key, name)
            _check_encoding(key, part)
    elif isinstance(value, list | tuple):
        for part in value:
            _check_encoding(key, part)


def _jobs(fields: dict[str, Any], around: Surroundings) -> list[JobSpec]:
    axes: tuple[Axis, ...] = fields.pop("axes", ())
    if count(axes) > MAX_JOBS:
        raise FieldError("sweep", f"{count(axes):,} combinations", f"at most {MAX_JOBS:,} jobs in one submission")
    secrets = {**_split_secrets(fields), **fields.pop("secret_env", {})}
    spec = JobSpec(**{**_defaults(around), **fields}, secret_env=secrets, user=around.user)
    if spec.gpu_type is None and spec.gpu_count != 1:
        raise FieldError("gpus", spec.gpu_count, "no number of GPUs for a job without a GPU")
    return expand(spec, axes)


def _defaults(around: Surroundings) -> dict[str, Any]:
    scaler = around.settings.scaler
    return {"image": scaler.docker_image, "gpu_type": gpu_of(scaler.gpu_type)}


def _split_secrets(fields: dict[str, Any]) -> dict[str, str]:
    """Take the values out of `env` whose names say that they are secret."""
    env: dict[str, str] = fields.get("env", {})
    secrets = {name: value for name, value in env.items() if is_secret_name(name)}
    fields["env"] = {name: value for name, value in env.items() if name not in secrets}
    return secrets


Reader = Callable[[str, Any, Surroundings], dict[str, Any]]


def _is(value: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _text(key: str, value: Any, _: Surroundings) -> dict[str, Any]:
    if not _is(value, str):
        raise FieldError(key, value, "text")
    return {key: value}


def _whole(key: str, value: Any, _: Surroundings, target: str = "") -> dict[str, Any]:
    if not _is(value, int):
        raise FieldError(key, value, "a whole number")
    return {target or key: value}


def _words(key: str, value: Any, _: Surroundings) -> dict[str, Any]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(word, str) for word in value):
        raise FieldError(key, value, "a list of words: the program and its arguments")
    return {key: tuple(value)}


def _gpu(key: str, value: Any, _: Surroundings) -> dict[str, Any]:
    if not _is(value, str) or not value.strip():
        raise FieldError(key, value, "a GPU model such as 'RTX 4090', or none")
    return {"gpu_type": gpu_of(value)}


def _price(key: str, value: Any, _: Surroundings) -> dict[str, Any]:
    try:
        if not _is(value, (int, float, str)):
            raise ValueError  # noqa: TRY301 - one refusal for all that is no amount
        return {key: parse_usd(value)}
    except ValueError as error:
        raise FieldError(key, value, "USD per hour and GPU, such as 0.50") from error


def _runtime(key: str, value: Any, _: Surroundings) -> dict[str, Any]:
    if not _is(value, (int, str)):
        raise FieldError(key, value, "a duration such as 90m or 2h")
    return {"max_runtime_sec": parse_duration(str(value), key)}


def _market(key: str, value: Any, _: Surroundings) -> dict[str, Any]:
    choices = [market.value for market in Market]
    if value not in choices:
        hint = nearest(value, choices) if isinstance(value, str) else ""
        raise FieldError(key, value, f"{' or '.join(choices)}{hint}")
    return {key: Market(value)}


def _start(key: str, value: Any, around: Surroundings) -> dict[str, Any]:
    return {"start_from": parse_start(_text(key, value, around)[key])}


def _git(key: str, value: Any, around: Surroundings) -> dict[str, Any]:
    return {key: parse_git(_text(key, value, around)[key])}


def _grace(key: str, value: Any, _: Surroundings) -> dict[str, Any]:
    if not _is(value, (int, str)):
        raise FieldError(key, value, "a duration such as 30s or 5m")
    return {"grace_sec": parse_duration(str(value), key)}


def _signal(key: str, value: Any, around: Surroundings) -> dict[str, Any]:
    return {key: _text(key, value, around)[key].upper().removeprefix("SIG")}


def _flag(key: str, value: Any, _: Surroundings) -> dict[str, Any]:
    if not isinstance(value, bool):
        raise FieldError(key, value, "true or false")
    return {key: value}


def _data(key: str, value: Any, around: Surroundings) -> dict[str, Any]:
    """`["NAME=PATH"]`, or a table of names and paths; relative paths begin where a `workdir` would."""
    if isinstance(value, list | tuple):
        pairs = [str(text).partition("=")[::2] for text in value]
    elif isinstance(value, Mapping):
        pairs = [(str(name), str(path)) for name, path in value.items()]
    else:
        raise FieldError(key, value, 'a table of names and paths, or ["NAME=PATH"]')
    if any(not name or not path for name, path in pairs):
        raise FieldError(key, value, "NAME=PATH")
    return {key: {name: _existing(key, around.base / Path(path).expanduser()) for name, path in pairs}}


def _existing(key: str, path: Path) -> str:
    if not path.exists():
        raise FieldError(key, str(path), "a file or directory that exists")
    return str(path.absolute())


def _provider(key: str, value: Any, around: Surroundings) -> dict[str, Any]:
    fields = _text(key, value, around)
    intake.check_provider(value)
    return fields


def _workdir(key: str, value: Any, around: Surroundings) -> dict[str, Any]:
    _text(key, value, around)
    path = around.base / Path(value).expanduser()
    if path not in around.checked:
        around.checked[path] = intake.check_workdir(path, around.settings.scaler.workdir_max_mb)
    return {key: str(around.checked[path].path)}


def _variables(key: str, value: Any, around: Surroundings, target: str = "env") -> dict[str, Any]:
    """A table of names and values, or a list of `NAME=VALUE` and of names whose values the user's environment has."""
    if isinstance(value, list | tuple):
        return {target: dict(_assignment(key, text, around.environ) for text in value)}
    if not isinstance(value, Mapping):
        raise FieldError(key, "another kind of value", "a table of names and values, or a list of names")
    return {target: {str(name): _variable(key, str(name), part) for name, part in value.items()}}


def _variable(key: str, name: str, value: Any) -> str:
    """The value itself is not repeated in a refusal: it may be a secret."""
    if not _is(value, (str, int, float)):
        raise FieldError(key, f"{name} with a value of another kind", "text or a number")
    return str(value)


def _assignment(key: str, text: Any, environ: Mapping[str, str]) -> tuple[str, str]:
    """`NAME=VALUE`, or `NAME` for the value that the user's own environment has."""
    name, separator, value = str(text).partition("=")
    if not separator and name not in environ:
        raise FieldError(key, name, "NAME=VALUE, or the name of a variable that your environment has")
    return name, value if separator else environ[name]


def _sweep(key: str, value: Any, _: Surroundings) -> dict[str, Any]:
    """`["lr=1e-3,5e-4"]`, or a table such as `{lr = [1e-3, 5e-4]}`."""
    if isinstance(value, Mapping):
        texts: Iterable[str] = [f"{name}={_listed(key, part)}" for name, part in value.items()]
    elif isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        texts = value
    else:
        raise FieldError(key, value, 'a table of lists such as {lr = [1e-3, 5e-4]}, or ["lr=1e-3,5e-4"]')
    return {"axes": parse_axes(texts)}


def _listed(key: str, value: Any) -> str:
    parts = value if isinstance(value, list) else [value]
    if not all(_is(part, (str, int, float)) for part in parts):
        raise FieldError(key, value, "a list of texts or numbers")
    return ",".join(str(part) for part in parts)


KEYS: Mapping[str, Reader] = {
    "command": _text,
    "argv": _words,
    "name": _text,
    "image": _text,
    "gpu": _gpu,
    "gpus": functools.partial(_whole, target="gpu_count"),
    "max_price": _price,
    "priority": _whole,
    "max_runtime": _runtime,
    "env": _variables,
    "secret": functools.partial(_variables, target="secret_env"),
    "workdir": _workdir,
    "checkpoint_dir": _text,
    "project": _text,
    "provider": _provider,
    "market": _market,
    "retries": _whole,
    "sweep": _sweep,
    "from": _start,
    "git": _git,
    "data": _data,
    "stop_signal": _signal,
    "grace": _grace,
    "rehearse": _flag,
}
"""Every key of an entry, and what reads it."""
