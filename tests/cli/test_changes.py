"""`cancel`, `retry`, `clone`, `priority`."""

from __future__ import annotations

from gpuscale_tui.model.states import JobState
from gpuscale_tui.store import jobs
from gpuscale_tui.store.secrets import drop_job_secrets, read_job_secrets
from tests.cli.conftest import Cli
from tests.store.support import Bench


def state(bench: Bench, job_id: int) -> JobState:
    job = bench.read(jobs.get, job_id)
    assert job is not None
    return job.state


def test_cancel_tells_what_became_of_each(cli: Cli, bench: Bench) -> None:
    """Waiting ones end at once, running ones are asked to, finished ones stay."""
    pending, running, done = (bench.job_in(each) for each in (JobState.PENDING, JobState.RUNNING, JobState.DONE))
    result = cli("cancel", f"j{pending}", f"{running}", f"J{done}")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"j{pending} cancelled", f"j{running} is being saved and stopped", f"j{done} was done already",
    ]  # fmt: skip
    assert "no engine runs" in result.stderr
    assert state(bench, pending) == JobState.CANCELLED
    assert cli("queue").stdout.count("cancelling") == 1


def test_cancel_of_a_waiting_job_needs_no_engine(cli: Cli, bench: Bench) -> None:
    """Nothing is to be done but to write it down."""
    bench.submit()
    assert cli("cancel", "j1").stderr == ""


def test_cancel_is_all_or_nothing(cli: Cli, bench: Bench) -> None:
    """An unknown id among them: none is cancelled."""
    bench.submit(2)
    assert cli("cancel", "j1", "j2", "j99").exit_code == 1
    assert {state(bench, 1), state(bench, 2)} == {JobState.PENDING}


def test_retry(cli: Cli, bench: Bench) -> None:
    """Finished jobs wait again; others do so anyway."""
    failed, pending = bench.job_in(JobState.FAILED), bench.job_in(JobState.PENDING)
    result = cli("retry", f"j{failed}", f"j{pending}")
    assert result.stdout.splitlines() == [f"j{failed} waits again", f"j{pending} waits or runs already"]
    assert state(bench, failed) == JobState.PENDING


def test_priority(cli: Cli, bench: Bench) -> None:
    """1 to 10, else wrong usage."""
    bench.submit()
    assert cli("priority", "j1", "10").stdout == "j1 has priority 10\n"
    for wrong in ("0", "11", "-1", "high"):
        assert cli("priority", "j1", "--", wrong).exit_code == 2
    assert cli.json("queue")[0]["priority"] == 10


def test_clone_is_a_new_job_of_the_same_kind(cli: Cli, bench: Bench) -> None:
    """With its secrets, as long as they are kept."""
    cli.ids("--name", "n", "--secret", "K=v", "--priority", "3", "--", "run", "a b")
    result = cli("clone", "j1")
    assert result.stdout == "j2\n"
    old, new = bench.read(jobs.get, 1), bench.read(jobs.get, 2)
    assert old is not None
    assert new is not None
    assert new.spec == old.spec
    assert read_job_secrets(cli.home, 2) == {"K": "v"}
    assert new.attempt == 0


def test_clone_says_which_secrets_are_gone(cli: Cli, bench: Bench) -> None:
    """Better than a job that fails for an empty key."""
    cli.ids("--secret", "K=v", "--", "run")
    drop_job_secrets(cli.home, 1)
    result = cli("clone", "j1")
    assert "no longer kept, so the new job lacks them: K" in result.stderr
    new = bench.read(jobs.get, 2)
    assert new is not None
    assert dict(new.spec.secret_env) == {}
