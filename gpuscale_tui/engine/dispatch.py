"""Dispatching: waiting jobs onto idle machines, in a transaction of its own or in the one that frees a machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gpuscale_tui.engine import ending, view
from gpuscale_tui.engine.ending import AttemptEnd
from gpuscale_tui.model.jobs import Attempt, Job
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.model.states import AttemptState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy.limits import above_limits
from gpuscale_tui.policy.placing import place
from gpuscale_tui.policy.world import Limits, Place
from gpuscale_tui.store import demand, jobs, rehearsals, workers


@dataclass(frozen=True, slots=True)
class Assignment:
    """An attempt with its job and its worker, as they stood when they were read."""

    attempt: Attempt
    job: Job
    worker: Worker


@dataclass(frozen=True, slots=True)
class Terms:
    """What placing goes by. `cap` is micro-dollars per hour.

    `linked`: workers whose connection is open, where a command can start at once.
    """

    limits: Limits
    cap: int
    max_workers: int
    linked: Collection[int] = ()


def terms(settings: Settings, linked: Collection[int] = ()) -> Terms:
    """The terms that the settings make."""
    return Terms(view.limits(settings), view.cap(settings), settings.scaler.max_workers, linked)


def find(connection: sqlite3.Connection, job_id: int, number: int) -> Assignment | None:
    """What an attempt needs to be carried on, None when there is no such attempt."""
    attempt = jobs.get_attempt(connection, job_id, number)
    job = jobs.get(connection, job_id)
    worker = None if attempt is None else workers.get(connection, attempt.worker_id)
    return None if attempt is None or job is None or worker is None else Assignment(attempt, job, worker)


def is_staged(job: Job) -> bool:
    """Whether anything must be brought to the machine before the command of this attempt can start."""
    spec = job.spec
    brings = spec.workdir is not None or spec.git is not None or bool(spec.data)
    return brings or spec.checkpoint_dir is not None or spec.start_from is not None or job.attempt > 1


def place_waiting(
    connection: sqlite3.Connection, terms: Terms, *, now: int, epoch: int | None
) -> tuple[Assignment, ...]:
    """Give the first waiting jobs to the machines that are idle, but for those that a lowered limit sends back."""
    idle = {worker.id: worker for worker in workers.idle(connection)}
    if idle and _over(connection, terms):
        above = above_limits(view.machines(workers.live(connection)), terms.cap, terms.max_workers, now)
        idle = {worker_id: worker for worker_id, worker in idle.items() if worker_id not in above}
    heads = demand.heads(connection, len(idle), now) if idle else []
    places = _choose(connection, heads, idle, terms, now) if heads else ()
    made = (
        _assign(connection, chosen.job_id, idle[chosen.worker_id], terms.linked, now=now, epoch=epoch)
        for chosen in places
    )
    return tuple(assignment for assignment in made if assignment is not None)


def _choose(
    connection: sqlite3.Connection, heads: Sequence[demand.Waiting], idle: Mapping[int, Worker], terms: Terms, now: int
) -> tuple[Place, ...]:
    """Which job goes where. One that rehearses a move leaves its machine, where another is idle that serves it."""
    machines, waiting = {each.id: each for each in view.machines(idle.values())}, list(heads)
    away: list[Place] = []
    for job_id, left in rehearsals.left_machines(connection).items() if len(idle) > 1 else ():
        one = [job for job in waiting if job.id == job_id]
        others = [each for each in machines.values() if each.id != left]
        for found in place(view.pending(one), others, terms.limits, now):
            away.append(found)
            waiting.remove(one[0])
            del machines[found.worker_id]
    return (*away, *place(view.pending(waiting), machines.values(), terms.limits, now))


def _over(connection: sqlite3.Connection, terms: Terms) -> bool:
    """Whether more is rented than the limits allow: a user has lowered one."""
    return workers.committed_rate(connection) > terms.cap or workers.count_live(connection) > terms.max_workers


def _assign(
    connection: sqlite3.Connection, job_id: int, worker: Worker, linked: Collection[int], *, now: int, epoch: int | None
) -> Assignment | None:
    """Where nothing has to be brought first and the connection is open, the attempt is noted as running already."""
    attempt = jobs.place(connection, job_id, worker.id, now=now, epoch=epoch)
    job = jobs.get(connection, job_id)
    if attempt is None or job is None:
        return None
    if worker.id in linked and not is_staged(job):
        attempt = skip_staging(connection, attempt, now=now, epoch=epoch)
    return Assignment(attempt, job, worker)


def skip_staging(connection: sqlite3.Connection, attempt: Attempt, *, now: int, epoch: int | None) -> Attempt:
    """Nothing has to be brought to the machine: the command starts at once."""
    jobs.advance_attempt(connection, attempt, AttemptState.STAGING, now=now, epoch=epoch)
    return jobs.advance_attempt(connection, attempt, AttemptState.RUNNING, now=now, epoch=epoch)


def hand_over(
    connection: sqlite3.Connection,
    attempt: Attempt,
    end: AttemptEnd,
    terms: Terms | None,
    *,
    retries: int,
    now: int,
    epoch: int | None,
) -> tuple[Assignment, ...]:
    """End an attempt and give its machine to the next job, in one transaction; without `terms` it stays idle."""
    ending.attempt_over(connection, attempt, end, retries=retries, now=now, epoch=epoch)
    return () if terms is None else place_waiting(connection, terms, now=now, epoch=epoch)
