"""One test or more for each item of the Clore API reference, section 10 ("Quirks a client must survive")."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import traceback
from typing import Any

import httpx
import pytest

from gpuscale_tui.model.offers import Survey
from gpuscale_tui.providers.base import Accepted, Claim, CredentialsRefused, ProviderError, RentRefused, Unknown
from gpuscale_tui.providers.clore.api import CloreApi
from gpuscale_tui.providers.clore.limiter import Limiter
from gpuscale_tui.providers.clore.orders import mark_of
from gpuscale_tui.providers.clore.provider import CloreProvider
from gpuscale_tui.providers.clore.reply import CloreRefusal

HTML = httpx.Response(502, html="<html><h1>Bad gateway</h1></html>")
EMPTY = httpx.Response(200, content=b"")
CLOUDFLARE = httpx.Response(403, text="error code: 1010")


def body(status: int, /, **fields: Any) -> httpx.Response:
    return httpx.Response(status, json=fields)


async def rent_one(fake: Any, samples: Any, provider: CloreProvider | None = None, **changes: Any) -> Any:
    """Rent the only offer of the fake market."""
    provider = provider or fake.provider()
    (offer,) = (await provider.offers(samples.need())).offers
    return await provider.rent(samples.request(offer, **changes))


# 1. HTTP 200 with code != 0, HTTP 500 with a business error, 429, plain text, HTML, nothing


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (body(200, code=6, error="some-trouble"), CloreRefusal, "some_trouble"),
        (body(500, code=6, error="other_trouble"), CloreRefusal, "other_trouble"),
        (body(500, code=1), CloreRefusal, "database error"),
        (body(429, code=5), CloreRefusal, "too many requests"),
        (body(200, code=5), CloreRefusal, "too many requests"),
        (body(401, code=3), CredentialsRefused, "API key"),
        (body(200, code=3), CredentialsRefused, "API key"),
        (CLOUDFLARE, ProviderError, "front door"),
        (HTML, ProviderError, "HTTP 502"),
        (EMPTY, ProviderError, "HTTP 200 without a readable answer"),
        (body(500, code=0, orders=[]), ProviderError, "HTTP 500"),
    ],
)
async def test_quirk_01_a_read_is_judged_by_its_body_and_an_error_is_never_an_empty_list(
    fake: Any, answer: httpx.Response, error: type[ProviderError], says: str
) -> None:
    with pytest.raises(error, match=says):
        await fake.on("my_orders", answer).provider().rentals()


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (body(200, code=6, error="server-already-rented", status="error"), RentRefused("somebody", True)),
        (body(500, code=6, error="currency-not-allowed"), RentRefused("currency", True)),
        (body(200, code=6, error="not_enough_balance"), RentRefused("balance")),
        (body(200, code=6, error="NOT-ENOUGH-BALANCE"), RentRefused("balance")),
        (body(200, code=6, error="server_offline"), RentRefused("offline", True)),
        (body(200, code=2), RentRefused("invalid input")),
        (body(401, code=3), RentRefused("API key")),
        (body(429, code=5), RentRefused("rate limit")),
        (body(200, code=5), RentRefused("rate limit")),
        (httpx.Response(429, text="slow down"), RentRefused("rate limit")),
        (body(500, code=1), Unknown("database error")),
        (body(200, code=6, error="never-heard-of"), Unknown("never_heard_of")),
        (body(200, code=77), Unknown("77")),
        (body(500, code=0), Unknown("HTTP 500")),
        (CLOUDFLARE, Unknown("HTTP 403")),
        (HTML, Unknown("HTTP 502")),
        (EMPTY, Unknown("HTTP 200")),
    ],
)
async def test_quirk_01_a_create_is_refused_only_where_that_is_certain(
    fake: Any, samples: Any, answer: httpx.Response, outcome: RentRefused | Unknown
) -> None:
    fake.on("create_order", answer)
    found = await rent_one(fake, samples)
    assert type(found) is type(outcome)
    assert outcome.reason in found.reason
    assert getattr(found, "pause_server", None) == getattr(outcome, "pause_server", None)
    assert len(fake.calls("create_order")) == 1


async def test_quirk_01_retry_after_is_passed_on(fake: Any) -> None:
    fake.on("my_orders", httpx.Response(429, json={"code": 5}, headers={"Retry-After": "7"}))
    with pytest.raises(ProviderError) as caught:
        await fake.provider().rentals()
    assert caught.value.retry_after_sec == 7


# 2. `code` may be missing, or a text


async def test_quirk_02_a_code_may_be_a_text(fake: Any, samples: Any) -> None:
    fake.on("my_orders", {"orders": [samples.order(si=9)], "code": "0"}).on("create_order", {"code": "0"})
    provider = fake.provider()
    assert len(await provider.rentals()) == 1
    assert await rent_one(fake, samples, provider) == Accepted()


@pytest.mark.parametrize("code", [None, True, "", "zero", [], 0.5])
async def test_quirk_02_without_a_readable_code_nothing_is_concluded(fake: Any, samples: Any, code: object) -> None:
    fake.on("my_orders", {"orders": [], "code": code}).on("create_order", {"code": code})
    provider = fake.provider()
    with pytest.raises(ProviderError):
        await provider.rentals()
    assert isinstance(await rent_one(fake, samples, provider), Unknown)


# 3. create_order returns no id; a timeout, a 5xx or code 1 does not mean "no order"


async def test_quirk_03_success_names_no_order(fake: Any, samples: Any) -> None:
    assert await rent_one(fake, samples) == Accepted(None)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ReadTimeout("no answer"),
        httpx.WriteTimeout("half sent"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("closed without an answer"),
        body(503),
    ],
)
async def test_quirk_03_a_lost_reply_is_unknown_and_never_repeated(fake: Any, samples: Any, answer: Any) -> None:
    fake.on("create_order", answer)
    assert isinstance(await rent_one(fake, samples), Unknown)
    assert len(fake.calls("create_order")) == 1


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ConnectTimeout("no route")])
async def test_quirk_03_a_connection_never_made_is_a_certain_no(fake: Any, samples: Any, error: Exception) -> None:
    fake.on("create_order", error)
    provider = fake.provider()
    assert isinstance(await rent_one(fake, samples, provider), RentRefused)
    assert (await provider.offers(samples.need())).offers, "nothing is known against the server"


async def test_quirk_03_one_create_at_a_time_for_a_server(fake: Any, samples: Any) -> None:
    provider = fake.provider()
    (offer,) = (await provider.offers(samples.need())).offers
    requests = [samples.request(offer, token=f"t-{number}") for number in range(3)]
    outcomes = await asyncio.gather(*map(provider.rent, requests))
    assert [type(outcome) for outcome in outcomes] == [Accepted, RentRefused, RentRefused]
    assert len(fake.calls("create_order")) == 1


# 4. my_orders lags; only a whole `code: 0` reply counts


async def test_quirk_04_the_lag_is_stated_and_an_empty_list_is_only_that(fake: Any) -> None:
    provider = fake.provider()
    assert provider.facts.listing_lag_ms >= 60_000
    assert await provider.rentals() == ()


async def test_quirk_04_a_live_order_without_an_id_makes_the_list_incomplete(fake: Any, samples: Any) -> None:
    fake.orders(samples.order(), samples.order(id=None))
    with pytest.raises(ProviderError, match="not whole"):
        await fake.provider().rentals()


# 5. Numbers in every shape, keys missing


async def test_quirk_05_numbers_may_be_texts(fake: Any, samples: Any) -> None:
    fake.market(
        samples.server(
            id="104512", mrl="168", reliability="0.99", price__on_demand={"USD-Blockchain": "4.50"}, price__usd=None
        )
    )
    fake.orders(samples.order(id="7", si="104512", ct="1790000000", mon_container="2", spend="0.003125"))
    provider = fake.provider()
    (offer,) = (await provider.offers(samples.need())).offers
    (rental,) = await provider.rentals()
    assert (offer.server_id, offer.rate, offer.max_hours, offer.reliability) == ("104512", 196_875, 168.0, 0.99)
    assert (rental.order_id, rental.server_id, rental.up, rental.billed) == ("7", "104512", True, 3_281)


@pytest.mark.parametrize(
    ("said", "rating"),
    [
        ({"avg": 4.64, "cnt": 44}, 4.64), ({"avg": "4.5", "cnt": "5"}, 4.5), ({"avg": 1.0, "cnt": 4}, None),
        ({"avg": 9, "cnt": 99}, None), ({"avg": -1, "cnt": 99}, None), ({}, None), (None, None), ("4.6", None),
    ],
)  # fmt: skip
async def test_a_rating_counts_where_enough_renters_gave_one(
    fake: Any, samples: Any, said: object, rating: float | None
) -> None:
    fake.market(samples.server(rating=said))
    (offer,) = (await fake.provider().offers(samples.need())).offers
    assert offer.rating == rating


async def test_quirk_05_missing_keys_are_normal(fake: Any, samples: Any) -> None:
    bare = samples.server(
        price__usd=None, price__spot=None, specs__net=None, specs__ram=None, reliability=None, cuda_version=None
    )
    fake.market(bare)
    (offer,) = (await fake.provider().offers(samples.need())).offers
    assert (offer.country, offer.reliability, offer.cuda_version, offer.ram_gb) == (None, None, None, None)
    fake.orders({"id": 5})
    (rental,) = await fake.provider().rentals()
    assert (rental.order_id, rental.server_id, rental.endpoint, rental.billed) == ("5", "", None, None)


# 6. Each row on its own; an unknown envelope is an error


async def test_quirk_06_bad_servers_are_skipped_and_counted(fake: Any, samples: Any) -> None:
    fake.market(None, "x", [], {"id": None}, samples.server(), {"id": True})
    survey = await fake.provider().offers(samples.need())
    assert len(survey.offers) == 1
    assert survey.unreadable == 5


@pytest.mark.parametrize(
    "envelope", [{"code": 0}, {"code": 0, "servers": {}}, {"code": 0, "offers": []}, {"code": 0, "servers": [{"x": 1}]}]
)
async def test_quirk_06_an_unknown_envelope_is_an_error_not_an_empty_market(
    fake: Any, samples: Any, envelope: Any
) -> None:
    with pytest.raises(ProviderError):
        await fake.on("marketplace", envelope).provider().offers(samples.need())


@pytest.mark.parametrize("envelope", [{"code": 0}, {"code": 0, "orders": {}}, {"code": 0, "orders": None}])
async def test_quirk_06_an_unknown_envelope_is_an_error_not_an_empty_account(fake: Any, envelope: Any) -> None:
    with pytest.raises(ProviderError):
        await fake.on("my_orders", envelope).provider().rentals()


async def test_quirk_06_an_odd_order_does_not_hide_the_others(fake: Any, samples: Any) -> None:
    fake.orders({"id": 1, "price": "?", "pub_cluster": 7, "tcp_ports": "22", "ct": -1}, samples.order())
    assert [rental.order_id for rental in await fake.provider().rentals()] == ["1", "2104417"]


# 7. GPU names: exact models


GPUS = [
    ("1x NVIDIA GeForce RTX 4070", [" RTX 4070"]),
    ("1x NVIDIA GeForce RTX 4070 Ti", [" RTX 4070 Ti"]),
    ("1x NVIDIA GeForce RTX 4070 Ti SUPER", [" RTX 4070 Ti SUPER"]),
    ("1x NVIDIA GeForce RTX 5090", [" RTX 5090"]),
    ("1x NVIDIA GeForce RTX 5090 Laptop GPU", [" RTX 5090 Laptop GPU"]),
    ("1x NVIDIA GeForce RTX 5090 Laptop GPU", [" RTX 5090"]),
    ("8x NVIDIA H100 80GB HBM3", [" H100 80GB HBM3"] * 8),
    ("6x Mixed GPUs", [" RTX 4090"] * 3 + [" RTX 3080"] * 3),
    ("6x Mixed GPUs", [" RTX 4090"] * 6),
    ("6x Mixed GPUs", [" RTX 4070 Ti SUPER"] * 6),
]


@pytest.mark.parametrize(
    ("wanted", "count", "ids"),
    [
        ("RTX 4070", 1, {"1"}),
        ("rtx 4070 ti", 1, {"2"}),
        ("RTX 4070 Ti SUPER", 1, {"3"}),
        ("RTX 5090", 1, {"4"}),
        ("RTX 5090 Laptop GPU", 1, {"5", "6"}),
        ("H100", 8, {"7"}),
        ("RTX 4090", 6, set()),
    ],
)
async def test_quirk_07_models_are_matched_exactly(
    fake: Any, samples: Any, wanted: str, count: int, ids: set[str]
) -> None:
    fake.market(
        *(samples.server(id=n, specs__gpu=name, gpu_array=cards) for n, (name, cards) in enumerate(GPUS, start=1))
    )
    survey = await fake.provider().offers(samples.need(wanted, count))
    assert {offer.server_id for offer in survey.offers} == ids


async def test_quirk_07_a_model_that_is_not_there_brings_the_nearest_names(fake: Any, samples: Any) -> None:
    survey = await fake.provider().offers(samples.need("RTX 4091"))
    assert survey == Survey((), {}, ("RTX 4090",), 0)


# 8. GPU count; the price is for all of them


async def test_quirk_08_the_count_is_that_of_the_list_else_of_the_name(fake: Any, samples: Any) -> None:
    fake.market(
        samples.server(id=1, specs__gpu="2x NVIDIA GeForce RTX 4090", gpu_array=[" RTX 4090", " RTX 4090"]),
        samples.server(id=2, specs__gpu="2x NVIDIA GeForce RTX 4090", gpu_array=None),
        samples.server(id=3, specs__gpu="2x NVIDIA GeForce RTX 4090", gpu_array=[[" RTX 4090", " RTX 4090"]]),
        samples.server(id=4),
    )
    survey = await fake.provider().offers(samples.need(gpu_count=2))
    assert {offer.server_id for offer in survey.offers} == {"1", "2", "3"}
    assert {offer.rate_per_gpu for offer in survey.offers} == {98_438}
    assert survey.rejected == {"1 GPU, not 2": 1}


# 9. gpuram is rounded down


async def test_quirk_09_the_rounded_memory_decides_nothing_here(fake: Any, samples: Any) -> None:
    (offer,) = (await fake.provider().offers(samples.need())).offers
    assert offer.gpu_memory_gb == 23


# 10. mrl: hours in the market, seconds in an order


async def test_quirk_10_mrl_is_hours_here_and_seconds_there(fake: Any, samples: Any) -> None:
    fake.orders(samples.order(mrl=604800, ct=1790000000))
    provider = fake.provider()
    (offer,) = (await provider.offers(samples.need())).offers
    (rental,) = await provider.rentals()
    assert offer.max_hours == 168
    assert rental.expires_at == 1_790_000_000_000 + 168 * 3_600_000


# 11. `rented: false` promises nothing


async def test_quirk_11_a_lost_race_pauses_the_server_and_it_is_not_offered_again(fake: Any, samples: Any) -> None:
    fake.on("create_order", body(200, code=6, error="server-already-rented"))
    provider = fake.provider()
    outcome = await rent_one(fake, samples, provider)
    assert outcome.pause_server
    assert (await provider.offers(samples.need())).rejected == {"rented": 1}


@pytest.mark.parametrize("rented", [True, 1, "true", "maybe", None])
async def test_quirk_11_a_server_that_does_not_say_it_is_free_is_not_offered(
    fake: Any, samples: Any, rented: object
) -> None:
    survey = await fake.market(samples.server(rented=rented)).provider().offers(samples.need())
    assert survey == Survey((), {"rented": 1})


# 12. Zero or absent means not offered


@pytest.mark.parametrize("price", [0, 0.0, None, "", -1, "free"])
async def test_quirk_12_no_price_is_no_offer(fake: Any, samples: Any, price: object) -> None:
    server = samples.server(**{"price__on_demand__USD-Blockchain": price})
    survey = await fake.market(server).provider().offers(samples.need())
    assert survey.rejected == {"not for USD-Blockchain": 1}


async def test_quirk_12_a_zero_spot_equivalent_says_nothing(fake: Any, samples: Any) -> None:
    survey = await fake.market(samples.server(price__usd__spot=0)).provider().offers(samples.need())
    assert len(survey.offers) == 1


# 13. allowed_coins as well as the price; prices far apart


async def test_quirk_13_a_coin_must_be_allowed_as_well_as_priced(fake: Any, samples: Any) -> None:
    fake.market(samples.server(allowed_coins=["bitcoin"]))
    assert (await fake.provider().offers(samples.need())).rejected == {"not for USD-Blockchain": 1}
    assert len((await fake.provider(currency="bitcoin").offers(samples.need())).offers) == 1


@pytest.mark.parametrize(("dollars", "offered"), [(1.61, False), (2.7, False), (3.2, True), (5.6, True), (6.0, False)])
async def test_quirk_13_a_price_far_from_its_equivalents_is_refused(
    fake: Any, samples: Any, dollars: float, offered: bool
) -> None:
    usd = {"on_demand_btc": 4.0, "on_demand_clore": 4.01, "on_demand_usd": dollars, "spot": 0}
    server = samples.server(price__usd=usd, **{"price__on_demand__USD-Blockchain": dollars})
    survey = await fake.market(server).provider().offers(samples.need())
    assert bool(survey.offers) is offered
    assert offered or survey.rejected == {"prices in different coins far apart": 1}


async def test_quirk_13_a_coin_is_priced_by_its_dollar_equivalent(fake: Any, samples: Any) -> None:
    provider = fake.provider(currency="CLORE-Blockchain")
    (offer,) = (await provider.offers(samples.need())).offers
    assert offer.rate == 196_880, "4.5001 dollars a day"
    await provider.rent(samples.request(offer))
    assert fake.sent("create_order")["currency"] == "CLORE-Blockchain"
    assert fake.sent("create_order")["required_price"] == 3600.5


async def test_quirk_13_an_order_in_a_coin_is_valued_at_the_market_rate(fake: Any, samples: Any) -> None:
    fake.orders(samples.order(currency="CLORE-Blockchain", price=3600.5, spend=3600.5))
    provider = fake.provider()
    (rental,) = await provider.rentals()
    assert (rental.rate, rental.billed) == (None, None), "no rate is known yet"
    await provider.offers(samples.need())
    (rental,) = await provider.rentals()
    assert (rental.rate, rental.billed) == (196_880, 4_725_105 + 100_000)


# 14. online and an address do not mean that the container runs


@pytest.mark.parametrize(("container", "up"), [(0, False), (1, False), (2, True), (None, False), ("2", True)])
async def test_quirk_14_only_container_state_two_is_up(fake: Any, samples: Any, container: object, up: bool) -> None:
    fake.orders(samples.order(mon_container=container, online=True))
    (rental,) = await fake.provider().rentals()
    assert rental.up is up
    assert rental.endpoint is not None
    assert (rental.endpoint.host, rental.endpoint.port) == ("n1.de.clorecloud.net", 1733)


# 15. A listed spot order may not be running


async def test_quirk_15_a_queued_spot_order_is_listed_but_not_up_and_costs_nothing(fake: Any, samples: Any) -> None:
    fake.orders(samples.order(spot=True, price=2.4, spend=0, mon_container=0, ct=1790000050))
    (rental,) = await fake.provider().rentals()
    assert (rental.up, rental.billed, rental.rate, rental.waiting) == (False, 0, 101_250, True)


# 16. env: plain ASCII, no `&`


@pytest.mark.parametrize("token", ["0f9a-1", "a&b", "tök", "x" * 2000, "`id`", 'a"b'])
async def test_quirk_16_env_is_plain(fake: Any, samples: Any, token: str) -> None:
    await rent_one(fake, samples, token=token)
    env = fake.sent("create_order")["env"]
    assert set(env) <= {"GPUSCALE_ORDER"}
    for value in env.values():
        assert value == token
        assert value.isascii()
        assert not set(value) & set("&<>|;`\\\"' ")


async def test_quirk_16_the_order_says_all_that_it_must(fake: Any, samples: Any) -> None:
    await rent_one(fake, samples, token="t-1", image="docker.io/pytorch/pytorch:2.4")
    sent = fake.sent("create_order")
    command = sent.pop("command")
    assert sent == {
        "renting_server": 104512,
        "type": "on-demand",
        "currency": "USD-Blockchain",
        "image": "pytorch/pytorch:2.4",
        "ports": {"22": "tcp", str(mark_of("t-1")): "tcp"},
        "env": {"GPUSCALE_ORDER": "t-1"},
        "ssh_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0a gpuscale",
        "required_price": 4.5,
        "autossh_entrypoint": True,
    }
    assert command.startswith("#!/bin/sh\n")


# 17. Secrets are never logged


@pytest.mark.parametrize(
    "answer",
    [
        body(200, code=0, orders=[]),
        body(500, code=6, error="bad auth K3Y_0123456789ABCDEF0123456789AB here"),
        httpx.ConnectError("cannot send auth: k3y-0123456789abcdef0123456789ab"),
        httpx.ReadError("broken"),
        HTML,
    ],
)
async def test_quirk_17_the_key_is_in_no_log_and_no_error(
    fake: Any, samples: Any, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts = []
    try:
        await fake.on("my_orders", answer).provider().rentals()
    except ProviderError as error:
        texts += [str(error), repr(error)]
        if not isinstance(answer, httpx.ConnectError):  # that text is the test's own, one level down
            texts.append("".join(traceback.format_exception(error)))
    texts.append(caplog.text)
    folded = samples.key.replace("-", "_")
    assert not any(samples.key in text or folded in text.lower() for text in texts)
    assert fake.calls("my_orders")[0].headers["auth"] == samples.key, "the key did travel"


# 18. Reused relay addresses break known_hosts


async def test_quirk_18_two_orders_may_share_an_address_and_no_host_key_is_assumed(fake: Any, samples: Any) -> None:
    fake.orders(samples.order(id=1), samples.order(id=2))
    first, second = await fake.provider().rentals()
    assert first.endpoint == second.endpoint
    assert first.endpoint is not None
    assert first.endpoint.host_key is None


@pytest.mark.parametrize(
    "cluster",
    [
        ["-oProxyCommand=id"], ["a b"], ["x\n"], [""], ["a..b"], ["a/b"], ["root@h"], [7], [], None, ["h" * 254],
        ["\u202e.example"],
    ],
)  # fmt: skip
async def test_quirk_18_a_host_name_that_is_none_gives_no_address(fake: Any, samples: Any, cluster: Any) -> None:
    (rental,) = await fake.orders(samples.order(pub_cluster=cluster)).provider().rentals()
    assert rental.endpoint is None


@pytest.mark.parametrize("ports", [["22:0"], ["22:70000"], ["22"], ["22:-1"], ["x:y"], ["2222:1733"], [], None, 7])
async def test_quirk_18_a_port_that_is_none_gives_no_address(fake: Any, samples: Any, ports: Any) -> None:
    (rental,) = await fake.orders(samples.order(tcp_ports=ports)).provider().rentals()
    assert rental.endpoint is None


# 19. Bad hosts and owners


async def test_quirk_19_an_offer_names_server_and_owner_to_be_avoided(fake: Any, samples: Any) -> None:
    (offer,) = (await fake.provider().offers(samples.need())).offers
    assert (offer.server_id, offer.owner) == ("104512", "3120")


# 20. Several wallets


async def test_quirk_20_the_balance_is_that_of_the_paying_wallet(fake: Any) -> None:
    wallets = [{"name": "bitcoin", "balance": 0.5}, {"name": "USD-Blockchain", "balance": 12.5}, {"name": "x"}, None]
    provider = fake.on("wallets", {"wallets": wallets, "code": 0}).provider()
    assert str(await provider.wallet_balance()) == "12.5"
    assert str(await provider.wallet_balance("bitcoin")) == "0.5"
    assert await provider.wallet_balance("CLORE-Blockchain") is None


# 21. Countries matter


@pytest.mark.parametrize(("code", "country"), [("CZ", "CZ"), ("cn", "CN"), ("?", None), (7, None), ("\x1b[", None)])
async def test_quirk_21_an_offer_names_its_country(fake: Any, samples: Any, code: Any, country: str | None) -> None:
    (offer,) = (await fake.market(samples.server(specs__net__cc=code)).provider().offers(samples.need())).offers
    assert offer.country == country


# 22. Time-outs, and large replies


@pytest.mark.parametrize("drip", [b"", b"x-drip: 1\r\n"])
async def test_quirk_22_a_server_that_never_finishes_is_given_up_on(samples: Any, fake: Any, drip: bytes) -> None:
    (offer,) = (await fake.provider().offers(samples.need())).offers
    over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Says nothing more, or a little again and again, which no time-out of a single read notices."""
        await reader.read(1)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 0.05)
            writer.write(drip)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    provider = CloreProvider(CloreApi(samples.key, url, Limiter(0, 0), deadline_sec=0.3))
    async with asyncio.timeout(10):
        with pytest.raises(ProviderError):
            await provider.rentals()
        assert isinstance(await provider.rent(samples.request(offer)), Unknown)
    await provider.aclose()
    over.set()
    server.close()
    await server.wait_closed()


async def test_quirk_22_an_endless_reply_is_cut_off(fake: Any, samples: Any) -> None:
    huge = json.dumps({"orders": [], "code": 0, "padding": "x" * (9 * 2**20)}).encode()
    with pytest.raises(ProviderError, match="larger than 8 MiB"):
        await fake.on("my_orders", httpx.Response(200, content=huge)).provider().rentals()


async def test_quirk_22_a_large_market_is_read_once_a_minute(fake: Any, samples: Any) -> None:
    fake.market(*(samples.server(id=number) for number in range(1, 2201)))
    provider = fake.provider()
    surveys = await asyncio.gather(*(provider.offers(samples.need(gpu_count=count)) for count in (1, 2, 1)))
    assert [len(survey.offers) for survey in surveys] == [2200, 0, 2200]
    assert len(fake.calls("marketplace")) == 1


# Recognising our own orders (section 7)


@pytest.mark.parametrize(
    ("changes", "claimed", "ours"),
    [
        ({}, {}, True),
        ({"tcp_ports": ["22:1733"]}, {}, True),
        ({"tcp_ports": ["22:1733"], "expired": True}, {}, False),
        ({"expired": True}, {}, True),
        ({"tcp_ports": ["22:1733"], "ct": 1790000060 - 120}, {}, True),
        ({"tcp_ports": ["22:1733"], "ct": 1790000060 - 121}, {}, False),
        ({"tcp_ports": ["22:1733"], "ct": 1790000060 + 900}, {}, True),
        ({"tcp_ports": ["22:1733"], "ct": 1790000060 + 901}, {}, False),
        ({"ct": 1790000060 - 86_400}, {}, True),
        ({"ct": 1790000060 + 86_400}, {}, True),
        ({"ct": 1790000060 - 30 * 3600}, {}, False),
        ({"ct": 1790000060 + 30 * 3600}, {}, False),
        ({"ct": None}, {}, False),
        ({"si": 104513}, {}, False),
        ({"si": None}, {}, False),
        ({"image": "cloreai/jupyter:other"}, {}, False),
        ({"image": None}, {}, False),
        ({"tcp_ports": ["22:1733", "30001:1734"]}, {}, False),
        ({"tcp_ports": ["22:1733", f"{mark_of('t-1')}:1734", "80:1735"]}, {}, False),
        ({}, {"token": "t-2"}, False),
        ({}, {"known_orders": frozenset({"2104417"})}, False),
    ],
)
async def test_only_an_order_that_is_certainly_ours_is_recognised(
    fake: Any, samples: Any, changes: dict[str, Any], claimed: dict[str, Any], ours: bool
) -> None:
    marked = {"tcp_ports": ["22:1733", f"{mark_of('t-1')}:1734"], "ct": 1790000060}
    provider = fake.orders(samples.order(**(marked | changes))).provider()
    (rental,) = await provider.rentals()
    claim = Claim(**({"token": "t-1", "server_id": "104512", "image": samples.image, "requested_at": samples.now_ms}
                     | claimed))  # fmt: skip
    assert provider.recognises(claim, rental) is ours
