"""Budgets and lowered limits with the real engine: jobs are saved and put back, machines go back, nothing is silent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuscale_tui.model.settings import BudgetConfig
from gpuscale_tui.store import budgets
from gpuscale_tui.store.events import Event
from tests.engine.conftest import PATIENCE_SEC, Clock, Rig, until

STEPS = (
    'n=0; while :; do n=$((n+1)); echo $n > "$CHECKPOINT_DIR/t"; mv "$CHECKPOINT_DIR/t" "$CHECKPOINT_DIR/n";'
    " sleep 0.1; done"
)
HOUR_MS = 3_600_000


def limit(rig: Rig, **budget: object) -> None:
    rig.settings = replace(rig.settings, budget=BudgetConfig(**budget))  # type: ignore[arg-type]


def warnings(rig: Rig, words: str) -> list[Event]:
    return [event for event in rig.events() if event.kind == "warning" and words in event.detail]


def saved(rig: Rig, job_id: int) -> bool:
    return (rig.home.checkpoints / f"j{job_id}").exists()


@pytest.mark.parametrize("lowered", [{"max_workers": 1}, {"max_hourly_budget": 0.0}], ids=["number", "cap"])
def test_a_lowered_limit_takes_busy_machines_back_at_once(market: Rig, lowered: dict[str, float]) -> None:
    """P2 also after a start with lower limits than what is rented: saved, put back uncounted, said aloud."""
    ids = market.submit(STEPS, 2, checkpoint_dir=None)
    with market.engine(max_workers=2, max_hourly_budget=10):
        until(lambda: [market.job(job_id).state for job_id in ids] == ["running"] * 2)
        until(lambda: all(saved(market, job_id) for job_id in ids))
    stay = int(lowered.get("max_workers", 0))
    with market.engine(**{"max_workers": 2, "max_hourly_budget": 10, **lowered}):
        until(lambda: len(market.market.live_orders()) == stay)
        until(lambda: sorted(market.job(job_id).state for job_id in ids).count("pending") == 2 - stay)
        back = [market.job(job_id) for job_id in ids if market.job(job_id).state == "pending"]
        assert [row.cause for row in back] == ["budget"] * len(back)
        assert len(warnings(market, "to keep to the limits")) == 2 - stay
        until(lambda: sum(worker.state != "released" for worker in market.workers()) == stay)
    with market.engine(max_workers=2, max_hourly_budget=10):
        until(lambda: [market.job(job_id).state for job_id in ids] == ["running"] * 2)
        assert {market.attempts(row.id)[-1].cause for row in back} == {None}


def test_a_used_up_day_stops_everything_until_the_next(market: Rig) -> None:
    """Saved, given back, told; nothing is rented any more; at midnight UTC it goes on by itself."""
    limit(market, daily=0.2)
    clock = Clock()
    [job_id] = market.submit(STEPS)
    with market.engine(now=clock, max_hourly_budget=10):
        until(lambda: market.job(job_id).state == "running")
        until(lambda: saved(market, job_id))
        clock.ahead_ms = 40 * 60_000  # by our own reckoning it has cost more than that by now
        until(lambda: market.market.live_orders() == [])
        until(lambda: market.job(job_id).state == "pending")
        assert market.job(job_id).cause == "budget"
        until(lambda: "daily budget of $0.20 is used up" in market.job(job_id).why)
        assert warnings(market, "100 % of the daily budget of $0.20 are used")
        orders = len(market.market.orders())
        assert market.db.read(budgets.holds)
        clock.ahead_ms += 24 * HOUR_MS
        until(lambda: len(market.market.orders()) > orders)
        until(lambda: market.db.read(budgets.holds) == [])


def test_a_used_up_project_stops_its_jobs_only_and_keeps_the_machines(market: Rig) -> None:
    limit(market, projects={"p": 0.2})
    clock = Clock()
    [mine] = market.submit(STEPS, project="p")
    [other] = market.submit(STEPS, project="q")
    with market.engine(now=clock, max_hourly_budget=10, max_workers=2):
        until(lambda: [market.job(job_id).state for job_id in (mine, other)] == ["running"] * 2)
        until(lambda: saved(market, mine))
        clock.ahead_ms = 40 * 60_000
        until(lambda: market.job(mine).state == "pending")
        until(lambda: "budget of project p of $0.20 a month is used up" in market.job(mine).why)
        [third] = market.submit("true", project="q")
        until(lambda: market.job(third).state == "done")
        assert market.job(other).attempt == 1, "the other job was left alone"
        assert (market.job(mine).state, market.job(mine).attempt) == ("pending", 1)
    limit(market, projects={"p": 50.0})
    with market.engine(now=clock, max_hourly_budget=10, max_workers=3):
        until(lambda: market.job(mine).state == "running")


def test_a_job_that_has_used_up_its_budget_is_put_back_and_held_until_it_is_raised(market: Rig) -> None:
    """It never fails for it, and it says what would let it go on."""
    limit(market, per_job=0.1)
    clock = Clock()
    [job_id] = market.submit(STEPS)
    with market.engine(now=clock, max_hourly_budget=10):
        until(lambda: market.job(job_id).state == "running")
        until(lambda: saved(market, job_id))
        clock.ahead_ms = 20 * 60_000
        until(lambda: market.job(job_id).state == "pending")
        until(lambda: f"budget of j{job_id} of $0.10 is used up" in market.job(job_id).why)
        assert "or more in [budget] per_job" in market.job(job_id).why
        assert market.job(job_id).cause == "budget"
        until(lambda: market.market.live_orders() == [])
    with market.engine(max_hourly_budget=10):  # a hold outlives the engine
        assert market.db.read(budgets.holds)
        [later] = market.submit("true")
        until(lambda: market.job(later).state == "done")
        assert market.job(job_id).state == "pending"
    limit(market, per_job=50.0)
    with market.engine(max_hourly_budget=10):
        until(lambda: market.job(job_id).state == "running")
        until(lambda: market.db.read(budgets.holds) == [])


def test_bills_that_are_as_reckoned_are_no_matter(market: Rig) -> None:
    """The marketplace charges what it says: nothing to tell, also of a machine that it took away."""
    ids = market.submit("sleep 0.3", 3)
    [lost] = market.submit('test "$GPUSCALE_ATTEMPT" -gt 1 || sleep 600')
    with market.engine(exit_when_idle=True) as engine:
        until(lambda: market.job(lost).state == "running")
        market.market.evict(int(market.job(lost).order_id or 0))
        assert engine.wait(PATIENCE_SEC)
    assert [market.job(job_id).state for job_id in (*ids, lost)] == ["done"] * 4
    costs = market.costs()
    assert costs.total == market.market.bill()["total_micro"]
    assert abs(costs.difference) < 100, "begun minutes and clocks, no more"
    told = market.db.connection.execute("SELECT count(*) FROM notices WHERE kind = 'bill'").fetchone()[0]
    assert told == 0
