"""What many things are together: how many in which state, what they have cost, what would be lost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gpuscale_tui.store.unsaved import unsaved


@dataclass(frozen=True, slots=True)
class ManyJobs:
    """Jobs together. `cost` in micro-dollars, of those that are open `open_cost`; `unsaved_*`: work in no snapshot."""

    states: Mapping[str, int]
    cost: int
    open_cost: int
    unsaved_ms: int
    unsaved_cost: int

    def count(self, *states: str) -> int:
        """How many are in one of these states."""
        return sum(self.states.get(state, 0) for state in states)


@dataclass(frozen=True, slots=True)
class ManyWorkers:
    """Machines together that are up: `rate` micro-dollars an hour, `cost` so far, `busy` with a job."""

    up: int
    busy: int
    rate: int
    cost: int
    unsaved_ms: int
    unsaved_cost: int


def jobs(connection: sqlite3.Connection, job_ids: Collection[int], now: int) -> ManyJobs:
    """Sums over jobs."""
    found = connection.execute(
        "SELECT state, count(*), sum(cost) FROM jobs WHERE id IN (SELECT value FROM json_each(?)) GROUP BY state",
        (json.dumps(list(job_ids)),),
    ).fetchall()
    running = connection.execute(
        "SELECT id FROM jobs WHERE state = 'running' AND id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(job_ids)),),
    )
    lost = unsaved(connection, now, [row[0] for row in running]).values()
    return ManyJobs(
        states={row[0]: row[1] for row in found},
        cost=sum(row[2] for row in found),
        open_cost=sum(row[2] for row in found if row[0] in {"pending", "running"}),
        unsaved_ms=sum(each.ms for each in lost),
        unsaved_cost=sum(each.cost for each in lost),
    )


def workers(connection: sqlite3.Connection, worker_ids: Collection[int], now: int) -> ManyWorkers:
    """Sums over those machines that are up."""
    found = connection.execute(
        "SELECT job_id, rate, cost FROM workers WHERE state NOT IN ('released', 'lost', 'releasing')"
        " AND id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(worker_ids)),),
    ).fetchall()
    busy = [row[0] for row in found if row[0] is not None]
    lost = unsaved(connection, now, busy).values()
    return ManyWorkers(
        up=len(found),
        busy=len(busy),
        rate=sum(row[1] for row in found),
        cost=sum(row[2] for row in found),
        unsaved_ms=sum(each.ms for each in lost),
        unsaved_cost=sum(each.cost for each in lost),
    )
