"""Watching: contact with every machine, and what it costs so far."""

from __future__ import annotations

import asyncio

from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.links import Links
from gpuscale_tui.engine.service import guarded
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.states import Cause, WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.remote.errors import RemoteError
from gpuscale_tui.store import spans, workers

LOOK_SEC = 10.0


class Watcher:
    """Notes when SSH last answered, gives up machines that stay silent, meters those that do not bill themselves."""

    name = "watcher"

    def __init__(self, context: Context, links: Links, tasks: asyncio.TaskGroup) -> None:
        self._context = context
        self._links = links
        self._tasks = tasks
        self._knocking: set[int] = set()
        self._began = context.now()
        """Silence while no engine ran says nothing about the machines."""

    async def tick(self) -> float:
        """See `Service.tick`."""
        live = await self._context.db.read(workers.live)
        await self._links.drop_except(worker.id for worker in live)
        for worker in live:
            await self._meter(worker)
            if worker.state in {WorkerState.IDLE, WorkerState.BUSY}:
                await self._watch(worker)
        return min(LOOK_SEC, self._context.settings.scaler.poll_interval_sec)

    async def _meter(self, worker: Worker) -> None:
        """Our own reckoning by the terms, until the provider gives its figure."""
        if worker.held_from is None or worker.billed:
            return
        now = self._context.now()
        await self._context.db.write(
            spans.book, worker.id, worker.terms.charge(now - worker.held_from), now, billed=False
        )

    async def _watch(self, worker: Worker) -> None:
        context = self._context
        if self._links.is_open(worker.id):
            await context.db.note(workers.contacted, worker.id, context.now())
            return
        silent_ms = context.now() - max(worker.contact_at or 0, self._began)
        if silent_ms > context.settings.scaler.lost_contact_sec * 1000:
            await self._give_up(worker, silent_ms)
        elif worker.id not in self._knocking:
            self._knocking.add(worker.id)
            name = f"knocking at {worker_label(worker.id)}"
            self._tasks.create_task(guarded(context, name, self._knock(worker)), name=name)

    async def _knock(self, worker: Worker) -> None:
        context = self._context
        try:
            await self._links.site(worker)
            await context.db.note(workers.contacted, worker.id, context.now())
        except RemoteError as error:
            await context.db.note(workers.explain, [(worker.id, f"no contact, tried again: {error}")])
        finally:
            self._knocking.discard(worker.id)

    async def _give_up(self, worker: Worker, silent_ms: int) -> None:
        """Silence is no proof that it is gone: the machine goes back, and its job waits for the provider's word."""
        context = self._context
        reason = f"no SSH contact for {silent_ms // 1000} s (lost_contact_sec)"
        await context.db.write(
            workers.begin_release, worker.id, reason, cause=Cause.HOST_FAULT, now=context.now(), epoch=context.epoch
        )
        await context.warn(f"{worker_label(worker.id)}: {reason}; it goes back", worker_id=worker.id)
        context.bells.ring("releaser", "runner")
