"""Rehearsals of a move: a job is stopped once on purpose after its first snapshot, and what comes after is compared.

`wanted` -> `moving` (the attempt is told to save and end) -> `resumed` (the next one runs) -> `verified` or `failed`.
Where the job ends before it could be moved, the rehearsal is over without a verdict. Each change is one transaction
that is guarded by the state before it, so that an engine that dies at any moment repeats nothing.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gpuscale_tui.model.errors import NotFound, Refused
from gpuscale_tui.model.jobs import Attempt, Job, job_label
from gpuscale_tui.model.notices import NoticeKind
from gpuscale_tui.model.states import FINAL_JOB_STATES, Rehearsal
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.store import events, jobs, notices, rows, snapshots, workers
from gpuscale_tui.store.snapshots import SnapshotRow

UNDER_WAY = frozenset({Rehearsal.WANTED, Rehearsal.MOVING, Rehearsal.RESUMED})
_UNDER_WAY = "rehearsal IN ('wanted', 'moving', 'resumed')"
"""As the index `jobs_rehearsing` has it."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A job whose rehearsal is under way, and what it is judged by.

    `moved` is the attempt that is stopped for it, None while none is; `latest` is the newest attempt, `saved` its
    newest snapshot, `source` the one that it began with. `left` is the worker that the job was moved from, `now_on`
    that of the newest attempt. `elsewhere`: its machine goes back, so that it needs another.
    """

    job: Job
    latest: Attempt | None
    moved: Attempt | None
    saved: SnapshotRow | None
    source: SnapshotRow | None
    left: Worker | None
    now_on: Worker | None
    elsewhere: bool


def ask(connection: sqlite3.Connection, job_id: int, *, elsewhere: bool = False, user: str, now: int) -> Rehearsal:
    """Want a job to be moved once on purpose; returns how far the rehearsal is. Asked again meanwhile it is the same
    one. `elsewhere`: give its machine back for it, so that the job needs another.

    Raises NotFound, and Refused for a job that is over or is being cancelled.
    """
    job = jobs.get(connection, job_id)
    if job is None:
        raise NotFound(f"there is no job {job_label(job_id)}; `gpuscale queue` lists them")
    if job.state in FINAL_JOB_STATES:
        raise Refused(f"{job_label(job_id)} is {job.state}: only a job that waits or runs can be rehearsed")
    if job.cancel_requested_at is not None:
        raise Refused(f"{job_label(job_id)} is being cancelled")
    if job.rehearsal not in UNDER_WAY:
        connection.execute(
            "UPDATE jobs SET rehearsal = 'wanted', rehearsal_detail = '', rehearsal_attempt = NULL,"
            " rehearsal_at = ?, rehearsal_elsewhere = ? WHERE id = ?",
            (now, elsewhere, job_id),
        )
        where = " to another machine" if elsewhere else ""
        events.append(connection, now, "request", f"rehearsal of a move{where} asked by {user}", job_id=job_id)
        return Rehearsal.WANTED
    return job.rehearsal


def under_way(connection: sqlite3.Connection) -> list[Sight]:
    """Every rehearsal that is not over."""
    found = connection.execute(f"SELECT * FROM jobs WHERE {_UNDER_WAY} ORDER BY id")
    return [_sight(connection, row) for row in found.fetchall()]


def look_at(connection: sqlite3.Connection, job_id: int) -> Sight | None:
    """One job as its rehearsal would see it, None when there is no such job."""
    row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else _sight(connection, row)


def words(job: Job) -> str:
    """How far the rehearsal of a job's move is, or what came of it; empty without one."""
    if job.rehearsal == Rehearsal.WANTED:
        return "a move is rehearsed after its next snapshot"
    if job.rehearsal == Rehearsal.MOVING:
        return "it is moved on purpose, to rehearse that it resumes"
    if job.rehearsal == Rehearsal.RESUMED:
        return "it was moved on purpose, and is compared with what it was before"
    return job.rehearsal_detail


def _sight(connection: sqlite3.Connection, row: sqlite3.Row) -> Sight:
    job = rows.job(row)
    latest = jobs.get_attempt(connection, job.id, job.attempt)
    moved = None if job.rehearsal_attempt is None else jobs.get_attempt(connection, job.id, job.rehearsal_attempt)
    saved = None if latest is None else _newest_of(connection, job.id, latest.number)
    source = None
    if latest is not None and latest.resumed_from is not None:
        source = snapshots.get(connection, job.id, latest.resumed_from)
    return Sight(
        job, latest, moved, saved, source,
        None if moved is None else workers.get(connection, moved.worker_id),
        None if latest is None else workers.get(connection, latest.worker_id), bool(row["rehearsal_elsewhere"]),
    )  # fmt: skip


def _newest_of(connection: sqlite3.Connection, job_id: int, attempt: int) -> SnapshotRow | None:
    row = connection.execute(
        "SELECT * FROM snapshots WHERE job_id = ? AND attempt = ? ORDER BY number DESC LIMIT 1", (job_id, attempt)
    ).fetchone()
    return None if row is None else SnapshotRow(**dict(row))


def moved_jobs(connection: sqlite3.Connection) -> dict[int, Job]:
    """The running jobs that are to be stopped now for a rehearsal, by id."""
    found = connection.execute(f"SELECT * FROM jobs WHERE {_UNDER_WAY} AND rehearsal = 'moving' AND state = 'running'")
    return {job.id: job for job in map(rows.job, found) if job.is_moved}


def left_machines(connection: sqlite3.Connection) -> dict[int, int]:
    """For each waiting job that is moved for a rehearsal, the worker that it comes from."""
    found = connection.execute(
        "SELECT j.id, a.worker_id FROM jobs j JOIN attempts a ON a.job_id = j.id AND a.number = j.rehearsal_attempt"
        f" WHERE j.{_UNDER_WAY} AND j.rehearsal = 'moving' AND j.state = 'pending'"
    )
    return {row["id"]: row["worker_id"] for row in found}


def move(
    connection: sqlite3.Connection, sight: Sight, *, grace_ms: int, now: int, epoch: int | None
) -> bool:  # fmt: skip
    """Decide that the attempt which was seen is stopped; False where things have gone on since."""
    attempt, saved = sight.latest, sight.saved
    if attempt is None or saved is None:
        return False
    begun = connection.execute(
        "UPDATE jobs SET rehearsal = 'moving', rehearsal_attempt = ?1, rehearsal_at = ?2 WHERE id = ?3"
        " AND rehearsal = 'wanted' AND state = 'running' AND attempt = ?1 AND cancel_requested_at IS NULL"
        " AND EXISTS (SELECT 1 FROM attempts WHERE job_id = ?3 AND number = ?1 AND state = 'running')",
        (attempt.number, now, sight.job.id),
    ).rowcount
    if not begun:
        return False
    words = f"rehearsal of a move: it has snapshot {saved.number}, so it is saved and stopped on purpose"
    events.append(
        connection, now, "attempt", words, epoch=epoch, job_id=sight.job.id, attempt=attempt.number,
        worker_id=attempt.worker_id,
    )  # fmt: skip
    if sight.elsewhere:
        reason = f"{job_label(sight.job.id)} rehearses a move to another machine"
        workers.begin_release(connection, attempt.worker_id, reason, grace_ms=grace_ms, now=now, epoch=epoch)
    return True


def resumed(connection: sqlite3.Connection, attempt: Attempt, *, now: int, epoch: int | None) -> bool:
    """Note that the attempt after the moved one runs."""
    changed = connection.execute(
        "UPDATE jobs SET rehearsal = 'resumed' WHERE id = ?1 AND rehearsal = 'moving' AND rehearsal_attempt < ?2"
        " AND attempt = ?2",
        (attempt.job_id, attempt.number),
    ).rowcount
    if changed:
        events.append(
            connection, now, "attempt", "rehearsal of a move: it goes on, and is compared", epoch=epoch,
            job_id=attempt.job_id, attempt=attempt.number, worker_id=attempt.worker_id,
        )  # fmt: skip
    return bool(changed)


def conclude(
    connection: sqlite3.Connection, sight: Sight, verdict: Rehearsal, detail: str, *, now: int, epoch: int | None
) -> bool:
    """End a rehearsal: `verified`, `failed` (which is a notice too), or `none` where it came to nothing."""
    job = sight.job
    changed = connection.execute(
        f"UPDATE jobs SET rehearsal = ?, rehearsal_detail = ? WHERE id = ? AND attempt = ? AND {_UNDER_WAY}",
        (verdict, detail, job.id, job.attempt),
    ).rowcount
    if not changed:
        return False
    failed = verdict == Rehearsal.FAILED
    events.append(
        connection, now, "warning" if failed else "attempt", detail, epoch=epoch, job_id=job.id,
        attempt=None if sight.latest is None else sight.latest.number,
        worker_id=None if sight.latest is None else sight.latest.worker_id,
    )  # fmt: skip
    if failed:
        text = f"{job_label(job.id)} {job.spec.name}: {detail}"
        notices.add(connection, now, NoticeKind.REHEARSAL, text, job_id=job.id)
    return True
