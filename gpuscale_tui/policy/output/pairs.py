"""Names with numbers in free text: `loss: 3.2`, `lr=1e-4`, `step 10/200`, `Prec@1 71.2 (70.9)`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from gpuscale_tui.policy.output.reading import MOST_VALUES, NUMBER, count, metric_name, number, progress_name

_PAIR = re.compile(  # every repetition is bounded: a line is hostile
    r"(?<![A-Za-z0-9_])"
    r"(?P<key>[A-Za-z_][\w@'/.-]{0,47}(?:[ ](?:[(][A-Za-z ]{1,24}[)]|[A-Za-z][\w@'/.-]{0,47})){0,3})"
    r"(?P<sep>[ \t]{0,40}[:=][ \t\[]{0,40}|[ \t]{1,40})"
    rf"(?P<value>{NUMBER})"
    r"(?:[ ]*/[ ]*(?P<total>\d+))?"
    r"(?![A-Za-z0-9_]|[.:/-]\d)"  # else it is part of an address, a version, a date, a time or a word
)
_SPEED = re.compile(
    rf"(?P<value>{NUMBER})[ ]?(?P<unit>it|its|iters?|steps?|batch(?:es)?|ba|tok(?:en)?s?|samples?|imgs?|images?|"
    r"examples?)/s(?:ec(?:ond)?)?\b"
)
_PACE = re.compile(rf"(?P<value>{NUMBER})[ ]?(?P<unit>m?s)/(?:it|iter|step|batch|ba)\b")
_PER_SEC = re.compile(rf"steps?/sec(?:ond)?\s*[:=]\s*(?P<value>{NUMBER})")
_UNITS = {"tok": "tokens_per_s", "sam": "samples_per_s", "img": "samples_per_s", "ima": "samples_per_s",
          "exa": "samples_per_s"}  # fmt: skip
_RECORDS = frozenset(
    ("best", "min", "minimum", "max", "maximum", "target", "previous", "lowest", "highest", "new", "if", "when", "than")
)
_SECOND = frozenset({"val", "valid", "validation", "test", "eval"})
_PARENTHESES = re.compile(r"[(][^)]*[)]")


@dataclass(slots=True)
class Found:
    """What the pairs of a line say together."""

    step: int | None = None
    steps: int | None = None
    epoch: float | None = None
    epochs: int | None = None
    values: dict[str, float] = field(default_factory=dict)
    signed: bool = False
    """One of the values stood behind a colon or an equals sign."""


def find(text: str, *, is_eval: bool = False) -> Found:
    """Every pair of a line whose name means something."""
    found, before = Found(), ""
    for match in _PAIR.finditer(text):
        key, value = match["key"], number(match["value"])
        if value is None:
            continue
        signed = match["sep"].strip() != ""
        _take(found, key, value, match, signed=signed, is_eval=is_eval, before=before)
        before = key
        if len(found.values) >= MOST_VALUES:
            break
    return found


def _take(
    found: Found, key: str, value: float, match: re.Match[str], *, signed: bool, is_eval: bool, before: str
) -> None:
    for name_key in _shorter(_PARENTHESES.sub("", key).strip()):
        meaning = progress_name(name_key)
        if meaning is not None:
            _take_progress(found, meaning, match)
            return
        name = metric_name(name_key, is_eval)
        if name is None and name_key.lower() in _SECOND and "loss" in before.lower():
            name = "val_loss"  # `loss train: 1.687, val: 1.702`
        if name is not None:
            found.values.setdefault(name, _share(value, match["total"]))
            found.signed = found.signed or signed
            return


def _share(value: float, total: str | None) -> float:
    """`Accuracy: 913/10000` as percent."""
    whole = count(total)
    return 100.0 * value / whole if whole else value


def _shorter(key: str) -> Iterator[str]:
    """The key, then without its first word and so on; nothing more once a word says that it is another's record."""
    words = key.split()
    for begin in range(len(words)):
        yield " ".join(words[begin:])
        if words[begin].lower() in _RECORDS:
            return


def _take_progress(found: Found, meaning: str, match: re.Match[str]) -> None:
    whole, total = count(match["value"]), count(match["total"])
    if meaning == "step" and found.step is None:
        found.step, found.steps = whole, total
    elif meaning == "epoch" and found.epoch is None:
        value = number(match["value"])
        found.epoch = value if value is not None and 0 <= value < 1e9 else None
        found.epochs = total
    elif meaning == "steps":
        found.steps = whole
    elif meaning == "epochs":
        found.epochs = whole


def speeds(text: str) -> dict[str, float]:
    """`3.8it/s`, `150ms/step`, `12,000 tok/s` as `it_per_s`, `tokens_per_s`, `samples_per_s`."""
    found: dict[str, float] = {}
    for match in _SPEED.finditer(text):
        value = number(match["value"])
        if value is not None:
            found.setdefault(_UNITS.get(match["unit"][:3], "it_per_s"), value)
    rate = _PER_SEC.search(text)
    if rate is not None and (told := number(rate["value"])) is not None:
        found.setdefault("it_per_s", told)
    for match in _PACE.finditer(text):
        value = number(match["value"])
        if value:
            found.setdefault("it_per_s", (1000.0 if match["unit"] == "ms" else 1.0) / value)
    return found
