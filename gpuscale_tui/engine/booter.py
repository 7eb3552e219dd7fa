"""Booting: a machine takes work once SSH has answered on it and it has passed its test; one that does not goes back."""

from __future__ import annotations

import asyncio
from functools import partial

from gpuscale_tui.engine import examiner, patience
from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.leaser import Leaser
from gpuscale_tui.engine.links import Links
from gpuscale_tui.engine.service import guarded
from gpuscale_tui.model.hosts import Examination
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.states import Cause, WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy.patience import Patience
from gpuscale_tui.remote.errors import HostKeyChanged, RemoteError
from gpuscale_tui.store import workers

AFTER_RESTART_SEC = 30.0
"""What a machine that was ordered by the engine before this one gets, however old its order is: it may be up by now."""
LOOK_SEC = 1.0
BOUND = "; it has "


class Booter:
    """Probes booting machines, all at the same time."""

    name = "booter"

    def __init__(self, context: Context, links: Links, tasks: asyncio.TaskGroup, leaser: Leaser) -> None:
        self._context = context
        self._links = links
        self._tasks = tasks
        self._leaser = leaser
        self._bounds: dict[int, Patience] = {}
        self._probing: set[int] = set()
        self._passed: dict[int, Examination | None] = {}
        """What the tests of machines found that passed and are not at work yet: what comes after a test may fail."""
        self._began = context.now()

    async def tick(self) -> float:
        """See `Service.tick`."""
        live = await self._context.db.read(workers.live)
        booting = [worker for worker in live if worker.state == WorkerState.BOOTING]
        self._bounds = {worker.id: await self._bound(worker) for worker in booting}
        self._passed = {worker.id: self._passed[worker.id] for worker in booting if worker.id in self._passed}
        for worker in booting:
            bound = self._bounds[worker.id]
            if self._overdue(worker, bound):
                await self._give_up(worker, bound)
            elif worker.endpoint is not None and worker.id not in self._probing:
                self._probing.add(worker.id)
                name = f"probing {worker_label(worker.id)}"
                self._tasks.create_task(guarded(self._context, name, partial(self._probe, worker)), name=name)
            elif worker.why == "boots":
                await self._explain(worker, "its provider has not said yet that it runs")
        return LOOK_SEC if booting else self._context.settings.scaler.poll_interval_sec

    async def _bound(self, worker: Worker) -> Patience:
        """How long it may take; found out once for each machine."""
        return self._bounds.get(worker.id) or await patience.for_boot(self._context, worker)

    def _overdue(self, worker: Worker, bound: Patience) -> bool:
        now = self._context.now()
        since = worker.held_from if worker.held_from is not None else worker.created_at
        tried_long_enough = now - self._began > AFTER_RESTART_SEC * 1000
        fresh = worker.created_at >= self._began
        return now - since > bound.seconds * 1000 and (fresh or tried_long_enough)

    async def _give_up(self, worker: Worker, bound: Patience) -> None:
        last = worker.why.partition(BOUND)[0]
        reason = f"did not come up within {bound.seconds:.0f} s ({bound.why}): {last}"
        context = self._context
        await context.db.write(
            workers.begin_release, worker.id, reason, cause=Cause.HOST_FAULT, now=context.now(), epoch=context.epoch
        )
        await context.warn(f"{worker_label(worker.id)} {reason}; it goes back", worker_id=worker.id)
        context.bells.ring("releaser", "planner")

    async def _explain(self, worker: Worker, said: str) -> None:
        bound = self._bounds.get(worker.id)
        until = "" if bound is None else f"{BOUND}{bound.seconds:.0f} s in all ({bound.why})"
        await self._context.db.note(workers.explain, [(worker.id, f"boots; {said}{until}")])

    async def _probe(self, worker: Worker) -> None:
        """One try; the next look begins another."""
        context = self._context
        try:
            site = await self._links.site(worker)
            if not await site.is_usable():
                await self._explain(worker, "its userland lacks sh, tar or tail")
                return
            if worker.id in self._passed:
                examined = self._passed[worker.id]
            else:
                examined = await examiner.examine(context, worker, site)
                if not await examiner.is_trusted(context, worker, examined):
                    return
                self._passed[worker.id] = examined
            await self._leaser.begin(worker, site)
            await self._ready(worker, site.host_key, examined)
        except HostKeyChanged as error:
            await self._explain(worker, str(error))
        except RemoteError as error:
            await self._explain(worker, f"SSH does not answer yet: {error}")
        finally:
            self._probing.discard(worker.id)

    async def _ready(self, worker: Worker, host_key: str, examined: Examination | None) -> None:
        context = self._context
        current = await context.db.read(workers.get, worker.id)
        if current is not None and current.state == WorkerState.BOOTING:
            await context.db.write(
                workers.became_ready, worker.id, host_key, examined=examined, now=context.now(), epoch=context.epoch
            )
            context.bells.ring("placer", "planner")
