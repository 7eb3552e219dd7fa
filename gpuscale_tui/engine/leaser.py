"""Leases: while the engine is there it tells every machine so; a machine that is not told ends its jobs and itself."""

from __future__ import annotations

import asyncio
import ipaddress
from functools import partial

from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.links import Links
from gpuscale_tui.engine.service import guarded
from gpuscale_tui.model.durations import format_duration
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.notices import NoticeKind
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.remote.errors import RemoteError
from gpuscale_tui.remote.lease import Ending, Lease
from gpuscale_tui.remote.site import Site

SHARE = 8
"""A lease is renewed so often within its time."""
LONGEST_PAUSE_SEC = 600.0
SPREAD_SEC = 60.0
"""After a start the renewals are spread over so long, at the most: what is taken up again comes first."""
SPREAD = 64
AT_ONCE = 8
JOB_GRACE_SEC = 30
HOUR_SEC = 3600


class Leaser:
    """Renews the leases of the machines that the engine has contact with. Used by the watcher and the booter."""

    def __init__(self, context: Context, links: Links, tasks: asyncio.TaskGroup) -> None:
        self._context = context
        self._links = links
        self._tasks = tasks
        self._due: dict[int, float] = {}
        self._busy: set[int] = set()
        self._told: dict[int, tuple[int | None, int | None]] = {}
        """Which attempt was on each machine when its lapse was told: a machine may say so as often as it likes."""
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._clock = asyncio.get_running_loop().time

    @property
    def pause_sec(self) -> float:
        """How often each machine is told."""
        seconds = self._seconds()
        return min(seconds / SHARE, LONGEST_PAUSE_SEC) if seconds else LONGEST_PAUSE_SEC

    def look(self, worker: Worker) -> None:
        """Begin to renew the worker's lease when it is time; needs an open connection."""
        now = self._clock()
        due = self._due.setdefault(worker.id, now + (worker.id % SPREAD) / SPREAD * min(SPREAD_SEC, self.pause_sec))
        site = self._links.open_site(worker.id)
        if now < due or site is None or worker.id in self._busy:
            return
        self._busy.add(worker.id)
        name = f"lease of {worker_label(worker.id)}"
        self._tasks.create_task(guarded(self._context, name, partial(self._renew, worker, site)), name=name)

    def forget_except(self, worker_ids: set[int]) -> None:
        """Machines that are not there any more need no lease."""
        for worker_id in [known for known in self._due if known not in worker_ids]:
            del self._due[worker_id]
            self._told.pop(worker_id, None)

    async def begin(self, worker: Worker, site: Site) -> None:
        """Renew a lease now; a machine gets it before its first job. Raises RemoteError."""
        if await site.renew_lease(self._context.base, self._terms(worker)):
            await self._tell(worker)
        self._due[worker.id] = self._clock() + self.pause_sec if self._seconds() else float("inf")

    async def _renew(self, worker: Worker, site: Site) -> None:
        try:
            async with self._turn:
                await self.begin(worker, site)
        except RemoteError as error:  # the watcher notices a lost connection; what is renewed late is renewed
            self._due[worker.id] = self._clock() + self.pause_sec / 2
            if not site.closed:
                await self._context.warn(
                    f"{worker_label(worker.id)}: its lease could not be renewed, tried again: {error}",
                    worker_id=worker.id,
                )
        finally:
            self._busy.discard(worker.id)

    def _seconds(self) -> int:
        hours = self._context.settings.scaler.lease_hours
        return max(1, round(hours * HOUR_SEC)) if hours else 0

    def _terms(self, worker: Worker) -> Lease:
        return Lease(self._seconds(), self._ending(worker), JOB_GRACE_SEC)

    def _ending(self, worker: Worker) -> Ending:
        """Only what was rented is ever shut down. An address of this very computer gets no more than its own hook."""
        provider = self._context.providers.get(worker.provider)
        if provider is None or not provider.facts.boots or worker.endpoint is None:
            return Ending.NOTHING
        return Ending.HOOK if _is_here(worker.endpoint.host) else Ending.MACHINE

    async def _tell(self, worker: Worker) -> None:
        was_on_it = (worker.job_id, worker.attempt)
        if self._told.get(worker.id) == was_on_it:
            return
        self._told[worker.id] = was_on_it
        length = format_duration(self._seconds()) if self._seconds() else "its lease"
        text = (
            f"{worker_label(worker.id)} had heard nothing of the engine for {length} (lease_hours): it has saved and"
            " stopped its job, which goes on from its last checkpoint"
        )
        await self._context.warn(text, worker_id=worker.id)
        await self._context.notify(NoticeKind.LEASE, text, worker_id=worker.id)


def _is_here(host: str) -> bool:
    """Whether an address is certainly, or may be, this computer."""
    if host.casefold().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or address.is_unspecified or (mapped is not None and mapped.is_loopback)
