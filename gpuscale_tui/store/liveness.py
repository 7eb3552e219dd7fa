"""Contact with machines and signs of life of jobs, and how long such things took before."""

from __future__ import annotations

import sqlite3

from gpuscale_tui.model.jobs import Attempt, job_label, worker_label
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.store import events

NEWEST = 50
"""How many of the newest samples are learned from: a marketplace changes."""


def fell_silent(connection: sqlite3.Connection, worker_id: int, since: int) -> None:
    """SSH does not answer there, since then; what is known already stays."""
    connection.execute("UPDATE workers SET silent_since = ? WHERE id = ? AND silent_since IS NULL", (since, worker_id))


def answers(connection: sqlite3.Connection, worker: Worker, now: int, *, epoch: int | None) -> None:
    """SSH answers again after a silence: noted for the audit log and for what is to be learned."""
    found = connection.execute("SELECT silent_since FROM workers WHERE id = ?", (worker.id,)).fetchone()
    if found is None or found["silent_since"] is None:
        return
    lasted = max(0, now - found["silent_since"])
    connection.execute("UPDATE workers SET silent_since = NULL, contact_at = ? WHERE id = ?", (now, worker.id))
    connection.execute(
        "INSERT INTO silences (at, worker_id, provider, server_id, lasted_ms) VALUES (?, ?, ?, ?, ?)",
        (now, worker.id, worker.provider, worker.server_id, lasted),
    )
    events.append(
        connection, now, "worker", f"{worker_label(worker.id)} answers again after {lasted // 1000} s", epoch=epoch,
        worker_id=worker.id,
    )  # fmt: skip


def provider_says(connection: sqlite3.Connection, worker_id: int, *, runs: bool, now: int) -> None:
    """What the listing says of a machine that was up before; unchanged news costs nothing."""
    if runs:
        connection.execute("UPDATE workers SET down_since = NULL WHERE id = ? AND down_since IS NOT NULL", (worker_id,))
    else:
        connection.execute(
            "UPDATE workers SET down_since = ? WHERE id = ? AND down_since IS NULL AND up_at IS NOT NULL",
            (now, worker_id),
        )


def boot_times(connection: sqlite3.Connection, worker: Worker) -> dict[str, list[float]]:
    """Seconds from order to first use, newest first: of the worker's provider, of its image there, of its host."""
    said = {"provider": worker.provider, "image": worker.image, "server": worker.server_id, "newest": NEWEST}
    query = (
        "SELECT setup_ms FROM outcomes WHERE provider = :provider AND kind = 'ready' AND setup_ms IS NOT NULL{}"
        " ORDER BY id DESC LIMIT :newest"
    )
    found = {}
    for name, more in (("provider", ""), ("image", " AND image = :image"), ("host", " AND server_id = :server")):
        found[name] = [row[0] / 1000 for row in connection.execute(query.format(more), said)]
    return found


def silences(connection: sqlite3.Connection, worker: Worker) -> dict[str, list[float]]:
    """Seconds after which machines out of reach answered again, newest first: of the provider, of the host."""
    query = "SELECT lasted_ms FROM silences WHERE provider = ?{} ORDER BY id DESC LIMIT ?"
    by_provider = connection.execute(query.format(""), (worker.provider, NEWEST))
    by_host = connection.execute(query.format(" AND server_id = ?"), (worker.provider, worker.server_id, NEWEST))
    return {"provider": [row[0] / 1000 for row in by_provider], "host": [row[0] / 1000 for row in by_host]}


def stalled(connection: sqlite3.Connection, attempt: Attempt, said: str, *, now: int, epoch: int | None) -> bool:
    """A job does nothing: said once for each standstill. False when that is known already."""
    changed = connection.execute(
        "UPDATE attempts SET stalled_at = ? WHERE job_id = ? AND number = ? AND state = 'running'"
        " AND stalled_at IS NULL RETURNING number",
        (now, attempt.job_id, attempt.number),
    ).fetchall()
    if not changed:
        return False
    events.append(
        connection, now, "warning", f"{job_label(attempt.job_id)} {said}", epoch=epoch, job_id=attempt.job_id,
        attempt=attempt.number, worker_id=attempt.worker_id,
    )  # fmt: skip
    return True


def goes_on(connection: sqlite3.Connection, attempt: Attempt, *, now: int, epoch: int | None) -> None:
    """A job that did nothing works again."""
    changed = connection.execute(
        "UPDATE attempts SET stalled_at = NULL WHERE job_id = ? AND number = ? AND stalled_at IS NOT NULL"
        " RETURNING number",
        (attempt.job_id, attempt.number),
    ).fetchall()
    if changed:
        events.append(
            connection, now, "attempt", f"{job_label(attempt.job_id)} works again", epoch=epoch,
            job_id=attempt.job_id, attempt=attempt.number, worker_id=attempt.worker_id,
        )  # fmt: skip
