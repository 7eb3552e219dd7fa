"""One limiter for all calls that one API key makes: of this process, and of every other one here that uses the key.

Clore allows one request a second per key over all endpoints and one order in five seconds, and refuses the rest with
HTTP 429 (Clore API reference, section 1.1). Cancelling goes first: it is what stops money from being spent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

LONGEST_PAUSE_SEC = 120.0
"""A `Retry-After` beyond this is not believed: machines would go on costing money."""

LONGEST_OWN_PAUSE_SEC = 30.0
AT_ONCE_SEC = 1e-6
"""A call that may start in less starts now: a clock's own steps are larger."""
_NEVER = float("-inf")


class Priority(IntEnum):
    """Who goes first when several calls wait; within one priority, who came first."""

    CANCEL = 0
    CREATE = 1
    ORDERS = 2
    MARKET = 3


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between the starts of any two calls, and of any two creates."""

    request: float
    create: float

    def not_before(self, priority: Priority, last_call: float, last_create: float, pause_until: float) -> float:
        """When a call of this priority may start, after these."""
        soonest = max(last_call + self.request, pause_until)
        return max(soonest, last_create + self.create) if priority is Priority.CREATE else soonest


class Pace(Protocol):
    """Says which of the waiting calls may start, and when. Never blocks, never raises."""

    def claim(self, heads: Mapping[Priority, float]) -> Priority | float:
        """The priority whose first call starts now (which is then noted), or the seconds after which to ask again.

        `heads` gives since when (the loop's seconds) the first call of each priority has waited; it is not empty.
        """
        ...

    def withdraw(self) -> None:
        """Nobody waits any more."""
        ...

    def pause(self, seconds: float) -> None:
        """Nothing starts for so long."""
        ...

    def close(self) -> None:
        """Nobody will wait again."""
        ...


class OwnPace:
    """The pace of this process alone, on the running event loop's clock unless another is given."""

    def __init__(self, intervals: Intervals, clock: Callable[[], float] | None = None) -> None:
        self._intervals = intervals
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._last_call = self._last_create = self._pause_until = _NEVER

    def claim(self, heads: Mapping[Priority, float]) -> Priority | float:
        """See `Pace.claim`."""
        now = self._clock()
        starts = {priority: self._not_before(priority) for priority in sorted(heads)}
        ready = next((priority for priority, start in starts.items() if start - now < AT_ONCE_SEC), None)
        if ready is None:
            return min(starts.values()) - now
        self._last_call = now
        if ready is Priority.CREATE:
            self._last_create = now
        return ready

    def withdraw(self) -> None:
        """See `Pace.withdraw`."""

    def pause(self, seconds: float) -> None:
        """See `Pace.pause`."""
        self._pause_until = max(self._pause_until, self._clock() + seconds)

    def close(self) -> None:
        """See `Pace.close`."""

    def _not_before(self, priority: Priority) -> float:
        return self._intervals.not_before(priority, self._last_call, self._last_create, self._pause_until)


class Limiter:
    """Spaces the starts of calls: any two by `request_interval`, two creates by `create_interval` (seconds).

    `pace` decides; without one this process paces itself alone. One limiter serves one event loop.
    """

    def __init__(self, request_interval: float, create_interval: float, pace: Pace | None = None) -> None:
        self._request_interval = request_interval
        self._pace = pace or OwnPace(Intervals(request_interval, create_interval))
        self._queues: dict[Priority, deque[tuple[float, asyncio.Future[None]]]] = {each: deque() for each in Priority}
        self._refusals = 0
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self, priority: Priority, patience: float) -> None:
        """Wait until a call of this priority may start. Raises TimeoutError after `patience` seconds."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._queues[priority].append((loop.time(), waiter))
        self._grant()
        try:
            async with asyncio.timeout(patience):
                await waiter
        except BaseException:
            waiter.cancel()
            self._grant()  # others are told that this one waits no more
            raise

    def refused(self, retry_after: float | None) -> None:
        """A call was answered with "too many requests": nothing starts for `retry_after` seconds.

        Without that figure the pause doubles with each refusal in a row.
        """
        self._refusals += 1
        own_pause = max(self._request_interval, 0.1) * 2 ** min(self._refusals, 20)
        pause = min(own_pause, LONGEST_OWN_PAUSE_SEC) if retry_after is None else min(retry_after, LONGEST_PAUSE_SEC)
        self._pace.pause(pause)
        self._grant()

    def answered(self) -> None:
        """A call was answered in the ordinary way."""
        self._refusals = 0

    def close(self) -> None:
        """Drop the timer. Waiting calls end by their own patience."""
        self._drop_timer()
        self._pace.close()

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _grant(self) -> None:
        """Start every call whose time has come and set the timer for the next."""
        self._drop_timer()
        while heads := self._heads():
            verdict = self._pace.claim(heads)
            if not isinstance(verdict, Priority):
                self._timer = asyncio.get_running_loop().call_later(max(verdict, AT_ONCE_SEC), self._grant)
                return
            self._queues[verdict].popleft()[1].set_result(None)
        self._pace.withdraw()

    def _heads(self) -> dict[Priority, float]:
        """Since when the first call of each priority has waited; those who gave up are forgotten."""
        for queue in self._queues.values():
            while queue and queue[0][1].done():
                queue.popleft()
        return {priority: queue[0][0] for priority, queue in self._queues.items() if queue}
