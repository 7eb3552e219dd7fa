"""Lines of text with a step or an epoch and metrics: nanoGPT, PyTorch's examples, timm, mmengine, torchvision,
fairseq, Megatron, key=value and whatever else is written like them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpuscale_tui.policy.output import pairs
from gpuscale_tui.policy.output.pairs import Found
from gpuscale_tui.policy.output.reading import JUDGING, Kind, Reading, Scope, count, number

_PREFIX = re.compile(
    r"\s*(?:"
    r"\[?\d{4}[-/]\d\d[-/]\d\d[ T,]+\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?|"  # 2024-01-31 12:00:00,123
    r"\[?\d\d/\d\d(?:/\d{2,4})? \d\d:\d\d:\d\d(?: [\w.]+)?\]?:?|"  # [06/28 10:28:32 d2.utils.events]:
    r"\[?\d\d:\d\d:\d\d(?:[.,]\d+)?\]?|"
    r"[IWE]\d{4} \d\d:\d\d:\d\d[.\d]*\s+\d+ \S+?\]|"  # absl and glog
    r"\[?(?:INFO|DEBUG|NOTICE|info)\]?(?::[\w.]+:|:)?|"
    r"\[(?:[\w.-]+\.(?:py|cc|cpp|cu)(?::\d+)?(?::\w+)?|[Rr]ank[ :]?\d+|[A-Za-z_]\w*)\]|"
    r"(?:rank|Rank) ?\d+[:|]|"
    r"(?:__main__|root|mmengine|\w+\.\w+(?:\.\w+)*)(?=\s*[-|:]\s)|"
    r"\[?(?:default|rank)?\d+\]:|"
    r"[|:-]+(?=\s)"
    r")\s*"
)
"""What logging puts before a line, piece by piece: times, levels, names of modules, ranks."""
_EPOCH = re.compile(
    r"(?<![A-Za-z_/])epoch(?:\((?P<phase>train|val|test)\))?[ \t]*[:=#\[( ]{0,4}[ \t]*(?P<epoch>\d+(?:\.\d+)?)"
    r"(?![\d:.-]*[A-Za-z])(?:\s*(?:/|of)\s*(?P<epochs>\d+))?[\])]?",
    re.IGNORECASE,
)
_TRAIN = re.compile(r"\s*Train:\s*(?P<epoch>\d+)\s*\[")
_COUNT = re.compile(
    r"(?P<lead>(?:^|[\s,|:\[\]()-])(?:(?:step|iter|iteration|batch|it)s?\s*[:#=]?\s*)?\[?\s*)"
    r"(?P<n>\d+)\s*/\s*(?P<total>\d+)(?=\s*(?:\(\s*\d+(?:\.\d+)?%\))?\s*[\]),;:|\t ]|$)",
    re.IGNORECASE,
)
_EVAL = re.compile(
    r"\s*(?:\*+ ?)?(?:test|val|valid|validation|eval|evaluation|dev)(?:[ _-]?(?:set|loss|epoch)?)\b", re.IGNORECASE
)
_EVAL_WITHIN = re.compile(r"Epoch\((?:val|test)\)|\bvalid on\b|\bValidation[: ]|\bEvaluat(?:ion|ing)\b")
_HEADER = re.compile(
    r"\s*[-=*#\[ ]*epoch\s*[:#]?\s*\[?\s*(\d+)(?:\s*(?:/|of)\s*(\d+))?\s*\]?\s*[-=*#:.\]]*\s*$", re.IGNORECASE
)
_BEGINNING = re.compile(
    r"\s*(?:Beginning|Begin|Starting|Start)\b.{0,24}?\bepoch\s+(\d+)(?:\s*/\s*(\d+))?", re.IGNORECASE
)
_DARKNET = re.compile(
    r"\s*(?P<step>\d+): [\d.]+, (?P<loss>[\d.]+|-?nan) avg(?: loss)?, (?P<lr>[\d.]+) rate, (?P<sec>[\d.]+) seconds"
)
_TIMESTEPS = re.compile(r"\s*\|?\s*total_timesteps\s*\|\s*(\d+)\s*\|")
_FINAL = re.compile(r"Loss for final step: (?P<value>[-+]?\d+\.\d+|nan)\.?\s*$")


@dataclass(frozen=True, slots=True)
class Head:
    """Where in the training a line stands."""

    epoch: float | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None


def strip_prefix(text: str) -> str:
    """The line without what a logger put before it."""
    for _ in range(8):
        match = _PREFIX.match(text)
        if match is None or not match.end():
            return text
        text = text[match.end() :]
    return text


def head(text: str) -> Head:
    """`Epoch: [24]  [100/529]`, `Train: 0 [50/10009 (0%)]`, `Epoch [1/5], Step [100/600]` and their like."""
    match = _EPOCH.search(text) or _TRAIN.match(text)
    if match is None:
        return Head()
    groups = match.groupdict()
    after = text[match.end() - (text[match.end() - 1] == "[") :]
    within = _COUNT.search(after[:60])
    step, steps = (count(within["n"]), count(within["total"])) if within is not None else (None, None)
    return Head(number(groups["epoch"]), count(groups.get("epochs")), step, steps)


def header(text: str) -> Reading | None:
    """A line that only says which epoch begins: `Epoch 3/10`."""
    match = _HEADER.match(text) or _BEGINNING.match(text)
    epoch = number(match[1]) if match is not None else None
    if match is None or epoch is None:
        return None
    return Reading(epoch=epoch, epochs=count(match[2]), kind="epoch")


def read(text: str) -> Reading | None:
    """What a line of text says; None where nothing in it is about training."""
    said = strip_prefix(text)
    evaluates = _EVAL.match(said) is not None or _EVAL_WITHIN.search(said) is not None
    known = _of_one_trainer(said)
    if known is not None:
        return known
    found, where = pairs.find(said, is_eval=evaluates), head(said)
    _place(found, where, said)
    if not _is_believed(found, where, said):
        return None
    values = {**pairs.speeds(said), **found.values}
    kind: Kind = "metric" if found.values else "progress"
    return Reading(
        found.step, found.steps, found.epoch, found.epochs, values, kind, _scope(found, where, said),
        "eval" if evaluates else "train",
    )  # fmt: skip


def _scope(found: Found, where: Head, text: str) -> Scope:
    """What the total counts: with an epoch beside it and a word between them, either is possible."""
    if found.steps is None:
        return ""
    if found.epoch is None:
        return "run"
    return "epoch" if where.steps is not None and not _NAMED.search(text) else ""


def _of_one_trainer(text: str) -> Reading | None:
    """Lines that are like no others: of darknet, TensorFlow's estimators, stable-baselines."""
    final = _FINAL.search(text)
    if final is not None:
        return Reading(values={"loss": float(final["value"])})
    dark = _DARKNET.match(text)
    if dark is not None:
        return Reading(count(dark["step"]), values={"loss": float(dark["loss"]), "lr": float(dark["lr"])}, scope="run")
    timesteps = _TIMESTEPS.match(text)
    return None if timesteps is None else Reading(count(timesteps[1]), kind="progress", scope="run")


def _place(found: Found, where: Head, text: str) -> None:
    """Counts in brackets, which no name stands before."""
    if where.epoch is not None:
        found.epoch, found.epochs = where.epoch, where.epochs or found.epochs
    if where.steps is not None and found.steps is None:
        found.step, found.steps = where.step, where.steps
    if found.step is None and where.epoch is None:
        match = _COUNT.match(text) or _BRACKETS.match(text)
        if match is not None:
            found.step, found.steps = count(match["n"]), count(match["total"])


_NAMED = re.compile(r"\b(?:step|iter|iteration|batch)s?\b\s*[:#=]?\s*\[?\s*\d+\s*/", re.IGNORECASE)
_BRACKETS = re.compile(r"\s*(?:\w{1,12}:?\s*)?\[\s*(?P<n>\d+)\s*/\s*(?P<total>\d+)\s*\]")


def _is_believed(found: Found, where: Head, text: str) -> bool:
    """A setting, a date or a number by chance is no progress: it takes a step or an epoch with something beside it,
    or a metric that says what it is."""
    placed = found.step is not None or found.epoch is not None
    if found.values and (placed or (found.signed and not JUDGING.isdisjoint(found.values))):
        return True
    if found.values and not JUDGING.isdisjoint(found.values) and _EVAL.match(text) is not None:
        return True
    if found.steps is not None and found.step is not None:
        return where.steps is not None or bool(_ETA.search(text)) or bool(pairs.speeds(text)) or _begins_so(text)
    if found.epochs is not None and found.epoch is None:
        return _TOTALS.match(text) is not None
    if found.steps is not None:
        return _TOTALS.match(text) is not None
    if not _begins_so(text) or found.step is None:
        return bool(_PER_SEC.search(text))
    return found.epoch is not None or bool(_TIMED.search(text))


_ETA = re.compile(r"\beta\b|\btime\b", re.IGNORECASE)
_PER_SEC = re.compile(r"steps?/sec(?:ond)?\s*[:=]")
_TIMED = re.compile(r"(?:time|avg)\w*\s*[:=]?\s*[\d.]+\s*m?s\b|/s\b")
_TOTALS = re.compile(r"(?:^|.*\s)(?:Num Epochs|Total (?:optimization|training) steps)\s*=", re.IGNORECASE)
_BEGINS = re.compile(r"\s*\[?(?:global[ _]?)?(?:step|iter|iteration|epoch)s?\b", re.IGNORECASE)


def _begins_so(text: str) -> bool:
    return _BEGINS.match(text) is not None
