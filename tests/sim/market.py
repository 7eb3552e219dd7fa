"""A pretended marketplace: it keeps its own history and its own exact bill, and lies as real ones do.

It is the judge of what is true: which orders live, whose they are, what they cost. The engine sees it only through the
provider port.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from gpuscale_tui.model.gpus import same_gpu
from gpuscale_tui.model.hosts import Card
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Market, Need, Offer, Rental, Survey
from gpuscale_tui.providers.base import (
    Accepted,
    Balance,
    Claim,
    ProviderError,
    ProviderFacts,
    RentOutcome,
    RentRefused,
    RentRequest,
    Unknown,
)
from tests.sim.machines import Machine

if TYPE_CHECKING:
    from tests.sim.world import Universe

T = TypeVar("T")
LAG_MS = 60_000
REPLY_SEC = 30.0
"""After so long a caller gives up on a reply."""
RELIST_MS = 7 * 86_400_000
MINUTE_MS = 60_000
PRICES_STAND_MS = 600_000


def mark_of(token: str) -> int:
    """What of a token the marketplace gives back: a number, as Clore's ports are."""
    return 20_000 + int.from_bytes(hashlib.sha256(token.encode()).digest()[:8], "big") % 40_000


@dataclass(slots=True)
class Server:
    """One machine on offer. `price` is micro-dollars per hour before it moves."""

    id: str
    owner: str
    gpu_type: str
    gpu_count: int
    price: int
    reliability: float
    max_hours: float = 720.0


@dataclass(slots=True)
class Order:
    """One rental as it truly is. Times are ms of the world. `ours` is False for other people's.

    `runs` are the times for which it held its machine: a spot order may lose it, stay listed and cost nothing
    meanwhile. `up_at` is when its present machine came up.
    """

    id: str
    server: Server
    terms: Terms
    market: Market
    image: str
    token: str
    ours: bool
    created_at: int
    shown_at: int
    up_at: int | None
    machine: Machine | None
    ended_at: int | None = None
    how: str = ""
    max_rate: int = 0
    release_calls: int = 0
    ending: bool = False
    runs: list[tuple[int, int | None]] = field(default_factory=list)
    expires_at: int | None = None

    def bill(self, now: int) -> int:
        """What it had cost by then."""
        return self.terms.charge(sum(max(0, min(now, until or now) - since) for since, until in self.runs))

    def waiting(self, now: int) -> bool:
        """Whether it held no machine then."""
        return not any(since <= now and (until is None or now < until) for since, until in self.runs)

    def close_run(self, now: int) -> None:
        """It holds no machine from now on."""
        if self.runs and self.runs[-1][1] is None:
            self.runs[-1] = (self.runs[-1][0], now)

    def alive(self) -> bool:
        return self.ended_at is None


@dataclass(slots=True)
class Bazaar:
    """A marketplace with its servers and orders. `names_orders`: the reply to a create says the order's id."""

    universe: Universe
    name: str
    servers: list[Server]
    names_orders: bool = False
    spot: bool = True
    orders: dict[str, Order] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    call_times: list[float] = field(default_factory=list)
    """When it was called, without the first call to give each order back: there are as many of these as orders."""
    asked_back: set[str] = field(default_factory=set)
    storm_until: float = -1.0
    last_empty: bool = False
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(f"{self.universe.seed} {self.name}")

    # The truth.

    def ours(self) -> list[Order]:
        """Every order that was ever placed for us."""
        return [order for order in self.orders.values() if order.ours]

    def living(self) -> list[Order]:
        """Our orders that cost money now."""
        return [order for order in self.orders.values() if order.ours and order.ended_at is None]

    def price(self, server: Server, market: Market) -> int:
        """What a server costs now, micro-dollars per hour; the same for ten minutes."""
        moves = self.universe.faults.price_moves
        base = server.price if market == Market.ON_DEMAND else server.price * 6 // 10
        if not moves:
            return base
        slot = self.universe.now() // PRICES_STAND_MS
        draw = random.Random(f"{self.universe.seed} {server.id} {slot}").uniform(-moves, moves)
        return int(base * (1 + draw))

    def terms(self, server: Server, market: Market) -> Terms:
        return Terms(self.price(server, market), MINUTE_MS, MINUTE_MS, 100_000, 600_000)

    def taken(self, server: Server) -> bool:
        return any(order.server is server and order.alive() for order in self.orders.values())

    def begin(self, server: Server, market: Market, *, token: str, image: str, ours: bool, delay_ms: int = 0) -> Order:
        """Make an order; `delay_ms` is how long it stays unseen."""
        universe, now = self.universe, self.universe.now()
        number = len(self.orders) + 1
        order = Order(
            id=f"{self.name[0]}{number}", server=server, terms=self.terms(server, market), market=market, image=image,
            token=token, ours=ours, created_at=now, shown_at=now + delay_ms, up_at=None, machine=None,
        )  # fmt: skip
        self.orders[order.id] = order
        if server.max_hours < 100:
            order.expires_at = now + int(server.max_hours * 3_600_000)
            universe.loop.outside(server.max_hours * 3600, lambda: self.end(order, "its time is over"))
        if ours and market == Market.SPOT and self.hit(universe.faults.bids_lost):
            self._wait(order)
        else:
            self.run(order)
        universe.note(self.name, "order", order.id, server.id, market.value, order.terms.rate, token, ours)
        return order

    def end(self, order: Order, how: str) -> None:
        """An order ends: its machine is gone and it costs nothing more."""
        if order.ended_at is not None:
            return
        order.ended_at, order.how = self.universe.now(), how
        order.close_run(order.ended_at)
        if order.machine is not None:
            order.machine.end()
        self.universe.note(self.name, "end", order.id, how, order.bill(self.universe.now()))
        self.universe.counts[how] += 1
        self.universe.checker.order_changed()

    # What happens by itself.

    def run(self, order: Order) -> None:
        """An order gets a machine, which boots."""
        universe, faults, now = self.universe, self.universe.faults, self.universe.now()
        order.runs.append((now, None))
        if not order.ours:
            return
        boots = self.dice.uniform(*faults.boot_sec)
        hangs = self.dice.random() < faults.boot_hangs
        machine = Machine(universe, f"10.{universe.new_number()}.7", f"{self.name}:{order.id}.{len(order.runs)}")
        machine.ssh_at = None if hangs else now + int(boots * 1000)
        name = "GTX 1060" if self.hit(faults.false_cards) else f"NVIDIA GeForce {order.server.gpu_type}"
        machine.cards = (Card(name, 24_564),) * order.server.gpu_count
        if self.dice.random() < 0.5:
            machine.power_off = lambda: self.end(order, "off")
        universe.machines[machine.address] = machine
        order.machine, order.up_at = machine, None if hangs else now + int(boots * 700)

    def evict(self, order: Order) -> None:
        """A machine is taken away: the order ends, or, on spot, is listed on without one."""
        if order.market == Market.SPOT and self.dice.random() < 0.5 and not order.ending:
            self.outbid(order)
        else:
            self.end(order, "evicted")

    def outbid(self, order: Order) -> None:
        """Somebody bids more: the order stays, and may run again at any moment."""
        if order.ended_at is not None or order.machine is None:
            return
        self.universe.note(self.name, "outbid", order.id)
        order.close_run(self.universe.now())
        order.machine.end()
        order.machine, order.up_at = None, None
        self._wait(order)

    def _wait(self, order: Order) -> None:
        def win() -> None:
            if order.ended_at is None and order.machine is None:
                self.universe.note(self.name, "wins", order.id)
                self.run(order)

        if self.dice.random() < 0.6:
            self.universe.loop.outside(self.dice.choice((10, 100, 1000, 5000)), win)

    def evict_all(self) -> None:
        for order in self.living():
            self.evict(order)

    def someone_else(self) -> None:
        """Somebody on the same account rents or gives back."""
        alive = [order for order in self.orders.values() if not order.ours and order.alive()]
        if alive and self.dice.random() < 0.5:
            self.end(self.dice.choice(alive), "given back by its owner")
            return
        free = [server for server in self.servers if not self.taken(server)]
        if free and len(alive) * 3 < len(self.servers):
            server = self.dice.choice(free)
            self.begin(
                server, Market.ON_DEMAND, token=f"foreign {len(self.orders)}", image=self.universe.image, ours=False
            )

    def others_leave(self) -> None:
        for order in self.orders.values():
            if not order.ours:
                self.end(order, "given back by its owner")

    # Calls.

    def count(self, kind: str, order_id: str | None = None) -> None:
        self.calls[kind] += 1
        if order_id is None or order_id in self.asked_back:
            self.call_times.append(self.universe.loop.time())
        else:
            self.asked_back.add(order_id)

    async def call(self, kind: str, act: Callable[[], T], *, lost: bool = False, giving_back: str | None = None) -> T:
        """One request: it travels, is served (also when the caller dies meanwhile), and its reply travels back."""
        universe = self.universe
        self.count(kind, giving_back)
        there = self.dice.uniform(0.05, max(0.06, universe.faults.slow_sec / 2))
        back = REPLY_SEC if lost else self.dice.uniform(0.05, max(0.06, universe.faults.slow_sec / 2))
        if universe.loop.time() < self.storm_until:
            await universe.loop.effect(f"{self.name} {kind}", lambda: None, delay=there, travels=True)
            raise ProviderError("HTTP 429: too many requests", retry_after_sec=self.dice.choice((None, 5.0, 30.0)))
        result = await universe.loop.effect(f"{self.name} {kind}", act, delay=there, reply=back, travels=True)
        if lost:
            raise ProviderError(f"no reply within {REPLY_SEC:g} s")
        return result

    def hit(self, share: float) -> bool:
        """Whether a fault of this share strikes now."""
        return share > 0 and self.dice.random() < share


class BazaarPort:
    """The marketplace behind the provider port; one for each engine."""

    def __init__(self, bazaar: Bazaar) -> None:
        self._bazaar = bazaar
        self.facts = ProviderFacts(
            name=bazaar.name,
            elastic=True,
            has_spot=bazaar.spot,
            billing_unit_ms=MINUTE_MS,
            listing_lag_ms=LAG_MS,
            boots=True,
            recognised_by="a number made from our token",
        )

    async def offers(self, need: Need) -> Survey:
        bazaar = self._bazaar
        if need.provider not in {None, bazaar.name}:
            return Survey()
        if bazaar.hit(bazaar.universe.faults.offers_error):
            await bazaar.call("offers", lambda: None)
            raise ProviderError("HTTP 500")
        return await bazaar.call("offers", lambda: self._survey(need))

    def _survey(self, need: Need) -> Survey:
        bazaar = self._bazaar
        markets = [Market.ON_DEMAND, Market.SPOT] if bazaar.spot else [Market.ON_DEMAND]
        found: list[Offer] = []
        rejected: Counter[str] = Counter()
        for server in bazaar.servers:
            if need.gpu_type is not None and not same_gpu(server.gpu_type, need.gpu_type):
                continue
            if bazaar.taken(server):
                rejected["rented"] += 1
            elif server.gpu_count < need.gpu_count:
                rejected["too few GPUs"] += 1
            else:
                found += [self._offer(server, market) for market in markets]
        return Survey(tuple(found), dict(rejected))

    def _offer(self, server: Server, market: Market) -> Offer:
        return Offer(
            provider=self._bazaar.name, server_id=server.id, gpu_type=server.gpu_type, gpu_count=server.gpu_count,
            terms=self._bazaar.terms(server, market), market=market, owner=server.owner, gpu_memory_gb=24.0,
            cpu_threads=32 * server.gpu_count, ram_gb=128.0, disk_gb=500.0, net_down_mbps=1000.0, cuda_version="12.8",
            country="DE", reliability=server.reliability, max_hours=server.max_hours, pcie_gen=4, pcie_width=16,
            quote=json.dumps({"market": market.value}),
        )  # fmt: skip

    async def rent(self, request: RentRequest) -> RentOutcome:
        bazaar, faults = self._bazaar, self._bazaar.universe.faults
        bazaar.universe.checker.create_asked(bazaar, request)
        if bazaar.hit(faults.create_refused):
            await bazaar.call("create", lambda: None)
            return RentRefused("the server is offline", pause_server=True)
        if bazaar.hit(faults.create_500):
            return await self._unsure(lambda: None)
        late = 0
        if bazaar.hit(faults.create_late):
            longest = 3 * LAG_MS if bazaar.hit(faults.beyond) else LAG_MS - 1000
            late = bazaar.dice.randint(1000, longest)
        lost = bazaar.hit(faults.create_lost)
        try:
            outcome = await bazaar.call("create", lambda: self._create(request, late), lost=lost)
        except ProviderError as error:
            return RentRefused("rate limit") if "429" in str(error) else Unknown(str(error))
        return Unknown("HTTP 502") if late and isinstance(outcome, Accepted) else outcome

    async def _unsure(self, act: Callable[[], None]) -> RentOutcome:
        try:
            await self._bazaar.call("create", act)
        except ProviderError as error:
            return RentRefused(str(error))
        return Unknown("HTTP 500")

    def _create(self, request: RentRequest, late_ms: int) -> RentOutcome:
        bazaar = self._bazaar
        server = next((each for each in bazaar.servers if each.id == request.offer.server_id), None)
        market = Market(json.loads(request.offer.quote)["market"])
        if server is None or bazaar.taken(server):
            return RentRefused("somebody else rents this server", pause_server=True)
        if bazaar.price(server, market) > request.max_rate:
            return RentRefused("the price has moved", moved=True)
        order = bazaar.begin(server, market, token=request.token, image=request.image, ours=True, delay_ms=late_ms)
        order.max_rate = request.max_rate
        bazaar.universe.checker.created(bazaar, order)
        return Accepted(order.id if bazaar.names_orders else None)

    async def rentals(self) -> tuple[Rental, ...]:
        bazaar, faults = self._bazaar, self._bazaar.universe.faults
        if bazaar.hit(faults.list_error):
            await bazaar.call("list", lambda: None)
            raise ProviderError(bazaar.dice.choice(("HTTP 500", "not JSON", "no reply within 30 s")))
        return await bazaar.call("list", self._list)

    def _list(self) -> tuple[Rental, ...]:
        bazaar, faults = self._bazaar, self._bazaar.universe.faults
        now = bazaar.universe.now()
        if not bazaar.last_empty and bazaar.hit(faults.list_empty):
            bazaar.last_empty = True
            return ()
        bazaar.last_empty = False
        age = bazaar.dice.randint(0, LAG_MS - 1000) if bazaar.hit(faults.list_stale) else 0
        rows = [row for order in bazaar.orders.values() if (row := self._rental(order, now - age)) is not None]
        if bazaar.hit(faults.list_twice):
            rows += rows[: len(rows) // 2]
            bazaar.dice.shuffle(rows)
        return tuple(rows)

    def _rental(self, order: Order, at: int) -> Rental | None:
        """A row of the list as it was at that time, None when it was not there."""
        if order.shown_at > at or order.created_at > at:
            return None
        over = order.ended_at
        ended = over is not None and over <= at
        if over is not None and over < at - RELIST_MS:
            return None
        machine = order.machine
        up = order.up_at is not None and order.up_at <= at and not ended and not order.waiting(at)
        known = up and machine is not None
        return Rental(
            order_id=order.id, server_id=order.server.id, created_at=order.created_at, up=up, ended=ended,
            endpoint=Endpoint(machine.address, 22) if known and machine is not None else None, image=order.image,
            mark=mark_of(order.token), rate=order.terms.rate, billed=order.bill(at), expires_at=order.expires_at,
            waiting=not ended and order.waiting(at),
        )  # fmt: skip

    def recognises(self, claim: Claim, rental: Rental) -> bool:
        return (
            rental.mark == mark_of(claim.token)
            and rental.server_id == claim.server_id
            and rental.order_id not in claim.known_orders
            and -120_000 <= rental.created_at - claim.requested_at <= 900_000
            and rental.image == claim.image
        )

    async def release(self, order_id: str) -> None:
        bazaar, faults = self._bazaar, self._bazaar.universe.faults
        if bazaar.hit(faults.release_error):
            await bazaar.call(
                "release", lambda: bazaar.universe.checker.release_asked(bazaar, order_id), giving_back=order_id
            )
            raise ProviderError(bazaar.dice.choice(("HTTP 500: try again in 60 seconds", "locked")))
        lost = bazaar.hit(faults.release_lost)
        ignored = bazaar.hit(faults.release_ignored)
        await bazaar.call("release", lambda: self._release(order_id, ignored), lost=lost, giving_back=order_id)

    def _release(self, order_id: str, ignored: bool) -> None:
        bazaar = self._bazaar
        bazaar.universe.checker.release_asked(bazaar, order_id)
        order = bazaar.orders.get(order_id)
        if order is None or order.ended_at is not None:
            return
        order.release_calls += 1
        bazaar.universe.note(bazaar.name, "release", order_id, ignored)
        if ignored or order.ending:
            return
        linger = bazaar.universe.faults.linger_sec
        if linger and bazaar.hit(0.5):
            order.ending = True
            bazaar.universe.loop.outside(bazaar.dice.uniform(0, linger), lambda: bazaar.end(order, "given back"))
        else:
            bazaar.end(order, "given back")

    async def balance(self) -> Balance | None:
        await self._bazaar.call("balance", lambda: None)
        return Balance(1_000_000_000, "USD")

    async def aclose(self) -> None:
        await asyncio.sleep(0)


def stock(dice: random.Random, name: str, count: int, gpus: tuple[str, ...]) -> list[Server]:
    """Servers of a market, drawn from the seed; at least one with each GPU: no job waits for what is nowhere."""
    drawn = [dice.choice(gpus) for _ in range(count)]
    return [
        Server(
            id=str(1000 + number) if name == "clore" else f"{name}-{number}",
            owner=f"owner{number % max(1, count // 3)}",
            gpu_type=gpus[number] if number < len(gpus) else drawn[number],
            gpu_count=dice.choice((1, 1, 1, 2)),
            price=dice.randint(120_000, 450_000),
            reliability=round(dice.uniform(0.85, 1.0), 3),
            max_hours=dice.choice((720.0, 720.0, 720.0, 2.0, 5.0)),
        )
        for number in range(count)
    ]
