"""Budgets and lowered limits with the real engine: jobs are saved and put back, machines go back, nothing is silent."""

from __future__ import annotations

from dataclasses import replace

from gpuscale_tui.model.settings import BudgetConfig
from gpuscale_tui.store import budgets
from gpuscale_tui.store.events import Event
from tests.engine.conftest import Rig, morning, until

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


def test_a_lowered_limit_takes_busy_machines_back_at_once(market: Rig) -> None:
    """P2 also after a start with lower limits than what is rented: saved, put back uncounted, said aloud."""
    ids = market.submit(STEPS, 2)
    with market.engine(max_workers=2, max_hourly_budget=10):
        until(lambda: [market.job(job_id).state for job_id in ids] == ["running"] * 2)
        until(lambda: all(saved(market, job_id) for job_id in ids))
    with market.engine(max_workers=1, max_hourly_budget=10):
        until(lambda: sum(worker.state != "released" for worker in market.workers()) == 1)
        [back] = [market.job(job_id) for job_id in ids if market.job(job_id).state == "pending"]
        assert back.cause == "budget"
        assert len(warnings(market, "to keep to the limits")) == 1
    with market.engine(max_workers=2, max_hourly_budget=0):
        until(lambda: market.market.live_orders() == [])
        until(lambda: [market.job(job_id).state for job_id in ids] == ["pending"] * 2)
        assert [market.job(job_id).cause for job_id in ids] == ["budget"] * 2
        assert len(warnings(market, "to keep to the limits")) == 2


def test_a_used_up_day_stops_everything_until_the_next(market: Rig) -> None:
    """Saved, given back, told; nothing is rented any more; at midnight UTC it goes on by itself."""
    limit(market, daily=0.2)
    clock = morning()
    [job_id] = market.submit(STEPS)
    with market.engine(now=clock, max_hourly_budget=10):
        until(lambda: market.job(job_id).state == "running")
        until(lambda: saved(market, job_id))
        clock.ahead_ms += 40 * 60_000  # by our own reckoning it has cost more than that by now
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


def test_a_used_up_project_or_job_stops_that_only_and_waits_until_it_is_raised(market: Rig) -> None:
    """No job fails for money; each says what would let it go on; the machines and the other jobs go on."""
    limit(market, projects={"p": 0.2}, per_job=50.0)
    clock = morning()
    [mine] = market.submit(STEPS, project="p")
    [other] = market.submit(STEPS, project="q")
    with market.engine(now=clock, max_hourly_budget=10, max_workers=2):
        until(lambda: [market.job(job_id).state for job_id in (mine, other)] == ["running"] * 2)
        until(lambda: saved(market, mine))
        clock.ahead_ms += 40 * 60_000
        until(lambda: market.job(mine).state == "pending")
        until(lambda: "budget of project p of $0.20 a month is used up" in market.job(mine).why)
        [third] = market.submit("true", project="q")
        until(lambda: market.job(third).state == "done")
        assert market.job(other).attempt == 1, "the other job was left alone"
        assert (market.job(mine).state, market.job(mine).attempt, market.job(mine).cause) == ("pending", 1, "budget")
    limit(market, projects={"p": 50.0}, per_job=0.1)
    with market.engine(now=clock, max_hourly_budget=10, max_workers=2):
        until(lambda: market.job(other).state == "pending")
        until(lambda: f"budget of j{other} of $0.10 is used up" in market.job(other).why)
        assert "or more in [budget] per_job" in market.job(other).why
        until(lambda: market.job(mine).attempt == 2)
    limit(market)
    with market.engine(max_hourly_budget=10):
        until(lambda: market.job(other).attempt == 2)
        until(lambda: market.db.read(budgets.holds) == [])
