"""An event loop whose clock jumps: virtual time, no threads, nothing that differs between two runs of one seed.

Every effect on the world (a commit, a call of a provider, a command on a machine) is a callback of its own, so that
the engine can be killed exactly before or after any of them: it is abandoned where it stands, and no `finally` of it
ever runs, as with a power switch.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import heapq
import random
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
SPINNING = 200_000
"""Callbacks at one instant after which the program is taken to spin."""


class Killed(Exception):
    """The engine was ended in the middle of what it did; the world goes on."""


class Spinning(AssertionError):
    """The program does not let time go on: a busy loop."""


class Stuck(AssertionError):
    """Nothing is left to happen, and yet somebody waits."""


class CountedTask(asyncio.Task[Any]):
    """A task whose place in a set depends on the order of making, not on its address."""

    def __init__(self, coro: Any, *, loop: VirtualLoop, name: str | None, context: contextvars.Context | None) -> None:
        loop.tasks_made += 1
        self._number = loop.tasks_made
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that is about to be done to the world, or was just done (`after`)."""

    kind: str
    number: int
    after: bool


class VirtualLoop(asyncio.BaseEventLoop):
    """Time stands still while anything can run and then jumps to the next moment at which something will.

    With `shuffle`, callbacks that are ready at the same time run in an order drawn from the seed. `watch` is asked
    before and after each effect; when it says True the engine is killed there. What is `outside` the engine (the
    world) survives a kill.
    """

    def __init__(self, seed: int | str = 0, *, shuffle: bool = False) -> None:
        super().__init__()
        self.tasks_made = 0
        self.effects = 0
        self.incarnation = 0
        self.watch: Callable[[Effect], bool] | None = None
        self._now = 0.0
        self._dice = random.Random(f"loop {seed}") if shuffle else None
        self._killed = False
        self._outside: list[tuple[float, int, Callable[[], None]]] = []
        self._outside_made = 0
        self._readers: dict[int, tuple[Any, Callable[[], None]]] = {}
        self._standing = 0

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._now

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None, **_more: Any) -> Any:
        return CountedTask(coro, loop=self, name=name, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Run it here, as an effect: so `asyncio.to_thread` is no thread."""
        return self.effect("file", lambda: func(*args))

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        """Nothing is read by itself: `ring` calls the readers."""
        self._readers[fd if isinstance(fd, int) else fd.fileno()] = (fd, lambda: callback(*args))

    def remove_reader(self, fd: Any) -> bool:
        return self._readers.pop(fd if isinstance(fd, int) else fd.fileno(), None) is not None

    def _write_to_self(self) -> None:
        """Nobody sleeps."""

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _run_once(self) -> None:
        if not self._ready:
            self._jump()
        self._begin_due()
        handles = list(self._ready)
        self._ready.clear()
        if self._dice is not None and len(handles) > 1:
            self._dice.shuffle(handles)
        self._standing += len(handles) + 1
        if self._standing > SPINNING:
            raise Spinning(f"{SPINNING} callbacks at {self._now:.3f} s")
        for handle in handles:
            if not handle._cancelled:
                handle._run()
                if self._killed:
                    raise Killed
        handle = None

    def _jump(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False
        moments = [self._scheduled[0]._when] if self._scheduled else []
        moments += [self._outside[0][0]] if self._outside else []
        if not moments and not self._stopping:
            raise Stuck(f"nothing is left to happen at {self._now:.3f} s")
        if moments and min(moments) > self._now:
            self._now = min(moments)
            self._standing = 0

    def _begin_due(self) -> None:
        while self._outside and self._outside[0][0] <= self._now:
            heapq.heappop(self._outside)[2]()
            if self._killed:
                raise Killed
        end = self._now + 1e-9
        while self._scheduled and self._scheduled[0]._when < end:
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False
            self._ready.append(timer)

    # What the world asks of it.

    def outside(self, delay: float, act: Callable[[], None]) -> None:
        """Let something happen in the world after `delay` seconds, whether or not the engine lives then."""
        self._outside_made += 1
        heapq.heappush(self._outside, (self._now + max(0.0, delay), self._outside_made, act))

    def effect(
        self, kind: str, act: Callable[[], T], *, delay: float = 0.0, reply: float = 0.0, travels: bool = False
    ) -> asyncio.Future[T]:
        """Do something to the world after `delay` seconds; the future hears of it after `reply` more.

        What `travels` is on its way already and happens even when the engine dies meanwhile.
        """
        future: asyncio.Future[T] = self.create_future()
        incarnation = self.incarnation

        def carry_out() -> None:
            self.effects += 1
            number, alive = self.effects, incarnation == self.incarnation
            if alive and self._asked_to_kill(Effect(kind, number, after=False)) and not travels:
                return
            outcome = attempt(act)
            if incarnation != self.incarnation or self._killed:
                return
            if self._asked_to_kill(Effect(kind, number, after=True)):
                return
            self._answer(future, outcome, reply, incarnation)

        if travels:
            self.outside(delay, carry_out)
        elif delay > 0:
            self.call_later(delay, carry_out)
        else:
            self.call_soon(carry_out)
        return future

    def _answer(self, future: asyncio.Future[T], outcome: Outcome, reply: float, incarnation: int) -> None:
        def tell() -> None:
            if incarnation == self.incarnation and not future.done():
                outcome.tell(future)

        if reply > 0:
            self.call_later(reply, tell)
        else:
            tell()

    def _asked_to_kill(self, effect: Effect) -> bool:
        if self.watch is not None and self.watch(effect):
            self._killed = True
        return self._killed

    def kill(self) -> None:
        """End the engine at once: called from a callback of the world."""
        self._killed = True

    def ring(self) -> None:
        """Let whoever reads a socket look at it."""
        for _, callback in list(self._readers.values()):
            self.call_soon(callback)

    def live(self, main: Coroutine[Any, Any, T]) -> T:
        """Run an incarnation of the engine to its end. Raises Killed when it was killed; nothing of it acts again."""
        self._killed = False
        try:
            return self.run_until_complete(main)
        finally:
            self._abandon()

    def _abandon(self) -> None:
        """Whatever of the engine is left stays as it is for ever: not even its memory is given back, for closing a
        suspended coroutine would run its `finally` blocks."""
        for task in sorted(asyncio.all_tasks(self), key=hash):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
        self._ready.clear()
        self._scheduled.clear()
        for reader, _ in self._readers.values():
            if isinstance(reader, socket.socket):
                reader.close()
        self._readers.clear()
        self.incarnation += 1
        self._killed = False

    def now_ms(self) -> int:
        """Milliseconds since the loop began."""
        return int(self._now * 1000 + 1e-6)


@dataclass(slots=True)
class Outcome:
    """What came of an effect."""

    result: Any = None
    error: BaseException | None = None

    def tell(self, future: asyncio.Future[Any]) -> None:
        if self.error is None:
            future.set_result(self.result)
        else:
            future.set_exception(self.error)


def attempt(act: Callable[[], Any]) -> Outcome:
    """Do it and keep what came of it."""
    try:
        return Outcome(result=act())
    except Exception as error:  # noqa: BLE001 - handed to whoever waits for it
        return Outcome(error=error)
