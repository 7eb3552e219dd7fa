"""Spot on Clore.ai: what is bid, what a refused bid teaches, and which listed orders hold no machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Market, Offer
from gpuscale_tui.providers.base import Accepted, Claim, RentRefused, Unknown
from gpuscale_tui.providers.clore.orders import mark_of
from gpuscale_tui.providers.clore.pricing import SPOT_FEE, bid_above, billed_micros, hourly_rate, terms_at
from gpuscale_tui.providers.clore.spot import STALLED_SEC, Auction, Bid, parse_auction

USD, CLORE = "USD-Blockchain", "CLORE-Blockchain"
BOTH = frozenset(Market)
SPOT_ONLY = frozenset({Market.SPOT})
Run = Callable[[Coroutine[Any, Any, Any]], Any]
MONEY = st.decimals(min_value="0.000001", max_value="100000", places=8)


def bid_of(offer: Offer) -> Decimal:
    return Decimal(json.loads(offer.quote)["price"])


async def spot_offer(provider: Any, samples: Any) -> Offer:
    (offer,) = (await provider.offers(samples.need(market=Market.SPOT))).offers
    assert isinstance(offer, Offer)
    return offer


# What is offered


@pytest.mark.parametrize(
    ("markets", "wanted", "expected"),
    [
        (None, None, [Market.ON_DEMAND]),
        (SPOT_ONLY, None, [Market.SPOT]),
        (BOTH, None, [Market.ON_DEMAND, Market.SPOT]),
        (None, Market.SPOT, [Market.SPOT]),
        (SPOT_ONLY, Market.ON_DEMAND, [Market.ON_DEMAND]),
        (BOTH, Market.SPOT, [Market.SPOT]),
    ],
)
async def test_the_jobs_own_word_wins_over_the_setting(
    fake: Any, samples: Any, markets: Any, wanted: Market | None, expected: list[Market]
) -> None:
    provider = fake.provider() if markets is None else fake.provider(markets=markets)
    offers = (await provider.offers(samples.need(market=wanted))).offers
    assert [offer.market for offer in offers] == expected
    assert len({offer.server_id for offer in offers}) == 1
    asked = bool(fake.calls("spot_marketplace"))
    assert asked == (Market.SPOT in expected), "bids are asked for only where they are wanted"


async def test_the_rate_is_the_bid_with_the_spot_fee(fake: Any, samples: Any) -> None:
    fake.auction(104512, floor=2.7)
    offer = await spot_offer(fake.provider(), samples)
    assert bid_of(offer) == Decimal("2.754")
    assert offer.terms.rate == -(-2_754_000 * 10_125 // 240_000)
    assert (offer.terms.creation_fee, offer.terms.creation_fee_after_ms) == (100_000, 600_000)


@pytest.mark.parametrize(
    ("bids", "expected"),
    [
        ([], "2.652"),
        ([{"bid": 2.65, "active": True}], "2.703"),
        ([{"bid": 2.5}], "2.652"),
        ([{"bid": 2.65}, {"bid": 3, "active": True}], "3.060"),
        ([{"bid": 2400, "currency": CLORE}], "3.060"),
        ([{"bid": 3.2, "my": True}], "2.652"),
        ([{"bid": 9, "currency": "doge"}, {"bid": None}, {"bid": "2.7"}], "2.754"),
    ],
)
async def test_the_bid_is_above_the_floor_and_above_all_others(
    fake: Any, samples: Any, bids: list[dict[str, Any]], expected: str
) -> None:
    fake.auction(104512, *bids)
    assert bid_of(await spot_offer(fake.provider(), samples)) == Decimal(expected)


async def test_a_coin_is_bid_in_its_own_price_and_counted_in_dollars(fake: Any, samples: Any) -> None:
    offer = await spot_offer(fake.provider(currency=CLORE), samples)
    assert bid_of(offer) == Decimal("2142")
    rate = Decimal("4.5001") / Decimal("3600.5")
    assert offer.terms.rate == hourly_rate(2142 * rate, SPOT_FEE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price__spot": None}, f"no spot for {USD}"),
        ({"price__spot": {USD: 0}}, f"no spot for {USD}"),
        ({"allowed_coins": [CLORE]}, f"no spot for {USD}"),
        ({"rented": True}, "rented"),
        ({"price__spot": {USD: 4.6}}, "bids as high as its price on demand"),
        ({"price__usd__on_demand_btc": 9}, "prices in different coins far apart"),
    ],
)
async def test_why_there_is_no_spot_offer(fake: Any, samples: Any, changes: dict[str, Any], reason: str) -> None:
    fake.market(samples.server(**changes))
    survey = await fake.provider().offers(samples.need(market=Market.SPOT))
    assert (survey.offers, dict(survey.rejected)) == ((), {reason: 1})


async def test_a_server_that_is_offline_by_its_auction_is_not_bid_for(fake: Any, samples: Any) -> None:
    fake.auction(104512, online=False)
    survey = await fake.provider().offers(samples.need(market=Market.SPOT))
    assert dict(survey.rejected) == {"offline": 1}


async def test_a_server_without_one_market_is_offered_on_the_other(fake: Any, samples: Any) -> None:
    fake.market(samples.server(price__spot=None), samples.server(id=2, price__on_demand={}))
    survey = await fake.provider(markets=BOTH).offers(samples.need())
    assert [(offer.server_id, offer.market) for offer in survey.offers] == [
        ("104512", Market.ON_DEMAND), ("2", Market.SPOT),
    ]  # fmt: skip
    assert dict(survey.rejected) == {}


async def test_the_bids_on_few_servers_are_asked_for_and_the_cheapest_are_known(fake: Any, samples: Any) -> None:
    fake.market(*(samples.server(id=n, price__spot={USD: 2 + n / 10}) for n in range(1, 21)))
    fake.auction(1, {"bid": 3.9, "active": True}, floor=2.1)
    for server in range(2, 21):
        fake.auction(server, floor=2 + server / 10)
    provider = fake.provider()
    offers = (await provider.offers(samples.need(market=Market.SPOT))).offers
    asked = [int(call.url.params["market"]) for call in fake.calls("spot_marketplace")]
    assert asked == [1, 2, 3, 4], "the first turned out dear, so one more was looked at"
    assert min(offers, key=bid_of).server_id == "2"
    await provider.offers(samples.need(market=Market.SPOT))
    assert len(fake.calls("spot_marketplace")) == 4, "what is known is not asked again"


def test_many_kinds_of_jobs_ask_for_few_auctions_a_minute(run_virtual: Run, fake: Any, samples: Any) -> None:
    """The limit of calls is shared with orders and listings; a bid is looked at again before it is placed anyway."""
    names = [f"RTX {number}" for number in range(3000, 3012)]
    servers = [
        samples.server(id=10 * kind + n, gpu_array=[f" {name}"], specs__gpu=f"1x NVIDIA GeForce {name}")
        for kind, name in enumerate(names)
        for n in range(1, 4)
    ]
    fake.market(*servers)

    async def scenario() -> list[int]:
        provider, asked = fake.provider(cache_sec=1000), []
        for pause in (0, 30, 31):
            await asyncio.sleep(pause)
            for name in names:
                survey = await provider.offers(samples.need(name, market=Market.SPOT))
                assert len(survey.offers) == 3
            asked.append(len(fake.calls("spot_marketplace")))
        return asked

    assert run_virtual(scenario()) == [12, 12, 24]


async def test_bids_that_cannot_be_read_leave_the_floor(fake: Any, samples: Any) -> None:
    fake.on("spot_marketplace", httpx.Response(500, json={"code": 1}))
    provider = fake.provider()
    assert bid_of(await spot_offer(provider, samples)) == Decimal("2.652")
    await spot_offer(provider, samples)
    assert len(fake.calls("spot_marketplace")) == 1, "a failure is not repeated at once"


async def test_a_server_that_we_hold_by_spot_is_offered_on_no_market(fake: Any, samples: Any) -> None:
    """The marketplace shows it as free, and an on-demand order would take it from ourselves."""
    fake.orders(samples.order(spot=True, mon_container=2))
    provider = fake.provider(markets=BOTH)
    await provider.rentals()
    assert dict((await provider.offers(samples.need())).rejected) == {"rented": 1}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"specs__pcie_rev": 4, "specs__pcie_width": 16}, (4, 16)),
        ({"specs__pcie_rev": "3", "specs__pcie_width": 0}, (3, None)),
        ({"specs__gpus": [{"pcie_gen": 4, "pcie_width": 16}, {"pcie_gen": 3, "pcie_width": 1}]}, (3, 1)),
        ({"specs__gpus": [{"pcie_gen": None}, "x"], "specs__pcie_rev": 4, "specs__pcie_width": 8}, (4, 8)),
        ({}, (None, None)),
    ],
)
async def test_offers_carry_the_worst_slot(
    fake: Any, samples: Any, changes: dict[str, Any], expected: tuple[int | None, int | None]
) -> None:
    fake.market(samples.server(**changes))
    for offer in (await fake.provider(markets=BOTH).offers(samples.need())).offers:
        assert (offer.pcie_gen, offer.pcie_width) == expected
        assert (offer.ram_gb, offer.cpu_threads, offer.disk_gb, offer.max_hours) == (62.71, 32, 241.1, 168)
        assert (offer.net_down_mbps, offer.cuda_version, offer.country) == (702.9, "12.8", "CZ")


# What is ordered


async def test_the_order_is_a_bid(fake: Any, samples: Any) -> None:
    provider = fake.provider()
    assert await provider.rent(samples.request(await spot_offer(provider, samples))) == Accepted()
    sent = fake.sent("create_order")
    assert (sent["type"], sent["spotprice"]) == ("spot", 2.652)
    assert "required_price" not in sent
    assert str(mark_of("t-1")) in sent["ports"]


def test_a_bid_just_placed_is_not_offered_again_while_the_market_shows_it_free(
    run_virtual: Run, fake: Any, samples: Any
) -> None:
    async def scenario() -> list[int]:
        provider = fake.provider(markets=BOTH, cache_sec=1.0)
        await provider.rent(samples.request(await spot_offer(provider, samples)))
        counts = []
        for pause in (0, 5, 60):
            await asyncio.sleep(pause)
            counts.append(len((await provider.offers(samples.need())).offers))
        return counts

    assert run_virtual(scenario()) == [0, 0, 2]


async def test_a_floor_that_was_bid_already_pauses_the_server(fake: Any, samples: Any) -> None:
    """The same bid would be refused with the same words for ever."""
    fake.on("create_order", {"error": "too_low_price", "min_price": 2.6, "code": 6})
    provider = fake.provider()
    outcome = await provider.rent(samples.request(await spot_offer(provider, samples)))
    assert isinstance(outcome, RentRefused)
    assert (outcome.moved, outcome.pause_server) == (False, True)


@pytest.mark.parametrize("status", [200, 500])
async def test_a_bid_under_the_floor_is_refused_and_the_next_look_sees_the_new_one(
    fake: Any, samples: Any, status: int
) -> None:
    refusal = httpx.Response(status, json={"error": "too-low-price", "min_price": 3.1, "code": 6})
    fake.on("create_order", refusal, {"code": 0})
    provider = fake.provider()
    outcome = await provider.rent(samples.request(await spot_offer(provider, samples)))
    assert isinstance(outcome, RentRefused)
    assert (outcome.moved, outcome.pause_server) == (True, False)
    assert "3.1" in outcome.reason
    offer = await spot_offer(provider, samples)
    assert bid_of(offer) == Decimal("3.162")
    assert await provider.rent(samples.request(offer)) == Accepted()


async def test_a_floor_that_is_not_told_pauses_the_server(fake: Any, samples: Any) -> None:
    fake.on("create_order", {"error": "too_low_price", "min_price": None, "code": 6})
    provider = fake.provider()
    outcome = await provider.rent(samples.request(await spot_offer(provider, samples)))
    assert isinstance(outcome, RentRefused)
    assert (outcome.moved, outcome.pause_server) == (False, True)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx.Response(500, json={"code": 1}), Unknown),
        (httpx.ReadTimeout("late"), Unknown),
        ({"status": "error", "error": "server-already-rented", "code": 6}, RentRefused),
        (httpx.Response(429, json={"code": 5}), RentRefused),
    ],
)
async def test_bids_are_judged_like_other_orders(fake: Any, samples: Any, answer: Any, expected: type) -> None:
    fake.on("create_order", answer)
    provider = fake.provider()
    assert isinstance(await provider.rent(samples.request(await spot_offer(provider, samples))), expected)
    assert len(fake.calls("create_order")) == 1


def test_a_bid_that_was_overtaken_meanwhile_is_not_sent(run_virtual: Run, fake: Any, samples: Any) -> None:
    async def scenario() -> tuple[Any, Offer]:
        provider = fake.provider()
        offer = await spot_offer(provider, samples)
        fake.auction(104512, {"bid": 2.9, "active": True})
        await asyncio.sleep(30)
        return await provider.rent(samples.request(offer)), await spot_offer(provider, samples)

    outcome, following = run_virtual(scenario())
    assert isinstance(outcome, RentRefused)
    assert outcome.moved
    assert not fake.calls("create_order")
    assert bid_of(following) == Decimal("2.958")


async def test_the_highest_rate_holds_for_bids_too(fake: Any, samples: Any) -> None:
    provider = fake.provider()
    offer = await spot_offer(provider, samples)
    cheap = replace(offer, terms=Terms(rate=1))
    assert isinstance(await provider.rent(samples.request(cheap)), RentRefused)
    other = replace(offer, market=Market.ON_DEMAND)
    assert isinstance(await provider.rent(samples.request(other)), RentRefused)
    assert not fake.calls("create_order")


# What is listed


@pytest.mark.parametrize(
    ("changes", "bids", "waiting"),
    [
        ({"mon_container": 0, "spend": 0}, [{"offer_id": 2104417, "my": True, "active": False, "bid": 2.6}], True),
        ({"mon_container": 0, "spend": 0}, [{"offer_id": 2104417, "my": True, "active": True, "bid": 2.6}], False),
        ({"mon_container": 0, "spend": 1}, [{"offer_id": 2104417, "my": True, "active": False, "bid": 2.6}], False),
        ({"mon_container": 0, "spend": 1}, [{"offer_id": 9, "my": True, "active": True, "bid": 2.6}], False),
        ({"mon_container": 0, "spend": 0}, [{"offer_id": 9, "my": False, "active": True, "bid": 9}], True),
        ({"mon_container": 0, "spend": 1}, [{"offer_id": 9, "my": False, "active": True, "bid": 9}], False),
        ({"mon_container": 2, "spend": 0}, [{"offer_id": 2104417, "my": True, "active": False, "bid": 2.6}], False),
    ],
)
async def test_a_listed_spot_order_waits_unless_it_holds_its_machine(
    fake: Any, samples: Any, changes: dict[str, Any], bids: list[dict[str, Any]], waiting: bool
) -> None:
    fake.orders(samples.order(spot=True, **changes)).auction(104512, *bids)
    (rental,) = await fake.provider().rentals()
    assert (rental.waiting, rental.up) == (waiting, changes["mon_container"] == 2)
    assert not rental.ended


async def test_an_on_demand_order_never_waits_and_asks_nothing(fake: Any, samples: Any) -> None:
    fake.orders(samples.order(mon_container=0, spend=0))
    (rental,) = await fake.provider().rentals()
    assert not rental.waiting
    assert not fake.calls("spot_marketplace")


def test_a_container_that_is_said_to_run_but_is_not_charged_waits(run_virtual: Run, fake: Any, samples: Any) -> None:
    """A listed spot order may not be running (section 10, item 15): the spend has to grow."""

    async def scenario() -> list[tuple[bool, bool]]:
        provider, seen = fake.provider(), []
        for pause, spend in ((0, 0.5), (100, 0.6), (100, 0.6), (100, 0.6)):
            await asyncio.sleep(pause)
            fake.orders(samples.order(spot=True, mon_container=2, spend=spend))
            (rental,) = await provider.rentals()
            seen.append((rental.waiting, rental.up))
        return seen

    assert STALLED_SEC > 2 * 60
    assert run_virtual(scenario()) == [(False, True), (False, True), (False, True), (True, False)]


@pytest.mark.parametrize(
    ("containers", "expected"),
    [((2, 0), [False, True]), ((0, 0, 0), [False, False, True]), ((2, 2, 0, 2), [False, False, True, False])],
)
def test_the_auctions_word_counts_beside_another_sign(
    run_virtual: Run, fake: Any, samples: Any, containers: tuple[int, ...], expected: list[bool]
) -> None:
    """A container that stopped has lost its machine at once; one that never ran only when nothing more is charged."""

    async def scenario() -> list[bool]:
        provider, seen = fake.provider(), []
        fake.auction(104512, {"offer_id": 2104417, "my": True, "active": False, "bid": 2.6})
        for container in containers:
            fake.orders(samples.order(spot=True, mon_container=container, spend=1))
            (rental,) = await provider.rentals()
            seen.append(rental.waiting)
            await asyncio.sleep(2 if 2 in containers else STALLED_SEC / 2 + 1)
        return seen

    assert run_virtual(scenario()) == expected


async def test_few_auctions_are_asked_for_in_one_listing(fake: Any, samples: Any) -> None:
    fake.orders(*(samples.order(id=n, si=n, spot=True, spend=0) for n in range(1, 30)))
    rentals = await fake.provider().rentals()
    assert all(rental.waiting for rental in rentals)
    assert len(fake.calls("spot_marketplace")) == 3


async def test_a_listing_is_whole_though_no_auction_answers(fake: Any, samples: Any) -> None:
    fake.on("spot_marketplace", httpx.ConnectError("down")).orders(samples.order(spot=True, spend=0))
    (rental,) = await fake.provider().rentals()
    assert rental.waiting


async def test_a_spot_order_is_recognised_by_its_mark(fake: Any, samples: Any) -> None:
    provider = fake.provider()
    request = samples.request(await spot_offer(provider, samples))
    ports = ["22:1733", f"{mark_of(request.token)}:1734"]
    fake.orders(samples.order(spot=True, ct=1790000060, tcp_ports=ports), samples.order(id=3, spot=True, ct=1790000060))
    claim = Claim(request.token, "104512", samples.image, samples.now_ms)
    found = [rental.order_id for rental in await provider.rentals() if provider.recognises(claim, rental)]
    assert found[0] == "2104417"
    other = replace(claim, token="another")
    assert "2104417" not in [r.order_id for r in await provider.rentals() if provider.recognises(other, r)]


@pytest.mark.parametrize(("created", "expected"), [(1789990000, 104_051), (1790000000, 4_051)])
async def test_the_creation_fee_of_an_ended_spot_order_is_owed_after_ten_minutes_of_life(
    fake: Any, samples: Any, created: int, expected: int
) -> None:
    """Minutes of waiting are not charged, so the charged minutes do not say how long it lived."""
    row = samples.order(spot=True, expired=True, price=2.88, spend=0.004001, ct=created, creation_fee=0.1, fee=0.0125)
    fake.on("my_orders", {"orders": [], "code": 0}, {"orders": [row], "code": 0})
    (rental,) = await fake.provider().rentals()
    assert rental.billed == expected


# Properties


@given(MONEY)
def test_a_bid_is_over_what_must_be_exceeded_by_little_and_short(least: Decimal) -> None:
    bid = bid_above(least)
    assert Fraction(least) * Fraction(102, 100) <= Fraction(bid) < Fraction(least) * Fraction(1022, 1000)
    assert len(bid.normalize().as_tuple().digits) <= 4


@given(price=st.integers(1, 10**9), minutes=st.integers(1, 100_000))
def test_the_planned_charge_of_a_bid_covers_its_bill(price: int, minutes: int) -> None:
    spend = Decimal((2 * price * minutes + 1440) // 2880) / 1_000_000
    planned = terms_at(Decimal(price) / 1_000_000, SPOT_FEE).charge(minutes * 60_000)
    billed = billed_micros(spend, SPOT_FEE, Decimal("0.1") if minutes > 10 else Decimal(0))
    assert -2 <= planned - billed <= 2 + minutes / 60, "rates are rounded up to whole micro-dollars an hour"


BIDS = st.lists(
    st.builds(
        Bid, st.integers(1, 9), MONEY, st.sampled_from([USD, CLORE, "x"]), active=st.booleans(), ours=st.booleans()
    ),
    max_size=6,
)


@given(BIDS, MONEY)
def test_what_must_be_exceeded_is_no_less_than_the_floor_and_any_other_bid(bids: list[Bid], floor: Decimal) -> None:
    rates = {USD: Decimal(1), CLORE: Decimal("0.00125")}
    auction = Auction({USD: floor}, rates, tuple(bids))
    least = auction.least(USD)
    assert least is not None
    others = [bid.amount * rates[bid.currency] for bid in bids if not bid.ours and bid.currency in rates]
    assert least == max([floor, *others])
    assert auction.least("bitcoin") is None


ODD = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["market", "offers", "server", "exists", "bid", "my", "min_pricing", "currency", USD]),
            inner,
        )
    ),
    max_leaves=20,
)


@given(ODD)
@settings(max_examples=150, deadline=None)
def test_no_reply_breaks_the_reading_of_an_auction(body: Any) -> None:
    found = parse_auction(body if isinstance(body, dict) else {"market": body})
    assert found is None or (found.least(USD) or 1) > 0
