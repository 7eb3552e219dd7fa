"""The jobs' output: a database file of its own, in compressed chunks with a line index.

A stream is the output of one attempt. Its bytes are cut into chunks of exactly 64 KiB, each compressed by itself, so
that a byte is found by division and a line by the number of line ends before each chunk: any window of a very long log
costs a few chunks. What does not fill a chunk yet waits in small pieces (`tails`), so that short appends write little.
Output that comes faster than it could be compressed is stored as it is, and compressed later (`pack_later`).

Readers see what was committed; a commit survives the end of the process, the last ones may be lost with the power
(`synchronous=NORMAL`): what is missing then is fetched again from the machine by its offset. For an event loop there is
`aio.AsyncLogs`.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store.database import in_snapshot, transact
from gpuscale_tui.store.log_schema import SCHEMA
from gpuscale_tui.store.opening import StoreError, open_file

P = ParamSpec("P")
T = TypeVar("T")
CHUNK = 65_536
LONGEST_LINE = 65_536
"""A longer line is cut to this many bytes where lines are asked for; `read` and `stream` give every byte."""

PAGES_AT_ONCE = 4096
FLOOD = 8 * CHUNK
"""An append of so many bytes means that output waits while it is stored: then it is not compressed yet."""
AS_IT_IS, PACKED, TO_PACK = 0, 1, 2
"""How a chunk is stored: for good as it is, compressed, and as it is until there is time."""
ARRIVALS_APART_MS = 1_000
MOST_ARRIVALS = 20_000
"""Times of arrival are a second apart, and after so many seconds further: their number grows no faster than its log."""
MOST_PIECES = 64
"""Pieces of a tail that are merged into one, so that reading a tail made of single bytes stays cheap."""


class LogGap(ValueError):
    """Bytes were offered that do not follow those that are stored: some in between would be missing."""


def connect_logs(path: Path, readonly: bool = False) -> sqlite3.Connection:
    """Open the log file, made and migrated as needed. Raises StoreError."""
    return open_file(path, SCHEMA, readonly=readonly)


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A row of `streams`: the output of one attempt; for the modules of the store that read it."""

    id: int
    size: int
    newlines: int
    ended: bool
    pieces: int
    begun: int | None = None
    timed: int | None = None

    @property
    def tail_start(self) -> int:
        """Where the bytes begin that are in no chunk yet."""
        return self.size - self.size % CHUNK

    @property
    def lines(self) -> int:
        """Number of lines; the last may lack its line end."""
        return self.newlines + (0 if self.ended else 1)


def find_stream(connection: sqlite3.Connection, job_id: int, attempt: int) -> StreamRow | None:
    """The row of an attempt's output; None before its first byte."""
    row = connection.execute(
        "SELECT id, size, newlines, ended, pieces, begun, timed FROM streams WHERE job_id = ? AND attempt = ?",
        (job_id, attempt),
    ).fetchone()
    if row is None:
        return None
    return StreamRow(
        row["id"], row["size"], row["newlines"], bool(row["ended"]), row["pieces"], row["begun"], row["timed"]
    )


def append(
    connection: sqlite3.Connection, job_id: int, attempt: int, offset: int, data: bytes, *, at: int | None = None
) -> int:
    """Store output that begins at byte `offset` of an attempt's, in one transaction; returns how much is stored now.

    Bytes that are stored already are skipped: repeating an append is harmless. `at` is when they arrived (UTC ms),
    None where nobody knows. Raises LogGap where bytes in between are missing; nothing is stored then.
    """
    if connection.in_transaction:
        return _append(connection, job_id, attempt, offset, data, at=at)
    return transact(connection, None, _append, job_id, attempt, offset, data, at=at)


def _append(
    connection: sqlite3.Connection, job_id: int, attempt: int, offset: int, data: bytes, *, at: int | None
) -> int:
    stream = find_stream(connection, job_id, attempt) or StreamRow(0, 0, 0, True, 0)
    if offset < 0 or offset > stream.size:
        raise LogGap(f"{job_label(job_id)} attempt {attempt}: bytes from {offset}, but {stream.size} are stored")
    fresh = memoryview(data)[stream.size - offset :]
    if not fresh:
        return stream.size
    if not stream.id:
        stream = _begin(connection, job_id, attempt)
    pieces = _store(connection, stream, fresh)
    size = stream.size + len(fresh)
    connection.execute(
        "UPDATE streams SET size = ?, newlines = newlines + ?, ended = ?, pieces = ? WHERE id = ?",
        (size, bytes(fresh).count(b"\n"), int(fresh[-1] == 10), pieces, stream.id),
    )
    if at is not None:
        _note_arrival(connection, stream, bytes(fresh), at)
    return size


def _note_arrival(connection: sqlite3.Connection, stream: StreamRow, fresh: bytes, at: int) -> None:
    """Remember when the lines came that begin in these bytes: at most one row a second, fewer for a long attempt."""
    begun = at if stream.begun is None else stream.begun
    apart = max(ARRIVALS_APART_MS, (at - begun) // MOST_ARRIVALS)
    if stream.timed is not None and at - stream.timed < apart:
        return
    if not stream.ended and fresh.find(b"\n") in {-1, len(fresh) - 1}:
        return  # no line begins here
    line = stream.newlines + (0 if stream.ended else 1)
    connection.execute("INSERT OR IGNORE INTO arrivals (stream, line, at) VALUES (?, ?, ?)", (stream.id, line, at))
    connection.execute("UPDATE streams SET begun = ?, timed = ? WHERE id = ?", (begun, at, stream.id))


def _begin(connection: sqlite3.Connection, job_id: int, attempt: int) -> StreamRow:
    row = connection.execute(
        "INSERT INTO streams (job_id, attempt) VALUES (?, ?) RETURNING id", (job_id, attempt)
    ).fetchall()[0]
    return StreamRow(int(row["id"]), 0, 0, True, 0)


def _store(connection: sqlite3.Connection, stream: StreamRow, fresh: memoryview) -> int:
    """Put bytes at the end of a stream: whole chunks packed, the rest as a piece. Returns the number of pieces."""
    if stream.size % CHUNK + len(fresh) < CHUNK:
        return _add_piece(connection, stream, fresh)
    tail = _tail(connection, stream.id)
    data = b"".join((tail, fresh))
    whole = len(data) - len(data) % CHUNK
    number, before = stream.size // CHUNK, stream.newlines - tail.count(b"\n")
    connection.execute("DELETE FROM tails WHERE stream = ?", (stream.id,))
    form = _wait_to_pack if whole >= FLOOD else _pack
    for start in range(0, whole, CHUNK):
        raw = data[start : start + CHUNK]
        connection.execute(
            "INSERT INTO chunks (stream, number, newlines_before, packed, data) VALUES (?, ?, ?, ?, ?)",
            (stream.id, number, before, *form(raw)),
        )
        number, before = number + 1, before + raw.count(b"\n")
    return _put_piece(connection, stream.id, number * CHUNK, data[whole:])


def _pack(raw: bytes) -> tuple[int, bytes]:
    """Compressed, unless that makes it no smaller."""
    packed = zlib.compress(raw, 1)
    return (PACKED, packed) if len(packed) < len(raw) else (AS_IT_IS, raw)


def _wait_to_pack(raw: bytes) -> tuple[int, bytes]:
    return TO_PACK, raw


def pack_later(connection: sqlite3.Connection, most: int = 64) -> int:
    """Compress up to `most` chunks that came too fast for it, and give their room on disk back; how many it were."""
    count = transact(connection, None, _pack_waiting, most)
    if 0 < count < most:
        _give_back_room(connection)
    return count


def _pack_waiting(connection: sqlite3.Connection, most: int) -> int:
    found = connection.execute(
        f"SELECT stream, number, data FROM chunks WHERE packed = {TO_PACK} ORDER BY stream, number LIMIT ?", (most,)
    ).fetchall()
    for row in found:
        connection.execute(
            "UPDATE chunks SET packed = ?, data = ? WHERE stream = ? AND number = ?",
            (*_pack(bytes(row["data"])), row["stream"], row["number"]),
        )
    return len(found)


def _add_piece(connection: sqlite3.Connection, stream: StreamRow, fresh: memoryview) -> int:
    _put_piece(connection, stream.id, stream.size, bytes(fresh))
    if stream.pieces < MOST_PIECES:
        return stream.pieces + 1
    tail = _tail(connection, stream.id)
    connection.execute("DELETE FROM tails WHERE stream = ?", (stream.id,))
    return _put_piece(connection, stream.id, stream.tail_start, tail)


def _put_piece(connection: sqlite3.Connection, stream_id: int, start: int, data: bytes) -> int:
    if not data:
        return 0
    connection.execute("INSERT INTO tails (stream, start, data) VALUES (?, ?, ?)", (stream_id, start, data))
    return 1


def _tail(connection: sqlite3.Connection, stream_id: int) -> bytes:
    found = connection.execute("SELECT data FROM tails WHERE stream = ? ORDER BY start", (stream_id,))
    return b"".join(row[0] for row in found)


def size(connection: sqlite3.Connection, job_id: int, attempt: int) -> int:
    """Bytes stored of an attempt's output; the offset to go on from."""
    stream = find_stream(connection, job_id, attempt)
    return stream.size if stream else 0


def line_count(connection: sqlite3.Connection, job_id: int, attempt: int) -> int:
    """Number of lines; a last one without a line end counts."""
    stream = find_stream(connection, job_id, attempt)
    return stream.lines if stream else 0


def chunk_of(connection: sqlite3.Connection, stream: StreamRow, number: int) -> bytes:
    """The bytes of one chunk, or those after the last whole one."""
    if number >= stream.tail_start // CHUNK:
        return _tail(connection, stream.id)
    row = connection.execute(
        "SELECT packed, data FROM chunks WHERE stream = ? AND number = ?", (stream.id, number)
    ).fetchone()
    try:
        raw = zlib.decompress(row["data"]) if row["packed"] == PACKED else bytes(row["data"])
    except (zlib.error, TypeError) as error:
        raise StoreError(
            f"the stored output is damaged between bytes {number * CHUNK} and {(number + 1) * CHUNK}"
        ) from error
    return raw


def read(connection: sqlite3.Connection, job_id: int, attempt: int, start: int, end: int) -> bytes:
    """The bytes from `start` up to `end`, as many of them as there are."""
    return b"".join(_in_one_state(connection, _parts, job_id, attempt, start, end))


def _parts(connection: sqlite3.Connection, job_id: int, attempt: int, start: int, end: int) -> list[bytes]:
    stream = find_stream(connection, job_id, attempt)
    if stream is None or start < 0:
        return []
    stop = min(end, stream.size)
    return [
        chunk_of(connection, stream, number)[max(0, start - number * CHUNK) : stop - number * CHUNK]
        for number in range(start // CHUNK, -(-stop // CHUNK))
    ]


def stream(connection: sqlite3.Connection, job_id: int, attempt: int, start: int = 0) -> Iterator[bytes]:
    """All bytes from `start` to the end that there was at the first step, in parts of up to 64 KiB."""
    end = size(connection, job_id, attempt)
    position = start
    while position < end:
        part = read(connection, job_id, attempt, position, min(end, (position // CHUNK + 1) * CHUNK))
        if not part:  # dropped in the meantime
            return
        yield part
        position += len(part)


def lines(connection: sqlite3.Connection, job_id: int, attempt: int, first: int, count: int) -> list[bytes]:
    """A window of lines without their line ends, `first` counting from 0; cut at LONGEST_LINE bytes each."""
    return _in_one_state(connection, _lines, job_id, attempt, first, count)


def _lines(connection: sqlite3.Connection, job_id: int, attempt: int, first: int, count: int) -> list[bytes]:
    stream = find_stream(connection, job_id, attempt)
    if stream is None or count <= 0 or not 0 <= first < stream.lines:
        return []
    wanted = min(count, stream.lines - first)
    number, skip = divmod(_line_start(connection, stream, first), CHUNK)
    found: list[bytes] = []
    begun = b""
    while len(found) < wanted and number * CHUNK < stream.size:
        *ended, rest = chunk_of(connection, stream, number)[skip:].split(b"\n", wanted - len(found))
        for piece in ended:
            found.append((begun + piece)[:LONGEST_LINE])
            begun = b""
        begun = (begun + rest)[:LONGEST_LINE]
        number, skip = number + 1, 0
        if not ended and len(begun) == LONGEST_LINE:  # the rest of this line is cut: go to its end at once
            number = max(number, chunk_of_newline(connection, stream, first + len(found))[0])
    return found if len(found) == wanted else [*found, begun]


def _line_start(connection: sqlite3.Connection, stream: StreamRow, line: int) -> int:
    """The byte at which a line begins: right after the line end before it."""
    if line == 0:
        return 0
    number, before = chunk_of_newline(connection, stream, line - 1)
    data = chunk_of(connection, stream, number)
    after = data.split(b"\n", line - before)[-1]
    return number * CHUNK + len(data) - len(after)


def chunk_of_newline(connection: sqlite3.Connection, stream: StreamRow, newline: int) -> tuple[int, int]:
    """Which chunk holds a line end (counting from 0), and how many line ends stand before that chunk."""
    row = connection.execute(
        "SELECT number, newlines_before FROM chunks WHERE stream = ? AND newlines_before <= ?"
        " ORDER BY newlines_before DESC, number DESC LIMIT 1",
        (stream.id, newline),
    ).fetchone()
    tail = stream.tail_start // CHUNK
    if row is None or row["number"] == tail - 1:
        before_tail = stream.newlines - _tail(connection, stream.id).count(b"\n")
        if row is None or newline >= before_tail:
            return tail, before_tail
    return int(row["number"]), int(row["newlines_before"])


def _in_one_state(
    connection: sqlite3.Connection,
    query: Callable[Concatenate[sqlite3.Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run a query whose statements must agree with each other, inside the caller's transaction if there is one."""
    if connection.in_transaction:
        return query(connection, *args, **kwargs)
    return in_snapshot(connection, query, *args, **kwargs)


def drop(connection: sqlite3.Connection, job_id: int) -> None:
    """Forget all output of a job, what was read from it too, and give the room on disk back."""
    if connection.in_transaction:
        _drop(connection, job_id)
    else:
        transact(connection, None, _drop, job_id)
        _give_back_room(connection)


def _give_back_room(connection: sqlite3.Connection) -> None:
    """Cut the free pages off the file, in slices that keep its write-ahead log short."""
    free = int(connection.execute("PRAGMA freelist_count").fetchone()[0])
    for _ in range(0, free, PAGES_AT_ONCE):
        connection.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")  # `execute` would stop after one page
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _drop(connection: sqlite3.Connection, job_id: int) -> None:
    owned = "SELECT id FROM streams WHERE job_id = ?"
    connection.execute(f"DELETE FROM chunks WHERE stream IN ({owned})", (job_id,))
    connection.execute(f"DELETE FROM tails WHERE stream IN ({owned})", (job_id,))
    connection.execute(f"DELETE FROM arrivals WHERE stream IN ({owned})", (job_id,))
    connection.execute("DELETE FROM streams WHERE job_id = ?", (job_id,))
    connection.execute("DELETE FROM blocks WHERE series IN (SELECT id FROM series WHERE job_id = ?)", (job_id,))
    connection.execute("DELETE FROM series WHERE job_id = ?", (job_id,))
