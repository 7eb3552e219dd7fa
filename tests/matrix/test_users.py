"""F20, F21, F24: two controllers, users who act at bad moments, a program that is upgraded while jobs run."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gpuscale_tui.engine import commands
from gpuscale_tui.engine.lock import EngineRunning
from gpuscale_tui.store import database, engines
from gpuscale_tui.store.opening import StoreError, open_file
from tests.engine.conftest import WAIT, until
from tests.matrix.conftest import Shared
from tests.matrix.invariants import check, known_rentals, rented_but_unknown
from tests.matrix.scene import LINES, LINES_OUT, Scene, new_scene


def test_f20_two_homes_on_one_account(shared: Shared, tmp_path: Path) -> None:
    """I1 I2 I5 I6: each sees the orders of the other and touches none; each job runs once; each pays its own part."""
    with (
        new_scene(tmp_path / "one", shared.sandbox, shared.foreign) as one,
        new_scene(tmp_path / "two", shared.sandbox, shared.foreign) as two,
    ):
        jobs = {scene.rig.home.path: scene.submit(count=3) for scene in (one, two)}
        with one.engine() as first, two.engine() as second:
            one.ended(first)
            two.ended(second)
        mine = [{worker.order_id for worker in scene.rig.workers()} - {None} for scene in (one, two)]
        assert not mine[0] & mine[1]
        for scene, theirs in ((one, mine[1]), (two, mine[0])):
            scene.before |= {int(order) for order in theirs if order is not None}
            scene.others = frozenset(theirs)
            check(scene, dict.fromkeys(jobs[scene.rig.home.path], "done"))


def test_f20_two_engines_on_one_home(scene: Scene) -> None:
    """I1 I2 I5 I6: the second is refused; should it begin all the same, the first one changes nothing any more."""
    [job] = scene.submit(f"{WAIT} {LINES}")
    with scene.engine() as engine:
        until(lambda: scene.state(job) == "running")
        with pytest.raises(EngineRunning), scene.engine():
            pass
        scene.rig.db.write(engines.begin_epoch, 1, "test", engines.Limits(1, 1), scene.clock())
        until(lambda: not engine.alive)
        assert isinstance(engine.failure, database.StaleEngine)
        assert scene.state(job) == "running"
    scene.rig.gate.touch()
    scene.drain()
    assert scene.rig.output(job) == LINES_OUT
    check(scene, {job: "done"})


def test_f21_a_job_is_cancelled_while_its_machine_boots(scene: Scene) -> None:
    """I1 I4: nobody needs the machine any more: it goes back, and the job stays cancelled."""
    scene.market.fault(slow_boot={"value": 2.0, "count": 1})
    [job] = scene.submit()
    with scene.engine(max_workers=1) as engine:
        until(lambda: any(worker.state == "booting" for worker in scene.held()))
        scene.rig.command(commands.cancel, [job])
        scene.ended(engine)
    check(scene, {job: "cancelled"})


@pytest.mark.parametrize("leave", ["detach", "stop now"])
def test_f21_leaving_in_the_middle_of_a_create(scene: Scene, leave: str) -> None:
    """I1 I2 I4: the call is on its way when the engine ends: whatever came of it is in use or given back later."""
    scene.market.fault(create_delayed={"value": 0.7, "count": 1})
    [job] = scene.submit()
    with scene.engine(max_workers=1) as engine:
        until(scene.held)
        until(lambda: scene.market.faults()["create_delayed"]["struck"])  # an intent alone is no call on its way
        if leave != "detach":
            engine.stop(at_once=True)
            scene.ended(engine)
    if leave != "detach":
        assert not scene.live()
        assert scene.state(job) == "pending"
    scene.drain(max_workers=1)
    assert list(known_rentals(scene)) == []
    check(scene, {job: "done"})


def test_f21_a_machine_is_given_back_while_it_is_ordered(scene: Scene) -> None:
    """I1 I2 I4: `release` before anybody knows the order's id: it goes back once it is known."""
    scene.market.fault(create_delayed={"value": 0.5, "count": 1})
    [job] = scene.submit()
    with scene.engine(max_workers=1) as engine:
        until(scene.held)
        scene.rig.command(commands.release, scene.held()[0].id)
        while not engine.wait(0.05):
            assert not rented_but_unknown(scene)
        assert engine.failure is None
    check(scene, {job: "done"})


def test_f21_ctrl_c_twice(scene: Scene) -> None:
    """I1 I4: the first lets what runs finish, the second saves it, puts it back and gives everything back."""
    [job] = scene.submit(f"{WAIT} {LINES}")
    with scene.engine() as engine:
        until(lambda: scene.state(job) == "running")
        engine.stop(at_once=False)
        engine.stop(at_once=True)
        scene.ended(engine)
        assert not scene.live()
    assert scene.state(job) == "pending"
    scene.rig.gate.touch()
    scene.drain()
    assert scene.rig.job(job).attempt == 2
    check(scene, {job: "done"})


def test_f24_the_program_is_upgraded_while_jobs_run(scene: Scene) -> None:
    """I1 I4: a database of the first schema with a rented machine and a running job: the new program takes over."""
    [job] = scene.submit(f"{WAIT} {LINES}")
    with scene.engine():
        until(lambda: scene.state(job) == "running")
    downgrade(scene)
    scene.rig.gate.touch()
    scene.drain()
    assert scene.rig.output(job) == LINES_OUT
    assert scene.rig.job(job).attempt == 1
    check(scene, {job: "done"})


def downgrade(scene: Scene) -> None:
    """Replace the database by one as the first version of the program would have written it."""
    path = scene.rig.home.database
    scene.rig.db.close()
    old = path.with_name("old.db")
    open_file(old, replace(database.SCHEMA, migrations=database.SCHEMA.migrations[:1]), readonly=False).close()
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("ATTACH ? AS new", (str(path),))
        tables = [row[0] for row in connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'")]
        for table in tables:
            names = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")]
            kept = [row[1] for row in connection.execute(f"PRAGMA new.table_info({table})")]
            columns = ", ".join(name for name in names if name in kept)
            if not table.startswith("sqlite_"):
                connection.execute(f"DELETE FROM main.{table}")
                connection.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")
        connection.commit()
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    old.rename(path)
    scene.rig.db = database.Database(path)


def test_f24_a_downgrade_is_refused(scene: Scene) -> None:
    """I1 I4: an older program must not forget what only the newer one knows: it does not even open the file."""
    path = scene.rig.home.database
    older = replace(database.SCHEMA, migrations=database.SCHEMA.migrations[:-1])
    with pytest.raises(StoreError, match="newer gpuscale"):
        open_file(path, older, readonly=False)
