"""What screens and verbs read: the right rows in the right order, in pages, along indexes."""

from __future__ import annotations

import sqlite3
from itertools import product
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuscale_tui.model.states import Cause, JobState, WorkerState
from gpuscale_tui.store import engines, events, jobs, market, queries, snapshots, spans, workers
from gpuscale_tui.store.views import JobFilter, JobSort
from tests.store.support import DOLLAR, HOUR, T0, Bench, offer, spec

SORTS: tuple[JobSort, ...] = get_args(JobSort)
FINAL = ("done", "failed", "cancelled")
NAMES = ("Alpha", "beta", "GAMMA", "50%_off", "naïve", "ÜBER")
GPUS = (None, "RTX 4090", "H100")

jobs_made = st.lists(
    st.tuples(
        st.sampled_from([state.value for state in JobState]), st.integers(1, 10), st.sampled_from(NAMES),
        st.sampled_from(GPUS), st.integers(0, 5), st.integers(0, 3), st.sampled_from([None, "p1", "p2"]),
    ),
    max_size=40,
)  # fmt: skip


def make_jobs(bench: Bench, made: list[Any]) -> list[dict[str, Any]]:
    """Jobs set straight into their states, with times and costs that often tie."""
    rows = []
    bench.write(jobs.insert, [spec(name=name, gpu_type=gpu, priority=priority, project=project)
                              for _, priority, name, gpu, _, _, project in made], T0)  # fmt: skip
    for job_id, (state, priority, name, gpu, tick, cost, project) in enumerate(made, 1):
        started = None if state == "pending" else T0 + tick
        finished = T0 + tick if state in FINAL else None
        bench.db.connection.execute(
            "UPDATE jobs SET state = ?, started_at = ?, finished_at = ?, cost = ? WHERE id = ?",
            (state, started, finished, cost, job_id),
        )
        rows.append({"id": job_id, "state": state, "priority": priority, "name": name, "gpu_type": gpu, "cost": cost,
                     "started_at": started, "finished_at": finished, "project": project})  # fmt: skip
    return rows


def in_queue_order(rows: list[dict[str, Any]]) -> list[int]:
    """The order of the queue as its words say."""
    running = sorted((row for row in rows if row["state"] == "running"), key=lambda row: (row["priority"], row["id"]))
    pending = sorted((row for row in rows if row["state"] == "pending"), key=lambda row: (row["priority"], row["id"]))
    final = sorted((row for row in rows if row["state"] in FINAL), key=lambda row: (-row["finished_at"], -row["id"]))
    return [row["id"] for row in (*running, *pending, *final)]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    made=jobs_made,
    states=st.sets(st.sampled_from([state.value for state in JobState]), max_size=3),
    text=st.sampled_from(["", "alpha", "%", "_", "ï", "über", "p1", "rtx", "j1", "2", "\\"]),
    size=st.integers(1, 7),
)
def test_pages_of_the_queue_put_together_are_the_queue(
    tmp_path_factory: pytest.TempPathFactory, made: list[Any], states: set[str], text: str, size: int
) -> None:
    bench = Bench(tmp_path_factory.mktemp("q") / "gpuscale.db")
    rows = make_jobs(bench, made)
    chosen = JobFilter(tuple(sorted(states)), text)
    kept = [row for row in rows if (not states or row["state"] in states) and contains(row, text)]
    expected = in_queue_order(kept)
    for descending in (False, True):
        paged: list[int] = []
        while page := bench.read(queries.job_rows, chosen, "queue", descending, len(paged), size):
            paged += [row.id for row in page]
        assert paged == (expected[::-1] if descending else expected)
    assert bench.read(queries.count_jobs, chosen) == len(expected)
    assert bench.read(queries.job_ids, chosen) == sorted(expected)
    bench.db.close()


def contains(row: dict[str, Any], text: str) -> bool:
    fields = (f"j{row['id']}", row["name"], row["project"] or "", row["gpu_type"] or "")
    return any(text.lower() in field.lower() for field in fields)


KEYS: dict[JobSort, Any] = {
    "id": lambda row: (row["id"],),
    "submitted": lambda row: (row["id"],),
    "name": lambda row: (row["name"].lower(), row["id"]),
    "state": lambda row: (row["state"], row["priority"], row["id"]),
    "priority": lambda row: (row["priority"], row["id"]),
    "cost": lambda row: (row["cost"], row["id"]),
    "gpu": lambda row: (row["gpu_type"], row["id"]),
    "started": lambda row: (row["started_at"], row["id"]),
    "finished": lambda row: (row["finished_at"], row["id"]),
}


@pytest.mark.parametrize(("sort", "descending"), list(product(KEYS, (False, True))))
def test_every_other_order(bench: Bench, sort: JobSort, descending: bool) -> None:
    states = ["pending", "running", "done", "failed", "cancelled"]
    made = [
        (states[n % 5], 1 + n * 7 % 10, ("Alpha", "beta")[n % 2], GPUS[n % 3], n * 5 % 6, n % 4, None)
        for n in range(30)
    ]
    rows = make_jobs(bench, made)
    known = [row for row in rows if KEYS[sort](row)[0] is not None]
    unknown = [row for row in rows if KEYS[sort](row)[0] is None]
    expected = sorted(known, key=KEYS[sort], reverse=descending)
    expected += sorted(unknown, key=lambda row: row["id"], reverse=descending)
    paged = [
        row.id
        for start in (0, 11, 22)
        for row in bench.read(queries.job_rows, JobFilter(), sort, descending, start, 11)
    ]
    assert paged == [row["id"] for row in expected], "rows without the value come last both ways"
    assert set(KEYS) | {"queue"} == set(SORTS)


def test_a_row_says_all_of_a_job(bench: Bench) -> None:
    worker = bench.idle(4 * DOLLAR)
    (job_id,) = bench.submit(name="n", project="p", user="ann", max_price=500_000, priority=3, gpu_count=2)
    bench.now += 5
    attempt = bench.place(job_id, worker.id)
    bench.write(jobs.request_cancel, [job_id], bench.now, "ann")
    row = bench.read(queries.job_row, job_id)
    assert row is not None
    assert (row.id, row.label, row.name, row.state, row.attempt, row.priority) == (1, "j1", "n", "running", 1, 3)
    assert (row.gpu_type, row.gpu_count, row.max_price, row.project, row.user) == ("RTX 4090", 2, 500_000, "p", "ann")
    assert (row.worker_id, row.order_id, row.provider, row.rate) == (worker.id, "o1", "clore", 4 * DOLLAR)
    assert (row.submitted_at, row.started_at, row.finished_at) == (T0, T0 + 5, None)
    assert row.cancelling
    bench.now += HOUR
    bench.write(spans.book, worker.id, 9, bench.now, billed=False)
    bench.end(attempt, Cause.USER_ERROR, JobState.FAILED, exit_code=3, error="exit code 3")
    row = bench.read(queries.job_row, job_id)
    assert row is not None
    assert (row.cost, row.exit_code, row.cause, row.error, row.finished_at) == (
        9,
        3,
        "user_error",
        "exit code 3",
        bench.now,
    )
    assert not row.cancelling
    assert bench.read(queries.job_row, 99) is None


def test_a_row_of_a_worker(bench: Bench) -> None:
    attempt = bench.placed(name="n")
    row = bench.read(queries.worker_row, attempt.worker_id)
    assert row is not None
    assert (row.label, row.state, row.job_id, row.job_name, row.ssh_host, row.ssh_port) == (
        "w1", "busy", 1, "n", "127.0.0.1", 22,
    )  # fmt: skip
    assert (row.rate, row.billed, row.reason, row.why) == (DOLLAR, False, "2 jobs wait", "runs j1")
    assert bench.read(queries.worker_row, 99) is None


def test_live_workers_come_first_then_the_latest_that_are_gone(bench: Bench) -> None:
    for state in (WorkerState.RELEASED, WorkerState.IDLE, WorkerState.LOST, WorkerState.ORDERING, WorkerState.RELEASED):
        bench.now += 1
        bench.worker_in(state)
    assert [row.id for row in bench.read(queries.worker_rows)] == [2, 4]
    paged = [
        row.id for start in range(0, 6, 2) for row in bench.read(queries.worker_rows, ended=True, offset=start, limit=2)
    ]
    assert paged == [2, 4, 5, 3, 1]


def test_status_counts_and_adds_up(bench: Bench) -> None:
    for state in WorkerState:
        bench.worker_in(state)
    for wanted in (JobState.PENDING, JobState.DONE):
        bench.job_in(wanted)
    status = bench.read(queries.status, T0, 7)
    assert status.jobs == {"pending": 1, "running": 1, "done": 1, "failed": 0, "cancelled": 0}
    assert status.workers == {
        "ordering": 1, "booting": 1, "idle": 2, "busy": 1, "releasing": 1, "released": 1, "lost": 1,
    }  # fmt: skip
    assert (status.spend.used, status.spend.reserved, status.spend.cap) == (5 * DOLLAR, DOLLAR, 7)
    assert not status.engine.running
    assert (status.engine.pid, status.engine.mode, status.engine.epoch) == (None, None, None)


def test_the_cap_is_the_engines_while_it_has_not_stopped(bench: Bench) -> None:
    epoch = bench.write(engines.begin_epoch, 42, "autopilot", engines.Limits(9, 5), T0)
    bench.write(engines.heartbeat, T0 + 1, "planning")
    status = bench.read(queries.status, T0, 7)
    assert (status.spend.cap, status.engine.running, status.engine.pid, status.engine.mode) == (
        9,
        True,
        42,
        "autopilot",
    )
    assert (status.engine.epoch, status.engine.heartbeat_at, status.engine.note) == (1, T0 + 1, "planning")
    bench.write(engines.end_epoch, "stopped", T0 + 2, epoch)
    status = bench.read(queries.status, T0, 7)
    assert (status.spend.cap, status.engine.running, status.engine.pid) == (7, False, None)
    assert (status.engine.epoch, status.engine.note) == (1, "stopped")


def test_events_in_pages(bench: Bench) -> None:
    bench.submit(25)
    newest = bench.read(queries.events_page, None, 10)
    assert [event.id for event in newest] == list(range(25, 15, -1))
    assert [event.id for event in bench.read(queries.events_page, newest[-1].id, 100)] == list(range(15, 0, -1))
    assert bench.read(queries.events_count) == 25
    assert bench.read(events.latest_id) == 25
    assert [event.id for event in bench.read(events.after, 23, 10)] == [24, 25]


def test_the_story_of_a_job_and_of_a_worker(bench: Bench) -> None:
    attempt = bench.placed()
    bench.placed()
    story = bench.read(queries.job_events, attempt.job_id)
    assert [event.to_state for event in story] == ["pending", "running", "busy"]
    assert [event.to_state for event in bench.read(queries.job_events, attempt.job_id, 2)] == ["running", "busy"]
    story = bench.read(queries.worker_events, attempt.worker_id)
    assert [event.to_state for event in story] == ["ordering", "booting", "idle", "running", "busy"]
    assert [a.number for a in bench.read(queries.attempts, attempt.job_id)] == [1]


def test_an_empty_store_answers_everything(bench: Bench) -> None:
    assert bench.read(queries.job_rows) == []
    assert bench.read(queries.worker_rows, ended=True) == []
    assert bench.read(queries.events_page) == []
    assert bench.read(queries.events_count) == 0
    assert bench.read(queries.costs, "day", None).rows == ()
    assert bench.read(queries.status, T0, 0).spend.used == 0


def test_the_market_is_read_as_it_was_stored(bench: Bench) -> None:
    found = [(offer(3), ""), (offer(1), "price above 0.5"), (offer(2, gpu_type="H100"), "")]
    bench.write(market.replace, "clore", None, found, T0)
    assert [row.rate for row in bench.read(market.offers)] == [2, 3, 1], "what can be rented first, cheapest first"
    assert [row.rate for row in bench.read(market.offers, "rtx 4090")] == [3, 1]
    bench.write(market.replace, "clore", "RTX 4090", [], T0)
    assert bench.read(market.gpu_types) == ["H100"]


# How it is found: no page that a screen shows by default may walk a whole table.


def plans(bench: Bench, monkeypatch: pytest.MonkeyPatch, query: Any, *args: Any, **options: Any) -> list[str]:
    """What SQLite would do for each statement of a query."""
    asked: list[tuple[str, Any]] = []

    class Spy:
        """A connection that notes what it is asked."""

        def execute(self, sql: str, bound: Any = ()) -> sqlite3.Cursor:
            asked.append((sql, bound))
            return bench.db.connection.execute(sql, bound)

    query(Spy(), *args, **options)
    return [
        row["detail"] for sql, bound in asked for row in bench.db.connection.execute(f"EXPLAIN QUERY PLAN {sql}", bound)
    ]


DEFAULT_PAGES: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (queries.job_rows, (), {}),
    (queries.job_rows, (JobFilter(), "queue", True, 100, 100), {}),
    (queries.job_rows, (JobFilter(("failed", "done")),), {}),
    (queries.job_rows, (JobFilter(("pending",)),), {}),
    (queries.job_row, (1,), {}),
    (queries.worker_rows, (), {}),
    (queries.worker_rows, (), {"ended": True}),
    (queries.worker_row, (1,), {}),
    (queries.events_page, (), {}),
    (queries.events_count, (), {}),
    (queries.job_events, (1,), {}),
    (queries.worker_events, (1,), {}),
    (queries.attempts, (1,), {}),
    (queries.why_job, (1,), {}),
    (workers.committed_rate, (), {}),
    (workers.live, (), {}),
    (jobs.pending, (), {}),
    (jobs.live_attempts, (), {}),
    (jobs.cancelling, (T0,), {}),
    (queries.status, (T0, 0), {}),
    (snapshots.page, (0, 100), {}),
    (snapshots.snapshots, (1,), {}),
]


@pytest.mark.parametrize(("query", "args", "options"), DEFAULT_PAGES)
def test_default_pages_walk_indexes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, query: Any, args: Any, options: Any
) -> None:
    bench.job_in(JobState.DONE)
    steps = plans(bench, monkeypatch, query, *args, **options)
    assert steps, "the query was watched"
    small = ("CONSTANT", "json_each", "engine", "page", "VIRTUAL TABLE", "subquery", "notice_targets", "wallets")
    walks = [
        step
        for step in steps
        if step.startswith("SCAN") and " USING " not in step and not any(s in step for s in small)
    ]
    assert walks == []
    sorts = [step for step in steps if "TEMP B-TREE" in step]
    allowed = {queries.job_rows: 1, queries.job_row: 1, queries.status: 3}.get(query, 0)
    assert len(sorts) <= allowed, "only the rows of one page and a few addresses are ever sorted, and machines grouped"
