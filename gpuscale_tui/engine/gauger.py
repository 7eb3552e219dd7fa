"""Gauging: machines are asked now and then what they do, over the connection that is open anyway."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial

from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.links import Links
from gpuscale_tui.engine.service import guarded
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.remote.errors import RemoteError
from gpuscale_tui.remote.usage import MachineUsage
from gpuscale_tui.store import usage, workers
from gpuscale_tui.store.progress import Usage

LOOK_SEC = 5.0
MOST_PER_SEC = 10.0
"""Questions a second to all machines together: each costs us some milliseconds. A large fleet is asked less often."""
MOST_AT_ONCE = 64
SILENT_FACTOR = 8
"""Who gave no answer is asked that much later again."""
THIN_SEC = 120.0


@dataclass(slots=True)
class Gauge:
    """When a machine is asked next, and what it said last."""

    due: float
    said: MachineUsage | None = None


class Gauger:
    """Asks idle and busy machines in turn, spread over the time between two questions. Nothing depends on it."""

    name = "gauger"

    def __init__(self, context: Context, links: Links, tasks: asyncio.TaskGroup) -> None:
        self._context = context
        self._links = links
        self._tasks = tasks
        self._clock = asyncio.get_running_loop().time
        self._gauges: dict[int, Gauge] = {}
        self._asking: set[int] = set()
        self._waiting: list[Usage] = []
        self._thinned_at: float | None = None
        self._thinned_until = 0

    async def tick(self) -> float:
        """See `Service.tick`."""
        interval = self._context.settings.machines.usage_interval_sec
        await self._store()
        if not interval:
            self._gauges.clear()
            return LOOK_SEC * 6
        live = await self._context.db.read(workers.live)
        working = [each for each in live if each.state in {WorkerState.IDLE, WorkerState.BUSY}]
        pause = max(interval, len(working) / MOST_PER_SEC)
        self._plan(working, pause)
        now = self._clock()
        due = [each for each in working if self._gauges[each.id].due <= now and self._is_free(each)]
        due.sort(key=lambda each: self._gauges[each.id].due)
        for worker in due[: max(0, MOST_AT_ONCE - len(self._asking))]:
            self._asking.add(worker.id)
            self._gauges[worker.id].due = now + pause
            name = f"gauging {worker_label(worker.id)}"
            work = partial(self._ask, worker, pause)
            self._tasks.create_task(guarded(self._context, name, work), name=name)
        return min(LOOK_SEC, pause)

    def _is_free(self, worker: Worker) -> bool:
        return worker.id not in self._asking and self._links.is_open(worker.id)

    def _plan(self, working: list[Worker], pause: float) -> None:
        """New machines are asked soon, but not all in the same moment."""
        now, known = self._clock(), {worker.id for worker in working}
        self._gauges = {worker_id: gauge for worker_id, gauge in self._gauges.items() if worker_id in known}
        fresh = [worker.id for worker in working if worker.id not in self._gauges]
        for number, worker_id in enumerate(fresh):
            self._gauges[worker_id] = Gauge(now + min(pause, number / MOST_PER_SEC))

    async def _ask(self, worker: Worker, pause: float) -> None:
        """One question; a machine that gives no answer is left alone for a while, and that is all."""
        try:
            site = self._links.open_site(worker.id)
            gauge = self._gauges.get(worker.id)
            if site is None or gauge is None:
                return
            gauge.due = self._clock() + SILENT_FACTOR * pause
            with contextlib.suppress(RemoteError):
                said = await site.usage(self._context.base)
                gauge.due = self._clock() + pause
                self._take(worker.id, gauge, said)
        finally:
            self._asking.discard(worker.id)

    def _take(self, worker_id: int, gauge: Gauge, said: MachineUsage) -> None:
        before, gauge.said = gauge.said, said
        found = Usage(
            worker_id, self._context.now(), said.gpu_percent, said.gpu_mem_mb, said.gpu_mem_total_mb, said.gpu_temp_c,
            said.cpu_percent_since(before), said.mem_mb, said.mem_total_mb, said.disk_free_mb,
        )  # fmt: skip
        self._waiting.append(found)
        self._context.board.usage[worker_id] = found
        self._context.bells.ring("reporter")

    async def _store(self) -> None:
        """What was said since the last look, in one transaction; what has become old is thinned now and then."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            await self._context.logs.command(usage.add_usage, waiting)
        now = self._clock()
        if self._thinned_at is None or now - self._thinned_at >= THIN_SEC:
            self._thinned_at, until = now, self._context.now()
            await self._context.logs.command(usage.thin_usage, self._thinned_until, until)
            self._thinned_until = until
