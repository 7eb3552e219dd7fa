"""What an action would act on, and when it applies: each condition says why it does not, or nothing."""

from __future__ import annotations

from dataclasses import dataclass

from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.store.market import OfferRow
from gpuscale_tui.store.snapshots import SnapshotRow
from gpuscale_tui.store.views import JobRow, WorkerRow


@dataclass(frozen=True, slots=True)
class Subject:
    """What an action would act on: what the cursor is on, what is marked, and how things stand.

    `marked` are the ids of all marked rows of the list that is shown, also of rows that are not on the screen. `undo`
    says what the key `u` would undo.
    """

    job: JobRow | None = None
    worker: WorkerRow | None = None
    engine: str = "none"
    offer: OfferRow | None = None
    marked: frozenset[int] = frozenset()
    undo: str = ""
    snapshot: SnapshotRow | None = None
    snapshots: int = 0
    """How many snapshots are marked."""
    copying: bool = False
    """A snapshot is being copied or verified."""

    @property
    def jobs(self) -> frozenset[int]:
        """Ids of the jobs that are meant: all marked ones, else the one under the cursor."""
        return self.marked or (frozenset({self.job.id}) if self.job else frozenset())

    @property
    def workers(self) -> frozenset[int]:
        """Ids of the machines that are meant: all marked ones, else the one under the cursor."""
        return self.marked or (frozenset({self.worker.id}) if self.worker else frozenset())


BUSY = "a snapshot is being copied or verified: x stops that"


def always(_subject: Subject) -> str:
    """It always applies."""
    return ""


def needs_job(subject: Subject) -> str:
    """It needs a job."""
    return "" if subject.job else "no job is selected"


def needs_worker(subject: Subject) -> str:
    """It needs a machine."""
    return "" if subject.worker else "no machine is selected"


def can_cancel(subject: Subject) -> str:
    """A job that is open and not being cancelled yet; of many marked ones the question tells which are."""
    job = subject.job
    if subject.marked:
        return ""
    if job is None:
        return "no job is selected"
    if job.state not in {"pending", "running"}:
        return f"{job_label(job.id)} is {job.state} already"
    return f"{job_label(job.id)} is being cancelled already" if job.cancelling else ""


def can_retry(subject: Subject) -> str:
    """A finished job, or one that is held after faults."""
    job = subject.job
    if subject.marked:
        return ""
    if job is None:
        return "no job is selected"
    if job.state == "pending" and (job.why.startswith("held until") or "gpuscale retry" in job.why):
        return ""  # held after faults: another try at once
    return f"{job_label(job.id)} is {job.state}: only a finished job can be retried" if _is_open(job) else ""


def _is_open(job: JobRow) -> bool:
    return job.state in {"pending", "running"}


def has_snapshot(subject: Subject) -> str:
    """A snapshot that was not removed."""
    if subject.snapshot is None:
        return "no snapshot is selected"
    return "" if subject.snapshot.pruned_at is None else f"snapshot {subject.snapshot.number} was removed"


def any_snapshot(subject: Subject) -> str:
    """A snapshot, also one that was removed."""
    return "" if subject.snapshot else "no snapshot is selected"


def can_prune(subject: Subject) -> str:
    """Some that are marked, or one that was not removed."""
    return "" if subject.snapshots else has_snapshot(subject)


def can_get(subject: Subject) -> str:
    """One copy at a time."""
    return BUSY if subject.copying else has_snapshot(subject)


def can_verify(subject: Subject) -> str:
    """Some that are marked, or one that was not removed; while nothing else is read."""
    return BUSY if subject.copying else can_prune(subject)


def is_copying(subject: Subject) -> str:
    """A copy, or a verification, can be stopped."""
    return "" if subject.copying else "nothing is being copied or verified"


def can_save(subject: Subject) -> str:
    """A job that runs, and an engine that would do it."""
    if subject.engine == "none":
        return "no engine runs that would save it: E starts one"
    return "" if subject.marked else is_running(subject)


def is_running(subject: Subject) -> str:
    """A job that runs."""
    job = subject.job
    if job is None:
        return "no job is selected"
    return "" if job.state == "running" else f"{job_label(job.id)} is {job.state}: it runs on no machine now"


def can_drill(subject: Subject) -> str:
    """A job that waits or runs, and is not being rehearsed."""
    job = subject.job
    if job is None:
        return "no job is selected"
    if not _is_open(job):
        return f"{job_label(job.id)} is {job.state}: only a job that waits or runs can be rehearsed"
    under_way = job.rehearsal in {"wanted", "moving", "resumed"}
    return f"{job_label(job.id)} is being rehearsed already" if under_way else ""


def is_up(subject: Subject) -> str:
    """A machine that can be reached, as far as is known."""
    worker = subject.worker
    if worker is None:
        return "no machine is selected"
    gone = worker.state in {"released", "lost"}
    return f"{worker_label(worker.id)} is {worker.state}: it is not ours any more" if gone else ""


def can_edit(subject: Subject) -> str:
    """A job that waits."""
    job = subject.job
    if job is None:
        return "no job is selected"
    return "" if job.state == "pending" else f"{job_label(job.id)} is {job.state}: only a waiting job can be edited"


def can_reorder(subject: Subject) -> str:
    """A job that waits."""
    job = subject.job
    if subject.marked:
        return ""
    if job is None:
        return "no job is selected"
    return "" if job.state == "pending" else f"{job_label(job.id)} is {job.state}: only a waiting job has a priority"


def can_release(subject: Subject) -> str:
    """A machine that is up."""
    worker = subject.worker
    if subject.marked:
        return ""
    if worker is None:
        return "no machine is selected"
    if worker.state in {"released", "lost"}:
        return f"{worker_label(worker.id)} is {worker.state} already"
    return f"{worker_label(worker.id)} is being given back already" if worker.state == "releasing" else ""


def can_ban(subject: Subject) -> str:
    """An offer, whose host is then banned or not any more."""
    return "" if subject.offer else "no offer is selected"


def can_rent(subject: Subject) -> str:
    """An offer, and an engine that would carry it out."""
    if subject.offer is None:
        return "no offer is selected"
    return "no engine runs that would rent it: E starts one" if subject.engine == "none" else ""


def can_undo(subject: Subject) -> str:
    """Something was done a few seconds ago."""
    return "" if subject.undo else "there is nothing to undo, or it is too late"


def no_engine(subject: Subject) -> str:
    """No engine runs."""
    return "" if subject.engine == "none" else "an engine runs already"
