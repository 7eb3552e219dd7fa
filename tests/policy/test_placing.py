"""Placing: by priority, then age, on the cheapest machine that serves; never two for one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.model.offers import Need
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.policy.matching import machine_serves
from gpuscale_tui.policy.placing import place, queue_order
from gpuscale_tui.policy.world import Machine, PendingJob
from tests.policy.strategies import FLEETS, QUEUES
from tests.policy.support import CENT, DOLLAR, LIMITS, NOW, OTHER, job, jobs, machine, machines

NO_GPU = Need("img", None, 0, None)


def pairs(pending, found) -> list[tuple[int, int]]:
    return [(chosen.job_id, chosen.worker_id) for chosen in place(pending, found, LIMITS, NOW)]


def test_priority_then_age_then_id() -> None:
    queue = [job(1, age_sec=5), job(2, age_sec=9), job(3, priority=4, age_sec=1), job(4, age_sec=9)]
    assert [found for found, _ in pairs(queue, machines(4, WorkerState.IDLE))] == [3, 2, 4, 1]


def test_the_cheapest_machine_first() -> None:
    fleet = [machine(1, rate=30 * CENT), machine(2, rate=20 * CENT), machine(3, rate=20 * CENT)]
    assert pairs(jobs(3), fleet) == [(1, 2), (2, 3), (3, 1)]


def test_at_the_same_price_the_machine_that_was_rented_first() -> None:
    fleet = [machine(3, image=None), machine(2), machine(4, gpu_count=2), machine(5, provider="ssh")]
    assert pairs(jobs(4), fleet) == [(1, 2), (2, 3), (3, 4), (4, 5)]


@pytest.mark.parametrize("state", sorted(set(WorkerState) - {WorkerState.IDLE}))
def test_only_idle_machines(state: WorkerState) -> None:
    assert pairs(jobs(1), machines(1, state)) == []


def test_not_on_a_machine_that_cannot_be_reached() -> None:
    assert pairs(jobs(1), [machine(1, taking_work=False)]) == []


def test_held_jobs_wait_to_the_millisecond() -> None:
    assert pairs([job(1, held_sec=0.001), job(2)], machines(2, WorkerState.IDLE)) == [(2, 1)]
    assert pairs([replace(job(1), not_before=NOW)], machines(1, WorkerState.IDLE)) == [(1, 1)]


def test_a_job_that_fits_nowhere_holds_nobody_back() -> None:
    assert pairs([job(1, OTHER, priority=1), *jobs(2, first=2)], machines(2, WorkerState.IDLE)) == [(2, 1), (3, 2)]


def test_a_job_without_gpu_leaves_the_gpu_to_those_who_wait_for_it() -> None:
    plain = machine(2, gpu_type=None, gpu_count=0, rate=45 * CENT)
    assert pairs([job(1, NO_GPU), job(2)], [machine(1), plain]) == [(1, 2), (2, 1)]
    unwanted = machine(2, gpu_type="GTX 1080 Ti", rate=45 * CENT)
    assert pairs([job(1, NO_GPU), job(2)], [machine(1), unwanted]) == [(1, 2), (2, 1)]


def test_a_job_without_gpu_takes_the_cheapest_where_nobody_waits_and_a_wanted_one_rather_than_none() -> None:
    plain = machine(2, gpu_type=None, gpu_count=0, rate=45 * CENT)
    assert pairs([job(1, NO_GPU)], [machine(1), plain]) == [(1, 1)]
    assert pairs([job(1, NO_GPU), job(2)], [machine(1)]) == [(1, 1)]


def test_a_job_without_gpu_is_not_put_on_a_dear_machine() -> None:
    assert pairs([job(1, NO_GPU)], [machine(1, gpu_type="H100", rate=2 * DOLLAR)]) == []


def test_the_reason_names_the_machine() -> None:
    assert place([job(1)], [machine(3)], LIMITS, NOW)[0].reason == "first in the queue that w3 can take"


@settings(max_examples=300)
@given(QUEUES, FLEETS, st.randoms(use_true_random=False))
def test_each_pair_is_right_and_nothing_is_left_undone(
    queue: tuple[PendingJob, ...], fleet: tuple[Machine, ...], random
) -> None:
    made = place(queue, fleet, LIMITS, NOW)
    by_job, by_machine = {found.id: found for found in queue}, {found.id: found for found in fleet}
    assert len({chosen.job_id for chosen in made}) == len({chosen.worker_id for chosen in made}) == len(made)
    free = {found.id for found in fleet if found.state == WorkerState.IDLE and found.taking_work}
    placed = {by_job[chosen.job_id].id: by_machine[chosen.worker_id] for chosen in made}
    for found in sorted(queue, key=queue_order):
        able = {id_ for id_ in free if machine_serves(by_machine[id_], found.need, LIMITS)}
        held = found.not_before is not None and found.not_before > NOW
        if held or not able:
            assert found.id not in placed
            continue
        chosen = placed[found.id]
        assert chosen.id in able, "first come, first served"
        if found.need.gpu_type is not None:
            assert chosen.rate == min(by_machine[id_].rate for id_ in able)
        free.remove(chosen.id)
    shuffled = random.sample(queue, len(queue)), random.sample(fleet, len(fleet))
    assert place(*shuffled, LIMITS, NOW) == made
