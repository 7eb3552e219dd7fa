"""One SSH connection a worker, opened when first needed and again when lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.remote.errors import Unreachable
from gpuscale_tui.remote.site import Site


class Links:
    """The open connections, by worker. Connecting to one worker never waits for another."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sites: dict[int, Site] = {}
        self._locks: dict[int, asyncio.Lock] = {}

    async def site(self, worker: Worker) -> Site:
        """The worker's connection. Raises Unreachable, AuthRefused or HostKeyChanged."""
        async with self._locks.setdefault(worker.id, asyncio.Lock()):
            open_one = self._sites.get(worker.id)
            if open_one is not None and not open_one.closed:
                return open_one
            site = await self._connect(worker)
            self._sites[worker.id] = site
            self._context.bells.ring("tidier")
            return site

    async def _connect(self, worker: Worker) -> Site:
        if worker.endpoint is None:
            raise Unreachable(f"{worker_label(worker.id)} has no address yet")
        return await self._context.connect(worker.endpoint)

    def is_open(self, worker_id: int) -> bool:
        """Whether there is a living connection (keepalives notice a dead one within a minute)."""
        site = self._sites.get(worker_id)
        return site is not None and not site.closed

    def open_workers(self) -> frozenset[int]:
        """The workers with a living connection."""
        return frozenset(worker_id for worker_id, site in self._sites.items() if not site.closed)

    def open_site(self, worker_id: int) -> Site | None:
        """The worker's connection if there is a living one."""
        site = self._sites.get(worker_id)
        return None if site is None or site.closed else site

    async def drop_except(self, worker_ids: Iterable[int]) -> None:
        """Close the connections of workers that are no longer there."""
        keep = set(worker_ids)
        for worker_id in [known for known in self._sites if known not in keep]:
            self._locks.pop(worker_id, None)
            await self._sites.pop(worker_id).close()

    async def aclose(self) -> None:
        """Close all connections."""
        await self.drop_except(())
