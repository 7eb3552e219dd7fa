"""Machines are tested before work, hosts pause after failures and are tried again, bans hold."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.engine import commands
from gpuscale_tui.engine.engine import utc_ms
from gpuscale_tui.engine.standing import host_rows
from gpuscale_tui.model.settings import MachinesConfig, SshConfig
from gpuscale_tui.policy import breakers
from gpuscale_tui.store import hosts
from gpuscale_tui.store import market as market_store
from gpuscale_tui.store.market import OfferRow
from tests.engine.conftest import Clock, Rig, hosts_rig, marketplace_rig, until
from tests.engine.test_marketplace import QUICK, assert_clean

WAIT_SEC = 200.0


def with_machines(rig: Rig, **values: Any) -> None:
    rig.settings = replace(rig.settings, machines=replace(rig.settings.machines, **values))


def kinds(rig: Rig) -> list[tuple[str, str]]:
    return [(outcome.server_id, str(outcome.kind)) for outcome in rig.db.read(hosts.outcomes, 0)]


def offers(rig: Rig) -> list[OfferRow]:
    return [row for row in rig.db.read(market_store.offers, "RTX 4090") if row.gpu_count == 1]


def test_a_machine_that_is_not_what_it_was_offered_as_goes_back(tmp_path: Path) -> None:
    """The job runs elsewhere; the machine's cost is booked as rejected, its host pauses, and it is said why."""
    with marketplace_rig(tmp_path, "--fault", "wrong_gpu=1") as rig:
        [job_id] = rig.submit(QUICK)
        rig.drain(WAIT_SEC, max_workers=1)
        assert rig.job(job_id).state == "done"
        bad, good = rig.workers()[::-1]
        assert bad.server_id != good.server_id
        assert kinds(rig) == [
            (bad.server_id, "failed_test"), (good.server_id, "ready"), (good.server_id, "returned"),
        ]  # fmt: skip
        [told] = [
            event.detail for event in rig.events() if event.kind == "warning" and "failed its test" in event.detail
        ]
        assert "has 1x GTX 1060 6GB, offered as 1x RTX 4090" in told
        spans = rig.db.read(
            lambda connection: connection.execute(
                "SELECT worker_id, kind FROM spans WHERE kind IN ('rejected', 'setup')"
            ).fetchall()
        )
        assert [tuple(span) for span in spans] == [(bad.id, "rejected"), (good.id, "setup")]
        rows = {row.history.server_id: row for row in rig.db.read(host_rows, MachinesConfig(), utc_ms())}
        assert rows[bad.server_id].stands.startswith("paused until")
        assert rows[good.server_id].stands == ""
        assert rig.db.read(hosts.examination_of, good.id) is not None
        assert_clean(rig)


def test_a_banned_host_is_not_rented(market: Rig) -> None:
    """The two that would cost least are banned: another is taken, and the market says why."""
    servers = {str(row["id"]): row for row in market.market.servers()}
    with market.engine(max_workers=1):
        until(lambda: len(offers(market)) > 3, WAIT_SEC)
        cheapest = [row.server_id for row in offers(market) if not row.verdict]
    assert set(cheapest) <= set(servers)
    market.command(commands.ban, "host", cheapest[0], provider="clore", reason="slow")
    market.command(commands.ban, "host", cheapest[1], provider="clore")
    [job_id] = market.submit(QUICK)
    market.drain(WAIT_SEC, max_workers=1)
    assert market.job(job_id).state == "done"
    [worker] = market.workers()
    assert worker.server_id in cheapest[2:]
    verdicts = {row.server_id: row.verdict for row in offers(market)}
    assert verdicts[cheapest[0]].startswith("banned by tester: slow")


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this computer has the GPU that must be missing")
def test_a_host_pauses_and_is_tried_again_and_pauses_for_longer(tmp_path: Path) -> None:
    """A host of our own without the GPU that its settings promise: open, half open, open for twice as long."""
    with hosts_rig(tmp_path, 1) as rig:
        [host] = rig.settings.providers.ssh.hosts
        promised = SshConfig(hosts=(replace(host, gpu_type="RTX 4090", gpu_count=1),))
        rig.settings = replace(rig.settings, providers=replace(rig.settings.providers, ssh=promised))
        clock = Clock()
        rig.submit(QUICK, gpu_type="RTX 4090")
        with rig.engine(now=clock):
            for tries, pause_sec in ((1, 60), (2, 120)):
                until(lambda: [kind for _, kind in kinds(rig)] == ["failed_test"] * tries, WAIT_SEC)  # noqa: B023
                until(lambda: "1 paused after a failure" in rig.jobs()[0].why, WAIT_SEC)
                failed_at = rig.db.read(hosts.outcomes, 0)[-1].at
                [row] = rig.db.read(host_rows, MachinesConfig(), clock())
                assert breakers.clock(failed_at + pause_sec * 1000) in row.stands
                assert "offered as 1x RTX 4090" in row.stands
                clock.ahead_ms += (pause_sec + 5) * 1000
            until(lambda: len(kinds(rig)) == 3, WAIT_SEC)
        assert rig.jobs()[0].state == "pending"


def test_an_image_that_comes_up_nowhere_stops_the_renting(tmp_path: Path) -> None:
    """Set-up money is not burnt for ever: the breaker of the image opens, says so, and is told to the outside."""
    with marketplace_rig(tmp_path, "--fault", "never_boot=9") as rig:
        with_machines(rig, image_failures=1)
        rig.patience(5)
        [job_id] = rig.submit(QUICK)
        with rig.engine(max_workers=1):
            until(lambda: "nothing is rented for the image" in rig.job(job_id).why, WAIT_SEC)
            assert [kind for _, kind in kinds(rig)] == ["no_start"]
            assert len(rig.market.orders()) == 1
            notices = "SELECT count(*) FROM notices WHERE kind = 'breaker' AND text LIKE 'image %'"
            assert rig.db.read(lambda connection: connection.execute(notices).fetchone()[0]) == 1


def test_set_up_money_of_a_group_is_bounded(tmp_path: Path) -> None:
    """Once it is reached the group waits, says how to go on, and `retry` is a way."""
    with marketplace_rig(tmp_path, "--fault", "wrong_gpu=1") as rig:
        with_machines(rig, max_setup_usd=0.000001)
        [job_id] = rig.submit(QUICK)
        with rig.engine(exit_when_idle=True, max_workers=1) as engine:
            until(lambda: "gpuscale retry" in rig.job(job_id).why, WAIT_SEC)
            assert len(rig.market.orders()) == 1
            assert rig.command(commands.retry, [job_id]) == [(job_id, True)]
            assert engine.wait(WAIT_SEC)
        assert rig.job(job_id).state == "done"


def test_a_host_of_our_own_is_only_told_about(tmp_path: Path) -> None:
    """It is what it is: a wrong clock and a full disk are remarks; GPUs that are not there are impossible."""
    with hosts_rig(tmp_path, 1) as rig:
        with_machines(rig, min_free_disk_gb=900_000)
        [job_id] = rig.submit(QUICK)
        rig.drain(WAIT_SEC)
        assert rig.job(job_id).state == "done"
        assert any("min_free_disk_gb is 900000" in event.detail for event in rig.events())
        assert [kind for _, kind in kinds(rig)] == ["ready", "returned"]


def test_a_user_may_go_without_tests(tmp_path: Path) -> None:
    """`test = false`: nothing is asked of a machine but SSH."""
    with marketplace_rig(tmp_path, "--fault", "wrong_gpu=1") as rig:
        with_machines(rig, test=False)
        [job_id] = rig.submit(QUICK)
        rig.drain(WAIT_SEC, max_workers=1)
        assert rig.job(job_id).state == "done"
        assert [kind for _, kind in kinds(rig)] == ["ready", "returned"]
