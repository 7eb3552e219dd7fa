"""The output of an attempt gone through chunk by chunk, by who looks at all of it; and when its lines arrived."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gpuscale_tui.store.logs import CHUNK, LONGEST_LINE, StreamRow, chunk_of, chunk_of_newline, find_stream

KEPT = 3
"""Unpacked chunks that are kept: the next step begins where the last one ended."""


class Scan:
    """One attempt's output as it is now, to be gone through in steps of one chunk, in any order.

    The connection must stay in one transaction for as long as this lives, else a tail may have become a chunk.
    """

    def __init__(self, connection: sqlite3.Connection, job_id: int, attempt: int) -> None:
        self._connection = connection
        self._stream = find_stream(connection, job_id, attempt) or StreamRow(0, 0, 0, True, 0)
        self._kept: dict[int, bytes] = {}

    @property
    def chunks(self) -> int:
        """How many there are; the last one may not be full."""
        return -(-self._stream.size // CHUNK)

    @property
    def size(self) -> int:
        """Bytes that are stored."""
        return self._stream.size

    @property
    def line_count(self) -> int:
        """Number of lines; a last one without a line end counts."""
        return self._stream.lines

    @property
    def ended_lines(self) -> int:
        """Number of lines that have their line end: those will not change."""
        return self._stream.newlines

    def chunk_of_line(self, line: int) -> int:
        """The chunk that the line end before a line stands in; at most one before the line's own."""
        if line <= 0 or not self.chunks:
            return 0
        return min(chunk_of_newline(self._connection, self._stream, line - 1)[0], self.chunks - 1)

    def lines(self, number: int) -> tuple[int, list[bytes]]:
        """The number of the first line that begins in a chunk, and all that begin there, cut at LONGEST_LINE bytes."""
        raw = self._chunk(number)
        first = self._before(number)
        if number > 0 and self._chunk(number - 1)[-1:] != b"\n":
            end = raw.find(b"\n")
            if end < 0:
                return first + 1, []
            raw, first = raw[end + 1 :], first + 1
        if not raw:
            return first, []
        *ended, rest = raw.split(b"\n")
        if rest:
            ended.append(self._whole(rest, number + 1))
        return first, [line[:LONGEST_LINE] for line in ended]

    def _whole(self, begun: bytes, number: int) -> bytes:
        while number < self.chunks and len(begun) < LONGEST_LINE:
            more, end, _ = self._chunk(number).partition(b"\n")
            begun += more
            if end:
                break
            number += 1
        return begun

    def _before(self, number: int) -> int:
        """Line ends before a chunk."""
        if number * CHUNK >= self._stream.size - self._stream.size % CHUNK:
            return self._stream.newlines - self._chunk(number).count(b"\n") if number < self.chunks else 0
        row = self._connection.execute(
            "SELECT newlines_before FROM chunks WHERE stream = ? AND number = ?", (self._stream.id, number)
        ).fetchone()
        return int(row[0])

    def _chunk(self, number: int) -> bytes:
        if number not in self._kept:
            while len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[number] = chunk_of(self._connection, self._stream, number)
        return self._kept[number]


def line_times(connection: sqlite3.Connection, job_id: int, attempt: int, first: int, count: int) -> list[int | None]:
    """When lines arrived (UTC ms, to the second), `first` counting from 0; None where that was not noted."""
    stream = find_stream(connection, job_id, attempt)
    if stream is None or count <= 0:
        return [None] * max(0, count)
    rows = connection.execute(
        "SELECT line, at FROM arrivals WHERE stream = ? AND line < ? AND line >= coalesce("
        "(SELECT max(line) FROM arrivals WHERE stream = ? AND line <= ?), ?) ORDER BY line",
        (stream.id, first + count, stream.id, first, first),
    ).fetchall()
    times: list[int | None] = []
    at: int | None = None
    place = 0
    for line in range(first, first + count):
        while place < len(rows) and rows[place][0] <= line:
            at = int(rows[place][1])
            place += 1
        times.append(at)
    return times


@dataclass(frozen=True, slots=True)
class Extent:
    """How much output an attempt has: lines (a last one without a line end counts) and bytes."""

    attempt: int
    lines: int
    size: int


def extents(connection: sqlite3.Connection, job_id: int) -> list[Extent]:
    """The attempts of a job that have output, first to last."""
    found = connection.execute(
        "SELECT attempt, newlines + 1 - ended AS lines, size FROM streams WHERE job_id = ? ORDER BY attempt", (job_id,)
    )
    return [Extent(*row) for row in found]
