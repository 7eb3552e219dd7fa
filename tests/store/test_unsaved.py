"""Work that stands in no snapshot: counted from the last one of this attempt, priced by the machine."""

from __future__ import annotations

from gpuscale_tui.model.states import AttemptState
from gpuscale_tui.store import snapshots, workers
from gpuscale_tui.store.snapshots import About
from gpuscale_tui.store.unsaved import lost_under_jobs, unsaved
from tests.store.support import DOLLAR, HOUR, Bench


def test_it_counts_from_the_start_and_then_from_the_newest_snapshot(bench: Bench) -> None:
    """An hour at a dollar an hour is a dollar, until a snapshot is taken; another attempt's counts for nothing."""
    attempt = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING)
    job = attempt.job_id
    bench.now += HOUR
    found = bench.read(unsaved, bench.now)[job]
    assert found.saved_at is None
    assert (found.ms, found.cost) == (HOUR, DOLLAR)
    bench.write(snapshots.record_snapshot, job, 1, attempt.number + 1, 1, 10, **bench.by)
    assert bench.read(unsaved, bench.now)[job].ms == HOUR
    bench.write(snapshots.record_snapshot, job, 2, attempt.number, 1, 10, **bench.by)
    taken = bench.now
    bench.now += HOUR // 2
    found = bench.read(unsaved, bench.now, [job])[job]
    assert (found.saved_at, found.since, found.ms, found.cost) == (taken, taken, HOUR // 2, DOLLAR // 2)
    assert bench.read(unsaved, bench.now, []) == {}
    assert bench.read(unsaved, bench.now, [job + 1]) == {}


def test_a_job_that_is_being_set_up_loses_nothing(bench: Bench) -> None:
    """Only once its command runs is there work."""
    bench.advance(bench.placed(), AttemptState.STAGING)
    assert bench.read(unsaved, bench.now + HOUR) == {}


def test_what_a_save_takes_is_the_median_of_the_last(bench: Bench) -> None:
    attempt = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING)
    job = attempt.job_id
    assert bench.read(unsaved, bench.now)[job].save_ms is None
    for number, took in enumerate((90_000, None, *([1_000] * 4), *([3_000] * 5)), 1):
        about = About(took_ms=took)
        bench.write(snapshots.record_snapshot, job, number, attempt.number, 1, 10, about=about, **bench.by)
    assert bench.read(unsaved, bench.now)[job].save_ms == 3_000


def test_losses_are_counted_by_provider_and_market(bench: Bench) -> None:
    """Machines that went under jobs, and the time in which they did not; one that was given back is none."""
    attempt = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING)
    before = bench.read(lost_under_jobs, attempt.job_id, bench.now)
    assert before is not None
    assert (before.ran_ms, before.lost) == (0, 0)
    bench.now += HOUR
    gone = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING)
    bench.now += HOUR
    bench.write(workers.confirm_gone, gone.worker_id, "evicted", cause=None, **bench.by)
    found = bench.read(lost_under_jobs, attempt.job_id, bench.now)
    assert found is not None
    assert (found.ran_ms, found.lost) == (3 * HOUR, 1)
    assert bench.read(lost_under_jobs, gone.job_id + 99, bench.now) is None
