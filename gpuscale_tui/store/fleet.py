"""Which machine did what when: spans as rows, for the timeline of the fleet and the strips on the pages.

Only the machines on screen are asked for their spans; sums are made by SQLite over an index by time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

_SPAN = "SELECT worker_id, kind, job_id, attempt, started_at, ended_at, cost FROM spans"
_IN_A_TIME = (  # in no order: to give them one, SQLite would walk all spans of all machines
    f"{_SPAN} WHERE ended_at > ?1 AND started_at < ?2 UNION ALL {_SPAN} WHERE ended_at IS NULL AND started_at < ?2"
)
_SUMS = (
    "SELECT kind, sum(within), sum(CASE WHEN lasted > 0 THEN cost * within / lasted ELSE cost END) FROM ("
    " SELECT kind, cost, max(0, min(coalesce(ended_at, ?2), ?2) - max(started_at, ?1)) AS within,"
    f" max(coalesce(ended_at, ?2), started_at) - started_at AS lasted FROM ({_IN_A_TIME})) GROUP BY kind"
)


@dataclass(frozen=True, slots=True)
class FleetSpan:
    """What a machine did for a while: `setup`, `job`, `idle`, `rejected` or `lost` (work that was lost).

    Times UTC ms, `ended_at` None while it goes on; `cost` micro-dollars, as booked so far.
    """

    worker_id: int
    kind: str
    job_id: int | None
    attempt: int | None
    started_at: int
    ended_at: int | None
    cost: int


@dataclass(frozen=True, slots=True)
class FleetTotal:
    """Time (ms) and money (micro-dollars) of all spans of a kind within a time."""

    ms: int
    cost: int


def fleet_workers(connection: sqlite3.Connection, since: int, until: int) -> list[int]:
    """Ids of the machines that were there at any time from `since` up to `until` (UTC ms).

    Those that are still up come first, oldest first, then those that are gone, the last one first.
    """
    found = connection.execute(
        "SELECT id FROM workers WHERE state NOT IN ('released', 'lost') AND created_at < ? ORDER BY id", (until,)
    )
    live = [int(row[0]) for row in found]
    gone = connection.execute(
        "SELECT id FROM workers WHERE ended_at IS NOT NULL AND ended_at > ? AND coalesce(held_from, created_at) < ?"
        " ORDER BY ended_at DESC, id DESC",
        (since, until),
    )
    return [*live, *(int(row[0]) for row in gone)]


def fleet_spans(
    connection: sqlite3.Connection, since: int, until: int, worker_ids: Sequence[int] | None = None
) -> list[FleetSpan]:
    """What machines (None: all) did at any time from `since` up to `until` (UTC ms), by machine and time."""
    if worker_ids is None:
        found = connection.execute(_IN_A_TIME, (since, until))
    else:
        found = connection.execute(
            f"{_SPAN} WHERE worker_id IN (SELECT value FROM json_each(?)) AND started_at < ?"
            " AND (ended_at IS NULL OR ended_at > ?)",
            (json.dumps(list(worker_ids)), until, since),
        )
    return sorted((FleetSpan(*row) for row in found), key=lambda each: (each.worker_id, each.started_at))


def fleet_totals(connection: sqlite3.Connection, since: int, until: int) -> dict[str, FleetTotal]:
    """Time and money by kind of what lies between `since` and `until` (UTC ms): of a longer span, its part.

    An open span counts up to `until`.
    """
    return {row[0]: FleetTotal(row[1], row[2]) for row in connection.execute(_SUMS, (since, until))}


def totals_of(spans: Sequence[FleetSpan], since: int, until: int) -> dict[str, FleetTotal]:
    """As `fleet_totals`, of spans that were read already."""
    times: dict[str, int] = {}
    costs: dict[str, int] = {}
    for span in spans:
        ended = span.ended_at if span.ended_at is not None else max(until, span.started_at)
        within = max(0, min(ended, until) - max(span.started_at, since))
        times[span.kind] = times.get(span.kind, 0) + within
        share = span.cost * within // (ended - span.started_at) if ended > span.started_at else span.cost
        costs[span.kind] = costs.get(span.kind, 0) + share
    return {kind: FleetTotal(times[kind], costs[kind]) for kind in times}


def job_spans(connection: sqlite3.Connection, job_id: int) -> list[FleetSpan]:
    """What machines did for a job, in order of time."""
    return [FleetSpan(*row) for row in connection.execute(f"{_SPAN} WHERE job_id = ? ORDER BY started_at", (job_id,))]


def worker_spans(connection: sqlite3.Connection, worker_id: int, most: int = 2000) -> list[FleetSpan]:
    """What a machine did, in order of time: the newest `most` spans."""
    found = connection.execute(f"{_SPAN} WHERE worker_id = ? ORDER BY started_at DESC LIMIT ?", (worker_id, most))
    return [FleetSpan(*row) for row in found][::-1]
