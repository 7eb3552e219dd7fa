"""Contact, silences, signs of life and what is learned from them, as the store keeps them."""

from __future__ import annotations

from gpuscale_tui.model.states import AttemptState
from gpuscale_tui.store import hosts, liveness, queries, workers
from gpuscale_tui.store.hosts import OutcomeKind
from tests.store.support import Bench, offer


def test_a_machine_out_of_reach_takes_no_job_until_it_answers(bench: Bench) -> None:
    """The beginning of a silence stays what it was; its end is in the audit log and in the history."""
    worker = bench.idle()
    assert [each.id for each in bench.read(workers.idle)] == [worker.id]
    bench.write(liveness.fell_silent, worker.id, bench.now - 5_000)
    bench.write(liveness.fell_silent, worker.id, bench.now)
    silent = bench.worker(worker.id)
    assert (silent.silent_since, bench.read(workers.idle)) == (bench.now - 5_000, [])
    bench.now += 95_000
    bench.write(liveness.answers, silent, bench.now, epoch=None)
    bench.write(liveness.answers, silent, bench.now, epoch=None)  # said once
    again = bench.worker(worker.id)
    assert (again.silent_since, again.contact_at) == (None, bench.now)
    assert [each.id for each in bench.read(workers.idle)] == [worker.id]
    details = [event.detail for event in bench.read(queries.worker_events, worker.id)]
    assert [detail for detail in details if "answers again" in detail] == [f"w{worker.id} answers again after 100 s"]
    assert bench.read(liveness.silences, again) == {"provider": [100.0], "host": [100.0]}
    stranger = bench.idle(offer=offer(server_id="another"))
    assert bench.read(liveness.silences, stranger) == {"provider": [100.0], "host": []}


def test_what_the_provider_says_of_a_machine_that_was_up(bench: Bench) -> None:
    """One that was never up is not down: it boots."""
    worker = bench.idle()
    bench.write(liveness.provider_says, worker.id, runs=False, now=bench.now)
    assert bench.worker(worker.id).down_since is None
    bench.write(workers.seen, worker.id, bench.now)
    bench.write(liveness.provider_says, worker.id, runs=False, now=bench.now)
    bench.write(liveness.provider_says, worker.id, runs=False, now=bench.now + 9)
    assert bench.worker(worker.id).down_since == bench.now
    bench.write(liveness.provider_says, worker.id, runs=True, now=bench.now + 10)
    assert bench.worker(worker.id).down_since is None


def test_boots_are_remembered_by_provider_image_and_host(bench: Bench) -> None:
    worker = bench.worker(bench.boot(offer=offer(server_id="14")).id)
    other = bench.worker(bench.boot(offer=offer(server_id="15")).id)
    assert worker.held_from is not None
    for each, seconds in ((worker, 60), (other, 90)):
        at = (each.held_from or 0) + seconds * 1000
        bench.write(hosts.note, each, OutcomeKind.READY, "", now=at)
        bench.write(hosts.note, each, OutcomeKind.NO_START, "", now=at)  # how long a failure took says nothing
    assert bench.read(liveness.boot_times, worker) == {"provider": [90.0, 60.0], "image": [90.0, 60.0], "host": [60.0]}
    for _ in range(liveness.NEWEST):
        bench.write(hosts.note, worker, OutcomeKind.READY, "", now=worker.held_from + 30_000)
    assert bench.read(liveness.boot_times, worker)["provider"] == [30.0] * liveness.NEWEST


def test_a_standstill_is_said_once_and_taken_back(bench: Bench) -> None:
    attempt = bench.placed()
    assert not bench.write(liveness.stalled, attempt, "stands", now=bench.now, epoch=None)  # it has not begun yet
    attempt = bench.advance(attempt, AttemptState.STAGING, AttemptState.RUNNING)
    assert bench.write(liveness.stalled, attempt, "stands", now=bench.now, epoch=None)
    assert not bench.write(liveness.stalled, attempt, "stands", now=bench.now + 1, epoch=None)
    assert [each.stalled_at for each in bench.read(queries.attempts, attempt.job_id)] == [bench.now]
    bench.write(liveness.goes_on, attempt, now=bench.now, epoch=None)
    bench.write(liveness.goes_on, attempt, now=bench.now, epoch=None)
    assert [each.stalled_at for each in bench.read(queries.attempts, attempt.job_id)] == [None]
    said = [event.detail for event in bench.read(queries.job_events, attempt.job_id) if "stands" in event.detail]
    again = [event.detail for event in bench.read(queries.job_events, attempt.job_id) if "works" in event.detail]
    assert (said, again) == ([f"j{attempt.job_id} stands"], [f"j{attempt.job_id} works again"])
