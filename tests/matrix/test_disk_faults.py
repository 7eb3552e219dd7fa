"""F16 to F18: disks that are full, fail at any write, rot, or lose what was not flushed; databases that others hold."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.states import AttemptState, Cause, JobState
from gpuscale_tui.store import jobs, opening, queries, spans, workers
from gpuscale_tui.store.database import Database, StoreError, StoreFull, connect, transact
from gpuscale_tui.store.home import Home
from tests.engine.conftest import WAIT, until
from tests.matrix.invariants import check
from tests.matrix.scene import LINES, Scene
from tests.store.support import T0, Bench, intent, offer, spec

BY: dict[str, Any] = {"now": T0, "epoch": None}
Step = Callable[[sqlite3.Connection], object]


def life() -> Iterator[Step]:
    """All that happens to a job and its machine, one transaction each, the same each time; big enough for new pages."""
    wish = intent(offer=offer(server_id="s1"), token="t1", reason="r" * 3_000)
    yield lambda c: jobs.insert(c, [spec(command="x" * 9_000)] * 3, T0)
    yield lambda c: workers.write_intent(c, wish, **BY)
    yield lambda c: workers.adopt(c, 1, workers.Adoption("o1", T0, Endpoint("127.0.0.1", 22)), **BY)
    yield lambda c: workers.became_ready(c, 1, "ssh-ed25519 " + "A" * 5_000, **BY)
    yield lambda c: jobs.place(c, 1, 1, **BY)
    for state in (AttemptState.STAGING, AttemptState.RUNNING, AttemptState.SAVING):
        yield lambda c, state=state: jobs.advance_attempt(c, attempt(c), state, **BY)  # type: ignore[misc]
    ending = jobs.Ending(Cause.FINISHED, JobState.DONE, exit_code=0, error="e" * 4_000)
    yield lambda c: jobs.end_attempt(c, attempt(c), ending, **BY)
    yield lambda c: workers.begin_release(c, 1, "enough " * 900, **BY)
    yield lambda c: workers.release_asked(c, 1, "asked", T0 + 5, **BY)
    yield lambda c: workers.confirm_gone(c, 1, "gone", cause=None, **BY)
    yield lambda c: spans.book(c, 1, 123_456, T0, billed=True)


def attempt(connection: sqlite3.Connection) -> Any:
    """The one attempt of that life."""
    return jobs.get_attempt(connection, 1, 1)


def dump(connection: sqlite3.Connection) -> list[str]:
    """All that a database holds."""
    return list(connection.iterdump())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An empty store."""
    made = Bench(tmp_path / "store.db")
    yield made
    made.db.close()


def test_f16_the_disk_is_full_at_the_nth_page(tmp_path: Path) -> None:
    """I1 I4 I8: whichever page finds no room, its command is not there at all, says so, and works later."""
    whole = Bench(tmp_path / "whole.db")
    for step in life():
        transact(whole.db.connection, None, step)
    refused = 0
    for room in itertools.count():
        made = Bench(tmp_path / f"{room}.db")
        connection = made.db.connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + room}")
        failures = 0
        for step in life():
            before = dump(connection)
            with contextlib.suppress(StoreFull):
                transact(connection, None, step)
                continue
            failures += 1
            assert dump(connection) == before
            connection.execute("PRAGMA max_page_count = 1000000")
            transact(connection, None, step)
        assert dump(connection) == dump(whole.db.connection)
        made.db.close()
        refused += failures
        if not failures:
            break
    whole.db.close()
    assert refused >= 8


def test_f16_a_write_that_fails_at_any_step(bench: Bench) -> None:
    """I1 I4 I8: each command, broken off at many points of its work, leaves the store as it was."""
    connection = bench.db.connection
    broken = 0
    for step in life():
        before, steps = dump(connection), 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        connection.set_progress_handler(count, 1)
        connection.execute("SAVEPOINT whole")
        step(connection)
        connection.set_progress_handler(None, 1)
        connection.execute("ROLLBACK TO whole")
        connection.execute("RELEASE whole")
        for last in range(2, steps, max(1, steps // 12)):
            left = last

            def abort() -> int:
                nonlocal left
                left -= 1
                return int(left == 0)

            connection.set_progress_handler(abort, 1)
            try:
                with pytest.raises(sqlite3.OperationalError, match="interrupted"):
                    transact(connection, None, step)
            finally:
                connection.set_progress_handler(None, 1)
            broken += 1
            assert dump(connection) == before
        transact(connection, None, step)
    assert broken > 100


def test_f17_a_bit_that_flips_anywhere(tmp_path: Path) -> None:
    """I1 I4: a damaged file is refused, or found by `doctor`, or says the same as before: no machine is forgotten."""
    home = Home(tmp_path / "home")
    home.ensure()
    good = Bench(home.database)
    for step in itertools.islice(life(), 6):
        transact(good.db.connection, None, step)
    good.db.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    good.db.close()
    data, dice = home.database.read_bytes(), random.Random(17)
    told = 0
    for _ in range(120):
        place = dice.randrange(len(data))
        home.database.write_bytes(data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :])
        try:
            with Database(home.database) as db:
                sound = db.connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
                found = {worker.id for worker in db.read(workers.live)}, db.read(queries.count_jobs)
        except (StoreError, sqlite3.DatabaseError, ValueError, KeyError):
            told += 1
            continue
        assert not sound or found == ({1}, 3), place
        told += not sound
    assert told, "some damage is seen at once"


def test_f17_another_program_holds_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I4: who cannot write says why and has changed nothing; it works once the other one has let go."""
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_SEC", 0.05)
    path = tmp_path / "store.db"
    with Database(path) as ours, closing(connect(path)) as theirs:
        theirs.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another program has been writing"):
            ours.write(jobs.insert, [spec()], T0)
        theirs.execute("ROLLBACK")
        assert ours.write(jobs.insert, [spec()], T0) == [1]


def test_f17_the_database_is_held_for_a_while_in_mid_run(scene: Scene) -> None:
    """I1 I4: the engine waits for its turn; nothing is lost meanwhile, and the work goes on."""
    [job] = scene.submit(f"{WAIT} {LINES}")
    with scene.engine(max_workers=1) as engine:
        until(lambda: scene.state(job) == "running")
        with closing(connect(scene.rig.home.database)) as other:
            other.execute("BEGIN IMMEDIATE")
            scene.rig.gate.touch()
            threading.Event().wait(1.0)  # for so long nobody else can write
            other.execute("ROLLBACK")
        scene.ended(engine)
    check(scene, {job: "done"})


def test_f18_power_is_lost_between_any_two_commits(tmp_path: Path) -> None:
    """I1 I4 I5 I8: what was flushed by the last commit is there; of what came later any part may be missing or torn."""
    states, dice = history(tmp_path / "live"), random.Random(18)
    after = tmp_path / "after" / "store.db"
    after.parent.mkdir()
    for (kept, database, journal), (_, database_next, journal_next) in itertools.pairwise(states):
        for _ in range(3):
            for leftover in after.parent.iterdir():
                leftover.unlink()
            if dice.random() < 0.5:  # while pages are moved over, which begins once the journal is flushed
                after.write_bytes(mixed(dice, database, database_next, 4096))
                after.with_name("store.db-wal").write_bytes(journal_next)
            else:  # while the journal is written: at its end, or over a part that was moved over and flushed before
                more = journal_next.startswith(journal)
                tail = torn(dice, journal_next[len(journal) :]) if more else b""
                after.write_bytes(database)
                after.with_name("store.db-wal").write_bytes(
                    journal + tail if more else mixed(dice, journal, journal_next, 512)
                )
            with Database(after) as db:
                assert db.connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
                count = db.read(queries.count_jobs)
                assert count >= kept
                assert count % 3 == 0, "a command is there as a whole or not at all"
                assert db.read(queries.events_count) == count


def history(place: Path) -> list[tuple[int, bytes, bytes]]:
    """After each of many commits: how many jobs were acknowledged, the database file, its journal."""
    states = []
    path = place / "store.db"
    with Database(path) as db:
        db.connection.execute("PRAGMA wal_autocheckpoint = 12")  # so that pages are moved over again and again
        for number in range(1, 31):
            db.write(jobs.insert, [JobSpec(image="i", command="x" * (1 + number % 7 * 900))] * 3, T0)
            states.append((3 * number, path.read_bytes(), path.with_name("store.db-wal").read_bytes()))
    shutil.rmtree(place)
    return states


def torn(dice: random.Random, data: bytes) -> bytes:
    """What was written and not flushed: cut anywhere, and some of its sectors never arrived."""
    data = data[: dice.randrange(len(data) + 1)]
    sectors = [data[start : start + 512] for start in range(0, len(data), 512)]
    return b"".join(sector if dice.random() < 0.7 else bytes(len(sector)) for sector in sectors)


def mixed(dice: random.Random, before: bytes, later: bytes, size: int) -> bytes:
    """Each piece as it was before or as it became later; what is longer may have its end or not."""
    length = dice.choice([len(before), max(len(before), len(later))])
    pieces = []
    for start in range(0, length, size):
        old, new = before[start : start + size], later[start : start + size]
        pieces.append(new if new and (not old or dice.random() < 0.5) else old)
    return b"".join(pieces)
