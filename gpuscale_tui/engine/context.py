"""What every service of the engine works with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gpuscale_tui.engine.board import Board
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.providers.base import Provider
from gpuscale_tui.remote.site import Connect
from gpuscale_tui.store import events, notices
from gpuscale_tui.store.aio import AsyncDatabase, AsyncLogs
from gpuscale_tui.store.archive import Archive
from gpuscale_tui.store.checkpoints import SnapshotStore
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.notices import NoticeKind


class Bells:
    """One bell a service: ringing makes its next look come sooner. Correctness never depends on a bell."""

    def __init__(self, names: Iterable[str]) -> None:
        self._bells = {name: asyncio.Event() for name in names}

    def ring(self, *names: str) -> None:
        """Wake these services; without a name, all of them."""
        for name in names or self._bells:
            self._bells[name].set()

    async def wait(self, name: str, timeout_sec: float) -> None:
        """Return when this bell rings or after `timeout_sec`, whichever is first."""
        bell = self._bells[name]
        try:
            async with asyncio.timeout(timeout_sec):
                await bell.wait()
        except TimeoutError:
            return
        finally:
            bell.clear()


@dataclass(slots=True)
class Control:
    """How the engine is to go on: `drain` takes no new work, `at_once` saves, puts back and gives back now.

    `until_confirmed`: not before the providers confirm that nothing is rented any more, however long that takes.
    """

    drain: bool = False
    at_once: bool = False
    at_once_since: int | None = None
    until_confirmed: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: str = ""

    def stop(self, *, at_once: bool, now: int, until_confirmed: bool = False) -> None:
        """Begin to end; a second, harder call wins over a first, softer one."""
        self.drain = True
        if at_once:
            self.until_confirmed = until_confirmed
        if at_once and not self.at_once:
            self.at_once, self.at_once_since = True, now

    def finish(self, outcome: str) -> None:
        """The engine has nothing left to do."""
        self.outcome = outcome
        self.done.set()


class Sources(Protocol):
    """Where the settings come from, to be read anew while the engine works."""

    def read(self) -> Settings:
        """Read and check them. Blocks; raises GpuscaleError or OSError."""
        ...

    def prints(self, settings: Settings) -> Mapping[str, object]:
        """What each provider would be made of, by its name: equal prints, equal providers. Raises GpuscaleError."""
        ...

    def providers(self, settings: Settings) -> Mapping[str, Provider]:
        """Make the providers anew; they are closed by whoever owns the sources. Raises GpuscaleError."""
        ...


@dataclass(slots=True)
class Context:
    """The engine's parts, shared by its services. `now` gives UTC ms; `base` is our directory on every machine.

    `connect` opens a way to a machine. `new_token` gives a name for an order that no other has. `settings`, `providers`
    and `switched_off` (providers that the settings no longer have, kept for what is rented there) change when the
    settings are read anew, by the reloader alone: services read them when they use them and keep none of them.
    `board` has what jobs and machines said last. `snapshots` is the directory on this host where they are put together;
    `objects` is the object storage that keeps them instead, None without one.
    """

    home: Home
    settings: Settings
    db: AsyncDatabase
    logs: AsyncLogs
    snapshots: SnapshotStore
    providers: Mapping[str, Provider]
    epoch: int
    base: str
    public_key: str
    now: Callable[[], int]
    bells: Bells
    control: Control
    connect: Connect
    new_token: Callable[[], str]
    sources: Sources | None = None
    switched_off: frozenset[str] = frozenset()
    board: Board = field(default_factory=Board)
    objects: Archive | None = None

    @property
    def archive(self) -> Archive:
        """Where snapshots are kept: the object storage of the settings, else the directory."""
        return self.snapshots if self.objects is None else self.objects

    async def warn(
        self, detail: str, *, job_id: int | None = None, worker_id: int | None = None, attempt: int | None = None
    ) -> None:
        """Append a warning to the audit log, for the user to see."""
        await self.db.write(
            events.append, self.now(), "warning", detail, epoch=self.epoch, job_id=job_id, worker_id=worker_id,
            attempt=attempt,
        )  # fmt: skip

    async def notify(
        self, kind: NoticeKind, text: str, *, key: str = "", job_id: int | None = None, worker_id: int | None = None
    ) -> None:
        """Ask for a message to the outside; with a `key`, once for each key."""
        await self.db.write(notices.add, self.now(), kind, text, key=key, job_id=job_id, worker_id=worker_id)
