"""Every reason: its code, its sentence, and that the figure in it is what would change things."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gpuscale_tui.model.offers import Need
from gpuscale_tui.model.states import Purpose, WorkerState
from gpuscale_tui.policy.scaling import plan
from gpuscale_tui.policy.world import MarketView, Reason, World
from tests.policy.support import (
    CENT,
    DOLLAR,
    LIMITS,
    NEED,
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

BUSY, IDLE, BOOTING = WorkerState.BUSY, WorkerState.IDLE, WorkerState.BOOTING
IDLE_130 = "idle for 130 s (idle_timeout_sec is 120)"


def reason(found: World, need: Need = NEED) -> Reason:
    return plan(found).groups[need.key]


def micros(text: str) -> int:
    return round(float(text.replace(",", "")) * 1_000_000)


def more_money(sentence: str) -> int:
    return micros(re.search(r"\$([\d.,]+)/h more", sentence)[1])


class TestLimits:
    @pytest.mark.parametrize("rate", [40 * CENT, 410_101, 399_999, 1])
    def test_the_cap_names_what_is_missing_and_that_much_is_enough(self, rate: int) -> None:
        found = world(jobs(9), machines(2, BUSY), [offer(rate)], cap=80 * CENT)
        why = reason(found)
        assert why.code == "cap"
        assert "the cap of $0.80/h leaves too little ($0.80/h committed)" in why.text
        assert why.text.endswith("would rent the next one")
        missing = more_money(why.text)
        assert plan(replace(found, cap=found.cap + missing)).rents
        assert not plan(replace(found, cap=found.cap + missing - 100)).rents

    def test_a_figure_in_whole_cents_is_printed_so(self) -> None:
        assert "$0.40/h more" in reason(world(jobs(9), machines(2, BUSY), cap=80 * CENT)).text

    @pytest.mark.parametrize(("present", "most"), [(5, 5), (7, 5), (0, 0)])
    def test_max_workers_names_the_number_that_is_enough(self, present: int, most: int) -> None:
        found = world(jobs(20), machines(present, BUSY), scaler={"max_workers": most})
        why = reason(found)
        assert why.code == "max_workers"
        assert f"max_workers is reached ({present} of {most}): max_workers {present + 1} would" in why.text
        assert plan(with_scaler(found, max_workers=present + 1)).rents
        assert not plan(with_scaler(found, max_workers=present)).rents

    def test_both_limits_are_named_where_both_are_reached(self) -> None:
        found = world(jobs(9), machines(5, BUSY), cap=201 * CENT)
        why = reason(found)
        assert why.code == "max_workers"
        enough = replace(with_scaler(found, max_workers=6), cap=found.cap + more_money(why.text))
        assert plan(enough).rents
        assert not plan(replace(enough, cap=found.cap)).rents
        assert not plan(replace(enough, scaler=found.scaler)).rents

    def test_each_group_is_told_its_own_figure(self) -> None:
        markets = {OTHER: MarketView((offer(3 * DOLLAR, gpu_type="H100"),))}
        found = world((*jobs(3), *jobs(4, OTHER, first=9)), machines(1, BUSY), markets=markets, cap=40 * CENT)
        assert more_money(reason(found, OTHER).text) == 3 * DOLLAR
        assert more_money(reason(found, NEED).text) == 40 * CENT
        assert plan(replace(found, cap=80 * CENT)).rents[0].need == NEED

    def test_a_group_behind_others_is_told_so(self) -> None:
        markets = {OTHER: MarketView((offer(30 * CENT, gpu_type="H100"),))}
        found = world((*jobs(3), *jobs(4, OTHER, first=9)), machines(1, BUSY), markets=markets, cap=40 * CENT)
        why = reason(found, NEED)
        assert why.text.endswith("would rent the next one, for more urgent jobs first")
        assert plan(replace(found, cap=40 * CENT + more_money(why.text))).rents[0].need == OTHER

    def test_of_several_groups_ahead_the_cheapest_counts(self) -> None:
        needs = [replace(OTHER, image=image) for image in "abc"]
        rates = (DOLLAR, 3 * DOLLAR, 2 * DOLLAR)
        markets = {need: MarketView((offer(rate, gpu_type="H100"),)) for need, rate in zip(needs, rates, strict=True)}
        queue = [job(number, need, priority=number) for number, need in enumerate(needs, 1)]
        found = world(queue, markets=markets, cap=0)
        told = [reason(found, need).text.endswith("more urgent jobs first") for need in needs]
        assert told == [False, True, True]

    def test_jobs_beyond_the_whole_cap_reach_the_threshold_by_themselves(self) -> None:
        dear = MarketView((offer(4 * DOLLAR, gpu_type="H100"),))
        fleet = [machine(1, BUSY, gpu_type="H100")]
        found = world(jobs(3, OTHER), fleet, markets={OTHER: dear}, cap=2 * DOLLAR)
        assert reason(found, OTHER).code == "cap"
        assert plan(replace(found, cap=found.cap + more_money(reason(found, OTHER).text))).rents
        assert reason(replace(found, pending=jobs(2, OTHER)), OTHER).code == "busy"

    def test_a_group_behind_a_machine_asked_for_by_hand_is_told_so(self) -> None:
        found = world(jobs(3), machines(5, BUSY), scale_up=1)
        assert reason(found).text.endswith("for more urgent jobs first")
        assert plan(with_scaler(found, max_workers=6)).rents[0].purpose == Purpose.HAND


class TestShortQueue:
    def test_it_names_the_jobs_and_the_time_after_which_one_is_rented(self) -> None:
        found = world(jobs(2, age_sec=100), machines(1, BUSY), scaler={"scale_up_threshold": 5})
        why = reason(found)
        assert why.code == "short_queue"
        assert why.text == (
            "1 machine will take it when free; one more is rented when 5 jobs wait without a machine"
            " (scale_up_threshold; now 2), or when none has become free for 10 min"
        )
        assert not plan(replace(found, pending=jobs(4, age_sec=100))).rents
        assert plan(replace(found, pending=jobs(5, age_sec=100))).rents
        assert not plan(later(found, 539)).rents
        assert plan(later(found, 540)).rents

    def test_a_further_machine_beyond_the_whole_cap_is_told(self) -> None:
        found = world(jobs(1), machines(1, BUSY, rate=10 * CENT), cap=20 * CENT)
        why = reason(found)
        assert (why.code, why.text) == (
            "busy",
            "1 machine will take it when free; one more would cost $0.40/h, over the whole cap of $0.20/h",
        )
        assert reason(replace(found, cap=40 * CENT)).code == "short_queue"

    def test_where_no_other_offer_fits_the_busy_machines_are_all_there_is(self) -> None:
        market = MarketView((offer(60 * CENT),), {"rented": 7})
        why = reason(world(jobs(1), machines(2, BUSY), (), markets={NEED: market}))
        assert why.code == "busy"
        assert why.text == (
            "2 machines will take it when free; no offer of 1x RTX 4090 fits: 7 rented, 1 over the price limit of"
            " $0.50/h per GPU; a max_price_per_gpu of $0.60 instead of $0.50 would do"
        )


class TestSupply:
    def test_booting(self) -> None:
        assert reason(world(jobs(2), machines(2, BOOTING))) == Reason("booting", "2 machines on the way")
        assert reason(world(jobs(1), machines(1, WorkerState.ORDERING))) == Reason("booting", "1 machine on the way")

    def test_placing(self) -> None:
        assert reason(world(jobs(1), machines(1, IDLE))) == Reason(
            "placing", "a machine is free and takes the next job"
        )

    def test_an_unreachable_machine_is_not_said_to_be_free(self) -> None:
        assert reason(world(jobs(1), [machine(1, taking_work=False)], ())).code == "no_offer"

    def test_held_says_when_it_goes_on(self) -> None:
        found = world((job(1, held_sec=30), job(2, held_sec=20)), machines(1, IDLE))
        assert reason(found) == Reason("held", "held after a fault; goes on in 20 s")
        assert reason(later(found, 20)).code == "placing"

    def test_renting(self) -> None:
        made = plan(world(jobs(3)))
        assert made.groups[NEED.key] == Reason("renting", made.rents[0].reason)

    def test_another_group_is_next(self) -> None:
        markets = {OTHER: MarketView((offer(DOLLAR, gpu_type="H100"),))}
        found = world((*jobs(3), *jobs(2, OTHER, first=9)), markets=markets)
        assert reason(found, OTHER).code == "next"
        after = replace(found, machines=(machine(1, WorkerState.ORDERING),))
        assert plan(after).rents[0].need == OTHER


class TestNoOffer:
    def test_the_market_was_not_read(self) -> None:
        why = reason(world([job(1, OTHER)]), OTHER)
        assert why == Reason("looking", "the market has not been read for it yet")

    def test_the_provider_did_not_answer(self) -> None:
        why = reason(world(jobs(1), markets={NEED: MarketView(errors=("clore: time-out",))}))
        assert why == Reason("provider_error", "no answer from the market: clore: time-out")

    def test_one_provider_has_none_and_another_does_not_answer(self) -> None:
        view = MarketView((), {"taken": 2}, ("clore: time-out",))
        assert reason(world(jobs(1), markets={NEED: view})).text == (
            "no offer of 1x RTX 4090 fits: 2 taken; no answer from the market: clore: time-out"
        )

    def test_offers_of_one_provider_are_used_though_another_does_not_answer(self) -> None:
        assert plan(world(jobs(1), markets={NEED: MarketView((offer(),), errors=("aws: time-out",))})).rents

    def test_nobody_has_it(self) -> None:
        why = reason(world(jobs(1), (), ()))
        assert why == Reason("no_offer", "no provider offers 1x RTX 4090: change it, or wait")
        near = MarketView(nearest=("RTX 4080", "RTX 3090"))
        assert "; near it there are RTX 4080, RTX 3090" in reason(world(jobs(1), markets={NEED: near})).text

    def test_refusals_are_counted_the_most_frequent_first(self) -> None:
        market = MarketView(
            (*(offer(reliability=0.5) for _ in range(3)), offer(country="XX"), offer(server="bad")), {"rented": 12}
        )
        limits = replace(
            LIMITS, min_reliability=0.8, exclude_countries=frozenset({"xx"}), paused={("clore", "bad"): "x"}
        )
        why = reason(world(jobs(1), markets={NEED: market}, limits=limits))
        assert why.code == "no_offer"
        assert why.text == (
            "no offer of 1x RTX 4090 fits: 12 rented, 3 reliability below 0.8, 1 in an excluded country,"
            " 1 paused after a failure"
        )

    @pytest.mark.parametrize("rate", [60 * CENT, 612_345, 500_001])
    @pytest.mark.parametrize("own", [None, 45 * CENT])
    @pytest.mark.parametrize("gpus", [1, 2, 3])
    def test_the_price_that_would_do_does(self, rate: int, own: int | None, gpus: int) -> None:
        need = replace(NEED, max_price=own, gpu_count=gpus)
        dear = (offer(rate * gpus, gpu_count=gpus), offer(rate * gpus * 2, gpu_count=gpus))
        found = world([job(1, need)], (), (), markets={need: MarketView(dear)})
        why = reason(found, need)
        setting, figure = re.search(r"; a (\w+) of \$([\d.]+) instead of", why.text).groups()
        assert setting == ("max_price_per_gpu" if own is None else "max_price")
        assert self.under(found, need, micros(figure)).rents
        assert not self.under(found, need, micros(figure) - 100).rents

    @staticmethod
    def under(found: World, need: Need, limit: int):
        if need.max_price is None:
            return plan(replace(found, limits=replace(found.limits, default_price=limit)))
        raised = replace(need, max_price=limit)
        market = MarketView(tuple(found.markets[need.key].offers))
        return plan(replace(found, pending=(job(1, raised),), markets={raised.key: market}))

    def test_the_price_is_not_blamed_where_something_else_is_wrong_too(self) -> None:
        shaky = offer(60 * CENT, reliability=0.1)
        limits = replace(LIMITS, min_reliability=0.8)
        assert "would do" not in reason(world(jobs(1), (), [shaky], limits=limits)).text

    def test_stopping(self) -> None:
        assert reason(world(jobs(1), drain=True)) == Reason("stopping", "the engine takes no new work")


class TestIdleMachines:
    def kept(self, found: World) -> str:
        made = plan(found)
        assert {release.worker_id for release in made.releases} == set()
        return made.workers[1]

    def test_it_goes_back_after_the_timeout_and_does(self) -> None:
        found = world((), [machine(1, idle_sec=20)], running=1, scaler={"idle_timeout_sec": 90.5})
        assert self.kept(found) == "idle; goes back after 90.5 s of idling (idle_timeout_sec) unless a job can use it"
        assert self.kept(later(found, 70.4))
        gone = plan(later(found, 70.5))
        assert [release.worker_id for release in gone.releases] == [1]
        assert gone.releases[0].reason.startswith("idle for 90 s (idle_timeout_sec is 90.5)")
        assert gone.workers == {}

    def test_min_workers(self) -> None:
        found = world((), [machine(1)], scaler={"min_workers": 1})
        assert self.kept(found) == "idle; kept because min_workers is 1"
        assert plan(with_scaler(found, min_workers=0)).releases

    def test_min_workers_is_named_for_the_cheapest_only(self) -> None:
        fleet = [machine(1, rate=10 * CENT), machine(2, rate=20 * CENT), machine(3, BUSY)]
        made = plan(world((), fleet, scaler={"min_workers": 2}))
        assert "min_workers" in made.workers[1]
        assert "goes back after" in made.workers[2]

    def test_it_takes_a_job_next(self) -> None:
        assert self.kept(world([job(7)], [machine(1)])) == "idle; takes j7 next"

    def test_it_is_kept_for_a_job_that_is_held(self) -> None:
        assert self.kept(world([job(7, held_sec=9)], [machine(1, idle_sec=500)])) == (
            "idle; kept for j7, which is held for a moment after a fault"
        )

    def test_it_cannot_be_reached(self) -> None:
        found = world(jobs(1), [machine(1, taking_work=False)], running=1)
        assert self.kept(found) == "idle; cannot be reached just now"

    def test_no_threshold_keeps_it_while_there_is_work(self) -> None:
        found = world((), [machine(1, idle_sec=500)], running=1, scaler={"scale_down_threshold": 0})
        assert self.kept(found) == "idle; kept as long as jobs wait or run (scale_down_threshold is 0)"

    @pytest.mark.parametrize(
        ("found", "sentence"),
        [
            (world((), [machine(1)]), "nothing is pending or running"),
            (
                world((), [machine(1, idle_sec=130, purpose=Purpose.HAND)]),
                f"{IDLE_130}, nothing is pending or running",
            ),
            (
                world((), [machine(1, idle_sec=130)], running=1),
                f"{IDLE_130}, no waiting job could use it (scale_down_threshold is 1)",
            ),
            (
                world((), [machine(1, idle_sec=130)], running=1, scaler={"scale_down_threshold": 4}),
                f"{IDLE_130}, fewer than 4 waiting jobs could use it (scale_down_threshold is 4)",
            ),
            (world(jobs(1), [machine(1)], cap=CENT), "$0.40/h committed, the cap is $0.01/h"),
            (
                world(jobs(1), machines(2, BOOTING), scaler={"max_workers": 1}),
                "2 machines rented, max_workers is 1",
            ),
            (world((), [machine(1)], drain=True), "the engine is stopping"),
            (world((), [machine(1)], scale_down=1, running=1), "asked for by hand (scale down)"),
        ],
    )
    def test_a_release_says_why(self, found: World, sentence: str) -> None:
        made = plan(found)
        assert [release.reason for release in made.releases] == [sentence]
        assert 1 not in made.workers
