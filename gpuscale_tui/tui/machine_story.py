"""The page of a machine as lines: why it is up, what it does and did, what it costs, what its host did before."""

from __future__ import annotations

from dataclasses import dataclass

from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy.liveness import in_words, liveness
from gpuscale_tui.store.events import Event
from gpuscale_tui.store.fleet import FleetSpan, totals_of
from gpuscale_tui.store.views import WorkerRow
from gpuscale_tui.store.worker_list import MachineRow
from gpuscale_tui.tui.cells import address
from gpuscale_tui.tui.format import gpus, plural, rate, span, usd
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.machine_cells import phase
from gpuscale_tui.tui.outlook import labelled, progress_lines, usage_words, wrapped
from gpuscale_tui.tui.page import Page
from gpuscale_tui.tui.story import event_line
from gpuscale_tui.tui.strips import life_strip, totals_line

MOST_WHY = 3
"""Lines of the summary that a long reason may take."""


@dataclass(frozen=True, slots=True)
class WorkerStory:
    """Everything that a machine's page tells; `events` are oldest first. `host` is what its host did before, and
    `shown` what the test of this machine found, both in words."""

    row: WorkerRow
    worker: Worker
    events: tuple[Event, ...]
    why: str
    host: tuple[str, ...] = ()
    shown: str = ""
    spans: tuple[FleetSpan, ...] = ()
    machine: MachineRow | None = None


def _liveness(row: WorkerRow, now: int) -> str:
    found = liveness(row.state, ready_at=row.ready_at, silent_since=row.silent_since)
    return in_words(found, silent_since=row.silent_since, down_since=row.down_since, now=now)


def write_summary(story: WorkerStory, page: Page) -> list[Line]:
    """What matters most of a machine, in a few lines."""
    row, look, now = story.row, page.look, page.now
    lines = page.fact("why", story.why, f"state-{row.state}")[:MOST_WHY]
    if row.silent_since is not None or row.down_since is not None:
        lines += page.fact("liveness", _liveness(row, now), "warn")
    if story.machine is not None:
        lines += labelled("does", [[phase(story.machine, look, now)]], page)
        lines += labelled("its job", progress_lines(story.machine.progress, page), page)
        words = usage_words(story.machine.used, now) if row.ended_at is None else ""
        lines += labelled("uses", [[(words, "text")]] if words else [], page)
    held = (row.ended_at or now) - row.held_from if row.held_from is not None else 0
    cost: list[Line] = [[
        (usd(row.cost), "strong"), (f" for {span(held)} at {rate(row.rate)}, fees included", "text"),
        (", as billed" if row.billed else ", as reckoned", "muted"),
    ]]  # fmt: skip
    return [*lines, *labelled("cost", cost, page)]


def write_worker(story: WorkerStory, page: Page) -> list[Line]:
    """A machine's page below its summary."""
    row, worker, now = story.row, story.worker, page.now
    lines: list[Line] = []
    if story.spans:
        start, end = story.spans[0].started_at, row.ended_at or now
        totals = totals_of(story.spans, start, end)
        strip = life_strip(story.spans, start, end, page)
        lines += [page.rule("what it did"), *strip]
        lines += [[(" ", "text"), *row] for row in wrapped(totals_line(totals, page.look), page.width - 1)]
    contact = f"{span(now - worker.contact_at)} ago" if worker.contact_at is not None else "never"
    facts = [
        ("held since", page.look.when(row.held_from, now) if row.held_from is not None else "not yet"),
        ("machine", f"{gpus(row.gpu_type, row.gpu_count)}, {row.market}"),
        ("provider", f"{row.provider}, server {row.server_id}"),
        ("order", row.order_id or "not known yet"),
        ("address", address(row, page.look, now)[0]),
        ("last contact", contact),
        ("liveness", "" if row.silent_since is not None or row.down_since is not None else _liveness(row, now)),
        ("asked back", plural(row.release_asked, "time") if row.release_asked else ""),
        ("image", worker.image or "any"),
    ]
    lines += [page.rule("facts"), *page.facts(facts)]
    if story.shown or story.host:
        lines.append(page.rule("its host"))
    lines += page.fact("shown", story.shown) if story.shown else []
    for label, text in zip(("before", *[""] * len(story.host)), story.host, strict=False):
        lines += page.fact(label, text, "muted")
    lines += [page.rule("story, newest first")]
    return lines + [event_line(event, page, names_job=True) for event in reversed(story.events) if event.kind != "job"]
