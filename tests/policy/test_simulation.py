"""The policy over time: the cap holds at every instant, the queue drains, machines do not come and go."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Need, Offer
from gpuscale_tui.model.settings import ScalerConfig
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.policy.limits import above_limits, least_loss
from tests.policy.simulator import CALM, STORM, Simulation, Trouble
from tests.policy.support import CENT, DOLLAR, NEED, NOW, machine

SIDE = replace(NEED, image="img2")
NO_GPU = Need("img", None, 0, None)
BIG = Need("img", "H100", 2, 3 * DOLLAR)
KINDS = (NEED, SIDE, NO_GPU, BIG)


def servers(number: int, gpu: str = "RTX 4090", gpus: int = 1, cents: int = 40) -> tuple[Offer, ...]:
    """Servers of one kind, each a cent dearer than the one before."""
    return tuple(
        Offer("clore", f"{gpu} {index}", gpu, gpus, Terms((cents + index % 10) * CENT)) for index in range(number)
    )


MARKET = (*servers(40), *servers(6, "GTX 1660 SUPER", cents=5), *servers(6, "H100", 2, cents=300))


def patient(simulation: Simulation) -> int:
    """More ticks than it could take if everything went one after the other."""
    each = 10 + 12 + simulation.trouble.slow + round(simulation.scaler.idle_timeout_sec / 30) + 22
    rounds = len(simulation.ticks_of) + simulation.trouble.in_all
    return 50 + rounds * (each + max(simulation.ticks_of.values(), default=0))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_in_any_storm_the_cap_holds_at_every_instant_and_the_queue_drains(seed: int) -> None:
    random = Random(seed)
    scaler = ScalerConfig(
        max_workers=random.choice((1, 2, 5, 12)),
        scale_up_threshold=random.choice((1, 3, 8)),
        scale_down_threshold=random.choice((0, 1, 1, 3)),
        idle_timeout_sec=random.choice((0.0, 60.0, 120.0)),
    )
    cap = random.choice((320, 350, 700, 2_000)) * CENT
    simulation = Simulation(scaler, cap, MARKET, replace(STORM, in_all=30), seed)
    for _ in range(random.randint(1, 6)):
        kinds = random.sample(KINDS, random.randint(1, len(KINDS)))
        for kind in kinds:
            simulation.submit(random.randint(1, 12), kind, ticks=random.randint(1, 10), priority=random.randint(1, 10))
        for _ in range(random.randint(0, 20)):
            simulation.tick()
    simulation.run(patient(simulation))
    assert len(simulation.done) == len(simulation.ticks_of)


@pytest.mark.parametrize("trouble", [CALM, replace(STORM, in_all=200)], ids=["calm", "storm"])
def test_hundreds_of_jobs_at_once(trouble: Trouble) -> None:
    simulation = Simulation(ScalerConfig(max_workers=30), 10 * DOLLAR, MARKET, trouble)
    simulation.submit(400)
    simulation.run(600)
    assert len(simulation.done) == 400
    assert 9 * DOLLAR < simulation.highest <= 10 * DOLLAR, "the cap is used, and kept"


def test_the_cap_is_kept_to_the_last_micro_dollar() -> None:
    exact = Simulation(ScalerConfig(max_workers=30), 5 * 40 * CENT, tuple(
        Offer("clore", str(index), "RTX 4090", 1, Terms(40 * CENT)) for index in range(20)
    ))  # fmt: skip
    exact.submit(100)
    exact.run(1000)
    assert exact.highest == 5 * 40 * CENT


@pytest.mark.parametrize("most", [1, 2, 5])
def test_groups_that_cannot_share_a_machine_all_get_their_turn(most: int) -> None:
    simulation = Simulation(ScalerConfig(max_workers=most, scale_down_threshold=0), 4 * DOLLAR, MARKET)
    for kind in KINDS:
        simulation.submit(10, kind)
    simulation.run(patient(simulation))
    assert len(simulation.done) == 40


def test_a_group_beyond_the_whole_cap_starves_nobody_else() -> None:
    simulation = Simulation(ScalerConfig(), DOLLAR, MARKET)
    simulation.submit(5, BIG, priority=1)
    ids = simulation.submit(20)
    for _ in range(200):
        simulation.tick()
    assert sorted(simulation.done) == ids
    assert not simulation.fleet, "and nothing is kept for jobs that cannot run"


def test_a_single_job_does_not_wait_for_a_machine_that_is_busy_for_days() -> None:
    simulation = Simulation(ScalerConfig(), 10 * DOLLAR, MARKET)
    simulation.submit(1, ticks=10_000)
    for _ in range(20):
        simulation.tick()
    (late,) = simulation.submit(1, ticks=1)
    for _ in range(20 + 1 + 11 + 1):
        simulation.tick()
    assert late in simulation.done


def test_jobs_start_by_priority_then_age() -> None:
    simulation = Simulation(ScalerConfig(max_workers=1), 10 * DOLLAR, MARKET)
    late, early, middle = simulation.submit(3, priority=9), simulation.submit(3, priority=1), simulation.submit(3)
    simulation.run(400)
    assert simulation.started == [*early, *middle, *late]


def test_a_long_queue_is_given_no_more_machines_than_it_has_jobs() -> None:
    for number in (1, 2, 3, 7):
        simulation = Simulation(ScalerConfig(max_workers=50), 50 * DOLLAR, MARKET)
        simulation.submit(number, ticks=100)
        simulation.run(500)
        assert simulation.rentals == number


class TestNoFlapping:
    """A load that comes and goes must not make machines come and go with it."""

    @pytest.mark.parametrize("period", [2, 4, 6])
    def test_pauses_shorter_than_the_idle_timeout_keep_the_machines(self, period: int) -> None:
        simulation = Simulation(ScalerConfig(max_workers=10, idle_timeout_sec=300), 10 * DOLLAR, MARKET)
        simulation.submit(1, ticks=400)
        for step in range(300):
            if step % period == 0:
                simulation.submit(4, ticks=1)
            simulation.tick()
        assert simulation.rentals <= 10

    def test_without_any_work_left_each_burst_rents_once(self) -> None:
        """DESIGN section 10: with 0 pending and 0 running everything goes back at once."""
        simulation = Simulation(ScalerConfig(), 10 * DOLLAR, MARKET)
        for _ in range(20):
            simulation.submit(2, ticks=2)
            simulation.run(100)
        assert simulation.rentals <= 40

    def test_min_workers_are_rented_once_and_stay(self) -> None:
        simulation = Simulation(ScalerConfig(min_workers=2, idle_timeout_sec=0), 10 * DOLLAR, MARKET)
        for step in range(200):
            if step % 20 == 0:
                simulation.submit(1, ticks=2)
            simulation.tick()
        assert simulation.rentals == 2
        assert [rented.machine.state for rented in simulation.fleet.values()].count(WorkerState.RELEASING) == 0

    def test_hosts_that_never_come_up_are_not_rented_in_a_rush(self) -> None:
        """Each dud costs one rental, no more: what boots counts as supply until it is given up."""
        simulation = Simulation(ScalerConfig(), 10 * DOLLAR, MARKET, Trouble(dud=1.0, in_all=6))
        simulation.submit(1, ticks=2)
        simulation.run(300)
        assert simulation.rentals == 7


def test_scale_up_by_hand_serves_the_queue_and_is_kept_for_the_timeout() -> None:
    simulation = Simulation(ScalerConfig(), 10 * DOLLAR, MARKET, scale_up=3)
    simulation.submit(3, ticks=2)
    simulation.run(200)
    assert simulation.rentals == 3
    assert len(simulation.done) == 3


@pytest.mark.parametrize(("most", "cap"), [(10, 90 * CENT), (2, 10 * DOLLAR)])
def test_lower_limits_are_reached_as_soon_as_jobs_end_though_more_wait(most: int, cap: int) -> None:
    simulation = Simulation(ScalerConfig(max_workers=10), 10 * DOLLAR, MARKET)
    simulation.submit(300, ticks=6)
    for _ in range(40):
        simulation.tick()
    assert len(simulation.fleet) == 10
    simulation.lower(ScalerConfig(max_workers=most), cap)
    before = simulation.committed
    for _ in range(6 + 1 + 1):
        simulation.tick()
        assert simulation.committed <= before, "nothing is rented meanwhile"
        before = simulation.committed
    assert simulation.pending
    assert simulation.committed <= cap
    assert len(simulation.fleet) <= most
    simulation.run(5000)
    assert len(simulation.done) == 300


@pytest.mark.parametrize(("most", "cap"), [(10, 90 * CENT), (2, 10 * DOLLAR), (10, 0), (0, 10 * DOLLAR)])
def test_lower_limits_are_reached_at_once_though_every_machine_is_busy_for_days(most: int, cap: int) -> None:
    simulation = Simulation(ScalerConfig(max_workers=10, scale_up_threshold=1), 10 * DOLLAR, MARKET)
    ids = simulation.submit(10, ticks=5_000)
    for _ in range(40):
        simulation.tick()
    assert simulation.running == 10
    simulation.lower(ScalerConfig(max_workers=most), cap)
    for _ in range(2):
        simulation.tick()
    assert simulation.committed <= cap
    assert len(simulation.fleet) <= most
    assert sorted([*simulation.pending, *(r.job.id for r in simulation.fleet.values() if r.job)]) == ids


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_lowering_in_any_storm_is_reached_in_bounded_time_and_loses_no_job(seed: int) -> None:
    """Two looks and as long as the providers take; then both limits hold again, at every instant."""
    random = Random(seed)
    scaler = ScalerConfig(max_workers=random.choice((5, 12, 30)), idle_timeout_sec=random.choice((0.0, 120.0)))
    trouble = replace(STORM, in_all=random.choice((0, 30)), slow=random.randint(1, 3))
    simulation = Simulation(scaler, random.choice((700, 2_000)) * CENT, MARKET, trouble, seed)
    for kind in random.sample(KINDS, random.randint(1, len(KINDS))):
        simulation.submit(random.randint(1, 12), kind, ticks=random.randint(1, 200))
    for _ in range(random.randint(1, 40)):
        simulation.tick()
    lower = replace(scaler, max_workers=random.choice((0, 1, 2, scaler.max_workers)))
    simulation.lower(lower, random.choice((0, 45, 100, 300, simulation.cap // CENT)) * CENT)
    before = simulation.committed
    for _ in range(2 + trouble.slow):
        simulation.tick()
        assert simulation.committed <= max(before, simulation.cap), "nothing is rented while more is held than may be"
        before = simulation.committed
    simulation.keep_limits()
    for _ in range(40):
        simulation.tick()


def test_what_has_least_to_lose_goes_first() -> None:
    """Unsaved work times price; what a snapshot holds is not lost."""
    lost = [
        machine(1, WorkerState.BUSY, unsaved_since=NOW - 60_000, rate=40 * CENT),
        machine(2, WorkerState.BUSY, unsaved_since=NOW - 10_000, rate=40 * CENT),
        machine(3, WorkerState.BUSY, unsaved_since=NOW - 10_000, rate=200 * CENT),
        machine(4, WorkerState.IDLE, rate=1 * CENT),
        machine(5, WorkerState.BUSY, unsaved_since=NOW - 10_000, rate=40 * CENT, priority=9),
    ]
    assert [each.id for each in least_loss(lost, NOW)] == [4, 5, 2, 3, 1]


def test_no_more_is_given_back_than_must_be() -> None:
    """A cheap machine that had least to lose stays when a dear one must go in any case."""
    fleet = [
        machine(1, WorkerState.BUSY, unsaved_since=NOW - 10_000, rate=10 * CENT),
        machine(2, WorkerState.BUSY, unsaved_since=NOW - 60_000, rate=90 * CENT),
    ]
    assert list(above_limits(fleet, 50 * CENT, 10, NOW)) == [2]
    assert list(above_limits(fleet, 95 * CENT, 10, NOW)) == [1]
    assert list(above_limits(fleet, 100 * CENT, 10, NOW)) == []
