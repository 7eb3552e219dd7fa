"""The store for an event loop: aiosqlite connections, one that writes and one that reads beside it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

import aiosqlite

from gpuscale_tui.store.database import connect, transact

P = ParamSpec("P")
T = TypeVar("T")


class Connection(aiosqlite.Connection):
    """An aiosqlite connection that can run a whole function of the raw connection on its thread.

    One hop per query or transaction instead of one per statement, and no other task's statement in between.
    """

    async def call(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run the function on this connection's thread. It ends even when the caller is cancelled."""
        return await self._execute(function, self._conn, *args, **kwargs)  # type: ignore[no-any-return,no-untyped-call]


async def open_connection(path: Path, *, readonly: bool) -> Connection:
    """Open the database on a thread of its own. Raises StoreError."""
    connection = Connection(lambda: connect(path, readonly=readonly), 64)
    await connection
    return connection


class AsyncDatabase:
    """The store as the engine and the screen use it: `write` commands go through one connection, `read` beside it.

    `epoch` is the engine's; with it every write is refused once another engine has taken over.
    """

    def __init__(self, writer: Connection | None, reader: Connection) -> None:
        self._writer = writer
        self._reader = reader
        self.epoch: int | None = None

    @classmethod
    async def open(cls, path: Path, *, readonly: bool = False) -> Self:
        """Open reader and (unless read-only) writer. Raises StoreError."""
        writer = None if readonly else await open_connection(path, readonly=False)
        return cls(writer, await open_connection(path, readonly=True))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close both connections, after what is under way."""
        await self._reader.close()
        if self._writer is not None:
            await self._writer.close()

    async def read(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a query on the reading connection, in one snapshot of the data."""
        return await self._reader.call(_in_snapshot, query, *args, **kwargs)

    async def write(
        self, command: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a command in one transaction on the writing connection.

        Once begun it is carried through even when the caller is cancelled: an act is never without its record.
        """
        if self._writer is None:
            raise RuntimeError("this store was opened for reading only")
        return await asyncio.shield(self._writer.call(transact, self.epoch, command, *args, **kwargs))

    async def data_version(self) -> int:
        """A number that changes when another connection has committed."""
        return await self._reader.call(_data_version)


def _in_snapshot(
    connection: sqlite3.Connection,
    query: Callable[Concatenate[sqlite3.Connection, P], T],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    connection.execute("BEGIN")
    try:
        return query(connection, *args, **kwargs)
    finally:
        connection.execute("ROLLBACK")


def _data_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])
