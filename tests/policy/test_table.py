"""The behaviour table of DESIGN section 10, row by row and at every edge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuscale_tui.model.offers import Need
from gpuscale_tui.model.states import Cause, Purpose, WorkerState
from gpuscale_tui.policy.scaling import group_jobs, plan
from gpuscale_tui.policy.world import MarketView
from tests.policy.support import (
    CENT,
    DOLLAR,
    NEED,
    NOW,
    OTHER,
    job,
    jobs,
    later,
    machine,
    machines,
    offer,
    with_scaler,
    world,
)  # fmt: skip

BUSY, IDLE, BOOTING, ORDERING, RELEASING = (
    WorkerState.BUSY, WorkerState.IDLE, WorkerState.BOOTING, WorkerState.ORDERING, WorkerState.RELEASING,
)  # fmt: skip


def released(found) -> list[int]:
    return [release.worker_id for release in plan(found).releases]


class TestRentingFromTheThresholdOn:
    @pytest.mark.parametrize("threshold", [1, 2, 3, 7])
    def test_at_the_threshold_one_more_is_rented_though_machines_are_busy(self, threshold: int) -> None:
        made = plan(world(jobs(threshold), machines(1, BUSY), scaler={"scale_up_threshold": threshold}))
        assert [rent.offer.server_id for rent in made.rents] == ["1"]
        assert made.groups[NEED.key].code == "renting"
        assert f"scale_up_threshold is {threshold}" in made.rents[0].reason
        assert made.rents[0].purpose == Purpose.QUEUE

    @pytest.mark.parametrize("threshold", [2, 3, 7])
    def test_one_below_the_threshold_the_queue_waits_for_the_busy_machine(self, threshold: int) -> None:
        made = plan(world(jobs(threshold - 1), machines(1, BUSY), scaler={"scale_up_threshold": threshold}))
        assert made.rents == ()
        assert made.groups[NEED.key].code == "short_queue"

    def test_only_one_is_rented_at_a_time(self) -> None:
        offers = [offer(server=str(number)) for number in range(20)]
        assert len(plan(world(jobs(500), (), offers)).rents) == 1

    @pytest.mark.parametrize("state", [ORDERING, BOOTING, IDLE])
    def test_a_machine_on_its_way_or_idle_covers_one_job(self, state: WorkerState) -> None:
        busy = machines(1, BUSY, first=10)
        assert plan(world(jobs(3), (*machines(1, state), *busy))).rents == ()
        assert len(plan(world(jobs(4), (*machines(1, state), *busy))).rents) == 1

    @pytest.mark.parametrize("state", [BUSY, RELEASING])
    def test_a_busy_one_or_one_going_back_covers_none(self, state: WorkerState) -> None:
        assert len(plan(world(jobs(3), machines(1, state))).rents) == 1

    def test_jobs_of_several_groups_count_together(self) -> None:
        other = replace(NEED, image="other")
        markets = {other: MarketView((offer(server="2"),))}
        fleet = (*machines(1, BUSY), machine(2, BUSY, image="other"))
        assert plan(world((*jobs(2), job(9, other)), fleet, markets=markets)).rents
        assert not plan(world((*jobs(1), job(9, other)), fleet, markets=markets)).rents

    def test_jobs_that_no_offer_fits_create_no_demand(self) -> None:
        made = plan(world((*jobs(2), *jobs(50, OTHER, first=10)), machines(1, BUSY), markets={OTHER: MarketView()}))
        assert made.rents == ()
        assert made.groups[NEED.key].code == "short_queue"
        assert made.groups[OTHER.key].code == "no_offer"

    def test_jobs_whose_machine_costs_more_than_the_whole_cap_create_no_demand(self) -> None:
        dear = MarketView((offer(4 * DOLLAR, gpu_type="H100"),))
        found = world((*jobs(2), *jobs(50, OTHER, first=10)), machines(1, BUSY), markets={OTHER: dear}, cap=DOLLAR)
        assert plan(found).rents == ()
        assert plan(found).groups[NEED.key].code == "short_queue"

    def test_jobs_whose_machine_costs_exactly_the_cap_do(self) -> None:
        markets = {OTHER: MarketView((offer(DOLLAR, gpu_type="H100"),))}
        found = world((*jobs(2), job(9, OTHER)), machines(1, BUSY), markets=markets, cap=DOLLAR)
        assert plan(found).rents[0].need == NEED
        assert not plan(replace(found, cap=DOLLAR - 1)).rents

    def test_held_jobs_create_no_demand_until_they_go_on(self) -> None:
        found = world(jobs(5, held_sec=20))
        assert plan(found).rents == ()
        assert plan(found).groups[NEED.key].code == "held"
        assert plan(later(found, 20)).rents

    def test_the_neediest_group_is_the_most_urgent_one(self) -> None:
        markets = {OTHER: MarketView((offer(DOLLAR, gpu_type="H100"),))}
        found = world((*jobs(9), job(50, OTHER, priority=4)), markets=markets)
        assert plan(found).rents[0].need == OTHER

    def test_urgency_is_that_of_jobs_without_a_machine(self) -> None:
        """A group whose urgent job has a machine on its way is no more urgent than the rest of it."""
        markets = {OTHER: MarketView((offer(DOLLAR, gpu_type="H100"),))}
        covered = (job(1, priority=1), *jobs(5, first=2, priority=9))
        found = world((*covered, job(50, OTHER, priority=5)), machines(1, BOOTING), markets=markets)
        assert plan(found).rents[0].need == OTHER

    def test_urgency_is_not_that_of_held_jobs(self) -> None:
        markets = {OTHER: MarketView((offer(DOLLAR, gpu_type="H100"),))}
        found = world((job(1, priority=1, held_sec=9), *jobs(5, first=2, priority=9), job(50, OTHER)), markets=markets)
        assert plan(found).rents[0].need == OTHER

    def test_a_group_without_any_machine_comes_before_a_larger_one_that_has_some(self) -> None:
        markets = {OTHER: MarketView((offer(DOLLAR, gpu_type="H100"),))}
        found = world((*jobs(50), job(99, OTHER, age_sec=1)), machines(3, BUSY), markets=markets)
        assert plan(found).rents[0].need == OTHER

    def test_a_group_whose_machines_are_busy_for_long_is_as_needy_as_one_without(self) -> None:
        markets = {OTHER: MarketView((offer(DOLLAR, gpu_type="H100"),))}
        queue = (*jobs(50), job(99, OTHER))
        assert plan(world(queue, machines(1, BUSY, busy_sec=9000), markets=markets)).rents[0].need == NEED

    def test_among_equals_the_larger_group_then_the_older_one(self) -> None:
        markets = {OTHER: MarketView((offer(DOLLAR, gpu_type="H100"),))}
        assert plan(world((*jobs(3), *jobs(4, OTHER, first=9)), markets=markets)).rents[0].need == OTHER
        tie = (*jobs(3, age_sec=5), *jobs(3, OTHER, first=9, age_sec=6))
        assert plan(world(tie, markets=markets)).rents[0].need == OTHER


class TestHolding:
    @pytest.mark.parametrize("state", [BUSY, BOOTING, ORDERING, RELEASING])
    def test_max_workers_counts_every_machine_not_confirmed_gone(self, state: WorkerState) -> None:
        reached = plan(world(jobs(20), machines(5, state)))
        assert reached.rents == ()
        assert reached.groups[NEED.key].code == "max_workers"
        assert plan(world(jobs(20), machines(4, state))).rents

    def test_the_cap_may_be_reached_exactly(self) -> None:
        fleet = machines(4, BUSY)
        assert plan(world(jobs(9), fleet, cap=200 * CENT)).rents
        short = plan(world(jobs(9), fleet, cap=200 * CENT - 1))
        assert short.rents == ()
        assert short.groups[NEED.key].code == "cap"

    @pytest.mark.parametrize("state", [BUSY, IDLE, BOOTING, ORDERING, RELEASING])
    def test_the_cap_counts_every_machine_not_confirmed_gone(self, state: WorkerState) -> None:
        fleet = machines(1, state, image="another")
        assert not plan(world(jobs(9), fleet, cap=80 * CENT - 1)).rents
        assert plan(world(jobs(9), fleet, cap=80 * CENT)).rents

    def test_the_best_offer_gives_way_to_one_that_the_cap_has_room_for(self) -> None:
        offers = [offer(30 * CENT, "shaky", reliability=0.5), offer(40 * CENT, "solid", reliability=0.99)]
        assert plan(world(jobs(3), (), offers)).rents[0].offer.server_id == "solid"
        assert plan(world(jobs(3), (), offers, cap=35 * CENT)).rents[0].offer.server_id == "shaky"

    def test_a_group_that_waits_for_room_holds_nobody_back(self) -> None:
        markets = {OTHER: MarketView((offer(3 * DOLLAR, gpu_type="H100"),))}
        found = world((*jobs(3), *jobs(3, OTHER, first=9, priority=1)), markets=markets, cap=2 * DOLLAR)
        made = plan(found)
        assert made.rents[0].need == NEED
        assert made.groups[OTHER.key].code == "cap"

    def test_nothing_is_rented_while_stopping(self) -> None:
        made = plan(world(jobs(9), drain=True, scale_up=3, scaler={"min_workers": 2}))
        assert made.rents == ()
        assert made.groups[NEED.key].code == "stopping"

    @pytest.mark.parametrize(("most", "cap"), [(0, 10 * DOLLAR), (5, 0)])
    def test_limits_of_nothing_rent_nothing(self, most: int, cap: int) -> None:
        assert plan(world(jobs(9), scaler={"max_workers": most}, cap=cap)).rents == ()

    def test_own_hosts_for_nothing_are_used_under_a_cap_of_nothing(self) -> None:
        free = offer(0, provider="ssh", any_image=True)
        assert plan(world(jobs(3), (), [free], cap=0)).rents


class TestShortQueue:
    @pytest.mark.parametrize("waiting", [1, 2])
    def test_it_never_starves(self, waiting: int) -> None:
        made = plan(world(jobs(waiting)))
        assert len(made.rents) == 1
        assert "no machine that could take" in made.rents[0].reason

    @pytest.mark.parametrize(
        "useless",
        [
            {"image": "another"}, {"gpu_type": "RTX 4090 Laptop GPU"}, {"rate": 51 * CENT}, {"taking_work": False},
        ],
    )  # fmt: skip
    def test_machines_that_could_not_take_it_do_not_count(self, useless: dict) -> None:
        for state in (BUSY, IDLE) if "taking_work" in useless else (BUSY, IDLE, BOOTING, ORDERING):
            assert plan(world(jobs(1), [machine(1, state, **useless)])).rents

    def test_one_going_back_does_not_count(self) -> None:
        assert plan(world(jobs(1), machines(1, RELEASING))).rents

    def test_a_machine_that_is_busy_for_ten_minutes_may_be_busy_for_days(self) -> None:
        assert not plan(world(jobs(1), machines(1, BUSY, busy_sec=599.999))).rents
        made = plan(world(jobs(1), machines(1, BUSY, busy_sec=600)))
        assert "has become free for 10 min" in made.rents[0].reason

    def test_one_that_comes_free_now_and_then_is_waited_for_however_long_the_queue_takes(self) -> None:
        """Else a high threshold would be worth nothing."""
        fleet = (machine(1, BUSY, busy_sec=9000), machine(2, BUSY, busy_sec=30))
        assert not plan(world(jobs(90, age_sec=9000), fleet, scaler={"scale_up_threshold": 100})).rents

    @pytest.mark.parametrize("state", [BOOTING, ORDERING])
    def test_one_on_its_way_is_waited_for(self, state: WorkerState) -> None:
        fleet = (machine(1, BUSY, busy_sec=9000), machine(2, state))
        assert not plan(world(jobs(2), fleet)).rents

    def test_a_machine_of_another_group_in_the_queue_is_not_counted_twice(self) -> None:
        """One booting machine that both could use: it takes the first job, the other one waits or is served."""
        cheap = replace(NEED, max_price=45 * CENT)
        found = world((job(1), job(2, cheap)), machines(1, BOOTING), markets={cheap: MarketView((offer(),))})
        groups = {group.need: group for group in group_jobs(found)}
        assert groups[NEED].uncovered == 0
        assert groups[cheap].uncovered == 1
        made = plan(found)
        assert made.groups[NEED.key].code == "booting"
        assert made.groups[cheap.key].code == "short_queue"

    def test_a_machine_given_to_the_first_job_leaves_the_second_uncovered(self) -> None:
        first, second = group_jobs(world((*jobs(1), job(5, OTHER)), machines(2, IDLE)))
        assert {(group.need, group.uncovered) for group in (first, second)} == {(NEED, 0), (OTHER, 1)}


class TestReleasing:
    def test_at_the_idle_timeout_and_not_before(self) -> None:
        fleet = (machine(1, idle_sec=120), machine(2, BUSY))
        assert released(world((), fleet)) == [1]
        assert released(world((), (machine(1, idle_sec=119.999), machine(2, BUSY)))) == []

    def test_a_job_that_another_machine_serves_keeps_none(self) -> None:
        fleet = machines(2, IDLE, idle_sec=500)
        assert released(world([job(1, OTHER)], fleet, markets={OTHER: MarketView()})) == [1, 2]

    def test_a_machine_that_a_waiting_job_takes_next_stays_whatever_the_threshold(self) -> None:
        for threshold in (0, 1, 5):
            found = world(jobs(1), [machine(1, idle_sec=500)], scaler={"scale_down_threshold": threshold})
            assert released(found) == []

    def test_one_waiting_job_keeps_one_machine_only(self) -> None:
        fleet = [machine(id_, idle_sec=500, rate=id_ * 10 * CENT) for id_ in (1, 2, 3)]
        assert released(world(jobs(1), fleet)) == [3, 2]

    @pytest.mark.parametrize("threshold", [1, 2, 3])
    def test_scale_down_threshold_and_one_below(self, threshold: int) -> None:
        """Jobs that are held for a moment after a fault keep an idle machine, if there are enough of them."""
        found = world((), [machine(1, idle_sec=500)], scaler={"scale_down_threshold": threshold}, running=1)
        assert released(replace(found, pending=jobs(threshold, held_sec=60))) == []
        assert released(replace(found, pending=jobs(threshold - 1, held_sec=60))) == [1]

    def test_held_jobs_of_several_groups_that_could_use_it_count_together(self) -> None:
        other = replace(NEED, max_price=45 * CENT)
        held = (job(1, held_sec=60), job(2, other, held_sec=60))
        found = world(held, [machine(1, idle_sec=500)], scaler={"scale_down_threshold": 2})
        assert released(found) == []
        assert released(with_scaler(found, scale_down_threshold=3)) == [1]

    def test_held_jobs_that_could_not_use_it_do_not_count(self) -> None:
        held = (job(1, held_sec=60), job(2, OTHER, held_sec=60))
        assert released(world(held, [machine(1, idle_sec=500)], scaler={"scale_down_threshold": 2})) == [1]

    def test_a_job_held_for_longer_than_the_timeout_keeps_nothing(self) -> None:
        fleet = [machine(1, idle_sec=120)]
        assert released(world(jobs(1, held_sec=120), fleet)) == []
        assert released(world(jobs(1, held_sec=120.001), fleet)) == [1]

    def test_a_job_whose_hold_ends_now_keeps_one_machine_only(self) -> None:
        fleet = machines(2, IDLE, idle_sec=500)
        assert released(world([replace(job(1), not_before=NOW)], fleet)) == [2]

    def test_the_dearest_first_and_never_below_min_workers(self) -> None:
        fleet = [machine(id_, idle_sec=500, rate=rate * CENT) for id_, rate in ((1, 20), (2, 40), (3, 30))]
        fleet.append(machine(4, BUSY, rate=10 * CENT))
        assert released(world((), fleet)) == [2, 3, 1]
        assert released(world((), fleet, scaler={"min_workers": 2})) == [2, 3]
        assert released(world((), fleet, scaler={"min_workers": 4})) == []

    def test_min_workers_keeps_the_cheapest_though_a_dearer_one_is_younger(self) -> None:
        dear, cheap = machine(1, idle_sec=10, rate=45 * CENT), machine(2, idle_sec=500, rate=20 * CENT)
        found = world((), [dear, cheap], scaler={"min_workers": 1}, running=1)
        assert released(found) == []
        assert released(later(found, 110)) == [1]

    def test_a_machine_on_its_way_counts_as_kept(self) -> None:
        fleet = [machine(1, BOOTING, rate=45 * CENT), machine(2, idle_sec=500)]
        found = world((), fleet, scaler={"min_workers": 1}, running=1)
        assert released(found) == [2]
        assert released(with_scaler(found, min_workers=2)) == []

    def test_machines_going_back_are_not_among_those_kept(self) -> None:
        fleet = [machine(1, idle_sec=500), machine(2, RELEASING)]
        found = world((), fleet, scaler={"min_workers": 1}, running=1)
        assert released(found) == []
        assert released(with_scaler(found, min_workers=0)) == [1]

    def test_no_threshold_never_gives_back_while_there_is_work(self) -> None:
        found = world((), [machine(1, idle_sec=9e6)], running=1, scaler={"scale_down_threshold": 0})
        assert released(found) == []
        assert released(replace(found, running=0)) == [1]

    @pytest.mark.parametrize("short_of", [{"scaler": {"max_workers": 1}}, {"cap": DOLLAR}, {"offers": ()}])
    def test_but_makes_room_for_jobs_that_would_wait_for_ever(self, short_of: dict) -> None:
        dear = offer(90 * CENT, gpu_type="H100") if "offers" not in short_of else None
        market = {OTHER: MarketView((dear,) if dear else (), {"rented": 1})}
        scaler = {"scale_down_threshold": 0} | short_of.get("scaler", {})
        cap = short_of.get("cap", 10 * DOLLAR)
        found = world([job(1, OTHER)], [machine(1, idle_sec=120)], markets=market, scaler=scaler, cap=cap)
        assert plan(found).rents == ()
        assert released(found) == [1]
        assert "makes room" in plan(found).releases[0].reason
        assert released(replace(found, machines=(machine(1, idle_sec=119),))) == []

    def test_a_machine_that_cannot_be_reached_is_given_back_too(self) -> None:
        assert released(world(jobs(1), [machine(1, idle_sec=120, taking_work=False)])) == [1]

    def test_a_machine_whose_idling_has_no_beginning_yet_stays(self) -> None:
        assert released(world((), [replace(machine(1), idle_since=None)], running=1)) == []


class TestNothingLeft:
    @pytest.mark.parametrize("state", [IDLE, BOOTING, ORDERING])
    @pytest.mark.parametrize("purpose", [Purpose.QUEUE, Purpose.MINIMUM])
    def test_all_go_back_at_once(self, state: WorkerState, purpose: Purpose) -> None:
        assert released(world((), machines(3, state, purpose=purpose))) == [1, 2, 3]

    def test_down_to_min_workers_the_dearest_first(self) -> None:
        fleet = [machine(1, rate=10 * CENT), machine(2, rate=30 * CENT), machine(3, BOOTING, rate=20 * CENT)]
        found = world((), fleet, scaler={"min_workers": 1})
        assert released(found) == [2, 3]

    def test_at_the_same_price_the_one_that_is_ready_is_kept(self) -> None:
        fleet = [machine(1), machine(2, BOOTING), machine(3), machine(4, ORDERING)]
        assert released(world((), fleet, scaler={"min_workers": 2})) == [2, 4]

    @pytest.mark.parametrize("work", [{"pending": jobs(1, OTHER)}, {"running": 1}])
    def test_but_not_while_anything_is_pending_or_running(self, work: dict) -> None:
        found = replace(world((), machines(3, IDLE)), **work)
        assert released(found) == []

    def test_hand_rented_machines_stay_until_the_timeout(self) -> None:
        for threshold in (0, 1):
            found = world((), [machine(1, idle_sec=119, purpose=Purpose.HAND)],
                          scaler={"scale_down_threshold": threshold})  # fmt: skip
            assert released(found) == []
            assert released(later(found, 1)) == [1]

    @pytest.mark.parametrize("state", [BOOTING, ORDERING])
    def test_hand_rented_machines_on_their_way_come(self, state: WorkerState) -> None:
        assert released(world((), machines(2, state, purpose=Purpose.HAND))) == []

    def test_what_is_going_back_already_is_not_given_back_again(self) -> None:
        assert released(world((), machines(2, RELEASING))) == []


class TestByHandAndMinimum:
    def test_scale_up_rents_one_by_one_before_the_queue(self) -> None:
        """Machines asked for by hand serve the queue too: rented first, they save the queue's own."""
        made = plan(world(jobs(9), scale_up=2))
        assert made.rents[0].purpose == Purpose.HAND
        assert made.rents[0].need == NEED
        assert made.groups[NEED.key].code == "next"

    @pytest.mark.parametrize("limit", [{"scaler": {"max_workers": 1}}, {"cap": 79 * CENT}])
    def test_scale_up_keeps_to_the_limits(self, limit: dict) -> None:
        assert plan(world((), machines(1, BUSY), scale_up=1, **limit)).rents == ()

    def test_scale_up_that_cannot_be_does_not_hold_the_queue_back(self) -> None:
        markets = {OTHER: MarketView((offer(DOLLAR, gpu_type="H100"),))}
        assert plan(world([job(1, OTHER)], (), (), markets=markets, scale_up=1)).rents[0].need == OTHER

    def test_scale_up_without_a_default_rents_nothing(self) -> None:
        assert plan(replace(world(scale_up=1), default_need=None)).rents == ()

    def test_min_workers_are_rented_without_any_job(self) -> None:
        for present in range(3):
            made = plan(world((), machines(present, IDLE), scaler={"min_workers": 2}))
            assert len(made.rents) == (present < 2)
        assert plan(world(scaler={"min_workers": 2})).rents[0].purpose == Purpose.MINIMUM

    def test_machines_going_back_do_not_count_as_kept(self) -> None:
        made = plan(world((), machines(1, RELEASING), scaler={"min_workers": 1}))
        assert made.rents[0].purpose == Purpose.MINIMUM

    def test_jobs_come_before_min_workers(self) -> None:
        made = plan(world(jobs(1), scaler={"min_workers": 2}))
        assert made.rents[0].purpose == Purpose.QUEUE

    def test_min_workers_take_no_room_from_waiting_jobs(self) -> None:
        """Else they would keep for good what the jobs wait for."""
        markets = {OTHER: MarketView((offer(DOLLAR, gpu_type="H100"),))}
        found = world([job(1, OTHER)], machines(1, BUSY), markets=markets, scaler={"min_workers": 2}, cap=120 * CENT)
        assert plan(found).groups[OTHER.key].code == "cap"
        assert plan(found).rents == ()

    def test_scale_down_takes_the_idle_dearest_first_then_those_on_their_way_then_busy_ones(self) -> None:
        fleet = (
            machine(1, BUSY, rate=90 * CENT), machine(2, IDLE, rate=20 * CENT), machine(3, ORDERING),
            machine(4, IDLE, rate=30 * CENT), machine(5, BOOTING),
        )  # fmt: skip
        found = world((), fleet)
        assert [released(replace(found, scale_down=number)) for number in range(6)] == [
            [], [4], [4, 2], [4, 2, 5], [4, 2, 5, 3], [4, 2, 5, 3, 1],
        ]  # fmt: skip

    def test_scale_down_and_the_timeout_do_not_take_two_for_one(self) -> None:
        fleet = (machine(1, idle_sec=500), machine(2, BUSY))
        made = plan(world((), fleet, scale_down=1))
        assert [(release.worker_id, "by hand" in release.reason) for release in made.releases] == [(1, True)]

    def test_stopping_gives_back_all_that_run_nothing(self) -> None:
        fleet = (machine(1, BUSY), machine(2), machine(3, BOOTING), machine(4, ORDERING), machine(5, RELEASING))
        found = world(jobs(3), fleet, drain=True, scaler={"min_workers": 5})
        assert sorted(released(found)) == [2, 3, 4]


class TestLoweredLimits:
    """A user may start again with a lower cap than what is rented: no promise is kept by waiting."""

    def test_machines_above_the_cap_go_back_those_without_a_job_first(self) -> None:
        fleet = (machine(1, BUSY), machine(2, IDLE), machine(3, BOOTING), machine(4, ORDERING))
        assert released(world(jobs(1), fleet, cap=160 * CENT)) == []
        assert released(world(jobs(1), fleet, cap=160 * CENT - 1)) == [2]
        assert released(world(jobs(1), fleet, cap=90 * CENT)) == [2, 3]
        assert released(world(jobs(1), fleet, cap=40 * CENT)) == [2, 3, 4]

    def test_then_busy_ones_and_the_money_is_the_cause(self) -> None:
        fleet = (machine(1, BUSY), machine(2, IDLE))
        releases = plan(world(jobs(1), fleet, cap=0)).releases
        assert [(each.worker_id, each.cause) for each in releases] == [(2, Cause.BUDGET), (1, Cause.BUDGET)]
        assert releases[0].reason == "$0.80/h committed, the cap is $0.00/h"

    def test_what_goes_back_already_is_not_counted_again(self) -> None:
        fleet = (machine(1, RELEASING), machine(2, BOOTING))
        assert released(world(jobs(1), fleet, cap=40 * CENT)) == []

    def test_machines_above_max_workers_go_back(self) -> None:
        found = world(jobs(9), (*machines(3, BUSY), *machines(3, BOOTING, first=4)), scaler={"max_workers": 4})
        assert released(found) == [4, 5]

    def test_machines_that_cost_nothing_stay_under_a_cap_of_nothing(self) -> None:
        assert released(world(jobs(1), [machine(1, BOOTING, rate=0)], cap=0)) == []


def test_an_empty_world_wants_nothing() -> None:
    made = plan(world())
    assert (made.rents, made.releases, dict(made.groups), dict(made.workers)) == ((), (), {}, {})


def test_a_job_without_gpu_rents_the_cheapest_machine_within_its_limit() -> None:
    need = Need("img", None, 0, None)
    offers = (offer(2 * DOLLAR, "h", gpu_type="H100"), offer(9 * CENT, "g", gpu_type="GTX 1660 SUPER"), offer())
    made = plan(world([job(1, need)], markets={need: MarketView(offers)}))
    assert made.rents[0].offer.server_id == "g"


def test_a_job_without_gpu_and_with_none_but_dear_machines_waits() -> None:
    need = Need("img", None, 0, None)
    dear = (offer(51 * CENT, gpu_type=None, gpu_count=0), offer(2 * DOLLAR, gpu_type="H100"))
    made = plan(world([job(1, need)], markets={need: MarketView(dear)}))
    assert made.rents == ()
    assert "2 over the price limit of $0.50/h" in made.groups[need.key].text
    assert "per GPU" not in made.groups[need.key].text.split(";")[0]
