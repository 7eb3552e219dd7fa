"""One limiter for all calls that one API key makes in this process.

Clore allows one request a second per key over all endpoints and one order in five seconds, and refuses the rest with
HTTP 429 (Clore API reference, section 1.1). Cancelling goes first: it is what stops money from being spent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import IntEnum

LONGEST_PAUSE_SEC = 120.0
"""A `Retry-After` beyond this is not believed: machines would go on costing money."""

LONGEST_OWN_PAUSE_SEC = 30.0
_NEVER = float("-inf")


class Priority(IntEnum):
    """Who goes first when several calls wait; within one priority, who came first."""

    CANCEL = 0
    CREATE = 1
    ORDERS = 2
    MARKET = 3


class Limiter:
    """Spaces the starts of calls: any two by `request_interval`, two creates by `create_interval` (seconds).

    Time is the running event loop's clock. One limiter serves one event loop.
    """

    def __init__(self, request_interval: float, create_interval: float) -> None:
        self._request_interval = request_interval
        self._create_interval = create_interval
        self._queues: dict[Priority, deque[asyncio.Future[None]]] = {priority: deque() for priority in Priority}
        self._any_after = _NEVER
        self._create_after = _NEVER
        self._refusals = 0
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self, priority: Priority, patience: float) -> None:
        """Wait until a call of this priority may start. Raises TimeoutError after `patience` seconds."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues[priority].append(waiter)
        self._grant()
        async with asyncio.timeout(patience):
            await waiter

    def refused(self, retry_after: float | None) -> None:
        """A call was answered with "too many requests": nothing starts for `retry_after` seconds.

        Without that figure the pause doubles with each refusal in a row.
        """
        self._refusals += 1
        own_pause = max(self._request_interval, 0.1) * 2 ** min(self._refusals, 20)
        pause = min(own_pause, LONGEST_OWN_PAUSE_SEC) if retry_after is None else min(retry_after, LONGEST_PAUSE_SEC)
        self._any_after = max(self._any_after, asyncio.get_running_loop().time() + pause)
        self._grant()

    def answered(self) -> None:
        """A call was answered in the ordinary way."""
        self._refusals = 0

    def close(self) -> None:
        """Drop the timer. Waiting calls end by their own patience."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _grant(self) -> None:
        """Start every call whose time has come and set the timer for the next."""
        self.close()
        loop = asyncio.get_running_loop()
        while waiting := self._waiting():
            now = loop.time()
            priority = next((each for each in waiting if self._not_before(each) <= now), None)
            if priority is None:
                self._timer = loop.call_at(min(map(self._not_before, waiting)), self._grant)
                return
            self._start(priority, now)

    def _start(self, priority: Priority, now: float) -> None:
        self._any_after = max(self._any_after, now + self._request_interval)
        if priority is Priority.CREATE:
            self._create_after = now + self._create_interval
        self._queues[priority].popleft().set_result(None)

    def _waiting(self) -> list[Priority]:
        """The priorities that somebody waits in, first one first; those who gave up are forgotten."""
        for queue in self._queues.values():
            while queue and queue[0].done():
                queue.popleft()
        return [priority for priority, queue in self._queues.items() if queue]

    def _not_before(self, priority: Priority) -> float:
        return max(self._any_after, self._create_after) if priority is Priority.CREATE else self._any_after
