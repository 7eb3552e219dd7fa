"""The engine against a marketplace that misbehaves: nothing forgotten, nothing ordered twice, the bill exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuscale_tui.engine import commands
from tests.engine.conftest import PATIENCE_SEC, WAIT, Clock, Rig, marketplace_rig, until

FOREIGN_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDVHIyQMZbV7Mi2Cc7GvXhSxWcsXbkRFwEGQXxW8mXsm"
QUICK = "echo from $GPUSCALE_JOB_ID; sleep 0.3"


def assert_clean(rig: Rig) -> None:
    """Nothing is rented any more, by both books, and the books agree to the micro-dollar."""
    assert rig.market.live_orders() == []
    assert {worker.state for worker in rig.workers()} <= {"released", "lost"}
    bill = rig.market.bill()
    costs = rig.costs()
    assert costs.total == bill["total_micro"]
    assert costs.productive + costs.setup + costs.idle + costs.rejected + costs.lost == costs.total


def struck(rig: Rig, fault: str) -> int:
    """How often a fault has struck by now."""
    return int(rig.market.faults()[fault]["struck"])


def creates(rig: Rig) -> int:
    return len(rig.market.orders())


def test_six_jobs_run_and_everything_is_given_back(market: Rig) -> None:
    """The main job: rent, run, finish, give back; what we book is what the marketplace bills."""
    ids = market.submit(QUICK, 6)
    market.drain()
    assert [market.job(job_id).state for job_id in ids] == ["done"] * 6
    assert [market.output(job_id) for job_id in ids] == [f"from j{job_id}\n".encode() for job_id in ids]
    assert 1 <= creates(market) <= 3
    assert_clean(market)


@pytest.mark.parametrize("fault", ["create_500_after_success=1", "create_reply_lost=1", "create_lost_race=1"])
def test_an_answer_that_says_nothing_is_settled_by_listing(tmp_path: Path, fault: str) -> None:
    """A create call is never repeated to find out; the order that came of it is found, or surely does not exist."""
    with marketplace_rig(tmp_path, "--fault", fault) as rig:
        rig.submit(QUICK)
        rig.drain(max_workers=1)
        assert rig.jobs()[0].state == "done"
        assert_clean(rig)
        servers = [order["server"] for order in rig.market.orders()]
        assert len(servers) == 1


def test_an_order_that_never_came_stays_reserved_until_that_is_certain(tmp_path: Path) -> None:
    """After an answer that says nothing the price stays reserved; listings over the provider's lag free it."""
    with marketplace_rig(tmp_path, "--fault", "create_500=1") as rig:
        [job_id] = rig.submit(QUICK)
        rig.patience(600)
        clock = Clock()
        with rig.engine(exit_when_idle=True, now=clock, max_workers=1) as engine:
            until(lambda: [event for event in rig.events() if "order unknown" in event.detail])
            listings = len(rig.market.log())
            until(lambda: len(rig.market.log()) > listings + 8)
            assert [worker.state for worker in rig.workers()] == ["ordering"]
            clock.ahead_ms = 61_000
            assert engine.wait(PATIENCE_SEC)
        assert rig.job(job_id).state == "done"
        assert [worker.state for worker in rig.workers()] == ["released", "released"]
        assert creates(rig) == 1


def test_one_empty_listing_proves_nothing(market: Rig) -> None:
    """An empty list after a create or while machines run loses nothing and orders nothing again."""
    [job_id] = market.submit(f"{WAIT} echo end")
    with market.engine(exit_when_idle=True) as engine:
        until(lambda: market.job(job_id).state == "running")
        market.market.fault(my_orders_empty=1)
        until(lambda: struck(market, "my_orders_empty") == 1)
        market.gate.touch()
        assert engine.wait(PATIENCE_SEC)
    assert market.job(job_id).state == "done"
    assert market.job(job_id).attempt == 1
    assert creates(market) == 1
    assert_clean(market)


def test_listing_errors_prove_nothing(market: Rig) -> None:
    """A marketplace that answers 500 for a while changes nothing but a notice."""
    [job_id] = market.submit(f"{WAIT} echo end")
    with market.engine(exit_when_idle=True) as engine:
        until(lambda: market.job(job_id).state == "running")
        market.market.fault(my_orders_500=6)
        until(lambda: struck(market, "my_orders_500") == 6)
        market.gate.touch()
        assert engine.wait(PATIENCE_SEC)
    assert market.job(job_id).attempt == 1
    assert any("nothing is concluded" in event.detail for event in market.events())
    assert_clean(market)


def test_an_evicted_job_goes_on_elsewhere_from_its_checkpoint(market: Rig) -> None:
    """A machine that vanishes costs the work since the last snapshot; the next attempt resumes from it."""
    script = (
        'n=$(cat "$CHECKPOINT_DIR/step" 2>/dev/null || echo 0); echo "resume from ${GPUSCALE_RESUME_FROM:-nothing}";'
        ' while [ "$n" -lt 8 ]; do n=$((n+1)); echo "step $n"; echo "$n" > "$CHECKPOINT_DIR/.t";'
        ' mv "$CHECKPOINT_DIR/.t" "$CHECKPOINT_DIR/step"; [ "$GPUSCALE_ATTEMPT" -gt 1 ] || sleep 300; done'
    )
    [job_id] = market.submit(script)
    with market.engine(exit_when_idle=True) as engine:
        until(lambda: any("snapshot 1 saved" in event.detail for event in market.events()))
        [order] = market.market.live_orders()
        market.market.evict(order["order"])
        assert engine.wait(PATIENCE_SEC)
    job = market.job(job_id)
    assert (job.state, job.attempt) == ("done", 2)
    first, second = market.attempts(job_id)
    assert first.cause == "preempted"
    assert second.resumed_from is not None
    resumed = market.output(job_id, 2).decode().splitlines()
    assert resumed[0].startswith("resume from /")
    assert int(resumed[1].split()[1]) > 1
    assert resumed[-1] == "step 8"
    assert market.costs().lost >= 0
    assert_clean(market)


@pytest.mark.parametrize("fault", ["cancel_500_but_works=1", "cancel_500=1", "cancel_lingers=2"])
def test_giving_back_goes_on_until_it_is_confirmed(tmp_path: Path, fault: str) -> None:
    """Only the marketplace's listing says that a machine is gone; asking is repeated until then."""
    with marketplace_rig(tmp_path, "--fault", fault) as rig:
        rig.submit(QUICK)
        rig.drain()
        assert_clean(rig)


def test_a_machine_that_never_boots_goes_back_and_another_is_taken(tmp_path: Path) -> None:
    """It is cancelled at the deploy time-out, booked as rejected, and its server is left alone."""
    with marketplace_rig(tmp_path, "--fault", "never_boot=1") as rig:
        rig.patience(6)
        [job_id] = rig.submit(QUICK)
        rig.drain(max_workers=1)
        assert rig.job(job_id).state == "done"
        servers = [order["server"] for order in rig.market.orders()]
        assert len(servers) >= 2
        assert len(set(servers)) == len(servers)
        assert rig.costs().rejected > 0
        assert_clean(rig)


def test_dropped_connections_leave_the_log_byte_exact(tmp_path: Path) -> None:
    """The command outlives its connections; nothing of its output is lost or doubled."""
    with marketplace_rig(tmp_path, "--fault", "ssh_drop=1,count=3") as rig:
        [job_id] = rig.submit("i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo line $i; sleep 0.01; done")
        rig.drain()
        expected = b"".join(b"line %d\n" % number for number in range(1, 401))
        assert rig.output(job_id) == expected
        assert rig.job(job_id).attempt == 1
        assert_clean(rig)


def test_a_running_job_is_cancelled_and_stays_so(market: Rig) -> None:
    """Cancelling ends the command's processes, and the job is not put back."""
    [job_id] = market.submit("trap '' HUP; sleep 300 & echo started; wait")
    with market.engine(exit_when_idle=True) as engine:
        until(lambda: market.job(job_id).state == "running" and market.output(job_id))
        assert market.command(commands.cancel, [job_id]) == [(job_id, "cancelling")]
        assert engine.wait(PATIENCE_SEC)
    assert (market.job(job_id).state, market.job(job_id).cause) == ("cancelled", "cancelled")
    assert_clean(market)


def test_the_cap_holds_however_many_jobs_arrive(tmp_path: Path) -> None:
    """Hundreds of jobs at once: the marketplace itself never sees more than the cap rented."""
    with marketplace_rig(tmp_path, "--fault", "create_500_after_success=2") as rig:
        rig.submit("sleep 0.2", 120)
        rig.drain(max_hourly_budget=0.9, max_workers=10)
        assert {job.state for job in rig.jobs()} == {"done"}
        assert peak_rate(rig) <= 900_000
        assert_clean(rig)


def peak_rate(rig: Rig) -> int:
    """The highest sum of rates (micro-dollars per hour) that were committed at the same time, by our own events."""
    live: dict[int, int] = {}
    rates = {worker.id: worker.rate for worker in rig.workers()}
    peak = 0
    for event in rig.events():
        if event.kind == "worker" and event.worker_id is not None and event.to_state is not None:
            live[event.worker_id] = 0 if event.to_state in {"released", "lost"} else rates[event.worker_id]
            peak = max(peak, sum(live.values()))
    return peak


def test_what_others_rented_on_the_account_is_never_touched(market: Rig) -> None:
    """An order that we did not place stays, even on the same account."""
    import httpx

    [free] = [server["id"] for server in market.market.servers() if not server["rented"]][:1]
    reply = httpx.post(
        f"{market.market.url}/create_order",
        headers={"auth": market.market.api_key},
        json={
            "renting_server": free, "type": "on-demand", "currency": "USD-Blockchain", "image": "ubuntu",
            "ports": {"22": "tcp"}, "ssh_key": FOREIGN_KEY,
        },
    ).json()  # fmt: skip
    assert reply == {"code": 0}
    market.submit(QUICK)
    market.drain()
    assert [order["server"] for order in market.market.live_orders()] == [free]
