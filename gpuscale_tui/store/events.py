"""The events table: every transition and its cause, appended in the transaction that makes it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `epoch` None means that a user's command did it."""

    id: int
    at: int
    epoch: int | None
    kind: str
    job_id: int | None
    attempt: int | None
    worker_id: int | None
    from_state: str | None
    to_state: str | None
    cause: str | None
    detail: str


def append(
    connection: sqlite3.Connection,
    at: int,
    kind: str,
    detail: str = "",
    *,
    epoch: int | None = None,
    job_id: int | None = None,
    attempt: int | None = None,
    worker_id: int | None = None,
    from_state: str | None = None,
    to_state: str | None = None,
    cause: str | None = None,
) -> None:
    """Append one event; kinds are job, attempt, worker, engine, request and warning."""
    connection.execute(
        "INSERT INTO events (at, epoch, kind, job_id, attempt, worker_id, from_state, to_state, cause, detail)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (at, epoch, kind, job_id, attempt, worker_id, from_state, to_state, cause, detail[:2000]),
    )


def after(connection: sqlite3.Connection, event_id: int, limit: int) -> list[Event]:
    """The events that followed the one with this id, oldest first."""
    rows = connection.execute("SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?", (event_id, limit))
    return [Event(**dict(row)) for row in rows]


def latest_id(connection: sqlite3.Connection) -> int:
    """Id of the newest event, 0 when there is none."""
    row = connection.execute("SELECT max(id) FROM events").fetchone()
    return int(row[0] or 0)
