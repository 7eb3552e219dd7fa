"""What was paid per hour over time: from when machines were held and what they cost, in steps for a plot."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from itertools import pairwise

BUCKETS = 120


@dataclass(frozen=True, slots=True)
class Rate:
    """The rate (micro-dollars per hour) from `at` (UTC ms) to the next one: its mean, and the highest in between."""

    at: int
    mean: int
    peak: int


_HELD = """
    SELECT held_from AS began, ended_at, rate FROM workers WHERE ended_at IS NOT NULL AND ended_at > ?1
        AND held_from < ?2
    UNION ALL
    SELECT held_from, NULL, rate FROM workers WHERE state NOT IN ('released', 'lost') AND held_from < ?2
"""
"""Both halves by an index: machines that ended since, and those that are held now."""


def first_use(connection: sqlite3.Connection) -> int | None:
    """When the first machine began to cost (UTC ms)."""
    row = connection.execute("SELECT min(at) FROM ledger").fetchone()
    return None if row[0] is None else int(row[0])


def rates(connection: sqlite3.Connection, since: int, until: int, buckets: int = BUCKETS) -> list[Rate]:
    """The rate of everything that was held from `since` to `until`, in so many equal steps."""
    if until <= since or buckets < 1:
        return []
    changes: list[tuple[int, int]] = []
    for row in connection.execute(_HELD, (since, until)):
        ended = until if row["ended_at"] is None else min(row["ended_at"], until)
        began = max(row["began"], since)
        if began < ended:
            changes += [(began, row["rate"]), (ended, -row["rate"])]
    changes.sort()
    return _steps(changes, since, until, buckets)


def _steps(changes: list[tuple[int, int]], since: int, until: int, buckets: int) -> list[Rate]:
    """Walk once over the changes, giving up more before taking on at the same instant."""
    edges = [since + (until - since) * number // buckets for number in range(buckets + 1)]
    found: list[Rate] = []
    place, now, rate = 0, since, 0
    for start, end in pairwise(edges):
        while place < len(changes) and changes[place][0] <= start:
            rate, place = rate + changes[place][1], place + 1
        spent, peak = 0, rate
        while place < len(changes) and changes[place][0] < end:
            at, more = changes[place]
            spent += rate * (at - now)
            now, rate, place = at, rate + more, place + 1
            if place == len(changes) or changes[place][0] != at:
                peak = max(peak, rate)
        spent += rate * (end - now)
        now = end
        found.append(Rate(start, spent // max(1, end - start), peak))
    return found
