"""Several sessions that share one list of work, as many as the server has room for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

from gpuscale_tui.remote.errors import NoSession, RemoteError, TransferError, Unreachable

T = TypeVar("T")
AGAIN_SEC = 0.2
TRIES = 100
"""How often the only worker left asks for a session: a server frees one that was closed a moment later."""


class Crew(Generic[T]):
    """Does each piece of work once, in order of their beginning, with at most `size` at a time."""

    def __init__(self, work: Iterable[T], do: Callable[[T], Awaitable[None]], *, size: int) -> None:
        """`do` may raise NoSession before it has begun: then the piece goes to another worker."""
        self._work = deque(work)
        self._do = do
        self._size = min(size, len(self._work))

    async def run(self) -> None:
        """All of it. Raises what `do` raised, in an exception group; the others are cancelled then."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._size):
                tasks.create_task(self._run())

    async def _run(self) -> None:
        refused = 0
        while self._work:
            piece = self._work.popleft()
            try:
                await self._do(piece)
            except NoSession:
                self._work.appendleft(piece)
                if self._size > 1:
                    break
                refused += 1
                if refused == TRIES:
                    raise
                await asyncio.sleep(AGAIN_SEC)
            else:
                refused = 0
        self._size -= 1


def worst(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one to tell of several that came together: our own disk's before the machine's, that before the line's."""
    errors: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
        else:
            errors.append(error)
    return min(errors, key=_rank)


def _rank(error: BaseException) -> int:
    if isinstance(error, Unreachable):
        return 4
    if isinstance(error, RemoteError):
        return 2 if isinstance(error, TransferError) else 3
    return 0 if isinstance(error, OSError) else 1
