"""From job to job on the same machine: what one transaction does, and what is left behind on the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuscale_tui.engine import commands
from gpuscale_tui.store import engines
from tests.engine.conftest import PATIENCE_SEC, WAIT, Rig, until

pytestmark = pytest.mark.openssh


def directories(rig: Rig) -> set[str]:
    """The attempts that have a directory on the hosts."""
    base = rig.home.path.parent / "sshd" / "home" / ".gpuscale"
    return {path.name for path in base.glob("*/*") if not path.name.startswith(".")}


def test_every_stage_of_a_job_is_recorded_in_order(hosts: Rig) -> None:
    """However few transactions it takes: each transition of job and attempt has its event, also for a job that follows
    another one on the same machine."""
    ids = hosts.submit("true", 3)
    hosts.drain(max_workers=1)
    for job_id in ids:
        stages = [
            event.to_state
            for event in hosts.events()
            if event.job_id == job_id and event.kind == "attempt" and event.to_state
        ]
        assert stages == ["staging", "running", "ended"]
        states = [event.to_state for event in hosts.events() if event.job_id == job_id and event.kind == "job"]
        assert states == ["pending", "running", "done"]


def test_checkpoints_are_saved_before_the_machine_takes_the_next_job(hosts: Rig) -> None:
    ids = hosts.submit('echo "$GPUSCALE_JOB_ID" > "$CHECKPOINT_DIR/model"', 2)
    hosts.drain(max_workers=1)
    for job_id in ids:
        stages = [
            event.to_state
            for event in hosts.events()
            if event.job_id == job_id and event.kind == "attempt" and event.to_state
        ]
        assert stages == ["staging", "running", "saving", "ended"]
        saved = hosts.home.checkpoints / f"j{job_id}" / "1" / "files" / "model"
        assert saved.read_text() == f"j{job_id}\n"


def test_a_machine_that_becomes_free_takes_no_job_while_the_engine_ends(hosts: Rig) -> None:
    first, second = hosts.submit(WAIT + " true", 2)
    with hosts.engine(max_workers=1) as engine:
        until(lambda: hosts.job(first).state == "running")
        hosts.command(commands.stop, at_once=False)
        until(lambda: not hosts.db.read(engines.open_requests))
        hosts.gate.touch()
        assert engine.wait(PATIENCE_SEC)
    assert (hosts.job(first).state, hosts.job(second).state) == ("done", "pending")


def test_ended_attempts_are_removed_from_their_machines(hosts: Rig) -> None:
    ids = hosts.submit("true", 4)
    [long] = hosts.submit("sleep 300")
    with hosts.engine(idle_timeout_sec=600):
        until(lambda: all(hosts.job(job_id).state == "done" for job_id in ids))
        until(lambda: directories(hosts) == {f"j{long}-1"})


def test_what_an_engine_before_has_left_is_removed_at_first_contact(hosts: Rig) -> None:
    """Only attempts that the store knows as ended: of one that it does not know nobody can say what it was."""
    [job_id] = hosts.submit("true")
    with hosts.engine(min_workers=1):
        until(lambda: hosts.job(job_id).state == "done")
        until(lambda: not directories(hosts))
        [place] = (hosts.home.path.parent / "sshd" / "home" / ".gpuscale").iterdir()
        for name in (f"j{job_id}-1", "j999-1"):
            Path(place / name).mkdir()
            Path(place / name / "exit").write_text("0 0 0\n")
    with hosts.engine(min_workers=1):
        until(lambda: directories(hosts) == {"j999-1"})
