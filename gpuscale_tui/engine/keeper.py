"""Keeping the engine itself: its heartbeat, what users ask of it, and when it may end."""

from __future__ import annotations

from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.reloader import Reloader
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.money import format_usd
from gpuscale_tui.model.states import JobState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.store import demand, engines, jobs, undoing, workers
from gpuscale_tui.store.engines import Request
from gpuscale_tui.store.undoing import Due

LOOK_SEC = 1.0
SHORTEST_LOOK_SEC = 0.02
BEAT_MS = 980
"""Least time between two heartbeats that say the same."""
SAVING_SHARE = 0.5
"""Share of shutdown_grace_sec in which jobs may save; the rest is for giving their machines back."""


class Keeper:
    """Ends the engine when it is asked to or when nothing is left to do."""

    name = "keeper"

    def __init__(self, context: Context, *, exit_when_idle: bool) -> None:
        self._context = context
        self._exit_when_idle = exit_when_idle
        self._said = ""
        self._beat_at = 0
        self._told_to_wait = False
        self._next_due: int | None = None
        self._reloader = Reloader(context)

    async def tick(self) -> float:
        """See `Service.tick`."""
        context = self._context
        await self._beat()
        live = await context.db.read(workers.live)
        heard = await self._hear()
        if context.control.at_once:
            await self._give_everything_back(live)
        await self._beat(live)
        await self._maybe_end(live)
        next_beat = LOOK_SEC - (context.now() - self._beat_at) / 1000
        next_due = LOOK_SEC if heard.next_at is None else (heard.next_at - context.now()) / 1000
        return max(SHORTEST_LOOK_SEC, min(LOOK_SEC, next_beat, next_due))

    async def _hear(self) -> Due:
        """Obey what users have asked and can not take back any more."""
        context = self._context
        heard = await context.db.read(undoing.due, context.now())
        for request in heard.requests:
            await self._obey(request)
        for job_id in heard.requeued:
            await context.db.write(jobs.cancel_requeued, job_id, now=context.now(), epoch=context.epoch)
        if self._next_due is not None and context.now() >= self._next_due:
            context.bells.ring("runner", "planner")
        self._next_due = heard.next_at
        return heard

    async def _obey(self, request: Request) -> None:
        context = self._context
        if request.kind in {"stop", "stop_now"}:
            at_once = request.kind == "stop_now"  # somebody waits for the providers' word, not only for our end
            context.control.stop(at_once=at_once, now=context.now(), until_confirmed=at_once)
            await context.db.write(engines.close_request, request.id, "the engine is ending", context.now())
            context.bells.ring()
        elif request.kind == "release" and request.amount is not None:
            grace = context.settings.scaler.shutdown_grace_sec
            await self._release(request.amount, f"given back by {request.user}", grace)
            await context.db.write(engines.close_request, request.id, "done", context.now())
        elif request.kind == "reload":
            await self._reloader.reload(request)

    async def _release(self, worker_id: int, reason: str, grace_sec: float) -> None:
        context = self._context
        worker = await context.db.read(workers.get, worker_id)
        if worker is None:
            return
        begun = await context.db.write(
            workers.begin_release, worker_id, reason, grace_ms=int(grace_sec * 1000), now=context.now(),
            epoch=context.epoch,
        )  # fmt: skip
        if begun:
            context.bells.ring("releaser", "runner", "planner")

    async def _give_everything_back(self, live: list[Worker]) -> None:
        grace = self._context.settings.scaler.shutdown_grace_sec * SAVING_SHARE
        for worker in live:
            await self._release(worker.id, "the engine was stopped at once", grace)

    async def _beat(self, live: list[Worker] | None = None) -> None:
        """Note that the engine lives; while it ends, with what is `live` still."""
        context = self._context
        note = ""
        if live is None:
            note = self._said
        elif context.control.drain:
            rate = sum(worker.rate for worker in live)
            names = ", ".join(worker_label(worker.id) for worker in live[:8])
            note = f"ending: {len(live)} machines left ({names}), {format_usd(rate)}/h" if live else "ending"
        if note == self._said and context.now() < self._beat_at + BEAT_MS:
            return
        self._said, self._beat_at = note, context.now()
        await context.db.note(engines.heartbeat, context.now(), note)

    async def _maybe_end(self, live: list[Worker]) -> None:
        context, control = self._context, self._context.control
        if live and self._waited_long_enough() and await self._leave(live):
            return
        if live:
            return
        running = await context.db.read(demand.count_by_state, JobState.RUNNING.value)
        pending = await context.db.read(demand.count_by_state, JobState.PENDING.value)
        if control.drain and not running:
            control.finish("stopped; everything is given back")
        elif self._exit_when_idle and not running and not pending:
            control.finish("nothing is pending, running or rented")

    def _waited_long_enough(self) -> bool:
        control = self._context.control
        if not control.at_once or control.at_once_since is None:
            return False
        waited_ms = self._context.now() - control.at_once_since
        return waited_ms > self._context.settings.scaler.shutdown_grace_sec * 1000

    async def _leave(self, live: list[Worker]) -> bool:
        """End with machines that are not confirmed released, and say so; True unless somebody waits for that."""
        context, control = self._context, self._context.control
        names = ", ".join(worker_label(worker.id) for worker in live)
        if not control.until_confirmed:
            await context.warn(f"ended while {names} were not confirmed released; the next start goes on with them")
            control.finish(f"not confirmed released: {names}")
            return True
        if not self._told_to_wait:
            self._told_to_wait = True
            rate = format_usd(sum(worker.rate for worker in live))
            await context.warn(f"{names} are not confirmed released, {rate}/h still runs: asked again until they are")
        return False
