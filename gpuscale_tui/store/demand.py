"""What waits, in the lean form that planning reads: needs are made once a group, jobs are bare numbers."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gpuscale_tui.model.offers import Market, Need
from gpuscale_tui.store import budgets


@dataclass(frozen=True, slots=True)
class Waiting:
    """One pending job. Times are UTC ms."""

    id: int
    need: Need
    priority: int
    submitted_at: int
    not_before: int | None
    max_runtime_sec: float | None = None


def needs(connection: sqlite3.Connection) -> dict[str, Need]:
    """The need of each group of pending jobs, by its key."""
    return {row["group_key"]: _need(row) for row in connection.execute(_ONE_OF_EACH_GROUP)}


_ONE_OF_EACH_GROUP = """
    WITH RECURSIVE keys (key) AS (
        SELECT min(group_key) FROM jobs WHERE state = 'pending'
        UNION ALL
        SELECT (SELECT min(group_key) FROM jobs WHERE state = 'pending' AND group_key > key) FROM keys
        WHERE key IS NOT NULL
    )
    SELECT group_key, image, gpu_type, gpu_count, max_price, provider, market FROM keys JOIN jobs ON jobs.id =
        (SELECT id FROM jobs WHERE state = 'pending' AND group_key = key ORDER BY priority, id LIMIT 1)
"""
"""Steps from group to group along the index instead of reading every pending job."""


def _need(row: sqlite3.Row) -> Need:
    return Need(
        image=row["image"],
        gpu_type=row["gpu_type"],
        gpu_count=0 if row["gpu_type"] is None else row["gpu_count"],
        max_price=row["max_price"],
        provider=row["provider"],
        market=Market(row["market"]) if row["market"] else None,
    )


def waiting(connection: sqlite3.Connection) -> list[Waiting]:
    """Every pending job but those that a used-up limit of money holds back or that are to be cancelled: no demand."""
    by_key = needs(connection)
    found = connection.execute(
        "SELECT id, group_key, priority, submitted_at, not_before, max_runtime_sec FROM jobs WHERE state = 'pending'"
        f" AND cancel_requested_at IS NULL AND {budgets.unheld(connection)}"
    )
    return [Waiting(row[0], by_key[row[1]], row[2], row[3], row[4], row[5]) for row in found]


def heads(connection: sqlite3.Connection, count: int, now: int) -> list[Waiting]:
    """The first `count` jobs of each group that may run now, which is all that `count` free machines can take."""
    heads: list[Waiting] = []
    unheld = budgets.unheld(connection)
    for key, need in needs(connection).items():
        found = connection.execute(
            "SELECT id, priority, submitted_at, not_before FROM jobs WHERE state = 'pending' AND group_key = ?"
            f" AND cancel_requested_at IS NULL AND (not_before IS NULL OR not_before <= ?) AND {unheld}"
            " ORDER BY priority, id LIMIT ?",
            (key, now, count),
        )
        heads += [Waiting(row["id"], need, row["priority"], row["submitted_at"], row["not_before"]) for row in found]
    return heads


def next_release_of_hold(connection: sqlite3.Connection, now: int) -> int | None:
    """When the next job that is held after a fault may run (UTC ms)."""
    row = connection.execute(
        "SELECT min(not_before) FROM jobs WHERE state = 'pending' AND not_before > ?", (now,)
    ).fetchone()
    return None if row[0] is None else int(row[0])


def count_by_state(connection: sqlite3.Connection, state: str) -> int:
    """How many jobs are in one state."""
    return int(connection.execute("SELECT count(*) FROM jobs WHERE state = ?", (state,)).fetchone()[0])
