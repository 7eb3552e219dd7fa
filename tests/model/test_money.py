"""Money is exact: read, charged, split and shown without losing a micro-dollar."""

from __future__ import annotations

import itertools
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.model.money import HOUR_MS, MICROS, Terms, dollars, format_usd, parse_usd, split

rates = st.integers(0, 10**9)
units = st.sampled_from([1, 1000, 60_000, HOUR_MS])
held = st.integers(-5, 400 * HOUR_MS)


@st.composite
def terms(draw: st.DrawFn) -> Terms:
    """Any way of charging that a provider might have."""
    return Terms(
        draw(rates), draw(units), draw(st.integers(0, 2 * HOUR_MS)), draw(st.integers(0, MICROS)),
        draw(st.integers(0, HOUR_MS)),
    )  # fmt: skip


@given(terms(), held, held)
def test_a_longer_rental_never_costs_less(plan: Terms, one: int, other: int) -> None:
    shorter, longer = sorted((one, other))
    assert plan.charge(shorter) <= plan.charge(longer)


@given(terms(), held)
def test_a_charge_is_the_exact_price_of_the_begun_units_to_half_a_micro_dollar(plan: Terms, ms: int) -> None:
    charged = plan.charge(ms)
    if ms <= 0:
        assert charged == 0
        return
    billed = max(ms, plan.minimum_ms)
    begun = billed if billed % plan.unit_ms == 0 else billed + plan.unit_ms - billed % plan.unit_ms
    fee = plan.creation_fee if ms > plan.creation_fee_after_ms else 0
    assert abs(Fraction(plan.rate * begun, HOUR_MS) + fee - charged) <= Fraction(1, 2)


def test_charges_by_hand() -> None:
    assert Terms(MICROS).charge(HOUR_MS) == MICROS
    assert Terms(MICROS).charge(1) == 0, "a third of a micro-dollar"
    assert Terms(3_600_000).charge(1) == 1
    assert Terms(MICROS, unit_ms=HOUR_MS).charge(1) == MICROS
    assert Terms(MICROS, unit_ms=HOUR_MS).charge(HOUR_MS + 1) == 2 * MICROS
    assert Terms(MICROS, minimum_ms=HOUR_MS).charge(5) == MICROS
    fee = Terms(MICROS, creation_fee=100_000, creation_fee_after_ms=600_000)
    assert fee.charge(600_000) == 166_667, "ten minutes: not yet"
    assert fee.charge(600_001) == 266_667
    assert Terms(MICROS).charge(0) == Terms(MICROS, minimum_ms=HOUR_MS).charge(-1) == 0


weights = st.lists(st.integers(0, 10**10), min_size=1, max_size=30)


@given(st.integers(-(10**12), 10**12), weights)
def test_a_split_is_exact_and_fair_to_one_micro_dollar(total: int, shares: list[int]) -> None:
    parts = split(total, shares)
    assert sum(parts) == total
    assert len(parts) == len(shares)
    if sum(shares):
        for part, weight in zip(parts, shares, strict=True):
            assert abs(part - Fraction(total * weight, sum(shares))) < 1


@given(st.integers(0, 10**12), weights)
def test_a_larger_weight_never_gets_less(total: int, shares: list[int]) -> None:
    if sum(shares):
        parts = sorted(zip(shares, split(total, shares), strict=True))
        assert all(left[1] <= right[1] for left, right in itertools.pairwise(parts) if left[0] < right[0])


def test_splits_by_hand() -> None:
    assert split(10, [1, 1, 1]) == (4, 3, 3), "earlier ones first"
    assert split(5, [0, 0]) == (0, 5), "without weights the last has it"
    assert split(0, []) == ()
    assert split(7, [0, 3, 0]) == (0, 7, 0)
    with pytest.raises(ValueError, match="nothing to book"):
        split(1, [])


@pytest.mark.parametrize(
    ("typed", "micros"),
    [("0.50", 500_000), ("$1.20", 1_200_000), (" 2 ", 2_000_000), (2, 2_000_000), (0.1, 100_000), ("1e-6", 1),
     (Decimal("0.0000005"), 0), ("0.0000015", 2), ("0", 0), ("1_000", 1_000_000_000)],
)  # fmt: skip
def test_dollars_as_typed(typed: str | float | Decimal, micros: int) -> None:
    assert parse_usd(typed) == micros


@pytest.mark.parametrize(
    "typed", ["", "abc", "-1", "nan", "inf", "-inf", "$", "1,5", "0x10", "1 2", "--1", "$$1", "1e13", "1e999999999"]
)
def test_what_is_no_amount_is_refused_and_quoted(typed: str) -> None:
    with pytest.raises(ValueError, match="amount of dollars") as caught:
        parse_usd(typed)
    assert repr(typed) in str(caught.value)


@given(st.integers(0, 10**15))
def test_an_amount_survives_being_written_out(micros: int) -> None:
    assert parse_usd(format_usd(micros, 6).replace(",", "")) == micros
    assert parse_usd(Decimal(repr(dollars(micros % 10**12)))) == micros % 10**12


def test_amounts_as_shown() -> None:
    assert [format_usd(value) for value in (0, 1_250_000, -1_250_000, 1_234_567_890_000)] == [
        "$0.00", "$1.25", "-$1.25", "$1,234,567.89",
    ]  # fmt: skip
    assert format_usd(123_456, 4) == "$0.1235"
    assert dollars(1_250_000) == 1.25
