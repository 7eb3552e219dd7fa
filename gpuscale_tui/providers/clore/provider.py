"""`CloreProvider`: the marketplace behind the port."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from gpuscale_tui.model.money import MICROS
from gpuscale_tui.model.offers import Market as Renting
from gpuscale_tui.model.offers import Need, Rental, Survey
from gpuscale_tui.providers.base import (
    Balance,
    Claim,
    ProviderError,
    ProviderFacts,
    RentOutcome,
    RentRefused,
    RentRequest,
    Unknown,
)
from gpuscale_tui.providers.clore import coerce, orders
from gpuscale_tui.providers.clore.api import CloreApi, NoReply, NotSent
from gpuscale_tui.providers.clore.limiter import Priority
from gpuscale_tui.providers.clore.orders import Quote
from gpuscale_tui.providers.clore.parse import (
    USD,
    Market,
    Order,
    Server,
    market_of,
    market_rows,
    order_rows,
    parse_order,
    parse_server,
)
from gpuscale_tui.providers.clore.pricing import BILLING_UNIT_MS, bid_above
from gpuscale_tui.providers.clore.reply import APPLICATION, demand
from gpuscale_tui.providers.clore.spot import Auctions, Waiting
from gpuscale_tui.providers.clore.survey import Terms, candidates, survey, usd_per_day

LISTING_LAG_MS = 60_000
"""A new order shows within seconds as a rule; 45 to 60 s are to be allowed (Clore API reference, section 4.1)."""

COMPLETED_EVERY_SEC = 300.0
LOOKS_FOR_AN_ENDED_ORDER = 5
REMEMBERED_MS = 7 * 86_400_000
"""Orders that ended longer ago are nobody's business any more; an account may have thousands of them."""

AUCTIONS_A_LOOK = 4
"""Servers whose bids are asked for while offers are made: each costs a call, of which there is one a second."""
AUCTIONS_A_MINUTE = 12
"""The same for all looks together: many kinds of jobs must not use up the limit that orders and listings need too."""
CHEAPEST_KNOWN = 3
"""How many of the cheapest spot candidates are to be bids that should win, not just floors."""
BIDS_BEFORE_ORDER_SEC = 15.0
"""How old what is known of a server's bids may be when an order is placed, and how long asking again may take."""
BIDS_WHILE_WAITING_SEC = 10.0
AUCTIONS_A_LISTING = 3

MARKET_CACHE_SEC = 60.0
MARKET_ERROR_SEC = 5.0
ROWS_AT_ONCE = 100
_NEVER = float("-inf")

log = logging.getLogger(__name__)


def wall_clock_ms() -> int:
    """UTC milliseconds."""
    return time.time_ns() // 1_000_000


class CloreProvider:
    """Rents on Clore.ai. The market is kept for `cache_sec`; `now` is UTC milliseconds.

    `markets` are the ways of renting that are offered where a need names none. A machine that no engine calls on for
    `lease_sec` seconds ends itself; 0 is never.
    """

    def __init__(
        self,
        api: CloreApi,
        *,
        currency: str = "USD-Blockchain",
        markets: frozenset[Renting] = frozenset({Renting.ON_DEMAND}),
        cache_sec: float = MARKET_CACHE_SEC,
        lease_sec: int = 0,
        listing_lag_ms: int = LISTING_LAG_MS,
        now: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._api = api
        self._currency = currency
        self._markets = markets
        self._now = now
        self._cache_sec = cache_sec
        self._lease_sec = lease_sec
        self._market = _MarketCache(api, cache_sec)
        self._auctions = Auctions(api)
        self._waiting = Waiting(self._auctions)
        self._asked: list[float] = []
        self._creating: set[str] = set()
        self._held: frozenset[int] = frozenset()
        self._bidding: dict[int, float] = {}
        self._completed = _CompletedOrders(api)
        self.facts = ProviderFacts(
            name="clore",
            elastic=True,
            has_spot=True,
            billing_unit_ms=BILLING_UNIT_MS,
            listing_lag_ms=listing_lag_ms,
            boots=True,
            recognised_by="server, time, image and a port number made from our token",
        )

    async def offers(self, need: Need) -> Survey:
        """See `Provider.offers`. For spot the bids on the few cheapest servers are asked for."""
        if need.provider not in {None, self.facts.name}:
            return Survey()
        market = await self._market.get()
        terms = self._terms()
        if Renting.SPOT in terms.wanted(need):
            await self._look_at_bids(market, need, terms)
        return survey(market, need, terms)

    def _terms(self) -> Terms:
        now = asyncio.get_running_loop().time()
        self._bidding = {server: until for server, until in self._bidding.items() if until > now}
        return Terms(
            currency=self._currency,
            taken=self._market.taken | self._held | self._bidding.keys(),
            markets=self._markets,
            auction=lambda server: self._auctions.known(server, self._bids_age()),
            usd_per_coin=self._usd_per_coin(self._currency),
        )

    def _bids_age(self) -> float:
        return max(self._cache_sec, BIDS_WHILE_WAITING_SEC)

    async def _look_at_bids(self, market: Market, need: Need, terms: Terms) -> None:
        """Ask for the bids on the cheapest servers until the cheapest are known, which asking may make dearer."""
        age = self._bids_age()
        for _ in range(AUCTIONS_A_LOOK):
            cheapest = candidates(market, need, terms)[:CHEAPEST_KNOWN]
            unknown = next((server for server in cheapest if not self._auctions.is_fresh(server, age)), None)
            now = asyncio.get_running_loop().time()
            self._asked = [at for at in self._asked if now - at < 60]
            if unknown is None or len(self._asked) >= AUCTIONS_A_MINUTE:
                return
            self._asked.append(now)
            await self._auctions.look(unknown, age)

    async def rent(self, request: RentRequest) -> RentOutcome:
        """See `Provider.rent`: at most one create, never repeated; for spot a look at the bids before it."""
        quote = orders.read_quote(request.offer.quote)
        reason = orders.unfit(request, quote)
        if reason is not None or quote is None:
            return RentRefused(reason or "the offer is not one of Clore.ai's")
        server_id = request.offer.server_id
        if server_id in self._creating:
            return RentRefused("an order for this server is being placed already")
        if quote.market is Renting.SPOT and int(server_id) in self._held | self._bidding.keys():
            return RentRefused("this account has an order for this server, and would bid against itself", moved=True)
        self._creating.add(server_id)
        self._market.taken.add(int(server_id))
        try:
            outcome = await self._outbid(int(server_id), quote) or await self._create(request, quote)
        finally:
            self._creating.discard(server_id)
        if isinstance(outcome, RentRefused) and not outcome.pause_server:
            self._market.taken.discard(int(server_id))
        elif not isinstance(outcome, RentRefused):
            self._bidding[int(server_id)] = asyncio.get_running_loop().time() + self.facts.listing_lag_ms / 1000
        return outcome

    async def _outbid(self, server_id: int, quote: Quote) -> RentRefused | None:
        """The refusal of a bid that would not win any more. A look that fails decides nothing."""
        if quote.market is not Renting.SPOT:
            return None
        try:
            async with asyncio.timeout(BIDS_BEFORE_ORDER_SEC):
                auction = await self._auctions.look(server_id, BIDS_BEFORE_ORDER_SEC, Priority.CREATE)
        except TimeoutError:
            return None
        least = None if auction is None else auction.least(quote.currency)
        if least is None or bid_above(least) <= quote.price:
            return None
        return RentRefused(f"others bid {least} {quote.currency} a day for this server now", moved=True)

    async def _create(self, request: RentRequest, quote: Quote) -> RentOutcome:
        try:
            reply = await self._api.create_order(orders.create_body(request, quote, self._lease_sec))
        except NotSent as error:
            return RentRefused(str(error))
        except NoReply as error:
            return Unknown(str(error))
        floor = orders.told_floor(reply)
        if floor is not None and floor <= quote.price:  # asked again, the same would be said again
            return RentRefused("a bid above its floor is refused as too low", pause_server=True)
        if floor is not None:
            self._auctions.told_floor(int(request.offer.server_id), quote.currency, floor)
        return orders.judge(reply)

    async def rentals(self) -> tuple[Rental, ...]:
        """See `Provider.rentals`. The list of live orders is the authority; ended ones are extra knowledge."""
        live = _every_order(order_rows(await self._api.my_orders()))
        now = self._now()
        self._held = frozenset(order.server for order in live if order.server is not None)
        waiting = await self._waiting.among(live, BIDS_WHILE_WAITING_SEC, AUCTIONS_A_LISTING)
        ended = await self._completed.besides(live, now)
        return (
            *(self._rental(order, now, waiting=order.id in waiting) for order in live),
            *(self._rental(order, seen_at) for order, seen_at in ended),
        )

    def _rental(self, order: Order, seen_at: int, *, waiting: bool = False) -> Rental:
        return orders.rental_of(order, seen_at, self._usd_per_coin(order.currency), waiting=waiting)

    def recognises(self, claim: Claim, rental: Rental) -> bool:
        """See `Provider.recognises`."""
        return orders.is_ours(claim, rental)

    async def release(self, order_id: str) -> None:
        """See `Provider.release`."""
        number = coerce.identifier(order_id)
        if number is None:
            raise ProviderError(f"{order_id!r} is not the id of a Clore.ai order")
        reply = await self._api.cancel_order(number)
        if not (reply.code == APPLICATION and _says_gone(reply.name)):
            demand(reply, "cancel_order")

    async def wallet_balance(self, currency: str | None = None) -> Decimal | None:
        """The balance of a wallet (by default the one that pays), None when there is none. Raises ProviderError."""
        body = await self._api.wallets()
        for row in coerce.array(body.get("wallets")):
            wallet = coerce.mapping(row)
            if wallet.get("name") == (currency or self._currency):
                return coerce.number(wallet.get("balance"))
        return None

    async def balance(self) -> Balance | None:
        """See `Provider.balance`. None while the worth of its coin is not known: the market has not been read."""
        left = await self.wallet_balance()
        unit = Decimal(1) if self._currency == USD else self._usd_per_coin(self._currency)
        if left is None or unit is None:
            return None
        return Balance(int(left * unit * MICROS), self._currency)

    async def aclose(self) -> None:
        """Close connections."""
        await self._api.aclose()

    def _usd_per_coin(self, currency: str | None) -> Decimal | None:
        return None if currency is None else self._market.usd_per_coin(currency)


def _says_gone(name: str) -> bool:
    """Whether an error name says that there is no such live order: then there is nothing left to cancel."""
    return any(word in name for word in ("not_found", "not_exist", "no_such", "unknown", "already", "ended", "expired"))


def _every_order(rows: Sequence[object]) -> list[Order]:
    """Every live order. Raises ProviderError when one has no id: a list with a hole proves no order's absence."""
    found = [parse_order(row) for row in rows]
    complete = [order for order in found if order is not None]
    if len(complete) < len(found):
        raise ProviderError(f"Clore.ai listed {len(found) - len(complete)} orders without an id: the list is not whole")
    return complete


class _MarketCache:
    """The last market, fetched by one caller at a time. A failure is remembered too, for a moment."""

    def __init__(self, api: CloreApi, cache_sec: float) -> None:
        self._api = api
        self._cache_sec = cache_sec
        self._lock = asyncio.Lock()
        self._market = Market(())
        self._fresh_until = _NEVER
        self._failure = ""
        self._failed_until = _NEVER
        self._rates: Mapping[str, Decimal] = {}
        self.taken: set[int] = set()
        """Servers that we asked for since the market was fetched: taken, or not to be had."""

    async def get(self) -> Market:
        """The market, at most `cache_sec` old. Raises ProviderError."""
        async with self._lock:
            clock = asyncio.get_running_loop().time
            if clock() < self._fresh_until:
                return self._market
            if clock() < self._failed_until:
                raise ProviderError(self._failure)
            asked_before = set(self.taken)
            try:
                self._market = await self._fetch()
            except ProviderError as error:
                self._failure, self._failed_until = str(error), clock() + min(MARKET_ERROR_SEC, self._cache_sec)
                raise
            self._fresh_until = clock() + self._cache_sec
            self._rates = _coin_rates(self._market)
            self.taken -= asked_before
            return self._market

    def usd_per_coin(self, currency: str) -> Decimal | None:
        """The market's own exchange rate, None before the first market."""
        return self._rates.get(currency)

    async def _fetch(self) -> Market:
        """Some two thousand rows; the loop gets its turn between hundreds of them."""
        rows = market_rows(await self._api.marketplace())
        servers: list[Server | None] = []
        for start in range(0, len(rows), ROWS_AT_ONCE):
            servers.extend(parse_server(row) for row in rows[start : start + ROWS_AT_ONCE])
            await asyncio.sleep(0)
        return market_of(tuple(server for server in servers if server is not None), len(rows))


def _coin_rates(market: Market) -> Mapping[str, Decimal]:
    """US dollars for one coin: the median over all servers that state a price both ways."""
    ratios: dict[str, list[Decimal]] = {}
    for server in market.servers:
        for currency, price in server.prices.items():
            value = usd_per_day(server, currency)
            if value is not None:
                ratios.setdefault(currency, []).append(value / price)
    return {currency: statistics.median(found) for currency, found in ratios.items()}


class _CompletedOrders:
    """Orders that have ended, as far as Clore.ai lists them: the last figures of their bills.

    Asked for at first, when an order that was live is gone (a few times, for this list may lag too), and otherwise
    every five minutes. Only rows that say `expired` count: an order that is missing from one list and not so marked
    may be one that is just appearing.
    """

    def __init__(self, api: CloreApi) -> None:
        self._api = api
        self._orders: dict[int, Order] = {}
        self._seen_at: dict[int, int] = {}
        self._were_live: frozenset[int] = frozenset()
        self._looks_left: dict[int, int] = {}
        self._due = _NEVER

    async def besides(self, live: Sequence[Order], now_ms: int) -> list[tuple[Order, int]]:
        """The lately ended orders that are not among the live ones, and when (UTC ms) each was first seen as ended.

        Never fails: this is extra knowledge.
        """
        ids = frozenset(order.id for order in live)
        clock = asyncio.get_running_loop().time
        self._looks_left |= dict.fromkeys(self._were_live - ids, LOOKS_FOR_AN_ENDED_ORDER)
        self._were_live = ids
        if self._looks_left or clock() >= self._due:
            self._due = clock() + COMPLETED_EVERY_SEC
            await self._refresh(now_ms)
        return [(order, self._seen_at[number]) for number, order in self._orders.items() if number not in ids]

    async def _refresh(self, now_ms: int) -> None:
        try:
            rows = order_rows(await self._api.my_orders(completed=True))
        except ProviderError as error:
            # The live list has been read; an ended order's last figure can wait for the next look.
            log.info("the list of ended orders could not be read: %s", error)
        else:
            found = [parse_order(row) for row in rows]
            ended = [order for order in found if order is not None and order.expired]
            self._orders = {order.id: order for order in ended if orders.ended_about(order) > now_ms - REMEMBERED_MS}
            self._seen_at = {number: self._seen_at.get(number, now_ms) for number in self._orders}
        left = {order_id: looks - 1 for order_id, looks in self._looks_left.items() if order_id not in self._orders}
        self._looks_left = {order_id: looks for order_id, looks in left.items() if looks > 0}
