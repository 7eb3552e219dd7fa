"""Properties: prices never under the true one, fuzzed bodies never a crash and never an invented offer."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.providers.base import Accepted, ProviderError, RentRefused, Unknown
from gpuscale_tui.providers.clore import coerce
from gpuscale_tui.providers.clore.orders import mark_of
from gpuscale_tui.providers.clore.pricing import billed_micros, hourly_rate, minutes_spent, terms_at
from gpuscale_tui.providers.clore.reply import read_reply

PRICES = st.decimals(min_value="0.000001", max_value="100000", allow_nan=False, places=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
KEYS = st.sampled_from(
    ["servers", "orders", "code", "error", "id", "price", "rented", "on_demand", "USD-Blockchain", "specs", "gpu",
     "gpu_array", "allowed_coins", "mrl", "net", "tcp_ports", "pub_cluster", "ct", "si", "spend", "usd", "expired"]
)  # fmt: skip


def json_of(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Nested values with many familiar keys and values among them."""
    familiar = st.sampled_from([0, " RTX 4090", "1x NVIDIA GeForce RTX 4090", "USD-Blockchain", "0", "22:1"])
    return st.recursive(
        scalars | familiar,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=6),
        max_leaves=25,
    )


JSON = json_of(SCALARS | st.floats())
VALID_JSON = json_of(SCALARS | st.floats(allow_nan=False, allow_infinity=False))


@given(PRICES)
def test_an_hour_is_never_under_the_true_price_and_less_than_a_micro_over(price: Decimal) -> None:
    true = Fraction(price) * Fraction(105, 100) / 24 * 1_000_000
    assert 0 <= hourly_rate(price) - true < 1


@given(st.floats(min_value=1e-6, max_value=1e6))
def test_a_float_means_its_shortest_decimal(price: float) -> None:
    found = coerce.number(price)
    assert found is not None
    assert float(found) == price


@given(price=st.integers(1, 10**9), minutes=st.integers(1, 100_000))
def test_the_planned_charge_covers_the_bill(price: int, minutes: int) -> None:
    usd = Decimal(price) / 1_000_000
    spend = Decimal((2 * price * minutes + 1440) // 2880) / 1_000_000
    planned = terms_at(usd).charge(minutes * 60_000)
    creation_fee = Decimal("0.1") if minutes > 10 else Decimal(0)
    assert planned >= billed_micros(spend, Fraction(5, 100), creation_fee) - 1


@given(price=st.integers(1_000, 10**9), minutes=st.integers(0, 50_000))
def test_the_minutes_come_back_from_spend_and_price(price: int, minutes: int) -> None:
    spend = Decimal((2 * price * minutes + 1440) // 2880) / 1_000_000
    assert abs(minutes_spent(spend, Decimal(price) / 1_000_000) - minutes) <= 1
    exact = Decimal(repr(price / 1e6 * minutes / 1440))
    assert minutes_spent(exact, Decimal(price) / 1_000_000) == minutes


def _raw(body: Any) -> httpx.Response:
    return httpx.Response(200, content=json.dumps(body).encode("utf-8", "surrogatepass"))


@given(body=JSON, wrap=st.booleans())
@settings(max_examples=250, deadline=None)
async def test_no_market_body_crashes_or_invents_an_offer(new_fake: Any, samples: Any, body: Any, wrap: bool) -> None:
    reply = {"servers": [body, samples.server()], "code": 0} if wrap else body
    provider = new_fake().on("marketplace", _raw(reply)).provider()
    try:
        survey = await provider.offers(samples.need())
    except ProviderError:
        return
    for offer in survey.offers:
        rows = [row for row in reply["servers"] if isinstance(row, dict) and str(row.get("id")) == offer.server_id]
        assert any(row["rented"] is False or row["rented"] in {0, "0", "false"} for row in rows)
        assert offer.rate > 0


@given(row=VALID_JSON, changes=st.dictionaries(st.sampled_from([
    "id", "rented", "price", "allowed_coins", "specs", "gpu_array", "owner", "mrl", "reliability", "cuda_version",
    "partial_gpu_rental"]), VALID_JSON, max_size=4))  # fmt: skip
@settings(max_examples=250, deadline=None)
async def test_a_server_with_odd_fields_harms_no_other(
    new_fake: Any, samples: Any, row: Any, changes: dict[str, Any]
) -> None:
    good = samples.server(id=77)
    reply = {"servers": [row, samples.server() | changes, good], "code": 0}
    survey = await new_fake().on("marketplace", _raw(reply)).provider().offers(samples.need())
    assert "77" in {offer.server_id for offer in survey.offers}


@given(body=JSON, changes=st.dictionaries(st.sampled_from([
    "si", "ct", "mrl", "image", "currency", "price", "spend", "fee", "creation_fee", "mon_container", "pub_cluster",
    "tcp_ports", "spot", "expired"]), JSON, max_size=5))  # fmt: skip
@settings(max_examples=250, deadline=None)
async def test_no_order_body_crashes_and_no_order_is_lost(
    new_fake: Any, samples: Any, body: Any, changes: dict[str, Any]
) -> None:
    for reply in (body, {"orders": [samples.order() | changes], "code": 0}):
        provider = new_fake().on("my_orders", _raw(reply)).provider()
        try:
            rentals = await provider.rentals()
        except ProviderError:
            continue
        live = {rental.order_id for rental in rentals}
        assert len(live) >= len({str(coerce.identifier(row["id"])) for row in reply["orders"]})


@given(st.binary(max_size=200), st.integers(100, 599), st.none() | st.text(max_size=30))
def test_no_bytes_crash_the_reader(raw: bytes, status: int, retry_after: str | None) -> None:
    reply = read_reply(status, raw, retry_after)
    assert reply.retry_after is None or reply.retry_after >= 0
    assert reply.describe().isprintable()


@given(body=JSON, status=st.sampled_from([200, 201, 301, 400, 401, 403, 404, 429, 500, 502, 503]))
@settings(max_examples=250, deadline=None)
async def test_no_create_reply_crashes_and_only_a_plain_yes_is_one(
    new_fake: Any, samples: Any, body: Any, status: int
) -> None:
    answer = httpx.Response(status, content=_raw(body).content)
    fake = new_fake().market(samples.server()).on("create_order", answer)
    provider = fake.provider()
    (offer,) = (await provider.offers(samples.need())).offers
    outcome = await provider.rent(samples.request(offer))
    assert isinstance(outcome, Accepted | RentRefused | Unknown)
    if isinstance(outcome, Accepted):
        assert status < 400
        assert coerce.integer(body["code"]) == 0
    if isinstance(outcome, RentRefused) and status != 429:
        assert coerce.integer(body["code"]) in {2, 3, 4, 5, 6}


@given(st.text(max_size=40))
def test_a_mark_is_a_port_and_always_the_same(token: str) -> None:
    assert 20_000 <= mark_of(token) <= 59_999
    assert mark_of(token) == mark_of(token)


def test_marks_of_many_tokens_hardly_meet() -> None:
    assert len({mark_of(f"token-{number}") for number in range(1000)}) > 970
