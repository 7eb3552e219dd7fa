"""What becomes of a job when an attempt ends: only the user's own error and the time limit fail it at once."""

from __future__ import annotations

from dataclasses import dataclass

from gpuscale_tui.model.states import FAILING_CAUSES, Cause, JobState

FIRST_PAUSE_MS = 5_000
LONGEST_PAUSE_MS = 300_000
COUNTED = frozenset({Cause.HOST_FAULT, Cause.PROVIDER_FAULT, Cause.PREEMPTED})
"""Causes that count towards a job's limit of retries: our own faults and the budget never fail a job."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of the job, how long (ms) it is held before it may run again, and whether this counts as a fault."""

    state: JobState
    pause_ms: int = 0
    counted: bool = False


def judge(cause: Cause, faults: int, retries: int, *, by_user: bool = False) -> Verdict:
    """Decide by the cause, the faults so far (without this one) and the limit of retries.

    Preemption is nobody's fault and waits for nothing; a fault of host or provider pauses the job, longer each time.
    Our own fault never counts, and the job pauses a little, so that it does not come round and round at once. A job
    that its user moved (`by_user`: a release, a stop of the engine) is put back without counting.
    """
    if cause == Cause.FINISHED:
        return Verdict(JobState.DONE)
    if cause in FAILING_CAUSES:
        return Verdict(JobState.FAILED)
    if cause == Cause.CANCELLED:
        return Verdict(JobState.CANCELLED)
    if by_user or cause not in COUNTED:
        return Verdict(JobState.PENDING, FIRST_PAUSE_MS if cause == Cause.OUR_FAULT else 0)
    if faults >= retries:
        return Verdict(JobState.FAILED, counted=True)
    if cause == Cause.PREEMPTED:
        return Verdict(JobState.PENDING, counted=True)
    return Verdict(JobState.PENDING, min(FIRST_PAUSE_MS * 2 ** min(faults, 10), LONGEST_PAUSE_MS), counted=True)
