"""What a listed price and an order's spend mean in micro-dollars. Exact arithmetic only.

Listed prices, an order's `price` and `required_price` are per day for the whole server, before the renter's fee;
`spend` counts `price / 1440` a minute without fees (Clore API reference, sections 2.1 and 2.3).
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from fractions import Fraction

from gpuscale_tui.model.money import MICROS, Terms

ON_DEMAND_FEE = Fraction(5, 100)
SPOT_FEE = Fraction(125, 10_000)
CREATION_FEE = 100_000
CREATION_FEE_AFTER_MS = 600_000
BILLING_UNIT_MS = 60_000
MINUTES_PER_DAY = 1440
BID_HEADROOM = Decimal("1.02")
FREE_MINUTES = CREATION_FEE_AFTER_MS // BILLING_UNIT_MS


def hourly_rate(usd_per_day: Decimal, fee: Fraction = ON_DEMAND_FEE) -> int:
    """Micro-dollars per hour, the renter's fee included; rounded up, so never under the true price."""
    exact = Fraction(usd_per_day) * (1 + fee) * MICROS / 24
    return -(-exact.numerator // exact.denominator)


def terms_at(usd_per_day: Decimal, fee: Fraction = ON_DEMAND_FEE) -> Terms:
    """The terms of an order at this price: the listed one on demand, one's own bid (and its fee) for spot."""
    return Terms(
        rate=hourly_rate(usd_per_day, fee),
        unit_ms=BILLING_UNIT_MS,
        minimum_ms=BILLING_UNIT_MS,
        creation_fee=CREATION_FEE,
        creation_fee_after_ms=CREATION_FEE_AFTER_MS,
    )


def bid_above(price: Decimal) -> Decimal:
    """What we would bid where this is the least, in the same currency: two hundredths more, in four digits, rounded up.

    Floors are recomputed about every ten minutes with the prices of coins (section 6): a bid right at the floor would
    be refused, or lose its machine, by the smallest move. Of equal bids the older one wins.
    """
    wanted = price * BID_HEADROOM
    step = Decimal(1).scaleb(wanted.adjusted() - 3)
    return (wanted / step).to_integral_value(ROUND_CEILING) * step


def billed_micros(spend_usd: Decimal, fee: Fraction, creation_fee_usd: Decimal) -> int:
    """What an order has cost: its spend, the renter's fee on it, and the creation fee where it is due.

    Each part is rounded half up to a micro-dollar, as on the provider's bill.
    """
    spend = _half_up(Fraction(spend_usd) * MICROS)
    return spend + _half_up(spend * fee) + _half_up(Fraction(creation_fee_usd) * MICROS)


def minutes_spent(spend: Decimal, price_per_day: Decimal) -> int:
    """The minutes that were charged, from spend and price in the same currency; 0 without a price."""
    return _half_up(Fraction(spend) * MINUTES_PER_DAY / Fraction(price_per_day)) if price_per_day > 0 else 0


def _half_up(value: Fraction) -> int:
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)
