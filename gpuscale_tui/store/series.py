"""What jobs and machines said over time, in the log file: metrics of jobs and the use of machines, thinned.

A series is one metric of one job over all of its attempts. It keeps some 2,000 points: once there are more, each six
that follow each other become three (the smallest, the largest and the last), and from then on so many more readings go
into each three. So peaks stay however long a job runs, and a series never takes more than some 30 KB. nan and infinite
values are kept as such.

Which bytes of the output were read stands beside the points and changes with them: an engine that is killed at any
moment leaves no point out and adds none twice.
"""

from __future__ import annotations

import math
import sqlite3
import struct
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gpuscale_tui.store import logs
from gpuscale_tui.store.progress import Usage
from gpuscale_tui.store.usage import read_usage

__all__ = ["Parsed", "Point", "Unread", "Usage", "fetch", "keep", "metric", "metric_names", "unread", "usage"]

FIRST_NAMES = ("loss", "val_loss", "accuracy", "val_accuracy", "lr")
"""Metrics that stand first in a list, in this order; others follow by name."""
MOST_POINTS = 2_000
MOST_SERIES = 48
"""Metrics of one job; a job that prints ever new names gets no more."""
BLOCK = 64
GROUP = 6
KEPT_OF_GROUP = 3
_POINT = struct.Struct("<qqd")
_NO_STEP = -1


@dataclass(frozen=True, slots=True)
class Point:
    """One reading: when (UTC ms), at which step of the whole job (None where the output does not say), and what."""

    at: int
    step: int | None
    value: float


@dataclass(frozen=True, slots=True)
class Unread:
    """Output of an attempt that was not read for its metrics yet: bytes `start` to `end`."""

    job_id: int
    attempt: int
    start: int
    end: int
    begun: int | None = None
    """When the first of it arrived (UTC ms), where that is known."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What bytes `start` to `end` of an attempt's output said, by metric."""

    job_id: int
    attempt: int
    start: int
    end: int
    points: Mapping[str, Sequence[Point]] = field(default_factory=dict)


def unread(connection: sqlite3.Connection) -> list[Unread]:
    """All output that was not read for its metrics yet, by attempt."""
    rows = connection.execute("SELECT job_id, attempt, parsed, size, begun FROM streams WHERE parsed < size")
    return [Unread(*row) for row in rows]


def fetch(connection: sqlite3.Connection, wants: Iterable[tuple[int, int, int, int]]) -> list[bytes]:
    """The stored output for each job, attempt, first byte and byte after the last."""
    return [logs.read(connection, *want) for want in wants]


def keep(connection: sqlite3.Connection, read: Iterable[Parsed]) -> int:
    """Add what was read; how many of them were new. What another has read meanwhile, or was dropped, is passed over.

    To be called inside a transaction: bytes and points belong together.
    """
    return sum(_keep(connection, each) for each in read)


def _keep(connection: sqlite3.Connection, read: Parsed) -> bool:
    fresh = connection.execute(
        "UPDATE streams SET parsed = ? WHERE job_id = ? AND attempt = ? AND parsed = ? AND size >= ?",
        (read.end, read.job_id, read.attempt, read.start, read.end),
    )
    if fresh.rowcount != 1:
        return False
    if read.points:
        rows = connection.execute("SELECT * FROM series WHERE job_id = ?", (read.job_id,)).fetchall()
        known = {row["name"]: _Series.of(row) for row in rows}
        for name, points in read.points.items():
            series = known.get(name) or _new(connection, read.job_id, name, known)
            if series is not None:
                known[name] = series
                series.extend(connection, points)
    return True


def _new(connection: sqlite3.Connection, job_id: int, name: str, known: Mapping[str, object]) -> _Series | None:
    if len(known) >= MOST_SERIES:
        return None
    query = "INSERT INTO series (job_id, name) VALUES (?, ?) RETURNING *"
    return _Series.of(connection.execute(query, (job_id, name)).fetchall()[0])


@dataclass(slots=True)
class _Series:
    """A row of `series`, being added to. `bucket` has the most telling of the last `gathered` readings."""

    id: int
    level: int
    points: int
    blocks: int
    tail: list[Point]
    gathered: int
    bucket: list[Point]

    @classmethod
    def of(cls, row: sqlite3.Row) -> _Series:
        opened = bytes(row["open"])
        gathered = int.from_bytes(opened[:8], "little")
        return cls(
            row["id"], row["level"], row["points"], row["blocks"], _unpack(row["tail"]), gathered, _unpack(opened[8:])
        )

    def extend(self, connection: sqlite3.Connection, points: Iterable[Point]) -> None:
        """Add readings and write the row."""
        for point in points:
            self._add(point)
        while len(self.tail) >= BLOCK:
            self._put_block(connection, self.tail[:BLOCK])
            self.tail = self.tail[BLOCK:]
        if self.points + len(self.tail) > MOST_POINTS:
            self._thin(connection)
        opened = self.gathered.to_bytes(8, "little") + _pack(self.bucket)
        connection.execute(
            "UPDATE series SET level = ?, points = ?, blocks = ?, tail = ?, open = ? WHERE id = ?",
            (self.level, self.points, self.blocks, _pack(self.tail), opened, self.id),
        )

    def _add(self, point: Point) -> None:
        if not self.level:
            self.tail.append(point)
            return
        self.bucket, self.gathered = telling([*self.bucket, point]), self.gathered + 1
        if self.gathered >= GROUP << (self.level - 1):
            self.tail += self.bucket
            self.bucket, self.gathered = [], 0

    def _put_block(self, connection: sqlite3.Connection, points: Sequence[Point]) -> None:
        connection.execute(
            "INSERT INTO blocks (series, number, data) VALUES (?, ?, ?)", (self.id, self.blocks, _compress(points))
        )
        self.blocks, self.points = self.blocks + 1, self.points + len(points)

    def _thin(self, connection: sqlite3.Connection) -> None:
        """Halve the points. A bucket that is half full ends here, so that later ones are whole."""
        every = [*_stored(connection, self.id), *self.tail, *self.bucket]
        connection.execute("DELETE FROM blocks WHERE series = ?", (self.id,))
        self.level, self.points, self.blocks, self.bucket, self.gathered = self.level + 1, 0, 0, [], 0
        self.tail = thinned(every, GROUP)
        while len(self.tail) >= BLOCK:
            self._put_block(connection, self.tail[:BLOCK])
            self.tail = self.tail[BLOCK:]


def telling(points: Sequence[Point]) -> list[Point]:
    """The smallest, the largest (nan is larger than anything) and the last, in their order."""
    if len(points) <= KEPT_OF_GROUP:
        return list(points)
    places = range(len(points))
    low = min(places, key=lambda place: _rank(points[place].value))
    high = max(places, key=lambda place: _rank(points[place].value))
    return [points[place] for place in sorted({low, high, len(points) - 1})]


def _rank(value: float) -> tuple[bool, float]:
    return (True, 0.0) if math.isnan(value) else (False, value)


def thinned(points: Sequence[Point], group: int) -> list[Point]:
    """Of each `group` that follow each other the most telling."""
    found: list[Point] = []
    for begin in range(0, len(points), group):
        found += telling(points[begin : begin + group])
    return found


def _pack(points: Iterable[Point]) -> bytes:
    return b"".join(_POINT.pack(p.at, _NO_STEP if p.step is None else p.step, p.value) for p in points)


def _unpack(data: bytes) -> list[Point]:
    return [Point(at, None if step == _NO_STEP else step, value) for at, step, value in _POINT.iter_unpack(data)]


def _compress(points: Sequence[Point]) -> bytes:
    """Columns one after the other, times and steps as differences: a third of the room."""
    times, steps = array("q"), array("q")
    at = step = 0
    for point in points:
        now = _NO_STEP if point.step is None else point.step
        times.append(point.at - at)
        steps.append(now - step)
        at, step = point.at, now
    return zlib.compress(times.tobytes() + steps.tobytes() + array("d", [p.value for p in points]).tobytes(), 6)


def _expand(data: bytes) -> list[Point]:
    raw = zlib.decompress(data)
    third = len(raw) // 3
    times, steps, values = array("q", raw[:third]), array("q", raw[third : 2 * third]), array("d", raw[2 * third :])
    found, at, step = [], 0, 0
    for time, stride, value in zip(times, steps, values, strict=True):
        at, step = at + time, step + stride
        found.append(Point(at, None if step == _NO_STEP else step, value))
    return found


def _stored(connection: sqlite3.Connection, series: int) -> list[Point]:
    rows = connection.execute("SELECT data FROM blocks WHERE series = ? ORDER BY number", (series,))
    return [point for row in rows for point in _expand(row["data"])]


def metric_names(connection: sqlite3.Connection, job_id: int) -> list[str]:
    """The metrics that there are of a job, loss first."""
    found = {row["name"] for row in connection.execute("SELECT name FROM series WHERE job_id = ?", (job_id,))}
    return [*(name for name in FIRST_NAMES if name in found), *sorted(found - set(FIRST_NAMES))]


def metric(connection: sqlite3.Connection, job_id: int, name: str, most: int = 400) -> list[Point]:
    """One metric of a job over all of its attempts in order of time, at most so many points of it, peaks kept."""
    row = connection.execute("SELECT * FROM series WHERE job_id = ? AND name = ?", (job_id, name)).fetchone()
    if row is None or most < 1:
        return []
    series = _Series.of(row)
    points = sorted([*_stored(connection, series.id), *series.tail, *series.bucket], key=lambda point: point.at)
    if len(points) <= most:
        return points
    return thinned(points, math.ceil(len(points) * KEPT_OF_GROUP / most))[-most:]


def usage(connection: sqlite3.Connection, worker_id: int, since: int, until: int, most: int = 400) -> list[Usage]:
    """What a machine did from `since` up to `until` (UTC ms), in order of time, at most so many readings of it."""
    return read_usage(connection, worker_id, since, until, most)
