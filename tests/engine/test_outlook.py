"""Forecasts fed from a real store: which finished jobs count, what machines cost, what the limits leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuscale_tui.engine import outlook
from gpuscale_tui.model.budget import Budget
from gpuscale_tui.model.jobs import Attempt
from gpuscale_tui.model.states import AttemptState, Cause, JobState
from gpuscale_tui.policy.forecast import Range
from gpuscale_tui.store import jobs, market, progress
from gpuscale_tui.store.market import Judgement
from gpuscale_tui.store.outlook import stem
from gpuscale_tui.store.progress import JobProgress
from tests.store.support import DOLLAR, HOUR, T0, Bench, offer, spec

MINUTE = 60_000


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "home" / "gpuscale.db")
    yield made
    made.db.close()


def _start(bench: Bench, worker: int, **changes: object) -> Attempt:
    (job,) = bench.submit(**changes)
    attempt = bench.place(job, worker)
    for state in (AttemptState.STAGING, AttemptState.RUNNING):
        attempt = bench.write(jobs.advance_attempt, attempt, state, **bench.by)
    return attempt


def _done(bench: Bench, worker: int, minutes: int, **changes: object) -> None:
    attempt = _start(bench, worker, **changes)
    bench.now += minutes * MINUTE
    bench.end(attempt, Cause.FINISHED, JobState.DONE, exit_code=0)


def _queue(bench: Bench, budget: Budget | None = None) -> outlook.Forecast:
    return bench.read(outlook.of_queue, budget or Budget(), 4 * DOLLAR, 3, bench.now)


def test_the_first_word_of_a_name_tells_what_jobs_share() -> None:
    names = ("train-17", "train lr=1e-3", "train_2.1 x", "resnet50", "17", "")
    assert [stem(name) for name in names] == ["train", "train", "train", "resnet", "", ""]


def test_an_empty_store_expects_nothing(bench: Bench) -> None:
    found = _queue(bench)
    assert (found.jobs, found.done_in, found.cost.high) == (0, Range(0, 0, 0), 0)
    assert bench.read(outlook.expected, "train", None, "RTX 4090").took is None
    assert bench.read(outlook.of_job, 7, T0) is None


def test_jobs_of_the_same_name_count_before_those_of_the_project(bench: Bench) -> None:
    worker = bench.idle().id
    for minutes in (30, 30, 30):
        _done(bench, worker, minutes, name="train-1", project="llm")
    for minutes in (90, 90, 90):
        _done(bench, worker, minutes, name="eval", project="llm")
    found = bench.read(outlook.expected, "train-99", "llm", "RTX 4090")
    assert found.took is not None
    assert found.took.likely == 30 * MINUTE
    assert found.basis == "3 finished jobs named train on RTX 4090"
    other = bench.read(outlook.expected, "other", "llm", "RTX 4090")
    assert other.basis == "6 finished jobs of project llm on RTX 4090"
    assert bench.read(outlook.expected, "train-99", "llm", "H100").took is None
    limited = bench.read(outlook.expected, "train-99", None, "RTX 4090", 60.0)
    assert limited.took == Range(MINUTE, MINUTE, MINUTE)


def test_the_queue_is_priced_by_the_offers_that_serve_it(bench: Bench) -> None:
    worker = bench.idle().id
    _done(bench, worker, 60, name="train")
    bench.submit(4, name="train-2")
    key = spec().need.key
    bench.write(market.replace, "clore", "RTX 4090",
                [(offer(DOLLAR // 2), Judgement(serves=(key,), rank=1))], bench.now)  # fmt: skip
    found = _queue(bench)
    assert (found.jobs, found.counted) == (4, 4)
    assert found.cost.likely >= 4 * DOLLAR // 2
    assert found.done_in is not None
    assert found.done_in.likely >= 2 * HOUR - 60_000
    held = _queue(bench, Budget(daily=DOLLAR))
    assert held.done_in is not None
    assert held.done_in.likely > found.done_in.likely
    assert any("the daily budget of $1.00 holds it up" in words for words in held.basis)
    assert _queue(bench, Budget(per_job=DOLLAR)).basis[-1] == "limits of projects, users and single jobs are not in it"


def test_a_running_job_is_judged_by_its_own_progress(bench: Bench) -> None:
    attempt = _start(bench, bench.idle(2 * DOLLAR).id)
    bench.now += 10 * MINUTE
    before = bench.read(outlook.of_job, attempt.job_id, bench.now)
    assert before is not None
    assert before.cost is None
    said = JobProgress(attempt.job_id, 1, bench.now, fraction=0.5, eta_ms=30 * MINUTE)
    bench.write(progress.record, [said], [])
    found = bench.read(outlook.of_job, attempt.job_id, bench.now + 10 * MINUTE)
    assert found is not None
    assert found.duration.took is not None
    assert found.duration.took.likely == 20 * MINUTE
    assert found.cost is not None
    assert found.cost.likely == 666_667
    assert _queue(bench).basis[0] == "1 job: its own progress"
