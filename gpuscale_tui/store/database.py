"""Opening the database, and the two ways to use it: at once (`Database`) and from an event loop (`AsyncDatabase`).

Every query and every command of the store is a plain function of a `sqlite3.Connection`. `read` calls it on a reading
connection, `write` inside one `BEGIN IMMEDIATE` transaction, so that a command is atomic by construction and nothing
is awaited inside a transaction. SQL stands nowhere else in the project.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.store.schema import MIGRATIONS, SCHEMA_VERSION

P = ParamSpec("P")
T = TypeVar("T")
BUSY_TIMEOUT_SEC = 10.0


class StoreError(GpuscaleError):
    """The database cannot be used; the message says why and what to do. The file is left as it is."""


class StaleEngine(StoreError):
    """Another engine has taken this home over: this one may change nothing any more."""


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """Open the main database, made and migrated as needed. Raises StoreError for a newer, corrupt or unusable file."""
    try:
        return _connect(path, readonly=readonly)
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"{path}: cannot be opened: {error}. Check the directory's owner, its mode and the disk"
        ) from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path}: this is no intact gpuscale database ({error}). It was left as it is: restore it from a backup, "
            f"or move it away to begin anew (machines still rented then show up as not ours: give them back by hand)"
        ) from error


def _connect(path: Path, *, readonly: bool) -> sqlite3.Connection:
    if not readonly and not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    uri = f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rw'}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_SEC, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        _check_version(connection, path)
        if not readonly:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    version = user_version(connection)
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: written by a newer gpuscale (schema {version}, this program knows {SCHEMA_VERSION}). "
            f"Upgrade gpuscale, or use another home with --home"
        )


def user_version(connection: sqlite3.Connection) -> int:
    """Number of migrations that this file has had."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection) -> None:
    """Apply the migrations that are still missing, each in a transaction of its own."""
    while (version := user_version(connection)) < SCHEMA_VERSION:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if user_version(connection) == version:
                for statement in _statements(MIGRATIONS[version]):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _statements(script: str) -> list[str]:
    """The statements of a script: `executescript` would commit the transaction around it."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements


def transact(
    connection: sqlite3.Connection,
    epoch: int | None,
    command: Callable[Concatenate[sqlite3.Connection, P], T],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run a command in one transaction; with an epoch, only while that epoch is the current one (else StaleEngine)."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if epoch is not None:
            _check_epoch(connection, epoch)
        result = command(connection, *args, **kwargs)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _check_epoch(connection: sqlite3.Connection, epoch: int) -> None:
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
        """Call a query."""
        return query(self.connection, *args, **kwargs)

    def write(self, command: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a command in one transaction."""
        return transact(self.connection, None, command, *args, **kwargs)
