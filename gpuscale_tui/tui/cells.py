"""The columns of the tables: what each cell says. Pure functions of a row, the look and the time."""

from __future__ import annotations

from gpuscale_tui.model.jobs import job_label, worker_label
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


def _job_why(row: JobRow, look: Look, _now: int) -> Span:
    return text(row.why, look, "muted")


JOB_COLUMNS: tuple[Column[JobRow], ...] = (
    Column("id", "ID", 5, lambda row, _look, _now: (job_label(row.id), "strong")),
    Column("state", "STATE", 11, _job_state),
    Column("name", "NAME", 24, _job_name, grow=2, most=44),
    Column("priority", "PRI", 3, _priority, right=True),
    Column("gpu", "GPU", 11, _job_gpu, drop=3),
    Column("", "ON", 4, _machine),
    Column("", "TRY", 3, _attempt, drop=5, right=True),
    Column("started", "TIME", 6, _time, right=True),
    Column("", "$/H", 6, _job_rate, drop=6, right=True),
    Column("cost", "COST", 7, _cost, right=True),
    Column("finished", "ENDED", 8, _ended, drop=7),
    Column("", "WHY", 24, _job_why, grow=3, drop=9),
)

RAIL_COLUMNS: tuple[Column[JobRow], ...] = (
    Column("", "JOB", 5, lambda row, _look, _now: (job_label(row.id), "strong")),
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
