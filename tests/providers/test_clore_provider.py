"""What CloreProvider does beyond the quirks: guards before a create, releases, ended orders, the market's cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from gpuscale_tui.model.offers import Market
from gpuscale_tui.providers.base import Accepted, ProviderError, RentRefused, Unknown


async def one_offer(provider: Any, samples: Any) -> Any:
    (offer,) = (await provider.offers(samples.need())).offers
    return offer


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_rate": 196_874}, "price"),
        ({"image": "x y"}, "image"),
        ({"image": "büld"}, "image"),
        ({"image": ""}, "image"),
        ({"public_key": "ssh-ed25519 AAAA\nssh-rsa BBBB"}, "public key"),
        ({"public_key": "x" * 3073}, "public key"),
        ({"public_key": ""}, "public key"),
    ],
)
async def test_a_request_that_must_not_be_sent_is_refused_before_any_call(
    fake: Any, samples: Any, changes: dict[str, Any], says: str
) -> None:
    provider = fake.provider()
    outcome = await provider.rent(samples.request(await one_offer(provider, samples), **changes))
    assert isinstance(outcome, RentRefused)
    assert says in outcome.reason
    assert not fake.calls("create_order")


@pytest.mark.parametrize("quote", ["", "{}", "[]", "null", '{"price":"1","currency":"USD-Blockchain","usd":"0"}', "{"])
async def test_an_offer_of_somebody_else_is_refused(fake: Any, samples: Any, quote: str) -> None:
    from dataclasses import replace

    provider = fake.provider()
    offer = replace(await one_offer(provider, samples), quote=quote)
    assert isinstance(await provider.rent(samples.request(offer)), RentRefused)
    assert not fake.calls("create_order")


async def test_a_doctored_rate_does_not_get_past_the_price_check(fake: Any, samples: Any) -> None:
    from dataclasses import replace

    from gpuscale_tui.model.money import Terms

    provider = fake.provider()
    cheap = replace(await one_offer(provider, samples), terms=Terms(rate=1))
    assert isinstance(await provider.rent(samples.request(cheap)), RentRefused)


async def test_the_terms_are_those_of_the_marketplace(fake: Any, samples: Any) -> None:
    terms = (await one_offer(fake.provider(), samples)).terms
    assert (terms.rate, terms.unit_ms, terms.creation_fee, terms.creation_fee_after_ms) == (
        196_875, 60_000, 100_000, 600_000,
    )  # fmt: skip
    assert terms.charge(600_000) == 32_812
    assert terms.charge(600_001) == 36_094 + 100_000


async def test_every_reason_is_counted(fake: Any, samples: Any) -> None:
    fake.market(
        samples.server(id=1),
        samples.server(id=2, rented=True),
        samples.server(id=3, rented=True),
        samples.server(id=4, allowed_coins=[]),
        samples.server(id=5, partial_gpu_rental={"total_gpus": 8, "available_gpus": 3}),
        samples.server(id=6, gpu_array=[" RTX 4090"] * 2, specs__gpu="2x NVIDIA GeForce RTX 4090"),
        samples.server(id=7, gpu_array=[" RTX 3090"], specs__gpu="1x NVIDIA GeForce RTX 3090"),
        {"id": "?"},
    )
    survey = await fake.provider().offers(samples.need())
    assert [offer.server_id for offer in survey.offers] == ["1", "6"], "more GPUs than needed serve too"
    assert survey.rejected == {"rented": 2, "not for USD-Blockchain": 1, "partly rented": 1}
    assert (survey.unreadable, survey.nearest) == (1, ())
    four = await fake.provider().offers(samples.need(gpu_count=4))
    assert four.rejected == {"1 GPU, not 4": 5, "2 GPUs, not 4": 1}


async def test_without_a_gpu_any_machine_will_do(fake: Any, samples: Any) -> None:
    fake.market(samples.server(id=1), samples.server(id=2, gpu_array=[" RTX 3090"] * 4, specs__gpu=None))
    survey = await fake.provider().offers(samples.need(None, 0))
    assert {offer.server_id for offer in survey.offers} == {"1", "2"}


async def test_a_need_of_another_provider_gets_nothing(fake: Any, samples: Any) -> None:
    provider = fake.provider()
    assert (await provider.offers(samples.need(provider="ssh"))).offers == ()
    assert len((await provider.offers(samples.need(provider="clore", market=Market.ON_DEMAND))).offers) == 1


async def test_release_is_one_cancel(fake: Any) -> None:
    await fake.provider().release("2104417")
    assert fake.sent("cancel_order") == {"id": 2104417}


@pytest.mark.parametrize("error", ["order_not_found", "order-does-not-exist", "already-cancelled", "order_expired"])
async def test_releasing_what_is_gone_is_fine(fake: Any, error: str) -> None:
    fake.on("cancel_order", httpx.Response(200, json={"code": 6, "error": error}))
    await fake.provider().release("1")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500, json={"code": 1}),
        httpx.Response(429, json={"code": 5}),
        httpx.Response(200, json={"code": 6, "error": "try-later"}),
        httpx.Response(200, content=b""),
        httpx.ReadTimeout("lost"),
        httpx.ConnectError("refused"),
    ],
)
async def test_a_release_that_did_not_work_says_so(fake: Any, answer: Any) -> None:
    with pytest.raises(ProviderError):
        await fake.on("cancel_order", answer).provider().release("1")


@pytest.mark.parametrize("order_id", ["", "x", "-1", "1 or 2", "i-0abc"])
async def test_an_id_that_is_none_of_clores_cancels_nothing(fake: Any, order_id: str) -> None:
    with pytest.raises(ProviderError):
        await fake.provider().release(order_id)
    assert not fake.calls("cancel_order")


def orders(*rows: Any) -> dict[str, Any]:
    return {"orders": list(rows), "code": 0}


async def test_ended_orders_are_listed_with_their_final_bill(fake: Any, samples: Any) -> None:
    ended = samples.order(id=9, expired=True, spend=1.87, fee=0.05, price=4.5, pub_cluster=None, tcp_ports=None)
    fake.on("my_orders", orders(samples.order(id=8)), orders(samples.order(id=8), ended))
    live, gone = await fake.provider().rentals()
    assert (live.order_id, live.ended) == ("8", False)
    assert (gone.order_id, gone.ended, gone.up, gone.billed) == ("9", True, False, 1_870_000 + 93_500 + 100_000)


async def test_the_live_list_is_the_authority_on_what_lives(fake: Any, samples: Any) -> None:
    row = samples.order(id=8)
    fake.on("my_orders", orders(row), orders(row | {"expired": True}, samples.order(id=10)))
    rentals = await fake.provider().rentals()
    assert [(rental.order_id, rental.ended) for rental in rentals] == [("8", False)], "10 may just be appearing"


async def test_orders_that_ended_long_ago_are_left_out(fake: Any, samples: Any) -> None:
    week, begun = 7 * 86_400, samples.now_ms // 1000
    rows = [
        samples.order(id=1, expired=True, ct=begun - week - 600, spend=0),
        samples.order(id=2, expired=True, ct=begun - week - 600, spend=4.5),  # which is the price of a whole day
        samples.order(id=3, expired=True, ct=begun - week + 600, spend=0),
    ]
    fake.on("my_orders", orders(), orders(*rows))
    assert [rental.order_id for rental in await fake.provider().rentals()] == ["2", "3"]


async def test_a_failing_list_of_ended_orders_harms_nothing(fake: Any, samples: Any) -> None:
    fake.on("my_orders", orders(samples.order()), httpx.Response(500, json={"code": 1}))
    assert len(await fake.provider().rentals()) == 1


async def test_the_ended_are_asked_for_when_a_live_order_vanishes(fake: Any, samples: Any) -> None:
    row, ended = samples.order(id=8), samples.order(id=8, expired=True, spend=0.5)
    fake.on("my_orders", orders(row), orders(row), orders(row), orders(), orders(), orders(), orders(ended))
    provider = fake.provider()
    listings = [await provider.rentals() for _ in range(4)]
    assert [[rental.ended for rental in listing] for listing in listings] == [[False], [False], [], [True]]
    flags = [request.url.query for request in fake.calls("my_orders")]
    asked = b"return_completed=true"
    assert flags == [b"", asked, b"", b"", asked, b"", asked], "not with every look: each call costs a second"


async def test_a_vanished_order_that_never_shows_as_ended_is_not_asked_for_for_ever(fake: Any, samples: Any) -> None:
    fake.on("my_orders", orders(samples.order()), orders(samples.order()), orders())
    provider = fake.provider()
    for _ in range(20):
        await provider.rentals()
    asked = [request for request in fake.calls("my_orders") if request.url.query]
    assert 2 <= len(asked) <= 8


@pytest.mark.parametrize(
    ("age_sec", "minutes", "billed"),
    [(60, 1, 3_281), (600, 10, 32_813), (601, 11, 136_094), (900, 3, 109_844), (630, 3, 9_844)],
)
async def test_the_creation_fee_falls_due_after_ten_minutes(
    fake: Any, samples: Any, age_sec: int, minutes: int, billed: int
) -> None:
    spend = 4.5 * minutes / 1440
    fake.orders(samples.order(ct=samples.now_ms // 1000 - age_sec, spend=spend))
    (rental,) = await fake.provider().rentals()
    assert rental.billed == billed


def test_the_market_is_kept_and_then_asked_for_again(
    run_virtual: Callable[[Coroutine[Any, Any, Any]], Any], fake: Any, samples: Any
) -> None:
    async def scenario() -> list[int]:
        provider = fake.provider(cache_sec=60.0)
        counts = []
        for pause in (0, 59, 0.5, 0.6, 61):
            await asyncio.sleep(pause)
            await provider.offers(samples.need())
            counts.append(len(fake.calls("marketplace")))
        return counts

    assert run_virtual(scenario()) == [1, 1, 1, 2, 3]


def test_a_failing_market_is_not_asked_again_by_each_of_many_needs(
    run_virtual: Callable[[Coroutine[Any, Any, Any]], Any], fake: Any, samples: Any
) -> None:
    async def scenario() -> None:
        fake.on("marketplace", httpx.Response(500, json={"code": 1}), orders() | {"servers": [samples.server()]})
        provider = fake.provider()
        for _ in range(10):
            with pytest.raises(ProviderError):
                await provider.offers(samples.need())
        assert len(fake.calls("marketplace")) == 1
        await asyncio.sleep(6)
        assert (await provider.offers(samples.need())).offers

    run_virtual(scenario())


def test_an_ordered_server_is_not_offered_until_a_new_market_says_so(
    run_virtual: Callable[[Coroutine[Any, Any, Any]], Any], fake: Any, samples: Any
) -> None:
    async def scenario() -> None:
        provider = fake.provider(cache_sec=60.0)
        offer = await one_offer(provider, samples)
        assert await provider.rent(samples.request(offer)) == Accepted()
        assert (await provider.offers(samples.need())).rejected == {"rented": 1}
        await asyncio.sleep(61)
        assert len((await provider.offers(samples.need())).offers) == 1

    run_virtual(scenario())


def test_a_call_that_never_gets_its_turn_ends_and_nothing_was_sent(
    run_virtual: Callable[[Coroutine[Any, Any, Any]], Any], fake: Any, samples: Any
) -> None:
    async def scenario() -> None:
        provider = fake.provider()
        offer = await one_offer(provider, samples)
        refusal = httpx.Response(429, json={"code": 5}, headers={"Retry-After": "3600"})
        fake.on("my_orders", refusal)
        with pytest.raises(ProviderError):
            await provider.rentals()
        assert isinstance(await provider.rent(samples.request(offer)), RentRefused)
        assert not fake.calls("create_order")

    run_virtual(scenario())


async def test_a_cancelled_rent_leaves_the_server_open_to_a_later_order(fake: Any, samples: Any) -> None:
    provider = fake.on("create_order", asyncio.Event(), {"code": 0}).provider()
    offer = await one_offer(provider, samples)
    fake.arrived.clear()
    renting = asyncio.create_task(provider.rent(samples.request(offer)))
    async with asyncio.timeout(10):
        await fake.arrived.wait()
    renting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await renting
    assert await provider.rent(samples.request(offer, token="t-2")) == Accepted()


async def test_the_program_names_itself_and_follows_no_redirect(fake: Any, samples: Any) -> None:
    fake.on("create_order", httpx.Response(307, headers={"Location": "https://elsewhere.test/"}))
    provider = fake.provider()
    outcome = await provider.rent(samples.request(await one_offer(provider, samples)))
    assert isinstance(outcome, Unknown)
    assert {request.url.host for request in fake.requests} == {"clore.test"}
    assert all(request.headers["User-Agent"].startswith("gpuscale-tui/") for request in fake.requests)


def test_calls_are_spaced_and_giving_back_goes_first(
    run_virtual: Callable[[Coroutine[Any, Any, Any]], Any], fake: Any, samples: Any
) -> None:
    async def scenario() -> list[tuple[str, float]]:
        fake.market(samples.server(id=1), samples.server(id=2))
        provider = fake.provider(intervals=(1.1, 5.5))
        first, second = (await provider.offers(samples.need())).offers
        async with asyncio.TaskGroup() as group:
            for call in (
                provider.wallet_balance(),
                provider.rent(samples.request(first)),
                provider.rent(samples.request(second)),
                provider.release("7"),
            ):
                group.create_task(call)
        return list(fake.times)

    fake.on("wallets", {"wallets": [], "code": 0})
    assert [(call, pytest.approx(time)) for call, time in run_virtual(scenario())] == [
        ("marketplace", 0), ("cancel_order", 1.1), ("create_order", 2.2), ("wallets", 3.3), ("create_order", 7.7),
    ]  # fmt: skip
