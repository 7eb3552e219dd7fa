"""`workers`, `scale`, `release`, and what guard rails say."""

from __future__ import annotations

import pytest

from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.store import engines
from tests.cli.conftest import Cli
from tests.store.support import DOLLAR, Bench

WORKER_KEYS = [
    "id", "provider", "state", "order_id", "server_id", "gpu_type", "gpu_count", "price_per_hour", "job_id", "ssh_host",
    "ssh_port", "cost_usd", "created_at", "why",
]  # fmt: skip


def asked(bench: Bench) -> list[tuple[str, int | None]]:
    return [(request.kind, request.amount) for request in bench.read(engines.open_requests)]


def test_the_json_of_a_worker(cli: Cli, bench: Bench) -> None:
    """Every stable key with its kind of value."""
    worker = bench.worker_in(WorkerState.BUSY)
    (row,) = cli.json("workers")
    assert [key for key in row if key in WORKER_KEYS] == WORKER_KEYS
    assert (row["id"], row["provider"], row["state"], row["order_id"]) == (f"w{worker.id}", "clore", "busy", "o1")
    assert (row["price_per_hour"], row["job_id"], row["ssh_host"], row["ssh_port"]) == (1.0, "j1", "127.0.0.1", 22)


def test_those_that_are_gone_are_listed_when_asked_for(cli: Cli, bench: Bench) -> None:
    """Live ones come first."""
    gone, live = bench.worker_in(WorkerState.RELEASED), bench.worker_in(WorkerState.IDLE)
    assert [row["id"] for row in cli.json("workers")] == [f"w{live.id}"]
    assert [row["id"] for row in cli.json("workers", "--all")] == [f"w{live.id}", f"w{gone.id}"]
    assert cli("workers").stdout.splitlines()[1].split("\t")[:4] == [f"w{live.id}", "idle", "alive", "clore"]


def test_release_asks_the_engine(cli: Cli, bench: Bench) -> None:
    """And says that none runs."""
    bench.idle()
    result = cli("release", "w1")
    assert result.exit_code == 0
    assert "no engine runs" in result.stderr
    assert asked(bench) == [("release", 1)]


def test_release_of_one_that_is_gone_is_refused(cli: Cli, bench: Bench) -> None:
    """Exit code 4."""
    worker = bench.worker_in(WorkerState.RELEASED)
    result = cli("release", f"w{worker.id}")
    assert result.exit_code == 4
    assert "released already" in result.stderr


def test_scale_up_within_the_limits(cli: Cli, bench: Bench) -> None:
    """Asked of the engine."""
    assert cli("scale", "up", "2").exit_code == 0
    assert asked(bench) == [("scale_up", 2)]


@pytest.mark.parametrize(
    ("settings", "amount", "expected"),
    [
        ("max_workers = 3", 3, "1 machines are rented and max_workers is 3: at most 2 more"),
        ("max_hourly_budget = 1.4", 1, "$1.00/h of the cap of $1.40/h are committed"),
        ("max_hourly_budget = 0", 1, "cap of $0.00/h"),
        ("max_workers = 9\n[budget]\ndaily = 0.1", 1, "the budget leaves $0.00 now and the first while of 1 more"),
    ],
)
def test_scale_up_beyond_a_limit_is_refused(cli: Cli, bench: Bench, settings: str, amount: int, expected: str) -> None:
    """Exit code 4, with the figure; nothing is asked."""
    bench.idle(DOLLAR)
    cli.config.write_text(f"[scaler]\n{settings}\n")
    result = cli("scale", "up", str(amount))
    assert result.exit_code == 4, result.output
    assert expected in result.stderr
    assert asked(bench) == []


def test_scale_down(cli: Cli, bench: Bench) -> None:
    """No more than there are."""
    bench.idle()
    assert cli("scale", "down", "2").exit_code == 4
    assert cli("scale", "down", "1").exit_code == 0
    assert asked(bench) == [("scale_down", 1)]


@pytest.mark.parametrize(
    "arguments", [["up"], ["up", "0"], ["up", "-1"], ["up", "two"], ["sideways", "1"], ["down", "1.5"]]
)
def test_wrong_usage(cli: Cli, arguments: list[str]) -> None:
    """Exit code 2."""
    assert cli("scale", *arguments).exit_code == 2
