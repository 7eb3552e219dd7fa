"""What an order costs: pure integer arithmetic in micro-dollars.

The rule, in full:

* `minutes` is the number of begun minutes from creation to the end (or to now), at least one. A spot order counts the
  begun minutes of each stretch in which it held the machine at one bid, and none while it waits.
* `spend = price_per_day * minutes / 1440`, rounded half up to a micro-dollar once for each stretch. Rounding that and
  not each minute keeps 1440 minutes exactly at the day's price.
* `fee = spend * 5 %` on demand and `1.25 %` spot, rounded half up. `spend` does not contain it.
* `creation fee = 0.10` once the order has lived longer than ten minutes, else nothing.

Source: Clore API reference (`shared/reference/clore-api.md`), section 2.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MINUTE_MS = 60_000
MINUTES_PER_DAY = 1440
CREATION_FEE_MICRO = 100_000
CREATION_FEE_AFTER_MS = 10 * MINUTE_MS
FEE_BASIS_POINTS = {"on-demand": 500, "spot": 125}


@dataclass(frozen=True, slots=True)
class Bill:
    """What one order has cost so far, in micro-dollars."""

    minutes: int
    spend: int
    fee: int
    creation_fee: int

    @property
    def total(self) -> int:
        """Everything the renter pays."""
        return self.spend + self.fee + self.creation_fee


def begun_minutes(elapsed_ms: int) -> int:
    """Minutes begun in a stretch of time; the first one begins at once."""
    return max(1, -(-elapsed_ms // MINUTE_MS))


def _divide_half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def spend_for(price_per_day: int, minutes: int) -> int:
    """The price of so many minutes, without fees."""
    return _divide_half_up(price_per_day * minutes, MINUTES_PER_DAY)


def bill(kind: str, stretches: Iterable[tuple[int, int]], lived_ms: int) -> Bill:
    """The bill of one order: its billed stretches as (milliseconds, price per day), and how long it has existed."""
    priced = [(begun_minutes(length), price) for length, price in stretches]
    spend = sum(spend_for(price, minutes) for minutes, price in priced)
    fee = _divide_half_up(spend * FEE_BASIS_POINTS[kind], 10_000)
    creation_fee = CREATION_FEE_MICRO if lived_ms > CREATION_FEE_AFTER_MS else 0
    return Bill(sum(minutes for minutes, _ in priced), spend, fee, creation_fee)


def dollars(micro: int) -> float:
    """Micro-dollars as the JSON number that the API shows: six decimals always come back exactly."""
    return micro / 1_000_000


def micro(amount: float) -> int:
    """A JSON number of dollars as micro-dollars."""
    return round(amount * 1_000_000)
