"""The store on an event loop: one writer, readers beside it, and commands that are carried through."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpuscale_tui.store import engines, jobs, queries
from gpuscale_tui.store.aio import AsyncDatabase, open_connection
from gpuscale_tui.store.database import Database, StaleEngine, StoreError
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
        assert go_on.wait(30)
        jobs.insert(connection, [spec()], T0)

    task = asyncio.ensure_future(db.write(slow))
    await asyncio.to_thread(begun.wait, 30)
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


async def test_no_thread_outlives_its_store(path: Path) -> None:
    before = set(threading.enumerate())
    async with await AsyncDatabase.open(path) as database:
        await database.read(queries.count_jobs)
        assert len(set(threading.enumerate()) - before) == 2
    for thread in set(threading.enumerate()) - before:
        await asyncio.to_thread(thread.join, 30)
        assert not thread.is_alive()


async def test_a_store_that_cannot_be_opened_leaves_no_thread_and_says_why(path: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(StoreError, match="no such file yet"):
        await AsyncDatabase.open(path, readonly=True)
    await asyncio.to_thread(path.write_bytes, b"junk" * 1000)
    with pytest.raises(StoreError, match="no intact gpuscale database"):
        await AsyncDatabase.open(path)
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith("asyncio_"):
            await asyncio.to_thread(thread.join, 30)
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
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith("asyncio_"):
            await asyncio.to_thread(thread.join, 30)
            assert not thread.is_alive()
