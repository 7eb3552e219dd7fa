"""Commands on many things at once that have a way back: each returns what it takes to undo it.

As in `engine.commands` each is a plain function of the store's connection. What does not apply is left alone and is not
among what is returned: a list that a user has marked may have changed in the meantime.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuscale_tui.model.states import LIVE_WORKER_STATES, JobState
from gpuscale_tui.store import engines, jobs, undoing, workers
from gpuscale_tui.store.undoing import Before, Undone

BATCH = 500
"""So many at once in one transaction: nobody else writes meanwhile."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Jobs that are being cancelled; what they were, and when those that run hear it (UTC ms)."""

    steps: tuple[Before, ...]
    asked_at: int
    due_at: int


@dataclass(frozen=True, slots=True)
class Released:
    """Machines that are asked to go back, and the requests that ask for it."""

    workers: tuple[int, ...]
    requests: tuple[int, ...]


def cancel(
    connection: sqlite3.Connection, job_ids: Sequence[int], *, wait_ms: int, user: str, now: int
) -> Cancelled:  # fmt: skip
    """Cancel those that wait at once; those that run hear it after `wait_ms`."""
    found = undoing.before(connection, job_ids)
    meant = tuple(step for step in found if step.state in {JobState.PENDING, JobState.RUNNING})
    jobs.request_cancel(connection, [step.id for step in meant], now, user, wait_ms)
    return Cancelled(meant, now, now + wait_ms)


def undo_cancel(connection: sqlite3.Connection, done: Cancelled, *, user: str, now: int) -> Undone:
    """Take `cancel` back."""
    return undoing.undo_cancel(connection, done.steps, asked_at=done.asked_at, due_at=done.due_at, user=user, now=now)


def retry(connection: sqlite3.Connection, job_ids: Sequence[int], *, user: str, now: int) -> tuple[Before, ...]:
    """Put finished jobs back in the queue and let held ones go on; returns what those were."""
    found = undoing.before(connection, job_ids)
    return tuple(step for step in found if jobs.retry(connection, step.id, now, user))


def undo_retry(connection: sqlite3.Connection, steps: Sequence[Before], *, user: str, now: int) -> Undone:
    """Take `retry` back."""
    return undoing.undo_retry(connection, steps, user=user, now=now)


def reorder(
    connection: sqlite3.Connection, given: Mapping[int, int], *, user: str, now: int
) -> tuple[Before, ...]:  # fmt: skip
    """Give waiting jobs (by id) a priority of 1 to 10; returns what those were that had another."""
    found = undoing.before(connection, list(given))
    meant = tuple(s for s in found if s.state == JobState.PENDING and s.priority != given[s.id])
    for step in meant:
        jobs.set_priority(connection, step.id, given[step.id], now, user)
    return meant


def undo_reorder(
    connection: sqlite3.Connection, steps: Sequence[Before], given: Mapping[int, int], *, user: str, now: int
) -> Undone:
    """Take `reorder` back."""
    return undoing.undo_priority(connection, steps, given, user=user, now=now)


def release(
    connection: sqlite3.Connection, worker_ids: Sequence[int], *, wait_ms: int, user: str, now: int
) -> Released:  # fmt: skip
    """Ask for machines to be given back; the engine hears it after `wait_ms`."""
    found = [(worker_id, workers.get(connection, worker_id)) for worker_id in worker_ids]
    meant = tuple(worker_id for worker_id, worker in found if worker and worker.state in LIVE_WORKER_STATES)
    asked = tuple(
        engines.ask(connection, "release", worker_id, user=user, now=now, wait_ms=wait_ms) for worker_id in meant
    )
    return Released(meant, asked)


def take_back(connection: sqlite3.Connection, requests: Sequence[int], *, user: str, now: int) -> tuple[bool, ...]:
    """Take requests back; False for each that was heard already."""
    return tuple(engines.take_back(connection, request, user=user, now=now) for request in requests)
