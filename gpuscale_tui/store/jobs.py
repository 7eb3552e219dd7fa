"""What happens to jobs and attempts: each function is one command, run inside one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gpuscale_tui.model.jobs import Attempt, Job, JobSpec, StartFrom, job_label
from gpuscale_tui.model.states import (
    ATTEMPT_TRANSITIONS,
    FAILING_CAUSES,
    JOB_TRANSITIONS,
    AttemptState,
    Cause,
    IllegalTransition,
    JobState,
    WorkerState,
    check_transition,
)
from gpuscale_tui.store import events, hosts, rows, spans


def get(connection: sqlite3.Connection, job_id: int) -> Job | None:
    """One job."""
    row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return rows.job(row) if row else None


def get_attempt(connection: sqlite3.Connection, job_id: int, number: int) -> Attempt | None:
    """One attempt."""
    row = connection.execute("SELECT * FROM attempts WHERE job_id = ? AND number = ?", (job_id, number)).fetchone()
    return rows.attempt(row) if row else None


def live_attempts(connection: sqlite3.Connection) -> list[Attempt]:
    """Every attempt that has not ended."""
    return [rows.attempt(row) for row in connection.execute("SELECT * FROM attempts WHERE state <> 'ended'")]


def pending(connection: sqlite3.Connection) -> list[Job]:
    """All pending jobs in the order of the queue: priority, then age."""
    found = connection.execute("SELECT * FROM jobs WHERE state = 'pending' ORDER BY priority, id")
    return [rows.job(row) for row in found]


def insert(connection: sqlite3.Connection, specs: Sequence[JobSpec], now: int) -> list[int]:
    """Submit jobs, all or none; returns their ids. An empty name becomes the job's id."""
    first = int(connection.execute("SELECT coalesce(max(id), 0) + 1 FROM jobs").fetchone()[0])
    ids = list(range(first, first + len(specs)))
    columns = [
        {**rows.spec_columns(spec), "id": job_id, "name": spec.name or f"job {job_id}", "now": now}
        for job_id, spec in zip(ids, specs, strict=True)
    ]
    connection.executemany(_INSERT, columns)
    connection.executemany(
        "INSERT INTO events (at, kind, job_id, to_state, detail) VALUES (?, 'job', ?, 'pending', 'submitted')",
        [(now, job_id) for job_id in ids],
    )
    return ids


_SPEC_COLUMNS = (
    "name", "priority", "group_key", "command", "argv", "image", "gpu_type", "gpu_count", "max_price",
    "max_runtime_sec", "env", "secret_names", "params", "workdir", "checkpoint_dir", "project", "provider", "market",
    "retries", "user", "start_job", "start_snapshot", "git_url", "git_rev", "data", "stop_signal", "grace_sec",
    "rehearsal",
)  # fmt: skip
_INSERT = (
    f"INSERT INTO jobs (id, state, submitted_at, {', '.join(_SPEC_COLUMNS)})"
    f" VALUES (:id, 'pending', :now, {', '.join(':' + name for name in _SPEC_COLUMNS)})"
)

_KEEP = (
    "UPDATE jobs SET git_commit = NULL WHERE id = :id AND git_commit IS NOT NULL"
    " AND (git_url IS NOT :git_url OR git_rev IS NOT :git_rev)"
)
_REHEARSAL = "rehearsal = CASE WHEN rehearsal IN ('', 'wanted') THEN :rehearsal ELSE rehearsal END"
"""A rehearsal that is under way or over is none of the specification any more."""
_CHANGES = ", ".join(_REHEARSAL if name == "rehearsal" else f"{name} = :{name}" for name in _SPEC_COLUMNS)
_UPDATE = f"UPDATE jobs SET {_CHANGES} WHERE id = :id"


def place(
    connection: sqlite3.Connection, job_id: int, worker_id: int, *, now: int, epoch: int | None
) -> Attempt | None:
    """Give a pending job to an idle worker: exactly one of any number of callers succeeds, the others get None."""
    claimed = connection.execute(
        "UPDATE jobs SET state = 'running', attempt = attempt + 1, worker_id = ?, started_at = coalesce(started_at, ?),"
        " finished_at = NULL, exit_code = NULL, cause = NULL, not_before = NULL"
        " WHERE id = ? AND state = 'pending' AND cancel_requested_at IS NULL"
        " AND EXISTS (SELECT 1 FROM workers WHERE id = ? AND state = 'idle') RETURNING attempt",
        (worker_id, now, job_id, worker_id),
    ).fetchall()
    if not claimed:
        return None
    number = int(claimed[0][0])
    connection.execute(
        "UPDATE workers SET state = 'busy', job_id = ?, attempt = ?, idle_since = NULL, why = ? WHERE id = ?",
        (job_id, number, f"runs {job_label(job_id)}", worker_id),
    )
    made = connection.execute(
        "INSERT INTO attempts (job_id, number, worker_id, state, assigned_at) VALUES (?, ?, ?, 'assigned', ?)"
        " RETURNING *",
        (job_id, number, worker_id, now),
    ).fetchall()
    spans.begin(connection, worker_id, "job", now, job_id=job_id, attempt=number)
    events.append(
        connection, now, "job", epoch=epoch, job_id=job_id, attempt=number, worker_id=worker_id,
        from_state=JobState.PENDING, to_state=JobState.RUNNING,
    )  # fmt: skip
    events.append(
        connection, now, "worker", epoch=epoch, job_id=job_id, attempt=number, worker_id=worker_id,
        from_state=WorkerState.IDLE, to_state=WorkerState.BUSY,
    )  # fmt: skip
    return rows.attempt(made[0])


def advance_attempt(
    connection: sqlite3.Connection,
    attempt: Attempt,
    to: AttemptState,
    *,
    now: int,
    epoch: int | None,
    detail: str = "",
) -> Attempt:
    """Move an attempt on (staging, running, saving). Already there is harmless.

    Raises IllegalTransition for one that has ended, and for `ended`: only `end_attempt` settles the job as well.
    """
    if to == AttemptState.ENDED:
        raise IllegalTransition(f"attempt {attempt.remote_name} may become ended by end_attempt only")
    current = get_attempt(connection, attempt.job_id, attempt.number)
    if current is None:
        raise LookupError(f"attempt {attempt.remote_name} does not exist")
    if current.state == to:
        return current
    check_transition(ATTEMPT_TRANSITIONS, current.state, to)
    started = now if to == AttemptState.RUNNING else current.started_at
    connection.execute(
        "UPDATE attempts SET state = ?, started_at = ? WHERE job_id = ? AND number = ?",
        (to, started, attempt.job_id, attempt.number),
    )
    events.append(
        connection, now, "attempt", detail, epoch=epoch, job_id=attempt.job_id, attempt=attempt.number,
        worker_id=attempt.worker_id, from_state=current.state, to_state=to,
    )  # fmt: skip
    if to == AttemptState.RUNNING:
        hosts.forgive_setup(connection, attempt.job_id, now)
    return replace(current, state=to, started_at=started)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended and what becomes of its job.

    `not_before` (UTC ms) holds a job that is put back to `pending`; `counted` adds to its faults. `saved_at` is until
    when its work is kept: the time after it is booked as lost when the attempt's work did not come to an end.
    """

    cause: Cause
    job_state: JobState
    exit_code: int | None = None
    error: str | None = None
    not_before: int | None = None
    counted: bool = False
    saved_at: int | None = None


def end_attempt(
    connection: sqlite3.Connection, attempt: Attempt, ending: Ending, *, now: int, epoch: int | None
) -> bool:
    """End an attempt and settle its job in the same transaction; False when it had ended before (a late report).

    A worker that was busy with it becomes idle; one that is lost or going back stays so.
    """
    current = get_attempt(connection, attempt.job_id, attempt.number)
    if current is None or current.state == AttemptState.ENDED:
        return False
    check_transition(ATTEMPT_TRANSITIONS, current.state, AttemptState.ENDED)
    connection.execute(
        "UPDATE attempts SET state = 'ended', ended_at = ?, cause = ?, exit_code = ? WHERE job_id = ? AND number = ?",
        (now, ending.cause, ending.exit_code, attempt.job_id, attempt.number),
    )
    events.append(
        connection, now, "attempt", ending.error or "", epoch=epoch, job_id=attempt.job_id, attempt=attempt.number,
        worker_id=attempt.worker_id, from_state=current.state, to_state=AttemptState.ENDED, cause=ending.cause,
    )  # fmt: skip
    _settle_job(connection, attempt, ending, now=now, epoch=epoch)
    _free_worker(connection, attempt, ending.cause, now=now, epoch=epoch)
    if ending.job_state == JobState.PENDING or (
        ending.job_state == JobState.FAILED and ending.cause not in FAILING_CAUSES
    ):
        spans.mark_lost(connection, attempt.job_id, attempt.number, ending.saved_at)
    return True


def _settle_job(
    connection: sqlite3.Connection, attempt: Attempt, ending: Ending, *, now: int, epoch: int | None
) -> None:
    check_transition(JOB_TRANSITIONS, JobState.RUNNING, ending.job_state)
    again = ending.job_state == JobState.PENDING
    connection.execute(
        "UPDATE jobs SET state = ?, worker_id = ?, finished_at = ?, exit_code = ?, cause = ?, error = ?,"
        " not_before = ?, faults = faults + ?, cancel_requested_at = CASE WHEN ? THEN cancel_requested_at END"
        " WHERE id = ?",
        (ending.job_state, None if again else attempt.worker_id, None if again else now, ending.exit_code,
         ending.cause, ending.error, ending.not_before, int(ending.counted), int(again),
         attempt.job_id),
    )  # fmt: skip
    events.append(
        connection, now, "job", ending.error or "", epoch=epoch, job_id=attempt.job_id, attempt=attempt.number,
        worker_id=attempt.worker_id, from_state=JobState.RUNNING, to_state=ending.job_state, cause=ending.cause,
    )  # fmt: skip


def _free_worker(connection: sqlite3.Connection, attempt: Attempt, cause: Cause, now: int, epoch: int | None) -> None:
    freed = connection.execute(
        "UPDATE workers SET state = 'idle', job_id = NULL, attempt = NULL, idle_since = ?, why = 'ready for work'"
        " WHERE id = ? AND state = 'busy' AND job_id = ? RETURNING id",
        (now, attempt.worker_id, attempt.job_id),
    ).fetchall()
    if freed:
        spans.begin(connection, attempt.worker_id, "idle", now)
        events.append(
            connection, now, "worker", epoch=epoch, worker_id=attempt.worker_id, job_id=attempt.job_id,
            from_state=WorkerState.BUSY, to_state=WorkerState.IDLE, cause=cause,
        )  # fmt: skip
    else:
        _leave_worker(connection, attempt, now)


def _leave_worker(connection: sqlite3.Connection, attempt: Attempt, now: int) -> None:
    """The worker is lost or going back: only take the job off it."""
    left = connection.execute(
        "UPDATE workers SET job_id = NULL, attempt = NULL, release_next_at = min(release_next_at, ?)"
        " WHERE id = ? AND job_id = ? RETURNING state",
        (now, attempt.worker_id, attempt.job_id),
    ).fetchall()
    if left and left[0]["state"] == WorkerState.RELEASING:
        spans.begin(connection, attempt.worker_id, "idle", now)


def record_output(connection: sqlite3.Connection, job_id: int, number: int, size: int) -> None:
    """Note how many bytes of an attempt's output are stored."""
    connection.execute("UPDATE attempts SET output_bytes = ? WHERE job_id = ? AND number = ?", (size, job_id, number))


def record_resume(
    connection: sqlite3.Connection, attempt: Attempt, source: StartFrom, *, now: int, epoch: int | None
) -> None:
    """Note which snapshot was put back before this attempt's command started."""
    words = f"resumes from snapshot {source.snapshot}"
    if source.job_id != attempt.job_id:
        words = f"begins with snapshot {source.snapshot} of {job_label(source.job_id)}"
    connection.execute(
        "UPDATE attempts SET resumed_from = ?, resumed_step ="
        " (SELECT step FROM snapshots WHERE job_id = ? AND number = ?) WHERE job_id = ? AND number = ?",
        (source.snapshot, source.job_id, source.snapshot, attempt.job_id, attempt.number),
    )
    events.append(
        connection, now, "attempt", words, epoch=epoch, job_id=attempt.job_id,
        attempt=attempt.number, worker_id=attempt.worker_id,
    )  # fmt: skip


def request_cancel(
    connection: sqlite3.Connection, job_ids: Iterable[int], now: int, user: str, wait_ms: int = 0
) -> list[tuple[int, str]]:
    """Cancel pending jobs at once and ask the engine to cancel running ones, which it hears after `wait_ms`.

    Returns what became of each: `cancelled`, `cancelling`, or the final state that it already had. A cancellation that
    waits to be heard is heard at once when it is asked again without waiting.
    """
    return [(job_id, _cancel_one(connection, job_id, now, user, now + wait_ms)) for job_id in job_ids]


def _cancel_one(connection: sqlite3.Connection, job_id: int, now: int, user: str, due_at: int) -> str:
    job = get(connection, job_id)
    if job is None:
        raise LookupError(f"there is no job j{job_id}")
    if job.state == JobState.PENDING:
        connection.execute(
            "UPDATE jobs SET state = 'cancelled', finished_at = ?, cause = 'cancelled', cancel_requested_at = NULL"
            " WHERE id = ?",
            (now, job_id),
        )
        events.append(
            connection, now, "job", f"cancelled by {user}", job_id=job_id, from_state=JobState.PENDING,
            to_state=JobState.CANCELLED, cause=Cause.CANCELLED,
        )  # fmt: skip
        return "cancelled"
    if job.state != JobState.RUNNING:
        return job.state.value
    if job.cancel_requested_at is None or now < job.cancel_requested_at > due_at:
        connection.execute("UPDATE jobs SET cancel_requested_at = ? WHERE id = ?", (due_at, job_id))
        events.append(connection, now, "request", f"cancel asked by {user}", job_id=job_id, attempt=job.attempt)
    return "cancelling"


def cancelling(connection: sqlite3.Connection, now: int) -> list[Job]:
    """Jobs that a user wants cancelled and that have not ended yet; not those whose user may still take that back."""
    found = connection.execute(
        "SELECT * FROM jobs WHERE cancel_requested_at IS NOT NULL AND cancel_requested_at <= ?", (now,)
    )
    return [rows.job(row) for row in found]


def cancel_requeued(connection: sqlite3.Connection, job_id: int, *, now: int, epoch: int | None) -> None:
    """Finish a cancellation whose job was put back to `pending` in the meantime."""
    changed = connection.execute(
        "UPDATE jobs SET state = 'cancelled', finished_at = ?, cause = 'cancelled', cancel_requested_at = NULL"
        " WHERE id = ? AND state = 'pending' AND cancel_requested_at <= ? RETURNING id",
        (now, job_id, now),
    ).fetchall()
    if changed:
        events.append(
            connection, now, "job", epoch=epoch, job_id=job_id, from_state=JobState.PENDING,
            to_state=JobState.CANCELLED, cause=Cause.CANCELLED,
        )  # fmt: skip


def retry(connection: sqlite3.Connection, job_id: int, now: int, user: str) -> bool:
    """Put a finished job back to `pending`, or let one that is held after faults go on at once.

    False when it is running, or pending and held by nothing that this could lift.
    """
    job = get(connection, job_id)
    if job is None:
        raise LookupError(f"there is no job j{job_id}")
    if job.state == JobState.RUNNING:
        return False
    if job.state == JobState.PENDING:
        return _let_go(connection, job, now, user)
    hosts.forgive_setup(connection, job_id, now)
    check_transition(JOB_TRANSITIONS, job.state, JobState.PENDING)
    connection.execute(
        "UPDATE jobs SET state = 'pending', faults = 0, not_before = NULL, worker_id = NULL, finished_at = NULL,"
        " exit_code = NULL, cause = NULL, error = NULL, cancel_requested_at = NULL WHERE id = ?",
        (job_id,),
    )
    events.append(
        connection, now, "job", f"retried by {user}", job_id=job_id, from_state=job.state, to_state=JobState.PENDING
    )
    return True


def start_from(connection: sqlite3.Connection, job_id: int, start: StartFrom | None, *, after: int) -> None:
    """What a waiting job begins with, until it has a snapshot of an attempt above `after`."""
    connection.execute(
        "UPDATE jobs SET start_job = ?, start_snapshot = ?, start_after = ? WHERE id = ?",
        (start.job_id if start else None, start.snapshot if start else None, after, job_id),
    )


def replace_spec(connection: sqlite3.Connection, job_id: int, spec: JobSpec) -> None:
    """Ask for something else in a job that waits; the commit that its code was stays where git is the same."""
    columns = rows.spec_columns(spec)
    connection.execute(_KEEP, {**columns, "id": job_id})
    connection.execute(_UPDATE, {**columns, "name": spec.name or f"job {job_id}", "id": job_id})


def _let_go(connection: sqlite3.Connection, job: Job, now: int, user: str) -> bool:
    """Lift what holds a waiting job back after faults; False when that is nothing."""
    held = job.not_before is not None and job.not_before > now
    if not held and not hosts.holds_back(connection, job.id):
        return False
    connection.execute("UPDATE jobs SET not_before = NULL WHERE id = ?", (job.id,))
    hosts.forgive_setup(connection, job.id, now)
    events.append(connection, now, "request", f"another try asked by {user}", job_id=job.id)
    return True


def fix_commit(connection: sqlite3.Connection, job_id: int, commit: str, *, now: int, epoch: int | None) -> None:
    """Note what the revision of a job's code is, once: later attempts work on the same."""
    fixed = connection.execute(
        "UPDATE jobs SET git_commit = ? WHERE id = ? AND git_commit IS NULL RETURNING git_url, git_rev",
        (commit, job_id),
    ).fetchall()
    for url, rev in fixed:
        events.append(
            connection, now, "job", f"its code is commit {commit} of {url}{f' ({rev})' if rev else ''}", epoch=epoch,
            job_id=job_id,
        )  # fmt: skip


def set_priority(connection: sqlite3.Connection, job_id: int, priority: int, now: int, user: str) -> None:
    """Change a job's priority."""
    changed = connection.execute(
        "UPDATE jobs SET priority = ? WHERE id = ? RETURNING id", (priority, job_id)
    ).fetchall()
    if not changed:
        raise LookupError(f"there is no job j{job_id}")
    events.append(connection, now, "request", f"priority {priority} set by {user}", job_id=job_id)


def ask_save(connection: sqlite3.Connection, job_id: int, *, user: str, now: int) -> None:
    """Note that a user wants a snapshot of a job now; one that is awaited already goes on."""
    connection.execute("UPDATE jobs SET save_asked_at = ? WHERE id = ? AND save_asked_at IS NULL", (now, job_id))
    events.append(connection, now, "request", f"a snapshot now, asked by {user}", job_id=job_id)


def save_asked(connection: sqlite3.Connection, job_id: int) -> int | None:
    """When a user asked for a snapshot of a job (UTC ms) that has not come yet; None when nobody waits for one."""
    row = connection.execute("SELECT save_asked_at FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else row["save_asked_at"]
