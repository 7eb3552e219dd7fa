"""How an attempt or a machine comes to its end in the store: the store's commands composed, one transaction each."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gpuscale_tui.model.hosts import OutcomeKind
from gpuscale_tui.model.jobs import Attempt, Job, job_label, worker_label
from gpuscale_tui.model.states import AttemptState, Cause, JobState, WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy.breakers import MINUTE_MS, Rule, job_hold_ms
from gpuscale_tui.policy.outcomes import judge
from gpuscale_tui.store import hosts, jobs, losses, notices, saving, spans, workers
from gpuscale_tui.store.jobs import Ending
from gpuscale_tui.store.losses import Kept
from gpuscale_tui.store.notices import NoticeKind
from gpuscale_tui.store.why import PROBABLY_THE_JOB

MACHINES_FAULTS = frozenset({Cause.HOST_FAULT, Cause.PROVIDER_FAULT})
JOB_RULE = Rule(failures=3, first_ms=10 * MINUTE_MS, longest_ms=6 * 60 * MINUTE_MS)
"""How many different machines in a row may fail under a job before it pauses, and for how long it does."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What a machine has cost in micro-dollars; `final` when that is the provider's own last word."""

    total: int
    final: bool


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """Why an attempt ended. `by_user`: its user moved it, which is nobody's fault. `output_bytes`: how much of its
    output is stored, None where that was noted before. `step`: the last that its output told. `all_saved`: it ended by
    itself, and what it left was stored after that: nothing is lost."""

    cause: Cause
    exit_code: int | None = None
    error: str | None = None
    by_user: bool = False
    output_bytes: int | None = None
    step: int | None = None
    all_saved: bool = False


def attempt_over(
    connection: sqlite3.Connection, attempt: Attempt, end: AttemptEnd, *, retries: int, now: int, epoch: int | None
) -> bool:
    """End an attempt and settle its job as policy says; False when it had ended before."""
    job = jobs.get(connection, attempt.job_id)
    if job is None:
        raise LookupError(f"job {attempt.job_id} does not exist")
    if end.output_bytes is not None:
        jobs.record_output(connection, attempt.job_id, attempt.number, end.output_bytes)
    limit = retries if job.spec.retries is None else job.spec.retries
    verdict = judge(end.cause, job.faults, limit, by_user=end.by_user)
    error = end.error
    done = verdict.state == JobState.DONE
    if verdict.counted and job.faults >= limit:
        error = f"{end.error or end.cause}; given up after {job.faults + 1} faults (its limit of retries is {limit})"
    hold = _job_hold(connection, attempt, end) if verdict.state == JobState.PENDING and verdict.counted else None
    if hold is not None:
        error = hold.text(job, end.error or end.cause)
    current = jobs.get_attempt(connection, attempt.job_id, attempt.number) or attempt
    kept = losses.kept(connection, current)
    pause_ms = max(verdict.pause_ms, 0 if hold is None else hold.pause_ms)
    settled = Ending(
        cause=end.cause,
        job_state=verdict.state,
        exit_code=end.exit_code,
        error=error,
        not_before=now + pause_ms if pause_ms else None,
        counted=verdict.counted,
        saved_at=now if done or end.all_saved else kept.at,
    )
    ended = jobs.end_attempt(connection, attempt, settled, now=now, epoch=epoch)
    if ended and hold is not None:
        notices.add(connection, now, NoticeKind.BREAKER, f"{job_label(job.id)} pauses: {error}", job_id=job.id)
    if ended and end.cause == Cause.HOST_FAULT:
        _note_fault(connection, attempt, end, now)
    if ended and not done and not end.all_saved:
        _note_loss(connection, current, kept, end, now=now, epoch=epoch)
    if ended:
        saving.answer(connection, attempt, "no snapshot any more: its attempt has ended", now=now, epoch=epoch)
        _tell_end(connection, job, verdict.state, error, now)
    if verdict.state == JobState.PENDING:
        jobs.cancel_requeued(connection, attempt.job_id, now=now, epoch=epoch)
    return ended


def _note_loss(
    connection: sqlite3.Connection, attempt: Attempt, kept: Kept, end: AttemptEnd, *, now: int, epoch: int | None
) -> None:
    """What this end cost, in time, money and steps."""
    step = losses.told_step(connection, attempt) if end.step is None else end.step
    lost = losses.measure(connection, attempt, kept, step=step, now=now)
    if lost is not None:
        losses.record(connection, attempt, lost, now=now, epoch=epoch)


@dataclass(frozen=True, slots=True)
class _Hold:
    """A job pauses because so many different machines in a row failed under it."""

    machines: int
    pause_ms: int

    def text(self, job: Job, error: str) -> str:
        """What its user is told."""
        return (
            f"{self.machines} machines in a row failed under it, so {PROBABLY_THE_JOB}: see `gpuscale logs"
            f" {job_label(job.id)}`; `gpuscale retry {job_label(job.id)}` tries at once (the last: {error})"
        )


def _job_hold(connection: sqlite3.Connection, attempt: Attempt, end: AttemptEnd) -> _Hold | None:
    """Whether this end opens the job's breaker."""
    worker = workers.get(connection, attempt.worker_id)
    if end.cause not in MACHINES_FAULTS or worker is None:
        return None
    before = [(host, cause in MACHINES_FAULTS) for host, cause in hosts.recent_machines(connection, attempt.job_id)]
    machines, pause_ms = job_hold_ms([*before, ((worker.provider, worker.server_id), True)], JOB_RULE)
    return _Hold(machines, pause_ms) if pause_ms else None


def _note_fault(connection: sqlite3.Connection, attempt: Attempt, end: AttemptEnd, now: int) -> None:
    """A fault under a job counts against a machine that stays; one that goes back for it has been noted."""
    worker = workers.get(connection, attempt.worker_id)
    if worker is not None and worker.cause != Cause.HOST_FAULT and worker.ended_at is None:
        hosts.note(connection, worker, OutcomeKind.JOB_FAULT, end.error or "", now=now, stays=True)


def _tell_end(connection: sqlite3.Connection, job: Job, state: JobState, error: str | None, now: int) -> None:
    """A notice of a job that is over; its user knows of one that they cancelled."""
    name = f"{job_label(job.id)} {job.spec.name}".rstrip()
    if state == JobState.DONE:
        notices.add(connection, now, NoticeKind.JOB_DONE, f"{name} is done", job_id=job.id)
    elif state == JobState.FAILED:
        notices.add(connection, now, NoticeKind.JOB_FAILED, f"{name} failed: {error or 'no reason'}", job_id=job.id)


def _tell_loss(connection: sqlite3.Connection, worker: Worker, detail: str, now: int) -> None:
    """A notice of a machine that went by itself; `worker` is as it was before."""
    carried = "" if worker.job_id is None else f"; {job_label(worker.job_id)} ran on it"
    text = f"{worker_label(worker.id)} is lost: {detail}{carried}"
    notices.add(connection, now, NoticeKind.MACHINE_LOST, text, worker_id=worker.id, job_id=worker.job_id)


def machine_gone(
    connection: sqlite3.Connection,
    worker_id: int,
    detail: str,
    cause: Cause | None,
    bill: Bill,
    *,
    step: int | None = None,
    retries: int,
    now: int,
    epoch: int | None,
) -> None:
    """The provider has confirmed that a machine is gone: end it, its attempt (`step` is the last that it told, where
    that is known) and its books."""
    before = workers.get(connection, worker_id)
    gone = workers.confirm_gone(connection, worker_id, detail, cause=cause, now=now, epoch=epoch)
    if gone.state != WorkerState.RELEASING:
        _tell_loss(connection, gone, detail, now)
    if before is not None and gone.job_id is not None and gone.attempt is not None:
        attempt = jobs.get_attempt(connection, gone.job_id, gone.attempt)
        if attempt is not None and attempt.state != AttemptState.ENDED:
            end = AttemptEnd(
                gone.cause or cause or Cause.PREEMPTED, error=f"its machine is gone: {detail}",
                by_user=gone.cause is None and cause is None, step=step,
            )  # fmt: skip
            attempt_over(connection, attempt, end, retries=retries, now=now, epoch=epoch)
    spans.book(connection, worker_id, bill.total, now, billed=bill.final)
