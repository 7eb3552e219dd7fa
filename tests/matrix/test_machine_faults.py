"""F11 to F15 and F22: machines that vanish, refuse, stall, garble and lie while real commands run on them over SSH."""

from __future__ import annotations

import random
from pathlib import Path

from gpuscale_tui.store.checkpoints import SnapshotStore
from tests.engine.conftest import WAIT, until
from tests.matrix.invariants import check
from tests.matrix.scene import LINES, LINES_OUT, NOTE, STEPS, Scene

BLOCK = f'[ "$GPUSCALE_ATTEMPT" -gt 1 ] || {WAIT}'
"""The first attempt stands still here until the gate is open."""


def evict_all(scene: Scene) -> int:
    """Take every machine of ours away; how many those were."""
    orders = [line["order"] for line in scene.live()]
    for order in orders:
        scene.market.evict(order)
    return len(orders)


def test_f11_a_machine_lost_at_every_stage_of_a_job(scene: Scene, tmp_path: Path) -> None:
    """I4 I5 I8 I9: lost while work is brought, while it runs, while that is saved, and again."""
    workdir = tmp_path / "work"
    workdir.mkdir()
    (workdir / "data").write_bytes(random.Random(1).randbytes(3_000_000))
    [job] = scene.submit(STEPS.replace("{}", f'[ "$n" != 4 ] || {{ {WAIT} }};'), workdir=str(workdir))
    with scene.engine(max_workers=1) as engine:
        for stage in ("staging", "running", "snapshot", "saving"):
            seen = scene.rig.events()[-1].id
            if stage == "saving":
                scene.rig.gate.touch()
            until(lambda stage=stage, seen=seen: came_to(scene, stage, seen))
            evict_all(scene)
            scene.clock.ahead_ms += 60_000  # what is held for a while after a loss goes on
        scene.ended(engine)
    assert scene.rig.job(job).attempt >= 4
    check(scene, {job: "done"})


def came_to(scene: Scene, stage: str, since: int) -> bool:
    """Whether a machine or an attempt has come to this stage since that event."""
    found = [event for event in scene.rig.events() if event.id > since]
    if stage == "snapshot":
        return any("saved" in event.detail for event in found)
    return any(event.to_state == stage for event in found)


def test_f11_a_job_goes_on_from_its_snapshot(scene: Scene) -> None:
    """I4 I5 I9: what was saved is not done again, what was not saved is; each attempt's log is whole."""
    [job] = scene.submit(STEPS.replace("{}", f'[ "$n" != 3 ] || {{ {BLOCK} }};'))
    with scene.engine(max_workers=1) as engine:
        until(lambda: b"step 3" in scene.rig.output(job))
        saves = len(scene.seen("saved"))
        until(lambda: len(scene.seen("saved")) > saves)
        evict_all(scene)
        scene.ended(engine)
    assert scene.rig.output(job, 2).splitlines()[0] in {b"from 2", b"from 3"}
    assert scene.rig.output(job, 2).splitlines()[-1] == b"step 6"
    check(scene, {job: "done"})


def test_f12_all_machines_are_lost_at_once_and_again(scene: Scene) -> None:
    """I2 I4 I5 I10: the fleet goes at one stroke, twice; it is rented anew under the cap, and the queue drains."""
    jobs = scene.submit(f"{WAIT} {LINES}", 4)
    with scene.engine() as engine:
        for _ in range(2):
            until(lambda: len(at_work(scene)) == 2)
            assert evict_all(scene) == 2
        scene.rig.gate.touch()
        scene.ended(engine)
    check(scene, dict.fromkeys(jobs, "done"))


def at_work(scene: Scene) -> set[str]:
    """The living orders whose machines are busy."""
    live = {str(line["order"]) for line in scene.live()}
    return live & {str(worker.order_id) for worker in scene.held() if worker.state == "busy"}


def test_f12_a_host_that_comes_and_goes(scene: Scene) -> None:
    """I2 I5 I10: its network is gone for a moment, twice; the command goes on there, and nothing is done twice."""
    [job] = scene.submit(f"{WAIT} {LINES}")
    with scene.engine(max_workers=1) as engine:
        until(lambda: scene.state(job) == "running")
        for number in (1, 2):
            scene.market.fault(host_offline={"value": 0, "back": 0.5, "count": 1})
            until(lambda number=number: len(scene.log("online")) == number)
        scene.rig.gate.touch()
        scene.ended(engine)
    assert scene.rig.job(job).attempt == 1
    check(scene, {job: "done"})


def test_f13_a_machine_whose_ssh_refuses(scene: Scene) -> None:
    """I4 I8 I10: it runs and bills, and nothing listens: it goes back at its deadline, another does the work."""
    scene.market.fault(ssh_refuses=1)
    scene.rig.patience(3)
    [job] = scene.submit()
    scene.drain(max_workers=1)
    assert len(scene.orders()) >= 2
    assert scene.rig.costs().rejected > 0
    check(scene, {job: "done"})


def test_f13_connections_that_are_cut_at_any_moment(scene: Scene) -> None:
    """I4 I5 I9: the command outlives each of its connections, and no byte of its output is lost or there twice."""
    scene.market.fault(ssh_drop={"value": 0.3, "count": 3})
    [job] = scene.submit(f"{NOTE} i=0; while [ $i -lt 150 ]; do i=$((i+1)); echo line $i; sleep 0.01; done")
    scene.drain(max_workers=1)
    assert scene.rig.output(job) == b"".join(b"line %d\n" % number for number in range(1, 151))
    assert scene.rig.job(job).attempt == 1
    check(scene, {job: "done"})


HOSTILE = (
    r"printf '\033[2J\033]52;c;aGk=\007\0\377\376\303(\n\r10%%\r20%%\r'; printf '\342\200\256evil\342\201\246\n';"
    " head -c 2000000 /dev/zero | tr '\\0' 'A'; echo; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done;"
    " touch -t 203801010000 $CHECKPOINT_DIR/later; printf end"
)
HOSTILE_OUT = (
    b"\x1b[2J\x1b]52;c;aGk=\x07\0\xff\xfe\xc3(\n\r10%\r20%\r\xe2\x80\xaeevil\xe2\x81\xa6\n" + b"A" * 2_000_000 + b"\n"
    + b"".join(b"%d\n" % number for number in range(1, 3001)) + b"end"
)  # fmt: skip


def test_f14_output_of_every_kind_is_stored_byte_for_byte(scene: Scene) -> None:
    """I7 I9: escapes, NUL, broken UTF-8, returns only, a line of megabytes, thousands of short ones, a file from the
    future. (What the screen and the verbs make of such bytes: tests/hostile and tests/tui/test_hostile.py.)"""
    [job] = scene.submit(HOSTILE)
    scene.drain(max_workers=1)
    assert scene.rig.output(job) == HOSTILE_OUT
    check(scene, {job: "done"})


def test_f15_ends_that_mislead(scene: Scene) -> None:
    """I5: "done" and exit 1 is a failure; killed for memory is one; a child that stays behind delays nothing; an exit
    code that nobody can tell any more (its runner was killed) makes a new attempt, never a second run at once."""
    [boasts] = scene.submit("echo done; exit 1")
    [starved] = scene.submit("kill -9 $$")
    [leaves] = scene.submit(f"{NOTE} (sleep 300 &) ; echo main is over")
    [vanishes] = scene.submit(
        f'{NOTE} [ "$GPUSCALE_ATTEMPT" -gt 1 ] && exit 0; read -r _ runner _ < ../runner; kill -9 "$runner"; kill -9 0'
    )
    with scene.engine() as engine:
        until(lambda: any(attempt.ended_at for attempt in scene.rig.attempts(vanishes)))
        scene.clock.ahead_ms += 60_000  # it is held for a while after the fault
        scene.ended(engine)
    states = {boasts: "failed", starved: "failed", leaves: "done", vanishes: "done"}
    assert (scene.rig.job(boasts).exit_code, scene.rig.job(starved).exit_code) == (1, 137)
    assert scene.rig.job(vanishes).attempt == 2
    check(scene, states)


def test_f15_a_command_that_ended_while_ssh_was_dead(scene: Scene) -> None:
    """I5: the connection is cut, the command ends meanwhile: its exit code is asked for, and it is done once."""
    [job] = scene.submit(f"{LINES} {WAIT} exit 0")
    with scene.engine(max_workers=1) as engine:
        until(lambda: b"line 20" in scene.rig.output(job))
        scene.market.fault(ssh_drop={"value": 0.05, "count": 2})
        scene.rig.gate.touch()
        until(lambda: scene.struck("ssh_drop"))
        scene.ended(engine)
    assert scene.rig.output(job) == LINES_OUT
    assert scene.rig.job(job).attempt == 1
    check(scene, {job: "done"})


def test_f22_a_changed_snapshot_is_never_resumed_from(scene: Scene) -> None:
    """I5 I9: the newest snapshot has other bytes than its manifest says: the job goes on from the one before, or anew.
    (Each other damage: tests/store/test_checkpoints.py.)"""
    [job] = scene.submit(STEPS.replace("{}", f'[ "$n" != 3 ] || {{ {BLOCK} }};'))
    with scene.engine(max_workers=1) as engine:
        until(lambda: b"step 3" in scene.rig.output(job))
        saves = len(scene.seen("saved"))
        until(lambda: len(scene.seen("saved")) > saves)
        newest = SnapshotStore(scene.rig.home.checkpoints).snapshots(job)[0]
        (newest.files_path / "step").write_bytes(b"5\n")
        evict_all(scene)
        scene.ended(engine)
    assert int(scene.rig.output(job, 2).splitlines()[0].split()[1]) < 3, "what was damaged was not used"
    check(scene, {job: "done"})
