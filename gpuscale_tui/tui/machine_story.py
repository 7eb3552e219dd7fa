"""The page of a machine as lines: why it is up, what it does and did, what it costs, what its host did before."""

from __future__ import annotations

from dataclasses import dataclass

from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy.liveness import in_words, liveness
from gpuscale_tui.store.events import Event
from gpuscale_tui.store.views import WorkerRow
from gpuscale_tui.tui.cells import address
from gpuscale_tui.tui.format import gpus, plural, rate, span, usd
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.page import Page
from gpuscale_tui.tui.story import event_line


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


def _liveness(row: WorkerRow, now: int) -> str:
    found = liveness(row.state, ready_at=row.ready_at, silent_since=row.silent_since)
    return in_words(found, silent_since=row.silent_since, down_since=row.down_since, now=now)


def write_worker(story: WorkerStory, page: Page) -> list[Line]:
    """A machine's page."""
    row, worker = story.row, story.worker
    contact = f"{span(page.now - worker.contact_at)} ago" if worker.contact_at is not None else "never"
    lines: list[Line] = []
    lives, troubled = _liveness(row, page.now), row.silent_since is not None or row.down_since is not None
    lines += page.fact("why", story.why, f"state-{row.state}")
    lines += page.fact("liveness", lives, "warn") if troubled else []
    lines += page.facts(
        [
            ("price", f"{rate(row.rate)}, fees included"),
            ("cost", usd(row.cost) + (", as billed" if row.billed else ", as reckoned")),
            ("held since", page.look.when(row.held_from, page.now)),
            ("held for", span((row.ended_at or page.now) - row.held_from) if row.held_from is not None else "not yet"),
            ("machine", f"{gpus(row.gpu_type, row.gpu_count)}, {row.market}"),
            ("provider", f"{row.provider}, server {row.server_id}"),
            ("order", row.order_id or "not known yet"),
            ("address", address(row, page.look, page.now)[0]),
            ("last contact", contact),
            ("liveness", "" if troubled else lives),
            ("job", f"{job_label(row.job_id)} {row.job_name or ''}" if row.job_id is not None else "none"),
            ("asked back", plural(row.release_asked, "time") if row.release_asked else ""),
            ("image", worker.image or "any"),
        ]
    )
    lines += page.fact("shown", story.shown) if story.shown else []
    for label, text in zip(("its host", "", ""), story.host, strict=False):
        lines += page.fact(label, text, "muted")
    lines += [page.rule("story, newest first")]
    return lines + [event_line(event, page, names_job=True) for event in reversed(story.events) if event.kind != "job"]
