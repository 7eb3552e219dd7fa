"""Clearing: what crashes have left among the snapshots is removed, or noted, when there is time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gpuscale_tui.engine.context import Context
from gpuscale_tui.store import clearing

FIRST_SEC = 90.0
"""After a start there is more urgent work to do."""
LOOK_SEC = 6 * 3_600.0
NEXT_SEC = 1.0
AT_ONCE = 200
"""Jobs whose directories are looked into in one go."""


class Clearer:
    """Nothing depends on it but room on the disk, and that users see each snapshot that there is."""

    name = "clearer"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clock = asyncio.get_running_loop().time
        self._next = self._clock() + FIRST_SEC
        self._left: Sequence[int] = ()

    async def tick(self) -> float:
        """See `Service.tick`."""
        wait = self._next - self._clock()
        if wait > 0:
            return wait
        store = self._context.snapshots
        left = self._left or await asyncio.to_thread(store.jobs)
        await self._clear(left[:AT_ONCE])
        self._left = left[AT_ONCE:]
        pause = NEXT_SEC if self._left else LOOK_SEC
        self._next = self._clock() + pause
        return pause

    async def _clear(self, job_ids: Sequence[int]) -> None:
        context = self._context
        found = await asyncio.to_thread(clearing.look, context.snapshots, job_ids)
        doomed = await context.db.read(clearing.decide, found)
        cleared = await asyncio.to_thread(clearing.clear, context.snapshots, found, doomed, now=context.now())
        if cleared.unknown:
            await context.db.write(clearing.note_unknown, cleared.unknown, epoch=context.epoch)
