"""Many callers at once, each with its own connection: the cap holds, a job is placed once, a stale engine is out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuscale_tui.model.states import Cause, JobState, OrderOutcome, WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.store import engines, jobs, workers
from gpuscale_tui.store.database import StaleEngine, connect, transact
from gpuscale_tui.store.workers import CapReached
from tests.store.support import DOLLAR, T0, Bench, intent, spec

T = TypeVar("T")
LIMITS = engines.Limits(10 * DOLLAR, 5)


def at_once(path: Path, callers: int, work: Callable[[Any, int], T]) -> list[T]:
    """Run `work(connection, number)` from so many threads, all let go at the same moment."""
    gate = threading.Barrier(callers)

    def call(number: int) -> T:
        with closing(connect(path)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            gate.wait(90)
            return work(connection, number)

    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(call, range(callers)))


def test_a_job_is_placed_by_exactly_one_of_many_callers(bench: Bench) -> None:
    idle = [bench.idle().id for _ in range(8)]
    (job_id,) = bench.submit()
    placed = at_once(bench.path, 8, lambda c, n: transact(c, None, jobs.place, job_id, idle[n], now=T0, epoch=None))
    winners = [attempt for attempt in placed if attempt is not None]
    assert len(winners) == 1
    assert [worker.id for worker in bench.read(workers.live) if worker.state == WorkerState.BUSY] == [
        winners[0].worker_id
    ]
    assert bench.value("SELECT count(*) FROM attempts") == 1


def test_a_machine_takes_exactly_one_of_many_jobs(bench: Bench) -> None:
    worker = bench.idle()
    ids = bench.submit(8)
    placed = at_once(bench.path, 8, lambda c, n: transact(c, None, jobs.place, ids[n], worker.id, now=T0, epoch=None))
    assert sum(attempt is not None for attempt in placed) == 1
    assert bench.value("SELECT count(*) FROM jobs WHERE state = 'running'") == 1


def test_a_queue_is_shared_out_without_loss_or_repetition(bench: Bench) -> None:
    idle = [bench.idle().id for _ in range(6)]
    ids = bench.submit(60)

    def drain(connection: Any, number: int) -> list[int]:
        taken = []
        for job_id in ids:
            attempt = transact(connection, None, jobs.place, job_id, idle[number], now=T0, epoch=None)
            if attempt is not None:
                taken.append(job_id)
                ending = jobs.Ending(Cause.FINISHED, JobState.DONE)
                assert transact(connection, None, jobs.end_attempt, attempt, ending, now=T0, epoch=None)
        return taken

    taken = [job_id for part in at_once(bench.path, 6, drain) for job_id in part]
    assert sorted(taken) == ids
    assert bench.value("SELECT count(*) FROM attempts WHERE state = 'ended'") == 60


rates = st.lists(st.integers(1, 3 * DOLLAR), min_size=100, max_size=300)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(rates=rates, cap=st.integers(0, 40 * DOLLAR), limit=st.integers(1, 40), data=st.data())
def test_hundreds_of_intents_at_once_never_pass_the_cap(
    tmp_path_factory: pytest.TempPathFactory, rates: list[int], cap: int, limit: int, data: st.DataObject
) -> None:
    """What is ordered, in doubt, booting, working or going back counts; only what is confirmed gone makes room."""
    bench = Bench(tmp_path_factory.mktemp("cap") / "gpuscale.db")
    fates = data.draw(st.lists(st.integers(0, 6), min_size=len(rates), max_size=len(rates)))
    parts = 5

    def rent(connection: Any, number: int) -> list[tuple[int, bool]]:
        """Order, and let each order take a turn of its own, as an engine would meanwhile."""
        seen = []
        for rate, fate in list(zip(rates, fates, strict=True))[number::parts]:
            written = transact(connection, None, _rent_and_observe, rate, cap, limit, fate)
            seen.append(written)
        return seen

    seen = [observed for part in at_once(bench.path, parts, rent) for observed in part]
    assert max(committed for committed, _ in seen) <= cap
    assert bench.read(workers.committed_rate) <= cap
    assert len(bench.read(workers.live)) <= limit
    refused = sum(not accepted for _, accepted in seen)
    assert len(rates) == refused + bench.value("SELECT count(*) FROM workers")
    bench.db.close()


def _rent_and_observe(connection: Any, rate: int, cap: int, limit: int, fate: int) -> tuple[int, bool]:
    """One intent with what becomes of it; returns the rate that is committed at the dearest moment."""
    worker = workers.write_intent(connection, intent(rate, cap, limit), now=T0, epoch=None)
    dearest = workers.committed_rate(connection)
    if isinstance(worker, Worker):
        _live_on(connection, worker.id, fate)
    return max(dearest, workers.committed_rate(connection)), isinstance(worker, Worker)


def _live_on(connection: Any, worker_id: int, fate: int) -> None:
    by = {"now": T0, "epoch": None}
    if fate == 0:
        workers.record_outcome(connection, worker_id, OrderOutcome.UNKNOWN, "timed out", **by)  # type: ignore[arg-type]
    if fate in {1, 2, 3, 4}:
        workers.adopt(connection, worker_id, workers.Adoption(f"o{worker_id}", T0, None), **by)  # type: ignore[arg-type]
    if fate in {2, 3}:
        workers.begin_release(connection, worker_id, "enough", **by)  # type: ignore[arg-type]
    if fate == 3:
        workers.confirm_gone(connection, worker_id, "gone", cause=None, **by)  # type: ignore[arg-type]
    if fate == 5:
        workers.refuse(connection, worker_id, "sold", Cause.PROVIDER_FAULT, **by)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", list(WorkerState))
def test_what_counts_against_the_cap(bench: Bench, state: WorkerState) -> None:
    bench.worker_in(state)
    room = 1 if state in {WorkerState.RELEASED, WorkerState.LOST} else 0
    rented = bench.write(workers.write_intent, intent(DOLLAR, cap=DOLLAR), **bench.by)
    assert isinstance(rented, Worker) == bool(room)
    if isinstance(rented, CapReached):
        assert rented.reason == ("$1.00/h of the cap of $1.00/h are committed; this machine would need $1.00/h more")
    assert isinstance(bench.write(workers.write_intent, intent(1, max_workers=1), **bench.by), CapReached), (
        "the number of machines is limited in the same way"
    )


def test_the_cap_may_be_used_to_the_last_micro_dollar(bench: Bench) -> None:
    assert isinstance(bench.write(workers.write_intent, intent(7, cap=7), **bench.by), Worker)
    assert isinstance(bench.write(workers.write_intent, intent(1, cap=7), **bench.by), CapReached)


def test_an_order_in_doubt_stays_reserved_until_the_provider_has_said(bench: Bench) -> None:
    worker = bench.order(DOLLAR)
    for outcome in OrderOutcome:
        bench.write(workers.record_outcome, worker.id, outcome, "?", **bench.by)
        assert bench.read(workers.committed_rate) == DOLLAR
    bench.write(workers.refuse, worker.id, "three listings lack it", Cause.PROVIDER_FAULT, **bench.by)
    assert bench.read(workers.committed_rate) == 0


def test_a_stale_engine_changes_nothing(bench: Bench) -> None:
    old = bench.write(engines.begin_epoch, 1, "screen", LIMITS, T0)
    worker = bench.idle()
    (job_id,) = bench.submit()
    new = bench.write(engines.begin_epoch, 2, "autopilot", LIMITS, T0 + 1)
    assert new == old + 1
    before = list(bench.db.connection.iterdump())
    bench.epoch = old
    with pytest.raises(StaleEngine, match="another engine"):
        bench.write(jobs.place, job_id, worker.id, **bench.by)
    with pytest.raises(StaleEngine):
        bench.write(workers.write_intent, intent(), **bench.by)
    assert list(bench.db.connection.iterdump()) == before
    bench.epoch = new
    assert bench.write(jobs.place, job_id, worker.id, **bench.by) is not None


def test_an_engine_without_a_row_may_not_write(bench: Bench) -> None:
    bench.epoch = 1
    with pytest.raises(StaleEngine):
        bench.submit()


def test_many_engines_beginning_at_once_get_epochs_of_their_own(bench: Bench) -> None:
    epochs = at_once(bench.path, 6, lambda c, n: transact(c, None, engines.begin_epoch, n, "screen", LIMITS, T0))
    assert sorted(epochs) == [1, 2, 3, 4, 5, 6]


def test_many_programs_may_make_the_same_home_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "gpuscale.db"
    ids = at_once(path, 6, lambda c, n: transact(c, None, jobs.insert, [spec(name=f"n{n}")], T0)[0])
    assert sorted(ids) == [1, 2, 3, 4, 5, 6]
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["gpuscale.db"], "nothing half-made is left"


def test_ids_are_handed_out_without_gaps_to_many_submitters(bench: Bench) -> None:
    batches = at_once(bench.path, 5, lambda c, n: [transact(c, None, jobs.insert, [spec()] * 3, T0) for _ in range(8)])
    ids = [job_id for part in batches for batch in part for job_id in batch]
    assert sorted(ids) == list(range(1, 121))
    assert all(batch == list(range(batch[0], batch[0] + 3)) for part in batches for batch in part)
