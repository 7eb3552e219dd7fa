"""The treasurer's one transaction: what is told once, what is held back until when, and what goes back first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.engine.treasurer import keep
from gpuscale_tui.model.budget import DAY_MS, Budget, Reserve, Scope, day_start
from gpuscale_tui.model.states import Cause, JobState, WorkerState
from gpuscale_tui.store import budgets, demand, snapshots, spans, workers
from tests.store.support import DOLLAR, HOUR, Bench

MINUTE = 60_000
RESERVE = Reserve(MINUTE, 0)
CAP = 100 * DOLLAR


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "home" / "gpuscale.db")
    made.now = day_start(made.now) + 10 * HOUR
    yield made
    made.db.close()


def budget(**limits: Any) -> Budget:
    return Budget(**limits, reserve=RESERVE)


def treasure(bench: Bench, limits: Budget, cap: int = CAP) -> bool:
    return bench.write(keep, limits, cap, grace_ms=MINUTE, **bench.by)


def pay(bench: Bench, worker_id: int, total: int) -> None:
    bench.write(spans.book, worker_id, total, bench.now, billed=True)


def told(bench: Bench) -> list[str]:
    found = bench.db.connection.execute("SELECT text FROM notices WHERE kind = 'budget' ORDER BY id")
    return [row["text"] for row in found]


def test_each_step_is_told_once_in_its_time_and_again_in_the_next(bench: Bench) -> None:
    worker = bench.idle(0)
    limits = budget(daily=10 * DOLLAR)
    for total in (4, 5, 6, 8, 9):
        pay(bench, worker.id, total * DOLLAR)
        for _ in range(3):
            treasure(bench, limits)
    assert [text.split(" are used")[0] for text in told(bench)] == [
        "50 % of the daily budget of $10.00", "80 % of the daily budget of $10.00",
    ]  # fmt: skip
    assert told(bench)[1] == "80 % of the daily budget of $10.00 are used: $8.00 spent, $0.00 committed"
    bench.now += DAY_MS
    treasure(bench, limits)
    assert len(told(bench)) == 2
    pay(bench, worker.id, 14 * DOLLAR)
    treasure(bench, limits)
    assert len(told(bench)) == 3, "a new day"
    treasure(bench, budget(daily=6 * DOLLAR))
    assert len(told(bench)) == 4, "another limit"


def test_the_cap_is_told_of_once_a_day_and_holds_nothing(bench: Bench) -> None:
    bench.idle(8 * DOLLAR)
    for _ in range(3):
        treasure(bench, budget(), cap=10 * DOLLAR)
    assert told(bench) == ["80 % of the cap of $10.00/h are committed: $8.00/h"]
    assert bench.read(budgets.holds) == []
    bench.now += DAY_MS
    treasure(bench, budget(), cap=10 * DOLLAR)
    assert len(told(bench)) == 2


def test_a_used_up_day_gives_back_all_that_costs_with_least_to_lose_first(bench: Bench) -> None:
    saved, unsaved = bench.placed(), bench.placed()
    idle, free = bench.idle(DOLLAR), bench.idle(0)
    bench.now += HOUR
    bench.write(snapshots.record_snapshot, saved.job_id, 1, saved.number, 1, 1, **bench.by)
    bench.now += MINUTE
    assert treasure(bench, budget(daily=3 * DOLLAR))
    gone = [
        row["worker_id"]
        for row in bench.db.connection.execute("SELECT worker_id FROM events WHERE to_state = 'releasing' ORDER BY id")
    ]
    assert gone == [idle.id, saved.worker_id, unsaved.worker_id]
    assert bench.worker(free.id).state == WorkerState.IDLE, "what costs nothing goes on"
    assert {bench.worker(each).cause for each in gone} == {Cause.BUDGET}
    assert not treasure(bench, budget(daily=3 * DOLLAR)), "and nothing happens twice"


def test_a_limit_that_was_used_up_stays_so_until_it_is_raised_or_its_time_is_over(bench: Bench) -> None:
    worker = bench.idle(DOLLAR)
    bench.now += 5 * HOUR
    limits = budget(daily=4 * DOLLAR)
    assert treasure(bench, limits)
    bench.write(workers.confirm_gone, worker.id, "gone", cause=None, **bench.by)
    pay(bench, worker.id, 3 * DOLLAR)  # the bill was lower than reckoned
    treasure(bench, limits)
    (hold,) = bench.read(budgets.holds)
    assert (hold.scope, hold.amount) == (Scope.DAY, 4 * DOLLAR)
    assert treasure(bench, budget(daily=5 * DOLLAR)), "raised"
    assert bench.read(budgets.holds) == []
    treasure(bench, budget(daily=2 * DOLLAR))
    assert [hold.amount for hold in bench.read(budgets.holds)] == [2 * DOLLAR]
    bench.now += DAY_MS
    assert treasure(bench, budget(daily=2 * DOLLAR)), "a new day"
    assert bench.read(budgets.holds) == []
    warnings = [
        row["detail"] for row in bench.db.connection.execute("SELECT detail FROM events WHERE kind = 'warning'")
    ]
    assert sum("is used up" in text for text in warnings) == 2
    assert sum("work goes on" in text for text in warnings) == 2, "never silent"


def test_projects_users_and_jobs_are_stopped_and_the_machines_stay(bench: Bench) -> None:
    mine, hers, dear = bench.placed(project="p"), bench.placed(user="ada"), bench.placed()
    for attempt, cost in ((mine, 2), (hers, 3), (dear, 5)):
        bench.now += HOUR
        pay(bench, attempt.worker_id, cost * DOLLAR)
    limits = budget(projects={"p": DOLLAR, "q": DOLLAR}, users={"ada": DOLLAR}, per_job=4 * DOLLAR)
    assert treasure(bench, limits)
    assert set(bench.read(budgets.stopping)) == {mine.job_id, hers.job_id, dear.job_id}
    assert {bench.worker(each.worker_id).state for each in (mine, hers, dear)} == {WorkerState.BUSY}
    for attempt in (mine, hers, dear):
        bench.end(attempt, Cause.BUDGET, JobState.PENDING)
    treasure(bench, limits)
    assert bench.read(demand.waiting) == []
    assert len(bench.read(budgets.holds)) == 3
    treasure(bench, budget(projects={"p": 9 * DOLLAR}, users={"ada": DOLLAR}, per_job=9 * DOLLAR))
    assert {job.id for job in bench.read(demand.waiting)} == {mine.job_id, dear.job_id}
    treasure(bench, budget())
    assert len(bench.read(demand.waiting)) == 3, "without limits nothing is held"


def test_a_waiting_job_that_has_cost_too_much_is_held_by_a_new_limit(bench: Bench) -> None:
    attempt = bench.placed()
    bench.now += HOUR
    pay(bench, attempt.worker_id, 2 * DOLLAR)
    bench.end(attempt, Cause.PREEMPTED, JobState.PENDING)
    treasure(bench, budget(per_job=DOLLAR))
    assert bench.read(demand.waiting) == []
    assert "raise" not in bench.read(budgets.holds)[0].reason
    assert "or more in [budget] per_job" in bench.read(budgets.holds)[0].reason


def test_a_day_of_bookings_is_no_slower_to_judge_than_an_hour(bench: Bench) -> None:
    """The sums are kept, not made: the ledger itself is not read."""
    worker = bench.idle(0)
    pay(bench, worker.id, DOLLAR)
    plans = bench.db.connection.execute(
        "EXPLAIN QUERY PLAN SELECT coalesce(sum(amount), 0) FROM spent WHERE scope = 'all' AND name = '' AND day >= 1"
    ).fetchall()
    assert [row["detail"] for row in plans] == ["SEARCH spent USING PRIMARY KEY (scope=? AND name=? AND day>?)"]
