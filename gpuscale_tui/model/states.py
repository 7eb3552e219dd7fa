"""The state machines, as complete transition tables: the only ways in which a state changes (DESIGN section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class JobState(StrEnum):
    """Where a job stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AttemptState(StrEnum):
    """Where one execution of a job on one worker stands."""

    ASSIGNED = "assigned"
    STAGING = "staging"
    RUNNING = "running"
    SAVING = "saving"
    ENDED = "ended"


class WorkerState(StrEnum):
    """Where a machine stands, from the intent to rent it until the provider confirms that it is gone."""

    ORDERING = "ordering"
    BOOTING = "booting"
    IDLE = "idle"
    BUSY = "busy"
    RELEASING = "releasing"
    RELEASED = "released"
    LOST = "lost"


class Rehearsal(StrEnum):
    """How far the rehearsal of a job's move is: it is moved on purpose once, and what comes after is compared."""

    NONE = ""
    WANTED = "wanted"
    MOVING = "moving"
    RESUMED = "resumed"
    VERIFIED = "verified"
    FAILED = "failed"


class Cause(StrEnum):
    """Why an attempt ended or a state changed. Only `user_error` and `timeout` fail a job by themselves."""

    FINISHED = "finished"
    USER_ERROR = "user_error"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    HOST_FAULT = "host_fault"
    PROVIDER_FAULT = "provider_fault"
    OUR_FAULT = "our_fault"
    BUDGET = "budget"


class OrderOutcome(StrEnum):
    """What is known of a create call while its worker is `ordering`.

    `in_flight`: the call may still be on its way (also after a crash in its middle); `accepted`: the provider said yes;
    `unknown`: no usable answer came. In all three the price stays reserved.
    """

    IN_FLIGHT = "in_flight"
    ACCEPTED = "accepted"
    UNKNOWN = "unknown"


class Purpose(StrEnum):
    """What a worker was rented for: jobs in the queue, a `scale up` by hand, or the setting `min_workers`."""

    QUEUE = "queue"
    HAND = "hand"
    MINIMUM = "minimum"


JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.PENDING}),
    JobState.DONE: frozenset({JobState.PENDING}),
    JobState.FAILED: frozenset({JobState.PENDING}),
    JobState.CANCELLED: frozenset({JobState.PENDING}),
}

ATTEMPT_TRANSITIONS: Mapping[AttemptState, frozenset[AttemptState]] = {
    AttemptState.ASSIGNED: frozenset({AttemptState.STAGING, AttemptState.ENDED}),
    AttemptState.STAGING: frozenset({AttemptState.RUNNING, AttemptState.ENDED}),
    AttemptState.RUNNING: frozenset({AttemptState.SAVING, AttemptState.ENDED}),
    AttemptState.SAVING: frozenset({AttemptState.ENDED}),
    AttemptState.ENDED: frozenset(),
}

WORKER_TRANSITIONS: Mapping[WorkerState, frozenset[WorkerState]] = {
    WorkerState.ORDERING: frozenset({WorkerState.BOOTING, WorkerState.RELEASING, WorkerState.RELEASED}),
    WorkerState.BOOTING: frozenset({WorkerState.IDLE, WorkerState.RELEASING, WorkerState.LOST}),
    WorkerState.IDLE: frozenset({WorkerState.BUSY, WorkerState.RELEASING, WorkerState.LOST}),
    WorkerState.BUSY: frozenset({WorkerState.IDLE, WorkerState.RELEASING, WorkerState.LOST}),
    WorkerState.RELEASING: frozenset({WorkerState.RELEASED}),
    WorkerState.RELEASED: frozenset(),
    WorkerState.LOST: frozenset(),
}

LIVE_WORKER_STATES = frozenset(WorkerState) - {WorkerState.RELEASED, WorkerState.LOST}
"""States in which a machine may cost money."""

FINAL_JOB_STATES = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})

FAILING_CAUSES = frozenset({Cause.USER_ERROR, Cause.TIMEOUT})
"""The causes that may make a job `failed` by themselves; all others requeue it."""

State = TypeVar("State", JobState, AttemptState, WorkerState)


class IllegalTransition(RuntimeError):
    """A state change that no table allows: a bug, never a condition to handle."""


def check_transition(table: Mapping[State, frozenset[State]], old: State, new: State) -> None:
    """Raise IllegalTransition unless the table allows `old` to become `new`."""
    if new not in table[old]:
        raise IllegalTransition(f"{type(old).__name__}: {old} may not become {new}")
