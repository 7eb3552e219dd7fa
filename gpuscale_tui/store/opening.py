"""Opening a database file of ours: made whole at first use, migrated, refused when it is newer, foreign or damaged.

A refused file is never written to: it is judged over a read-only connection first. A file is created under another
name, migrated, and only then given its own name, so that an empty or half-made database is always damage and is never
mistaken for a new one (which would forget the machines that are rented).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gpuscale_tui import rights
from gpuscale_tui.model.errors import GpuscaleError

BUSY_TIMEOUT_SEC = 10.0
JOURNAL_BYTES = 16 * 2**20
"""What a write-ahead log is cut to once its content is in the database; a bulk change makes it longer for a while."""

OLDEST_SQLITE = (3, 40, 0)
HEADER = b"SQLite format 3\x00"


class StoreError(GpuscaleError):
    """The database cannot be used; the message says why and what to do. The file is left as it is."""


class StoreFull(StoreError):
    """There is no room left to write: what was acknowledged is safe, and nothing new can be taken on."""


_TROUBLE = {
    sqlite3.SQLITE_BUSY: f"another program has been writing to it for {BUSY_TIMEOUT_SEC:.0f} seconds; try again",
    sqlite3.SQLITE_READONLY: "it may not be written; check its owner, its mode and the disk",
    sqlite3.SQLITE_IOERR: "the disk does not take or give its bytes; check the disk and its room",
    sqlite3.SQLITE_CANTOPEN: "its files cannot be opened; check the directory's owner, its mode and the disk",
    sqlite3.SQLITE_CORRUPT: "it is damaged; stop every gpuscale, and restore it from a backup",
    sqlite3.SQLITE_NOTADB: "it is damaged; stop every gpuscale, and restore it from a backup",
}


def explained(connection: sqlite3.Connection, error: BaseException) -> StoreError | None:
    """The StoreError for trouble from outside (disk, mode, another writer), None for any other error, such as a bug."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code != sqlite3.SQLITE_FULL and code not in _TROUBLE:
        return None
    try:
        path = connection.execute("PRAGMA database_list").fetchone()["file"]
    except sqlite3.Error:
        path = "the database"
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"{path}: the disk is full ({error}). Nothing acknowledged is lost; make room and try again")
    return StoreError(f"{path}: {_TROUBLE[code]} ({error})")


@dataclass(frozen=True, slots=True)
class Schema:
    """A kind of file: what it is called, its migrations, how durable a commit is, and what losing it would mean.

    `application_id` (`PRAGMA application_id`) tells our files from other programs'. `first` is run before the first
    migration, outside a transaction.
    """

    what: str
    application_id: int
    migrations: tuple[str, ...]
    synchronous: str
    loss: str
    first: str = ""

    @property
    def version(self) -> int:
        """The version that this program writes."""
        return len(self.migrations)


def open_file(path: Path, schema: Schema, *, readonly: bool) -> sqlite3.Connection:
    """Open a database, made and migrated as needed. Raises StoreError for one that cannot or must not be used.

    A read-only connection needs a file that exists, but an older one is migrated for it.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(f"SQLite 3.40 or newer is needed; this Python has {sqlite3.sqlite_version}")
    try:
        return _open(path, schema, readonly=readonly)
    except (sqlite3.OperationalError, OSError) as error:
        raise StoreError(
            f"{path}: cannot be opened: {error}. Check the directory's owner, its mode and the disk"
        ) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, schema, str(error)) from error


def _open(path: Path, schema: Schema, *, readonly: bool) -> sqlite3.Connection:
    _check_presence(path, schema)
    if not path.exists():
        if readonly:
            raise StoreError(f"{path}: there is no such file yet")
        _create(path, schema)
    version = _judge(path, schema)
    if readonly and version == schema.version:
        return _connect(path, "ro")
    connection = _connect(path, "rw")
    try:
        connection.execute(f"PRAGMA synchronous = {schema.synchronous}")
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
        migrate(connection, schema)
    except BaseException:
        connection.close()
        raise
    if not readonly:
        return connection
    connection.close()
    return _connect(path, "ro")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_SEC,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_presence(path: Path, schema: Schema) -> None:
    """Refuse what SQLite would take for a new database: no bytes, or a journal that has lost its file."""
    journal = path.with_name(path.name + "-wal")
    if path.exists():
        if path.stat().st_size == 0:
            raise _damaged(path, schema, "it is empty")
    elif journal.exists() and journal.stat().st_size > 0:
        raise _damaged(path, schema, f"it is missing, but {journal.name} is there")


def _damaged(path: Path, schema: Schema, reason: str) -> StoreError:
    return StoreError(
        f"{path}: this is no intact {schema.what} ({reason}). It was left as it is: restore it from a backup, or move"
        f" it and the files beside it that begin with its name away to begin anew ({schema.loss})"
    )


def _judge(path: Path, schema: Schema) -> int:
    """The file's version. Raises StoreError for a newer or foreign file, DatabaseError for a damaged one."""
    with contextlib.closing(_connect(path, "ro")) as connection:
        application = int(connection.execute("PRAGMA application_id").fetchone()[0])
        version = user_version(connection)
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != schema.application_id or version == 0:
        raise StoreError(f"{path}: this is a database of another program. Use another home with --home")
    if version > schema.version:
        raise StoreError(
            f"{path}: written by a newer gpuscale (schema {version}, this program knows {schema.version}). "
            f"Upgrade gpuscale, or use another home with --home"
        )
    return version


def _create(path: Path, schema: Schema) -> None:
    """Make a whole, migrated, empty database under its name; harmless when another process does so at once."""
    rights.make_directory(path.parent)
    descriptor, draft_name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600
    os.close(descriptor)
    draft = Path(draft_name)
    try:
        with contextlib.closing(_connect(draft, "rw")) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # flushed once, when it is whole
            connection.executescript(schema.first)
            connection.execute(f"PRAGMA application_id = {schema.application_id}")
            connection.execute("PRAGMA journal_mode = WAL")
            migrate(connection, schema)
        rights.settle(draft)  # the files beside it get its mode from SQLite
        _flush(draft)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        sync_directory(path.parent)
    finally:
        for leftover in (draft, *(draft.with_name(draft.name + end) for end in ("-wal", "-shm", "-journal"))):
            leftover.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a loss of power."""
    _flush(directory)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def user_version(connection: sqlite3.Connection) -> int:
    """Number of migrations that this file has had."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, schema: Schema) -> None:
    """Apply the migrations that are still missing, each in a transaction of its own."""
    while (version := user_version(connection)) < schema.version:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if user_version(connection) == version:
                for statement in _statements(schema.migrations[version]):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
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
