"""The history of prices: thinned to one row an hour, compared honestly; and offers as the planner judged them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.model.offers import Market
from gpuscale_tui.store import market, prices
from gpuscale_tui.store.market import Judgement, Reading
from gpuscale_tui.store.prices import Hour, Kind, compare
from tests.store.support import DOLLAR, HOUR, T0, Bench, offer

KIND = Kind("clore", "RTX 4090", 1, "on-demand")
START = T0 - T0 % HOUR


def _read(bench: Bench, rates: list[int], at: int, days: float = 90) -> None:
    bench.write(prices.note, [offer(rate) for rate in rates], at, days)


def test_an_hour_is_one_row_of_quartiles(bench: Bench) -> None:
    _read(bench, [100, 200, 300, 400, 500], START)
    assert bench.read(prices.history, KIND) == [Hour(START, 100, 200, 300, 400, 500, 5, 1)]
    _read(bench, [50, 150], START + 60_000)  # too soon: one reading each five minutes
    assert bench.read(prices.history, KIND)[0].low == 100
    _read(bench, [50, 60, 70, 80, 700], START + 300_000)
    assert bench.read(prices.history, KIND) == [Hour(START, 50, 130, 185, 240, 700, 5, 2)]
    _read(bench, [90], START + HOUR)
    assert [hour.median for hour in bench.read(prices.history, KIND)] == [185, 90]


def test_kinds_are_apart_and_old_hours_are_dropped(bench: Bench) -> None:
    bench.write(prices.note, [offer(10), offer(20, gpu_count=2), offer(30, gpu_type=None, gpu_count=0),
                              offer(5, market=Market.SPOT)], START, 2)  # fmt: skip
    assert bench.value("SELECT count(*) FROM prices") == 4
    _read(bench, [10], START + 49 * HOUR, days=2)
    assert [hour.hour for hour in bench.read(prices.history, KIND)] == [START + 49 * HOUR]
    assert bench.read(prices.history, Kind("clore", "RTX 4090", 2, "on-demand")) != []


def test_a_clock_that_went_back_is_no_reason_to_read_nothing(bench: Bench) -> None:
    _read(bench, [100], START + 10 * HOUR)
    _read(bench, [200], START)
    assert len(bench.read(prices.history, KIND)) == 2


def test_a_price_is_compared_with_the_last_week(bench: Bench) -> None:
    for hour in range(10):
        _read(bench, [100, 200, 300, 400, 500], START + hour * HOUR)
    past = prices.Past(bench.db.connection, START + 10 * HOUR)
    assert past.compare(KIND, 99).words == "cheaper than 100 % of 10 h of readings"
    assert past.compare(KIND, 300).cheaper_than == 0.5
    assert past.compare(KIND, 250).words == "cheaper than 62 % of 10 h of readings"
    assert past.compare(KIND, 501).words == "cheaper than 0 % of 10 h of readings"
    later = prices.Past(bench.db.connection, START + 20 * 24 * HOUR)
    assert not later.compare(KIND, 99).enough
    assert later.compare(KIND, 99).words == "too little history to compare (0 h of readings)"
    assert compare([Hour(0, 1, 2, 3, 4, 5, 5, 1)] * 100, 0).words == "cheaper than 100 % of the last 7 days"


@given(st.lists(st.integers(0, 50), min_size=5, max_size=5).map(sorted), st.lists(st.integers(0, 50), min_size=2))
def test_a_lower_price_is_never_cheaper_than_less(knots: list[int], rates: list[int]) -> None:
    hour = Hour(0, *knots, 5, 1)
    shares = [hour.dearer(rate) for rate in sorted(rates)]
    assert all(0 <= share <= 1 for share in shares)
    assert shares == sorted(shares, reverse=True)


def test_an_offer_is_kept_with_what_is_made_of_it(bench: Bench) -> None:
    good = offer(DOLLAR, server_id="a", owner="7", ram_gb=64.0, cuda_version="12.4")
    bad = offer(2 * DOLLAR, server_id="b")
    said = Judgement("", 1, 1_100_000, "by its price", ("img|RTX 4090|1|-|-|-",))
    reading = Reading("clore", "RTX 4090", ((good, said), (bad, "over the price limit")))
    bench.write(market.remember, [reading], T0, 30)
    one, other = bench.read(market.offers)
    assert (one.rank, one.expected, one.reason, one.serves, one.owner) == (
        1,
        1_100_000,
        "by its price",
        said.serves,
        "7",
    )
    assert (other.rank, other.verdict, other.serves) == (None, "over the price limit", ())
    assert bench.read(market.offer, "clore", "a", "on-demand") == good
    assert bench.read(market.offer_row, "clore", "b", "on-demand") == other
    assert bench.read(market.offer, "clore", "gone", "on-demand") is None
    assert len(bench.read(prices.history, KIND)) == 1
