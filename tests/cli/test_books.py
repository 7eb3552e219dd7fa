"""`costs`, `market`, `checkpoints`."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from gpuscale_tui.model.states import Cause, JobState
from gpuscale_tui.store import market, snapshots, spans, workers
from gpuscale_tui.store.checkpoints import SnapshotMeta, SnapshotStore
from tests.cli.conftest import Cli
from tests.store.support import Bench, offer


def test_costs_add_up_to_the_bill(cli: Cli, bench: Bench) -> None:
    """Stable keys; dollars; the kinds and the rows each add up to the total."""
    attempt = bench.placed(project="p")
    bench.now += 3_600_000
    bench.write(spans.book, attempt.worker_id, 1_234_567, bench.now, billed=True)
    books = cli.json("costs")
    assert list(books)[:7] == ["total", "productive", "setup", "idle", "rejected", "lost", "rows"]
    assert books["total"] == pytest.approx(1.234567)
    kinds = sum(books[kind] for kind in ("productive", "setup", "idle", "rejected", "lost"))
    assert kinds == pytest.approx(books["total"])
    assert sum(row["cost_usd"] for row in books["rows"]) == pytest.approx(books["total"])
    assert books["rows"][0]["key"] == "p"
    assert cli("costs", "--by", "worker").stdout.splitlines()[1].split("\t")[0] == "w1"


def test_costs_of_nothing(cli: Cli, bench: Bench) -> None:
    """Zeroes, and words."""
    result = cli("costs")
    assert result.exit_code == 0
    assert "nothing was spent" in result.stderr


TIMES = ["7d", "1h30m", "2026-01-31", "2026-01-31T12:00", "2026-01-31T12:00:00+02:00", "90000w"]


@pytest.mark.parametrize("since", TIMES)
def test_since(cli: Cli, bench: Bench, since: str) -> None:
    """A duration that ends now, or a date."""
    assert cli("costs", "--since", since).exit_code == 0


@pytest.mark.parametrize("arguments", [["--since", "soon"], ["--since", "2999-01-01"], ["--since", "2026-13-01"],
                                       ["--since", "-1d"], ["--by", "moon"]])  # fmt: skip
def test_wrong_usage(cli: Cli, arguments: list[str]) -> None:
    """Exit code 2, with what is allowed."""
    result = cli("costs", *arguments)
    assert result.exit_code == 2
    assert arguments[1] in result.stderr or "moon" in result.stderr


def test_the_market_as_last_read(cli: Cli, bench: Bench) -> None:
    """Cheapest first; what would not be rented comes last, with the reason."""
    read = [(offer(800_000, gpu_count=2), ""), (offer(300_000), "reliability below 0.8"), (offer(500_000), "")]
    bench.write(market.replace, "clore", "RTX 4090", read, int(time.time() * 1000))
    rows = cli.json("market", "--gpu", "rtx4090")
    assert [(row["price_per_hour"], row["price_per_gpu"], row["verdict"]) for row in rows] == [
        (0.8, 0.4, ""), (0.5, 0.5, ""), (0.3, 0.3, "reliability below 0.8"),
    ]  # fmt: skip
    assert cli.json("market", "--gpu", "H100") == []
    assert "reliability below 0.8" in cli("market").stdout


def test_just_one_machine_is_asked_for(cli: Cli, bench: Bench) -> None:
    """Within the limits; refused with the figure, and not twice."""
    read = [(offer(400_000, server_id="71"), ""), (offer(99_000_000, server_id="72"), "")]
    bench.write(market.replace, "clore", "RTX 4090", read, int(time.time() * 1000))
    said = cli("rent", "71")
    assert said.exit_code == 0
    assert "asked for server 71 (on-demand) at $0.400/h" in said.stdout
    again = cli("rent", "71")
    assert again.exit_code == 4
    assert "has been asked for already" in again.stderr
    dear = cli("rent", "72")
    assert dear.exit_code == 4
    assert "max_hourly_budget $99.00 would allow it" in dear.stderr
    assert cli("rent", "73").exit_code == 1
    assert cli("rent", "71", "--provider", "ssh").exit_code == 1


def test_a_banned_machine_needs_a_word(cli: Cli, bench: Bench) -> None:
    read = [(offer(400_000, server_id="71"), "banned")]
    bench.write(market.replace, "clore", "RTX 4090", read, int(time.time() * 1000))
    assert cli("rent", "71").exit_code == 4
    assert cli("rent", "71", "--although-banned").exit_code == 0


def test_checkpoints(cli: Cli, bench: Bench) -> None:
    """Those that are kept, of one job or of all, newest first."""
    bench.placed()
    for number in (1, 2, 3):
        bench.now += 1000
        bench.write(snapshots.record_snapshot, 1, number, 1, 2, 1000 * number, **bench.by)
    bench.write(snapshots.mark_pruned, 1, 1, **bench.by)
    rows = cli.json("checkpoints")
    assert [(row["job_id"], row["snapshot"], row["bytes"]) for row in rows] == [("j1", 3, 3000), ("j1", 2, 2000)]
    assert json.dumps(cli.json("checkpoints", "j1")) == json.dumps(rows)


def test_checkpoints_are_copied_resumed_from_and_removed(cli: Cli, bench: Bench, tmp_path: Path) -> None:
    """By their names; nothing is replaced unasked, the last whole one stays, a running job is left alone."""
    attempt = bench.placed()
    store = SnapshotStore(cli.home.checkpoints)
    for number in (1, 2):
        drawn = store.begin(1)
        (drawn.path / "model.pt").write_text(f"model {number}")
        made = store.commit(drawn, {"model.pt": 0o644}, SnapshotMeta(1, 1, 1, 5))
        bench.write(snapshots.record_snapshot, 1, number, 1, 1, made.size, **bench.by)
    out = tmp_path / "out"
    assert cli("checkpoints", "get", "j1/1", str(out)).exit_code == 0
    assert (out / "model.pt").read_text() == "model 1"
    assert cli("checkpoints", "get", "j1/2", str(out)).exit_code == 4
    assert cli("checkpoints", "get", "j1/2", str(out), "--overwrite").exit_code == 0
    assert (out / "model.pt").read_text() == "model 2"
    assert cli("checkpoints", "get", "j1/9", str(out)).exit_code == 1
    assert cli("checkpoints", "get", "j1", str(out)).exit_code == 2
    assert cli("checkpoints", "resume", "j1/1").exit_code == 4
    bench.end(attempt, Cause.USER_ERROR, JobState.FAILED)
    assert cli("checkpoints", "resume", "j1/1").exit_code == 0
    assert cli("checkpoints", "prune", "j1/1").exit_code == 4
    assert cli("cancel", "j1").exit_code == 0
    removed = cli("checkpoints", "prune", "j1/1", "j1/2")
    assert (removed.exit_code, removed.stdout) == (4, "j1/1 removed\n")
    assert "j1/2 stays: it is the last whole snapshot of j1" in removed.stderr
    assert store.numbers(1) == [2]


def test_budgets_are_told_beside_the_costs(cli: Cli, bench: Bench) -> None:
    """Used, committed, limit and per cent of each limit that is set; the cap is one of them in `status`."""
    cli.config.write_text(
        "[scaler]\nmax_hourly_budget = 4\n[budget]\ndaily = 4\nper_job = 9\n[budget.projects]\np = 8\n"
    )
    bench.now = int(time.time() * 1000)
    attempt = bench.placed(project="p")
    bench.write(spans.book, attempt.worker_id, 2_000_000, bench.now, billed=True)
    found = {(row["scope"], row["name"]): row for row in cli.json("status")["budgets"]}
    assert set(found) == {("hour", None), ("day", None), ("project", "p"), ("job", "1")}
    assert (found["hour", None]["committed"], found["hour", None]["percent"]) == (1.0, 25.0)
    assert (found["day", None]["spent"], found["day", None]["limit"]) == (2.0, 4.0)
    assert 50 < found["day", None]["percent"] < 60, "and what it costs until it can be given back"
    assert not found["day", None]["used_up"]
    assert [row["scope"] for row in cli.json("costs")["budgets"]] == ["day", "project", "job"]
    assert re.search(r"day: \$2\.00 spent and \$0\.\d\d committed of \$4\.00 \(5\d %\)", cli("status").stdout)
    cli.config.write_text("nonsense = 1\n")
    assert cli.json("status")["budgets"] == [], "without settings nobody knows"


def test_a_bill_that_differs_is_shown(cli: Cli, bench: Bench) -> None:
    """By how much, and for how many machines."""
    worker = bench.idle(1_000_000)
    bench.now += 3_600_000
    bench.write(workers.begin_release, worker.id, "enough", **bench.by)
    bench.write(workers.confirm_gone, worker.id, "gone", cause=None, **bench.by)
    bench.write(spans.book, worker.id, 1_500_000, bench.now, billed=True)
    assert cli.json("costs")["difference"] == {"cost_usd": 0.5, "machines": 1}
    assert cli("costs").stdout.startswith("PROJECT"), "a program reads rows"
