"""The columns of the tables: what each cell says. Pure functions of a row, the look and the time."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.model.money import dollars
from gpuscale_tui.policy.liveness import Liveness, liveness
from gpuscale_tui.store.views import JobRow, WorkerRow
from gpuscale_tui.tui.format import clean, gpus, span, usd, wait
from gpuscale_tui.tui.look import Look, Span
from gpuscale_tui.tui.widgets.columns import Column

FINAL = frozenset({"done", "failed", "cancelled"})


def text(value: str | None, look: Look, role: str = "text") -> Span:
    """A text from outside, or a dash."""
    return (clean(value, ascii_only=look.glyphs.ascii), role) if value else ("-", "muted")


def _job_state(row: JobRow, look: Look, _now: int) -> Span:
    return look.state("stopping" if row.cancelling and row.state not in FINAL else row.state)


def _job_name(row: JobRow, look: Look, _now: int) -> Span:
    return text(row.name, look, "muted" if row.state in {"done", "cancelled"} else "text")


def _priority(row: JobRow, _look: Look, _now: int) -> Span:
    return str(row.priority), "text" if row.state == "pending" else "muted"


def _job_gpu(row: JobRow, look: Look, _now: int) -> Span:
    return clean(gpus(row.gpu_type, row.gpu_count), ascii_only=look.glyphs.ascii), "muted"


def _machine(row: JobRow, _look: Look, _now: int) -> Span:
    return ("-", "muted") if row.worker_id is None else (worker_label(row.worker_id), "text")


def job_time(row: JobRow, now: int) -> str:
    """How long a job has waited, runs or ran."""
    if row.state == "pending":
        return wait(now - row.submitted_at)
    if row.started_at is None:
        return "-"
    return span((row.finished_at or now) - row.started_at)


def _lasted(row: JobRow, now: int) -> int | None:
    return None if row.started_at is None else (row.finished_at or now) - row.started_at


def _time(row: JobRow, _look: Look, now: int) -> Span:
    return job_time(row, now), "text" if row.state == "running" else "muted"


def _cost(row: JobRow | WorkerRow, _look: Look, _now: int) -> Span:
    return (usd(row.cost), "text") if row.cost else ("-", "muted")


def _job_rate(row: JobRow, _look: Look, _now: int) -> Span:
    return (usd(row.rate), "text") if row.rate and row.state == "running" else ("-", "muted")


def _attempt(row: JobRow, _look: Look, _now: int) -> Span:
    return (str(row.attempt), "warn" if row.attempt > 1 else "muted") if row.attempt else ("-", "muted")


def _ended(row: JobRow | WorkerRow, look: Look, now: int) -> Span:
    at = row.finished_at if isinstance(row, JobRow) else row.ended_at
    return look.when(at, now), "muted"


REHEARSALS = {
    "wanted": ("pending", "muted"), "moving": ("staging", "accent"), "resumed": ("running", "accent"),
    "verified": ("done", "good"), "failed": ("failed", "bad"),
}  # fmt: skip
"""Sign and role of how far the rehearsal of a move is."""


RESUMES = {
    "wanted": "a move will be rehearsed", "moving": "a move is being rehearsed",
    "resumed": "a move is being rehearsed", "verified": "resume verified", "failed": "resume failed",
}  # fmt: skip
"""The same in a few words."""


def _job_resume(row: JobRow, look: Look, _now: int) -> Span:
    """Whether it is known to resume; nothing where nobody has tried that on purpose."""
    state, role = REHEARSALS.get(row.rehearsal, ("", "text"))
    return (f"{look.glyphs.states[state]} {row.rehearsal}", role) if state else ("", "text")


def _job_why(row: JobRow, look: Look, _now: int) -> Span:
    return text(row.why, look, "muted")


def left(row: JobRow, now: int) -> int | None:
    """Milliseconds that a running job still takes by its own output."""
    known = row.progress
    if row.state != "running" or known is None or known.eta_ms is None or known.attempt != row.attempt:
        return None
    return max(0, known.at + known.eta_ms - now)


def _left(row: JobRow, _look: Look, now: int) -> Span:
    rest = left(row, now)
    return ("-", "muted") if rest is None else (wait(rest), "text")


def _part(row: JobRow, _look: Look, _now: int) -> Span:
    known = row.progress
    if known is None or known.fraction is None or row.state in {"done", "pending"}:
        return "-", "muted"
    return f"{min(99, int(100 * known.fraction))}%", "text" if row.state == "running" else "muted"


def _loss(row: JobRow, _look: Look, _now: int) -> Span:
    loss = row.progress.loss if row.progress is not None else None
    if loss is None:
        return "-", "muted"
    if not math.isfinite(loss):
        return f"!{loss:.0f}", "bad"
    return f"{loss:.4g}"[:8], "text" if row.state == "running" else "muted"


def _speed(row: JobRow, _look: Look, _now: int) -> Span:
    speed = row.progress.speed if row.progress is not None and row.state == "running" else None
    return ("-", "muted") if speed is None else (f"{speed:.3g}/s", "muted")


def _ms(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _utc(at: int | None) -> str | None:
    return None if at is None else f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


JOB_COLUMNS: tuple[Column[JobRow], ...] = (
    Column("id", "ID", 7, lambda row, _look, _now: (job_label(row.id), "strong")),
    Column("status", "STATE", 11, _job_state, value=lambda row, _now: row.state),
    Column("name", "NAME", 24, _job_name, grow=2, most=44),
    Column("priority", "PRI", 3, _priority, drop=3, right=True),
    Column("gpu", "GPU", 11, _job_gpu, drop=5),
    Column("on", "ON", 4, _machine, drop=1),
    Column("try", "TRY", 3, _attempt, drop=6, right=True, value=lambda row, _now: row.attempt),
    Column("time", "TIME", 6, _time, right=True, value=lambda row, now: _ms(_lasted(row, now))),
    Column("progress", "DONE", 4, _part, drop=2, right=True,
           value=lambda row, _now: row.progress.fraction if row.progress else None),
    Column("eta", "LEFT", 6, _left, drop=4, right=True, value=lambda row, now: _ms(left(row, now))),
    Column("loss", "LOSS", 7, _loss, drop=7, right=True,
           value=lambda row, _now: row.progress.loss if row.progress else None),
    Column("rate", "$/H", 6, _job_rate, drop=8, right=True, value=lambda row, _now: dollars(row.rate or 0)),
    Column("cost", "COST", 7, _cost, right=True, value=lambda row, _now: dollars(row.cost)),
    Column("finished", "ENDED", 8, _ended, drop=9, value=lambda row, _now: _utc(row.finished_at)),
    Column("project", "PROJECT", 12, lambda row, look, _now: text(row.project, look, "muted"), drop=2, optional=True),
    Column("user", "USER", 8, lambda row, look, _now: text(row.user, look, "muted"), drop=2, optional=True),
    Column("", "SPEED", 8, _speed, right=True, drop=2, optional=True),
    Column("", "PRICE", 6, lambda row, _look, _now: (usd(row.max_price) if row.max_price else "-", "muted"),
           right=True, drop=2, optional=True),
    Column("", "FROM", 8, lambda row, look, _now: text(row.provider, look, "muted"), drop=2, optional=True),
    Column("submitted", "SENT", 11, lambda row, look, now: (look.when(row.submitted_at, now), "muted"),
           drop=2, optional=True, value=lambda row, _now: _utc(row.submitted_at)),
    Column("started", "STARTED", 11, lambda row, look, now: (look.when(row.started_at, now), "muted"),
           drop=2, optional=True, value=lambda row, _now: _utc(row.started_at)),
    Column("", "EXIT", 4, lambda row, _look, _now: ("-" if row.exit_code is None else str(row.exit_code), "muted"),
           right=True, drop=2, optional=True),
    Column("", "RESUME", 10, _job_resume, drop=2, optional=True),
    Column("", "WHY", 24, _job_why, grow=3, drop=10),
)  # fmt: skip

RAIL_COLUMNS: tuple[Column[JobRow], ...] = (
    Column("", "JOB", 7, lambda row, _look, _now: (job_label(row.id), "strong")),
    Column("", "", 1, lambda row, look, now: (_job_state(row, look, now)[0][:1], _job_state(row, look, now)[1])),
    Column("", "NAME", 10, _job_name, grow=1),
)


def _up(row: WorkerRow, _look: Look, now: int) -> Span:
    if row.held_from is None:
        return "-", "muted"
    return span((row.ended_at or now) - row.held_from), "text"


def _rate(row: WorkerRow, _look: Look, _now: int) -> Span:
    return usd(row.rate), "muted" if row.ended_at else "text"


def worker_job(row: WorkerRow, look: Look, now: int) -> Span:
    """What a machine does: its job, or since when it idles; one that cannot be reached says that first."""
    if liveness(row.state, ready_at=row.ready_at, silent_since=row.silent_since) is Liveness.UNREACHABLE:
        assert row.silent_since is not None
        job = f", {job_label(row.job_id)}" if row.job_id is not None else ""
        return f"unreachable {span(now - row.silent_since)}{job}", "warn"
    if row.job_id is not None:
        name = clean(row.job_name or "", ascii_only=look.glyphs.ascii)
        return f"{job_label(row.job_id)} {name}", "text"
    if row.state == "idle" and row.idle_since is not None:
        return f"idle for {span(now - row.idle_since)}", "state-idle"
    return "-", "muted"


def address(row: WorkerRow, look: Look, _now: int) -> Span:
    """Where SSH reaches it."""
    if row.ssh_host is None:
        return "-", "muted"
    return clean(f"{row.ssh_host}:{row.ssh_port}", ascii_only=look.glyphs.ascii), "muted"


WORKER_COLUMNS: tuple[Column[WorkerRow], ...] = (
    Column("", "ID", 4, lambda row, _look, _now: (worker_label(row.id), "strong")),
    Column("", "STATE", 11, lambda row, look, _now: look.state(row.state)),
    Column("", "PROVIDER", 8, lambda row, look, _now: text(row.provider, look, "muted"), drop=4),
    Column("", "GPU", 11, lambda row, look, _now: text(gpus(row.gpu_type, row.gpu_count), look)),
    Column("", "$/H", 6, _rate, right=True),
    Column("", "DOES", 20, worker_job, grow=2, most=40),
    Column("", "UP", 6, _up, right=True),
    Column("", "COST", 7, _cost, right=True),
    Column("", "ORDER", 8, lambda row, look, _now: text(row.order_id, look, "muted"), drop=6),
    Column("", "ADDRESS", 22, address, drop=8),
    Column("", "WHY", 24, lambda row, look, _now: text(row.why, look, "muted"), grow=3, drop=9),
)
