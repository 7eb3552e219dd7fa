"""The ranks that are shown are the order in which the engine rents: there is no second opinion."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings

from gpuscale_tui.model.hosts import History, HostHistory
from gpuscale_tui.model.offers import Market, Need
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.policy.ranking import offer_id, rank
from gpuscale_tui.policy.scaling import group_jobs, plan
from gpuscale_tui.policy.world import Limits, World
from tests.policy.strategies import WORLDS
from tests.policy.support import CENT, DOLLAR, NEED, OTHER, job, jobs, machines, offer, with_scaler, world


def _shared(found: World) -> World:
    """The same world where all look at one market, as they do in life."""
    views = [found.markets[key] for key in sorted(found.markets)]
    assume(views)
    keys = {group.key for group in group_jobs(found)} | ({found.default_need.key} if found.default_need else set())
    return replace(found, markets=dict.fromkeys(keys, views[0]))


@given(WORLDS)
@settings(max_examples=300, deadline=None)
def test_what_is_rented_has_the_first_rank_of_its_group(found: World) -> None:
    found = _shared(with_scaler(replace(found, cap=10**12, budget=None, drain=False), max_workers=1000))
    groups = [group for group in group_jobs(found) if group.uncovered]
    offers = next(iter(found.markets.values())).offers
    ranked = rank(found, groups, offers)
    for each in ranked.values():
        assert (each.rank is None) == bool(each.verdict)
        assert (each.rank is None) == (not each.serves) == (not each.reason)
    for rent in plan(found).rents:
        chosen = ranked[offer_id(rent.offer)]
        assert rent.need.key in chosen.serves
        if chosen.serves[0] == rent.need.key:
            assert chosen.rank == 1
        better = [each for each in ranked.values() if rent.need.key in each.serves and each.expected is not None]
        assert min(each.expected or 0 for each in better) == chosen.expected


def test_the_order_is_that_of_expected_cost_and_the_reason_says_of_what() -> None:
    cheap, sure, spot = (
        offer(40 * CENT, "1", reliability=0.5), offer(44 * CENT, "2", reliability=0.99, fee=2 * CENT),
        offer(30 * CENT, "3", reliability=0.9, market=Market.SPOT),
    )  # fmt: skip
    history = History(hosts={("clore", "2"): HostHistory("clore", "2", rentals=3, setups=3)})
    found = world(jobs(4), offers=[cheap, sure, spot], history=history)
    ranked = rank(found, group_jobs(found), [cheap, sure, spot])
    assert [ranked[offer_id(each)].rank for each in (spot, sure, cheap)] == [1, 2, 3]
    assert ranked[offer_id(cheap)].reason == "an hour of work: $0.800 (price $0.400/h, reliability 50.0 %)"
    assert "reliability 99.0 %, $0.020 for the order, 3 rentals of ours, 0 faults" in ranked[offer_id(sure)].reason
    assert "taken away every 10 h" in ranked[offer_id(spot)].reason
    assert ranked[offer_id(cheap)].serves == (NEED.key,)


def test_an_offer_is_judged_for_the_most_urgent_group_of_its_gpu() -> None:
    poor = Need("img", "H100", 1, 10 * CENT)
    h100, dear = offer(4 * DOLLAR, "1", gpu_type="H100"), offer(90 * CENT, "2")
    found = world(
        [job(1, poor, priority=1), job(2, OTHER, priority=2)], offers=[h100, dear],
    )  # fmt: skip
    found = replace(found, markets=dict.fromkeys([NEED.key, OTHER.key, poor.key], found.markets[NEED.key]))
    ranked = rank(found, group_jobs(found), [h100, dear])
    assert ranked[offer_id(h100)].serves == (OTHER.key,)
    assert ranked[offer_id(dear)].verdict == "over the price limit of $0.50/h per GPU"
    alone = rank(found, [group for group in group_jobs(found) if group.key == poor.key], [h100])
    assert alone[offer_id(h100)].verdict == "over the price limit of $0.10/h per GPU"


def test_what_the_limits_stand_against_is_said() -> None:
    only = offer(40 * CENT, "1", reliability=1.0)
    full = world(jobs(3), machines(5, WorkerState.BUSY), [only], limits=Limits(default_price=50 * CENT))
    assert rank(full, group_jobs(full), [only])[offer_id(only)].reason.endswith(
        "; not now: max_workers is reached (5 of 5)"
    )
    tight = world(jobs(3), machines(2, WorkerState.BUSY), [only], cap=DOLLAR)
    assert rank(tight, group_jobs(tight), [only])[offer_id(only)].reason.endswith("; not now: the cap lacks $0.200/h")
