"""What is left to pay with at each provider, as last read, and how long that lasts at the present rate."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gpuscale_tui.model.money import HOUR_MS, format_usd
from gpuscale_tui.model.offers import Offer

LIVE = "state NOT IN ('released', 'lost')"
STALE_MS = 1_800_000
"""An older reading says nothing of what can be paid: the wallet may have been filled since."""


@dataclass(frozen=True, slots=True)
class Wallet:
    """One provider's wallet. Amounts are micro-dollars, `rate` per hour over all that may cost money there now.

    `read` was left at `at` (UTC ms), `left` is what should be left now. `low_since` is when it was first found to last
    for too few hours, None while it lasts.
    """

    provider: str
    name: str
    read: int
    at: int
    left: int
    rate: int
    low_since: int | None = None

    @property
    def hours(self) -> float | None:
        """How long it lasts at the present rate; None where nothing is rented."""
        return self.left / self.rate if self.rate else None


def record(connection: sqlite3.Connection, provider: str, name: str, micros: int, now: int) -> None:
    """What was read just now."""
    connection.execute(
        "INSERT INTO wallets (provider, name, micros, at) VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT (provider) DO UPDATE SET name = ?2, micros = ?3, at = ?4",
        (provider, name, micros, now),
    )


def set_low(connection: sqlite3.Connection, provider: str, since: int | None) -> None:
    """Note since when a wallet has lasted for too few hours; None when it lasts again."""
    connection.execute("UPDATE wallets SET low_since = ? WHERE provider = ?", (since, provider))


def forget_others(connection: sqlite3.Connection, providers: list[str]) -> None:
    """Drop the wallets of providers that are used no more."""
    marks = ", ".join("?" * len(providers))
    connection.execute(f"DELETE FROM wallets WHERE provider NOT IN ({marks})", providers)


def wallets(connection: sqlite3.Connection, now: int) -> list[Wallet]:
    """Every wallet that was read, by provider."""
    found = connection.execute(
        "SELECT provider, name, micros, at, low_since, (SELECT coalesce(sum(rate), 0) FROM workers"
        f" WHERE workers.provider = wallets.provider AND {LIVE}) AS rate FROM wallets ORDER BY provider"
    )
    return [
        Wallet(
            provider=row["provider"],
            name=row["name"],
            read=row["micros"],
            at=row["at"],
            left=max(0, row["micros"] - row["rate"] * max(0, now - row["at"]) // HOUR_MS),
            rate=row["rate"],
            low_since=row["low_since"],
        )
        for row in found
    ]


def shortage(connection: sqlite3.Connection, offer: Offer, now: int) -> str | None:
    """Why a wallet cannot pay for one more machine: not one hour of it beside what is rented there; None where it can.

    Nothing is known of a wallet that was never read, or too long ago.
    """
    wallet = next((each for each in wallets(connection, now) if each.provider == offer.provider), None)
    if wallet is None or now - wallet.at > STALE_MS:
        return None
    needed = wallet.rate + offer.rate
    if wallet.left >= needed:
        return None
    return (
        f"{format_usd(wallet.left)} are left in {wallet.name}, and one hour of this machine and of what is rented there"
        f" costs {format_usd(needed)}"
    )
