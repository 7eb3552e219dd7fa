"""What can be taken back: nothing is heard before it is due, and what is taken back leaves things as they were."""

from __future__ import annotations

from gpuscale_tui.model.states import Cause, JobState
from gpuscale_tui.store import demand, engines, jobs, queries, undoing
from tests.store.support import T0, Bench

LATER = 10_000


def cancel(bench: Bench, job_id: int, now: int = T0) -> undoing.Before:
    """Ask for a cancellation as the screen does; what the job was before."""
    (step,) = bench.read(undoing.before, [job_id])
    bench.write(jobs.request_cancel, [job_id], now, "ann", LATER)
    return step


def undo(bench: Bench, step: undoing.Before, now: int, asked_at: int = T0) -> bool:
    """Take it back; whether that was in time."""
    done = bench.write(
        undoing.undo_cancel, [step], asked_at=asked_at, due_at=asked_at + LATER, user="ann", now=now
    )  # fmt: skip
    assert {*done.back, *done.late} == {step.id}
    return done.back == (step.id,)


def test_a_running_job_is_not_cancelled_before_it_is_due_and_goes_on_when_that_is_taken_back(bench: Bench) -> None:
    running = bench.placed()
    step = cancel(bench, running.job_id)
    assert bench.read(jobs.cancelling, T0 + LATER - 1) == []
    assert [job.id for job in bench.read(jobs.cancelling, T0 + LATER)] == [running.job_id]
    assert bench.read(undoing.due, T0 + 1).next_at == T0 + LATER
    assert undo(bench, step, T0 + LATER - 1)
    assert bench.read(jobs.cancelling, T0 + LATER) == []
    assert bench.read(undoing.due, T0 + 1).next_at is None
    assert not undo(bench, step, T0 + LATER - 1), "there is nothing left to take back"


def test_it_is_too_late_once_it_is_due(bench: Bench) -> None:
    running = bench.placed()
    step = cancel(bench, running.job_id)
    assert not undo(bench, step, T0 + LATER)
    assert [job.id for job in bench.read(jobs.cancelling, T0 + LATER)] == [running.job_id]


def test_asking_again_without_waiting_is_heard_at_once(bench: Bench) -> None:
    running = bench.placed()
    cancel(bench, running.job_id)
    bench.write(jobs.request_cancel, [running.job_id], T0 + 5, "ann")
    assert [job.id for job in bench.read(jobs.cancelling, T0 + 5)] == [running.job_id]
    bench.write(jobs.request_cancel, [running.job_id], T0 + 6, "ann", LATER)
    assert [job.id for job in bench.read(jobs.cancelling, T0 + 5)] == [running.job_id], "it is not put off again"


def test_a_waiting_job_comes_back_to_its_old_place(bench: Bench) -> None:
    first, second, third = bench.submit()[0], bench.submit()[0], bench.submit()[0]
    bench.write(jobs.set_priority, second, 2, T0, "ann")
    old = bench.read(jobs.get, second)
    order = [row.id for row in bench.read(queries.job_rows)]
    step = cancel(bench, second)
    assert bench.read(jobs.get, second).state == JobState.CANCELLED  # type: ignore[union-attr]
    assert undo(bench, step, T0 + 5_000)
    assert bench.read(jobs.get, second) == old
    assert [row.id for row in bench.read(queries.job_rows)] == order == [second, first, third]
    assert not undo(bench, step, T0 + 5_000)


def test_a_job_that_was_held_after_a_fault_is_held_again(bench: Bench) -> None:
    attempt = bench.placed()
    ending = jobs.Ending(Cause.HOST_FAULT, JobState.PENDING, error="its machine failed", not_before=T0 + 90_000,
                         counted=True)  # fmt: skip
    bench.write(jobs.end_attempt, attempt, ending, **bench.by)
    old = bench.read(jobs.get, attempt.job_id)
    step = cancel(bench, attempt.job_id)
    assert undo(bench, step, T0 + 1)
    assert bench.read(jobs.get, attempt.job_id) == old


def test_a_later_cancellation_is_not_taken_back_by_an_earlier_undo(bench: Bench) -> None:
    job_id = bench.submit()[0]
    step = cancel(bench, job_id)
    bench.write(jobs.retry, job_id, T0 + 1, "bob")
    bench.write(jobs.request_cancel, [job_id], T0 + 2, "bob")
    assert not undo(bench, step, T0 + 3)
    assert bench.read(jobs.get, job_id).state == JobState.CANCELLED  # type: ignore[union-attr]


def test_a_job_whose_machine_is_lost_before_it_is_due_waits_for_the_answer(bench: Bench) -> None:
    """It is neither placed again nor cancelled before; then it is one or the other."""
    for taken_back in (True, False):
        attempt = bench.placed()
        step = cancel(bench, attempt.job_id)
        bench.end(attempt, Cause.HOST_FAULT, JobState.PENDING)
        bench.write(jobs.cancel_requeued, attempt.job_id, now=T0 + 1, epoch=bench.by["epoch"])
        assert bench.read(jobs.get, attempt.job_id).state == JobState.PENDING  # type: ignore[union-attr]
        assert attempt.job_id not in [waiting.id for waiting in bench.read(demand.heads, 5, T0 + 1)]
        assert attempt.job_id not in bench.read(undoing.due, T0 + 1).requeued
        if taken_back:
            assert undo(bench, step, T0 + 2)
            assert attempt.job_id in [waiting.id for waiting in bench.read(demand.heads, 5, T0 + LATER)]
        else:
            assert bench.read(undoing.due, T0 + LATER).requeued == (attempt.job_id,)
            bench.write(jobs.cancel_requeued, attempt.job_id, now=T0 + LATER, epoch=bench.by["epoch"])
            assert bench.read(jobs.get, attempt.job_id).state == JobState.CANCELLED  # type: ignore[union-attr]


def test_a_retry_is_taken_back_until_the_job_is_placed(bench: Bench) -> None:
    """The error, the exit code and the faults are what they were."""
    attempt = bench.placed()
    ending = jobs.Ending(Cause.USER_ERROR, JobState.FAILED, 3, "the command exited with 3")
    bench.write(jobs.end_attempt, attempt, ending, **bench.by)
    old = bench.read(jobs.get, attempt.job_id)
    steps = bench.read(undoing.before, [attempt.job_id])
    bench.write(jobs.retry, attempt.job_id, T0 + 1, "ann")
    assert bench.write(undoing.undo_retry, steps, user="ann", now=T0 + 2).back == (attempt.job_id,)
    assert bench.read(jobs.get, attempt.job_id) == old
    bench.write(jobs.retry, attempt.job_id, T0 + 3, "ann")
    assert bench.write(jobs.place, attempt.job_id, attempt.worker_id, **bench.by) is not None
    assert bench.write(undoing.undo_retry, steps, user="ann", now=T0 + 4).late == (attempt.job_id,)
    assert bench.read(jobs.get, attempt.job_id).state == JobState.RUNNING  # type: ignore[union-attr]


def test_a_priority_is_taken_back_unless_somebody_gave_another(bench: Bench) -> None:
    ours, theirs = bench.submit()[0], bench.submit()[0]
    steps = bench.read(undoing.before, [ours, theirs])
    for job_id in (ours, theirs):
        bench.write(jobs.set_priority, job_id, 1, T0, "ann")
    bench.write(jobs.set_priority, theirs, 9, T0 + 1, "bob")
    done = bench.write(undoing.undo_priority, steps, {ours: 1, theirs: 1}, user="ann", now=T0 + 2)
    assert (done.back, done.late) == ((ours,), (theirs,))
    assert [bench.read(jobs.get, each).spec.priority for each in (ours, theirs)] == [5, 9]  # type: ignore[union-attr]


def test_a_request_is_heard_when_it_is_due_and_not_once_it_was_taken_back(bench: Bench) -> None:
    kept = bench.write(engines.ask, "release", 1, user="ann", now=T0, wait_ms=LATER)
    back = bench.write(engines.ask, "release", 2, user="ann", now=T0, wait_ms=LATER)
    assert bench.read(undoing.due, T0 + 1) == undoing.Due((), (), T0 + LATER)
    assert bench.write(engines.take_back, back, user="ann", now=T0 + 2)
    heard = bench.read(undoing.due, T0 + LATER)
    assert [request.id for request in heard.requests] == [kept]
    assert not bench.write(engines.take_back, kept, user="ann", now=T0 + LATER)
