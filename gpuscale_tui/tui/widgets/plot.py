"""Plots as lines of text: several series that differ by sign and not only by colour, a legend with the last values,
round ticks, a line for a limit. plotext draws the curves; axes and words are our own.

plotext keeps its figure in module-level state: `plot_lines` clears it first and must be called from one thread only,
that of the event loop. It is imported when the first plot is drawn (30 to 40 ms), and what was drawn is kept by its
input, so that a page that is written anew every second draws nothing anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from functools import lru_cache
from math import isfinite, nan
from typing import Any

from rich.cells import cell_len

from gpuscale_tui.tui.format import cut
from gpuscale_tui.tui.look import Line, Look, Span
from gpuscale_tui.tui.widgets.axes import Words, alike, bounds, compact, number_ticks, sparkline, ticks, time_ticks
from gpuscale_tui.tui.widgets.panel import Panel

ROLES = ("state-running", "accent", "good", "muted")
"""Roles of the series, in their order."""
LEAST_WIDTH, LEAST_HEIGHT = 20, 5
"""A smaller plot is a line of blocks for each series."""
TIME_LABEL, NUMBER_LABEL = 10, 12
"""Cells that a tick of the x axis takes, with room around it."""
_MARKS, _ASCII_MARKS = ("braille", "•", "x", "+"), ("*", "o", "x", "+")
_SAMPLES, _ASCII_SAMPLES = ("⠤⠤", "••", "xx", "++"), ("**", "oo", "xx", "++")
_CODE = re.compile(r"\x1b\[([0-9;]*)m")
_KEPT = 64


@dataclass(frozen=True, slots=True)
class Series:
    """A curve: points (x, y) in the order of x; a y that is not finite is a gap. With `stairs` a value holds until the
    next point."""

    name: str
    points: tuple[tuple[float, float], ...]
    stairs: bool = False


@dataclass(frozen=True, slots=True)
class _Drawing:
    series: tuple[Series, ...]
    width: int
    height: int
    time: bool
    words: Words
    cap: float | None
    cap_name: str
    floor: float | None
    ceiling: float | None
    start: float | None
    end: float | None
    empty: str
    ascii: bool
    zone: tzinfo | None


def plot_lines(
    series: Sequence[Series],
    width: int,
    height: int,
    look: Look,
    *,
    time: bool = False,
    words: Words = compact,
    cap: float | None = None,
    cap_name: str = "cap",
    floor: float | None = None,
    ceiling: float | None = None,
    start: float | None = None,
    end: float | None = None,
    empty: str = "nothing to show yet",
) -> list[Line]:
    """A plot in exactly `height` lines of at most `width` cells. Only from the thread of the event loop.

    x are steps, or with `time` UTC milliseconds shown in the look's zone; `start` and `end` widen its range. `words`
    tells a value of y (a module-level function: what was drawn is kept by its input). `cap` is drawn as a broken line
    with its name. `floor` and `ceiling` widen the range of y. `empty` stands there while there is no point at all.
    """
    drawing = _Drawing(
        tuple(series), width, height, time, words, cap, cap_name, floor, ceiling, start, end, empty,
        look.glyphs.ascii, look.zone,
    )  # fmt: skip
    return list(_drawn(drawing))


@lru_cache(maxsize=_KEPT)
def _drawn(drawing: _Drawing) -> tuple[Line, ...]:
    width, height = drawing.width, drawing.height
    if width <= 0 or height <= 0:
        return ()
    shown = [one for one in drawing.series if any(_known(one))]
    if not shown:
        lines: list[Line] = [(), [(" " + cut(drawing.empty, width - 1), "muted")]][-min(2, height) :]
    elif width < LEAST_WIDTH or height < LEAST_HEIGHT:
        lines = [_small(one, index, drawing) for index, one in enumerate(drawing.series[:height])]
    else:
        lines = _plot(drawing)
    return (*(_clipped(line, width) for line in lines[:height]), *(() for _ in range(height - len(lines))))


def _clipped(line: Line, width: int) -> Line:
    """No more than `width` cells; what is drawn has no wide characters."""
    spans: list[Span] = []
    for text, role in line:
        if width > 0 and text:
            spans.append((text[:width], role))
            width -= len(spans[-1][0])
    return spans


def _known(series: Series) -> Iterator[bool]:
    return (isfinite(x) and isfinite(y) for x, y in series.points)


def _last(series: Series) -> float:
    return next((y for _, y in reversed(series.points) if isfinite(y)), nan)


def _small(series: Series, index: int, drawing: _Drawing) -> Line:
    """A series in one line: its name, its course, its last value."""
    value = _last(series)
    last = drawing.words(value) if isfinite(value) else "-"
    room = drawing.width - cell_len(last) - 2
    name = cut(series.name, max(0, room // 2), "")
    blocks = sparkline(
        [y for _, y in series.points], max(0, room - cell_len(name) - 1), ascii_only=drawing.ascii, top=drawing.ceiling
    )
    return [(f" {name} ", "muted"), (blocks, _role(index)), (f" {last}", "text")]


def _role(index: int) -> str:
    return ROLES[index % len(ROLES)]


def _legend(drawing: _Drawing) -> Line:
    samples = _ASCII_SAMPLES if drawing.ascii else _SAMPLES
    spans: list[Span] = []
    left = drawing.width
    for index, one in enumerate(drawing.series):
        value = _last(one)
        words = f" {one.name} {drawing.words(value) if isfinite(value) else '-'}  "
        sample = f" {samples[index % len(samples)]}"
        left -= cell_len(sample + words)
        if left < 0:
            break
        spans += [(sample, _role(index)), (words, "text")]
    return spans


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where the curves lie: their range, and the cells of the canvas."""

    low: float
    high: float
    start: float
    end: float
    columns: int
    rows: int

    def row(self, value: float) -> int:
        return round((self.high - value) / (self.high - self.low) * (self.rows - 1))

    def column(self, x: float) -> int:
        return round((x - self.start) / (self.end - self.start) * (self.columns - 1))


def _plot(drawing: _Drawing) -> list[Line]:
    points = [point for one in drawing.series for point in one.points if isfinite(point[0]) and isfinite(point[1])]
    rows = drawing.height - 3
    high = drawing.ceiling if drawing.cap is None else max(drawing.cap, drawing.ceiling or drawing.cap)
    low, high = bounds([y for _, y in points], drawing.floor, high)
    marks = ticks(low, high, rows)
    labels = alike(marks) if drawing.words is compact else [drawing.words(mark) for mark in marks]
    gutter = max(cell_len(label) for label in labels) + 1
    start, end = bounds([x for x, _ in points], drawing.start, drawing.end)
    frame = _Frame(low, high, start, end, max(4, drawing.width - gutter - 2), rows)
    at_row = {frame.row(mark): label for mark, label in zip(marks, labels, strict=True)}
    canvas = _with_cap(_canvas(drawing, frame), drawing, frame)
    lines: list[Line] = [_legend(drawing)]
    rule, joint, corner = ("-", "+", "+") if drawing.ascii else ("─", "┤", "└")
    bar = "|" if drawing.ascii else "│"
    for row, line in enumerate(canvas):
        label = at_row.get(row, "")
        lines.append([(f"{label:>{gutter}}", "muted"), (joint if label else bar, "line"), *line])
    axis, words = _below(drawing, frame, rule)
    return [
        *lines,
        [(" " * gutter + corner + axis, "line")],
        [(" " * (gutter + 1) + words, "muted")],
    ]


def _below(drawing: _Drawing, frame: _Frame, rule: str) -> tuple[str, str]:
    """The x axis and its words, each tick's word under the tick."""
    room = frame.columns // (TIME_LABEL if drawing.time else NUMBER_LABEL)
    marks = (
        time_ticks(frame.start, frame.end, room, drawing.zone)
        if drawing.time
        else number_ticks(frame.start, frame.end, room, compact)
    )
    axis, words = [rule] * frame.columns, ""
    for x, word in marks:
        column = frame.column(x)
        place = max(0, min(column - len(word) // 2, frame.columns - len(word)))
        if place < len(words) + (1 if words else 0):
            continue
        axis[column] = "+" if drawing.ascii else "┬"
        words += " " * (place - len(words)) + word
    return "".join(axis), words


def _with_cap(canvas: list[list[Span]], drawing: _Drawing, frame: _Frame) -> list[list[Span]]:
    """The limit as a broken line behind the curves, with its name at its end."""
    if drawing.cap is None or not frame.low <= drawing.cap <= frame.high:
        return canvas
    row = frame.row(drawing.cap)
    word = f" {drawing.cap_name} {drawing.words(drawing.cap)} "
    sign = "-" if drawing.ascii else "╌"
    line: list[Span] = []
    for text, role in canvas[row]:
        line += [(sign * len(text), "warn")] if not text.strip() else [(text, role)]
    if line and line[-1][1] == "warn" and len(line[-1][0]) > len(word) + 2:
        line[-1] = (line[-1][0][: -len(word)], "warn")
        line.append((word, "warn"))
    canvas[row] = line
    return canvas


def _canvas(drawing: _Drawing, frame: _Frame) -> list[list[Span]]:
    """The curves alone, as plotext draws them, in our roles."""
    import plotext as plt  # type: ignore[import-untyped]  # it has no types

    plt.clear_figure()
    plt.theme("clear")
    plt.limitsize(False, False)
    plt.plotsize(frame.columns, frame.rows)
    plt.frame(False)
    plt.xaxes(False, False)
    plt.yaxes(False, False)
    plt.xticks([], [])
    plt.yticks([], [])
    plt.xlim(frame.start, frame.end)
    plt.ylim(frame.low, frame.high)
    marks = _ASCII_MARKS if drawing.ascii else _MARKS
    for index in reversed(range(len(drawing.series))):  # the first one on top
        mark = marks[index % len(marks)]
        for part in _parts(drawing.series[index]):
            draw = plt.plot if len(part) > 1 else plt.scatter
            draw([x for x, _ in part], [y for _, y in part], marker=mark, color=index + 1)
    lines = str(plt.build()).split("\n")[: frame.rows]
    plt.clear_figure()
    return [_in_roles(line, frame.columns) for line in lines]


def _parts(series: Series) -> Iterator[list[tuple[float, float]]]:
    """The stretches between gaps."""
    part: list[tuple[float, float]] = []
    for x, y in series.points:
        if isfinite(x) and isfinite(y):
            if series.stairs and part:
                part.append((x, part[-1][1]))
            part.append((x, y))
        elif part:
            yield part
            part = []
    if part:
        yield part


def _in_roles(line: str, width: int) -> list[Span]:
    """A line of plotext's: its colour codes, which only number the series, become roles."""
    spans: list[Span] = []
    role, left = "text", width
    for place, piece in enumerate(_CODE.split(line)):
        if place % 2:
            number = piece.rpartition(";")[2]
            role = _role(int(number) - 1) if piece.startswith("38;5;") else "text"
        elif piece and left > 0:
            text = piece[:left]
            left -= len(text)
            spans.append((text, role))
    return spans


class Plot(Panel):
    """Curves in a widget of their own, painted again only where they have changed."""

    DEFAULT_CSS = "Plot { height: 12; }"

    def show(self, series: Sequence[Series], **options: Any) -> None:
        """Show other curves; `options` as for `plot_lines`."""
        self.write(lambda width, height: plot_lines(series, width, height or 12, self.look, **options))
