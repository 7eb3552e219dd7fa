"""Placing: waiting jobs onto idle machines, at once. A machine that a job has just left is seen to by `dispatch`."""

from __future__ import annotations

from collections.abc import Callable

from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.dispatch import Assignment, place_waiting, terms
from gpuscale_tui.engine.links import Links
from gpuscale_tui.store import demand

SHORTEST_HOLD_SEC = 0.05


class Placer:
    """Claims jobs for machines and hands them to the runner."""

    name = "placer"

    def __init__(self, context: Context, links: Links, take: Callable[[tuple[Assignment, ...]], None]) -> None:
        self._context = context
        self._links = links
        self._take = take

    async def tick(self) -> float:
        """See `Service.tick`."""
        context, now = self._context, self._context.now()
        poll = context.settings.scaler.poll_interval_sec
        if context.control.drain:
            return poll
        by = terms(context.settings, self._links.open_workers())
        self._take(await context.db.write(place_waiting, by, now=now, epoch=context.epoch))
        return await self._next_hold(now, poll)

    async def _next_hold(self, now: int, poll: float) -> float:
        """Look again when the next job that is held after a fault may run."""
        at = await self._context.db.read(demand.next_release_of_hold, now)
        return poll if at is None else max(SHORTEST_HOLD_SEC, min(poll, (at - now) / 1000))
