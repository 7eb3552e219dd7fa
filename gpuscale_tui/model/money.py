"""Money is an integer number of micro-dollars (one millionth of a US dollar) everywhere but at the edge.

Rates are micro-dollars per hour for a whole machine, the renter's fee included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

MICROS = 1_000_000
HOUR_MS = 3_600_000
LARGEST_USD = 1_000_000_000
"""Larger amounts are typing errors, and their micro-dollars would not fit a 64-bit integer for long."""


def parse_usd(value: str | int | float | Decimal) -> int:
    """Dollars as typed (`"0.50"`, `"$1.20"`, `2`) as micro-dollars, rounded to the nearest one.

    Raises ValueError for anything that is no finite, non-negative amount.
    """
    text = str(value).strip().removeprefix("$")
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{value!r} is not an amount of dollars, such as 0.50") from error
    if not amount.is_finite() or not 0 <= amount <= LARGEST_USD:
        raise ValueError(f"{value!r} is not a finite, non-negative amount of dollars up to {LARGEST_USD:,}")
    return int((amount * MICROS).to_integral_value())


def dollars(micros: int) -> float:
    """Micro-dollars as a JSON number of dollars."""
    return float(Decimal(micros) / MICROS)


def format_usd(micros: int, places: int = 2) -> str:
    """`$1.25`; a negative amount keeps its sign before the dollar."""
    sign = "-" if micros < 0 else ""
    return f"{sign}${Decimal(abs(micros)) / MICROS:,.{places}f}"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a provider charges for a machine.

    `rate` is micro-dollars per hour, the renter's fee included. Time is charged in begun units of `unit_ms`, at least
    `minimum_ms`. `creation_fee` (micro-dollars) falls due once the rental has lived longer than
    `creation_fee_after_ms`.
    """

    rate: int
    unit_ms: int = 1
    minimum_ms: int = 0
    creation_fee: int = 0
    creation_fee_after_ms: int = 0

    def charge(self, held_ms: int) -> int:
        """Micro-dollars for a machine held this long; 0 when it was never held. Never less for a longer time."""
        if held_ms <= 0:
            return 0
        units = -(-max(held_ms, self.minimum_ms) // self.unit_ms)
        fee = self.creation_fee if held_ms > self.creation_fee_after_ms else 0
        return _nearest(self.rate * units * self.unit_ms, HOUR_MS) + fee


def _nearest(numerator: int, denominator: int) -> int:
    """The quotient rounded to the nearest whole number, halves to the even one."""
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2 == 1))


def split(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Divide `total` in proportion to `weights` without remainder: the parts add up to the total exactly.

    The micro-dollars left by rounding down go to the largest remainders, earlier ones first. All weights zero gives
    everything to the last part. Raises ValueError without any part to give a non-zero total to.
    """
    if not weights:
        if total:
            raise ValueError("there is nothing to book this amount to")
        return ()
    whole = sum(weights)
    if whole == 0:
        return (*([0] * (len(weights) - 1)), total)
    parts = [total * weight // whole for weight in weights]
    remainders = [total * weight % whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda index: (-remainders[index], index))
    for index in by_remainder[: total - sum(parts)]:
        parts[index] += 1
    return tuple(parts)
