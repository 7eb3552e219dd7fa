"""Tidying: the directories of ended attempts are removed from their machines, many at a time, when there is time."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence

from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.links import Links
from gpuscale_tui.engine.service import guarded
from gpuscale_tui.model.jobs import Attempt
from gpuscale_tui.model.states import AttemptState
from gpuscale_tui.remote.attempts import AttemptRef
from gpuscale_tui.remote.errors import RemoteError
from gpuscale_tui.remote.site import Site
from gpuscale_tui.store import jobs

LOOK_SEC = 30.0
RETRY_SEC = 2.0
ASKED_AT_ONCE = 10
"""Machines asked in one look what they still have: after a restart there is more urgent work to do on all of them."""
SETTLE_SEC = 10.0
"""For so long after a start nobody is asked: what runs is taken up first, and each question is a process there."""
LAST_LOOK_SEC = 1.5
REMOTE_NAME = re.compile(r"j([0-9]{1,18})-([0-9]{1,9})")


class Tidier:
    """Nothing depends on it: what it misses goes with the machine, or at the next engine's first contact."""

    name = "tidier"

    def __init__(self, context: Context, links: Links) -> None:
        self._context = context
        self._links = links
        self._left: dict[int, list[str]] = {}
        self._asked: set[int] = set()
        self._clock = asyncio.get_running_loop().time
        self._from = self._clock() + SETTLE_SEC

    def left(self, attempt: Attempt) -> None:
        """An attempt has ended in the store: its directory is not needed any more."""
        self._left.setdefault(attempt.worker_id, []).append(attempt.remote_name)
        self._context.bells.ring(self.name)

    async def tick(self) -> float:
        """See `Service.tick`."""
        linked = self._links.open_workers()
        self._asked &= linked  # a machine that comes back is asked what it still has
        self._left = {worker_id: names for worker_id, names in self._left.items() if worker_id in linked}
        settled = self._clock() >= self._from
        unasked = sorted(linked - self._asked) if settled else []
        async with asyncio.TaskGroup() as group:
            for worker_id in {*self._left, *unasked[:ASKED_AT_ONCE]}:
                group.create_task(self._tidy(worker_id), name=f"tidy {worker_id}")
        return RETRY_SEC if self._left or unasked[ASKED_AT_ONCE:] or not settled else LOOK_SEC

    async def last_look(self) -> None:
        """Tidy up once more before the engine ends, for a moment at most."""
        self._from = self._clock()
        await guarded(self._context, self.name, self._look_briefly)

    async def _look_briefly(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_LOOK_SEC):
                await self.tick()

    async def _tidy(self, worker_id: int) -> None:
        site = self._links.open_site(worker_id)
        if site is None:
            return
        base, names = self._context.base, self._left.pop(worker_id, [])
        try:
            if worker_id not in self._asked and self._clock() >= self._from:
                names += await self._from_before(site, base)
                self._asked.add(worker_id)
            await site.remove_many([AttemptRef(base, name) for name in names])
        except RemoteError:  # tried again at the next look, or at the next contact if it was the connection
            self._left[worker_id] = [*names, *self._left.get(worker_id, ())]

    async def _from_before(self, site: Site, base: str) -> Sequence[str]:
        """What engines before this one have left: only what the store knows as ended."""
        found = await site.list_ended(base)
        keys = [(int(match[1]), int(match[2])) for name in found if (match := REMOTE_NAME.fullmatch(name))]
        known = [await self._context.db.read(jobs.get_attempt, job_id, number) for job_id, number in keys]
        return [each.remote_name for each in known if each is not None and each.state == AttemptState.ENDED]
