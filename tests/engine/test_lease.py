"""When the bastion dies: machines keep to their lease, and the next start finds everything."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gpuscale_tui.engine.leaser import Leaser
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.notices import NoticeKind
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.remote.lease import Ending, Lease
from tests.engine.conftest import WAIT, Rig, until

LEASE_HOURS = 0.0014
"""Five seconds."""
SAVES = (
    'if [ -f "$CHECKPOINT_DIR/step" ]; then cat "$CHECKPOINT_DIR/step"; exit 0; fi;'
    ' trap "echo 7 > $CHECKPOINT_DIR/step; echo saved; exit 0" TERM; echo begun; while :; do sleep 0.05; done'
)


def sshd_home(rig: Rig) -> Path:
    return rig.home.path.parent / "sshd" / "home"


def run_out(machine: Path) -> None:
    """Nobody called for as long as the lease lasts: what is left of it is a second."""
    [term] = until(lambda: list(machine.glob(".gpuscale/*/.lease/term")))
    _, ending, grace = term.read_text().split()
    term.with_name("sooner").write_text(f"1 {ending} {grace}\n")
    term.with_name("sooner").rename(term)


def told(rig: Rig, kind: NoticeKind) -> list[str]:
    """The notices of this kind that were asked for."""
    found = rig.db.read(lambda connection: connection.execute("SELECT kind, text FROM notices ORDER BY id").fetchall())
    return [row["text"] for row in found if row["kind"] == kind]


@pytest.mark.openssh
def test_after_its_lease_a_job_has_saved_and_goes_on_where_it_was(hosts: Rig) -> None:
    """No engine for longer than the lease: the machine has the job save and stop. The next engine takes it from
    there: nothing is lost, nothing fails, and no host of ours was shut down."""
    [job_id] = hosts.submit(SAVES, retries=0)
    with hosts.engine(lease_hours=LEASE_HOURS):
        until(lambda: hosts.output(job_id) == b"begun\n")
        until(lambda: list(sshd_home(hosts).glob(".gpuscale/*/.lease/keeper")))
    run_out(sshd_home(hosts))
    until(lambda: list(sshd_home(hosts).glob(f".gpuscale/*/j{job_id}-1/exit")))
    assert hosts.job(job_id).state == "running"  # nobody was there to note it
    with hosts.engine():
        until(lambda: hosts.attempts(job_id)[0].cause == "our_fault")
        until(lambda: told(hosts, NoticeKind.LEASE))
    assert hosts.job(job_id).state in {"pending", "running", "done"}  # the engine's silence is nobody's failure
    assert hosts.output(job_id).startswith(b"begun\n")
    assert hosts.output(job_id).endswith(b"saved\n")
    saved = hosts.home.checkpoints.glob("**/step")
    assert [path.read_text() for path in saved] == ["7\n"]


@pytest.mark.openssh
def test_an_engine_that_lives_renews_and_one_that_comes_back_in_time_finds_all_running(
    hosts: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    [job_id] = hosts.submit(f"{WAIT} echo end", retries=0)
    with hosts.engine(lease_hours=LEASE_HOURS * 2):
        until(lambda: hosts.job(job_id).state == "running")
        [keeper] = until(lambda: list(sshd_home(hosts).glob(".gpuscale/*/.lease/keeper")))
        renewed = keeper.parent / "renewed"
        until(lambda: not renewed.exists())
        until(renewed.exists)  # the engine has called again
    hosts.gate.touch()
    hosts.drain()
    assert [attempt.cause for attempt in hosts.attempts(job_id)] == ["finished"]
    assert not told(hosts, NoticeKind.LEASE)


def test_a_rented_machine_ends_itself_and_is_billed_no_longer(market: Rig) -> None:
    """The bill stops with the lease, not with the next engine; that one puts the job back elsewhere."""
    [job_id] = market.submit(SAVES)
    with market.engine(lease_hours=LEASE_HOURS):
        until(lambda: market.output(job_id) == b"begun\n")
    [placed] = market.market.orders()
    order = placed["order"]
    run_out(Path(placed["directory"]))

    def bill() -> dict[str, object]:
        [line] = [line for line in market.market.bill()["orders"] if line["order"] == order]
        return dict(line)

    until(lambda: bill()["state"] == "halted")
    assert [each["live"] for each in market.market.orders()] == [True]  # only its owner ends an order
    before = bill()
    with market.engine(lost_contact_sec=2):
        until(lambda: bill()["state"] == "ended")
    after = bill()
    assert (after["spend_micro"], after["minutes"], after["state"]) == (
        before["spend_micro"], before["minutes"], "ended",
    )  # fmt: skip
    assert market.attempts(job_id)[0].cause in {None, "host_fault"}


@pytest.mark.parametrize(
    ("boots", "host", "ending"),
    [
        (False, "192.0.2.7", Ending.NOTHING),
        (False, "127.0.0.1", Ending.NOTHING),
        (None, "192.0.2.7", Ending.NOTHING),
        (True, "n1.de.clorecloud.net", Ending.MACHINE),
        (True, "192.0.2.7", Ending.MACHINE),
        (True, "127.0.0.1", Ending.HOOK),
        (True, "127.8.9.10", Ending.HOOK),
        (True, "localhost", Ending.HOOK),
        (True, "LocalHost.", Ending.HOOK),
        (True, "::1", Ending.HOOK),
        (True, "::ffff:127.0.0.1", Ending.HOOK),
        (True, "0.0.0.0", Ending.HOOK),
    ],
)
async def test_only_what_is_rented_and_elsewhere_is_shut_down(boots: bool | None, host: str, ending: Ending) -> None:
    """A host of our own never; a provider that is not known any more neither; nothing that may be this computer."""
    sent: list[Lease] = []

    async def renew_lease(_base: str, terms: Lease) -> bool:
        sent.append(terms)
        return False

    provider = SimpleNamespace(facts=SimpleNamespace(boots=boots))
    context = SimpleNamespace(
        base="b", settings=Settings(), providers={} if boots is None else {"p": provider}
    )  # fmt: skip
    worker = SimpleNamespace(id=1, provider="p", endpoint=Endpoint(host, 22, "root"))
    async with asyncio.TaskGroup() as tasks:
        leaser = Leaser(cast("Any", context), cast("Any", None), tasks)
        await leaser.begin(cast("Any", worker), cast("Any", SimpleNamespace(renew_lease=renew_lease)))
    assert sent == [Lease(12 * 3600, ending, 30)]
