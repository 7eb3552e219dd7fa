"""Orders: from create_order to their end, who holds a server, and what each has cost.

A spot server goes to the highest bid at or above its floor, the older one of equals; an on-demand order takes it from
any bid (Clore API reference, `shared/reference/clore-api.md`, section 6). A bid that does not hold the server stays
listed and costs nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuscale_tui.sandbox.billing import Bill, bill, micro
from gpuscale_tui.sandbox.clock import Clock
from gpuscale_tui.sandbox.faults import FaultBoard
from gpuscale_tui.sandbox.fleet import Server, to_cent
from gpuscale_tui.sandbox.history import History
from gpuscale_tui.sandbox.machines import Machine, MachineSpec
from gpuscale_tui.sandbox.market import DOLLARS, Market, in_currency, to_micro
from gpuscale_tui.sandbox.options import Options
from gpuscale_tui.sandbox.smi import Cards, other_cards

HOUR_MS = 3_600_000
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What create_order asked for, checked. `bid` and `required_price` are in the order's currency, per day."""

    server: int
    kind: str
    currency: str
    image: str
    ports: dict[str, str]
    env: dict[str, str]
    ssh_key: str = ""
    ssh_password: str = ""
    command: str = ""
    autossh: bool = False
    bid: float | None = None
    required_price: float | None = None

    @property
    def comes_up(self) -> bool:
        """Whether this image ever runs an SSH server here (reference section 5.2)."""
        image = self.image
        return not image.startswith("docker.io/") and (self.autossh or image.startswith("cloreai/"))


@dataclass(slots=True)
class Order:
    """One order. `price` is micro-dollars a day; times are UTC milliseconds; `since` is None while it is not billed,
    `up` while no machine is up; `came_up` stays. It ends by itself `longest` milliseconds after it was created."""

    id: int
    wish: Wish
    server: Server
    price: int
    created: int
    visible: int
    machine: Machine
    longest: int = 0
    since: int | None = None
    stretches: list[tuple[int, int]] = field(default_factory=list)
    up: int | None = None
    came_up: int | None = None
    ended: int | None = None
    reason: str = ""
    offline: bool = False
    halted: bool = False
    lowered: int = 0
    machines: int = 1
    boot: asyncio.Task[None] | None = None

    @property
    def live(self) -> bool:
        """Not ended; a waiting spot order is live too."""
        return self.ended is None

    @property
    def spot(self) -> bool:
        """A spot order, winning or not."""
        return self.wish.kind == "spot"

    def bill(self, now: int) -> Bill:
        """What it has cost up to now, or in all."""
        running = [] if self.since is None else [(now - self.since, self.price)]
        end = now if self.ended is None else self.ended
        return bill(self.wish.kind, [*self.stretches, *running], end - self.created)

    def close_stretch(self, now: int) -> None:
        """Bill what ran until now; from here on nothing is billed until `since` is set again."""
        if self.since is not None:
            self.stretches.append((now - self.since, self.price))
        self.since = None


class Refused(Exception):
    """The marketplace says no. `body` is the reply."""

    def __init__(self, body: dict[str, Any], status: int = 200) -> None:
        super().__init__(str(body))
        self.body, self.status = body, status


@dataclass(slots=True)
class OrderBook:
    """All orders of this sandbox, live and ended. Tasks that it starts go through `spawn`, whose owner ends them."""

    market: Market
    faults: FaultBoard
    clock: Clock
    options: Options
    history: History
    root: Path
    mark: str
    spawn: Spawn
    rng: random.Random
    orders: dict[int, Order] = field(default_factory=dict)
    next_id: int = 2_104_417
    deposits: int = 0
    closing: bool = False

    def live(self, server: int | None = None) -> list[Order]:
        """Live orders, oldest first, of one server or of all."""
        return [o for o in self.orders.values() if o.live and (server is None or o.server.id == server)]

    def rented(self) -> set[int]:
        """Servers that we hold on demand."""
        return {order.server.id for order in self.live() if not order.spot}

    def balance(self) -> int:
        """What is left of the dollar balance, in micro-dollars."""
        now = self.clock()
        spent = sum(order.bill(now).total for order in self.orders.values())
        return micro(self.options.balance) + self.deposits - spent

    def set_balance(self, left: int) -> None:
        """Pay in (or take out) as much as makes this the balance, in micro-dollars."""
        self.deposits += left - self.balance()

    def create(self, wish: Wish) -> Order:
        """Make an order. Raises Refused with the marketplace's reply."""
        server = self._available(wish)
        price = self._agreed_price(wish, server)
        if self.balance() < price // 24 or self.faults.strike("not_enough_balance"):
            raise Refused({"error": "not_enough_balance", "code": 6})
        now = self.clock()
        number, self.next_id = self.next_id, self.next_id + self.rng.randrange(1, 90)
        visible = now + round(self.options.listing_lag * 1000)
        short = self.faults.strike("short_rental", server=server.id)
        longest = round(short.amount * 1000) if short else server.mrl_hours * HOUR_MS
        order = Order(number, wish, server, price, now, visible, self._machine(number, wish, server, 1), longest)
        self.orders[number] = order
        self.history.add("created", order=number, server=server.id, kind=wish.kind, price_micro=price)
        if not order.spot:
            self._activate(order)
        elif self.faults.strike("create_outbid", server=server.id):
            server.foreign_bid = price * 3 // 2
        self.settle(server)
        return order

    def close(self) -> None:
        """End all orders because the sandbox ends; whoever calls this sweeps up behind them."""
        self.closing = True
        for order in self.live():
            self.end(order, "sandbox ended")

    def end(self, order: Order, reason: str) -> None:
        """End an order now: it is billed no longer and its machine goes down. Repeating it is harmless."""
        if not order.live:
            return
        now = self.clock()
        order.close_stretch(now)
        order.ended, order.reason, order.up = now, reason, None
        self.history.add("ended", order=order.id, server=order.server.id, reason=reason)
        self.spawn(self._take_down(order, order.machine, order.boot))
        self.settle(order.server)

    def end_later(self, order: Order, seconds: float) -> None:
        """Let an order live on for a while although its cancellation was acknowledged."""
        self.spawn(self._linger(order, seconds))

    def evict(self, order: Order, reason: str = "evicted") -> None:
        """Take the machine away without notice; somebody else has the server from now on."""
        order.server.taken = True
        self.end(order, reason)

    def outbid(self, order: Order) -> None:
        """Somebody bids half as much again as a spot order: it loses its machine and waits."""
        order.server.foreign_bid = max(order.server.foreign_bid, order.price * 3 // 2)
        self.settle(order.server)

    def unplug(self, order: Order, back: float) -> None:
        """The host loses its network, for `back` seconds or (0) for good. Nothing is billed meanwhile."""
        order.close_stretch(self.clock())
        order.up, order.offline = None, True
        self.history.add("offline", order=order.id, server=order.server.id)
        order.machine.unplug()
        if back:
            self.spawn(self._outage(order, order.machine, back))

    def halt(self, order: Order) -> None:
        """The container was shut down from within: the order is listed on, its host is online, and nothing is billed
        any more (Clore API reference, section 6: "container dies after start")."""
        order.close_stretch(self.clock())
        order.up, order.halted = None, True
        self.history.add("halted", order=order.id, server=order.server.id)
        self.spawn(self._take_down(order, order.machine, order.boot))

    def settle(self, server: Server) -> None:
        """Give the server to the bid that holds it now, and take it from any other.

        What somebody else bids counts like a bid of ours; a bid under the floor waits, also where it held the machine.
        """
        bids = [order for order in self.live(server.id) if order.spot and not order.halted]
        winner = max(bids, key=lambda order: (order.price, -order.id), default=None)
        others = max(server.foreign_bid, self._floor(server) - 1)
        if winner and (server.taken or server.id in self.rented() or others >= winner.price):
            winner = None
        for order in bids:
            if order is winner and order.since is None:
                self._activate(order)
            elif order is not winner and order.since is not None:
                self._displace(order)

    def set_floor(self, server: Server, amount: float) -> None:
        """Move the floor of a server's auction (micro-dollars a day)."""
        server.spot_floor = to_cent(amount)
        self.settle(server)

    def move_prices(self, factor: float, server_id: int | None = None) -> None:
        """Multiply prices and floors of one server, or of all. Raises KeyError when there is no such server."""
        self.market.move_prices(factor, server_id)
        for server in self.market.servers.values():
            if server_id in {None, server.id}:
                self.settle(server)

    @staticmethod
    def _floor(server: Server) -> int:
        """The floor in micro-dollars, with room for the rounding of a bid in other coins."""
        return server.spot_floor - server.spot_floor // 100_000

    def set_bid(self, order: Order, amount: float) -> None:
        """Change the bid of a spot order. What ran at the old bid is billed at it."""
        now, new = self.clock(), to_micro(amount, order.wish.currency)
        if new < order.price:
            order.lowered = now
        if order.since is not None:
            order.close_stretch(now)
            order.since = now
        order.price = new
        self.settle(order.server)

    def _available(self, wish: Wish) -> Server:
        server = self.market.servers.get(wish.server)
        if server is None:
            raise Refused({"code": 2}, 400)
        if server.offline or self.faults.strike("server_offline", server=server.id):
            raise Refused({"error": "server-offline", "code": 6})
        if self.faults.strike("create_lost_race", server=server.id):
            server.taken = True
        held = server.taken or (wish.kind == "on-demand" and server.id in self.rented())
        if held or not server.price:
            raise Refused({"status": "error", "error": "server-already-rented", "code": 6})
        if wish.currency not in server.coins or (server.refuses_dollars and wish.currency == DOLLARS):
            raise Refused({"error": "currency-not-allowed", "code": 6}, 500)
        return server

    def _agreed_price(self, wish: Wish, server: Server) -> int:
        if moved := self.faults.strike("create_price_moved", server=server.id):
            server.move_price(moved.amount)
        listed = self.market.price_in(server, wish.currency)
        if wish.kind == "on-demand":
            if wish.required_price is not None and abs(wish.required_price - listed) > 1e-9 * max(1.0, listed):
                raise Refused({"code": 1}, 500)
            return to_micro(listed, wish.currency)
        assert wish.bid is not None
        floor = self.market.price_in(server, wish.currency, spot=True)
        if wish.bid < floor:
            raise Refused({"error": "too_low_price", "min_price": floor, "code": 6})
        return to_micro(wish.bid, wish.currency)

    def _machine(self, number: int, wish: Wish, server: Server, instance: int) -> Machine:
        name = f"{number}" if instance == 1 else f"{number}-{instance}"
        spec = MachineSpec(
            mark=f"{self.mark}.{name}",
            directory=self.root / "machines" / name,
            env=wish.env,
            ssh_key=wish.ssh_key,
            ssh_password=wish.ssh_password,
            command=wish.command,
            gpu=server.labels[0].strip(),
            cards=server.cards,
            shows=self._cards(server),
            nice=self.options.nice,
        )
        machine = Machine(spec)
        machine.reserve()
        return machine

    def _cards(self, server: Server) -> Cards:
        """What the machine's nvidia-smi shows: what is advertised, unless its host lies."""
        cards = Cards((server.gpu.name,) * server.cards, server.gpu.memory, server.cuda)
        return other_cards(cards) if self.faults.strike("wrong_gpu", server=server.id) else cards

    def _activate(self, order: Order) -> None:
        order.since = self.clock()
        server = order.server.id
        low, high = self.options.boot_seconds
        seconds = self.rng.uniform(low, high)
        if slow := self.faults.strike("slow_boot", server=server):
            seconds += slow.amount
        if self.faults.strike("never_boot", server=server) or not order.wish.comes_up:
            self.history.add("stuck", order=order.id, server=server)
            return
        listen = self.faults.strike("ssh_refuses", server=server) is None
        order.boot = self.spawn(self._boot(order, order.machine, seconds, listen=listen))

    async def _boot(self, order: Order, machine: Machine, seconds: float, *, listen: bool) -> None:
        await asyncio.sleep(seconds)
        await machine.start(listen=listen)
        order.up = order.came_up = self.clock()
        self.history.add("up", order=order.id, server=order.server.id, port=machine.port)

    def _displace(self, order: Order) -> None:
        """A spot order loses its machine and waits again; its next one starts empty."""
        order.close_stretch(self.clock())
        order.up = None
        self.history.add("displaced", order=order.id, server=order.server.id)
        self.spawn(self._take_down(order, order.machine, order.boot))
        order.machines += 1
        order.machine = self._machine(order.id, order.wish, order.server, order.machines)
        order.boot = None

    async def _outage(self, order: Order, machine: Machine, back: float) -> None:
        await asyncio.sleep(back)
        if order.live:
            await machine.plug_in()
            order.offline = False
            order.since = order.up = self.clock()
            self.history.add("online", order=order.id, server=order.server.id)

    async def _linger(self, order: Order, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.end(order, "cancelled")

    async def _take_down(self, order: Order, machine: Machine, boot: asyncio.Task[None] | None) -> None:
        if boot is not None and not boot.done():
            boot.cancel()
            await asyncio.wait({boot}, timeout=5)
        if self.closing:  # all processes and directories are ended at once, which is quicker
            machine.shut()
            await machine.sessions_end()
            return
        swept = await machine.stop()
        self.history.add("gone", order=order.id, server=order.server.id, clean=swept)


def total(bills: Iterable[Bill]) -> int:
    """The sum of bills in micro-dollars."""
    return sum(one.total for one in bills)


def shown_price(order: Order) -> float:
    """An order's price as the API shows it: per day, in its currency."""
    return in_currency(order.price, order.wish.currency)
