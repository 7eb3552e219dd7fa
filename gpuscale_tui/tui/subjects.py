"""What an action would act on, and when it applies: each condition says why it does not, or nothing."""

from __future__ import annotations

from dataclasses import dataclass

from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.store.market import OfferRow
from gpuscale_tui.store.views import JobRow, WorkerRow


@dataclass(frozen=True, slots=True)
class Subject:
    """What an action would act on: what the cursor is on, and how things stand."""

    job: JobRow | None = None
    worker: WorkerRow | None = None
    engine: str = "none"
    offer: OfferRow | None = None


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
    """A job that is open and not being cancelled yet."""
    job = subject.job
    if job is None:
        return "no job is selected"
    if job.state not in {"pending", "running"}:
        return f"{job_label(job.id)} is {job.state} already"
    return f"{job_label(job.id)} is being cancelled already" if job.cancelling else ""


def can_retry(subject: Subject) -> str:
    """A finished job, or one that is held after faults."""
    job = subject.job
    if job is None:
        return "no job is selected"
    if job.state == "pending" and (job.why.startswith("held until") or "gpuscale retry" in job.why):
        return ""  # held after faults: another try at once
    return f"{job_label(job.id)} is {job.state}: only a finished job can be retried" if _is_open(job) else ""


def _is_open(job: JobRow) -> bool:
    return job.state in {"pending", "running"}


def can_reorder(subject: Subject) -> str:
    """A job that waits."""
    job = subject.job
    if job is None:
        return "no job is selected"
    return "" if job.state == "pending" else f"{job_label(job.id)} is {job.state}: only a waiting job has a priority"


def can_release(subject: Subject) -> str:
    """A machine that is up."""
    worker = subject.worker
    if worker is None:
        return "no machine is selected"
    if worker.state in {"released", "lost"}:
        return f"{worker_label(worker.id)} is {worker.state} already"
    return f"{worker_label(worker.id)} is being given back already" if worker.state == "releasing" else ""


def can_ban(subject: Subject) -> str:
    """An offer whose host is not banned."""
    if subject.offer is None:
        return "no offer is selected"
    return f"server {subject.offer.server_id} is banned already" if _is_banned(subject.offer) else ""


def can_unban(subject: Subject) -> str:
    """An offer whose host is banned."""
    if subject.offer is None:
        return "no offer is selected"
    return "" if _is_banned(subject.offer) else f"server {subject.offer.server_id} is not banned"


def _is_banned(offer: OfferRow) -> bool:
    return offer.verdict.startswith("banned")


def no_engine(subject: Subject) -> str:
    """No engine runs."""
    return "" if subject.engine == "none" else "an engine runs already"
