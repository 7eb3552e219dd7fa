"""`audit`, `reap` and `stop --now` against a marketplace that lies: what is ours goes back, and nothing else."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner, Result

from gpuscale_tui.cli.root import root
from gpuscale_tui.engine import commands
from gpuscale_tui.store.home import Home
from tests.engine.conftest import Rig, until
from tests.engine.test_marketplace import FOREIGN_KEY, assert_clean


def verb(rig: Rig, *words: str, home: Path | None = None, key: str | None = None) -> Result:
    """Run a verb in this process, on the rig's marketplace."""
    config = rig.home.path.parent / "config.toml"
    config.write_text(
        f'[providers.clore]\nenabled = true\nbase_url = "{rig.market.url}"\nrequest_interval_sec = 0.02\n'
        "[scaler]\npoll_interval_sec = 0.3\n"
    )
    environ = {
        "GPUSCALE_HOME": str(home or rig.home.path), "GPUSCALE_CONFIG": str(config),
        "CLORE_API_KEY": key or rig.market.api_key,
    }  # fmt: skip
    result = CliRunner().invoke(root, words, env=environ)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rent_by_hand(rig: Rig) -> int:
    """A rental that somebody made on the provider's page; returns its server."""
    free = next(server["id"] for server in rig.market.servers() if not server["rented"])
    reply = httpx.post(
        f"{rig.market.url}/create_order",
        headers={"auth": rig.market.api_key},
        json={
            "renting_server": free, "type": "on-demand", "currency": "USD-Blockchain", "image": "ubuntu",
            "ports": {"22": "tcp"}, "ssh_key": FOREIGN_KEY,
        },
    ).json()  # fmt: skip
    assert reply == {"code": 0}
    return int(free)


def rows(result: Result) -> dict[str, list[str]]:
    """Orders by kind, of an audit's JSON."""
    found: dict[str, list[str]] = {}
    for row in json.loads(result.stdout)["rentals"]:
        found.setdefault(row["kind"], []).append(row["order_id"])
    return found


def a_running_machine(rig: Rig) -> str:
    """Rent one, run a job on it, and let the engine die; returns its order."""
    [job_id] = rig.submit("sleep 600")
    with rig.engine(max_workers=1):
        until(lambda: rig.job(job_id).state == "running")
    [worker] = [worker for worker in rig.workers() if worker.state == "busy"]
    assert worker.order_id is not None
    return worker.order_id


def forget(rig: Rig) -> None:
    """The store believes that the machines are gone, as two lying listings would make it."""
    with rig.db.connection as connection:
        connection.execute("UPDATE jobs SET state = 'pending', worker_id = NULL")
        connection.execute("UPDATE attempts SET state = 'ended', ended_at = 1")
        connection.execute("UPDATE workers SET state = 'lost', ended_at = held_from + 1000, job_id = NULL")


def test_what_is_ours_is_found_watched_and_given_back_by_hand(market: Rig, tmp_path: Path) -> None:
    """The same machine as it is seen with an engine, without one, by a home that has lost its store, and by nobody."""
    assert verb(market, "audit").exit_code == 0, "nothing is rented"
    foreign = rent_by_hand(market)
    order = a_running_machine(market)
    result = verb(market, "audit", "--json")
    assert result.exit_code == 1, "money runs, and nobody watches it"
    found = json.loads(result.stdout)
    assert (found["clean"], found["engine"], found["unattended"]) == (False, None, 1)
    assert rows(result)["known"] == [order]
    assert found["totals"]["known"]["price_per_hour"] > 0
    assert "no engine runs" in verb(market, "audit").stderr

    lost = verb(market, "audit", "--json", home=tmp_path / "new")
    assert rows(lost).keys() == {"foreign"}, "without a record nothing is proved ours"
    assert "no rental can be proved ours" in json.loads(lost.stdout)["store"]
    assert verb(market, "reap", "--yes", "--all-ours", home=tmp_path / "new").exit_code == 0
    assert len(market.market.live_orders()) == 2, "and nothing is touched"

    market.market.fault(http_500={"path": "my_orders"})
    unread = verb(market, "audit")
    assert unread.exit_code == 1, "a provider that cannot be read is not one without rentals"
    assert "clore could not be read, and may have machines that cost money" in unread.stderr
    assert verb(market, "reap", "--yes").exit_code == 1
    market.market.fault(http_500=False)

    with market.engine(max_workers=1):
        until(lambda: market.jobs()[0].state == "running")
        assert verb(market, "audit").exit_code == 0
        refused = verb(market, "reap", "--yes", "--all-ours")
        assert refused.exit_code == 4
        assert "gpuscale stop --now" in refused.stderr
    result = verb(market, "reap", "--yes", "--all-ours")
    assert result.exit_code == 0, result.output
    assert [live["server"] for live in market.market.live_orders()] == [foreign]
    assert [worker.state for worker in market.workers()] == ["released"]
    assert market.jobs()[0].state == "pending"


def test_orphans_are_given_back_and_what_is_foreign_is_only_shown(market: Rig) -> None:
    foreign = rent_by_hand(market)
    order = a_running_machine(market)
    forget(market)
    before = verb(market, "audit", "--json")
    assert before.exit_code == 1
    assert rows(before)["orphan"] == [order]
    assert len(rows(before)["foreign"]) == 1
    assert verb(market, "reap").exit_code == 2, "it is not asked where there is no terminal"
    assert len(market.market.live_orders()) == 2
    result = verb(market, "reap", "--yes")
    assert result.exit_code == 0, result.output
    assert "1 rental given back; the providers confirm it" in result.stdout
    assert [live["server"] for live in market.market.live_orders()] == [foreign]
    assert verb(market, "audit").exit_code == 0, "foreign rentals are not ours to worry about"
    assert verb(market, "reap").exit_code == 0, "nothing to ask"
    bill = {str(row["order"]): row["total_micro"] for row in market.market.bill()["orders"]}
    until(lambda: market.costs().total == bill[order])


def test_a_provider_that_fails_is_asked_again_also_beside_an_engine(market: Rig) -> None:
    """And believed only after listings agree."""
    a_running_machine(market)
    forget(market)
    market.market.fault(cancel_500=2)
    with market.engine(max_workers=0):
        assert verb(market, "reap", "--yes").exit_code == 0
        until(lambda: market.market.live_orders() == [])


def test_stop_now_stays_until_the_provider_confirms(market: Rig) -> None:
    """The marketplace says yes and lets the machine live on, longer than shutdown_grace_sec."""
    [job_id] = market.submit("sleep 600")
    with market.engine(max_workers=1, shutdown_grace_sec=0.2) as engine:
        until(lambda: market.job(job_id).state == "running")
        market.market.fault(cancel_lingers=1.5)
        asked = threading.Event()

        def stop() -> Result:
            asked.set()
            return verb(market, "stop", "--now")

        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(stop()))
        thread.start()
        assert asked.wait(10)
        assert engine.wait(60)
        thread.join(60)
    [result] = results
    assert result.exit_code == 0, result.output
    assert "/h still runs" in result.stderr
    assert "nothing is rented" in result.stdout
    assert market.market.live_orders() == []
    assert [worker.state for worker in market.workers()] == ["released"]
    assert_clean(market)


def test_a_system_that_shuts_down_is_not_kept_waiting(market: Rig) -> None:
    """By a signal the engine ends within its grace, also after somebody had asked it to stay."""
    [job_id] = market.submit("sleep 600")
    with market.engine(max_workers=1, shutdown_grace_sec=0.5) as engine:
        until(lambda: market.job(job_id).state == "running")
        market.market.fault(cancel_lingers=600)
        market.command(commands.stop, at_once=True)
        until(lambda: [event for event in market.events() if "asked again until they are" in event.detail])
        assert engine.alive
        engine.stop(at_once=True)
        assert engine.wait(30)
    assert [worker.state for worker in market.workers()] == ["releasing"]


def test_a_home_that_was_never_used_has_nothing(tmp_path: Path) -> None:
    """Without any provider there is nothing to read."""
    environ = {"GPUSCALE_HOME": str(Home(tmp_path / "h").path), "GPUSCALE_CONFIG": str(tmp_path / "c.toml")}
    (tmp_path / "c.toml").write_text("")
    result = CliRunner().invoke(root, ["audit"], env=environ)
    assert result.exit_code == 0
    assert "no provider lists anything" in result.stderr
    assert not (tmp_path / "h").exists()
