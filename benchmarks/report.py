"""What was measured beside what the design promises (DESIGN, section 16), as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.common import Row


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise about the rows whose name begins with `what`: in words, and as a test of value and peer's value."""

    what: str
    words: str
    met: Callable[[float, float], bool]


def at_most(what: str, limit: float, unit: str) -> Bar:
    """Not more than so much."""
    return Bar(what, f"at most {limit:g} {unit}".rstrip(), lambda value, _: value <= limit)


def at_least(what: str, limit: float, unit: str) -> Bar:
    """Not less than so much."""
    return Bar(what, f"at least {limit:g} {unit}".rstrip(), lambda value, _: value >= limit)


BARS: Sequence[Bar] = (
    at_most("durable submit, p99", 15, "ms"),
    at_most("10,000 jobs as one sweep", 2, "s"),
    at_least("submits kept up with", 495, "/s"),
    at_most("gpuscale --version, over the interpreter", 0.1, "s"),
    at_most("gpuscale status, over the interpreter", 0.2, "s"),
    at_most("gpuscale queue, over the interpreter", 0.2, "s"),
    at_most("gpuscale status after a busy year", 0.5, "s"),
    at_most("gpuscale queue after a busy year", 0.5, "s"),
    at_most("status and queue, Python's start included", 0.5, "s"),
    at_least("no-op jobs over SSH, two slots", 100, "/s"),
    Bar("gpuscale submit to the first byte", "1.5 x ssh + 100 ms", lambda value, peer: value <= 1.5 * peer + 100),
    Bar("submit in Python to the first byte", "1.5 x ssh + 100 ms", lambda value, peer: value <= 1.5 * peer + 100),
    at_most("one plan", 100, "ms"),
    Bar("log from machine to store", "half of ssh cat", lambda value, peer: value >= peer / 2),
    at_most("stored logs that differ", 0, ""),
    Bar("checkpoint fetched", "0.8 x scp", lambda value, peer: value >= 0.8 * peer),
    Bar("checkpoint brought back", "0.8 x scp", lambda value, peer: value >= 0.8 * peer),
    at_most("memory for that at most", 100, "MiB"),
    Bar("10000 small files", "no slower than scp -r", lambda value, peer: value <= peer),
    Bar("lines stored at", "all of them", lambda value, peer: value == peer),
    at_most("event-loop lag p99", 100, "ms"),
    at_most("engine's memory for 2,000 running jobs", 1024, "MiB"),
    at_most("all of", 10, "s"),
    at_most("jobs lost", 0, ""),
    at_most("jobs run twice", 0, ""),
    at_most("jitter of the engine's heartbeat", 200, "ms"),
    at_most("first paint", 350, "ms"),
    at_most("bytes written while idle", 0, ""),
    at_most("key to the first byte of its effect, p50", 15, "ms"),
    at_most("key to the first byte of its effect, p95", 33, "ms"),
    at_most("filter of 100,000 jobs", 100, "ms"),
    at_most("order of 100,000 jobs", 100, "ms"),
    at_most("resident memory of the screen", 200, "MiB"),
    at_most("processor used by the screen", 10, "%"),
    at_most("written while a log", 40, "KiB/s"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One row with what was promised; `met` is None where nothing was."""

    group: str
    row: Row
    bar: str
    met: bool | None


def judged(group: str, row: Row) -> Line:
    """A row beside its promise."""
    what, value, _, _, peer = row
    bar = next((bar for bar in BARS if what.startswith(bar.what)), None)
    if bar is None:
        return Line(group, row, "", None)
    return Line(group, row, bar.words, bar.met(value, 0.0 if peer is None else peer))


def figure(value: float, unit: str) -> str:
    """A number with three significant digits or more, and its unit."""
    digits = 0 if value == int(value) or abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f} {unit}".rstrip()


def table(lines: Sequence[Line]) -> Table:
    """What | measured | promised | peer or limit | verdict."""
    made = Table(title="Measured in one run on this computer; medians unless a row says otherwise")
    for name, justify in (("what", "left"), ("measured", "right"), ("promised", "left")):
        made.add_column(name, justify="right" if justify == "right" else "left")
    made.add_column("peer or limit, same run")
    made.add_column("verdict")
    group = None
    for line in lines:
        if group is not None and line.group != group:
            made.add_section()
        group = line.group
        what, value, unit, peer, peer_value = line.row
        beside = "" if peer_value is None else f"{figure(peer_value, unit)} ({peer})"
        verdict = {None: "", True: "met", False: "MISSED"}[line.met]
        made.add_row(what, figure(value, unit), line.bar, beside, verdict)
    return made


def show(lines: Sequence[Line], notes: Sequence[str], console: Console) -> None:
    """Print the table, then what could not be measured."""
    console.print(table(lines))
    for note in notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    promised = [line for line in lines if line.met is not None]
    missed = sum(not line.met for line in promised)
    console.print(f"{len(promised) - missed} of {len(promised)} promised figures met", highlight=False)


def write_json(lines: Sequence[Line], notes: Sequence[str], path: Path) -> None:
    """The same for programs."""
    names = ("what", "measured", "unit", "peer", "peer_value")
    found = [
        {"group": line.group, **dict(zip(names, line.row, strict=True)), "promised": line.bar, "met": line.met}
        for line in lines
    ]
    path.write_text(json.dumps({"figures": found, "notes": list(notes)}, indent=2) + "\n", encoding="utf-8")
