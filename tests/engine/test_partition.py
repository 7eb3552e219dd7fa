"""The network goes away and comes back; a job stands still: what changes, and what does not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from gpuscale_tui.cli import shapes
from gpuscale_tui.engine import watcher
from gpuscale_tui.model.settings import ProvidersConfig, SshConfig
from gpuscale_tui.policy import patience as policy_patience
from gpuscale_tui.remote import connection, protocol, site
from gpuscale_tui.store import queries
from gpuscale_tui.store.why import NOT_LOOKED_AT
from tests.engine.conftest import PATIENCE_SEC, Rig, until
from tests.remote.proxy import Proxy, proxying

LINES = "i=0; until [ -e $GATE ]; do i=$((i+1)); echo line $i; sleep 0.02; done; echo last $i"


@contextmanager
def wire(rig: Rig) -> Iterator[Proxy]:
    """The rig's hosts behind one line that can be held, which runs on a thread of its own."""
    made: list[Proxy] = []
    ready, loop, over = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    [port] = {host.port for host in rig.settings.providers.ssh.hosts}

    async def run() -> None:
        async with proxying(port) as proxy:
            made.append(proxy)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert ready.wait(PATIENCE_SEC)
        hosts = tuple(replace(host, port=made[0].port) for host in rig.settings.providers.ssh.hosts)
        rig.settings = replace(rig.settings, providers=ProvidersConfig(ssh=SshConfig(hosts=hosts)))
        yield made[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(PATIENCE_SEC)
        loop.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead line is noticed in seconds, and a silence of a second is worth a warning, not one of minutes."""
    monkeypatch.setattr(site, "connect", partial(connection.connect, keepalive_sec=1.0))
    monkeypatch.setattr(site, "CONNECT_SEC", 3.0)
    monkeypatch.setattr(connection, "CHANNEL_OPEN_SEC", 3.0)
    monkeypatch.setattr(protocol, "ANSWER_SEC", 5.0)
    monkeypatch.setattr(watcher, "WARN_SEC", 1.0)


def liveness(rig: Rig) -> dict[str, Any]:
    rows = rig.db.read(queries.worker_rows)
    return {row.label: shapes.worker(row)["liveness"] for row in rows}


def warnings(rig: Rig, text: str) -> list[str]:
    return [event.detail for event in rig.events() if event.kind == "warning" and text in event.detail]


@pytest.mark.openssh
@pytest.mark.usefixtures("impatient")
def test_a_partition_changes_nothing_but_a_notice(hosts: Rig) -> None:
    """A busy machine keeps its job, an idle one takes none; both are unreachable, neither is gone. When the network
    is back the log is complete, and nothing has run twice."""
    [job_id] = hosts.submit(f'echo "$GPUSCALE_ATTEMPT" >> "$HOME/ran"; {LINES}', retries=0)
    patient = {"lost_contact_sec": 900.0, "idle_timeout_sec": 900.0, "min_workers": 2}
    with wire(hosts) as line, hosts.engine(exit_when_idle=True, **patient) as engine:
        until(lambda: set(liveness(hosts).values()) == {"alive"} and len(liveness(hosts)) == 2)
        until(lambda: hosts.output(job_id).startswith(b"line 1\n"))
        line.held = True
        until(lambda: set(liveness(hosts).values()) == {"unreachable"})
        until(lambda: len(warnings(hosts, "cannot be reached")) >= 2)
        [waiting] = hosts.submit("echo second")
        until(lambda: hosts.job(waiting).why != NOT_LOOKED_AT)
        assert [hosts.job(each).state for each in (job_id, waiting)] == ["running", "pending"]
        assert {worker.state for worker in hosts.db.read(queries.worker_rows)} == {"idle", "busy"}
        hosts.gate.touch()  # it ends while nobody can hear it
        line.held = False
        until(lambda: [hosts.job(each).state for each in (job_id, waiting)] == ["done", "done"])
        until(lambda: set(liveness(hosts).values()) == {"alive"})
        engine.stop(at_once=True)
        assert engine.wait(PATIENCE_SEC)
    assert (hosts.home.path.parent / "sshd" / "home" / "ran").read_text() == "1\n"
    *lines, last = hosts.output(job_id).decode().splitlines()
    assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
    assert last == f"last {len(lines)}"
    assert len(hosts.attempts(job_id)) == 1
    answers = [event.detail for event in hosts.events() if "answers again" in event.detail]
    assert len(answers) >= 2


@pytest.mark.openssh
def test_a_job_that_stands_still_is_reported_once_and_one_that_computes_quietly_is_not(hosts: Rig) -> None:
    """The one that only waits is put back from its checkpoint where that is wished; it counts as a retry."""
    [busy] = hosts.submit("until [ -e $GATE ]; do :; done")
    [still] = hosts.submit(
        '[ "$GPUSCALE_ATTEMPT" -gt 1 ] && { touch $GATE; exit 0; }; echo 1 > $CHECKPOINT_DIR/at; echo begun; sleep 900'
    )
    with hosts.engine(exit_when_idle=True, stalled_minutes=0.1, restart_stalled=True) as engine:
        assert engine.wait(PATIENCE_SEC)
    first, second = hosts.attempts(still)
    assert (first.cause, first.stalled_at is not None, second.resumed_from) == ("host_fault", True, 1)
    assert [attempt.stalled_at for attempt in hosts.attempts(busy)] == [None]
    assert [hosts.job(each).state for each in (busy, still)] == ["done", "done"]
    assert len(warnings(hosts, "stood still")) == 1
    told = hosts.db.read(
        lambda connection: connection.execute("SELECT text FROM notices WHERE kind = 'stalled'").fetchall()
    )
    assert len(told) == 1


def test_a_boot_is_waited_for_as_long_as_boots_take_there(market: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a history of quick boots a machine that hangs goes back long before the setting says so, and it says why."""
    monkeypatch.setattr(policy_patience, "BOOT_FLOOR_SEC", 1.0)
    market.submit("echo done")
    market.drain()
    [known] = [worker for worker in market.workers() if worker.ready_at is not None]
    copy = (
        "INSERT INTO outcomes (at, worker_id, provider, server_id, image, market, kind, setup_ms, detail)"
        " SELECT at, worker_id, provider, 'another', image, market, kind, 1000, '' FROM outcomes"
        " WHERE kind = 'ready' AND worker_id = ? LIMIT 1"
    )
    for _ in range(50):
        market.db.write(lambda connection: connection.execute(copy, (known.id,)))
    market.market.fault(never_boot=1)
    market.submit("echo done")
    with market.engine() as engine:
        until(lambda: warnings(market, "did not come up within"))
        engine.stop(at_once=True)
        assert engine.wait(PATIENCE_SEC)
    [said] = warnings(market, "did not come up within")[:1]
    assert "50 with this image took up to 1 s" in said
    assert float(said.partition("within ")[2].partition(" s")[0]) < 100
