"""Room for new snapshots: a project's quota holds, by what goes before and after, or its user is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.jobs import Attempt, job_label
from gpuscale_tui.model.notices import NoticeKind
from gpuscale_tui.store import quota, snapshots
from gpuscale_tui.store.checkpoints import SnapshotError


class NoRoom(SnapshotError):
    """A snapshot cannot be made: the quota of its project is used up."""


class RoomMaker:
    """Makes room for the snapshots of one attempt."""

    def __init__(self, context: Context, attempt: Attempt) -> None:
        self._context = context
        self._attempt = attempt

    async def make(self, wanted: int) -> tuple[tuple[int, int], ...]:
        """Remove what must go so that `wanted` bytes more hold; returns what goes once the new snapshot is there.

        Raises NoRoom.
        """
        context, config = self._context, self._context.settings.checkpoints
        if not config.quota_mb and not config.quotas:
            return ()
        job_id = self._attempt.job_id
        claimed = await context.db.read(quota.claim, job_id)
        limit = quota.quota_of(config, claimed.project)
        if not limit:
            return ()
        room = await asyncio.to_thread(
            quota.make_room, context.archive, claimed, job_id, wanted, limit, keep=config.keep
        )
        if room.refused:
            text = f"{job_label(job_id)} could not be saved: {room.refused}"
            await context.notify(NoticeKind.QUOTA, text, key=f"quota:{claimed.project}:{limit}", job_id=job_id)
            raise NoRoom(room.refused)
        await self.remove(room.before)
        return room.after

    async def remove(self, going: Iterable[tuple[int, int]]) -> None:
        """Remove snapshots, by job and number: noted first, so that nothing can start from them any more."""
        context = self._context
        for job_id, number in going:
            if await context.db.write(snapshots.mark_pruned, job_id, number, now=context.now(), epoch=context.epoch):
                await asyncio.to_thread(context.archive.remove, job_id, number)
