"""Budgets: no intent beyond them, what they hold back waits and says so, and books that nobody can change."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.model.budget import DAY_MS, Budget, Reserve, Scope, day_start, month_start
from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.states import Cause, JobState, WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.store import budgets, demand, queries, spans, workers
from gpuscale_tui.store.budgets import Hold
from gpuscale_tui.store.database import SCHEMA
from gpuscale_tui.store.opening import migrate
from gpuscale_tui.store.workers import CapReached
from tests.store.support import DOLLAR, HOUR, T0, Bench, intent, offer

MINUTE = 60_000
RESERVE = Reserve(tick_ms=MINUTE, grace_ms=3 * MINUTE)


def ask(bench: Bench, budget: Budget, terms: Terms) -> Worker | CapReached:
    return bench.write(workers.write_intent, intent(budget=budget, offer=offer(terms=terms)), **bench.by)


@pytest.mark.parametrize("table", ["ledger", "events"])
@pytest.mark.parametrize("change", ["UPDATE {} SET at = 0", "DELETE FROM {}"])
def test_what_was_booked_and_what_happened_cannot_be_changed(bench: Bench, table: str, change: str) -> None:
    worker = bench.idle()
    bench.write(spans.book, worker.id, DOLLAR, bench.now, billed=False)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        bench.db.connection.execute(change.format(table))


def test_the_sums_of_an_older_home_are_made_when_it_is_opened() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    migrate(connection, replace(SCHEMA, migrations=SCHEMA.migrations[:1]))
    connection.execute(
        "INSERT INTO jobs (id, name, state, priority, group_key, argv, image, gpu_count, env, secret_names, params,"
        " project, user, submitted_at) VALUES (1, 'j', 'done', 5, 'k', '[]', 'i', 1, '{}', '[]', '{}', 'p', 'ada', 1)"
    )
    connection.execute(
        "INSERT INTO workers (id, provider, state, token, server_id, gpu_count, market, rate, terms, quote, group_key,"
        " purpose, known_orders, created_at, reason) VALUES (1, 'clore', 'released', 't', 's', 1, 'spot', 1, '{}',"
        " '{}', 'k', 'queue', '[]', 1, 'r')"
    )
    connection.execute("INSERT INTO ledger (at, worker_id, amount) VALUES (?, 1, 5), (?, 1, 4)", (T0, T0 + DAY_MS))
    connection.execute(
        "INSERT INTO spans (worker_id, kind, job_id, started_at, cost) VALUES (1, 'job', 1, ?, 7)", (T0,)
    )
    migrate(connection, SCHEMA)
    assert budgets.spent(connection, "all", "", 0) == 9
    assert budgets.spent(connection, "all", "", day_start(T0 + DAY_MS)) == 4
    assert [budgets.spent(connection, *key, 0) for key in (("project", "p"), ("user", "ada"), ("user", "x"))] == [
        7,
        7,
        0,
    ]
    connection.close()


@pytest.mark.parametrize("budget", [Budget(daily=DOLLAR, reserve=RESERVE), Budget(monthly=DOLLAR, reserve=RESERVE)])
def test_hundreds_of_intents_at_once_get_what_the_budget_has_room_for(bench: Bench, budget: Budget) -> None:
    """A quarter of an hour of each: a dollar an hour, so four."""
    made = [ask(bench, budget, Terms(DOLLAR)) for _ in range(300)]
    assert [isinstance(each, Worker) for each in made] == [True] * 4 + [False] * 296
    refused = made[-1]
    assert isinstance(refused, CapReached)
    assert "budget of $1.00 has no room for this machine: $0.00 are spent, $1.00 committed" in refused.reason


def test_what_is_booked_in_the_time_counts_and_what_was_before_does_not(bench: Bench) -> None:
    worker = bench.idle(0)
    bench.write(spans.book, worker.id, 9 * DOLLAR, bench.now, billed=True)
    daily, monthly = Budget(daily=9 * DOLLAR, reserve=RESERVE), Budget(monthly=9 * DOLLAR, reserve=RESERVE)
    assert isinstance(ask(bench, daily, Terms(DOLLAR)), CapReached)
    assert isinstance(ask(bench, daily, Terms(0)), Worker), "what costs nothing is always welcome"
    bench.now = day_start(bench.now) + DAY_MS
    assert isinstance(ask(bench, monthly, Terms(DOLLAR)), CapReached)
    new = ask(bench, daily, Terms(DOLLAR))
    assert isinstance(new, Worker)
    bench.now += 10 * HOUR
    assert isinstance(ask(bench, daily, Terms(DOLLAR)), CapReached), "it may cost since it was asked for"
    bench.write(workers.refuse, new.id, "there is none", Cause.PROVIDER_FAULT, **bench.by)
    bench.now = month_start(bench.now + 31 * DAY_MS)
    assert isinstance(ask(bench, monthly, Terms(DOLLAR)), Worker)


def test_minimum_charges_and_fees_count_before_they_fall_due(bench: Bench) -> None:
    terms = Terms(DOLLAR, minimum_ms=HOUR, creation_fee=DOLLAR // 2, creation_fee_after_ms=10 * MINUTE)
    assert isinstance(ask(bench, Budget(daily=15 * DOLLAR // 10 - 1, reserve=RESERVE), terms), CapReached)
    budget = Budget(daily=25 * DOLLAR // 10, reserve=RESERVE)
    assert isinstance(ask(bench, budget, terms), Worker)
    assert isinstance(ask(bench, budget, terms), CapReached)


@settings(max_examples=200, deadline=None)
@given(
    rate=st.integers(1, 5 * DOLLAR), fee=st.integers(0, DOLLAR), minimum=st.integers(0, 2 * HOUR),
    age=st.integers(0, 5 * HOUR), later=st.integers(0, 20 * MINUTE),
)  # fmt: skip
def test_what_is_reserved_pays_for_all_until_it_is_given_back(
    rate: int, fee: int, minimum: int, age: int, later: int
) -> None:
    """Decided within a tick, saved within the grace, gone within another tick: never dearer than was reserved."""
    terms = Terms(rate, minimum_ms=minimum, creation_fee=fee, creation_fee_after_ms=10 * MINUTE)
    now, booked = T0 + age, terms.charge(age)

    def paid(state: WorkerState, next_at: int | None) -> budgets.Paid:
        return budgets.Paid(1, state, terms, T0, booked, 0, next_at, None, None, None, 0)

    gone = min(later, RESERVE.staying_ms)
    assert terms.charge(age + gone) <= booked + paid(WorkerState.BUSY, None).due(RESERVE, now)
    leaving = paid(WorkerState.RELEASING, now + RESERVE.grace_ms).due(RESERVE, now)
    assert leaving <= paid(WorkerState.BUSY, None).due(RESERVE, now)


def test_what_comes_is_reserved_though_the_provider_charges_more_than_its_price(bench: Bench) -> None:
    worker = bench.idle(DOLLAR)
    bench.now += HOUR
    bench.write(spans.book, worker.id, 5 * DOLLAR, bench.now, billed=True)
    (paid,) = bench.read(budgets.paid)
    assert paid.due(RESERVE, bench.now) == DOLLAR * RESERVE.staying_ms // HOUR
    bench.write(spans.book, worker.id, DOLLAR // 2, bench.now, billed=True)
    (paid,) = bench.read(budgets.paid)
    assert paid.due(RESERVE, bench.now) == DOLLAR // 2 + DOLLAR * RESERVE.staying_ms // HOUR, "it may come yet"


def test_jobs_of_a_used_up_budget_are_no_demand_and_say_why(bench: Bench) -> None:
    free, held = bench.submit(project="free")[0], bench.submit(project="p", user="ada")[0]
    own = bench.submit()[0]
    assert [job.id for job in bench.read(demand.waiting)] == [free, held, own]
    bench.write(
        budgets.keep,
        [Hold(Scope.PROJECT, "p", 0, 1, "project p is out"), Hold(Scope.JOB, str(own), 0, 1, "it is out")],
        now=bench.now,
    )
    assert [job.id for job in bench.read(demand.waiting)] == [free]
    assert [job.id for job in bench.read(demand.heads, 5, bench.now)] == [free]
    rows = {row.id: row.why for row in bench.read(queries.job_rows, engine_alive=None)}
    assert "engine is not running" in rows[held], "first things first"
    bench.db.connection.execute("INSERT INTO engine VALUES (1, 1, 1, 'test', 1, ?, NULL, 1, 1, '')", (bench.now,))
    rows = {row.id: row.why for row in bench.read(queries.job_rows, engine_alive=True)}
    assert (rows[held], rows[own]) == ("project p is out", "it is out")
    bench.write(budgets.keep, [Hold(Scope.USER, "ada", 0, 1, "ada is out")], now=bench.now)
    assert [job.id for job in bench.read(demand.waiting)] == [free, own]
    assert bench.read(queries.why_job, held, engine_alive=True) == "ada is out"
    bench.write(budgets.keep, [], now=bench.now)
    assert len(bench.read(demand.waiting)) == 3


def test_running_jobs_of_a_used_up_budget_are_to_stop_unless_they_cost_nothing(bench: Bench) -> None:
    attempt = bench.placed(project="p")
    bench.placed(project="q")
    free = bench.place(bench.submit(project="p")[0], bench.idle(0).id)
    assert bench.read(budgets.stopping) == {}
    bench.write(budgets.keep, [Hold(Scope.PROJECT, "p", 0, 1, "out")], now=bench.now)
    assert bench.read(budgets.stopping) == {attempt.job_id: "out"}
    bench.end(attempt, Cause.BUDGET, JobState.PENDING)
    assert free.job_id not in bench.read(budgets.stopping)
    assert bench.read(budgets.stopping) == {}


class TestBills:
    """Our reckoning beside the provider's last word."""

    def reckoned(self, bench: Bench, bill: int) -> int:
        """A machine of a dollar an hour, asked back after an hour, seen gone six minutes later."""
        worker = bench.idle(DOLLAR)
        bench.now += HOUR
        bench.write(workers.begin_release, worker.id, "enough", **bench.by)
        bench.write(workers.release_asked, worker.id, "asked", bench.now, **bench.by)
        bench.now += 6 * MINUTE
        bench.write(workers.release_asked, worker.id, "asked", bench.now, **bench.by)
        bench.write(workers.confirm_gone, worker.id, "gone", cause=None, **bench.by)
        bench.write(spans.book, worker.id, bill, bench.now, billed=True)
        return int(bench.value("SELECT reckoned FROM workers WHERE id = ?", worker.id))

    @pytest.mark.parametrize(
        ("bill", "ours"),
        [(DOLLAR, DOLLAR), (1_050_000, 1_050_000), (1_100_000, 1_100_000), (1_200_000, 1_100_000), (0, DOLLAR)],
    )
    def test_a_bill_within_what_is_not_known_exactly_is_as_reckoned(self, bench: Bench, bill: int, ours: int) -> None:
        assert self.reckoned(bench, bill) == ours

    @pytest.mark.parametrize(("bill", "said"), [(DOLLAR, []), (1_109_000, []), (1_111_000, ["charged $1.1110 for w1"])])
    def test_more_than_a_cent_is_told_and_the_rest_is_in_the_books(
        self, bench: Bench, bill: int, said: list[str]
    ) -> None:
        self.reckoned(bench, bill)
        told = [row[0] for row in bench.db.connection.execute("SELECT text FROM notices WHERE kind = 'bill'")]
        assert len(told) == len(said)
        assert all(words in text for words, text in zip(said, told, strict=True))
        costs = bench.read(queries.costs, "project")
        expected = max(0, bill - 1_100_000)
        assert (costs.difference, costs.differing) == (expected, int(expected > 0))
        assert bench.read(queries.costs, "project", bench.now + 1).differing == 0
