"""`hosts`: the list, bans and their lifting."""

from __future__ import annotations

import pytest

from gpuscale_tui.cli.common import now_ms
from gpuscale_tui.model.states import Cause
from gpuscale_tui.store import hosts, workers
from tests.cli.conftest import Cli
from tests.store.support import Bench, offer

KEYS = {
    "provider", "server_id", "owner", "rentals", "ready_sec", "held_sec", "lost_sec", "refusals", "no_starts",
    "failed_tests", "losses", "evictions", "job_faults", "down_mbps", "up_mbps", "bill_to_quote", "last_at",
    "last_fault_at", "last_fault", "not_rented_because",
}  # fmt: skip


def test_the_list_has_what_came_of_each(cli: Cli, bench: Bench) -> None:
    """One row a host, with a stable set of keys."""
    assert "nothing was ever rented" in cli("hosts").output
    bench.now = now_ms() - 60_000  # the verb goes by the wall clock
    worker = bench.boot(offer=offer(server_id="104512", owner="3120"))
    bench.now += 60_000
    bench.write(workers.begin_release, worker.id, "did not \x1b[31mcome up", cause=Cause.HOST_FAULT, **bench.by)
    (row,) = cli.json("hosts")
    assert set(row) == KEYS
    assert (row["server_id"], row["rentals"], row["no_starts"], row["held_sec"]) == ("104512", 1, 1, 60.0)
    shown = cli("hosts").stdout
    assert "1 never came up" in shown
    assert "\x1b" not in shown


def test_ban_and_unban(cli: Cli, bench: Bench) -> None:
    """By id or owner, for a time or for good; the provider is found out where it is clear."""
    assert cli("hosts", "ban", "104512", "--for", "6h", "--reason", "slow").exit_code == 0
    assert cli("hosts", "ban", "owner:3120").exit_code == 0
    held = {(ban.scope, ban.provider, ban.key): ban for ban in bench.read(hosts.bans, 0)}
    assert set(held) == {("host", "clore", "104512"), ("owner", "clore", "3120")}
    timed = held["host", "clore", "104512"]
    assert timed.until is not None
    assert timed.until - timed.at == 6 * 3_600_000
    assert held["owner", "clore", "3120"].until is None
    assert "slow" in cli("hosts").stdout
    assert cli("hosts", "unban", "owner:3120").exit_code == 0
    assert [ban.key for ban in bench.read(hosts.bans, 0)] == ["104512"]
    assert cli("hosts", "unban", "3120").exit_code == 1, "it is not banned"


@pytest.mark.parametrize("arguments", [("ban",), ("ban", "country:KP"), ("ban", "owner:"), ("ban", "1", "--for", "x")])
def test_wrong_usage_is_refused(cli: Cli, bench: Bench, arguments: tuple[str, ...]) -> None:
    """Exit code 2, and nothing is banned."""
    assert cli("hosts", *arguments).exit_code == 2
    assert bench.read(hosts.bans, 0) == []


def test_an_id_that_two_providers_know_needs_a_word_more(cli: Cli, bench: Bench) -> None:
    """Exit code 4 names both."""
    for provider in ("clore", "ssh"):
        bench.idle(offer=offer(server_id="rack1", provider=provider))
    result = cli("hosts", "ban", "rack1")
    assert result.exit_code == 4
    assert "clore and ssh" in result.stderr
    assert cli("hosts", "ban", "rack1", "--provider", "ssh").exit_code == 0
    assert [ban.provider for ban in bench.read(hosts.bans, 0)] == ["ssh"]


def test_what_could_reach_the_terminal_is_no_id(cli: Cli, bench: Bench) -> None:
    """Exit code 2."""
    assert cli("hosts", "ban", "1\x1b[2J").exit_code == 2
    assert bench.read(hosts.bans, 0) == []
