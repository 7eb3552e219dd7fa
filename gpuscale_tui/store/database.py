"""The main database, and the two ways to use it: at once (`Database`) and from an event loop (`aio.AsyncDatabase`).

Every query and every command of the store is a plain function of a `sqlite3.Connection`. `read` calls it on a reading
connection in one snapshot, `write` inside one `BEGIN IMMEDIATE` transaction, so that a command is atomic by
construction and nothing is awaited inside a transaction. SQL stands nowhere else in the project.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from gpuscale_tui.store.opening import Schema, StoreError, StoreFull, explained, open_file
from gpuscale_tui.store.schema import MIGRATIONS

__all__ = [
    "SCHEMA",
    "Database",
    "StaleEngine",
    "StoreError",
    "StoreFull",
    "check_epoch",
    "connect",
    "in_snapshot",
    "transact",
]

P = ParamSpec("P")
T = TypeVar("T")
SCHEMA = Schema(
    what="gpuscale database",
    application_id=0x67707363,  # "gpsc"
    migrations=MIGRATIONS,
    synchronous="FULL",
    loss="machines still rented then show up as not ours: give them back by hand",
)


class StaleEngine(StoreError):
    """Another engine has taken this home over: this one may change nothing any more."""


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """Open the main database, made and migrated as needed. Raises StoreError for a newer, corrupt or unusable file."""
    return open_file(path, SCHEMA, readonly=readonly)


def transact(
    connection: sqlite3.Connection,
    epoch: int | None,
    command: Callable[Concatenate[sqlite3.Connection, P], T],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run a command in one transaction; with an epoch, only while that epoch is the current one (else StaleEngine).

    Raises StoreError (StoreFull for a full disk) where the file cannot be written; nothing of the command is kept then.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        check_epoch(connection, epoch)
        result = command(connection, *args, **kwargs)
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.OperationalError):  # SQLite has rolled back; the first error counts
                connection.execute("ROLLBACK")
        trouble = explained(connection, error)
        if trouble is None:
            raise
        raise trouble from error
    return result


def in_snapshot(
    connection: sqlite3.Connection,
    query: Callable[Concatenate[sqlite3.Connection, P], T],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run a query so that all its statements see the same state of the data. Raises StoreError for disk trouble."""
    try:
        connection.execute("BEGIN")
        return query(connection, *args, **kwargs)
    except sqlite3.Error as error:
        trouble = explained(connection, error)
        if trouble is None:
            raise
        raise trouble from error
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def check_epoch(connection: sqlite3.Connection, epoch: int | None) -> None:
    """Raise StaleEngine unless this epoch is the current one; None is a user's command and passes."""
    if epoch is None:
        return
    row = connection.execute("SELECT epoch FROM engine").fetchone()
    if row is None or row[0] != epoch:
        raise StaleEngine("another engine has taken this home over; this one has stopped writing")


class Database:
    """The store for a program without an event loop: a verb of the command line."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.connection = connect(path, readonly=readonly)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def read(self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a query in one snapshot of the data."""
        return in_snapshot(self.connection, query, *args, **kwargs)

    def write(self, command: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a command in one transaction."""
        return transact(self.connection, None, command, *args, **kwargs)
