"""What an hour of useful work is expected to cost: price, failures, evictions, set-up, bill against quote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.model.hosts import History, HostHistory, MarketHistory
from gpuscale_tui.model.money import HOUR_MS
from gpuscale_tui.model.offers import Market, Offer
from gpuscale_tui.policy.matching import best_offer
from gpuscale_tui.policy.reputation import choice_of_market, evictions_per_hour, expected_cost
from gpuscale_tui.policy.scaling import plan
from gpuscale_tui.policy.world import Limits, World
from tests.policy.support import CENT, DOLLAR, LIMITS, NEED, job, jobs, offer, world

SPOT = Market.SPOT
AUTO = replace(LIMITS, order_types={"clore": "auto"})


def known(server: str = "1", **what: Any) -> History:
    return History(hosts={("clore", server): HostHistory("clore", server, **what)})


def market(**what: int) -> History:
    return History(markets={("clore", "spot"): MarketHistory(**what)})


WORSE = st.fixed_dictionaries(
    {
        name: st.integers(0, most)
        for name, most in (
            ("rentals", 50), ("no_starts", 20), ("failed_tests", 20), ("losses", 20), ("job_faults", 20),
            ("evictions", 50), ("held_ms", 500 * HOUR_MS), ("setups", 50), ("setup_ms", 10 * HOUR_MS),
            ("billed", DOLLAR), ("quoted", DOLLAR),
        )
    }
)  # fmt: skip


class TestCost:
    def test_without_a_history_it_is_price_and_fee_over_reliability(self) -> None:
        assert expected_cost(offer(40 * CENT, fee=10 * CENT, reliability=0.5)) == DOLLAR

    @pytest.mark.parametrize(
        "fault", ["no_starts", "failed_tests", "losses", "job_faults", "evictions"],
    )  # fmt: skip
    def test_a_host_that_failed_before_gives_way_to_a_slightly_dearer_one(self, fault: str) -> None:
        bad = known("1", rentals=2, held_ms=HOUR_MS, **{fault: 2})
        assert best_offer([offer(40 * CENT, "1"), offer(41 * CENT, "2")], bad).server_id == "2"
        assert best_offer([offer(40 * CENT, "1"), offer(41 * CENT, "2")]).server_id == "1"

    def test_refusals_do_not_make_a_host_dear(self) -> None:
        assert expected_cost(offer(server="1"), known("1", refusals=9)) == expected_cost(offer(server="1"), known("1"))

    def test_slow_set_up_and_a_bill_above_the_quote_count(self) -> None:
        plain = expected_cost(offer(server="1"), known("1", rentals=3))
        assert expected_cost(offer(server="1"), known("1", rentals=3, setups=3, setup_ms=HOUR_MS)) > plain
        assert expected_cost(offer(server="1"), known("1", rentals=3, billed=130, quoted=100)) == pytest.approx(
            1.3 * plain
        )
        assert expected_cost(offer(server="1"), known("1", rentals=3, billed=70, quoted=100)) == plain

    @given(WORSE, st.sampled_from(list(Market)), st.sampled_from(["no_starts", "failed_tests", "losses", "job_faults"]))
    def test_more_failures_never_make_a_host_cheaper(self, what: dict[str, int], way: Market, fault: str) -> None:
        found = offer(server="1", market=way)
        before = expected_cost(found, known("1", **what))
        assert 0 < before < float("inf")
        assert expected_cost(found, known("1", **what | {fault: what[fault] + 1})) >= before
        assert expected_cost(found, known("1", **what | {"evictions": what["evictions"] + 1})) >= before

    @given(st.integers(0, 1000), st.integers(0, 10_000), st.integers(0, 10_000))
    def test_evictions_are_drawn_from_what_is_usual_to_what_was_seen(self, times: int, hours: int, lost: int) -> None:
        seen = market(evictions=times, held_ms=hours * HOUR_MS, lost_ms=lost)
        rate = evictions_per_hour(offer(market=SPOT), seen)
        usual, own = 0.1, times / hours if hours else float(bool(times)) * float("inf")
        assert min(usual, own) - 1e-9 <= rate <= max(usual, own) + 1e-9


class TestSpotOrOnDemand:
    def both(self, spot: int, on_demand: int) -> tuple[Offer, Offer]:
        return offer(spot * CENT, "1", market=SPOT), offer(on_demand * CENT, "1")

    def rented(self, offers: tuple[Offer, ...], **more: Any) -> World:
        return world([job()], offers=offers, limits=more.pop("limits", AUTO), **more)

    def test_spot_is_taken_where_it_is_much_cheaper(self) -> None:
        (rent,) = plan(self.rented(self.both(25, 40))).rents
        assert rent.offer.market == SPOT
        assert "spot: an hour of work is expected to cost" in rent.reason

    def test_on_demand_is_taken_where_evictions_cost_more_than_spot_saves(self) -> None:
        (rent,) = plan(self.rented(self.both(40, 40))).rents
        assert rent.offer.market == Market.ON_DEMAND
        often = market(evictions=60, held_ms=20 * HOUR_MS, lost_ms=30 * HOUR_MS)
        (rent,) = plan(self.rented(self.both(25, 40), history=often)).rents
        assert rent.offer.market == Market.ON_DEMAND
        assert "on-demand: an hour of work is expected to cost" in rent.reason

    def test_a_spot_market_that_never_evicts_is_worth_its_price(self) -> None:
        never = market(held_ms=10_000 * HOUR_MS)
        (rent,) = plan(self.rented(self.both(39, 40), history=never)).rents
        assert rent.offer.market == SPOT

    def test_after_repeated_evictions_it_is_on_demand_and_says_why(self) -> None:
        paused = replace(AUTO, paused_markets={("clore", "spot"): "3 spot machines were taken away within an hour"})
        (rent,) = plan(self.rented(self.both(5, 40), limits=paused)).rents
        assert rent.offer.market == Market.ON_DEMAND
        assert "on-demand, because 3 spot machines were taken away" in rent.reason
        only_spot = self.both(5, 40)[:1]
        reason = plan(self.rented(only_spot, limits=paused)).groups[NEED.key]
        assert "1 spot machines were taken away too often" in reason.text

    @pytest.mark.parametrize("way", list(Market))
    def test_a_job_that_says_how_is_asked_nothing(self, way: Market) -> None:
        need = replace(NEED, market=way)
        paused = replace(AUTO, paused_markets={("clore", "spot"): "x"})
        found = world(
            [job(need=need)], limits=paused, markets={need: world(offers=self.both(39, 40)).markets[NEED.key]}
        )
        (rent,) = plan(found).rents
        assert rent.offer.market == way
        assert "expected" not in rent.reason

    @pytest.mark.parametrize(("order_type", "taken"), [("spot", SPOT), ("on-demand", Market.ON_DEMAND)])
    def test_the_setting_decides_where_it_is_not_auto(self, order_type: str, taken: Market) -> None:
        limits = replace(LIMITS, order_types={"clore": order_type})
        (rent,) = plan(self.rented(self.both(39, 40), limits=limits)).rents
        assert rent.offer.market == taken

    def test_there_is_nothing_to_choose_from_one_kind(self) -> None:
        assert choice_of_market(offer(), [offer(), offer()], History()) == ""


class TestHeldBack:
    def test_an_image_that_comes_up_nowhere_is_not_rented_for(self) -> None:
        limits = replace(LIMITS, paused_images={NEED.image: "paused until 14:05: did not come up"})
        made = plan(world(jobs(5), limits=limits))
        assert (made.rents, made.groups[NEED.key].code) == ((), "image")
        assert "paused until 14:05" in made.groups[NEED.key].text

    def test_set_up_money_is_bounded_and_the_way_out_is_named(self) -> None:
        limits = replace(LIMITS, max_setup=DOLLAR)
        assert plan(world(jobs(5), limits=limits, setup_spent={NEED.key: DOLLAR - 1})).rents
        made = plan(world(jobs(5), limits=limits, setup_spent={NEED.key: DOLLAR}))
        assert (made.rents, made.groups[NEED.key].code) == ((), "setup")
        assert "max_setup_usd" in made.groups[NEED.key].text
        assert "gpuscale retry" in made.groups[NEED.key].text
        assert plan(world(jobs(5), limits=Limits(50 * CENT), setup_spent={NEED.key: 9 * DOLLAR})).rents, "0 is off"

    def test_what_is_held_back_does_not_hold_back_others(self) -> None:
        other = replace(NEED, image="other")
        limits = replace(LIMITS, paused_images={NEED.image: "x"})
        market = world().markets[NEED.key]
        made = plan(world([*jobs(2), job(9, other)], limits=limits, markets={other: market}))
        assert [rent.need for rent in made.rents] == [other]
        assert plan(world(limits=limits, scale_up=1)).rents == ()
