"""What the sandbox does of its own accord, looked at twice a second: expiry, evictions, cut connections, prices."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from gpuscale_tui.sandbox.faults import Fault, FaultError, load_file
from gpuscale_tui.sandbox.orders import Order, OrderBook

TICK_SECONDS = 0.25
FLOORS_EVERY_SECONDS = 600


@dataclass(slots=True)
class Ticker:
    """Runs until cancelled. `faults_file` is read again whenever it changes."""

    book: OrderBook
    faults_file: Path | None = None
    _last: dict[str, int] = field(default_factory=dict)
    ticks: int = 0
    _file_seen: tuple[int, int] | None = None

    async def run(self) -> None:
        """Look at everything, for ever."""
        while True:
            self.tick()
            await self._evict_by_file()
            self.ticks += 1
            await asyncio.sleep(TICK_SECONDS)

    def tick(self) -> None:
        """One look at everything that reads no disk but for the small faults file and the machines' marks."""
        self._reload_faults()
        self._expire()
        self._evict_by_time()
        self._outbid()
        self._unplug()
        self._drop_connections()
        self._halt()
        self._move_prices()
        self._move_floors()

    def _halt(self) -> None:
        """Machines that were shut down from within."""
        for order in self.book.live():
            if order.up is not None and order.machine.wants_off():
                self.book.halt(order)

    def _reload_faults(self) -> None:
        path, book = self.faults_file, self.book
        if path is None:
            return
        seen = _version(path)
        if seen == self._file_seen:
            return
        self._file_seen = seen
        try:
            book.faults.replace_source(load_file(path) if seen else {}, "file")
            book.history.add("faults_file", faults=sorted(book.faults.active))
        except (FaultError, OSError) as error:
            book.history.add("faults_file", error=str(error))

    def _expire(self) -> None:
        """Orders end at `ct + mrl`, and all of them when the balance is used up (reference sections 2.4 and 10)."""
        book, now = self.book, self.book.clock()
        for order in book.live():
            if now >= order.created + order.longest:
                book.end(order, "expired")
        if book.live() and book.balance() <= 0:
            for order in book.live():
                book.end(order, "balance")

    def _evict_by_time(self) -> None:
        book, now = self.book, self.book.clock()
        for order in book.live():
            fault = book.faults.peek("evict_after", server=order.server.id)
            due = fault and order.up is not None and now - order.up >= fault.amount * 1000
            if due and book.faults.strike("evict_after", server=order.server.id):
                book.evict(order)

    def _outbid(self) -> None:
        book, now = self.book, self.book.clock()
        for order in book.live():
            fault = book.faults.peek("outbid_after", server=order.server.id)
            due = fault and order.spot and order.up is not None and now - order.up >= fault.amount * 1000
            if fault and due and book.faults.strike("outbid_after", server=order.server.id):
                book.outbid(order)
                if fault.number("gone", 0):
                    book.end(order, "outbid")

    def _unplug(self) -> None:
        book, now = self.book, self.book.clock()
        for order in book.live():
            fault = book.faults.peek("host_offline", server=order.server.id)
            due = fault and order.up is not None and now - order.up >= fault.amount * 1000
            if fault and due and not order.spot and book.faults.strike("host_offline", server=order.server.id):
                book.unplug(order, fault.number("back", 0))

    async def _evict_by_file(self) -> None:
        book, now = self.book, self.book.clock()
        for order in book.live():
            fault = book.faults.peek("evict_when_file", server=order.server.id)
            if not fault or order.up is None or now - order.up < fault.number("min_seconds", 0) * 1000:
                continue
            found = await asyncio.to_thread(_has_match, order, fault, now)
            if found and order.live and book.faults.strike("evict_when_file", server=order.server.id):
                book.evict(order)

    def _drop_connections(self) -> None:
        if self._due("ssh_drop"):
            machines = [order.machine for order in self.book.live()]
            dropped = sum(machine.drop_connections() for machine in machines)
            self.book.history.add("ssh_drop", connections=dropped)

    def _due(self, name: str) -> Fault | None:
        """A fault that strikes every VALUE seconds, the first time that long after it was switched on."""
        fault, now = self.book.faults.peek(name), self.book.clock()
        if fault is None:
            return None
        if now - max(self._last.get(name, 0), fault.since_ms) < fault.amount * 1000:
            return None
        self._last[name] = now
        return self.book.faults.strike(name)

    def _move_prices(self) -> None:
        fault, now = self.book.faults.peek("price_move"), self.book.clock()
        if fault is None:
            return
        every = fault.number("every", 0) * 1000
        if fault.struck and (not every or now - self._last.get("price_move", 0) < every):
            return
        self._last["price_move"] = now
        server = int(fault.number("server", 0)) or None
        fault.struck += 1
        if server is None or server in self.book.market.servers:
            self.book.move_prices(fault.amount, server)
            self.book.history.add("price", server=server, factor=fault.amount)

    def _move_floors(self) -> None:
        """The auction's floors follow the prices of coins, about every ten minutes (reference section 6)."""
        fault, now = self.book.faults.peek("floors_move"), self.book.clock()
        if fault is None:
            return
        every = fault.number("every", FLOORS_EVERY_SECONDS) * 1000
        if now - max(self._last.get("floors_move", 0), fault.since_ms) < every:
            return
        self._last["floors_move"] = now
        fault.struck += 1
        for server in self.book.market.servers.values():
            if fault.number("server", server.id) == server.id:
                self.book.set_floor(server, server.spot_floor * (1 + self.book.rng.uniform(-1, 1) * fault.amount))
        self.book.history.add("floors", part=fault.amount)


def _version(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _has_match(order: Order, fault: Fault, now: int) -> bool:
    """Whether the machine has a non-empty file or directory that matches, old enough. Reads the disk."""
    directory = order.machine.spec.directory
    oldest = now / 1000 - fault.number("age", 0)
    try:
        return any(_filled(path) and path.stat().st_mtime <= oldest for path in directory.glob(str(fault.value)))
    except OSError:  # files come and go while we look; the next look is a moment away
        return False


def _filled(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0
