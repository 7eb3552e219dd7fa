"""Every job and worker says why it is where it is, in one sentence, and what would lift it."""

from __future__ import annotations

import pytest

from gpuscale_tui.model.states import AttemptState, Cause, JobState, WorkerState
from gpuscale_tui.store import engines, jobs, queries, workers
from tests.store.support import DOLLAR, T0, Bench, spec

LIMITS = engines.Limits(10 * DOLLAR, 5)
ENGINE = "the engine is not running: start it with `gpuscale`, or without a screen with `gpuscale --autopilot`"
AT = "2023-11-14 22:13:20 UTC"
"""T0 in words."""


def start(bench: Bench) -> None:
    bench.epoch = bench.write(engines.begin_epoch, 1, "screen", LIMITS, bench.now)


def why(bench: Bench, job_id: int = 1, alive: bool | None = None) -> str:
    """The sentence, which must be the same in the table and alone."""
    sentence = bench.read(queries.why_job, job_id, engine_alive=alive)
    row = bench.read(queries.job_row, job_id, engine_alive=alive)
    assert row is not None
    assert row.why == sentence
    assert "\n" not in sentence
    return sentence


def test_no_engine_has_ever_run(bench: Bench) -> None:
    bench.submit()
    assert why(bench) == ENGINE


def test_the_engine_has_stopped(bench: Bench) -> None:
    start(bench)
    bench.submit()
    bench.write(engines.explain_groups, {spec().need.key: ("cap", "the cap is reached")}, T0)
    assert why(bench) == "the cap is reached"
    bench.write(engines.end_epoch, "stopped", T0, 1)
    assert why(bench) == ENGINE, "what a stopped engine thought is no reason any more"


def test_the_engine_was_killed_as_only_its_lock_can_tell(bench: Bench) -> None:
    start(bench)
    bench.submit()
    assert why(bench) == "submitted; the engine has not looked at it yet"
    assert why(bench, alive=False) == ENGINE
    assert why(bench, alive=True) == "submitted; the engine has not looked at it yet"


def test_groups_are_explained_with_the_newest_sentence_and_forgotten_when_they_go(bench: Bench) -> None:
    start(bench)
    bench.submit()
    bench.submit(gpu_type="H100")
    keys = [spec().need.key, spec(gpu_type="H100").need.key]
    bench.write(engines.explain_groups, {keys[0]: ("cap", "one"), keys[1]: ("price", "two")}, T0)
    assert (why(bench, 1), why(bench, 2)) == ("one", "two")
    bench.write(engines.explain_groups, {keys[1]: ("price", "three")}, T0)
    assert (why(bench, 1), why(bench, 2)) == ("submitted; the engine has not looked at it yet", "three")
    bench.write(engines.explain_groups, {}, T0)
    assert bench.value("SELECT count(*) FROM group_reasons") == 0


def test_forty_thousand_groups_can_be_explained(bench: Bench) -> None:
    reasons = {f"g{number}": ("code", "why") for number in range(40_000)}
    bench.write(engines.explain_groups, reasons, T0)
    assert bench.value("SELECT count(*) FROM group_reasons") == 40_000


def test_held_after_a_fault_until_its_time_has_come(bench: Bench) -> None:
    start(bench)
    attempt = bench.placed()
    bench.end(attempt, Cause.HOST_FAULT, JobState.PENDING, counted=True, not_before=T0 + 60_000)
    assert why(bench) == (
        "held until 2023-11-14 22:14:20 UTC because its machine failed (once so far); it goes on by itself then"
    )
    bench.write(engines.heartbeat, T0 + 60_000, "planning")
    assert why(bench) == "submitted; the engine has not looked at it yet", "the hold is over"


def test_a_cancellation_that_waits_for_the_engine(bench: Bench) -> None:
    start(bench)
    attempt = bench.placed()
    bench.write(jobs.request_cancel, [1], T0, "ann")
    assert why(bench).startswith(f"it is being cancelled, asked at {AT}; ")
    bench.end(attempt, Cause.HOST_FAULT, JobState.PENDING)
    assert why(bench) == "it is being cancelled"


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [
        (AttemptState.ASSIGNED, f"given to w1 at {AT}; it begins there as soon as the machine answers"),
        (AttemptState.STAGING, f"its files are being put on w1, since {AT}"),
        (AttemptState.RUNNING, f"its command runs on w1 since {AT}"),
        (AttemptState.SAVING, "its command on w1 has ended; output and checkpoints are being fetched"),
    ],
)
def test_where_a_running_job_is(bench: Bench, stage: AttemptState, sentence: str) -> None:
    start(bench)
    stages = list(AttemptState)
    bench.advance(bench.placed(), *stages[1 : stages.index(stage) + 1])
    assert why(bench) == sentence
    assert why(bench, alive=False) == f"{sentence}; nobody watches it: {ENGINE}"


@pytest.mark.parametrize(
    ("state", "cause", "code", "error", "sentence"),
    [
        (JobState.DONE, Cause.FINISHED, 0, None, f"done at {AT}"),
        (JobState.FAILED, Cause.USER_ERROR, 3, None,
         "its command failed with exit code 3; `gpuscale retry j1` puts it back"),
        (JobState.FAILED, Cause.TIMEOUT, None, None,
         "it ran longer than its max_runtime; `gpuscale retry j1` puts it back"),
        (JobState.FAILED, Cause.HOST_FAULT, None, "lost 6 times",
         "its machine failed: lost 6 times; `gpuscale retry j1` puts it back"),
        (JobState.CANCELLED, Cause.CANCELLED, None, None, f"cancelled at {AT}; `gpuscale retry j1` puts it back"),
    ],
)  # fmt: skip
def test_how_a_job_ended(  # noqa: PLR0917 - the columns of the table above
    bench: Bench, state: JobState, cause: Cause, code: int | None, error: str | None, sentence: str
) -> None:
    bench.end(bench.placed(), cause, state, exit_code=code, error=error)
    assert why(bench) == sentence, "an engine is not needed to know how it ended"


def test_every_cause_has_words(bench: Bench) -> None:
    causes = [cause for cause in Cause if cause != Cause.FINISHED]
    for cause in causes:
        bench.end(bench.placed(), cause, JobState.FAILED)
    sentences = {why(bench, number).partition(";")[0] for number in range(1, len(causes) + 1)}
    assert len(sentences) == len(causes)
    assert "it failed" not in sentences, "the words for a cause that has none"


def test_why_a_worker_is_there(bench: Bench) -> None:
    worker = bench.order()
    assert bench.read(queries.why_worker, worker.id) == "ordering: 2 jobs wait"
    attempt = bench.placed()
    assert bench.read(queries.why_worker, attempt.worker_id) == "rented because: 2 jobs wait; busy: runs j1"
    bench.end(attempt, Cause.FINISHED, JobState.DONE)
    assert bench.read(queries.why_worker, attempt.worker_id) == "rented because: 2 jobs wait; idle: ready for work"
    bench.write(workers.explain, [(attempt.worker_id, "kept: idle for 3 s of 120 s")])
    row = bench.read(queries.worker_row, attempt.worker_id)
    assert row is not None
    assert row.why == "kept: idle for 3 s of 120 s"
    gone = bench.worker_in(WorkerState.RELEASED)
    assert bench.read(queries.why_worker, gone.id) == f"rented because: 2 jobs wait; released at {AT}: gone"


def test_unknown_ids(bench: Bench) -> None:
    with pytest.raises(LookupError, match="there is no job j9"):
        bench.read(queries.why_job, 9)
    with pytest.raises(LookupError, match="there is no worker w9"):
        bench.read(queries.why_worker, 9)
