"""The page of a job as lines: what matters most, its attempts over time, and what happened, newest first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

from gpuscale_tui.engine.meter import Advice
from gpuscale_tui.engine.outlook import JobOutlook
from gpuscale_tui.model.durations import format_duration
from gpuscale_tui.model.jobs import Attempt, Job, JobSpec, job_label, worker_label
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.store import losses
from gpuscale_tui.store.events import Event
from gpuscale_tui.store.fleet import FleetSpan
from gpuscale_tui.store.output_files import OutputRow
from gpuscale_tui.store.progress import JobProgress, Usage
from gpuscale_tui.store.snapshots import SnapshotRow
from gpuscale_tui.store.unsaved import Unsaved
from gpuscale_tui.store.views import JobRow
from gpuscale_tui.tui.cells import job_time
from gpuscale_tui.tui.format import gpus, plural, rate, size, span
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.outlook import WIDE, Bill, cost_line, labelled, most_of, progress_lines, unsaved_line
from gpuscale_tui.tui.page import Page
from gpuscale_tui.tui.record_cells import event_words
from gpuscale_tui.tui.strips import attempts_strip
from gpuscale_tui.tui.widgets.axes import compact

EVENTS_OF_AN_ATTEMPT = 12
MOST_OUTPUTS = 8
REHEARSED = {"verified": "good", "failed": "bad"}
MOST_COMMAND, MOST_WHY = 2, 3
"""Lines of the summary that a long command and a long reason may take."""
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
    spans: tuple[FleetSpan, ...] = ()
    progress: JobProgress | None = None
    unsaved: Unsaved | None = None
    used: Usage | None = None
    outlook: JobOutlook | None = None
    advice: Advice | None = None
    outputs: tuple[OutputRow, ...] = ()
    rehearsed: str = ""
    """How far the rehearsal of its move is, or what came of it."""

    @property
    def attempt(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[0] if self.attempts else None


def write_summary(story: JobStory, page: Page, per_job: int | None, *, brief: bool = False) -> list[Line]:
    """What matters most of a job, in a few lines, or in fewer where there is no room for more.

    `per_job` is the budget of a job (micro-dollars), if there is one.
    """
    row, look, now = story.row, page.look, page.now
    lines: list[Line] = []
    if not brief:
        lines += page.fact("command", story.job.spec.command_line, "strong")[:MOST_COMMAND]
        lines += page.fact("why", row.why, f"state-{row.state}")[:MOST_WHY]
    attempt = story.attempt
    if row.state == "running" and attempt is not None and attempt.stalled_at is not None:
        lines += page.fact("stands still", f"it does nothing, noticed {span(now - attempt.stalled_at)} ago", "warn")
    if row.state == "running":
        lines += labelled("progress", progress_lines(story.progress, page), page)
    lines += labelled("cost", [cost_line(_bill(story, now, per_job))], page)
    if row.state == "running":
        lines += labelled(
            "unsaved", [unsaved_line(story.unsaved, look, now, story.advice, wide=page.width >= WIDE)], page
        )
    if story.rehearsed and not brief:
        lines += page.fact("rehearsal", story.rehearsed, REHEARSED.get(row.rehearsal, "accent"))[:MOST_WHY]
    return lines


def _bill(story: JobStory, now: int, per_job: int | None) -> Bill:
    row, limit = story.row, story.job.spec.max_runtime_sec
    if row.state not in {"pending", "running"}:
        return Bill(row.cost, runs=False)
    runs, attempt = row.state == "running", story.attempt
    begun = attempt.started_at if runs and attempt is not None else None
    limit_ms = round(limit * 1000) if limit and runs else None
    most, by = most_of(row.cost, row.rate if runs else None, limit_ms, now - begun if begun else 0, per_job)
    return Bill(row.cost, runs, story.outlook, most, by)


def write_job(story: JobStory, page: Page) -> list[Line]:
    """A job's page below its summary."""
    spec, row = story.job.spec, story.row
    limit = f", at most {rate(spec.max_price)} each" if spec.max_price is not None else ""
    lines: list[Line] = []
    if story.attempts:
        strip = attempts_strip(story.attempts, story.spans, story.snapshots, page)
        lines += [page.rule("attempts over time"), *strip]
    lines += [page.rule("story, newest first"), *_attempts(story, page)]
    if story.snapshots:
        lines += [page.rule("checkpoints"), *(_snapshot(snapshot, page) for snapshot in story.snapshots[:8])]
    if story.outputs:
        lines += [page.rule("outputs"), *(_output(output, page) for output in story.outputs[:MOST_OUTPUTS])]
    facts = [
        ("time", f"{job_time(row, page.now)}" + (", waiting" if row.state == "pending" else "")),
        ("needs", gpus(spec.gpu_type, spec.gpu_count) + limit),
        ("submitted", page.look.when(row.submitted_at, page.now) + (f" by {spec.user}" if spec.user else "")),
        *_details(story),
    ]
    return [*lines, page.rule("details"), *page.facts(facts)]


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
        ("git", spec.git.label if spec.git else ""),
        ("commit", story.job.git_commit or ""),
        ("data sets", " ".join(f"{name}={path}" for name, path in spec.data.items())),
        ("told to end", _ending(spec)),
        ("saves in", spec.checkpoint_dir or ""),
        ("provider", spec.provider or "any"),
        ("put back", f"{plural(story.job.faults, 'time')} since it was submitted" if story.job.faults else ""),
    ]


def _ending(spec: JobSpec) -> str:
    """Nothing where it is as usual."""
    grace = "" if spec.grace_sec is None else f", then {span(spec.grace_sec * 1000)} to save and end"
    return f"by SIG{spec.stop_signal}{grace}" if grace or spec.stop_signal != "TERM" else ""


def _variables(story: JobStory) -> list[str]:
    spec = story.job.spec
    plain = [f"{name}={value}" for name, value in spec.env.items() if not name.startswith("GPUSCALE_PARAM_")]
    return [*plain, *(f"{name}=(secret)" for name in spec.secret_env)]


def _attempts(story: JobStory, page: Page) -> list[Line]:
    lines: list[Line] = []
    for attempt in story.attempts:
        lines.append(_attempt_line(attempt, story.workers.get(attempt.worker_id), page))
        events = [event for event in story.events if event.attempt == attempt.number and _tells(event)]
        said = any(event.detail.startswith("lost ") for event in events)
        lines += _remarks(attempt, page, lost=not said)
        lines += [event_line(event, page, indent=True) for event in events[-EVENTS_OF_AN_ATTEMPT:][::-1]]
    before = [event for event in story.events if event.attempt is None and event.kind != "worker"]
    return [*lines, *(event_line(event, page) for event in before[::-1])]


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
    plain = attempt.resumed_from is not None and attempt.resumed_step is None
    resumed = f"  resumed from snapshot {attempt.resumed_from}" if plain else ""
    since = None if ended else attempt.stalled_at
    stalled = "" if since is None else f"  does nothing, noticed {span(page.now - since)} ago"
    return [
        (f" {sign} ", f"state-{state}"), (f"attempt {attempt.number}", "strong"),
        (f" on {page.foreign(machine)}  ", "text"), (words.replace("_", " ") + code, f"state-{state}"),
        (f"  {'after' if ended else 'for'} {held}", "muted"), (resumed, "accent"),
        (stalled, "warn"),
    ]  # fmt: skip


def _remarks(attempt: Attempt, page: Page, *, lost: bool) -> list[Line]:
    """What its end cost, unless an event says that, and where it went on."""
    lead = (f" {page.look.glyphs.branch}   ", "line")
    lines: list[Line] = []
    if lost and attempt.lost is not None:
        lines.append([lead, (losses.in_words(attempt.lost), "warn")])
    if attempt.resumed_from is not None and attempt.resumed_step is not None:
        first = f", went on at step {attempt.first_step:,}" if attempt.first_step is not None else ""
        words = f"resumed from snapshot {attempt.resumed_from} at step {attempt.resumed_step:,}{first}"
        lines.append([lead, (words, "accent")])
    return lines


def _tells(event: Event) -> bool:
    """What the job and the machine did is told by the attempt; that it ended stands in its own line."""
    if event.kind not in {"attempt", "request", "warning"} or _REMOVED.match(event.detail):
        return False
    return event.to_state != "ended" or bool(event.detail)


def event_line(event: Event, page: Page, *, indent: bool = False, names_job: bool = False) -> Line:
    """When something happened, and what."""
    lead = f" {page.look.glyphs.branch}   " if indent else f" {page.look.glyphs.dot} "
    about = f"{job_label(event.job_id)} " if names_job and event.job_id is not None else ""
    words = about + event_words(event)
    return [
        (lead, "line"), (f"{page.look.when(event.at, page.now)}  ", "muted"),
        (page.foreign(words), "warn" if event.kind == "warning" else "text"),
    ]  # fmt: skip


def _snapshot(snapshot: SnapshotRow, page: Page) -> Line:
    gone = "  removed from disk" if snapshot.pruned_at is not None else ""
    step = f" at step {snapshot.step:,}" if snapshot.step is not None else ""
    loss = f", loss {compact(snapshot.loss)}" if snapshot.loss is not None and isfinite(snapshot.loss) else ""
    pinned = f"  {page.look.glyphs.mark} pinned" if snapshot.pinned_at is not None and not gone else ""
    fault = f"  {page.look.glyphs.states['failed']} broken" if snapshot.fault is not None and not gone else ""
    return [
        (f" {snapshot.number:>4} ", "strong"), (f" {page.look.when(snapshot.at, page.now)} ", "muted"),
        (f" attempt {snapshot.attempt}{step}{loss}  {plural(snapshot.files, 'file')}, {size(snapshot.bytes)}{gone}",
         "muted" if gone else "text"),
        (pinned, "accent"), (fault, "bad"),
    ]  # fmt: skip


def _output(output: OutputRow, page: Page) -> Line:
    return [
        (f" {page.look.when(output.at, page.now)} ", "muted"),
        (f" attempt {output.attempt}  {plural(output.files, 'file')}, {size(output.bytes)}", "text"),
        (f"  {page.foreign(output.error)}" if output.error else "", "warn"),
    ]  # fmt: skip
