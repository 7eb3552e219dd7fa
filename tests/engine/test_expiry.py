"""When a machine whose rental ends by itself is given back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.engine.expiry import leaves_at
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.store import workers
from tests.store.support import HOUR, T0, Bench


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    bench = Bench(Path(tmp_path_factory.mktemp("expiry")) / "db")
    made = bench.worker_in(WorkerState.IDLE)
    bench.db.close()
    return made


@pytest.mark.parametrize(
    ("hours", "lead_ms", "expected"),
    [(168, 900_000, 168 * HOUR - 900_000), (1, 900_000, HOUR - 900_000), (1, 9 * HOUR, HOUR * 3 // 4), (1, 0, HOUR)],
)
def test_a_machine_leaves_before_its_end(worker: Worker, hours: int, lead_ms: int, expected: int) -> None:
    ending = replace(worker, held_from=T0, expires_at=T0 + hours * HOUR)
    assert leaves_at(ending, lead_ms) == T0 + expected


@given(length=st.integers(0, 10**12), lead_ms=st.integers(0, 10**9))
def test_most_of_a_rental_is_used_and_none_outlived(worker: Worker, length: int, lead_ms: int) -> None:
    leaves = leaves_at(replace(worker, held_from=T0, expires_at=T0 + length), lead_ms) - T0
    assert length * 3 // 4 <= leaves <= length


def test_only_machines_in_use_that_end_are_looked_at(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "db")
    endless, ending, leaving = (bench.worker_in(state) for state in (
        WorkerState.IDLE, WorkerState.BUSY, WorkerState.RELEASING,
    ))  # fmt: skip
    for each in (ending, leaving):
        bench.write(workers.seen, each.id, None, T0 + HOUR)
    assert [found.id for found in bench.read(workers.expiring)] == [ending.id]
    bench.write(workers.seen, ending.id, T0 + 1, T0 + 2 * HOUR)
    (found,) = bench.read(workers.expiring)
    assert (found.expires_at, found.up_at) == (T0 + 2 * HOUR, T0 + 1)
    bench.write(workers.seen, ending.id, T0 + 5, None)
    (found,) = bench.read(workers.expiring)
    assert (found.expires_at, found.up_at) == (T0 + 2 * HOUR, T0 + 1), "a listing that does not say takes nothing back"
    assert endless.expires_at is None
    bench.db.close()


def test_a_price_that_moved_counts_against_the_cap_from_then_on(tmp_path: Path) -> None:
    """A price in coins is worth another amount of dollars: the sum of what is committed must be the true one."""
    bench = Bench(tmp_path / "db")
    worker = bench.worker_in(WorkerState.BUSY)
    bench.write(workers.reprice, worker.id, 2 * worker.rate, **bench.by)
    assert bench.read(workers.committed_rate) == 2 * worker.rate
    found = bench.read(workers.get, worker.id)
    assert found is not None
    assert (found.rate, found.terms) == (2 * worker.rate, replace(worker.terms, rate=2 * worker.rate))
    assert "after $1.0000/h" in bench.value("SELECT detail FROM events ORDER BY id DESC LIMIT 1")
    bench.db.close()
