"""The newest reading of the market, for `market`, for the form's price, and for guard rails without a network."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Market, Offer
from gpuscale_tui.store import prices


@dataclass(frozen=True, slots=True)
class OfferRow:
    """One offer as last read.

    `rate` is micro-dollars per hour, fees included; `verdict` says why we would not rent it. One that we would rent has
    a `rank` (1 is rented first) among those for the first of the groups of jobs that it `serves` (by key, the most
    urgent first), what an hour of useful work there is `expected` to cost (micro-dollars), and the `reason` for that.
    """

    provider: str
    server_id: str
    market: str
    gpu_type: str | None
    gpu_count: int
    rate: int
    reliability: float | None
    country: str | None
    verdict: str
    read_at: int
    owner: str | None = None
    rank: int | None = None
    expected: int | None = None
    reason: str = ""
    serves: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the engine makes of an offer; the fields are those of `OfferRow`."""

    verdict: str = ""
    rank: int | None = None
    expected: int | None = None
    reason: str = ""
    serves: tuple[str, ...] = ()


Judged = tuple[Offer, Judgement | str]
"""An offer, and what is made of it; a bare text is the verdict."""
_COLUMNS = ", ".join(field.name for field in fields(OfferRow))


def replace(
    connection: sqlite3.Connection, provider: str, gpu_type: str | None, judged: Iterable[Judged], now: int
) -> None:
    """Store a new reading of one provider's offers of one GPU type (None: of every type), each as it is judged."""
    if gpu_type is None:
        connection.execute("DELETE FROM offers WHERE provider = ?", (provider,))
    else:
        connection.execute("DELETE FROM offers WHERE provider = ? AND gpu_type IS ?", (provider, gpu_type))
    connection.executemany(
        f"INSERT OR REPLACE INTO offers ({_COLUMNS}, details) VALUES ({', '.join('?' * (len(fields(OfferRow)) + 1))})",
        [_bound(offer, said if isinstance(said, Judgement) else Judgement(said), now) for offer, said in judged],
    )


def _bound(offer: Offer, said: Judgement, now: int) -> tuple[object, ...]:
    return (
        offer.provider, offer.server_id, offer.market, offer.gpu_type, offer.gpu_count, offer.rate, offer.reliability,
        offer.country, said.verdict, now, offer.owner, said.rank, said.expected, said.reason, json.dumps(said.serves),
        json.dumps(asdict(offer)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a provider's offers of a GPU type (None: of every type)."""

    provider: str
    gpu_type: str | None
    judged: tuple[Judged, ...]


def remember(connection: sqlite3.Connection, readings: Iterable[Reading], now: int, days: float) -> None:
    """Store new readings, and take their prices into the history of so many days."""
    for reading in readings:
        replace(connection, reading.provider, reading.gpu_type, reading.judged, now)
        prices.note(connection, (offer for offer, _ in reading.judged), now, days)


def offers(connection: sqlite3.Connection, gpu_type: str | None = None) -> list[OfferRow]:
    """The last reading, cheapest per GPU first; of one GPU type where one is named."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM offers WHERE ?1 IS NULL OR gpu_type = ?1 COLLATE NOCASE"
        " ORDER BY verdict <> '', rate / max(gpu_count, 1), server_id",
        (gpu_type,),
    )
    return [_row(row) for row in found]


def _row(row: sqlite3.Row) -> OfferRow:
    return OfferRow(**{**dict(row), "serves": tuple(json.loads(row["serves"]))})


_ONE = "FROM offers WHERE provider = ? AND server_id = ? AND market = ?"


def offer_row(connection: sqlite3.Connection, provider: str, server_id: str, market: str) -> OfferRow | None:
    """One offer of the last reading, None when it is gone."""
    row = connection.execute(f"SELECT {_COLUMNS} {_ONE}", (provider, server_id, market)).fetchone()
    return None if row is None else _row(row)


def offer(connection: sqlite3.Connection, provider: str, server_id: str, market: str) -> Offer | None:
    """One offer with everything that its provider said of it; None when it is gone or was read by an older program."""
    row = connection.execute(f"SELECT details {_ONE}", (provider, server_id, market)).fetchone()
    said = {} if row is None else json.loads(row["details"])
    if not said:
        return None
    return Offer(**{**said, "terms": Terms(**said["terms"]), "market": Market(said["market"])})


def gpu_types(connection: sqlite3.Connection) -> list[str]:
    """GPU types seen in the last reading."""
    found = connection.execute("SELECT DISTINCT gpu_type FROM offers WHERE gpu_type IS NOT NULL ORDER BY gpu_type")
    return [row[0] for row in found]
