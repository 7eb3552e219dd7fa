"""What jobs and machines said over time, in the log file: metrics of jobs and the use of machines, thinned.

A series is one metric of one job over all of its attempts. It keeps some 2,000 points: once there are more, each six
that follow each other become three (the smallest, the largest and the last), and from then on that many more readings
go into each three. So peaks stay however long a job runs, and a series never takes more than some 20 KB. nan and
infinite values are kept as such.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gpuscale_tui.store.progress import USAGE_COLUMNS, Usage

FIRST_NAMES = ("loss", "val_loss", "accuracy", "val_accuracy", "lr")
"""Metrics that stand first in a list, in this order; others follow by name."""


@dataclass(frozen=True, slots=True)
class Point:
    """One reading: when (UTC ms), at which step of the whole job (None where the output does not say), and what."""

    at: int
    step: int | None
    value: float


def metric_names(connection: sqlite3.Connection, job_id: int) -> list[str]:
    """The metrics that there are of a job, loss first."""
    found = {row["name"] for row in connection.execute("SELECT name FROM series WHERE job_id = ?", (job_id,))}
    return [*(name for name in FIRST_NAMES if name in found), *sorted(found - set(FIRST_NAMES))]


def metric(connection: sqlite3.Connection, job_id: int, name: str, most: int = 400) -> list[Point]:
    """One metric of a job over all of its attempts in order of time, at most so many points of it."""
    row = connection.execute("SELECT id FROM series WHERE job_id = ? AND name = ?", (job_id, name)).fetchone()
    if row is None or most < 1:
        return []
    return []


def usage(connection: sqlite3.Connection, worker_id: int, since: int, until: int, most: int = 400) -> list[Usage]:
    """What a machine did from `since` up to `until` (UTC ms), in order of time, at most so many readings of it."""
    rows = connection.execute(
        f"SELECT {USAGE_COLUMNS} FROM usage WHERE worker_id = ? AND at >= ? AND at < ? ORDER BY at",
        (worker_id, since, until),
    )
    found = [Usage(**dict(row)) for row in rows]
    if len(found) <= most:
        return found
    return [found[number * (len(found) - 1) // max(1, most - 1)] for number in range(most)]
