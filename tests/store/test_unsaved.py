"""Work that stands in no snapshot: counted from the last one of this attempt, priced by the machine."""

from __future__ import annotations

from gpuscale_tui.model.states import AttemptState
from gpuscale_tui.store import snapshots
from gpuscale_tui.store.unsaved import unsaved
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
