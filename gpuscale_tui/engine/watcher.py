"""Watching: contact with every machine, its lease, and what it costs so far."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from gpuscale_tui.engine import patience
from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.leaser import Leaser
from gpuscale_tui.engine.links import Links
from gpuscale_tui.engine.service import guarded
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.notices import NoticeKind
from gpuscale_tui.model.states import Cause, WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy.patience import Patience
from gpuscale_tui.remote.errors import RemoteError
from gpuscale_tui.store import liveness, spans, workers

LOOK_SEC = 10.0
WARN_SEC = 60.0
"""A silence shorter than this, or than a fifth of `lost_contact_sec`, is not worth a warning."""
WARN_SHARE = 5
KNOCKS = 3
"""A machine is given up only after so many tries of ours to reach it: a suspended bastion hears nobody either."""


class Watcher:
    """Notes when SSH last answered, gives up machines that stay silent, meters those that do not bill themselves."""

    name = "watcher"

    def __init__(self, context: Context, links: Links, tasks: asyncio.TaskGroup, leaser: Leaser) -> None:
        self._context = context
        self._links = links
        self._tasks = tasks
        self._leaser = leaser
        self._knocking: set[int] = set()
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self._heard: dict[int, float] = {}
        """When each machine answered last, by the loop's clock: the wall clock jumps, and while no engine ran, or all
        was suspended, silence says nothing about the machines."""
        self._knocks: dict[int, int] = {}
        self._warned: set[int] = set()

    async def tick(self) -> float:
        """See `Service.tick`."""
        live = await self._context.db.read(workers.live)
        await self._links.drop_except(worker.id for worker in live)
        self._forget_except(live)
        for worker in live:
            await self._meter(worker)
            if worker.state in {WorkerState.IDLE, WorkerState.BUSY}:
                await self._watch(worker)
        return min(LOOK_SEC, self._context.settings.scaler.poll_interval_sec, self._leaser.pause_sec)

    def _forget_except(self, live: Sequence[Worker]) -> None:
        known = {worker.id for worker in live}
        self._leaser.forget_except(known)
        self._warned &= known
        for memory in (self._heard, self._knocks):
            for worker_id in [old for old in memory if old not in known]:
                del memory[worker_id]

    async def _meter(self, worker: Worker) -> None:
        """Our own reckoning by the terms, until the provider gives its figure."""
        if worker.held_from is None or worker.billed:
            return
        now = self._context.now()
        await self._context.db.write(
            spans.book, worker.id, worker.terms.charge(now - worker.held_from), now, billed=False
        )

    async def _watch(self, worker: Worker) -> None:
        if self._links.is_open(worker.id):
            await self._answered(worker)
            self._leaser.look(worker)
            return
        silent_sec = self._silence(worker)
        if silent_sec > self._context.settings.scaler.lost_contact_sec and self._knocks.get(worker.id, 0) >= KNOCKS:
            bound = await patience.for_silence(self._context, worker)
            if silent_sec > bound.seconds:
                await self._give_up(worker, silent_sec, bound)
                return
        if worker.id not in self._knocking:
            self._knocking.add(worker.id)
            name = f"knocking at {worker_label(worker.id)}"
            self._tasks.create_task(guarded(self._context, name, partial(self._knock, worker)), name=name)

    def _silence(self, worker: Worker) -> float:
        return self._clock() - self._heard.get(worker.id, self._began)

    async def _answered(self, worker: Worker) -> None:
        context = self._context
        self._heard[worker.id] = self._clock()
        self._knocks.pop(worker.id, None)
        self._warned.discard(worker.id)
        if worker.silent_since is None:
            await context.db.note(workers.contacted, worker.id, context.now())
            return
        await context.db.write(liveness.answers, worker, context.now(), epoch=context.epoch)
        context.bells.ring("placer", "planner")

    async def _knock(self, worker: Worker) -> None:
        context = self._context
        try:
            await self._links.site(worker)
            await self._answered(worker)
        except RemoteError as error:
            self._knocks[worker.id] = self._knocks.get(worker.id, 0) + 1
            if worker.silent_since is None:
                since = context.now() - int(self._silence(worker) * 1000)  # not from before this engine looked
                await context.db.write(liveness.fell_silent, worker.id, since)
                context.bells.ring("planner")
            bound = await patience.for_silence(context, worker)
            until = f"it goes back after {bound.seconds:.0f} s ({bound.why})"
            said = f"no contact for {self._silence(worker):.0f} s, tried again; {until}: {error}"
            await context.db.note(workers.explain, [(worker.id, said)])
            await self._warn_once(worker, error)
        finally:
            self._knocking.discard(worker.id)

    async def _warn_once(self, worker: Worker, error: RemoteError) -> None:
        silent_sec, lost_sec = self._silence(worker), self._context.settings.scaler.lost_contact_sec
        if worker.id in self._warned or silent_sec < min(WARN_SEC, lost_sec / WARN_SHARE):
            return
        self._warned.add(worker.id)
        goes_on = "its job goes on there" if worker.state == WorkerState.BUSY else "it takes no job meanwhile"
        await self._context.warn(
            f"{worker_label(worker.id)} cannot be reached for {silent_sec:.0f} s; {goes_on}, and nothing is concluded"
            f" from that before {lost_sec:g} s (lost_contact_sec): {error}",
            worker_id=worker.id, job_id=worker.job_id, attempt=worker.attempt,
        )  # fmt: skip

    async def _give_up(self, worker: Worker, silent_sec: float, bound: Patience) -> None:
        """Silence is no proof that it is gone: the machine goes back, and its job waits for the provider's word."""
        context = self._context
        reason = f"no SSH contact for {silent_sec:.0f} s (lost_contact_sec; {bound.seconds:.0f} s here: {bound.why})"
        await context.db.write(
            workers.begin_release, worker.id, reason, cause=Cause.HOST_FAULT, now=context.now(), epoch=context.epoch
        )
        text = f"{worker_label(worker.id)}: {reason}; it goes back"
        await context.warn(text, worker_id=worker.id)
        await context.notify(NoticeKind.MACHINE_LOST, text, worker_id=worker.id, job_id=worker.job_id)
        context.bells.ring("releaser", "runner")
