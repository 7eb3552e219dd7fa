"""The timeline of the fleet: which machines were there, what they did, and what that comes to."""

from __future__ import annotations

import sqlite3

import pytest

from gpuscale_tui.store import fleet
from gpuscale_tui.store.fleet import FleetSpan, FleetTotal
from tests.store.support import Bench

MINUTE = 60_000
NOW = 1_000 * MINUTE


def machine(connection: sqlite3.Connection, number: int, created: int, ended: int | None) -> None:
    """A row of `workers` with no more than the table asks for."""
    connection.execute(
        "INSERT INTO workers (id, provider, state, token, server_id, gpu_count, market, rate, terms, quote, group_key,"
        " purpose, known_orders, created_at, held_from, ended_at, reason)"
        " VALUES (?, 'clore', ?, ?, '1', 1, 'on-demand', 600000, '{}', '', 'g', 'queue', '[]', ?, ?, ?, '')",
        (number, "busy" if ended is None else "released", f"t{number}", created, created, ended),
    )


def span(connection: sqlite3.Connection, worker: int, kind: str, start: int, end: int | None, *, cost: int = 0) -> None:
    """A row of `spans`."""
    connection.execute(
        "INSERT INTO spans (worker_id, kind, started_at, ended_at, cost) VALUES (?, ?, ?, ?, ?)",
        (worker, kind, start, end, cost),
    )


@pytest.fixture
def fleet_of_three(bench: Bench) -> Bench:
    """One machine that is up, one that went an hour ago, one of long ago."""

    def fill(connection: sqlite3.Connection) -> None:
        for number, created, ended in ((1, 900, None), (2, 860, 940), (3, 100, 160)):
            machine(connection, number, created * MINUTE, None if ended is None else ended * MINUTE)
        span(connection, 1, "setup", 900 * MINUTE, 910 * MINUTE, cost=100_000)
        span(connection, 1, "idle", 910 * MINUTE, 930 * MINUTE, cost=200_000)
        span(connection, 1, "idle", 930 * MINUTE, None, cost=700_000)
        span(connection, 2, "setup", 860 * MINUTE, 940 * MINUTE, cost=800_000)
        span(connection, 3, "rejected", 100 * MINUTE, 160 * MINUTE, cost=5)

    bench.db.write(fill)
    return bench


def test_machines_of_a_time(fleet_of_three: Bench) -> None:
    """Those that are up first, then those that went, and none from outside the time."""
    read = fleet_of_three.db.read
    assert read(fleet.fleet_workers, 880 * MINUTE, NOW) == [1, 2]
    assert read(fleet.fleet_workers, 950 * MINUTE, NOW) == [1]
    assert read(fleet.fleet_workers, 90 * MINUTE, 200 * MINUTE) == [3]


def test_spans_that_reach_into_a_time(fleet_of_three: Bench) -> None:
    """The open one, and those that end in it or after it."""
    read = fleet_of_three.db.read
    found = read(fleet.fleet_spans, 920 * MINUTE, NOW)
    assert [(s.worker_id, s.kind, s.ended_at) for s in found] == [
        (1, "idle", 930 * MINUTE), (1, "idle", None), (2, "setup", 940 * MINUTE),
    ]  # fmt: skip
    assert read(fleet.fleet_spans, 920 * MINUTE, NOW, [2]) == [found[2]]
    assert read(fleet.fleet_spans, 0, NOW, [3])[0].kind == "rejected"
    assert read(fleet.fleet_spans, 120 * MINUTE, 130 * MINUTE) == read(fleet.fleet_spans, 0, 130 * MINUTE, [3])


def test_the_index_by_time_is_used(fleet_of_three: Bench) -> None:
    """220,000 finished jobs' spans are not walked for the last hour."""

    def plan(connection: sqlite3.Connection) -> str:
        details = connection.execute(f"EXPLAIN QUERY PLAN {fleet._SUMS}", (1, 2)).fetchall()
        return " ".join(str(row["detail"]) for row in details)

    said = fleet_of_three.db.read(plan)
    assert "spans_by_end" in said
    assert "spans_of_worker" not in said


def test_sums_by_sqlite_are_those_of_the_spans(fleet_of_three: Bench) -> None:
    """Both ways to reckon come to the same."""
    for since in (800, 905, 920, 999):
        spans = fleet_of_three.db.read(fleet.fleet_spans, since * MINUTE, NOW)
        sums = fleet_of_three.db.read(fleet.fleet_totals, since * MINUTE, NOW)
        assert sums == fleet.totals_of(spans, since * MINUTE, NOW)


def test_sums_count_only_what_lies_within(fleet_of_three: Bench) -> None:
    """Of a span that reaches beyond, time and money by its part; an open one up to the end."""
    found = fleet_of_three.db.read(fleet.fleet_totals, 920 * MINUTE, NOW)
    assert found["setup"] == FleetTotal(20 * MINUTE, cost=200_000)
    assert found["idle"] == FleetTotal(80 * MINUTE, 100_000 + 700_000)


def test_sums_never_exceed_what_was_booked() -> None:
    """Whatever the cut."""
    spans = [FleetSpan(1, "job", 1, 1, 10, 20, 7), FleetSpan(1, "job", 1, 1, 20, 20, 3)]
    assert fleet.totals_of(spans, 0, 100)["job"] == FleetTotal(10, cost=10)
    assert fleet.totals_of(spans, 12, 15)["job"].cost <= 10


def test_spans_of_one_thing(fleet_of_three: Bench) -> None:
    """A machine's, in order of time, the newest where there are too many."""
    read = fleet_of_three.db.read
    assert [s.kind for s in read(fleet.worker_spans, 1)] == ["setup", "idle", "idle"]
    assert [s.ended_at for s in read(fleet.worker_spans, 1, 1)] == [None]
    assert read(fleet.job_spans, 7) == []
