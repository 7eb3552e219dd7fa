"""The arithmetic of plots: bounds, round ticks, numbers in few cells, lines of one cell's height. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from math import ceil, floor, isfinite, log10, nan

Words = Callable[[float], str]
"""A value in as few cells as it needs."""

_NICE = (1.0, 2.0, 5.0, 10.0)
_MINUTE = 60_000
_TIME_STEPS = tuple(
    minutes * _MINUTE for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10_080, 43_200)
)
_BLOCKS, _ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*#@"


def compact(value: float) -> str:
    """A number in at most six cells: `0.0012`, `1.35`, `420`, `12.5k`, `3.1M`."""
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e12 or size < 1e-4:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    for least, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= least:
            least = 1e3 if unit == "k" else least  # noqa: PLW2901 - ten thousand is the least that is told in thousands
            return f"{value / least:.3g}{unit}"
    return f"{value:.0f}" if size >= 1000 else f"{value:.3g}"


def alike(marks: Sequence[float]) -> list[str]:
    """The marks of one axis, each with as many decimals as the others."""
    words = [compact(mark) for mark in marks]
    if any("e" in word or word[-1].isalpha() for word in words):
        return words
    decimals = max(len(word.partition(".")[2]) for word in words)
    return [f"{mark:.{decimals}f}" for mark in marks]


def bounds(values: Sequence[float], low: float | None, high: float | None) -> tuple[float, float]:
    """The least and the greatest of the finite values, widened so that one value is a range too."""
    known = [value for value in values if isfinite(value)]
    least = min([*known, *([low] if low is not None else [])])
    most = max([*known, *([high] if high is not None else [])])
    if least == most:
        room = abs(most) / 10 or 1.0
        return (least - room if low is None else least), most + room
    return least, most


def nice_step(length: float, most: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that divides a length into at most so many parts."""
    rough = length / max(1, most)
    power = 10.0 ** floor(log10(rough))
    return next(step * power for step in _NICE if step * power >= rough * (1 - 1e-9))


def ticks(least: float, most: float, rows: int) -> list[float]:
    """Round values within a range, at most one for every two rows; its ends where nothing round lies within."""
    for parts in (max(1, min(6, (rows - 1) // 2)), 2, 4):
        step = nice_step(most - least, parts)
        first, last = ceil(least / step - 1e-9), floor(most / step + 1e-9)
        marks = [round(number * step, 12) if step > 1e-9 else number * step for number in range(first, last + 1)]
        if len(marks) > 1:
            return marks
    return [least, most]


def time_ticks(start: float, end: float, most: int, zone: tzinfo | None) -> list[tuple[float, str]]:
    """Round moments (UTC ms) of a range with their words, at most so many: `14:30`, or days `03-14` for long ranges."""
    step = next((step for step in _TIME_STEPS if (end - start) / step <= max(1, most)), _TIME_STEPS[-1])
    local = datetime.fromtimestamp(start / 1000, UTC).astimezone(zone)
    offset = local.utcoffset()
    shift = offset.total_seconds() * 1000 if offset else 0
    first = ceil((start + shift) / step) * step - shift
    moments = [first + number * step for number in range(int((end - first) // step) + 1 if end >= first else 0)]
    form = "%m-%d" if step >= 1440 * _MINUTE else "%H:%M"
    return [(at, f"{datetime.fromtimestamp(at / 1000, UTC).astimezone(zone):{form}}") for at in moments]


def number_ticks(start: float, end: float, most: int, words: Words) -> list[tuple[float, str]]:
    """Round numbers of a range with their words, at most so many."""
    step = max(nice_step(end - start, most), 1.0)
    numbers = [number * step for number in range(ceil(start / step), floor(end / step) + 1)]
    return [(number, words(number)) for number in numbers]


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool, top: float | None = None) -> str:
    """Values in one line, the oldest left: each cell is the mean of its part, a blank where nothing is known."""
    signs = _ASCII_BLOCKS if ascii_only else _BLOCKS
    cells = _means(values, width)
    known = [value for value in cells if isfinite(value)]
    if not known:
        return ""
    least = 0.0 if top is not None else min(known)
    most = max(known) if top is None else top
    length = most - least or 1.0
    return "".join(
        signs[max(0, min(7, int((value - least) / length * 7.999)))] if isfinite(value) else " " for value in cells
    )


def _means(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    means = []
    for cell in range(width):
        part = [
            value
            for value in values[cell * len(values) // width : (cell + 1) * len(values) // width]
            if isfinite(value)
        ]
        means.append(sum(part) / len(part) if part else nan)
    return means
