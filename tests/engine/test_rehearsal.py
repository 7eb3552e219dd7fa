"""A move is rehearsed on machines of the sandbox: stopped on purpose, gone on, compared."""

from __future__ import annotations

import tomllib

import pytest

from gpuscale_tui.cli.template import text_of
from gpuscale_tui.engine import rehearsal
from gpuscale_tui.engine.engine import utc_ms
from gpuscale_tui.model.errors import NotFound, Refused
from gpuscale_tui.model.jobs import Job
from gpuscale_tui.store import jobs
from gpuscale_tui.store.notices import latest_id, waiting
from tests.engine.conftest import PATIENCE_SEC, Rig, until

ENV = {"STEPS": "100000", "SAVE_EVERY": "1", "SECONDS_A_STEP": "0.1"}


def trains(*, resumes: bool) -> str:
    """The command of the template `shell`, a step at a time until the test wants its end, a checkpoint at each."""
    [entry] = tomllib.loads(text_of("shell"))["jobs"]
    command = str(entry["command"]).replace('while [ "$step" -lt "$STEPS" ]; do', 'until [ -e "$GATE" ]; do')
    assert "GATE" in command
    return command if resumes else command.replace("${GPUSCALE_RESUME_FROM:-}", "")


def job(rig: Rig, job_id: int) -> Job:
    """The job as it stands."""
    found = rig.db.read(jobs.get, job_id)
    assert found is not None
    return found


def over(rig: Rig, job_id: int) -> Job | None:
    """The job, once its rehearsal is over."""
    found = job(rig, job_id)
    return found if found.rehearsal in {"verified", "failed"} or found.rehearsal_detail else None


def test_a_job_that_resumes_is_verified(market: Rig) -> None:
    """Asked for at submission: moved once after its first snapshot, and nobody's fault; asking again changes nothing
    until it is over."""
    [job_id] = market.submit(trains(resumes=True), rehearse=True, env=ENV)
    with market.engine(exit_when_idle=True) as engine:
        assert market.command(rehearsal.ask, job_id) == "wanted"
        found = until(lambda: over(market, job_id))
        market.gate.touch()
        assert engine.wait(PATIENCE_SEC)
    assert found.rehearsal == "verified", found.rehearsal_detail
    assert "resume verified: went on at step " in found.rehearsal_detail
    assert ", loss " in found.rehearsal_detail
    assert " lost; on " in found.rehearsal_detail
    first, second = market.attempts(job_id)
    assert (first.cause, second.cause, job(market, job_id).faults) == ("preempted", "finished", 0)
    assert second.resumed_from is not None
    done = job(market, job_id)
    assert (done.state, done.rehearsal) == ("done", "verified")
    assert len([each for each in market.events() if each.detail == found.rehearsal_detail]) == 1


def test_a_job_that_begins_anew_fails_it(market: Rig) -> None:
    """It goes on all the same, here on another machine, which was asked for; its user is told, outside too."""
    [job_id] = market.submit(trains(resumes=False), env=ENV)
    with market.engine() as engine:
        assert market.command(rehearsal.ask, job_id, elsewhere=True) == "wanted"
        found = until(lambda: over(market, job_id))
        assert (found.rehearsal, found.state) == ("failed", "running")
        first, second = market.attempts(job_id)
        assert second.worker_id != first.worker_id
        assert "it began at step 1, as it had before" in found.rehearsal_detail
        engine.stop(at_once=True)
        assert engine.wait(PATIENCE_SEC)
    told = market.db.read(waiting, 0, market.db.read(latest_id))
    assert [each.text for each in told if each.kind == "rehearsal"] == [f"j1 job 1: {found.rehearsal_detail}"]


def test_a_job_that_ends_first_is_told_so(market: Rig) -> None:
    """Nothing is compared, and nothing has failed."""
    [job_id] = market.submit("echo step 1/1", rehearse=True)
    market.drain()
    found = until(lambda: over(market, job_id))
    assert (found.state, found.rehearsal) == ("done", "")
    assert found.rehearsal_detail == "not rehearsed: it ended before it could be moved"


def test_who_cannot_be_rehearsed_is_refused(market: Rig) -> None:
    """A finished job, one that is being cancelled, and none at all."""
    [job_id] = market.submit("true")
    with pytest.raises(NotFound, match="no job j9"):
        market.command(rehearsal.ask, 9)
    market.db.write(jobs.request_cancel, [job_id], utc_ms(), "tester")
    with pytest.raises(Refused, match="j1 is cancelled"):
        market.command(rehearsal.ask, job_id)
