"""Snapshots that users ask for, what came of it, and machines that wait for a last one."""

from __future__ import annotations

import sqlite3

from gpuscale_tui.model.jobs import Attempt
from gpuscale_tui.store import events


def wanted(connection: sqlite3.Connection) -> list[int]:
    """Running jobs whose user wants a snapshot now."""
    found = connection.execute("SELECT id FROM jobs WHERE save_asked_at IS NOT NULL AND state = 'running'")
    return [int(row[0]) for row in found]


def answer(connection: sqlite3.Connection, attempt: Attempt, words: str, *, now: int, epoch: int | None) -> None:
    """Say what came of the snapshot that was asked for; nothing where nobody asks any more."""
    if not _forget(connection, attempt.job_id):
        return
    events.append(
        connection, now, "request", words, epoch=epoch, job_id=attempt.job_id, attempt=attempt.number,
        worker_id=attempt.worker_id,
    )  # fmt: skip


def _forget(connection: sqlite3.Connection, job_id: int) -> bool:
    changed = connection.execute(
        "UPDATE jobs SET save_asked_at = NULL WHERE id = ? AND save_asked_at IS NOT NULL RETURNING id", (job_id,)
    ).fetchall()
    return bool(changed)


def hold_back_release(connection: sqlite3.Connection, worker_id: int, until: int) -> None:
    """A machine that is to go back stays until then (UTC ms), unless its provider has been asked already."""
    connection.execute(
        "UPDATE workers SET release_next_at = max(coalesce(release_next_at, 0), ?)"
        " WHERE id = ? AND state = 'releasing' AND release_asked = 0",
        (until, worker_id),
    )
