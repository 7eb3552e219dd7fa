"""Work that stands in no snapshot: what running jobs would lose now, and how often saving them is worth its while."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gpuscale_tui.model.money import HOUR_MS

MOST_AT_ONCE = 500
"""Ids in one query."""
LAST_SAVES = 9
SEEN_MS = 30 * 24 * HOUR_MS
"""How far back evictions are counted: a marketplace changes."""


@dataclass(frozen=True, slots=True)
class Unsaved:
    """What a running job would lose: its work since `since` (UTC ms).

    `ms` is how long that is, `cost` what the machine cost meanwhile (micro-dollars, fees included), `saved_at` when its
    newest snapshot was verified and stored, None when this attempt has none: then it counts from its command's start.
    `save_ms` is what a save of this job takes (the median of the last ones), None where none was measured.
    """

    job_id: int
    since: int
    ms: int
    cost: int
    saved_at: int | None
    save_ms: int | None = None


def unsaved(connection: sqlite3.Connection, now: int, job_ids: Collection[int] | None = None) -> dict[int, Unsaved]:
    """By job, what each whose command runs would lose at `now` (UTC ms); None means every such job.

    A job that is still being set up has done nothing yet and is left out.
    """
    if job_ids is not None and not job_ids:
        return {}
    chosen = "" if job_ids is None else f" AND a.job_id IN ({', '.join('?' * len(job_ids))})"
    found = connection.execute(_LIVE + chosen, [] if job_ids is None else list(job_ids)).fetchall()
    took = save_times(connection, [int(row["job_id"]) for row in found])
    return {int(row["job_id"]): _of(row, now, took.get(int(row["job_id"]), ())) for row in found}


def _of(row: sqlite3.Row, now: int, took: Sequence[int]) -> Unsaved:
    since = int(row["started_at"]) if row["saved_at"] is None else int(row["saved_at"])
    lasted = max(0, now - since)
    cost = lasted * int(row["rate"]) // HOUR_MS
    return Unsaved(int(row["job_id"]), since, lasted, cost, row["saved_at"], _median(took))


def _median(took: Sequence[int]) -> int | None:
    return sorted(took)[len(took) // 2] if took else None


def save_times(connection: sqlite3.Connection, job_ids: Sequence[int]) -> dict[int, list[int]]:
    """How long the last saves of these jobs took (ms), newest first, by job; only those that were measured."""
    found: dict[int, list[int]] = {}
    for begin in range(0, len(job_ids), MOST_AT_ONCE):
        part = job_ids[begin : begin + MOST_AT_ONCE]
        rows = connection.execute(
            "SELECT job_id, took_ms FROM (SELECT job_id, number, took_ms, row_number() OVER"
            " (PARTITION BY job_id ORDER BY number DESC) AS place FROM snapshots"
            f" WHERE took_ms IS NOT NULL AND job_id IN ({', '.join('?' * len(part))})) WHERE place <= {LAST_SAVES}"
            " ORDER BY job_id, number DESC",
            part,
        )
        for row in rows:
            found.setdefault(int(row["job_id"]), []).append(int(row["took_ms"]))
    return found


@dataclass(frozen=True, slots=True)
class Rented:
    """How long jobs ran on machines of one kind (ms), and how often such a machine was lost under one."""

    provider: str
    market: str
    ran_ms: int
    lost: int


def lost_under_jobs(connection: sqlite3.Connection, job_id: int, now: int) -> Rented | None:
    """What was seen of machines of the provider and market on which a job runs, in the last weeks; None when it runs
    on none. Lost are machines that went by themselves or failed after they had run jobs, not those given back.
    """
    kind = connection.execute(
        "SELECT w.provider, w.market FROM jobs j JOIN workers w ON w.id = j.worker_id WHERE j.id = ?", (job_id,)
    ).fetchone()
    if kind is None:
        return None
    row = connection.execute(
        "SELECT coalesce(sum(held), 0) AS ran, coalesce(sum(gone), 0) AS lost FROM (SELECT"
        " sum(coalesce(s.ended_at, :now) - s.started_at) AS held, w.state = 'lost' OR w.cause = 'host_fault' AS gone"
        " FROM workers w JOIN spans s ON s.worker_id = w.id AND s.kind IN ('job', 'lost')"
        " WHERE w.provider = :provider AND w.market = :market AND w.created_at >= :since GROUP BY w.id)",
        {"now": now, "since": now - SEEN_MS, "provider": kind["provider"], "market": kind["market"]},
    ).fetchone()
    return Rented(str(kind["provider"]), str(kind["market"]), int(row["ran"]), int(row["lost"]))


_LIVE = (
    "SELECT a.job_id, a.started_at, w.rate,"
    " (SELECT max(s.at) FROM snapshots s WHERE s.job_id = a.job_id AND s.attempt = a.number) AS saved_at"
    " FROM attempts a JOIN workers w ON w.id = a.worker_id"
    " WHERE a.state IN ('running', 'saving') AND a.started_at IS NOT NULL"
)


def unsaved_by_name(connection: sqlite3.Connection, now: int) -> list[tuple[str, Unsaved]]:
    """What every running job would lose now, each with its job's name."""
    found = unsaved(connection, now)
    if not found:
        return []
    marks = ", ".join("?" * len(found))
    names = dict(connection.execute(f"SELECT id, name FROM jobs WHERE id IN ({marks})", list(found)).fetchall())
    return [(str(names.get(job_id, "")), each) for job_id, each in found.items()]
