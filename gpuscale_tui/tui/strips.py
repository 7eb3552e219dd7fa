"""A job's attempts and a machine's life as strips of time: lines for their pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpuscale_tui.model.jobs import Attempt, job_label, worker_label
from gpuscale_tui.store.fleet import FleetSpan, FleetTotal
from gpuscale_tui.store.snapshots import SnapshotRow
from gpuscale_tui.tui.format import span, usd
from gpuscale_tui.tui.look import Line, Look, Span
from gpuscale_tui.tui.page import Page
from gpuscale_tui.tui.widgets.timeline import WORDS, Scale, Stretch, axis, bar, legend, sign

MOST_ATTEMPTS = 8
NAME, SAYS = 10, 20
"""Cells before and after the strip of an attempt."""
KINDS = ("job", "setup", "idle", "lost", "rejected")


def stretches_of(spans: Sequence[FleetSpan], now: int, *, labels: bool = True) -> list[Stretch]:
    """Spans as stretches; jobs with their ids."""
    return [
        Stretch(
            each.kind,
            each.started_at,
            each.ended_at if each.ended_at is not None else now,
            job_label(each.job_id) if labels and each.job_id is not None else "",
        )
        for each in spans
    ]


def attempt_stretches(attempt: Attempt, spans: Sequence[FleetSpan], now: int) -> list[Stretch]:
    """An attempt: its files are put in place, its command runs, and what of that was lost in the end."""
    end = attempt.ended_at if attempt.ended_at is not None else now
    begun = attempt.started_at if attempt.started_at is not None else end
    lost = [each for each in spans if each.attempt == attempt.number and each.kind == "lost"]
    ran = min([end, *(each.started_at for each in lost)])
    found = [Stretch("setup", attempt.assigned_at, begun)] if begun > attempt.assigned_at else []
    if ran > begun:
        found.append(Stretch("job", begun, ran))
    return [*found, *(Stretch("lost", each.started_at, each.ended_at or end) for each in lost)]


def attempts_strip(
    attempts: Sequence[Attempt], spans: Sequence[FleetSpan], snapshots: Sequence[SnapshotRow], page: Page
) -> list[Line]:
    """The attempts over time, newest first, each with its machine and how it ended."""
    if not attempts:
        return []
    now, look, width = page.now, page.look, page.width
    start = min(attempt.assigned_at for attempt in attempts)
    end = max(attempt.ended_at if attempt.ended_at is not None else now for attempt in attempts)
    scale = Scale(start, max(end, start + 1000), max(10, width - NAME - SAYS))
    lines: list[Line] = [[(" " * NAME + axis(scale, look), "muted")]]
    shown = sorted(attempts, key=lambda attempt: -attempt.number)[:MOST_ATTEMPTS]
    kinds: list[str] = []
    for attempt in shown:
        stretches = attempt_stretches(attempt, spans, now)
        kinds += [each.kind for each in stretches]
        saved = [each.at for each in snapshots if each.attempt == attempt.number and each.pruned_at is None]
        line = _with_marks(bar(stretches, scale, look), [int(scale.cell(at)) for at in saved], look)
        name = f" {attempt.number:>2} {worker_label(attempt.worker_id)}"
        lines.append([(f"{name:<{NAME}}"[:NAME], "strong"), *line, *_ending(attempt, now, look)])
    if len(attempts) > len(shown):
        lines.append([(f" and {len(attempts) - len(shown)} before", "muted")])
    signs = legend([kind for kind in KINDS if kind in kinds], look)
    saved_sign: Line = [(f"  {_saved(look)}", "good"), (" snapshot", "muted")] if snapshots else []
    return [*lines, [(" " * (NAME - 1), "text"), *signs, *saved_sign]]


def _saved(look: Look) -> str:
    return "s" if look.glyphs.ascii else "●"


def _ending(attempt: Attempt, now: int, look: Look) -> list[Span]:
    lasted = span((attempt.ended_at if attempt.ended_at is not None else now) - attempt.assigned_at)
    if attempt.state != "ended":
        return [(f" {look.glyphs.states['running']} {attempt.state} {lasted}", "state-running")]
    good = attempt.cause == "finished"
    state = "done" if good else "failed"
    words = str(attempt.cause or "ended").replace("_", " ")
    return [(f" {look.glyphs.states[state]} {words} {lasted}", f"state-{state}")]


def _with_marks(line: Sequence[Span], cells: Sequence[int], look: Look) -> list[Span]:
    """A line of signs with the sign of a snapshot in these cells."""
    marked, place = [], 0
    for text, role in line:
        inside = sorted({cell - place for cell in cells if place <= cell < place + len(text)})
        begin = 0
        for cell in inside:
            marked += [(text[begin:cell], role), (_saved(look), "good")]
            begin = cell + 1
        marked.append((text[begin:], role))
        place += len(text)
    return [piece for piece in marked if piece[0]]


def life_strip(spans: Sequence[FleetSpan], start: int, end: int, page: Page) -> list[Line]:
    """What a machine did from `start` to `end` (UTC ms) in one line under its scale."""
    now, look, width = page.now, page.look, page.width
    scale = Scale(start, max(end, start + 1000), max(10, width - 2))
    return [[(" " + axis(scale, look), "muted")], [(" ", "text"), *bar(stretches_of(spans, now), scale, look)]]


def totals_line(totals: Mapping[str, FleetTotal], look: Look) -> Line:
    """`━ job 42m $0.31  ░ set-up 4m $0.03  ...`: what the signs mean, and what each comes to."""
    spans: list[Span] = []
    for kind in KINDS:
        total = totals.get(kind)
        if total is not None and (total.ms or total.cost):
            text, role = sign(kind, look)
            words = f"{span(total.ms)} {usd(total.cost)} "
            spans += [(f" {text * 2}", role), (f" {WORDS[kind]} ", "muted"), (words, "text")]
    return spans
