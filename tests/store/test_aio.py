"""The store on an event loop: one writer, readers beside it, and commands that are carried through."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.store import engines, jobs, queries
from gpuscale_tui.store.aio import AsyncDatabase, open_connection
from gpuscale_tui.store.database import Database, StaleEngine, StoreError, StoreFull
from tests.store.support import T0, spec

LIMITS = engines.Limits(1, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gpuscale.db"


@pytest.fixture
async def db(path: Path) -> AsyncIterator[AsyncDatabase]:
    async with await AsyncDatabase.open(path) as database:
        yield database


async def test_writes_are_read_beside_the_writer(db: AsyncDatabase) -> None:
    assert await db.write(jobs.insert, [spec(name="a")], T0) == [1]
    assert [row.name for row in await db.read(queries.job_rows)] == ["a"]


async def test_data_version_rises_when_another_connection_commits(db: AsyncDatabase, path: Path) -> None:
    first = await db.data_version()
    assert await db.data_version() == first
    await db.write(jobs.insert, [spec()], T0)
    second = await db.data_version()
    assert second != first
    with Database(path) as other:
        other.write(jobs.insert, [spec()], T0)
    assert await db.data_version() != second


async def test_many_tasks_write_one_after_the_other(db: AsyncDatabase) -> None:
    batches = await asyncio.gather(*(db.write(jobs.insert, [spec()] * 2, T0) for _ in range(50)))
    assert sorted(job_id for batch in batches for job_id in batch) == list(range(1, 101))


async def test_a_write_that_has_begun_is_carried_through_though_its_caller_is_cancelled(db: AsyncDatabase) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        begun.set()
        assert go_on.wait(90)
        jobs.insert(connection, [spec()], T0)

    task = asyncio.ensure_future(db.write(slow))
    await asyncio.to_thread(begun.wait, 90)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    assert await db.write(jobs.insert, [spec()], T0) == [2], "the next write comes after it"
    assert await db.read(queries.count_jobs) == 2


async def test_a_write_that_fails_is_undone(db: AsyncDatabase) -> None:
    def half(connection: sqlite3.Connection) -> None:
        jobs.insert(connection, [spec()], T0)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        await db.write(half)
    assert await db.read(queries.count_jobs) == 0


async def test_with_an_epoch_a_later_engine_ends_all_writing(db: AsyncDatabase, path: Path) -> None:
    db.epoch = await db.write(engines.begin_epoch, 1, "screen", LIMITS, T0)
    await db.write(jobs.insert, [spec()], T0)
    with Database(path) as other:
        other.write(engines.begin_epoch, 2, "screen", LIMITS, T0)
    with pytest.raises(StaleEngine):
        await db.write(jobs.insert, [spec()], T0)
    assert await db.read(queries.count_jobs) == 1


async def test_a_store_opened_for_reading_does_not_write(db: AsyncDatabase, path: Path) -> None:
    async with await AsyncDatabase.open(path, readonly=True) as reader:
        assert await reader.read(queries.count_jobs) == 0
        with pytest.raises(RuntimeError, match="reading only"):
            await reader.write(jobs.insert, [spec()], T0)
        with pytest.raises(StoreError, match="may not be written"):
            await reader.read(jobs.insert, [spec()], T0)


def threads_since(before: set[threading.Thread]) -> set[threading.Thread]:
    """Threads begun since, but for those of the loop's own pool, which grows when it likes."""
    return {each for each in set(threading.enumerate()) - before if not each.name.startswith("asyncio_")}


async def test_no_thread_outlives_its_store(path: Path) -> None:
    before = set(threading.enumerate())
    async with await AsyncDatabase.open(path) as database:
        await database.read(queries.count_jobs)
        assert len(threads_since(before)) == 2
    for thread in threads_since(before):
        await asyncio.to_thread(thread.join, 90)
        assert not thread.is_alive()


async def test_a_store_that_cannot_be_opened_leaves_no_thread_and_says_why(path: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(StoreError, match="no such file yet"):
        await AsyncDatabase.open(path, readonly=True)
    await asyncio.to_thread(path.write_bytes, b"junk" * 1000)
    with pytest.raises(StoreError, match="no intact gpuscale database"):
        await AsyncDatabase.open(path)
    for thread in threads_since(before):
        await asyncio.to_thread(thread.join, 90)
        assert not thread.is_alive()


async def test_when_the_reader_cannot_be_opened_the_writer_is_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(threading.enumerate())

    async def only_writers(path: Path, *, readonly: bool, connector: object) -> object:
        if readonly:
            raise StoreError("no reader today")
        return await open_connection(path, readonly=False)

    monkeypatch.setattr("gpuscale_tui.store.aio.open_connection", only_writers)
    with pytest.raises(StoreError, match="no reader today"):
        await AsyncDatabase.open(path)
    for thread in threads_since(before):
        await asyncio.to_thread(thread.join, 90)
        assert not thread.is_alive()


async def held_writer(db: AsyncDatabase) -> tuple[asyncio.Future[None], threading.Event]:
    """Keep the writing thread busy until the event is set, so that what follows waits together."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(connection: sqlite3.Connection) -> None:
        begun.set()
        assert go_on.wait(90)

    task = asyncio.ensure_future(db.write(wait))
    await asyncio.to_thread(begun.wait, 90)
    return task, go_on


async def together(db: AsyncDatabase, *calls: Any) -> list[Any]:
    """Let calls wait at the same time, then go; their results or errors."""
    holding, go_on = await held_writer(db)
    tasks = [asyncio.ensure_future(call) for call in calls]
    for _ in range(3):
        await asyncio.sleep(0)
    go_on.set()
    await holding
    return await asyncio.gather(*tasks, return_exceptions=True)


def fail(connection: sqlite3.Connection) -> None:
    jobs.insert(connection, [spec(name="undone")], T0)
    raise RuntimeError("mine alone")


async def commits(db: AsyncDatabase, seen: list[str]) -> None:
    """Note every statement of the writer from now on."""
    await db.write(lambda connection: connection.set_trace_callback(seen.append))


async def test_commands_that_wait_together_share_a_commit(db: AsyncDatabase) -> None:
    seen: list[str] = []
    await commits(db, seen)
    seen.clear()
    ids = await together(db, *(db.write(jobs.insert, [spec()], T0) for _ in range(100)))
    assert ids == [[number] for number in range(1, 101)], "each has its own result, in order"
    assert seen.count("COMMIT") == 3, "the one that kept them waiting, 64 and 36"
    assert await db.read(queries.count_jobs) == 100


async def test_a_command_that_fails_takes_no_neighbour_with_it(db: AsyncDatabase) -> None:
    first, error, second = await together(
        db, db.write(jobs.insert, [spec()], T0), db.write(fail), db.write(jobs.insert, [spec()], T0)
    )
    assert (first, second) == ([1], [2])
    assert isinstance(error, RuntimeError)
    assert [row.name for row in await db.read(queries.job_rows)] == ["job 1", "job 2"]


async def test_a_stale_engine_is_out_while_a_users_commands_go_on(db: AsyncDatabase) -> None:
    holding, go_on = await held_writer(db)
    db.epoch = 7
    stale = asyncio.ensure_future(db.write(jobs.insert, [spec()], T0))
    await asyncio.sleep(0)
    db.epoch = None
    users = asyncio.ensure_future(db.write(jobs.insert, [spec()], T0))
    await asyncio.sleep(0)
    go_on.set()
    await holding
    results = await asyncio.gather(stale, users, return_exceptions=True)
    assert isinstance(results[0], StaleEngine)
    assert results[1] == [1]


async def test_on_a_full_disk_each_command_hears_what_became_of_it_alone(db: AsyncDatabase) -> None:
    def limit(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 8}")

    await db.write(jobs.insert, [spec()], T0)
    await db.write(limit)
    big = [spec(command="x" * 900)] * 60
    results = await together(
        db, db.write(jobs.insert, [spec()], T0), db.write(jobs.insert, big, T0), db.write(jobs.insert, [spec()], T0)
    )
    assert results[0] == [2]
    assert isinstance(results[1], StoreFull)
    assert "Nothing acknowledged is lost" in str(results[1])
    assert results[2] == [3]
    assert await db.read(queries.job_ids) == [1, 2, 3]
    assert await db.read(queries.events_count) == 3


async def test_notes_do_not_wait_for_the_disk_and_writes_do(db: AsyncDatabase) -> None:
    def level(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA synchronous").fetchone()[0])

    assert await db.note(level) == 1
    assert await db.write(level) == 2
    assert await together(db, db.note(level), db.write(level), db.note(level)) == [2, 2, 2]
    assert await db.note(jobs.insert, [spec()], T0) == [1]
    assert await db.read(queries.count_jobs) == 1


async def test_a_damaged_database_is_said_in_words_whoever_else_waits(db: AsyncDatabase) -> None:
    def damaged(connection: sqlite3.Connection) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    error, ids = await together(db, db.write(damaged), db.write(jobs.insert, [spec()], T0))
    assert isinstance(error, StoreError)
    assert "it is damaged; stop every gpuscale" in str(error)
    assert ids == [1]
