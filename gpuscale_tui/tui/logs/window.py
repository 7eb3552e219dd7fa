"""What is read for the rows on screen: lines as they are shown, what kind they are, when they came."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from gpuscale_tui.policy.output import classify
from gpuscale_tui.store import logs
from gpuscale_tui.store.log_scan import extents, line_times
from gpuscale_tui.tui.logs.layout import ALL, Build, Layout, Part, Row, Stream
from gpuscale_tui.tui.logs.lines import Shown, shown
from gpuscale_tui.tui.reader import OutputQuery

LONG = 2_000
"""Bytes of a line whose looks are worth keeping: a hostile one takes milliseconds to clean."""
MOST_KEPT = 200
LAST_LINES = 12
"""Lines at the end of a section among which its last metrics are looked for."""

Kept = dict[bytes, Shown]
NOTHING = Shown("")


@dataclass(frozen=True, slots=True)
class Item:
    """A row, and what it shows. `kind` is that of `policy.output.classify`; `at` is when the line came (UTC ms)."""

    row: Row
    shown: Shown = NOTHING
    kind: str = ""
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Rows of a stream as they were read."""

    stream: Stream
    layout: Layout
    first: int
    items: tuple[Item, ...]

    @property
    def lines(self) -> int:
        """Lines that the stream has."""
        return sum(part.lines for part in self.layout.parts)


@dataclass(frozen=True, slots=True)
class Manner:
    """How lines are read: with every control character (`raw`), and when they came (`times`)."""

    raw: bool = False
    times: bool = False


def parts_of(connection: sqlite3.Connection, stream: Stream) -> tuple[Part, ...]:
    """The attempts of a stream that have output."""
    found = extents(connection, stream.job_id)
    return tuple(Part(e.attempt, e.lines, e.size) for e in found if stream.attempt in {ALL, e.attempt})


def read_window(stream: Stream, build: Build, rows: tuple[int | None, int], manner: Manner, kept: Kept) -> OutputQuery:
    """A query for `rows`: first and number; None as the first means the last ones."""

    def query(connection: sqlite3.Connection) -> Window:
        layout = build(parts_of(connection, stream))
        first, count = rows
        start = max(0, layout.total - count) if first is None else max(0, min(first, layout.total - 1))
        wanted = [layout.at(index) for index in range(start, min(start + count, layout.total))]
        items = _Items(connection, stream.job_id, manner, kept).of(wanted)
        return Window(stream, layout, start, items)

    return query


class _Items:
    """Reads what rows show; neighbouring lines at once."""

    def __init__(self, connection: sqlite3.Connection, job_id: int, manner: Manner, kept: Kept) -> None:
        self._connection = connection
        self._job_id = job_id
        self._manner = manner
        self._kept = kept

    def of(self, rows: Sequence[Row]) -> tuple[Item, ...]:
        items: list[Item] = []
        run: list[Row] = []
        for row in rows:
            if run and not (row.kind == "line" and row.attempt == run[-1].attempt and row.line == run[-1].line + 1):
                items += self._lines(run)
                run = []
            if row.kind == "line":
                run.append(row)
            else:
                items.append(self._section(row) if row.kind == "section" else Item(row))
        return (*items, *self._lines(run))

    def _lines(self, run: Sequence[Row]) -> list[Item]:
        if not run:
            return []
        attempt, first = run[0].attempt, run[0].line
        found = logs.lines(self._connection, self._job_id, attempt, first, len(run))
        times: list[int | None] = [None] * len(run)
        if self._manner.times:
            times = line_times(self._connection, self._job_id, attempt, first, len(run))
        return [self._item(row, line, at) for row, line, at in zip(run, found, times, strict=False)]

    def _item(self, row: Row, line: bytes, at: int | None) -> Item:
        look = self._shown(line)
        return Item(row, look, classify(look.text), at)

    def _shown(self, line: bytes) -> Shown:
        if len(line) < LONG:
            return shown(line, raw=self._manner.raw)
        key = line + (b"r" if self._manner.raw else b"-")
        if key not in self._kept:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[key] = shown(line, raw=self._manner.raw)
        return self._kept[key]

    def _section(self, row: Row) -> Item:
        """A section: its last metrics, else its last words."""
        count = min(LAST_LINES, row.count)
        found = logs.lines(self._connection, self._job_id, row.attempt, row.line + row.count - count, count)
        texts = [shown(line) for line in found]
        metrics = [look for look in texts if classify(look.text) in {"metric", "epoch"}]
        words = [look for look in texts if look.text.strip()]
        at = line_times(self._connection, self._job_id, row.attempt, row.line, 1)[0] if self._manner.times else None
        return Item(row, (metrics or words or [NOTHING])[-1], "", at)
