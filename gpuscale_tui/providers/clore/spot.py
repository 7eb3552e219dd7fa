"""The spot auction of one server: what has to be bid to win it, and whether a bid of ours holds it.

Bids are per day for the whole server, each in a currency of its own; the highest one at or above the floor holds the
machine (Clore API reference, sections 3.5 and 6). Looking costs a call for each server, so answers are kept a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from gpuscale_tui.providers.base import ProviderError
from gpuscale_tui.providers.clore import coerce
from gpuscale_tui.providers.clore.api import CloreApi
from gpuscale_tui.providers.clore.limiter import Priority
from gpuscale_tui.providers.clore.parse import Order, prices

STALLED_SEC = 150.0
"""A running order is charged by the minute: one whose spend stands still for longer holds no machine."""
FAILED_SEC = 20.0
"""How long a server is not asked about again after the answer failed."""
REMEMBERED = 512

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bid:
    """One bid in the queue. `active`: it holds the machine; `ours`: it is of this account."""

    order_id: int | None
    amount: Decimal
    currency: str
    active: bool
    ours: bool


@dataclass(frozen=True, slots=True)
class Auction:
    """The auction of one server. `floors` are the least bids by currency, `rates` what a coin is worth in dollars."""

    floors: Mapping[str, Decimal]
    rates: Mapping[str, Decimal]
    bids: tuple[Bid, ...] = ()
    online: bool = True

    def least(self, currency: str) -> Decimal | None:
        """What must be exceeded, or met where it is the floor, to hold the machine; None when it takes no such bids."""
        floor = self.floors.get(currency)
        others = [self._worth(bid, currency) for bid in self.bids if not bid.ours]
        return None if floor is None else max([floor, *(worth for worth in others if worth is not None)])

    def _worth(self, bid: Bid, currency: str) -> Decimal | None:
        if bid.currency == currency:
            return bid.amount
        theirs, ours = self.rates.get(bid.currency), self.rates.get(currency)
        return bid.amount * theirs / ours if theirs and ours else None

    def holds(self, order_id: int) -> bool | None:
        """Whether the bid of this order of ours holds the machine; None when it is not in the queue."""
        mine = [bid for bid in self.bids if bid.ours]
        named = [bid for bid in mine if bid.order_id == order_id] or (mine if len(mine) == 1 else [])
        return named[0].active if named else None

    def with_floor(self, currency: str, floor: Decimal) -> Auction:
        """The same auction with the floor that a refused bid was told of."""
        return replace(self, floors={**self.floors, currency: floor})


def parse_auction(body: Mapping[str, object]) -> Auction | None:
    """The auction in a spot_marketplace reply; None when there is none for this server."""
    market = coerce.mapping(body.get("market"))
    server = coerce.mapping(market.get("server"))
    if coerce.flag(body.get("exists")) is False or not server:
        return None
    read = (_bid(coerce.mapping(row)) for row in coerce.array(market.get("offers")))
    return Auction(
        floors=prices(coerce.mapping(server.get("min_pricing"))),
        rates=prices(coerce.mapping(market.get("currency_rates_in_usd"))),
        bids=tuple(bid for bid in read if bid is not None),
        online=coerce.flag(server.get("online")) is not False,
    )


def _bid(row: Mapping[str, object]) -> Bid | None:
    amount, currency = coerce.positive(row.get("bid")), coerce.text(row.get("currency"))
    if amount is None or currency is None:
        return None
    active, ours = (coerce.flag(row.get(key)) is True for key in ("active", "my"))
    return Bid(coerce.identifier(row.get("offer_id")), amount, currency, active, ours)


class Auctions:
    """What was seen of the auctions, by server, and how long ago."""

    def __init__(self, api: CloreApi) -> None:
        self._api = api
        self._seen: dict[int, tuple[float, Auction | None]] = {}
        self._failed: dict[int, float] = {}

    def known(self, server_id: int, max_age_sec: float) -> Auction | None:
        """What was seen of a server's auction within this time; None where nothing was, or there is none."""
        found = self._seen.get(server_id)
        return found[1] if found is not None and self._age(found[0]) <= max_age_sec else None

    def is_fresh(self, server_id: int, max_age_sec: float) -> bool:
        """Whether asking again would be too soon: it was seen within this time, or did not answer lately."""
        found, failed = self._seen.get(server_id), self._failed.get(server_id)
        seen = found is not None and self._age(found[0]) <= max_age_sec
        return seen or (failed is not None and self._age(failed) <= FAILED_SEC)

    async def look(self, server_id: int, max_age_sec: float, priority: Priority = Priority.MARKET) -> Auction | None:
        """The auction, asked for unless it was seen within `max_age_sec`. None when there is none, or no answer."""
        if not self.is_fresh(server_id, max_age_sec):
            try:
                auction = parse_auction(await self._api.spot_marketplace(server_id, priority))
            except ProviderError as error:
                log.info("the bids on server %d could not be read: %s", server_id, error)
                self._failed[server_id] = asyncio.get_running_loop().time()
            else:
                self._keep(server_id, auction)
                return auction
        return self.known(server_id, max_age_sec)

    def told_floor(self, server_id: int, currency: str, floor: Decimal) -> None:
        """A bid was refused, and this is the floor now."""
        found = self._seen.get(server_id)
        auction = None if found is None else found[1]
        self._keep(server_id, (auction or Auction({}, {})).with_floor(currency, floor))

    def _keep(self, server_id: int, auction: Auction | None) -> None:
        self._failed.pop(server_id, None)
        self._seen.pop(server_id, None)
        self._seen[server_id] = (asyncio.get_running_loop().time(), auction)
        while len(self._seen) > REMEMBERED:
            self._seen.pop(next(iter(self._seen)))

    def _age(self, at: float) -> float:
        return asyncio.get_running_loop().time() - at


@dataclass(frozen=True, slots=True)
class _Sight:
    """How a spot order was last seen, and since when (the loop's seconds) each has been so. `ran`: it did, once."""

    spend: Decimal
    spend_since: float
    runs: bool
    runs_since: float
    ran: bool


class Waiting:
    """Which spot orders are listed and hold no machine.

    What is charged is the best sign: a spend that stands still for minutes says that nothing runs, one that has begun
    says that something does, whatever the auction calls it. The auction's word counts beside another sign: where
    nothing was charged yet, and where the container has stopped.
    """

    def __init__(self, auctions: Auctions) -> None:
        self._auctions = auctions
        self._seen: dict[int, _Sight] = {}

    async def among(self, orders: list[Order], max_age_sec: float, most: int) -> frozenset[int]:
        """The ids of those that wait. At most `most` calls are made; a container that runs is believed meanwhile.

        What is known of an auction counts for `max_age_sec`, if it is not from before the order stopped running.
        """
        now = asyncio.get_running_loop().time()
        spot = [order for order in orders if order.spot and not order.expired]
        self._seen = {order.id: self._sight(order, now) for order in spot}
        found = set()
        for order in spot:
            sight = self._seen[order.id]
            stalled = now - sight.spend_since > STALLED_SEC
            if sight.runs and not stalled:
                continue
            age = min(max_age_sec, max_age_sec if sight.runs else now - sight.runs_since)
            calls = order.server is not None and not self._auctions.is_fresh(order.server, age)
            holds = await self._holds(order, age) if most > 0 or not calls else None
            most -= calls
            if holds is not True and (stalled or not order.spend or (holds is False and sight.ran)):
                found.add(order.id)
        return frozenset(found)

    def _sight(self, order: Order, now: float) -> _Sight:
        spend, runs = order.spend or Decimal(0), order.container == 2
        before = self._seen.get(order.id, _Sight(spend, now, runs, now, runs))
        return _Sight(
            spend,
            before.spend_since if before.spend == spend else now,
            runs,
            before.runs_since if before.runs == runs else now,
            before.ran or runs,
        )

    async def _holds(self, order: Order, max_age_sec: float) -> bool | None:
        if order.server is None:
            return None
        auction = await self._auctions.look(order.server, max_age_sec, Priority.ORDERS)
        return None if auction is None else auction.holds(order.id)
