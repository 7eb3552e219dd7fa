"""The pages of a job and of a machine as lines: facts, why, and what happened in the order that matters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gpuscale_tui.model.durations import format_duration
from gpuscale_tui.model.jobs import Attempt, Job, job_label, worker_label
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy.liveness import in_words, liveness
from gpuscale_tui.store.events import Event
from gpuscale_tui.store.snapshots import SnapshotRow
from gpuscale_tui.store.views import JobRow, WorkerRow
from gpuscale_tui.tui.cells import address, job_time
from gpuscale_tui.tui.format import clean, gpus, plural, rate, size, span, usd
from gpuscale_tui.tui.look import Line, Look, Span, wrap
from gpuscale_tui.tui.record_cells import event_words

LABEL = 12
EVENTS_OF_AN_ATTEMPT = 12
_REMOVED = re.compile(r"snapshot \d+ removed")


@dataclass(frozen=True, slots=True)
class JobStory:
    """Everything that a job's page tells. `attempts` are newest first, `events` oldest first."""

    row: JobRow
    job: Job
    attempts: tuple[Attempt, ...]
    workers: dict[int, Worker]
    events: tuple[Event, ...]
    snapshots: tuple[SnapshotRow, ...]


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


@dataclass(frozen=True, slots=True)
class Page:
    """How a page is written: its look, the time (UTC ms) and its width."""

    look: Look
    now: int
    width: int

    def foreign(self, text: str) -> str:
        """A text from outside, cleaned."""
        return clean(text, ascii_only=self.look.glyphs.ascii)

    def rule(self, title: str) -> Line:
        """A line that begins a part of the page."""
        rule = self.look.glyphs.rule
        return [
            (f" {rule}{rule} ", "line"),
            (title, "heading"),
            (" " + rule * max(0, self.width - len(title) - 6), "line"),
        ]

    def fact(self, label: str, text: str, role: str = "text") -> list[Line]:
        """A labelled text, wrapped under itself."""
        lines = wrap(self.foreign(text), max(10, self.width - LABEL - 3))
        first: Line = [(f" {label:<{LABEL}} ", "muted"), (lines[0], role)]
        return [first, *([(" " * (LABEL + 2), "text"), (line, role)] for line in lines[1:])]

    def facts(self, pairs: Sequence[tuple[str, str]]) -> list[Line]:
        """Short labelled texts, two beside each other where there is room."""
        pairs = [(label, text) for label, text in pairs if text]
        columns = 2 if self.width >= 76 else 1
        cell = self.width // columns - LABEL - 3
        lines: list[Line] = []
        for start in range(0, len(pairs), columns):
            spans: list[Span] = []
            for label, text in pairs[start : start + columns]:
                spans += [(f" {label:<{LABEL}} ", "muted"), (self.look.fit(self.foreign(text), cell) + " ", "text")]
            lines.append(spans)
        return lines


def write_job(story: JobStory, page: Page) -> list[Line]:
    """A job's page."""
    spec, row = story.job.spec, story.row
    limit = f", at most {rate(spec.max_price)} each" if spec.max_price is not None else ""
    wanted = gpus(spec.gpu_type, spec.gpu_count) + limit
    lines: list[Line] = []
    lines += page.fact("command", spec.command_line, "strong")
    lines += page.fact("why", row.why, f"state-{row.state}")
    lines += page.facts(
        [
            ("cost", _cost(story)),
            ("time", f"{job_time(row, page.now)}" + (", waiting" if row.state == "pending" else "")),
            ("needs", wanted),
            ("submitted", page.look.when(row.submitted_at, page.now) + (f" by {spec.user}" if spec.user else "")),
        ]
    )
    lines += [page.rule("story, newest first"), *_attempts(story, page)]
    if story.snapshots:
        lines += [page.rule("checkpoints"), *(_snapshot(snapshot, page) for snapshot in story.snapshots[:8])]
    return [*lines, page.rule("details"), *page.facts(_details(story))]


def _details(story: JobStory) -> list[tuple[str, str]]:
    spec = story.job.spec
    return [
        ("image", spec.image),
        ("priority", f"{spec.priority} (1 is first, 10 last)"),
        ("project", spec.project or ""),
        ("max runtime", format_duration(spec.max_runtime_sec) if spec.max_runtime_sec else ""),
        ("sweep", " ".join(f"{name}={value}" for name, value in spec.params.items())),
        ("environment", " ".join(_variables(story))),
        ("workdir", spec.workdir or ""),
        ("saves in", spec.checkpoint_dir or ""),
        ("provider", spec.provider or "any"),
        ("put back", f"{plural(story.job.faults, 'time')} since it was submitted" if story.job.faults else ""),
    ]


def _variables(story: JobStory) -> list[str]:
    spec = story.job.spec
    plain = [f"{name}={value}" for name, value in spec.env.items() if not name.startswith("GPUSCALE_PARAM_")]
    return [*plain, *(f"{name}=(secret)" for name in spec.secret_env)]


def _cost(story: JobStory) -> str:
    worker = story.workers.get(story.row.worker_id or 0)
    running = f", now {rate(worker.rate)}" if worker is not None and story.row.state == "running" else ""
    return (
        f"{usd(story.row.cost)} so far{running}" if story.row.state in {"pending", "running"} else usd(story.row.cost)
    )


def _attempts(story: JobStory, page: Page) -> list[Line]:
    lines: list[Line] = []
    for attempt in story.attempts:
        lines.append(_attempt_line(attempt, story.workers.get(attempt.worker_id), page))
        events = [event for event in story.events if event.attempt == attempt.number and _tells(event)]
        lines += [_event_line(event, page, indent=True) for event in events[-EVENTS_OF_AN_ATTEMPT:][::-1]]
    before = [event for event in story.events if event.attempt is None and event.kind != "worker"]
    return [*lines, *(_event_line(event, page) for event in before[::-1])]


def _attempt_line(attempt: Attempt, worker: Worker | None, page: Page) -> Line:
    look = page.look
    ended = attempt.state == "ended"
    good = attempt.cause == "finished"
    state = ("done" if good else "failed") if ended else str(attempt.state)
    sign = look.glyphs.states["running" if state == "running" else state]
    held = span((attempt.ended_at or page.now) - attempt.assigned_at)
    machine = worker_label(attempt.worker_id)
    if worker is not None:
        machine += f" {worker.provider} {gpus(worker.gpu_type, worker.gpu_count)} {rate(worker.rate)}"
    words = f"{attempt.cause}" if ended else str(attempt.state)
    code = f", exit code {attempt.exit_code}" if attempt.exit_code else ""
    resumed = f"  resumed from snapshot {attempt.resumed_from}" if attempt.resumed_from is not None else ""
    since = None if ended else attempt.stalled_at
    stalled = "" if since is None else f"  does nothing, noticed {span(page.now - since)} ago"
    return [
        (f" {sign} ", f"state-{state}"), (f"attempt {attempt.number}", "strong"),
        (f" on {page.foreign(machine)}  ", "text"), (words.replace("_", " ") + code, f"state-{state}"),
        (f"  {'after' if ended else 'for'} {held}", "muted"), (resumed, "accent"),
        (stalled, "warn"),
    ]  # fmt: skip


def _tells(event: Event) -> bool:
    """What the job and the machine did is told by the attempt; that it ended stands in its own line."""
    if event.kind not in {"attempt", "request", "warning"} or _REMOVED.match(event.detail):
        return False
    return event.to_state != "ended" or bool(event.detail)


def _event_line(event: Event, page: Page, *, indent: bool = False, names_job: bool = False) -> Line:
    lead = f" {page.look.glyphs.branch}   " if indent else f" {page.look.glyphs.dot} "
    about = f"{job_label(event.job_id)} " if names_job and event.job_id is not None else ""
    words = about + event_words(event)
    return [
        (lead, "line"), (f"{page.look.when(event.at, page.now)}  ", "muted"),
        (page.foreign(words), "warn" if event.kind == "warning" else "text"),
    ]  # fmt: skip


def _snapshot(snapshot: SnapshotRow, page: Page) -> Line:
    gone = "  removed from disk" if snapshot.pruned_at is not None else ""
    role = "muted" if gone else "text"
    return [
        (f" {snapshot.number:>4} ", "strong"), (f" {page.look.when(snapshot.at, page.now)} ", "muted"),
        (f" attempt {snapshot.attempt}  {plural(snapshot.files, 'file')}, {size(snapshot.bytes)}{gone}", role),
    ]  # fmt: skip


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
    return lines + [_event_line(event, page, names_job=True) for event in reversed(story.events) if event.kind != "job"]
