"""Placing: waiting jobs onto idle machines, at once."""

from __future__ import annotations

from gpuscale_tui.engine import view
from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.policy.placing import place
from gpuscale_tui.store import demand, jobs, workers


class Placer:
    """Claims jobs for machines; the runner does the rest."""

    name = "placer"

    def __init__(self, context: Context) -> None:
        self._context = context

    async def tick(self) -> float:
        """See `Service.tick`."""
        context, now = self._context, self._context.now()
        poll = context.settings.scaler.poll_interval_sec
        if context.control.drain:
            return poll
        live = await context.db.read(workers.live)
        idle = [worker for worker in live if worker.state == WorkerState.IDLE]
        if not idle:
            return poll
        heads = await context.db.read(demand.heads, len(idle), now)
        places = place(view.pending(heads), view.machines(idle), view.limits(context.settings), now)
        for chosen in places:
            await context.db.write(jobs.place, chosen.job_id, chosen.worker_id, now=now, epoch=context.epoch)
        if places:
            context.bells.ring("runner")
        return await self._next_hold(now, poll)

    async def _next_hold(self, now: int, poll: float) -> float:
        """Look again when the next job that is held after a fault may run."""
        at = await self._context.db.read(demand.next_release_of_hold, now)
        return poll if at is None else max(0.05, min(poll, (at - now) / 1000))
