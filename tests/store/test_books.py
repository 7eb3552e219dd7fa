"""Money: whatever happens, a worker's cost is in its spans, in the ledger and in the reports, to the micro-dollar."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gpuscale_tui.model.jobs import Attempt
from gpuscale_tui.model.states import AttemptState, Cause, JobState, WorkerState
from gpuscale_tui.store import books, budgets, hosts, jobs, queries, spans, workers
from gpuscale_tui.store.views import CostKey
from tests.store.support import DOLLAR, HOUR, T0, Bench, spec

KEYS: tuple[CostKey, ...] = get_args(CostKey)
DAY = 86_400_000


class History(RuleBasedStateMachine):
    """Any order of events that the commands allow, with bills in between."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.bench = Bench(self.home / "gpuscale.db")
        self.bench.write(jobs.insert, [spec(project=p, user=u) for p in (None, "a") for u in ("", "ann")] * 3, T0)

    def teardown(self) -> None:
        self.reports_add_up()
        self.bench.db.close()
        shutil.rmtree(self.home)

    def workers_in(self, *states: WorkerState) -> list[int]:
        return [worker.id for worker in self.bench.read(workers.live) if worker.state in states]

    def attempts(self) -> list[Attempt]:
        return self.bench.read(jobs.live_attempts)

    def pick(self, data: st.DataObject, what: list[int]) -> int:
        return data.draw(st.sampled_from(what))

    @rule(ms=st.integers(1, 40 * HOUR))
    def time_passes(self, ms: int) -> None:
        self.bench.now += ms

    @rule(rate=st.integers(1, 3 * DOLLAR), gpu=st.sampled_from([None, "RTX 4090", "H100"]))
    def order(self, rate: int, gpu: str | None) -> None:
        self.bench.order(rate)
        self.bench.db.connection.execute(
            "UPDATE workers SET gpu_type = ? WHERE id = (SELECT max(id) FROM workers)", (gpu,)
        )

    @precondition(lambda self: self.workers_in(WorkerState.ORDERING, WorkerState.RELEASING))
    @rule(data=st.data(), ago=st.integers(0, HOUR))
    def adopt(self, data: st.DataObject, ago: int) -> None:
        worker = self.bench.worker(self.pick(data, self.workers_in(WorkerState.ORDERING, WorkerState.RELEASING)))
        if worker.order_id is None:
            found = workers.Adoption(f"o{worker.id}", self.bench.now - ago, None)
            self.bench.write(workers.adopt, worker.id, found, **self.bench.by)

    @precondition(lambda self: self.workers_in(WorkerState.BOOTING))
    @rule(data=st.data())
    def ready(self, data: st.DataObject) -> None:
        worker_id = self.pick(data, self.workers_in(WorkerState.BOOTING))
        self.bench.write(workers.became_ready, worker_id, "key", **self.bench.by)

    @precondition(lambda self: self.workers_in(WorkerState.IDLE))
    @rule(data=st.data())
    def place(self, data: st.DataObject) -> None:
        worker_id = self.pick(data, self.workers_in(WorkerState.IDLE))
        job_id = data.draw(st.integers(1, 12))
        self.bench.write(jobs.place, job_id, worker_id, **self.bench.by)

    @precondition(lambda self: self.attempts())
    @rule(
        data=st.data(),
        state=st.sampled_from([JobState.DONE, JobState.FAILED, JobState.PENDING, JobState.CANCELLED]),
        cause=st.sampled_from(Cause),
        saved=st.one_of(st.none(), st.integers(0, 60 * HOUR)),
    )
    def end(self, data: st.DataObject, state: JobState, cause: Cause, saved: int | None) -> None:
        attempt = data.draw(st.sampled_from(self.attempts()))
        saved_at = None if saved is None else self.bench.now - saved
        assert self.bench.end(attempt, cause, state, saved_at=saved_at)

    @rule(job_id=st.integers(1, 12))
    def retry(self, job_id: int) -> None:
        self.bench.write(jobs.retry, job_id, self.bench.now, "ann")

    @precondition(lambda self: self.bench.read(workers.live))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        worker_id = self.pick(data, [worker.id for worker in self.bench.read(workers.live)])
        self.bench.write(workers.begin_release, worker_id, "enough", **self.bench.by)

    @precondition(lambda self: self.workers_in(*set(WorkerState) - {WorkerState.ORDERING}))
    @rule(data=st.data())
    def gone(self, data: st.DataObject) -> None:
        worker_id = self.pick(data, self.workers_in(*set(WorkerState) - {WorkerState.ORDERING}))
        self.bench.write(workers.confirm_gone, worker_id, "gone", cause=None, **self.bench.by)

    @precondition(lambda self: self.bench.value("SELECT count(*) FROM workers"))
    @rule(data=st.data(), bill=st.one_of(st.none(), st.integers(0, 50 * DOLLAR)))
    def book(self, data: st.DataObject, bill: int | None) -> None:
        worker_id = data.draw(st.integers(1, self.bench.value("SELECT count(*) FROM workers")))
        worker = self.bench.worker(worker_id)
        if worker.held_from is None and worker.ended_at is None:
            return  # the engine books what exists, and what turned out to have existed
        held = (worker.ended_at or self.bench.now) - (worker.held_from or self.bench.now)
        total = worker.terms.charge(held) if bill is None else bill
        self.bench.write(spans.book, worker_id, total, self.bench.now, billed=bill is not None)

    @invariant()
    def spans_and_ledger_add_up_to_each_workers_cost(self) -> None:
        wrong = self.bench.db.connection.execute(
            "SELECT id FROM workers w WHERE cost <> (SELECT coalesce(sum(cost), 0) FROM spans WHERE worker_id = w.id)"
            " OR cost <> (SELECT coalesce(sum(amount), 0) FROM ledger WHERE worker_id = w.id)"
        ).fetchall()
        assert [tuple(row) for row in wrong] == []

    @invariant()
    def a_jobs_cost_is_that_of_its_spans(self) -> None:
        wrong = self.bench.db.connection.execute(
            "SELECT id FROM jobs j WHERE cost <> (SELECT coalesce(sum(cost), 0) FROM spans WHERE job_id = j.id)"
        ).fetchall()
        assert [tuple(row) for row in wrong] == []

    @invariant()
    def the_sums_by_day_are_those_of_ledger_and_jobs(self) -> None:
        for day in {self.bench.now - self.bench.now % DAY, 0}:
            booked = self.bench.value("SELECT coalesce(sum(amount), 0) FROM ledger WHERE at >= ?", day)
            assert self.bench.read(budgets.spent, "all", "", day) == booked
        for scope in ("project", "user"):
            wrong = self.bench.db.connection.execute(
                f"SELECT {scope}, sum(cost) AS cost FROM jobs WHERE {scope} IS NOT NULL GROUP BY 1 HAVING sum(cost) <>"
                f" (SELECT coalesce(sum(amount), 0) FROM spent WHERE scope = '{scope}' AND name = jobs.{scope})"
            ).fetchall()
            assert [tuple(row) for row in wrong] == []

    @invariant()
    def a_machine_does_one_thing_at_a_time(self) -> None:
        found: dict[int, list[tuple[int, int | None]]] = defaultdict(list)
        for row in self.bench.db.connection.execute("SELECT * FROM spans ORDER BY started_at, id"):
            found[row["worker_id"]].append((row["started_at"], row["ended_at"]))
        for timeline in found.values():
            assert all(end is not None for _, end in timeline[:-1])
            assert all(left[1] <= right[0] for left, right in itertools.pairwise(timeline))  # type: ignore[operator]

    @rule()
    def reports_add_up(self) -> None:
        total = self.bench.value("SELECT coalesce(sum(cost), 0) FROM workers")
        for key in KEYS:
            assert_adds_up(self.bench, key, None, total)
        since = self.bench.now - 30 * HOUR
        charged = self.bench.value("SELECT coalesce(sum(amount), 0) FROM ledger WHERE at >= ?", since)
        for key in KEYS:
            assert_adds_up(self.bench, key, since, charged)


def assert_adds_up(bench: Bench, key: CostKey, since: int | None, total: int) -> None:
    """Kinds and rows of a report are the total, to the micro-dollar."""
    report = bench.read(queries.costs, key, since)
    assert report.total == total
    assert report.productive + report.setup + report.idle + report.rejected + report.lost == total
    assert sum(row.cost for row in report.rows) == total


TestHistory = pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")(History.TestCase)
TestHistory.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


def timeline(bench: Bench, worker_id: int) -> list[tuple[str, int | None, int, int | None, int]]:
    """The spans of a worker: kind, job, begin and end in hours since T0, cost."""
    return [
        (row["kind"], row["job_id"], (row["started_at"] - T0) // HOUR,
         None if row["ended_at"] is None else (row["ended_at"] - T0) // HOUR, row["cost"])
        for row in bench.db.connection.execute(
            "SELECT * FROM spans WHERE worker_id = ? ORDER BY started_at, id", (worker_id,)
        )
    ]  # fmt: skip


def test_time_is_split_between_set_up_job_and_idle(bench: Bench) -> None:
    worker = bench.boot(DOLLAR)
    bench.now += HOUR
    bench.write(workers.became_ready, worker.id, "key", **bench.by)
    (job_id,) = bench.submit(project="p")
    bench.now += HOUR
    attempt = bench.place(job_id, worker.id)
    bench.now += 3 * HOUR
    bench.end(attempt, Cause.FINISHED, JobState.DONE)
    bench.now += HOUR
    bench.write(spans.book, worker.id, 6 * DOLLAR, bench.now, billed=False)
    assert timeline(bench, worker.id) == [
        ("setup", None, 0, 1, DOLLAR), ("idle", None, 1, 2, DOLLAR), ("job", job_id, 2, 5, 3 * DOLLAR),
        ("idle", None, 5, None, DOLLAR),
    ]  # fmt: skip
    report = bench.read(queries.costs, "project", None)
    assert (report.total, report.productive, report.setup, report.idle) == (6 * DOLLAR, 3 * DOLLAR, DOLLAR, 2 * DOLLAR)
    assert [(row.key, row.jobs, row.cost) for row in report.rows] == [
        ("(no job)", 0, 3 * DOLLAR), ("p", 1, 3 * DOLLAR),
    ]  # fmt: skip
    assert bench.read(jobs.get, job_id).cost == 3 * DOLLAR  # type: ignore[union-attr]


def running_for(bench: Bench, hours: int) -> Attempt:
    """A job that has run for so long on a machine that became ready at once and is booked at one dollar an hour."""
    attempt = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING)
    bench.now += hours * HOUR
    bench.write(spans.book, attempt.worker_id, hours * DOLLAR, bench.now, billed=False)
    return attempt


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        (None, [("lost", 0, 4, 4 * DOLLAR)]),
        (-1, [("lost", 0, 4, 4 * DOLLAR)]),
        (0, [("lost", 0, 4, 4 * DOLLAR)]),
        (3, [("job", 0, 3, 3 * DOLLAR), ("lost", 3, 4, DOLLAR)]),
        (4, [("job", 0, 4, 4 * DOLLAR)]),
        (9, [("job", 0, 4, 4 * DOLLAR)]),
    ],
)
def test_what_came_after_the_last_snapshot_of_a_lost_machine_is_lost(
    bench: Bench, saved: int | None, expected: list[object]
) -> None:
    attempt = running_for(bench, 4)
    bench.write(workers.confirm_gone, attempt.worker_id, "absent", cause=Cause.HOST_FAULT, **bench.by)
    saved_at = None if saved is None else T0 + saved * HOUR
    bench.end(attempt, Cause.HOST_FAULT, JobState.PENDING, saved_at=saved_at)
    found = [(kind, begin, end, cost) for kind, job, begin, end, cost in timeline(bench, 1) if job is not None]
    assert found == expected, "the money goes with the time even when no bill follows"
    assert bench.read(jobs.get, 1).cost == 4 * DOLLAR  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("cause", "state", "kind"),
    [
        (Cause.FINISHED, JobState.DONE, "job"),
        (Cause.USER_ERROR, JobState.FAILED, "job"),
        (Cause.TIMEOUT, JobState.FAILED, "job"),
        (Cause.HOST_FAULT, JobState.FAILED, "lost"),
        (Cause.OUR_FAULT, JobState.PENDING, "lost"),
        (Cause.CANCELLED, JobState.CANCELLED, "job"),
    ],
)
def test_which_endings_lose_work(bench: Bench, cause: Cause, state: JobState, kind: str) -> None:
    attempt = running_for(bench, 2)
    bench.end(attempt, cause, state)
    assert [row[0] for row in timeline(bench, 1) if row[1] is not None] == [kind]


def test_a_machine_that_never_became_ready_is_rejected(bench: Bench) -> None:
    given_back, lost = bench.boot(), bench.boot()
    bench.now += HOUR
    bench.write(workers.begin_release, given_back.id, "never up", cause=Cause.HOST_FAULT, **bench.by)
    bench.write(workers.confirm_gone, lost.id, "absent", cause=Cause.HOST_FAULT, **bench.by)
    bench.now += HOUR
    bench.write(workers.confirm_gone, given_back.id, "absent", cause=None, **bench.by)
    assert timeline(bench, given_back.id) == [("rejected", None, 0, 2, 0)]
    assert timeline(bench, lost.id) == [("rejected", None, 0, 1, 0)]
    failed = bench.read(hosts.outcomes, T0)
    assert [(outcome.host, outcome.kind) for outcome in failed] == [
        (("clore", worker.server_id), "no_start") for worker in (given_back, lost)
    ]


def test_a_bill_for_a_machine_that_we_never_held_is_booked_all_the_same(bench: Bench) -> None:
    worker = bench.order()
    bench.write(workers.refuse, worker.id, "sold", Cause.PROVIDER_FAULT, **bench.by)
    bench.write(spans.book, worker.id, 70, bench.now, billed=True)
    bench.write(spans.book, worker.id, 50, bench.now, billed=True)
    report = bench.read(queries.costs, "provider", None)
    assert (report.total, report.rejected) == (50, 50)


def test_a_lower_bill_of_the_provider_corrects_the_ledger(bench: Bench) -> None:
    attempt = running_for(bench, 4)
    bench.now += DAY
    bench.write(spans.book, attempt.worker_id, 3 * DOLLAR, bench.now, billed=True)
    assert [row["amount"] for row in bench.db.connection.execute("SELECT amount FROM ledger ORDER BY id")] == [
        4 * DOLLAR, -DOLLAR,
    ]  # fmt: skip
    assert bench.worker(1).billed
    status = bench.read(queries.status, bench.now, 0)
    assert status.spend.today == -DOLLAR
    assert [row.cost for row in bench.read(queries.costs, "day", None).rows] == [-DOLLAR, 4 * DOLLAR]


def test_since_counts_the_later_part_of_a_span(bench: Bench) -> None:
    attempt = running_for(bench, 4)
    since = bench.now - HOUR
    bench.now += HOUR
    bench.end(attempt, Cause.FINISHED, JobState.DONE)
    bench.write(spans.book, attempt.worker_id, 5 * DOLLAR, bench.now, billed=False)
    idle = bench.idle()
    bench.now += HOUR
    bench.write(spans.book, idle.id, 2 * DOLLAR, bench.now, billed=False)
    report = bench.read(queries.costs, "job", since)
    assert report.total == 7 * DOLLAR, "what the ledger was charged since"
    # two of the five hours of the job, of a dollar each, and two dollars of idling share the seven
    assert (report.productive, report.idle) == (7 * DOLLAR // 2, 7 * DOLLAR // 2)
    assert {(row.key, row.jobs, row.cost) for row in report.rows} == {
        ("j1", 1, 7 * DOLLAR // 2), ("(no job)", 0, 7 * DOLLAR // 2),
    }  # fmt: skip


def test_a_clock_that_goes_back_makes_no_span_of_negative_length(bench: Bench) -> None:
    worker = bench.boot()
    bench.now -= HOUR
    bench.write(workers.became_ready, worker.id, "key", **bench.by)
    bench.now += 3 * HOUR
    bench.write(spans.book, worker.id, 3 * DOLLAR, bench.now, billed=False)
    assert timeline(bench, worker.id) == [("idle", None, -1, None, 3 * DOLLAR), ("setup", None, 0, 0, 0)]


def test_days_and_months_are_utc(bench: Bench) -> None:
    last_of_january = 1_706_745_599_999  # 2024-01-31 23:59:59.999 UTC
    worker = bench.idle()
    for at, total in ((last_of_january - DAY, 1), (last_of_january, 3), (last_of_january + 1, 7)):
        bench.write(spans.book, worker.id, total, at, billed=False)
    spend = bench.read(queries.status, last_of_january, 0).spend
    assert (spend.today, spend.month) == (2 + 4, 7), "the clock of an earlier moment sees later bookings too"
    spend = bench.read(queries.status, last_of_january + 1, 0).spend
    assert (spend.today, spend.month) == (4, 4)
    assert [(row.key, row.cost) for row in bench.read(queries.costs, "day", None).rows] == [
        ("2024-02-01", 4), ("2024-01-31", 2), ("2024-01-30", 1),
    ]  # fmt: skip
    assert books.month_start(last_of_january) == 1_704_067_200_000
