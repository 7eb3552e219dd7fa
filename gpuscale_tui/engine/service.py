"""The loop that every service runs in: look, act, wait for the bell. One failing service harms no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Protocol

from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.store.database import StaleEngine

LOGGER = logging.getLogger("gpuscale.engine")
LONGEST_PAUSE_SEC = 60.0
REST_FOR_WORK = 4.0
LONGEST_REST_SEC = 1.0
"""A service that `rests` does so four times as long as its look took, so that a long queue does not eat a core; at most
a second, for what took long may as well have waited for somebody else."""


class Service(Protocol):
    """One duty of the engine."""

    name: str

    async def tick(self) -> float:
        """Look at the world once and act; returns the seconds after which to look again at the latest."""
        ...


async def serve(context: Context, service: Service, *, quiet_sec: float = 0.0, rests: bool = False) -> None:
    """Run a service until cancelled. `quiet_sec` is the least time between two looks, however often the bell rings;
    with `rests` that time grows with what a look takes.

    A look that fails is reported and repeated after a growing pause; only losing the home to another engine ends it.
    """
    failures, loop = 0, asyncio.get_running_loop()
    while True:
        begun = loop.time()
        try:
            delay = await service.tick()
        except StaleEngine:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the other duties go on and the user is told
            failures += 1
            await _report(context, service.name, error, failures)
            await asyncio.sleep(min(2.0 ** min(failures, 10), LONGEST_PAUSE_SEC))  # a power that large would not fit
            continue
        failures = 0
        rest = max(quiet_sec, min(REST_FOR_WORK * (loop.time() - begun), LONGEST_REST_SEC) if rests else 0.0)
        if rest:
            await asyncio.sleep(rest)
        await context.bells.wait(service.name, max(0.0, delay - rest))


async def guarded(context: Context, name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a task of a service; its failure is told and harms nothing else. Only StaleEngine is passed on.

    `work` is called here, not by the caller: a task that is cancelled before its first step leaves nothing behind.
    """
    try:
        await work()
    except StaleEngine:
        raise
    except Exception as error:  # noqa: BLE001 - the next look of the service takes it up again
        await _report(context, name, error, 1)


async def _report(context: Context, name: str, error: Exception, failures: int) -> None:
    """Tell the log each time, the audit log the first time: a full disk must not be asked to store its own message."""
    trace = None if isinstance(error, GpuscaleError) else error  # an error made for users says all there is to say
    LOGGER.error("%s failed (%d in a row): %s", name, failures, error, exc_info=trace)
    if failures > 1:
        return
    try:
        await context.warn(f"{name} failed: {error}; it is tried again")
    except StaleEngine:
        raise
    except Exception as second:  # noqa: BLE001 - the log above has the first error, this one says why it is only there
        LOGGER.error("the warning could not be stored: %s", second)  # noqa: TRY400
