"""Work that stands in no snapshot: what running jobs would lose now, in time and in money."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from gpuscale_tui.model.money import HOUR_MS


@dataclass(frozen=True, slots=True)
class Unsaved:
    """What a running job would lose: its work since `since` (UTC ms).

    `ms` is how long that is, `cost` what the machine cost meanwhile (micro-dollars, fees included), `saved_at` when its
    newest snapshot was verified and stored, None when this attempt has none: then it counts from its command's start.
    """

    job_id: int
    since: int
    ms: int
    cost: int
    saved_at: int | None


def unsaved(connection: sqlite3.Connection, now: int, job_ids: Collection[int] | None = None) -> dict[int, Unsaved]:
    """By job, what each whose command runs would lose at `now` (UTC ms); None means every such job.

    A job that is still being set up has done nothing yet and is left out.
    """
    if job_ids is not None and not job_ids:
        return {}
    chosen = "" if job_ids is None else f" AND a.job_id IN ({', '.join('?' * len(job_ids))})"
    found = connection.execute(_LIVE + chosen, [] if job_ids is None else list(job_ids))
    return {int(row["job_id"]): _of(row, now) for row in found}


def _of(row: sqlite3.Row, now: int) -> Unsaved:
    since = int(row["started_at"]) if row["saved_at"] is None else int(row["saved_at"])
    lasted = max(0, now - since)
    return Unsaved(int(row["job_id"]), since, lasted, lasted * int(row["rate"]) // HOUR_MS, row["saved_at"])


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
