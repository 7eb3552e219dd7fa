"""`audit` and `reap`: what the providers list against what the store knows, and giving back what is proved ours.

Works without an engine and beside one. An error is never "nothing is rented": what could not be read is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from gpuscale_tui.engine import ending
from gpuscale_tui.engine.lock import running_engine
from gpuscale_tui.engine.orphans import claim_of
from gpuscale_tui.model.errors import FieldError, GpuscaleError
from gpuscale_tui.model.offers import Rental
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.providers.base import Provider, ProviderError
from gpuscale_tui.providers.registry import build_providers
from gpuscale_tui.store import spans, workers
from gpuscale_tui.store.database import Database, StoreError
from gpuscale_tui.store.home import Home

Kind = Literal["known", "orphan", "foreign"]
T = TypeVar("T")
READ_SEC = 60.0
PROOF_MS = 30 * 86_400_000
"""How long after an intent that came to nothing an order of it is still recognised."""
AGAIN_SEC = 15.0
"""How often the provider is asked again while it still lists a rental that it has promised to take back."""
LISTINGS_WITHOUT = 2


@dataclass(frozen=True, slots=True)
class Found:
    """One rental that costs money. `rate` is micro-dollars per hour and `cost` micro-dollars, None where not known.

    `known`: a worker of the store has it. `orphan`: it is proved ours, but counts as gone. `foreign`: not proved ours.
    """

    provider: str
    kind: Kind
    order_id: str
    server_id: str
    worker_id: int | None
    rate: int | None
    cost: int | None
    created_at: int


@dataclass(frozen=True, slots=True)
class Account:
    """What one provider lists, or why it could not be read."""

    provider: str
    found: tuple[Found, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Audit:
    """All providers. `engine` is the pid of the engine that watches, `store` why nothing can be proved ours.

    `unlisted` are workers (by id) that may cost money although no listing has their order: it may appear yet.
    """

    accounts: tuple[Account, ...]
    engine: int | None
    store: str = ""
    unlisted: tuple[int, ...] = ()

    def of(self, kind: Kind) -> list[Found]:
        """The rentals of one kind."""
        return [each for account in self.accounts for each in account.found if each.kind == kind]

    @property
    def unread(self) -> list[Account]:
        """Providers that could not be read."""
        return [account for account in self.accounts if account.error]

    @property
    def unattended(self) -> list[Found]:
        """What costs money and nobody watches: orphans, and without an engine everything of ours."""
        ours = self.of("known") if self.engine is None else []
        return [*self.of("orphan"), *(each for each in ours if each.rate != 0)]

    @property
    def clean(self) -> bool:
        """Everything could be read, and nothing costs money unattended."""
        return not self.unread and not self.unattended


@dataclass(frozen=True, slots=True)
class Memory:
    """What the store knows of machines: those that may cost money, and those that ended; `trouble` if it is lost."""

    live: tuple[Worker, ...] = ()
    ended: Mapping[str, tuple[Worker, ...]] = field(default_factory=dict)
    trouble: str = ""


@contextlib.asynccontextmanager
async def opened(home: Home, settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[dict[str, Provider]]:
    """The providers of the settings. Raises GpuscaleError where they cannot even be asked (a missing key)."""
    try:
        providers = build_providers(settings, state_dir=home.providers, environ=environ)
    except FieldError as error:
        raise GpuscaleError(f"the providers cannot be read, so nobody knows what is rented: {error}") from error
    try:
        yield providers
    finally:
        for provider in providers.values():
            await provider.aclose()


async def audit(home: Home, providers: Mapping[str, Provider], now: int) -> Audit:
    """Read every provider, all at once, and say whose each rental is. `now` is UTC ms."""
    listings = dict(zip(providers, await asyncio.gather(*(_listing(each) for each in providers.values())), strict=True))
    engine = running_engine(home)
    memory = remember(home, listings, now)
    accounts = [_account(name, providers[name], listing, memory) for name, listing in listings.items()]
    strangers = sorted({worker.provider for worker in memory.live} - providers.keys())
    accounts += [
        Account(name, error=f"{name} is not in the settings, and machines were rented there: enable it to see them")
        for name in strangers
    ]
    seen = {found.worker_id for account in accounts for found in account.found}
    read = {account.provider for account in accounts if not account.error}
    unlisted = [each.id for each in memory.live if each.provider in read and each.id not in seen]
    return Audit(tuple(accounts), engine, memory.trouble, tuple(unlisted))


async def _listing(provider: Provider) -> tuple[Rental, ...] | str:
    """Everything that costs money there, or what is wrong."""
    try:
        async with asyncio.timeout(READ_SEC):
            return tuple(rental for rental in await provider.rentals() if not rental.ended)
    except ProviderError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {READ_SEC:g} s"


def remember(home: Home, listings: Mapping[str, Sequence[Rental] | str], now: int) -> Memory:
    """What the store knows of these rentals; nothing where it is lost or cannot be read."""
    if not home.database.exists():
        return Memory(trouble=f"nothing was ever stored in {home.path}: no rental can be proved ours from here")
    try:
        with Database(home.database, readonly=True) as store:
            return store.read(_remember, listings, now)
    except (StoreError, sqlite3.Error) as error:
        return Memory(trouble=f"{error}: no rental can be proved ours from here")


def _remember(connection: sqlite3.Connection, listings: Mapping[str, Sequence[Rental] | str], now: int) -> Memory:
    ended: dict[str, tuple[Worker, ...]] = {}
    for name, rentals in listings.items():
        if isinstance(rentals, str):
            continue
        by_order = workers.ended_holding(connection, name, [rental.order_id for rental in rentals])
        ended[name] = (*by_order, *workers.ended_without_order(connection, name, now - PROOF_MS))
    return Memory(tuple(workers.live(connection)), ended)


def _account(name: str, provider: Provider, rentals: Sequence[Rental] | str, memory: Memory) -> Account:
    if isinstance(rentals, str):
        return Account(name, error=rentals)
    live = [worker for worker in memory.live if worker.provider == name]
    return Account(name, tuple(_judge(name, provider, rental, live, memory.ended.get(name, ())) for rental in rentals))


def _judge(name: str, provider: Provider, rental: Rental, live: Sequence[Worker], ended: Sequence[Worker]) -> Found:
    """Whose a rental is. Doubt is foreign."""
    known = _owner(provider, rental, live)
    worker = known or _owner(provider, rental, ended)
    kind: Kind = "known" if known is not None else "foreign" if worker is None else "orphan"
    return Found(
        provider=name,
        kind=kind,
        order_id=rental.order_id,
        server_id=rental.server_id,
        worker_id=None if worker is None else worker.id,
        rate=rental.rate if rental.rate is not None else None if worker is None else worker.rate,
        cost=rental.billed,
        created_at=rental.created_at,
    )


def _owner(provider: Provider, rental: Rental, among: Sequence[Worker]) -> Worker | None:
    """The worker that has this order, else the one whose request it is recognised by."""
    by_order = next((worker for worker in among if worker.order_id == rental.order_id), None)
    if by_order is not None:
        return by_order
    return next(
        (worker for worker in among if worker.order_id is None and provider.recognises(claim_of(worker), rental)), None
    )


class Reaper:
    """Gives rentals back that are proved ours, and waits until the provider lists them no more.

    `say` is told of each step and of each change, in a sentence for the user.
    """

    def __init__(
        self,
        home: Home,
        providers: Mapping[str, Provider],
        *,
        now: Callable[[], int],
        say: Callable[[str], None],
        look_sec: float,
        retries: int,
    ) -> None:
        self._home = home
        self._providers = providers
        self._now = now
        self._say = say
        self._look_sec = look_sec
        self._retries = retries
        self._bills: dict[str, int] = {}
        self._missing: dict[tuple[str, str], int] = {}
        """Since when the lists lack an order: one that is as old as the provider's lag may be from before it showed."""

    async def reap(self, targets: Sequence[Found], *, timeout_sec: float) -> list[Found]:
        """Give these back; returns those that were not confirmed gone in time. Foreign ones are refused."""
        if any(target.kind == "foreign" for target in targets):
            raise ValueError("what is not proved ours is never given back")
        waiting = {(target.provider, target.order_id): target for target in targets}
        absent = dict.fromkeys(waiting, 0)
        loop = asyncio.get_running_loop()
        ends, ask_at = loop.time() + timeout_sec, loop.time()
        for target in targets:
            self._write(_begin, target, self._now())
        while waiting:
            if loop.time() >= ask_at:
                promised = await self._ask(waiting.values())
                ask_at = loop.time() + (AGAIN_SEC if promised else 0.0)
            for name in {provider for provider, _ in waiting}:
                await self._look(name, waiting, absent)
            if not waiting or loop.time() >= ends:
                break
            await asyncio.sleep(self._look_sec)
        return list(waiting.values())

    async def _ask(self, targets: Iterable[Found]) -> bool:
        """Whether the provider has promised it for each."""
        promised = True
        for target in list(targets):
            try:
                await self._providers[target.provider].release(target.order_id)
                self._say(f"asked {target.provider} to take order {target.order_id} back")
            except ProviderError as error:
                promised = False
                self._say(f"giving order {target.order_id} back failed and is tried again: {error}")
        return promised

    async def _look(self, name: str, waiting: dict[tuple[str, str], Found], absent: dict[tuple[str, str], int]) -> None:
        try:
            rentals = {rental.order_id: rental for rental in await self._providers[name].rentals()}
        except ProviderError as error:
            self._say(f"{name} does not answer: {error}; nothing is concluded from that")
            return
        for key in [key for key in waiting if key[0] == name]:
            rental = rentals.get(key[1])
            if rental is not None:
                self._missing.pop(key, None)  # it is there (again): what was said before was an old list
                if rental.billed is not None:
                    self._bills[key[1]] = rental.billed
            if rental is not None:
                self._missing.pop(key, None)
            absent[key] = 0 if rental is not None or self._may_be_old(key) else absent[key] + 1
            if (rental is not None and rental.ended) or absent[key] >= LISTINGS_WITHOUT:
                billed = self._bills.get(key[1])
                bill = None if billed is None else ending.Bill(billed, rental is not None and rental.ended)
                self._write(_end, waiting.pop(key), bill, self._retries, self._now())
                self._say(f"{name} confirms: order {key[1]} is gone")

    def _may_be_old(self, key: tuple[str, str]) -> bool:
        """Whether a list without this order could be from before the order showed."""
        since, now = self._missing.setdefault(key, self._now()), self._now()
        return now - since < self._providers[key[0]].facts.listing_lag_ms

    def _write(self, command: Callable[..., None], *arguments: object) -> None:
        """Write down what is done. Where that fails, the money comes first: it is said, and giving back goes on."""
        try:
            with Database(self._home.database) as store:
                store.write(command, *arguments)
        except (StoreError, sqlite3.Error) as error:
            self._say(f"it could not be written down: {error}")


def _begin(connection: sqlite3.Connection, target: Found, now: int) -> None:
    """What is given back by hand, in the store before the provider is asked."""
    worker = None if target.worker_id is None else workers.get(connection, target.worker_id)
    if worker is None:
        return
    if target.kind == "known":
        workers.begin_release(connection, worker.id, "given back by hand (reap)", now=now, epoch=None)
        return
    if worker.order_id is None:
        workers.order_appeared(connection, worker.id, target.order_id, target.created_at, now=now, epoch=None)
    workers.still_costs(connection, worker.id, now)


def _end(connection: sqlite3.Connection, target: Found, billed: ending.Bill | None, retries: int, now: int) -> None:
    """The provider lists it no more: close its books."""
    worker = None if target.worker_id is None else workers.get(connection, target.worker_id)
    if worker is None:
        return
    estimate = 0 if worker.held_from is None else worker.terms.charge(now - worker.held_from)
    bill = billed or ending.Bill(max(worker.cost, estimate), False)
    if worker.state == WorkerState.RELEASING:
        detail = f"{worker.provider} lists it no more"
        ending.machine_gone(connection, worker.id, detail, None, bill, retries=retries, now=now, epoch=None)
        return
    if worker.state in {WorkerState.RELEASED, WorkerState.LOST}:
        workers.still_costs(connection, worker.id, now)
        spans.book(connection, worker.id, bill.total, now, billed=bill.final)
