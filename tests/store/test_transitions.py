"""Every cell of the tables, walked through the commands that change states: what is allowed works, the rest raises."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from gpuscale_tui.model.jobs import Attempt
from gpuscale_tui.model.states import (
    ATTEMPT_TRANSITIONS,
    WORKER_TRANSITIONS,
    AttemptState,
    Cause,
    IllegalTransition,
    JobState,
    OrderOutcome,
    WorkerState,
)
from gpuscale_tui.store import jobs, queries, workers
from tests.store.support import T0, Bench

STAGES = [AttemptState.ASSIGNED, AttemptState.STAGING, AttemptState.RUNNING, AttemptState.SAVING]
REASONS = {JobState.DONE: Cause.FINISHED, JobState.FAILED: Cause.USER_ERROR, JobState.CANCELLED: Cause.CANCELLED}


def adopt(bench: Bench, worker_id: int) -> Any:
    return bench.write(workers.adopt, worker_id, workers.Adoption(f"o{worker_id}", bench.now, None), **bench.by)


def ready(bench: Bench, worker_id: int) -> Any:
    return bench.write(workers.became_ready, worker_id, "key", **bench.by)


def give_back(bench: Bench, worker_id: int) -> Any:
    return bench.write(workers.begin_release, worker_id, "why not", **bench.by)


def refuse(bench: Bench, worker_id: int) -> Any:
    return bench.write(workers.refuse, worker_id, "sold", Cause.PROVIDER_FAULT, **bench.by)


def gone(bench: Bench, worker_id: int) -> Any:
    return bench.write(workers.confirm_gone, worker_id, "absent twice", cause=None, **bench.by)


def occupy(bench: Bench, worker_id: int) -> Any:
    return bench.write(jobs.place, bench.submit()[0], worker_id, **bench.by)


S = WorkerState
COMMANDS: list[tuple[Callable[[Bench, int], Any], dict[S, S]]] = [
    (adopt, {S.ORDERING: S.BOOTING, S.RELEASING: S.RELEASING}),
    (ready, {S.BOOTING: S.IDLE}),
    (occupy, {S.IDLE: S.BUSY}),
    (give_back, dict.fromkeys((S.ORDERING, S.BOOTING, S.IDLE, S.BUSY), S.RELEASING)),
    (refuse, {S.ORDERING: S.RELEASED, S.RELEASING: S.RELEASED}),
    (gone, {S.RELEASING: S.RELEASED, S.BOOTING: S.LOST, S.IDLE: S.LOST, S.BUSY: S.LOST}),
]
QUIET = {occupy: None, give_back: False}
"""Commands that answer instead of raising where another caller may have been first, and their answer."""


@pytest.mark.parametrize(("command", "state"), [(c, s) for (c, _), s in product(COMMANDS, WorkerState)])
def test_each_command_on_a_worker_in_each_state(bench: Bench, command: Any, state: WorkerState) -> None:
    worker = bench.worker_in(state)
    allowed = dict(COMMANDS)[command]
    before = bench.value("SELECT max(id) FROM events")
    if state in allowed:
        command(bench, worker.id)
        assert bench.worker(worker.id).state == allowed[state]
        assert state == allowed[state] or allowed[state] in WORKER_TRANSITIONS[state]
        assert bench.value("SELECT count(*) FROM events WHERE id > ? AND worker_id = ?", before, worker.id) >= 1
        return
    if command in QUIET:
        assert command(bench, worker.id) is QUIET[command]
    else:
        with pytest.raises(IllegalTransition):
            command(bench, worker.id)
    assert bench.worker(worker.id) == worker, "a move that is not allowed changes nothing"


def test_every_allowed_move_of_a_worker_is_made_by_some_command() -> None:
    made = {(old, new) for _, moves in COMMANDS for old, new in moves.items() if old != new}
    by_the_end_of_an_attempt = {(S.BUSY, S.IDLE)}
    assert made | by_the_end_of_an_attempt == {(old, new) for old, row in WORKER_TRANSITIONS.items() for new in row}


def test_a_worker_that_was_lost_or_refused_never_comes_back(bench: Bench) -> None:
    for state in (S.RELEASED, S.LOST):
        assert bench.read(workers.live) == []
        worker = bench.worker_in(state)
        assert worker.ended_at == T0
        assert worker.job_id is None


@pytest.mark.parametrize(("old", "new"), list(product(AttemptState, AttemptState)))
def test_each_cell_of_an_attempt(bench: Bench, old: AttemptState, new: AttemptState) -> None:
    attempt = bench.placed()
    if old == AttemptState.ENDED:
        bench.end(attempt, Cause.FINISHED, JobState.DONE)
    else:
        bench.advance(attempt, *STAGES[1 : STAGES.index(old) + 1])
    if new == AttemptState.ENDED:
        assert bench.end(attempt, Cause.OUR_FAULT, JobState.PENDING) is (old != AttemptState.ENDED)
    elif new == old or new in ATTEMPT_TRANSITIONS[old]:
        assert bench.advance(attempt, new).state == new
    else:
        with pytest.raises(IllegalTransition):
            bench.advance(attempt, new)
        assert bench.read(jobs.get_attempt, attempt.job_id, 1).state == old  # type: ignore[union-attr]


def test_an_attempt_is_ended_only_together_with_its_job(bench: Bench) -> None:
    attempt = bench.placed()
    with pytest.raises(IllegalTransition, match="end_attempt only"):
        bench.advance(attempt, AttemptState.ENDED)
    assert bench.read(jobs.live_attempts) == [attempt]


@pytest.mark.parametrize(("old", "new"), list(product(JobState, JobState)))
def test_each_cell_of_a_job(bench: Bench, old: JobState, new: JobState) -> None:
    job_id = bench.job_in(old)
    allowed = {
        JobState.PENDING: {JobState.RUNNING, JobState.CANCELLED},
        JobState.RUNNING: {JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.PENDING},
    }.get(old, {JobState.PENDING})
    moved = move_job(bench, job_id, new)
    job = bench.read(jobs.get, job_id)
    assert job is not None
    assert job.state == (new if new in allowed else old)
    assert moved is (new in allowed)


def move_job(bench: Bench, job_id: int, new: JobState) -> bool:
    """Try to bring a job into a state by the command that does it; whether that worked."""
    job = bench.read(jobs.get, job_id)
    assert job is not None
    if new == JobState.RUNNING:
        return bench.write(jobs.place, job_id, bench.idle().id, **bench.by) is not None
    if job.state == JobState.RUNNING:
        attempt = bench.read(jobs.get_attempt, job_id, job.attempt)
        assert attempt is not None
        return bench.end(attempt, REASONS.get(new, Cause.PREEMPTED), new)
    if new == JobState.CANCELLED and job.state != JobState.CANCELLED:
        return bench.write(jobs.request_cancel, [job_id], bench.now, "ann") == [(job_id, "cancelled")]
    if new == JobState.PENDING:
        return bench.write(jobs.retry, job_id, bench.now, "ann")
    late = Attempt(job_id, max(1, job.attempt), 1, AttemptState.SAVING, 0, None, None, None, None, 0, None)
    return bench.end(late, REASONS.get(new, Cause.FINISHED), new)


def test_a_running_job_does_not_end_as_running(bench: Bench) -> None:
    attempt = bench.placed()
    with pytest.raises(IllegalTransition):
        bench.end(attempt, Cause.FINISHED, JobState.RUNNING)
    assert bench.read(jobs.get_attempt, attempt.job_id, 1) == attempt, "the whole command is undone"


def test_events_alone_tell_every_state(bench: Bench) -> None:
    """The log is complete: following it from the first event gives what the tables say."""
    for state in WorkerState:
        bench.worker_in(state)
    for wanted in JobState:
        bench.job_in(wanted)
    attempt = bench.advance(bench.placed(), *STAGES[1:])
    bench.end(attempt, Cause.HOST_FAULT, JobState.PENDING)
    bench.write(workers.begin_release, attempt.worker_id, "enough", **bench.by)
    told: dict[tuple[str, int], str] = {}
    for event in reversed(bench.read(queries.events_page, None, 1000)):
        if event.to_state is None:
            continue
        key = (event.kind, {"job": event.job_id, "worker": event.worker_id}.get(event.kind) or 0)
        if event.kind in {"job", "worker"}:
            assert told.get(key) == event.from_state, event
            told[key] = event.to_state
    stored = {("job", row.id): row.state for row in bench.read(queries.job_rows)}
    stored |= {("worker", row.id): row.state for row in bench.read(queries.worker_rows, ended=True)}
    assert told == stored


def test_events_carry_epoch_cause_and_detail(bench: Bench) -> None:
    attempt = bench.placed()
    bench.end(attempt, Cause.USER_ERROR, JobState.FAILED, exit_code=3, error="exit code 3")
    last = bench.read(queries.job_events, attempt.job_id)[-2]
    assert (last.kind, last.from_state, last.to_state) == ("job", "running", "failed")
    assert (last.cause, last.detail, last.worker_id, last.attempt) == ("user_error", "exit code 3", 1, 1)


def test_a_late_report_changes_nothing(bench: Bench) -> None:
    first = bench.placed()
    assert bench.end(first, Cause.HOST_FAULT, JobState.PENDING)
    second = bench.place(first.job_id, bench.idle().id)
    count = bench.read(queries.events_count)
    assert not bench.end(first, Cause.FINISHED, JobState.DONE, exit_code=0)
    assert bench.read(queries.events_count) == count
    job = bench.read(jobs.get, first.job_id)
    assert job is not None
    assert (job.state, job.attempt, job.worker_id) == (JobState.RUNNING, 2, second.worker_id)
    assert bench.worker(second.worker_id).state == WorkerState.BUSY


def test_the_outcome_of_a_create_call_is_noted_only_while_ordering(bench: Bench) -> None:
    worker = bench.order()
    bench.write(workers.record_outcome, worker.id, OrderOutcome.UNKNOWN, "timed out", **bench.by)
    assert bench.worker(worker.id).outcome == OrderOutcome.UNKNOWN
    adopt(bench, worker.id)
    adopted = bench.worker(worker.id)
    bench.write(workers.record_outcome, worker.id, OrderOutcome.ACCEPTED, "late", **bench.by)
    assert bench.worker(worker.id) == adopted
    assert adopted.outcome is None


def test_an_order_found_while_going_back_is_remembered_so_that_it_can_be_given_back(bench: Bench) -> None:
    worker = bench.order()
    give_back(bench, worker.id)
    adopt(bench, worker.id)
    found = bench.worker(worker.id)
    assert (found.state, found.order_id, found.held_from) == (S.RELEASING, f"o{worker.id}", T0)
    assert bench.value("SELECT kind FROM spans WHERE worker_id = ?", worker.id) == "rejected"


def test_an_ending_keeps_what_a_machine_that_goes_back_does(bench: Bench) -> None:
    attempt = bench.placed()
    give_back(bench, attempt.worker_id)
    assert bench.worker(attempt.worker_id).job_id == attempt.job_id
    bench.end(attempt, Cause.BUDGET, JobState.PENDING)
    worker = bench.worker(attempt.worker_id)
    assert (worker.state, worker.job_id, worker.attempt) == (S.RELEASING, None, None)


def test_faults_are_counted_where_the_ending_says_so(bench: Bench) -> None:
    attempt = bench.placed()
    bench.end(attempt, Cause.HOST_FAULT, JobState.PENDING, counted=True, not_before=T0 + 5000)
    job = bench.read(jobs.get, attempt.job_id)
    assert job is not None
    assert (job.faults, job.not_before, job.worker_id, job.finished_at) == (1, T0 + 5000, None, None)
    again = bench.place(attempt.job_id, attempt.worker_id)
    assert dataclasses.replace(again, number=1) == dataclasses.replace(attempt, number=1)
    bench.end(again, Cause.OUR_FAULT, JobState.PENDING)
    assert bench.read(jobs.get, attempt.job_id).faults == 1  # type: ignore[union-attr]
