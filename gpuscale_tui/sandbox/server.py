"""A whole sandbox, put together: market, orders, machines, HTTP server. An async context manager.

Leaving it ends every machine and removes everything it wrote. For a sandbox that must be gone even after `kill -9`
start the program (`python -m gpuscale_tui.sandbox serve`), which has a watchdog.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gpuscale_tui.sandbox.api import Api, RateLimiter
from gpuscale_tui.sandbox.clock import Clock, wall_clock
from gpuscale_tui.sandbox.control import Control
from gpuscale_tui.sandbox.faults import FaultBoard
from gpuscale_tui.sandbox.front import Front
from gpuscale_tui.sandbox.history import History
from gpuscale_tui.sandbox.http import HttpServer
from gpuscale_tui.sandbox.market import Market
from gpuscale_tui.sandbox.options import Options
from gpuscale_tui.sandbox.orders import OrderBook
from gpuscale_tui.sandbox.processes import Target, end, sweep
from gpuscale_tui.sandbox.start import StartError, new_mark, new_root
from gpuscale_tui.sandbox.ticker import Ticker

ENDING_SECONDS = 30.0


class Sandbox:
    """One sandbox. `url` is the base of the Clore API (ends in /v1), `control_url` that of the control surface."""

    def __init__(
        self,
        options: Options = Options(),  # noqa: B008 - frozen
        *,
        clock: Clock = wall_clock,
        mark: str | None = None,
        root: Path | None = None,
    ) -> None:
        self.options = options
        self.api_key = options.api_key or secrets.token_hex(16)
        self.control_token = secrets.token_hex(16)
        self.mark = mark or new_mark()
        self.root = root or new_root(options)
        self.history = History(clock)
        self.faults = FaultBoard(clock)
        for text in options.faults:
            self.faults.set_text(text)
        self.book = OrderBook(
            market=Market(options.seed),
            faults=self.faults,
            clock=clock,
            options=options,
            history=self.history,
            root=self.root,
            mark=self.mark,
            spawn=self._spawn,
            rng=random.Random(options.seed),  # noqa: S311 - order numbers and boot times, no secrets
        )
        api = Api(self.book, self.api_key, RateLimiter(options.rate_limits))
        front = Front(api, Control(self.book, self.history, self.control_token), self.faults, self.history)
        self._http = HttpServer(front.handle, options.port)
        self.ticker = Ticker(self.book, options.faults_file)
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed: BaseException | None = None
        self.stopping = asyncio.Event()

    @property
    def url(self) -> str:
        """Base URL of the Clore-compatible API."""
        return f"http://127.0.0.1:{self._http.port}/v1"

    @property
    def control_url(self) -> str:
        """Base URL of the control surface."""
        return f"http://127.0.0.1:{self._http.port}/sandbox"

    async def __aenter__(self) -> Self:
        try:
            await self._http.__aenter__()
        except OSError as error:
            raise StartError(str(error)) from None
        self._spawn(self.ticker.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)
        everything = Target(self.mark + ".", self.root)
        self.book.close()
        await asyncio.to_thread(sweep, everything)
        await self._finish()
        await asyncio.to_thread(end, everything)
        if self.failed is not None and error is None:
            raise self.failed

    async def _finish(self) -> None:
        """Let machines go down; end what only waits."""
        for task in self._tasks:
            if task.get_name() in {"run", "_linger", "_outage"}:
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ENDING_SECONDS)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Own a task: its failure is a bug of the sandbox, which then stops and says so."""
        task = asyncio.get_running_loop().create_task(work, name=getattr(work, "__name__", None))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed = self.failed or error
            self.stopping.set()
