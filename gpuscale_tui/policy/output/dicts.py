"""Lines that are data: dictionaries as Hugging Face's Trainer prints them, and JSON."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping

from gpuscale_tui.policy.output.reading import (
    JUDGING,
    MOST_VALUES,
    Phase,
    Reading,
    count,
    metric_name,
    number,
    progress_name,
)

_DICT = re.compile(r"\{(?:\"|')[A-Za-z_].*\}")
_PAIR = re.compile(
    r"['\"]([A-Za-z_][^'\"]{0,60})['\"]\s*:\s*['\"]?([-+]?(?:\d[\d.]*(?:[eE][-+]?\d+)?|nan|NaN|inf|Infinity))['\"]?\s*(?=[,}])"
)
_TIMES = re.compile(r"runtime|time|_ms$|elapsed|memory|mem_|wall|seconds", re.IGNORECASE)
_RATES = {
    "train_samples_per_second": "samples_per_s", "samples_per_second": "samples_per_s",
    "train_steps_per_second": "it_per_s", "steps_per_second": "it_per_s", "it/s": "it_per_s",
    "tokens_per_second": "tokens_per_s", "tokens_per_sec": "tokens_per_s",
}  # fmt: skip
DEEPEST = 2


def read(text: str) -> Reading | None:
    """The reading of a dictionary in the line; None where there is none, or none about training."""
    begin = text.find("{")
    if begin < 0:
        return None
    match = _DICT.search(text, begin)
    if match is None:
        return None
    items = list(_items(match[0]))
    return _reading(items) if items else None


def _items(text: str) -> Iterator[tuple[str, float]]:
    """Names and numbers of a dictionary, those of one within it too."""
    data = _parsed(text)
    if data is None:
        for name, value in _PAIR.findall(text):
            found = number(value)
            if found is not None:
                yield name, found
    else:
        yield from _flat(data, "", DEEPEST)


def _parsed(text: str) -> Mapping[object, object] | None:
    for parse in (json.loads, ast.literal_eval):
        try:
            data = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        if isinstance(data, Mapping):
            return data
    return None


def _flat(data: Mapping[object, object], before: str, deep: int) -> Iterator[tuple[str, float]]:
    for key, value in data.items():
        name = f"{before}{key}"
        if isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            yield name, float(min(max(value, -(10**300)), 10**300)) if isinstance(value, int) else value
        elif isinstance(value, str) and len(value) < 32 and (found := number(value)) is not None:
            yield name, found
        elif isinstance(value, Mapping) and deep:
            yield from _flat(value, f"{name}/", deep - 1)


def _reading(items: list[tuple[str, float]]) -> Reading | None:
    places: dict[str, float] = {}
    values: dict[str, float] = {}
    rest: dict[str, float] = {}
    for key, value in items:
        meaning = progress_name(key) or {"max_steps": "steps", "total_steps": "steps"}.get(key)
        if meaning is not None:
            places.setdefault(meaning, value)
        elif key in _RATES:
            rest.setdefault(_RATES[key], value)
        elif (name := metric_name(key)) is not None and not _TIMES.search(key):
            values.setdefault(name, value)
        elif (name := metric_name(key, loose=True)) is not None and not _TIMES.search(key):
            rest.setdefault(name, value)
    placed = "step" in places or "epoch" in places
    if not values or not (placed or not JUDGING.isdisjoint(values)):
        return None
    if len(items) > 24 and not placed:  # a dump of settings
        return None
    merged = dict(list({**values, **rest}.items())[:MOST_VALUES]) if placed else values
    epoch = places.get("epoch")
    return Reading(
        _count(places.get("step")), _count(places.get("steps")), epoch if epoch is not None and epoch >= 0 else None,
        _count(places.get("epochs")), merged, "metric", "run", _phase(values),
    )  # fmt: skip


def _phase(values: Mapping[str, float]) -> Phase:
    return "train" if any(not name.startswith(("val_", "eval")) for name in values) else "eval"


def _count(value: float | None) -> int | None:
    return None if value is None else count(repr(value))
