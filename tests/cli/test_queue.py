"""`queue`, `show`, `why`: the shapes that programs read are pinned, and text for people is clean."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from gpuscale_tui.model.states import AttemptState, Cause, JobState, WorkerState
from tests.cli.conftest import Cli
from tests.store.support import Bench

JOB_KEYS = [
    "id", "name", "status", "attempt", "priority", "gpu_type", "gpu_count", "max_price", "worker_id", "order_id",
    "cost_usd", "submitted_at", "started_at", "finished_at", "exit_code", "error", "why",
]  # fmt: skip
HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x9b2J\u202eevil [bold]x[/bold] {lr} %s"


def failed(bench: Bench, **changes: object) -> int:
    attempt = bench.placed(**changes)
    bench.advance(attempt, AttemptState.STAGING, AttemptState.RUNNING)
    bench.now += 90_000
    bench.end(attempt, Cause.USER_ERROR, JobState.FAILED, exit_code=3, error=f"exit code 3: {HOSTILE}")
    return attempt.job_id


def test_the_json_of_a_job(cli: Cli, bench: Bench) -> None:
    """Every stable key with its kind of value; money in dollars, time as ISO 8601 UTC, ids as labels."""
    job_id = failed(bench, name="a job", max_price=450_000)
    (row,) = cli.json("queue", "--all")
    assert [key for key in row if key in JOB_KEYS] == JOB_KEYS
    assert (row["id"], row["name"], row["status"], row["attempt"], row["priority"]) == (
        f"j{job_id}",
        "a job",
        "failed",
        1,
        5,
    )
    assert (row["gpu_type"], row["gpu_count"], row["max_price"]) == ("RTX 4090", 1, 0.45)
    assert (row["worker_id"], row["order_id"], row["exit_code"]) == ("w1", "o1", 3)
    assert isinstance(row["cost_usd"], float)
    for key in ("submitted_at", "started_at", "finished_at"):
        assert datetime.fromisoformat(row[key]).utcoffset() is not None
    assert row["finished_at"].endswith("Z")
    assert row["why"]


def test_what_is_not_there_is_null(cli: Cli, bench: Bench) -> None:
    """A job that never ran, without a GPU."""
    bench.submit(gpu_type=None)
    (row,) = cli.json("queue")
    nothing = ("gpu_type", "max_price", "worker_id", "order_id", "started_at", "finished_at", "exit_code", "error")
    assert [row[key] for key in nothing] == [None] * len(nothing)
    assert (row["gpu_count"], row["cost_usd"], row["status"]) == (0, 0.0, "pending")


def test_an_array_has_one_row_a_line(cli: Cli, bench: Bench) -> None:
    """So that line tools can work on it."""
    bench.submit(3)
    lines = cli("queue", "--json").stdout.splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("[", "]", 5)
    assert json.loads(lines[1].rstrip(","))["id"] == "j1"


def test_the_queue_is_what_runs_and_waits(cli: Cli, bench: Bench) -> None:
    """In the order of service; finished ones when asked for."""
    done = bench.job_in(JobState.DONE)
    late, early = bench.submit(priority=9)[0], bench.submit(priority=1)[0]
    running = bench.job_in(JobState.RUNNING)
    assert [row["id"] for row in cli.json("queue")] == [f"j{n}" for n in (running, early, late)]
    assert [row["id"] for row in cli.json("queue", "--all")] == [f"j{n}" for n in (running, early, late, done)]
    assert [row["id"] for row in cli.json("queue", "--state", "done", "--state", "running")] == [
        f"j{running}",
        f"j{done}",
    ]


def test_filter_by_text(cli: Cli, bench: Bench) -> None:
    """Id, name, project or GPU."""
    bench.submit(name="alpha", project="vision")
    bench.submit(name="beta", gpu_type="H100")
    assert [row["name"] for row in cli.json("queue", "VIS")] == ["alpha"]
    assert [row["name"] for row in cli.json("queue", "h100")] == ["beta"]
    assert cli.json("queue", "%") == []


def test_a_limit_says_how_many_more_there_are(cli: Cli, bench: Bench) -> None:
    """And how to see them."""
    bench.submit(5)
    result = cli("queue", "--limit", "2")
    assert len(result.stdout.splitlines()) == 3
    assert result.stderr == "3 more: see them with --limit 5\n"


def test_a_program_gets_all_rows_tab_separated(cli: Cli, bench: Bench) -> None:
    """However many: nothing is left out unasked."""
    bench.submit(1500)
    lines = cli("queue").stdout.splitlines()
    assert len(lines) == 1501
    assert lines[0].split("\t")[:3] == ["ID", "NAME", "STATE"]
    assert len({line.count("\t") for line in lines}) == 1


def test_text_from_outside_cannot_harm_a_terminal(cli: Cli, bench: Bench) -> None:
    """No control characters, no change of direction, no new lines or columns; in JSON all of it, escaped."""
    job_id = failed(bench)
    for verb in (["queue", "--all"], ["show", f"j{job_id}"], ["why", f"j{job_id}"]):
        text = cli(*verb).stdout
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)
        assert "redevil [bold]x[/bold] {lr} %s" in text
    raw = cli("queue", "--all", "--json").stdout
    assert raw.isascii()
    assert json.loads(raw)[0]["error"] == f"exit code 3: {HOSTILE}"


def test_the_whole_story(cli: Cli, bench: Bench) -> None:
    """Specification, attempts, events, cost and why: as text and as one JSON object."""
    job_id = failed(bench, name="t", env={"A": "1"}, secret_env={"K": "hush"}, project="p")
    story = cli.json("show", f"J{job_id}")
    assert [key for key in story if key in JOB_KEYS] == JOB_KEYS
    assert story["spec"]["command"] == "python train.py"
    assert (story["spec"]["env"], story["spec"]["secret_names"]) == ({"A": "1"}, ["K"])
    (attempt,) = story["attempts"]
    assert (attempt["worker_id"], attempt["state"], attempt["cause"], attempt["exit_code"]) == (
        "w1",
        "ended",
        "user_error",
        3,
    )
    assert story["events"][0]["detail"] == "submitted"
    text = cli("show", str(job_id)).stdout
    for expected in ("python train.py", "A=1 K=***", "1 on w1: ended", "for 1m30s", "exit code 3", "running -> failed"):
        assert expected in text
    assert "hush" not in text + json.dumps(story)


def test_why_of_jobs_and_workers(cli: Cli, bench: Bench) -> None:
    """One sentence each."""
    worker = bench.worker_in(WorkerState.BUSY)
    assert cli("why", f"w{worker.id}").stdout.startswith(f"w{worker.id}: ")
    assert cli("why", f"j{worker.job_id}").stdout.startswith(f"j{worker.job_id}: ")
    assert cli("why", str(worker.job_id)).stdout.startswith(f"j{worker.job_id}: ")


def test_why_knows_of_the_engine(cli: Cli, bench: Bench) -> None:
    """From its lock, not from what it wrote before it was killed."""
    bench.submit()
    assert "the engine is not running" in cli("why", "j1").stdout


@pytest.mark.parametrize(
    "arguments", [["show", "j9"], ["why", "j9"], ["why", "w9"], ["logs", "j9"], ["cancel", "j9"], ["retry", "9"],
                  ["clone", "j9"], ["priority", "j9", "1"], ["release", "w9"], ["checkpoints", "j9"]],
)  # fmt: skip
@pytest.mark.parametrize("used", [True, False], ids=["used home", "new home"])
def test_an_unknown_id(cli: Cli, request: pytest.FixtureRequest, arguments: list[str], used: bool) -> None:
    """Exit code 1, and where to look; a home is not made for it."""
    if used:
        request.getfixturevalue("bench").submit()
    result = cli(*arguments)
    assert result.exit_code == 1
    assert "there is no " in result.stderr
    assert "9; `gpuscale " in result.stderr
    assert used or not cli.home.path.exists()


@pytest.mark.parametrize("text", ["x", "j0", "j-1", "w1", "17x", "j1٣", ""])
def test_what_is_no_id_at_all(cli: Cli, text: str) -> None:
    """Wrong usage."""
    result = cli("show", "--", text)
    assert result.exit_code == 2
    assert "such as j17" in result.stderr


def test_a_home_that_was_never_used(cli: Cli) -> None:
    """Reads as empty, says so, and is not made."""
    result = cli("queue")
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"nothing was ever stored in {cli.home.path}" in result.stderr
    assert cli.json("queue") == []
    assert not cli.home.path.exists()


def test_users_are_named_where_there_are_several(cli: Cli, bench: Bench) -> None:
    bench.submit(user="ada")
    assert "USER" not in cli("queue").stdout
    bench.submit(user="grace")
    lines = cli("queue").stdout.splitlines()
    assert lines[0].split()[:2] == ["ID", "USER"]
    assert {line.split()[1] for line in lines[1:3]} == {"ada", "grace"}
    assert {row["user"] for row in cli.json("queue")} == {"ada", "grace"}
