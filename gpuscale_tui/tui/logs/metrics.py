"""The nearest line with metrics: they are seldom far, so lines are looked at in small windows where they lie."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gpuscale_tui.policy.output import classify
from gpuscale_tui.store import logs
from gpuscale_tui.tui.logs.layout import Part, Stream
from gpuscale_tui.tui.logs.lines import shown
from gpuscale_tui.tui.logs.sweep import Place
from gpuscale_tui.tui.reader import OutputQuery, Reader

AT_ONCE = 200
"""Lines that are looked at in one go."""
MOST = 50_000
"""Lines after which nobody expects metrics any more."""


def _find(job_id: int, attempt: int, first: int, count: int, *, backwards: bool) -> OutputQuery:
    def query(connection: sqlite3.Connection) -> int | None:
        lines = list(enumerate(logs.lines(connection, job_id, attempt, first, count), first))
        for number, line in reversed(lines) if backwards else lines:
            if classify(shown(line).text) == "metric":
                return number
        return None

    return query


async def find_metric(
    reader: Reader, stream: Stream, parts: Sequence[Part], place: Place, *, backwards: bool, here: bool
) -> Place | str:
    """The nearest line with metrics before or after a place (`here`: also at it); a sentence when there is none."""
    looked = 0
    order = [part for part in parts if (part.attempt <= place[0] if backwards else part.attempt >= place[0])]
    for part in reversed(order) if backwards else order:
        start, end = 0, part.lines
        if part.attempt == place[0]:
            start, end = (0, place[1] + here) if backwards else (place[1] + 1, part.lines)
        while start < end:
            count = min(AT_ONCE, end - start)
            first = end - count if backwards else start
            found = await reader.read_output(_find(stream.job_id, part.attempt, first, count, backwards=backwards))
            if isinstance(found, int):
                return part.attempt, found
            start, end = (start, first) if backwards else (first + count, end)
            looked += count
            if looked >= MOST:
                return f"No metrics in the {'last' if backwards else 'next'} {looked:,} lines"
    return f"No metrics {'above' if backwards else 'below'}"
