"""What may still come after a worker has ended: late bills, orders that turn up after all, files that break."""

from __future__ import annotations

from gpuscale_tui.model.states import Cause, OrderOutcome, WorkerState
from gpuscale_tui.store import engines, health, queries, spans, workers
from tests.store.support import DOLLAR, HOUR, T0, Bench


def gone(bench: Bench) -> int:
    """A worker that was held for an hour and is confirmed gone; its id."""
    worker = bench.idle()
    bench.now += HOUR
    bench.write(workers.begin_release, worker.id, "idle", **bench.by)
    bench.write(workers.confirm_gone, worker.id, "absent twice", cause=None, **bench.by)
    return worker.id


def test_estimates_wait_for_the_providers_own_figure(bench: Bench) -> None:
    worker_id = gone(bench)
    bench.write(spans.book, worker_id, DOLLAR, bench.now, billed=False)
    assert bench.read(workers.ended_unbilled, "clore", T0) == [(worker_id, f"o{worker_id}")]
    assert bench.read(workers.ended_unbilled, "ssh", T0) == []
    assert bench.read(workers.ended_unbilled, "clore", bench.now + 1) == []
    bench.write(spans.book, worker_id, DOLLAR + 1, bench.now, billed=True)
    assert bench.read(workers.ended_unbilled, "clore", T0) == []
    assert bench.worker(worker_id).cost == DOLLAR + 1


def test_an_ended_worker_whose_order_is_listed_alive_is_found(bench: Bench) -> None:
    worker_id, live = gone(bench), bench.idle()
    listed = [f"o{worker_id}", f"o{live.id}", "another's"]
    assert [worker.id for worker in bench.read(workers.ended_holding, "clore", listed)] == [worker_id]
    assert bench.read(workers.ended_holding, "ssh", listed) == []
    assert bench.read(workers.ended_holding, "clore", []) == []
    bench.write(spans.book, worker_id, DOLLAR, bench.now, billed=True)
    bench.now += HOUR
    bench.write(workers.still_costs, worker_id, bench.now)
    assert bench.read(workers.ended_unbilled, "clore", bench.now) == [(worker_id, f"o{worker_id}")]
    bench.write(spans.book, worker_id, 2 * DOLLAR, bench.now, billed=True)
    report = bench.read(queries.costs, "worker", None)
    assert (report.total, report.rows[0].key) == (2 * DOLLAR, f"w{worker_id}")


def test_an_order_id_that_a_provider_uses_again_belongs_to_the_live_worker(bench: Bench) -> None:
    ended = gone(bench)
    newer = bench.order()
    bench.write(workers.adopt, newer.id, workers.Adoption(f"o{ended}", bench.now, None), **bench.by)
    assert bench.read(workers.ended_holding, "clore", [f"o{ended}"]) == []


def test_an_order_that_appears_after_all_is_remembered_and_booked(bench: Bench) -> None:
    worker = bench.order()
    bench.write(workers.record_outcome, worker.id, OrderOutcome.UNKNOWN, "timed out", **bench.by)
    bench.write(workers.refuse, worker.id, "three listings lack it", Cause.PROVIDER_FAULT, **bench.by)
    assert [ended.id for ended in bench.read(workers.ended_without_order, "clore", T0)] == [worker.id]
    assert bench.read(workers.ended_without_order, "clore", T0 + 1) == []
    bench.write(workers.order_appeared, worker.id, "o77", T0, now=T0 + 5, epoch=None)
    assert bench.read(workers.ended_without_order, "clore", T0) == []
    assert bench.read(workers.ended_unbilled, "clore", T0) == [(worker.id, "o77")]
    assert bench.worker(worker.id).state == WorkerState.RELEASED
    event = bench.read(queries.worker_events, worker.id)[-1]
    assert (event.kind, event.detail) == ("warning", "order o77 appeared after all; it is given back")
    bench.write(spans.book, worker.id, 70, T0 + 9, billed=True)
    report = bench.read(queries.costs, "provider", None)
    assert (report.total, report.rejected) == (70, 70)


def test_a_request_for_several_machines_closes_with_the_last(bench: Bench) -> None:
    request = bench.write(engines.ask, "scale_up", 2, user="ann", now=T0)
    bench.write(engines.fulfil_one, request, T0)
    assert [waiting.amount for waiting in bench.read(engines.open_requests)] == [1]
    bench.write(engines.fulfil_one, request, T0)
    bench.write(engines.fulfil_one, request, T0)
    assert bench.read(engines.open_requests) == []
    assert bench.value("SELECT amount FROM requests") == 0


def test_a_file_is_examined(bench: Bench) -> None:
    bench.placed()
    assert bench.read(health.damage) == []
    assert bench.read(health.newest_event_at) == T0
    bench.db.connection.execute("PRAGMA foreign_keys = OFF")
    bench.db.connection.execute("INSERT INTO ledger (at, worker_id, amount) VALUES (1, 99, 1)")
    assert bench.read(health.damage) == ["a row of ledger refers to a row of workers that is missing"]


def test_an_empty_file_has_no_newest_event(bench: Bench) -> None:
    assert bench.read(health.newest_event_at) is None
