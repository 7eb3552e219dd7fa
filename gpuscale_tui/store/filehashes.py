"""Hashes of local files, remembered so that a large directory is not read anew for each job that brings it.

A file of its own in the home, apart from the main database: losing it costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from gpuscale_tui import rights

MOST_FILES = 400_000
"""About 100 MB; what was not asked for longest is forgotten first."""
SETTLED_NS = 2_000_000_000
"""A file that was changed so short a time ago may change again within the same tick of its clock: not remembered."""
CHUNK = 1 << 20
BUSY_SEC = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS hashes (
    path   TEXT PRIMARY KEY,
    stamp  TEXT NOT NULL,      -- size, mtime and ctime in ns, inode, device
    sha256 TEXT NOT NULL,
    used   INTEGER NOT NULL    -- UTC microseconds
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS hashes_by_use ON hashes (used);
"""


class ChangedFile(OSError):
    """A file changed while it was read: it has no hash."""


def hashes(
    memory: Path, files: Iterable[Path], *, told: Callable[[int], None] = lambda _bytes: None
) -> dict[Path, str]:
    """SHA-256 in hex of each file, read only where it has changed since it was last asked for. Blocking.

    `memory` is where they are remembered; `told` hears of the bytes read so far, and may raise to give up. Raises
    OSError for a file that cannot be read, ChangedFile for one that was written to meanwhile.
    """
    found: dict[Path, str] = {}
    new: dict[str, tuple[str, str]] = {}
    read = 0
    with _opened(memory) as connection:
        known = _Known(connection)
        for path in files:
            name = os.fsencode(path).hex()
            stamp = _stamp(path.stat(follow_symlinks=False))
            digest = known.get(name, stamp)
            if digest is None:
                digest, settled = _digest(path, stamp, partial(_tell, told, read))
                read += int(stamp.partition(" ")[0])
                if settled:
                    new[name] = (stamp, digest)
            found[path] = digest
        _remember(connection, known.used, new)
    return found


class _Known:
    """What is remembered, and what of it was asked for."""

    def __init__(self, connection: sqlite3.Connection | None) -> None:
        self._connection = connection
        self.used: list[str] = []

    def get(self, name: str, stamp: str) -> str | None:
        if self._connection is None:
            return None
        try:
            row = self._connection.execute("SELECT stamp, sha256 FROM hashes WHERE path = ?", (name,)).fetchone()
        except sqlite3.Error:  # locked or spoilt: it is only a memory
            return None
        if row is None or row[0] != stamp:
            return None
        self.used.append(name)
        return str(row[1])


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino} {status.st_dev}"


def _tell(told: Callable[[int], None], before: int, count: int) -> None:
    told(before + count)


def _digest(path: Path, stamp: str, told: Callable[[int], None]) -> tuple[str, bool]:
    """A file's hash, and whether it may be remembered. Raises ChangedFile unless it is as `stamp` says all the time."""
    digest, read = hashlib.sha256(), 0
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ChangedFile(f"{path} is no file any more")
        while data := file.read(CHUNK):
            digest.update(data)
            read += len(data)
            told(read)
        if not _stamp(found) == _stamp(os.fstat(file.fileno())) == stamp:
            raise ChangedFile(f"{path} changes while it is read")
    newest = max(found.st_mtime_ns, found.st_ctime_ns)
    return digest.hexdigest(), newest < time.time_ns() - SETTLED_NS


@contextlib.contextmanager
def _opened(memory: Path) -> Iterator[sqlite3.Connection | None]:
    """The memory; None where it cannot be used, and a new one in place of one that is spoilt."""
    connection = _connect(memory)
    if connection is None:
        with contextlib.suppress(OSError):
            memory.unlink(missing_ok=True)
        connection = _connect(memory)
    try:
        yield connection
    finally:
        if connection is not None:
            connection.close()


def _connect(memory: Path) -> sqlite3.Connection | None:
    connection: sqlite3.Connection | None = None
    try:
        with open(memory, "ab", opener=rights.private_opener):
            pass
        connection = sqlite3.connect(memory, timeout=BUSY_SEC, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(_SCHEMA)
    except (sqlite3.Error, OSError):
        if connection is not None:
            connection.close()
        return None
    return connection


def _remember(connection: sqlite3.Connection | None, used: Iterable[str], new: Mapping[str, tuple[str, str]]) -> None:
    if connection is None:
        return
    now = time.time_ns() // 1000
    with contextlib.suppress(sqlite3.Error):  # a full disk, another program: the next one reads the files anew
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("UPDATE hashes SET used = ? WHERE path = ?", [(now, name) for name in used])
        connection.executemany(
            "INSERT OR REPLACE INTO hashes (path, stamp, sha256, used) VALUES (?, ?, ?, ?)",
            [(name, stamp, digest, now) for name, (stamp, digest) in new.items()],
        )
        connection.execute(
            "DELETE FROM hashes WHERE path IN (SELECT path FROM hashes ORDER BY used"
            " LIMIT max(0, (SELECT count(*) FROM hashes) - ?))",
            (MOST_FILES,),
        )
        connection.execute("COMMIT")
