"""What machines cost on the market in the past, from our own readings: one row an hour for each kind of machine.

A kind is a provider's GPU model, number of GPUs and way of renting. Rates are micro-dollars per hour for the whole
machine, fees included. Readings within READING_MS of the last one are passed over: each counts the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gpuscale_tui.model.budget import DAY_MS
from gpuscale_tui.model.money import HOUR_MS
from gpuscale_tui.model.offers import Offer

READING_MS = 300_000
KEPT_DAYS = 90
COMPARED_DAYS = 7
"""An offer's price is compared with so much of the past."""
LEAST_HOURS = 6
"""Hours with readings below which nothing is said of how an offer's price compares."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of machine; `gpu_type` is empty where there is no GPU."""

    provider: str
    gpu_type: str
    gpu_count: int
    market: str


@dataclass(frozen=True, slots=True)
class Hour:
    """The prices of a kind in one hour (its beginning, UTC ms)."""

    hour: int
    low: int
    quarter: int
    median: int
    three: int
    high: int
    offers: int
    readings: int

    def dearer(self, rate: int) -> float:
        """Which part of the machines on offer in this hour cost more than a rate, by the quartiles."""
        knots = (self.low, self.quarter, self.median, self.three, self.high)
        if rate < knots[0]:
            return 1.0
        for place, (left, right) in enumerate(pairwise(knots)):
            if rate < right:
                return 1 - (place + (rate - left) / (right - left)) / 4
        return 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a price compares with our own history: it is below `cheaper_than` (0 to 1) of what was on offer in `hours`
    hours with readings, of the last `days` days."""

    cheaper_than: float
    hours: int
    days: int = COMPARED_DAYS

    @property
    def enough(self) -> bool:
        """Whether there is enough history to say so."""
        return self.hours >= LEAST_HOURS

    @property
    def words(self) -> str:
        """`cheaper than 83 % of the last 7 days`; honest where there is little to go by."""
        if not self.enough:
            return f"too little history to compare ({self.hours} h of readings)"
        part = f"cheaper than {self.cheaper_than:.0%}".replace("%", " %")
        if self.hours >= self.days * 24 // 2:
            return f"{part} of the last {self.days} days"
        return f"{part} of {self.hours} h of readings"


def kind_of(offer: Offer) -> Kind:
    """The kind of machine that an offer is."""
    return Kind(offer.provider, offer.gpu_type or "", offer.gpu_count, offer.market)


def note(connection: sqlite3.Connection, offers: Iterable[Offer], now: int, days: float = KEPT_DAYS) -> None:
    """Take one reading of the market into the history, and drop what is older than so many days."""
    rates: dict[Kind, list[int]] = {}
    for offer in offers:
        rates.setdefault(kind_of(offer), []).append(offer.rate)
    for kind, found in rates.items():
        _note_kind(connection, kind, sorted(found), now, round(days * DAY_MS))


def _note_kind(connection: sqlite3.Connection, kind: Kind, rates: Sequence[int], now: int, kept_ms: int) -> None:
    of = (kind.provider, kind.gpu_type, kind.gpu_count, kind.market)
    last = connection.execute(
        "SELECT hour, at FROM prices WHERE provider = ? AND gpu_type = ? AND gpu_count = ? AND market = ?"
        " ORDER BY hour DESC LIMIT 1",
        of,
    ).fetchone()
    if last is not None and last["at"] <= now < last["at"] + READING_MS:
        return
    hour = now - now % HOUR_MS
    connection.execute(
        "INSERT INTO prices VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?)"
        " ON CONFLICT DO UPDATE SET low = min(low, excluded.low), high = max(high, excluded.high),"
        " quarter = (quarter * readings + excluded.quarter) / (readings + 1),"
        " median = (median * readings + excluded.median) / (readings + 1),"
        " three = (three * readings + excluded.three) / (readings + 1),"
        " offers = (offers * readings + excluded.offers) / (readings + 1), readings = readings + 1, at = excluded.at",
        (*of, hour, rates[0], *(_quantile(rates, part) for part in (1, 2, 3)), rates[-1], len(rates), now),
    )
    if last is None or last["hour"] != hour:
        connection.execute(
            "DELETE FROM prices WHERE provider = ? AND gpu_type = ? AND gpu_count = ? AND market = ? AND hour < ?",
            (*of, now - kept_ms),
        )


def _quantile(ordered: Sequence[int], quarters: int) -> int:
    place = quarters * (len(ordered) - 1)
    below, rest = divmod(place, 4)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * rest // 4


_HISTORY = (
    "SELECT hour, low, quarter, median, three, high, offers, readings FROM prices"
    " WHERE provider = ? AND gpu_type = ? AND gpu_count = ? AND market = ? AND hour >= ? ORDER BY hour"
)


def history(connection: sqlite3.Connection, kind: Kind, since: int = 0) -> list[Hour]:
    """The prices of a kind since then (UTC ms), oldest first."""
    bound = (kind.provider, kind.gpu_type, kind.gpu_count, kind.market, since)
    return [Hour(*row) for row in connection.execute(_HISTORY, bound)]


def compare(past: Sequence[Hour], rate: int) -> Standing:
    """How a rate compares with a history; each hour counts the same."""
    share = sum(hour.dearer(rate) for hour in past) / len(past) if past else 0.0
    return Standing(share, len(past))


class Past:
    """The history of the kinds that are asked for, read once each: for a list of offers."""

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self._connection = connection
        self._since = now - COMPARED_DAYS * DAY_MS
        self._known: dict[Kind, list[Hour]] = {}
        self._compared: dict[tuple[Kind, int], Standing] = {}

    def compare(self, kind: Kind, rate: int) -> Standing:
        """How a rate compares with the history of its kind."""
        found = self._compared.get((kind, rate))
        if found is None:
            if kind not in self._known:
                self._known[kind] = history(self._connection, kind, self._since)
            found = self._compared[kind, rate] = compare(self._known[kind], rate)
        return found
