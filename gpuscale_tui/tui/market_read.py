"""What the market screen and an offer's page read: offers as they are ranked, history of prices, hosts, who waits."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from gpuscale_tui.model.budget import DAY_MS
from gpuscale_tui.model.hosts import HostHistory
from gpuscale_tui.model.offers import Market, Offer
from gpuscale_tui.store import engines, hosts, market, prices
from gpuscale_tui.store.engines import Answer
from gpuscale_tui.store.market import OfferRow
from gpuscale_tui.store.outlook import stem
from gpuscale_tui.store.prices import Hour, Kind, Standing
from gpuscale_tui.tui.reader import Moment

HISTORY_DAYS = 7
NOTHING_KNOWN = Standing(0.0, 0)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A group of pending jobs: how many, how one of them is called, the most urgent priority among them."""

    key: str
    jobs: int
    name: str
    priority: int
    first: int

    @property
    def words(self) -> str:
        """`9x charlm`."""
        return f"{self.jobs}x {stem(self.name) or self.name or 'job'}"


@dataclass(frozen=True, slots=True)
class OfferLine:
    """One offer of the market, how its price compares, what its host did for us, and for whom it would be rented."""

    offer: OfferRow
    standing: Standing = NOTHING_KNOWN
    host: HostHistory | None = None
    wanted: Waiting | None = None

    @property
    def id(self) -> tuple[str, str, str]:
        """Provider, server and how it is rented."""
        return (self.offer.provider, self.offer.server_id, self.offer.market)

    @property
    def per_gpu(self) -> int:
        """Micro-dollars per hour and GPU."""
        return -(-self.offer.rate // max(1, self.offer.gpu_count))


@dataclass(frozen=True, slots=True)
class MarketPage:
    """All offers in the order in which the engine would rent, and what came of the last request to rent."""

    lines: tuple[OfferLine, ...]
    answer: Answer | None = None

    @property
    def read_at(self) -> int | None:
        """When the market was last read (UTC ms)."""
        return max((line.offer.read_at for line in self.lines), default=None)


def waiting(connection: sqlite3.Connection) -> dict[str, Waiting]:
    """The groups of pending jobs by key, the most urgent first; their counts are read from an index."""
    found = connection.execute(
        "SELECT g.group_key, g.jobs, j.name, g.priority, g.first FROM (SELECT group_key, count(*) AS jobs,"
        " min(priority) AS priority, min(id) AS first FROM jobs WHERE state = 'pending' GROUP BY group_key) g"
        " JOIN jobs j ON j.id = g.first ORDER BY g.priority, g.first"
    )
    return {row["group_key"]: Waiting(*row) for row in found}


def read_market(connection: sqlite3.Connection, moment: Moment) -> MarketPage:
    """The market as it was last read."""
    groups = waiting(connection)
    places = {key: place for place, key in enumerate(groups)}
    past = prices.Past(connection, moment.now)
    known = {found.host: found for found in hosts.histories(connection, 0)}
    lines = [
        OfferLine(
            offer,
            past.compare(Kind(offer.provider, offer.gpu_type or "", offer.gpu_count, offer.market), offer.rate),
            known.get((offer.provider, offer.server_id)),
            next((groups[key] for key in offer.serves if key in groups), None),
        )
        for offer in market.offers(connection)
    ]
    lines.sort(key=lambda line: _order(line, places))
    return MarketPage(tuple(lines), engines.newest(connection, "rent"))


def _order(line: OfferLine, places: dict[str, int]) -> tuple[bool, int, int, int, str]:
    """The groups as they stand in the queue, in each the ranks; then what would not be rented, cheapest first."""
    offer = line.offer
    group = places.get(offer.serves[0], len(places)) if offer.serves else len(places) + 1
    return (bool(offer.verdict), group, offer.rank or 1 << 30, line.per_gpu, offer.server_id)


@dataclass(frozen=True, slots=True)
class OfferStory:
    """Everything that an offer's page tells. `offer` is None where only the row is known; `owners` are the other hosts
    of its owner that we know."""

    row: OfferRow
    offer: Offer | None
    standing: Standing
    past: tuple[Hour, ...]
    host: HostHistory | None
    owners: tuple[HostHistory, ...]
    serves: tuple[Waiting, ...]
    answer: Answer | None


def read_offer(connection: sqlite3.Connection, moment: Moment, key: tuple[str, str, str]) -> OfferStory | None:
    """One offer; None where the last reading has it no more."""
    row = market.offer_row(connection, *key)
    if row is None:
        return None
    kind = Kind(row.provider, row.gpu_type or "", row.gpu_count, row.market)
    past = prices.history(connection, kind, moment.now - HISTORY_DAYS * DAY_MS)
    found = hosts.histories(connection, 0, (row.provider, row.server_id))
    groups = waiting(connection)
    return OfferStory(
        row, market.offer(connection, *key), prices.compare(past, row.rate), tuple(past), found[0] if found else None,
        _of_owner(connection, row), tuple(groups[name] for name in row.serves if name in groups),
        _about(engines.newest(connection, "rent"), key),
    )  # fmt: skip


def _of_owner(connection: sqlite3.Connection, row: OfferRow) -> tuple[HostHistory, ...]:
    if row.owner is None:
        return ()
    return tuple(
        known
        for known in hosts.histories(connection, 0)
        if (known.provider, known.owner) == (row.provider, row.owner) and known.server_id != row.server_id
    )


def _about(answer: Answer | None, key: tuple[str, str, str]) -> Answer | None:
    """The last request to rent, where it was about this offer."""
    try:
        about = tuple(json.loads(answer.about)[:3]) if answer is not None else ()
    except (ValueError, TypeError):
        return None
    return answer if about == (key[0], key[1], str(Market(key[2]))) else None
