"""`drill`: asked for in the store, told in `show` and `why`; what it will cost is said before."""

from __future__ import annotations

from gpuscale_tui.engine import rehearsal
from gpuscale_tui.model.states import AttemptState
from gpuscale_tui.store import snapshots
from tests.cli.conftest import Cli
from tests.store.support import HOUR, Bench


def test_a_waiting_job_is_rehearsed_after_its_first_snapshot(cli: Cli) -> None:
    """Asking twice is one rehearsal; both ways to read a job tell it, and an end makes it too late."""
    cli.ids("--", "true")
    first, second = cli("drill", "j1", "--yes"), cli("drill", "j1", "--yes")
    assert first.stdout == second.stdout == "j1 is moved once after its next snapshot\n"
    assert "Rehearsal  " in cli("show", "j1").stdout
    assert cli.json("show", "j1")["rehearsal"]["state"] == "wanted"
    assert "; a move is rehearsed after its next snapshot" in cli("why", "j1").stdout
    cli("cancel", "j1")
    late = cli("drill", "j1", "--yes")
    assert late.exit_code == 4
    assert "j1 is cancelled" in late.stderr


def test_without_a_terminal_it_is_not_asked(cli: Cli) -> None:
    """A script says --yes; an unknown job is told before any question."""
    assert cli("drill", "j1").exit_code == 1
    cli.ids("--", "true")
    done = cli("drill", "j1")
    assert done.exit_code == 2
    assert "--yes" in done.stderr
    assert cli.json("show", "j1")["rehearsal"]["state"] is None


def test_what_it_will_mean_is_said_before(bench: Bench) -> None:
    """Time and money of what is not saved, once the job has a snapshot."""
    attempt = bench.placed()
    label = f"j{attempt.job_id}"
    assert forecast(bench, attempt.job_id) == (
        f"{label} is stopped after its first snapshot and goes on from its snapshot on another machine where one is"
        " idle, else its own"
    )
    bench.now += 60_000
    bench.advance(attempt, AttemptState.STAGING, AttemptState.RUNNING)
    bench.write(snapshots.record_snapshot, attempt.job_id, 1, attempt.number, 1, 10, **bench.by)
    bench.now += HOUR // 2
    said = forecast(bench, attempt.job_id, elsewhere=True)
    assert said.startswith(
        f"{label} is stopped now, after a last save, and goes on from its snapshot on another machine:"
    )
    assert said.endswith(": about 31m and $0.52 lost, most of it work since its last snapshot")


def forecast(bench: Bench, job_id: int, *, elsewhere: bool = False) -> str:
    """The sentence before the question."""
    return bench.read(rehearsal.forecast, job_id, elsewhere=elsewhere, now=bench.now)
