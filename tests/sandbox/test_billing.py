"""The bill is exact: integers only, each rule of the reference in one place."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.sandbox.billing import begun_minutes, bill, dollars, micro

PRICES = st.integers(0, 500_000_000)
LENGTHS = st.integers(0, 40 * 86_400_000)


@pytest.mark.parametrize(
    ("elapsed_ms", "minutes"), [(0, 1), (1, 1), (60_000, 1), (60_001, 2), (120_000, 2), (86_400_000, 1440)]
)
def test_a_begun_minute_counts(elapsed_ms: int, minutes: int) -> None:
    assert begun_minutes(elapsed_ms) == minutes


def test_recorded_order_of_two_dollars_a_day() -> None:
    """The reference has an order with price 2 and spend 0.0013888... after about a minute."""
    assert bill("on-demand", [(55_000, micro(2))], 55_000).spend == 1389


def test_a_whole_day_costs_the_days_price_and_five_per_cent() -> None:
    cost = bill("on-demand", [(86_400_000, micro(4.5))], 86_400_000)
    assert (cost.spend, cost.fee, cost.creation_fee) == (4_500_000, 225_000, 100_000)
    assert cost.total == 4_825_000


def test_spot_pays_a_quarter_of_the_fee_and_nothing_while_it_waits() -> None:
    cost = bill("spot", [(86_400_000, micro(4.0))], 2 * 86_400_000)
    assert (cost.minutes, cost.spend, cost.fee) == (1440, 4_000_000, 50_000)
    assert bill("spot", [], 300_000).total == 0


@pytest.mark.parametrize(("lived_ms", "fee"), [(600_000, 0), (600_001, 100_000)])
def test_creation_fee_is_charged_only_after_ten_minutes(lived_ms: int, fee: int) -> None:
    assert bill("on-demand", [(lived_ms, 0)], lived_ms).creation_fee == fee


@given(PRICES, LENGTHS)
def test_spend_is_the_true_value_to_half_a_micro_dollar(price: int, length: int) -> None:
    cost = bill("on-demand", [(length, price)], length)
    assert abs(Fraction(price * begun_minutes(length), 1440) - cost.spend) <= Fraction(1, 2)
    assert abs(Fraction(cost.spend, 20) - cost.fee) <= Fraction(1, 2)
    assert cost.total == cost.spend + cost.fee + cost.creation_fee


@given(PRICES, LENGTHS, LENGTHS)
def test_a_bill_never_shrinks_with_time(price: int, length: int, more: int) -> None:
    first = bill("on-demand", [(length, price)], length)
    later = bill("on-demand", [(length + more, price)], length + more)
    assert first.total <= later.total


@given(st.lists(st.tuples(LENGTHS, PRICES), max_size=6))
def test_spend_of_stretches_is_the_sum_of_their_spends(stretches: list[tuple[int, int]]) -> None:
    whole = bill("spot", stretches, 0)
    assert whole.spend == sum(bill("spot", [stretch], 0).spend for stretch in stretches)
    assert whole.minutes == sum(begun_minutes(length) for length, _ in stretches)


@given(st.integers(0, 10**12))
def test_micro_dollars_come_back_from_json(amount: int) -> None:
    assert micro(dollars(amount)) == amount
