"""The engine's life around the screen: taken or attached to after the first frame, handed on or ended at the end."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from gpuscale_tui.engine.lock import EngineRunning
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.messages import EngineState

START_SEC = 60.0


class RunningEngine(Protocol):
    """What the screen needs of an engine that it has started (`engine.engine.Engine`)."""

    @property
    def alive(self) -> bool:
        """Whether its thread still runs."""
        ...

    @property
    def failure(self) -> BaseException | None:
        """What ended it unasked."""
        ...

    def stop(self, *, at_once: bool) -> None:
        """Ask it to end; returns at once."""
        ...

    def detach(self) -> None:
        """End it without giving anything back: machines and jobs go on, another engine takes them over."""
        ...

    def wait(self, timeout: float | None) -> bool:
        """Wait for its end; whether it has come."""
        ...


Start = Callable[[], RunningEngine]
"""Takes the home and starts an engine, or raises EngineRunning or another GpuscaleError."""


class Leaving(StrEnum):
    """What becomes of the engine when the screen is left."""

    BACKGROUND = "background"
    FINISH = "finish"
    RELEASE = "release"


class EngineHost:
    """Owns the engine while the screen is shown. Nothing in here waits for the engine on the event loop.

    `hand_over` leaves the machines to an engine in the background; it takes a while, and gives that one's pid.
    """

    def __init__(self, start: Start | None, hand_over: Callable[[RunningEngine], int] | None = None) -> None:
        self._start = start
        self.hand_over = hand_over
        self._lock = threading.Lock()
        self._engine: RunningEngine | None = None
        self._starting = False
        self._begun = threading.Event()
        self._begun.set()
        self._reason = ""

    @property
    def engine(self) -> RunningEngine | None:
        """The engine of this process while it lives."""
        return self._engine if self._engine is not None and self._engine.alive else None

    def begin(self) -> None:
        """Start an engine on a thread, unless one is starting or runs."""
        with self._lock:
            if self._start is None or self._starting or self.engine is not None:
                return
            self._starting = True
            self._begun.clear()
            self._reason = ""
        threading.Thread(target=self._begin, name="engine-start", daemon=True).start()

    def _begin(self) -> None:
        try:
            assert self._start is not None
            self._engine = self._start()
        except EngineRunning:
            self._reason = ""
        except (GpuscaleError, OSError, ImportError) as error:
            self._reason = f"the engine did not start: {error}"
        finally:
            self._starting = False
            self._begun.set()

    async def begun(self) -> None:
        """Wait until a start that is under way has come to something, for START_SEC at most."""
        await asyncio.to_thread(self._begun.wait, START_SEC)

    def state(self, pid: int | None) -> EngineState:
        """Where the engine runs; `pid` is who holds the lock."""
        if self.engine is not None:
            return EngineState("inside", os.getpid())
        if self._starting:
            return EngineState("starting")
        if pid is not None:
            return EngineState("attached", pid or None)
        return EngineState("none", note=self._trouble())

    def _trouble(self) -> str:
        """Why there is no engine here although there should be one; empty after an orderly end."""
        failure = self._engine.failure if self._engine is not None else None
        return f"the engine failed: {failure}" if failure is not None else self._reason


def starter(home: Home, environ: Mapping[str, str], read_again: Callable[[], Settings]) -> Start:
    """Starts the real engine in this process; its heavy modules are imported then and not before.

    `read_again` reads the settings: at each start, and when the engine is asked to read them anew.
    """

    def start() -> RunningEngine:
        from gpuscale_tui.engine.engine import Engine

        engine = Engine(home, read_again(), mode="screen", environ=environ, read_again=read_again)
        return engine.__enter__()

    return start


def hand_over(engine: RunningEngine, home: Home, config: Path | None) -> int:
    """Leave the machines and jobs to an engine in the background; returns its pid."""
    from gpuscale_tui.engine.background import start_background

    engine.detach()
    return start_background(home, config=config, exit_when_idle=True)
