"""What machines did over time, in the log file: every reading of the last hours, means of what is older."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import astuple, fields

from gpuscale_tui.store.progress import USAGE_COLUMNS, Usage

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
TIERS = ((6 * HOUR_MS, 2 * MINUTE_MS), (72 * HOUR_MS, 15 * MINUTE_MS))
"""Readings older than the first become one for each of the second."""
KEPT_MS = 30 * 24 * HOUR_MS
_VALUES = tuple(field.name for field in fields(Usage))[2:]
_MEANS = ", ".join(f"CAST(round(avg({name})) AS INTEGER)" for name in _VALUES)


def add_usage(connection: sqlite3.Connection, readings: Iterable[Usage]) -> None:
    """Store readings, in the caller's transaction; one that is there already is replaced."""
    marks = ", ".join("?" * (len(_VALUES) + 2))
    connection.executemany(
        f"INSERT OR REPLACE INTO usage ({USAGE_COLUMNS}) VALUES ({marks})", [astuple(each) for each in readings]
    )


def thin_usage(connection: sqlite3.Connection, since: int, now: int) -> int:
    """Make means of what became old between `since` and `now` (UTC ms), drop what is very old; how many rows went.

    To be called now and then, each time from where the last call ended; inside a transaction.
    """
    before = connection.total_changes
    for age, width in TIERS:
        begin, end = (since - age) // width * width, (now - age) // width * width
        if begin < end:
            _merge(connection, max(0, begin), end, width)
    connection.execute("DELETE FROM usage WHERE at < ?", (now - KEPT_MS,))
    return connection.total_changes - before


def _merge(connection: sqlite3.Connection, begin: int, end: int, width: int) -> None:
    means = connection.execute(
        f"SELECT worker_id, at / {width} * {width} AS begun, {_MEANS} FROM usage WHERE at >= ? AND at < ?"
        " GROUP BY worker_id, begun",
        (begin, end),
    ).fetchall()
    connection.execute("DELETE FROM usage WHERE at >= ? AND at < ?", (begin, end))
    add_usage(connection, [Usage(*row) for row in means])


def read_usage(connection: sqlite3.Connection, worker_id: int, since: int, until: int, most: int) -> list[Usage]:
    """See `series.usage`."""
    rows = connection.execute(
        f"SELECT {USAGE_COLUMNS} FROM usage WHERE worker_id = ? AND at >= ? AND at < ? ORDER BY at",
        (worker_id, since, until),
    )
    found = [Usage(*row) for row in rows]
    if len(found) <= most:
        return found
    return [found[number * (len(found) - 1) // max(1, most - 1)] for number in range(most)]
