"""Spot machines, rentals that end, wallets that run dry, on the sandbox: nothing is lost, our books are its bill."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.model.offers import Market
from gpuscale_tui.store import wallets
from tests.engine.conftest import WAIT, Clock, Rig, marketplace_rig, until
from tests.engine.test_marketplace import assert_clean

COUNTS = (
    'n=$(cat "$CHECKPOINT_DIR/step" 2>/dev/null || echo 0); echo "from step $n";'
    ' while [ "$n" -lt 3 ] || [ ! -e "$GATE" ]; do n=$((n+1)); echo "$n" > "$CHECKPOINT_DIR/.t";'
    ' mv "$CHECKPOINT_DIR/.t" "$CHECKPOINT_DIR/step"; sleep 0.3; done; echo end'
)
"""Counts until the gate opens, from its newest checkpoint."""


def order_spot(rig: Rig, order_type: str = "spot", **scaler: Any) -> None:
    """Rent this way where a job does not say."""
    clore = replace(rig.settings.providers.clore, order_type=order_type)
    providers = replace(rig.settings.providers, clore=clore)
    rig.settings = replace(rig.settings, providers=providers, scaler=replace(rig.settings.scaler, **scaler))


@pytest.fixture
def spot(market: Rig) -> Rig:
    order_spot(market)
    return market


def kinds(rig: Rig) -> list[str]:
    return [order["kind"] for order in rig.market.orders()]


def line(rig: Rig, order: int) -> Any:
    return next(each for each in rig.market.bill()["orders"] if each["order"] == order)


def saved(rig: Rig, snapshot: int = 1) -> bool:
    return any(f"snapshot {snapshot} saved" in event.detail for event in rig.events())


def test_a_spot_job_runs_and_is_billed_as_spot(spot: Rig) -> None:
    [job_id] = spot.submit("echo $GPUSCALE_JOB_ID")
    spot.drain()
    assert spot.job(job_id).state == "done"
    assert kinds(spot) == ["spot"]
    (worker,) = spot.workers()
    (bill,) = spot.market.bill()["orders"]
    assert worker.market == "spot"
    assert abs(worker.rate - bill["price_per_day_micro"] * 1.0125 / 24) <= 1
    assert_clean(spot)


def test_a_jobs_own_word_wins(market: Rig) -> None:
    for wanted in Market:
        market.submit("true", market=wanted)
    market.drain()
    assert sorted(kinds(market)) == ["on-demand", "spot"]
    assert_clean(market)


def test_auto_rents_what_costs_less(market: Rig) -> None:
    order_spot(market, "auto")
    for factor in (1.0, 3.0):
        market.market.switch("floor", factor=factor)
        market.submit("true")
        market.drain()
    assert kinds(market) == ["spot", "on-demand"]
    assert_clean(market)


def test_an_outbid_job_goes_on_elsewhere_and_its_order_is_given_back(spot: Rig) -> None:
    """The order stays listed and waits: it must not begin to cost again when nobody looks."""
    [job_id] = spot.submit(COUNTS)
    with spot.engine(exit_when_idle=True, max_workers=1) as engine:
        until(lambda: saved(spot))
        [order] = spot.market.live_orders()
        spot.market.fault(outbid_after={"value": 0, "server": order["server"]})
        until(lambda: line(spot, order["order"])["ended_ms"] is not None)
        spot.market.switch("bid", server=order["server"], factor=0)
        until(lambda: spot.job(job_id).attempt == 2)
        spot.gate.touch()
        assert engine.wait(100)
        assert engine.failure is None
    job = spot.job(job_id)
    assert (job.state, job.attempt) == ("done", 2)
    first, second = spot.attempts(job_id)
    assert (first.cause, second.resumed_from is not None) == ("preempted", True)
    assert spot.output(job_id, 2).startswith(b"from step ")
    assert not spot.output(job_id, 2).startswith(b"from step 0")
    taken, following = spot.market.orders()
    assert taken["server"] != following["server"], "the server that threw us out is left alone for a while"
    assert_clean(spot)


def test_a_bid_that_waits_is_cancelled_and_another_machine_is_taken(spot: Rig) -> None:
    """An order that is accepted and never runs costs nothing, and the queue does not wait for it for ever."""
    order_spot(spot, "spot", spot_wait_sec=1.0)
    spot.market.fault(create_outbid=1)
    [job_id] = spot.submit("true")
    spot.drain(max_workers=1)
    assert (spot.job(job_id).state, spot.job(job_id).attempt) == ("done", 1)
    waited, ran = spot.market.bill()["orders"]
    assert (waited["total_micro"], waited["up_ms"], waited["reason"]) == (0, None, "cancelled")
    assert ran["server"] != waited["server"]
    assert any("spot_wait_sec" in event.detail for event in spot.events())
    assert_clean(spot)


def test_a_bid_under_a_floor_that_moved_is_placed_again_at_the_new_one(spot: Rig) -> None:
    """The refusal names the floor; nobody is paused for it."""
    spot.market.fault(create_price_moved={"value": 1.2, "count": 1})
    [job_id] = spot.submit("true")
    spot.drain(max_workers=1)
    assert spot.job(job_id).state == "done"
    assert any("under the server's floor" in event.detail for event in spot.events())
    refused, rented = spot.workers() if spot.workers()[0].id == 1 else reversed(spot.workers())
    assert (refused.cost, rented.rate > 0) == (0, True)
    assert_clean(spot)


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Rig]:
    """A marketplace whose first rental ends by itself after a while."""
    with marketplace_rig(tmp_path, "--fault", "short_rental=3600,count=1") as rig:
        yield rig


def test_a_job_is_saved_and_moved_before_its_machine_ends(short: Rig) -> None:
    """The end of the rental is no fault: the job goes on elsewhere from a snapshot taken at the last moment."""
    [job_id] = short.submit(COUNTS)
    clock = Clock()
    with short.engine(max_workers=1, now=clock) as engine:
        until(lambda: saved(short))
        engine.stop(at_once=False)  # no new machine while the clock is wrong
        clock.ahead_ms = 2_700_000
        assert engine.wait(100)
    assert short.market.live_orders() == []
    assert (short.job(job_id).state, short.job(job_id).attempt) == ("pending", 1)
    assert any("its rental ends at" in event.detail for event in short.events())
    short.gate.touch()
    short.drain(max_workers=1)
    first, second = short.attempts(job_id)
    assert (short.job(job_id).state, first.cause) == ("done", "preempted")
    assert second.resumed_from is not None
    assert short.db.read(lambda db: db.execute("SELECT max(faults) FROM jobs").fetchone()[0]) == 0
    assert_clean(short)


def test_a_wallet_that_runs_low_is_told_once_and_one_that_cannot_pay_an_hour_orders_nothing(market: Rig) -> None:
    order_spot(market, "on-demand", low_balance_hours=3.0)
    market.market.switch("balance", usd=0.3)
    [job_id] = market.submit(WAIT)
    with market.engine(exit_when_idle=True, max_workers=2) as engine:
        until(lambda: any("low_balance_hours" in event.detail for event in market.events()))
        until(lambda: market.job(job_id).state == "running")
        (wallet,) = market.db.read(wallets.wallets, 0)
        assert (wallet.provider, wallet.name) == ("clore", "USD-Blockchain")
        assert wallet.low_since is not None
        market.submit("true")
        until(lambda: "are left in USD-Blockchain, and one hour" in why(market))
        assert len(market.market.orders()) == 1
        market.gate.touch()
        assert engine.wait(100)
    told = [event for event in market.events() if "low_balance_hours" in event.detail]
    assert len(told) == 1
    assert notices(market) == 1
    assert_clean(market)


def test_an_empty_wallet_ends_machines_and_loses_no_job(market: Rig) -> None:
    """Its machines end at zero; the job waits and goes on once the wallet can pay again."""
    [job_id] = market.submit(COUNTS)
    clock = Clock()
    with market.engine(exit_when_idle=True, max_workers=1, now=clock) as engine:
        until(lambda: saved(market))
        market.market.switch("balance", usd=0)
        until(lambda: market.job(job_id).state == "pending")
        market.market.switch("balance", usd=50)
        clock.ahead_ms = 90_000  # the wallet is read again, and pauses are over
        until(lambda: market.job(job_id).attempt == 2)
        market.gate.touch()
        assert engine.wait(100)
    assert market.job(job_id).state == "done"
    assert market.attempts(job_id)[1].resumed_from is not None
    assert_clean(market)


def why(rig: Rig) -> str:
    found = rig.db.read(lambda connection: connection.execute("SELECT reason FROM group_reasons").fetchall())
    return " ".join(row[0] for row in found)


def notices(rig: Rig) -> int:
    count = rig.db.read(lambda db: db.execute("SELECT count(*) FROM notices WHERE kind = 'balance'").fetchone()[0])
    return int(count)
