"""The store on the virtual loop: the same SQL and the same group commits over plain SQLite, without threads."""

from __future__ import annotations

import random
import sqlite3
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gpuscale_tui.store import logs
from gpuscale_tui.store.aio import AsyncDatabase, AsyncLogs
from gpuscale_tui.store.database import connect
from tests.sim.loop import VirtualLoop

T = TypeVar("T")


class InlineConnection:
    """Stands in for `store.aio.Connection`: calls are carried out one after the other, each as one effect.

    `pace` draws how many seconds a call takes; calls that wait meanwhile share a commit, as they do with threads.
    """

    def __init__(self, loop: VirtualLoop, raw: sqlite3.Connection, kind: str, pace: Callable[[], float]) -> None:
        self.raw = raw
        self._loop = loop
        self._kind = kind
        self._pace = pace
        self._queue: deque[tuple[Callable[[], Any], Any]] = deque()
        self._free_at = 0.0

    async def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """As `store.aio.Connection.call`."""
        seconds = self._pace()
        if not seconds and self._free_at <= self._loop.time():
            return await self._loop.effect(self._kind, partial(function, self.raw, *args, **kwargs))
        at = self._free_at = max(self._free_at, self._loop.time()) + seconds
        act = partial(function, self.raw, *args, **kwargs)
        return await self._loop.effect(self._kind, act, delay=at - self._loop.time())

    async def close(self) -> None:
        """Close the file."""
        self.raw.close()


class Disk:
    """The files of one home. `slow` is the share of calls that take a while."""

    def __init__(self, loop: VirtualLoop, seed: int | str, *, slow: float = 0.0) -> None:
        self.slow = slow
        self._loop = loop
        self._dice = random.Random(f"disk {seed}")
        self._open: list[sqlite3.Connection] = []

    def database(self, path: Path) -> AsyncDatabase:
        """Open the main database as `AsyncDatabase.open` does."""
        return AsyncDatabase(*self._pair(connect(path), connect(path, readonly=True), "commit"))  # type: ignore[arg-type]

    def logs(self, path: Path) -> AsyncLogs:
        """Open the log file as `AsyncLogs.open` does."""
        writer = logs.connect_logs(path, readonly=False)
        return AsyncLogs(*self._pair(writer, logs.connect_logs(path, readonly=True), "log"))  # type: ignore[arg-type]

    def _pair(
        self, writer: sqlite3.Connection, reader: sqlite3.Connection, kind: str
    ) -> tuple[InlineConnection, InlineConnection]:
        self._open += [writer, reader]
        return (
            InlineConnection(self._loop, writer, kind, self._seconds),
            InlineConnection(self._loop, reader, "read", self._seconds),
        )

    def _seconds(self) -> float:
        if not self.slow or self._dice.random() >= self.slow:
            return 0.0
        return self._dice.choice((0.001, 0.01, 0.1, 2.0))

    def drop(self) -> None:
        """The process that had the files open is gone; what it committed stays."""
        for connection in self._open:
            connection.close()
        self._open.clear()
