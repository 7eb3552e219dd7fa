"""Running: one task for each attempt that has not ended, taken up again after any failure or restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from gpuscale_tui.engine.attempt import AttemptRun, note_failure
from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.dispatch import Assignment
from gpuscale_tui.engine.links import Links
from gpuscale_tui.engine.service import guarded
from gpuscale_tui.engine.stopping import StopReason, stop_reason
from gpuscale_tui.model.jobs import Attempt
from gpuscale_tui.model.states import Cause
from gpuscale_tui.store import budgets, jobs, rehearsals, saving, workers
from gpuscale_tui.store.database import StaleEngine

LOGGER = logging.getLogger("gpuscale.engine")
LOOK_SEC = 2.0
FIRST_PAUSE_SEC = 1.0
LONGEST_PAUSE_SEC = 60.0
ENGINE_STOPPED = StopReason(Cause.PREEMPTED, "the engine was stopped; it goes on later")
Key = tuple[int, int]


@dataclass(slots=True)
class Running:
    """An attempt's task, and how often it has failed by our own fault."""

    task: asyncio.Task[None]
    run: AttemptRun


class Runner:
    """Keeps a task for every live attempt; one that fails harms no other.

    What was just placed is begun by `take`; the look finds what an engine before this one left, and what failed.
    `tidy` is told of each attempt whose directory on its machine is no longer needed.
    """

    name = "runner"

    def __init__(
        self, context: Context, links: Links, tasks: asyncio.TaskGroup, tidy: Callable[[Attempt], None]
    ) -> None:
        self._context = context
        self._links = links
        self._tasks = tasks
        self._tidy = tidy
        self._running: dict[Key, Running] = {}
        self._failures: dict[Key, int] = {}

    def take(self, placed: tuple[Assignment, ...]) -> None:
        """Begin attempts that were placed this instant."""
        for assignment in placed:
            self._begin(assignment.attempt, assignment)

    async def tick(self) -> float:
        """See `Service.tick`."""
        known = list(self._running)
        live = {_key(attempt): attempt for attempt in await self._context.db.read(jobs.live_attempts)}
        for key in known:
            if key not in live and key in self._running:
                self._running.pop(key).task.cancel()
                self._failures.pop(key, None)
        for attempt in live.values():
            self._begin(attempt, None)
        await self._pass_on_stops(live)
        return LOOK_SEC

    def _begin(self, attempt: Attempt, placed: Assignment | None) -> None:
        key = _key(attempt)
        if key in self._running:
            return
        run = AttemptRun(self._context, self._links, attempt, self._ended)
        if self._context.control.at_once:
            run.ask_to_stop(ENGINE_STOPPED)
        carrying = guarded(self._context, attempt.remote_name, partial(self._carry, key, attempt, run, placed))
        self._running[key] = Running(self._tasks.create_task(carrying, name=attempt.remote_name), run)

    def _ended(self, attempt: Attempt, following: tuple[Assignment, ...]) -> None:
        self._tidy(attempt)
        self.take(following)

    async def _carry(self, key: Key, attempt: Attempt, run: AttemptRun, placed: Assignment | None) -> None:
        """Run to the end; an unforeseen error is told, and the attempt is taken up again after a pause."""
        try:
            await run.run(placed)
            self._failures.pop(key, None)
        except StaleEngine:
            raise
        except Exception as error:
            LOGGER.exception("%s failed", attempt.remote_name)
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            if failures == 1:
                await note_failure(self._context, attempt, error)
            await asyncio.sleep(min(FIRST_PAUSE_SEC * 2 ** min(failures, 10), LONGEST_PAUSE_SEC))
            self._context.bells.ring(self.name)
        finally:
            running = self._running.get(key)
            if running is not None and running.run is run:
                del self._running[key]

    async def _pass_on_stops(self, live: dict[Key, Attempt]) -> None:
        if not self._running:
            return
        context = self._context
        if context.control.at_once:
            for running in self._running.values():
                running.run.ask_to_stop(ENGINE_STOPPED)
            return
        now = context.now()
        asked = frozenset(await context.db.read(saving.wanted))
        for key in self._running:
            if key[0] in asked:
                self._running[key].run.save_now()
        told = await context.db.read(rehearsals.moved_jobs)
        told |= {job.id: job for job in await context.db.read(jobs.cancelling, now)}
        held = await context.db.read(budgets.stopping)
        fleet = {worker.id: worker for worker in await context.db.read(workers.live)}
        for key, running in self._running.items():
            if key not in live:
                continue
            reason = stop_reason(told.get(key[0]), fleet.get(live[key].worker_id), held.get(key[0]), now)
            if reason is not None:
                running.run.ask_to_stop(reason)


def _key(attempt: Attempt) -> Key:
    return attempt.job_id, attempt.number
