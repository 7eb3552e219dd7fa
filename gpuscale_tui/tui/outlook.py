"""How far a job is, what it has cost and will cost, what it would lose now: the lines at the top of its page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from rich.cells import cell_len

from gpuscale_tui.engine.meter import Advice
from gpuscale_tui.engine.outlook import JobOutlook
from gpuscale_tui.model.money import HOUR_MS
from gpuscale_tui.store.progress import JobProgress, Usage
from gpuscale_tui.store.unsaved import Unsaved
from gpuscale_tui.tui.format import Glyphs, meter, rate, share, span, usd
from gpuscale_tui.tui.look import Line, Look, Span
from gpuscale_tui.tui.page import LABEL, Page
from gpuscale_tui.tui.widgets.axes import compact

_PIECES = re.compile(r" *[^ ]+ *| +")

QUIET_AFTER_MS = 120_000
"""A job that has said nothing for so long is told to be quiet."""
BAR, SHORT_BAR, WIDE = 24, 12, 100
"""Cells of the bar, on a wide page and on any other."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What a job has cost (micro-dollars), what is expected of it while it is open, and its limit.

    `most` is what it may cost in its life at most, and `limited_by` says by what; None without a limit.
    """

    spent: int
    runs: bool
    outlook: JobOutlook | None = None
    most: int | None = None
    limited_by: str = ""


def steps_of(known: JobProgress) -> str:
    """`step 5,800 of 10,000  epoch 3 of 10`, as far as it says."""
    words = []
    if known.step is not None:
        words.append(f"step {known.step:,}" + (f" of {known.steps:,}" if known.steps else ""))
    if known.epoch is not None:
        words.append(f"epoch {known.epoch:g}" + (f" of {known.epochs}" if known.epochs else ""))
    return "  ".join(words)


def speed_of(known: JobProgress) -> str:
    """`42.1 steps/s`, or `3.2 s/step` for slow ones."""
    if not known.speed or not isfinite(known.speed) or known.speed <= 0:
        return ""
    return f"{compact(known.speed)} steps/s" if known.speed >= 1 else f"{compact(1 / known.speed)} s/step"


def eta_of(known: JobProgress, look: Look, now: int) -> str:
    """When it should be done, by its own word."""
    if known.eta_ms is None:
        return ""
    left = known.at + known.eta_ms - now
    return f"done in about {span(left)}, {look.when(now + left, now)}" if left > 0 else "should be done by now"


def bar_of(part: float, cells: int, glyphs: Glyphs) -> list[Span]:
    """A part (0 to 1) as a bar and in words."""
    done = round(min(1.0, max(0.0, part)) * 1000)
    full, empty = meter(done, 1000, cells, glyphs)
    return [(full, "state-running"), (empty, "line"), (f" {share(done, 1000)}", "strong")]


def progress_lines(known: JobProgress | None, page: Page) -> list[Line]:
    """How far it is; nothing when its output does not say."""
    if known is None:
        return []
    look, now = page.look, page.now
    cells = BAR if page.width >= WIDE else SHORT_BAR
    first: list[Span] = [] if known.fraction is None else [*bar_of(known.fraction, cells, look.glyphs), ("  ", "text")]
    first.append((steps_of(known), "text"))
    if known.loss is not None:
        first.append((f"  loss {compact(known.loss)}" if isfinite(known.loss) else f"  loss {known.loss}", "accent"))
    second = [words for words in (speed_of(known), eta_of(known, look, now)) if words]
    quiet = now - known.at
    if quiet > QUIET_AFTER_MS:
        second.append(f"has said nothing of it for {span(quiet)}")
    return [line for line in (first, [("; ".join(second), "text")] if second else []) if line]


def cost_line(bill: Bill) -> Line:
    """So far, to come, at most."""
    ahead = bill.outlook
    if ahead is None:
        return [(usd(bill.spent), "strong")]
    spans: list[Span] = [(usd(bill.spent), "strong"), (" so far", "text")] if bill.spent or bill.runs else []
    if bill.runs and ahead.rate is not None:
        spans.append((f", now {rate(ahead.rate)}", "text"))
    if ahead.cost is not None:
        low, likely, high = (usd(amount) for amount in (ahead.cost.low, ahead.cost.likely, ahead.cost.high))
        between = "" if low == high else f" ({low} to {high})"
        words = "to come" if spans else f"at {rate(ahead.rate)}" if ahead.rate is not None else "in all"
        spans.append((f"{', ' if spans else ''}about {likely} {words}{between}", "text"))
        spans.append((f", by {ahead.duration.basis}", "muted"))
    elif not spans:
        spans.append((f"not known: {ahead.duration.basis}", "muted"))
    if bill.most is not None:
        spans.append((f", at most {usd(bill.most)} by {bill.limited_by}", "muted"))
    return spans


def most_of(
    spent: int, rate_now: int | None, limit_ms: int | None, elapsed: int, per_job: int | None
) -> tuple[int | None, str]:
    """What it may cost at most (micro-dollars) and by what: its max_runtime at the present rate, or the budget."""
    found: list[tuple[int, str]] = []
    if rate_now is not None and limit_ms is not None:
        found.append((spent + rate_now * max(0, limit_ms - elapsed) // HOUR_MS, "its max runtime"))
    if per_job is not None:
        found.append((per_job, "the budget of a job"))
    return min(found) if found else (None, "")


def unsaved_line(
    lost: Unsaved | None, look: Look, now: int, advice: Advice | None = None, *, wide: bool = False
) -> Line:
    """What it would lose if its machine were lost now, and how often saving it is worth its while; `wide`, on what
    that rests."""
    if lost is None:
        return []
    saved = (
        "nothing is saved yet"
        if lost.saved_at is None
        else f"saved {span(now - lost.saved_at)} ago, {look.when(lost.saved_at, now)}"
    )
    line: Line = [(f"{span(lost.ms)} of work, {usd(lost.cost)}", "warn"), (f"; {saved}", "muted")]
    if advice is None:
        return line
    took = f"{advice.save_ms / 1000:.1f} s" if advice.save_ms < 10_000 else span(advice.save_ms)
    basis = f" ({advice.basis})" if wide else ""
    return [*line, (f"; a save takes {took}: best every {span(advice.interval_ms)}{basis}", "muted")]


def usage_words(used: Usage | None, now: int, room: int = 1000) -> str:
    """`GPU 87 %  71 C  18.2 of 24.0 GB  CPU 34 %  memory 12.1 of 64.4 GB`, as far as the machine says, and
    as much of it as there is room for."""
    if used is None:
        return ""
    words: list[str] = []
    if used.gpu_percent is not None:
        words.append(f"GPU {used.gpu_percent} %")
    if used.gpu_temp_c is not None:
        words.append(f"{used.gpu_temp_c} C")
    words += _memory("", used.gpu_mem_mb, used.gpu_mem_total_mb)
    if used.cpu_percent is not None:
        words.append(f"CPU {used.cpu_percent} %")
    words += _memory("memory ", used.mem_mb, used.mem_total_mb)
    if used.disk_free_mb is not None:
        words.append(f"{used.disk_free_mb / 1000:.0f} GB free")
    if now - used.at > QUIET_AFTER_MS:
        words.insert(0, f"{span(now - used.at)} ago:")
    while words and len("  ".join(words)) > room:
        words.pop()
    return "  ".join(words)


def _memory(name: str, used: int | None, total: int | None) -> list[str]:
    if used is None:
        return []
    return [f"{name}{used / 1000:.1f}" + (f" of {total / 1000:.1f}" if total else "") + " GB"]


def labelled(label: str, lines: Sequence[Line], page: Page) -> list[Line]:
    """Lines after a label, cleaned, broken where they are too wide; nothing for none."""
    room = max(10, page.width - LABEL - 3)
    cleaned = [[(page.foreign(text), role) for text, role in line] for line in lines if line]
    rows = [row for line in cleaned for row in wrapped(line, room)]
    return [[(f" {label if not place else '':<{LABEL}} ", "muted"), *row] for place, row in enumerate(rows)]


def wrapped(line: Line, width: int) -> list[Line]:
    """A line in rows of at most `width` cells, broken between words."""
    rows: list[list[Span]] = [[]]
    left = width
    for text, role in line:
        for piece in _PIECES.findall(text):
            if cell_len(piece.rstrip()) > left and rows[-1]:
                _trim(rows[-1])
                rows.append([])
                left = width
            word = piece if rows[-1] else piece.lstrip()  # a row begins with a word
            if word:
                rows[-1].append((word, role))
                left -= cell_len(word)
    _trim(rows[-1])
    return [row for row in rows if row]


def _trim(row: list[Span]) -> None:
    """Take the blanks at the end of a row away."""
    while row and not row[-1][0].rstrip():
        row.pop()
    if row:
        row[-1] = (row[-1][0].rstrip(), row[-1][1])
