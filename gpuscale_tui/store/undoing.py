"""Taking back: what jobs were before a user changed them, put back as it was; and what becomes due when nobody did.

A step back is refused, one job at a time, where things have gone on in the meantime: an undo never undoes what came
after the step.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuscale_tui.model.states import JobState, check_transition
from gpuscale_tui.store import engines, events
from gpuscale_tui.store.engines import Request

RETRY_UNDONE: Mapping[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED}),
}
"""The one way back from `pending`: a retry that nobody has acted on yet is taken back by its user."""


@dataclass(frozen=True, slots=True)
class Before:
    """What a job was before a step. Times are UTC ms."""

    id: int
    state: JobState
    priority: int
    attempt: int
    worker_id: int | None
    faults: int
    not_before: int | None
    finished_at: int | None
    exit_code: int | None
    cause: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Undone:
    """Jobs that are as they were, and those for which it was too late."""

    back: tuple[int, ...]
    late: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be heard now, and when something more will be (UTC ms, None: nothing waits).

    `requeued` are jobs to be cancelled that lost their machine before the cancellation was due.
    """

    requests: tuple[Request, ...]
    requeued: tuple[int, ...]
    next_at: int | None


_BEFORE = (
    "SELECT j.id, j.state, j.priority, j.attempt, j.worker_id, j.faults, j.not_before, j.finished_at, j.exit_code,"
    " j.cause, j.error FROM json_each(?) wanted CROSS JOIN jobs j ON j.id = wanted.value ORDER BY wanted.key"
)


def before(connection: sqlite3.Connection, job_ids: Sequence[int]) -> list[Before]:
    """What these jobs are now, in the order given; unknown ids are left out."""
    found = connection.execute(_BEFORE, (json.dumps(list(job_ids)),))
    return [Before(**{**dict(row), "state": JobState(row["state"])}) for row in found]


def undo_cancel(
    connection: sqlite3.Connection, steps: Sequence[Before], *, asked_at: int, due_at: int, user: str, now: int
) -> Undone:
    """Take a cancellation back that was asked at `asked_at` and is heard at `due_at` where the job was running.

    A waiting job that was cancelled waits again in its old place. A running one goes on, unless it is too late.
    """
    words = f"the cancelling was taken back by {user}"
    back = []
    for step in steps:
        if _keep_running(connection, step, due_at, now):
            events.append(connection, now, "request", words, job_id=step.id)
            back.append(step.id)
        elif _wait_again(connection, step, asked_at):
            _note(connection, step.id, (JobState.CANCELLED, JobState.PENDING), words, now)
            back.append(step.id)
    return _undone(steps, back)


def _keep_running(connection: sqlite3.Connection, step: Before, due_at: int, now: int) -> bool:
    return due_at > now and bool(
        connection.execute(
            "UPDATE jobs SET cancel_requested_at = NULL WHERE id = ? AND cancel_requested_at = ?"
            " AND state IN ('running', 'pending')",
            (step.id, due_at),
        ).rowcount
    )


def _wait_again(connection: sqlite3.Connection, step: Before, asked_at: int) -> bool:
    return step.state == JobState.PENDING and bool(
        connection.execute(
            "UPDATE jobs SET state = 'pending', finished_at = NULL, cause = ? WHERE id = ? AND state = 'cancelled'"
            " AND finished_at = ? AND attempt = ?",
            (step.cause, step.id, asked_at, step.attempt),
        ).rowcount
    )


def undo_retry(connection: sqlite3.Connection, steps: Sequence[Before], *, user: str, now: int) -> Undone:
    """Make jobs that were put back in the queue what they were, unless they have been given to a machine since."""
    back = []
    for step in steps:
        if step.state == JobState.PENDING:
            continue
        check_transition(RETRY_UNDONE, JobState.PENDING, step.state)
        changed = connection.execute(
            "UPDATE jobs SET state = ?, finished_at = ?, exit_code = ?, cause = ?, error = ?, faults = ?,"
            " not_before = ?, worker_id = ? WHERE id = ? AND state = 'pending' AND attempt = ?",
            (step.state, step.finished_at, step.exit_code, step.cause, step.error, step.faults, step.not_before,
             step.worker_id, step.id, step.attempt),
        ).rowcount  # fmt: skip
        if changed:
            _note(connection, step.id, (JobState.PENDING, step.state), f"the retry was taken back by {user}", now)
            back.append(step.id)
    return _undone([step for step in steps if step.state != JobState.PENDING], back)


def undo_priority(
    connection: sqlite3.Connection, steps: Sequence[Before], given: Mapping[int, int], *, user: str, now: int
) -> Undone:
    """Give jobs the priority that they had, unless it is not the one any more that they were `given` (by id)."""
    back = []
    for step in steps:
        changed = connection.execute(
            "UPDATE jobs SET priority = ? WHERE id = ? AND priority = ?", (step.priority, step.id, given[step.id])
        ).rowcount
        if changed:
            words = f"priority {step.priority} again, set by {user}"
            events.append(connection, now, "request", words, job_id=step.id)
            back.append(step.id)
    return _undone(steps, back)


def _note(connection: sqlite3.Connection, job_id: int, change: tuple[JobState, JobState], words: str, now: int) -> None:
    events.append(connection, now, "job", words, job_id=job_id, from_state=change[0], to_state=change[1])


def _undone(steps: Sequence[Before], back: Sequence[int]) -> Undone:
    known = frozenset(back)
    return Undone(tuple(back), tuple(step.id for step in steps if step.id not in known))


def due(connection: sqlite3.Connection, now: int) -> Due:
    """What users have asked and have not taken back in time."""
    requeued = connection.execute(
        "SELECT id FROM jobs WHERE cancel_requested_at IS NOT NULL AND cancel_requested_at <= ? AND state = 'pending'",
        (now,),
    )
    later = connection.execute(
        "SELECT min(at) FROM (SELECT min(due_at) AS at FROM requests WHERE done_at IS NULL AND due_at > ?1"
        " UNION ALL SELECT min(cancel_requested_at) FROM jobs"
        " WHERE cancel_requested_at IS NOT NULL AND cancel_requested_at > ?1)",
        (now,),
    ).fetchone()[0]
    return Due(tuple(engines.open_requests(connection, now)), tuple(row[0] for row in requeued), later)
