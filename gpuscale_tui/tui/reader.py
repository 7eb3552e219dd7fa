"""The one reader of the screen: it looks at the store a few times a second and fetches exactly what is shown.

It looks at two `data_version` numbers; only when one has changed, or a screen wants other rows, is anything read. All
of a reading comes from one snapshot of the data, off the event loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from gpuscale_tui.engine.lock import running_engine
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.store import queries
from gpuscale_tui.store.aio import AsyncDatabase, Connection, open_connection
from gpuscale_tui.store.database import in_snapshot
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.logs import connect_logs
from gpuscale_tui.store.views import Status
from gpuscale_tui.tui.messages import EngineState, Snapshot

POLL_SEC = 0.25
LOGS_POLL_SEC = 0.5
"""A pane of output is painted at most so often: 40 KiB a second over a slow line."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a query may want to know beside the data: the time (UTC ms) and whether an engine holds the lock."""

    now: int
    engine_alive: bool


Query = Callable[[sqlite3.Connection, Moment], object]
OutputQuery = Callable[[sqlite3.Connection], object]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a screen wants to be read for it. `key` is what its queries depend on: another key, another reading."""

    owner: object
    key: object = None
    query: Query | None = field(default=None, compare=False)
    output: OutputQuery | None = field(default=None, compare=False)


class Audience(Protocol):
    """Who reads are for."""

    def wish(self) -> Wish:
        """What the screen that is shown wants."""
        ...

    def engine_state(self, pid: int | None) -> EngineState:
        """Where the engine runs; `pid` is who holds the home's lock."""
        ...

    def took(self, snapshot: Snapshot) -> None:
        """Something was read."""
        ...

    def ticked(self, now: int) -> None:
        """A second has gone by: ages may look different."""
        ...


class Reader:
    """Reads the store of a home for an audience. `interval` None means only when asked (`poke`, `read`)."""

    def __init__(
        self,
        home: Home,
        cap: int,
        clock: Callable[[], int],
        audience: Audience,
        interval: float | None = POLL_SEC,
        *,
        readonly: bool = False,
    ) -> None:
        self._home = home
        self._cap = cap
        self._clock = clock
        self._audience = audience
        self._interval = interval
        self._readonly = readonly
        self._wake = asyncio.Event()
        self._opened = asyncio.Event()
        self._database: AsyncDatabase | None = None
        self._logs: Connection | None = None
        self._seen: tuple[object, ...] = ()
        self._status: Status | None = None
        self._logs_due = 0.0
        self._one = asyncio.Lock()
        self._closed = False
        self._looked_at: int | None = None

    @property
    def database(self) -> AsyncDatabase:
        """The open store; commands are written through it."""
        if self._database is None:
            raise RuntimeError("the store is not open yet")
        return self._database

    async def open(self) -> None:
        """Open the store. Raises StoreError."""
        self._database = await AsyncDatabase.open(self._home.database, readonly=self._readonly)
        self._opened.set()

    async def close(self) -> None:
        """Close what is open, once what is being read is here; nothing is read after that."""
        async with self._one:
            self._closed = True
            if self._logs is not None:
                await self._logs.close()
            if self._database is not None:
                await self._database.aclose()

    @property
    def by_itself(self) -> bool:
        """Whether it looks without being asked."""
        return self._interval is not None

    def set_cap(self, cap: int) -> None:
        """The cap in force while no engine runs, micro-dollars per hour."""
        if cap != self._cap:
            self._cap, self._seen = cap, ()
            self.poke()

    def age(self, now: int) -> int:
        """How long ago (ms) the store was last looked at; 0 before the first look."""
        return 0 if self._looked_at is None else now - self._looked_at

    def poke(self) -> None:
        """Read soon, because the screen wants other rows or a command was written."""
        self._wake.set()

    async def run(self) -> None:
        """Read until cancelled."""
        second = 0
        while True:
            self._wake.clear()
            await self.read()
            if self._clock() // 1000 != second:
                second = self._clock() // 1000
                self._audience.ticked(self._clock())
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._wake.wait()

    async def read(self) -> bool:
        """Look once, and tell the audience if there is anything new; whether there was. Trouble is told, not raised.

        Waits for the store to be open first.
        """
        await self._opened.wait()
        async with self._one:
            return not self._closed and await self._read()

    async def _read(self) -> bool:
        try:
            snapshot = await self._look()
        except (sqlite3.Error, GpuscaleError, OSError) as error:
            snapshot = Snapshot(self._clock(), self._status, self._audience.engine_state(None), error=str(error))
            self._seen = ()
        self._looked_at = self._clock()
        if snapshot is not None:
            self._audience.took(snapshot)
        return snapshot is not None and not snapshot.error

    async def _look(self) -> Snapshot | None:
        wish = self._audience.wish()
        pid = await asyncio.to_thread(running_engine, self._home)
        engine = self._audience.engine_state(pid)
        data = await self.database.data_version()
        outputs = await self._outputs_version() if wish.output else None
        fresh = self._seen[:2] != (data, engine)
        if not fresh and self._seen[2:] == (outputs, wish):
            return None
        moment = Moment(self._clock(), engine.kind != "none")
        if fresh or self._status is None:
            self._status = await self.database.read(queries.status, moment.now, self._cap)
        content = await self.database.read(wish.query, moment) if wish.query else None
        output = await self._read_output(wish)
        self._seen = (data, engine, outputs, wish)
        return Snapshot(moment.now, self._status, engine, wish.owner, content, output)

    async def read_output(self, query: OutputQuery) -> object:
        """Ask the log file once; None while there is none."""
        return None if self._logs is None else await self._logs.call(in_snapshot, query)

    async def _outputs_version(self) -> int | None:
        """The log file's version, looked up twice a second at most; None while there is no log file."""
        loop_time = asyncio.get_running_loop().time()
        if self._interval is not None and loop_time < self._logs_due and len(self._seen) > 2:
            return self._seen[2]  # type: ignore[return-value]
        self._logs_due = loop_time + LOGS_POLL_SEC
        if self._logs is None:
            if not self._home.logs.exists():
                return None
            self._logs = await open_connection(self._home.logs, readonly=True, connector=connect_logs)
        return await self._logs.call(_data_version)

    async def _read_output(self, wish: Wish) -> object:
        if wish.output is None or self._logs is None:
            return None
        return await self._logs.call(in_snapshot, wish.output)


def _data_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])
