"""The newest reading of the market, for `market`, for the form's price, and for guard rails without a network."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from gpuscale_tui.model.offers import Offer


@dataclass(frozen=True, slots=True)
class OfferRow:
    """One offer as last read.

    `rate` is micro-dollars per hour, fees included; `verdict` says why we would not rent it.
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


def replace(
    connection: sqlite3.Connection, provider: str, gpu_type: str | None, judged: Iterable[tuple[Offer, str]], now: int
) -> None:
    """Store a new reading of one provider's offers of one GPU type (None: of every type), each with its verdict."""
    if gpu_type is None:
        connection.execute("DELETE FROM offers WHERE provider = ?", (provider,))
    else:
        connection.execute("DELETE FROM offers WHERE provider = ? AND gpu_type IS ?", (provider, gpu_type))
    connection.executemany(
        "INSERT OR REPLACE INTO offers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (offer.provider, offer.server_id, offer.market, offer.gpu_type, offer.gpu_count, offer.rate,
             offer.reliability, offer.country, verdict, now)
            for offer, verdict in judged
        ],
    )  # fmt: skip


def offers(connection: sqlite3.Connection, gpu_type: str | None = None) -> list[OfferRow]:
    """The last reading, cheapest per GPU first; of one GPU type where one is named."""
    found = connection.execute(
        "SELECT * FROM offers WHERE ?1 IS NULL OR gpu_type = ?1 COLLATE NOCASE"
        " ORDER BY verdict <> '', rate / max(gpu_count, 1), server_id",
        (gpu_type,),
    )
    return [OfferRow(**dict(row)) for row in found]


def gpu_types(connection: sqlite3.Connection) -> list[str]:
    """GPU types seen in the last reading."""
    found = connection.execute("SELECT DISTINCT gpu_type FROM offers WHERE gpu_type IS NOT NULL ORDER BY gpu_type")
    return [row[0] for row in found]
