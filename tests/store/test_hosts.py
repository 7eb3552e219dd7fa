"""What came of renting machines: written with the events that it counts, summed up by host and market; bans; set-up."""

from __future__ import annotations

from typing import Any

import pytest

from gpuscale_tui.engine.ending import AttemptEnd, Bill, attempt_over, machine_gone
from gpuscale_tui.engine.standing import host_rows, read
from gpuscale_tui.model.hosts import Ban, Card, Examination, OutcomeKind, Promise
from gpuscale_tui.model.settings import MachinesConfig
from gpuscale_tui.model.states import AttemptState, Cause, JobState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.store import demand, hosts, jobs, snapshots, spans, why, workers
from tests.store.support import DOLLAR, HOUR, NEED, T0, Bench, offer

MINUTE = 60_000
SEEN = Examination((Card("NVIDIA GeForce RTX 4090", 24_564),), "550.54.14", (12, 4), 80.0, 95.0, 40.0, -5)


def kinds(bench: Bench) -> list[str]:
    return [str(outcome.kind) for outcome in bench.read(hosts.outcomes, 0)]


def fail(bench: Bench, worker: Worker, reason: str = "it went wrong", **more: Any) -> None:
    bench.write(workers.begin_release, worker.id, reason, cause=Cause.HOST_FAULT, **more, **bench.by)


def gone(bench: Bench, worker: Worker, cause: Cause | None = None, cost: int = 0) -> None:
    bench.write(machine_gone, worker.id, "absent", cause, Bill(cost, final=True), retries=10, **bench.by)


class TestOutcomes:
    def test_each_end_of_a_machine_is_noted_once(self, bench: Bench) -> None:
        never = bench.boot()
        fail(bench, never)
        gone(bench, never)
        assert kinds(bench) == ["no_start"]
        lost = bench.idle()
        fail(bench, lost)
        gone(bench, lost)
        assert kinds(bench)[1:] == ["ready", "lost"]
        evicted = bench.idle()
        gone(bench, evicted, Cause.PREEMPTED)
        assert kinds(bench)[3:] == ["ready", "evicted"]
        returned = bench.idle()
        bench.write(workers.begin_release, returned.id, "idle", **bench.by)
        gone(bench, returned)
        assert kinds(bench)[5:] == ["ready", "returned"]
        rejected = bench.boot()
        fail(bench, rejected, outcome=OutcomeKind.FAILED_TEST, examined=SEEN)
        gone(bench, rejected)
        assert kinds(bench)[7:] == ["failed_test"]
        refused = bench.order()
        bench.write(workers.refuse, refused.id, "rented", Cause.HOST_FAULT, **bench.by)
        nobody = bench.order()
        bench.write(workers.refuse, nobody.id, "no order came", Cause.PROVIDER_FAULT, **bench.by)
        assert kinds(bench)[8:] == ["refused"]

    def test_a_machine_given_back_before_it_was_ready_says_nothing_of_its_host(self, bench: Bench) -> None:
        worker = bench.boot()
        bench.write(workers.begin_release, worker.id, "nothing is pending", **bench.by)
        gone(bench, worker)
        assert kinds(bench) == []

    def test_a_job_that_a_host_of_our_own_failed_counts_there(self, bench: Bench) -> None:
        attempt = bench.placed()
        end = AttemptEnd(Cause.HOST_FAULT, error="lost the command")
        bench.write(attempt_over, attempt, end, retries=10, **bench.by)
        assert kinds(bench) == ["ready", "job_fault"]

    def test_a_machine_that_goes_back_for_a_job_is_noted_once(self, bench: Bench) -> None:
        attempt = bench.placed()
        fail(bench, bench.worker(attempt.worker_id), outcome=OutcomeKind.JOB_FAULT)
        bench.write(attempt_over, attempt, AttemptEnd(Cause.HOST_FAULT, error="x"), retries=10, **bench.by)
        assert kinds(bench) == ["ready", "job_fault"]


class TestHistory:
    def test_times_work_and_speed_of_a_host(self, bench: Bench) -> None:
        server = offer(server_id="7", owner="3")
        first = bench.boot(offer=server)
        bench.now += 2 * MINUTE
        bench.write(workers.became_ready, first.id, "ssh-ed25519 AAAA", examined=SEEN, **bench.by)
        (job_id,) = bench.submit()
        attempt = bench.advance(bench.place(job_id, first.id), AttemptState.STAGING, AttemptState.RUNNING)
        bench.now += 10 * MINUTE
        bench.write(snapshots.record_snapshot, job_id, 1, attempt.number, 3, 1000, **bench.by)
        bench.now += 5 * MINUTE
        gone(bench, first, Cause.PREEMPTED)
        second = bench.boot(offer=server)
        bench.now += MINUTE
        fail(bench, second, "did not come up")
        (known,) = bench.read(hosts.histories, 0)
        assert (known.host, known.owner, known.rentals, known.setups) == (("clore", "7"), "3", 2, 1)
        assert (known.mean_setup_ms, known.held_ms, known.lost_ms) == (2 * MINUTE, 18 * MINUTE, 5 * MINUTE)
        assert (known.no_starts, known.evictions, known.faults) == (1, 1, 1)
        assert (known.down_mbps, known.up_mbps) == (95.0, 40.0)
        assert (known.last_fault, known.last_fault_at) == ("did not come up", bench.now)
        market = bench.read(hosts.market_histories, 0)[("clore", "on-demand")]
        assert (market.evictions, market.held_ms, market.lost_ms, market.setups) == (1, 18 * MINUTE, 5 * MINUTE, 1)
        assert bench.read(hosts.histories, bench.now + 1) == []
        assert bench.read(hosts.histories, 0, ("clore", "8")) == []

    def test_the_bill_is_compared_with_the_quote(self, bench: Bench) -> None:
        worker = bench.idle(offer=offer(server_id="7"))
        bench.now += HOUR
        bench.write(workers.begin_release, worker.id, "idle", **bench.by)
        gone(bench, worker, cost=DOLLAR * 13 // 10)
        (known,) = bench.read(hosts.histories, 0)
        assert known.price_ratio == pytest.approx(1.3)

    def test_what_a_test_found_is_kept(self, bench: Bench) -> None:
        worker = bench.boot(offer=offer(gpu_memory_gb=23.0, cuda_version="12.8"))
        assert bench.read(hosts.examination_of, worker.id) is None
        fail(bench, worker, outcome=OutcomeKind.FAILED_TEST, examined=SEEN)
        assert bench.read(hosts.examination_of, worker.id) == SEEN
        assert bench.read(hosts.promise, worker) == Promise("RTX 4090", 1, 23.0, (12, 8), None)

    def test_nothing_is_read_again_as_long_as_nothing_happened(self, bench: Bench) -> None:
        fail(bench, bench.boot())
        around = (MachinesConfig(), frozenset[str](), bench.now)
        before = bench.read(read, None, *around)
        assert bench.read(read, before, *around).history is before.history
        fail(bench, bench.boot())
        assert len(bench.read(read, before, *around).opened.hosts) == 2
        late = bench.now + 8 * 24 * HOUR
        assert bench.read(read, before, *around[:2], late).opened.hosts == {}, "it is too old by now"


class TestSetUp:
    def spent(self, bench: Bench) -> int:
        return bench.read(hosts.setup_spent, 0).get(NEED.key, 0)

    def test_counts_what_machines_cost_until_a_job_starts(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        bad = bench.boot()
        bench.now += HOUR
        fail(bench, bad)
        gone(bench, bad, cost=DOLLAR)
        worker = bench.boot()
        bench.now += HOUR
        bench.write(workers.became_ready, worker.id, "ssh-ed25519 AAAA", **bench.by)
        bench.write(spans.book, worker.id, DOLLAR // 2, bench.now, billed=True)
        assert self.spent(bench) == DOLLAR * 3 // 2
        bench.advance(bench.place(job_id, worker.id), AttemptState.STAGING, AttemptState.RUNNING)
        assert self.spent(bench) == 0

    def test_the_user_may_want_another_try(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        bad = bench.boot()
        bench.now += HOUR
        fail(bench, bad)
        gone(bench, bad, cost=DOLLAR)
        assert not bench.write(jobs.retry, job_id, bench.now, "ann"), "nothing holds it back yet"
        bench.write(
            lambda connection: connection.execute(
                "INSERT INTO group_reasons SELECT group_key, 0, 'setup', 'spent' FROM jobs"
            )
        )
        assert bench.write(jobs.retry, job_id, bench.now, "ann")
        assert self.spent(bench) == 0


def test_planning_knows_how_long_a_job_may_take(bench: Bench) -> None:
    bench.submit(max_runtime_sec=7200)
    bench.submit()
    assert [waiting.max_runtime_sec for waiting in bench.read(demand.waiting)] == [7200, None]


class TestJobsThatFailEverywhere:
    def test_three_machines_in_a_row_pause_the_job_and_say_so(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        holds = []
        for _ in range(4):
            attempt = bench.place(job_id, bench.idle().id)
            end = AttemptEnd(Cause.HOST_FAULT, error="the machine lost the command")
            bench.write(attempt_over, attempt, end, retries=10, **bench.by)
            held_until = bench.value("SELECT not_before FROM jobs")
            holds.append((held_until - bench.now) // MINUTE)
            bench.now = held_until
        assert holds == [0, 0, 10, 20]
        bench.now -= MINUTE
        bench.write(
            lambda connection: connection.execute(
                "INSERT INTO engine (id, epoch, pid, mode, started_at, heartbeat_at, cap, max_workers)"
                " VALUES (1, 1, 1, 'test', 0, ?, 0, 0)",
                (bench.now,),
            )
        )
        sentence = bench.read(why.why_job, job_id)
        assert "4 machines in a row failed under it, so it is probably the job" in sentence
        assert bench.value("SELECT count(*) FROM notices WHERE kind = 'breaker'") == 2
        assert bench.write(jobs.retry, job_id, bench.now, "ann")
        assert bench.value("SELECT not_before FROM jobs") is None

    def test_one_machine_again_and_again_is_no_proof(self, bench: Bench) -> None:
        worker = bench.idle()
        (job_id,) = bench.submit()
        for _ in range(5):
            attempt = bench.place(job_id, worker.id)
            bench.write(attempt_over, attempt, AttemptEnd(Cause.HOST_FAULT), retries=10, **bench.by)
            bench.now = bench.value("SELECT not_before FROM jobs")
        assert bench.value("SELECT count(*) FROM notices") == 0
        assert bench.value("SELECT state FROM jobs") == JobState.PENDING


class TestBans:
    def order(self, bench: Bench, scope: str, key: str, until: int | None = None) -> None:
        bench.write(hosts.ban, Ban(scope, "clore", key, bench.now, until, "slow", "ann"))

    def test_hold_until_their_time_is_over_or_lifted(self, bench: Bench) -> None:
        self.order(bench, "host", "7", bench.now + HOUR)
        self.order(bench, "owner", "3")
        assert {held.key for held in bench.read(hosts.bans, bench.now)} == {"7", "3"}
        assert {held.key for held in bench.read(hosts.bans, bench.now + HOUR)} == {"3"}
        assert bench.write(hosts.unban, "owner", "clore", "3", user="ann", now=bench.now)
        assert not bench.write(hosts.unban, "owner", "clore", "3", user="ann", now=bench.now)
        assert bench.read(hosts.bans, bench.now + HOUR) == []

    def test_are_seen_beside_pauses(self, bench: Bench) -> None:
        fail(bench, bench.boot(offer=offer(server_id="5", owner="1")), "did not come up")
        bench.idle(offer=offer(server_id="6", owner="3"))
        self.order(bench, "host", "9")
        self.order(bench, "owner", "3")
        self.order(bench, "owner", "4")
        rows = {row.history.server_id: row for row in bench.read(host_rows, MachinesConfig(), bench.now)}
        assert rows["5"].stands.startswith("paused until 2023-11-14 22:43 UTC: did not come up"), T0
        assert rows["6"].stands == "owner 3 is banned by ann: slow"
        assert rows["9"].stands == "banned by ann: slow"
        assert (rows["*"].history.owner, rows["*"].stands) == ("4", "owner 4 is banned by ann: slow")
