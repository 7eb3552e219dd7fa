"""Curves of a job and of a machine: a metric by step or by time, the use of GPU and memory over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan

from gpuscale_tui.store.progress import Usage
from gpuscale_tui.store.series import Point
from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.look import Line, Look
from gpuscale_tui.tui.widgets.plot import Series, plot_lines

GAP_MS = 300_000
"""Machines are asked far more often: a longer silence is a gap in the curve."""
LEAST = 10
"""Lines below which two plots are not shown over each other."""


@dataclass(frozen=True, slots=True)
class Course:
    """What was read of the past: one metric of the names there are, and the use of a machine."""

    names: tuple[str, ...] = ()
    name: str = ""
    points: tuple[Point, ...] = ()
    usage: tuple[Usage, ...] = ()


def metric_series(name: str, points: Sequence[Point]) -> tuple[Series, bool]:
    """The curve of a metric, and whether its x is time: it is by step where most points have one.

    Steps that begin anew, as after a machine was lost, begin a new stretch: the curve does not run backwards.
    """
    by_step = 2 * sum(point.step is not None for point in points) >= len(points)
    drawn: list[tuple[float, float]] = []
    for point in points:
        x = point.step if by_step else point.at
        if x is None:
            continue
        if drawn and x < drawn[-1][0]:
            drawn.append((float(x), nan))
        drawn.append((float(x), point.value))
    return Series(name, tuple(drawn)), not by_step


def use_series(usage: Sequence[Usage]) -> list[Series]:
    """GPU use and GPU memory in percent over time; of a machine without a GPU the use of its CPU."""
    memory = [(used.at, _part(used.gpu_mem_mb, used.gpu_mem_total_mb)) for used in usage]
    found = [
        ("GPU %", [(used.at, _number(used.gpu_percent)) for used in usage]),
        ("GPU memory %", memory),
    ]
    shown = [(name, points) for name, points in found if any(isfinite(y) for _, y in points)]
    shown = shown or [("CPU %", [(used.at, _number(used.cpu_percent)) for used in usage])]
    return [Series(name, _with_gaps(points)) for name, points in shown]


def memory_series(usage: Sequence[Usage]) -> list[Series]:
    """GPU memory and the machine's memory in GB over time."""
    found = [
        ("GPU memory GB", [(used.at, _gb(used.gpu_mem_mb)) for used in usage]),
        ("memory GB", [(used.at, _gb(used.mem_mb)) for used in usage]),
    ]
    return [Series(name, _with_gaps(points)) for name, points in found if any(isfinite(y) for _, y in points)]


def _gb(megabytes: int | None) -> float:
    return nan if megabytes is None else round(megabytes / 1000, 2)


def _number(value: int | None) -> float:
    return nan if value is None else float(value)


def _part(used: int | None, total: int | None) -> float:
    return nan if used is None or not total else round(100 * used / total, 1)


def _with_gaps(points: Sequence[tuple[int, float]]) -> tuple[tuple[float, float], ...]:
    drawn: list[tuple[float, float]] = []
    for at, value in points:
        if drawn and at - drawn[-1][0] > GAP_MS:
            drawn.append((drawn[-1][0] + 1, nan))
        drawn.append((float(at), value))
    return tuple(drawn)


def rule(title: str, hint: str, width: int, look: Look) -> Line:
    """The line over a plot."""
    sign = look.glyphs.rule
    room = width - len(title) - len(hint) - 7
    return [(f" {sign} ", "line"), (title, "heading"), (f" {sign * max(0, room)} ", "line"), (hint, "muted")]


def metric_plot(course: Course, width: int, height: int, look: Look, *, running: bool) -> list[Line]:
    """A metric with the line over it."""
    others = len(course.names)
    hint = f"m: next of {others}" if others > 1 else ""
    name = clean(course.name, ascii_only=look.glyphs.ascii) or "loss"  # the job's output named it
    series, time = metric_series(name, course.points)
    empty = "no loss seen yet: it is read from what the job prints" if running else "it printed no loss"
    plot = plot_lines([series], width, height - 1, look, time=time, empty=empty)
    return [rule(name, hint, width, look), *plot]


def use_plot(
    course: Course, title: str, width: int, height: int, look: Look, *, since: int, until: int, empty: str
) -> list[Line]:
    """The use of a machine with the line over it."""
    plot = plot_lines(
        use_series(course.usage), width, height - 1, look, time=True, floor=0.0, ceiling=100.0,
        start=float(since) if course.usage else None, end=float(until) if course.usage else None, empty=empty,
    )  # fmt: skip
    return [rule(title, "", width, look), *plot]


def memory_plot(course: Course, width: int, height: int, look: Look, *, since: int, until: int) -> list[Line]:
    """The memory of a machine with the line over it, and how much GPU memory there is as its limit."""
    total = next((used.gpu_mem_total_mb for used in reversed(course.usage) if used.gpu_mem_total_mb), None)
    plot = plot_lines(
        memory_series(course.usage), width, height - 1, look, time=True, floor=0.0,
        cap=None if total is None else total / 1000, cap_name="GPU memory",
        start=float(since) if course.usage else None, end=float(until) if course.usage else None,
        empty="nothing known of its memory yet",
    )  # fmt: skip
    return [rule("memory", "", width, look), *plot]
