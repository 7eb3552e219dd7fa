"""What becomes of a job: every cause, by the user or not, at every count of faults."""

from __future__ import annotations

from itertools import product

import pytest

from gpuscale_tui.model.states import FAILING_CAUSES, JOB_TRANSITIONS, Cause, JobState
from gpuscale_tui.policy.outcomes import LONGEST_PAUSE_MS, Verdict, judge

DONE, FAILED, CANCELLED, AGAIN = (
    Verdict(JobState.DONE), Verdict(JobState.FAILED), Verdict(JobState.CANCELLED), Verdict(JobState.PENDING),
)  # fmt: skip
SOON = Verdict(JobState.PENDING, 5_000)
LAST = Verdict(JobState.FAILED, counted=True)


def paused(ms: int) -> Verdict:
    return Verdict(JobState.PENDING, ms, counted=True)


# By cause: the verdict with no fault yet, with 3 faults, at the limit of 5, beyond it; then the same by the user.
TABLE = {
    Cause.FINISHED: ([DONE] * 4, [DONE] * 4),
    Cause.USER_ERROR: ([FAILED] * 4, [FAILED] * 4),
    Cause.TIMEOUT: ([FAILED] * 4, [FAILED] * 4),
    Cause.CANCELLED: ([CANCELLED] * 4, [CANCELLED] * 4),
    Cause.PREEMPTED: ([paused(0), paused(0), LAST, LAST], [AGAIN] * 4),
    Cause.HOST_FAULT: ([paused(5_000), paused(40_000), LAST, LAST], [AGAIN] * 4),
    Cause.PROVIDER_FAULT: ([paused(5_000), paused(40_000), LAST, LAST], [AGAIN] * 4),
    Cause.OUR_FAULT: ([SOON] * 4, [SOON] * 4),
    Cause.BUDGET: ([AGAIN] * 4, [AGAIN] * 4),
}
FAULTS = (0, 3, 5, 6)


def test_the_table_is_complete() -> None:
    assert set(TABLE) == set(Cause)


@pytest.mark.parametrize(("cause", "by_user", "column"), product(Cause, (False, True), range(4)))
def test_every_cell(cause: Cause, by_user: bool, column: int) -> None:
    expected = TABLE[cause][by_user][column]
    assert judge(cause, FAULTS[column], 5, by_user=by_user) == expected


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("faults", range(8))
@pytest.mark.parametrize("retries", [0, 1, 5, 10_000])
@pytest.mark.parametrize("by_user", [False, True])
def test_what_holds_everywhere(cause: Cause, faults: int, retries: int, by_user: bool) -> None:
    verdict = judge(cause, faults, retries, by_user=by_user)
    assert verdict.state in JOB_TRANSITIONS[JobState.RUNNING]
    assert 0 <= verdict.pause_ms <= LONGEST_PAUSE_MS
    assert not verdict.pause_ms or verdict.state == JobState.PENDING
    if verdict.state == JobState.FAILED:
        assert cause in FAILING_CAUSES or (verdict.counted and faults >= retries and not by_user)
    if by_user or cause in {Cause.OUR_FAULT, Cause.BUDGET}:
        assert not verdict.counted


def test_no_retries_fail_at_the_first_fault() -> None:
    assert judge(Cause.PREEMPTED, 0, 0) == LAST


def test_the_pause_doubles_up_to_five_minutes() -> None:
    pauses = [judge(Cause.HOST_FAULT, faults, 10_000).pause_ms for faults in range(9)]
    assert pauses == [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000, 300_000]
    assert judge(Cause.HOST_FAULT, 9_999, 10_000).pause_ms == LONGEST_PAUSE_MS
