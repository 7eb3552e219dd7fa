"""The store for an event loop: aiosqlite connections, one that writes and one that reads beside it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import aiosqlite

from gpuscale_tui.store import logs
from gpuscale_tui.store.batches import Entry, settle
from gpuscale_tui.store.database import connect, in_snapshot, transact

P = ParamSpec("P")
T = TypeVar("T")


def _connect_main(path: Path, readonly: bool) -> sqlite3.Connection:
    return connect(path, readonly=readonly)


class Connection(aiosqlite.Connection):
    """An aiosqlite connection that can run a whole function of the raw connection on its thread.

    One hop per query or transaction instead of one per statement, and no other task's statement in between.
    """

    async def call(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run the function on this connection's thread. It ends even when the caller is cancelled."""
        return await self._execute(function, self._conn, *args, **kwargs)  # type: ignore[no-any-return,no-untyped-call]


async def open_connection(
    path: Path, *, readonly: bool, connector: Callable[[Path, bool], sqlite3.Connection] = _connect_main
) -> Connection:
    """Open a database on a thread of its own. Raises StoreError."""
    connection = Connection(lambda: connector(path, readonly), 64)
    await connection
    return connection


async def open_pair(
    path: Path, *, readonly: bool, connector: Callable[[Path, bool], sqlite3.Connection] = _connect_main
) -> tuple[Connection | None, Connection]:
    """A writing connection (None where only reading is wanted) and a reading one beside it. Raises StoreError."""
    writer = None if readonly else await open_connection(path, readonly=False, connector=connector)
    try:
        return writer, await open_connection(path, readonly=True, connector=connector)
    except BaseException:
        await close_all(writer)
        raise


async def close_all(*connections: Connection | None) -> None:
    """Close connections after what is under way, each even when another fails or the caller is cancelled.

    A connection left open would keep its thread, and with it the process, alive.
    """
    closing = [connection.close() for connection in connections if connection is not None]
    for result in await asyncio.shield(asyncio.gather(*closing, return_exceptions=True)):
        if isinstance(result, BaseException):
            raise result


class AsyncDatabase:
    """The store as the engine and the screen use it: `write` commands go through one connection, `read` beside it.

    `epoch` is the engine's; with it every write is refused once another engine has taken over.
    """

    def __init__(self, writer: Connection | None, reader: Connection) -> None:
        self._writer = writer
        self._reader = reader
        self._waiting: deque[Entry[Any]] = deque()
        self.epoch: int | None = None

    @classmethod
    async def open(cls, path: Path, *, readonly: bool = False) -> Self:
        """Open reader and (unless read-only) writer. Raises StoreError."""
        return cls(*await open_pair(path, readonly=readonly))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close both connections, after what is under way."""
        await close_all(self._reader, self._writer)

    async def read(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a query on the reading connection, in one snapshot of the data."""
        return await self._reader.call(in_snapshot, query, *args, **kwargs)

    async def write(
        self, command: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a command in one transaction on the writing connection; it survives a loss of power once this returns.

        Commands that wait at the same time share a commit (`batches`). Once begun a command is carried through even
        when the caller is cancelled: an act is never without its record.
        """
        return await self._settle(True, partial(_call, command, args, kwargs))

    async def note(
        self, command: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `write`, but without waiting for the disk: safe from the end of the process, not from a loss of power.

        For what the machines or the provider would tell again: stages of an attempt, sizes, contacts, heartbeats. The
        next `write` makes it durable as well.
        """
        return await self._settle(False, partial(_call, command, args, kwargs))

    async def _settle(self, durable: bool, command: Callable[[sqlite3.Connection], T]) -> T:
        if self._writer is None:
            raise RuntimeError("this store was opened for reading only")
        entry = Entry(command, self.epoch, durable)
        self._waiting.append(entry)  # and handed to the thread in the same step, so that both are in one order
        return await self._writer.call(settle, self._waiting, entry)

    async def data_version(self) -> int:
        """A number that changes when another connection has committed."""
        return await self._reader.call(_data_version)

    async def outside_version(self) -> int:
        """A number that changes when somebody has committed by another way than `write` and `note` here."""
        if self._writer is None:
            raise RuntimeError("this store was opened for reading only")
        return await self._writer.call(_data_version)


def _call(
    command: Callable[..., T], args: tuple[Any, ...], kwargs: Mapping[str, Any], connection: sqlite3.Connection
) -> T:
    return command(connection, *args, **kwargs)


def _data_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


class AsyncLogs:
    """The log file for an event loop: one thread appends, another reads beside it."""

    def __init__(self, writer: Connection | None, reader: Connection) -> None:
        self._writer = writer
        self._reader = reader

    @classmethod
    async def open(cls, path: Path, *, readonly: bool = False) -> Self:
        """Open the file for reading and (unless read-only) appending. Raises StoreError."""
        return cls(*await open_pair(path, readonly=readonly, connector=logs.connect_logs))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close both connections, after what is under way."""
        await close_all(self._reader, self._writer)

    async def append(self, job_id: int, attempt: int, offset: int, data: bytes, *, at: int | None = None) -> int:
        """As `logs.append`; once begun it is carried through even when the caller is cancelled."""
        return await self._writing.call(logs.append, job_id, attempt, offset, data, at=at)

    async def pack_later(self, most: int) -> int:
        """As `logs.pack_later`."""
        return await self._writing.call(logs.pack_later, most)

    async def drop(self, job_id: int) -> None:
        """As `logs.drop`."""
        await self._writing.call(logs.drop, job_id)

    async def query(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a query of what was read from the output (`series`) in one snapshot, beside the appends."""
        return await self._reader.call(in_snapshot, query, *args, **kwargs)

    async def command(
        self, command: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a command in one transaction between two appends: it should take milliseconds."""
        return await self._writing.call(transact, None, command, *args, **kwargs)

    async def size(self, job_id: int, attempt: int) -> int:
        """As `logs.size`."""
        return await self._reader.call(logs.size, job_id, attempt)

    async def read(self, job_id: int, attempt: int, start: int, end: int) -> bytes:
        """As `logs.read`."""
        return await self._reader.call(logs.read, job_id, attempt, start, end)

    async def line_count(self, job_id: int, attempt: int) -> int:
        """As `logs.line_count`."""
        return await self._reader.call(logs.line_count, job_id, attempt)

    async def lines(self, job_id: int, attempt: int, first: int, count: int) -> list[bytes]:
        """As `logs.lines`."""
        return await self._reader.call(logs.lines, job_id, attempt, first, count)

    @property
    def _writing(self) -> Connection:
        if self._writer is None:
            raise RuntimeError("this log file was opened for reading only")
        return self._writer
