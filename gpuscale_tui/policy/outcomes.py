"""What becomes of a job when an attempt ends: only the user's own error and the time limit fail it at once."""

from __future__ import annotations

from dataclasses import dataclass

from gpuscale_tui.model.states import Cause, JobState

FIRST_PAUSE_MS = 5_000
LONGEST_PAUSE_MS = 300_000
UNCOUNTED = frozenset({Cause.OUR_FAULT, Cause.BUDGET})


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of the job, and how long it is held before it may run again (ms)."""

    state: JobState
    pause_ms: int = 0


def judge(cause: Cause, faults: int, retries: int) -> Verdict:
    """Decide by the cause, the faults so far (without this one) and the limit of retries.

    Preemption is nobody's fault and waits for nothing; a fault of host or provider pauses the job, longer each time.
    Our own faults and the budget never count towards the limit.
    """
    if cause == Cause.FINISHED:
        return Verdict(JobState.DONE)
    if cause in {Cause.USER_ERROR, Cause.TIMEOUT}:
        return Verdict(JobState.FAILED)
    if cause == Cause.CANCELLED:
        return Verdict(JobState.CANCELLED)
    if cause in UNCOUNTED:
        return Verdict(JobState.PENDING)
    if faults >= retries:
        return Verdict(JobState.FAILED)
    if cause == Cause.PREEMPTED:
        return Verdict(JobState.PENDING)
    return Verdict(JobState.PENDING, min(FIRST_PAUSE_MS * 2 ** min(faults, 10), LONGEST_PAUSE_MS))
