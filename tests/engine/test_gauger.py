"""Asking machines what they do: spread in time, few at once, and who does not answer costs nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from gpuscale_tui.engine.board import Board
from gpuscale_tui.engine.gauger import MOST_AT_ONCE, Gauger
from gpuscale_tui.model.settings import MachinesConfig, Settings
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.remote.errors import Unreachable
from gpuscale_tui.remote.usage import MachineUsage
from gpuscale_tui.store import usage


@dataclass
class Machines:
    """Machines that answer, refuse or hang, and who was asked when."""

    silent: frozenset[int] = frozenset()
    hanging: frozenset[int] = frozenset()
    asked: list[tuple[float, int]] = field(default_factory=list)
    stored: list[Any] = field(default_factory=list)
    at_once: int = 0
    most: int = 0
    clock: float = 0.0

    def is_open(self, worker_id: int) -> bool:
        return True

    def open_site(self, worker_id: int) -> Any:
        async def answer(base: str) -> MachineUsage:
            self.asked.append((self.clock, worker_id))
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            try:
                if worker_id in self.hanging:
                    await asyncio.Event().wait()
                if worker_id in self.silent:
                    raise Unreachable("silent")
                return MachineUsage(gpu_percent=worker_id % 101)
            finally:
                self.at_once -= 1

        return SimpleNamespace(usage=answer)

    async def command(self, function: Any, *args: Any) -> None:
        if function is usage.add_usage:
            self.stored += args[0]


def context_of(machines: Machines, count: int, interval: float = 15.0) -> Any:
    workers = [SimpleNamespace(id=number, state=WorkerState.IDLE) for number in range(1, count + 1)]

    async def read(query: Any) -> Any:
        return workers

    return SimpleNamespace(
        settings=Settings(machines=MachinesConfig(usage_interval_sec=interval)), db=SimpleNamespace(read=read),
        logs=machines, board=Board(), bells=SimpleNamespace(ring=lambda name: None), base="base",
        now=lambda: int(machines.clock * 1000),
    )  # fmt: skip


async def gauge(machines: Machines, count: int, seconds: int, interval: float = 15.0) -> Any:
    """So many seconds of asking, with a clock of its own; what the board has then."""
    context = context_of(machines, count, interval)
    with contextlib.suppress(asyncio.CancelledError):
        async with asyncio.TaskGroup() as tasks:
            gauger = Gauger(context, machines, tasks)  # type: ignore[arg-type]
            gauger._clock = lambda: machines.clock
            while machines.clock < seconds:
                pause = await gauger.tick()
                for _ in range(5):
                    await asyncio.sleep(0)
                machines.clock += pause
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                if (task.get_name() or "").startswith("gauging"):
                    task.cancel()
    return context.board


async def test_each_machine_is_asked_as_often_as_is_set() -> None:
    """Four machines in two minutes: each eight times, and every answer is stored."""
    machines = Machines()
    board = await gauge(machines, 4, 120)
    asked = [worker_id for _, worker_id in machines.asked]
    assert all(7 <= asked.count(worker_id) <= 8 for worker_id in range(1, 5))
    assert sorted(board.usage) == [1, 2, 3, 4]
    assert len(machines.stored) >= len(asked) - 4


async def test_a_large_fleet_is_asked_less_often_and_spread() -> None:
    """Two thousand machines: never many at once, and some ten questions a second in all."""
    machines = Machines()
    await gauge(machines, 2_000, 600)
    assert machines.most <= MOST_AT_ONCE
    assert len(machines.asked) <= 600 * 10
    assert len({worker_id for _, worker_id in machines.asked}) == 2_000


async def test_who_does_not_answer_keeps_nobody_waiting() -> None:
    """One hangs, one refuses: both are asked rarely, the others as before."""
    machines = Machines(silent=frozenset({1}), hanging=frozenset({2}))
    board = await gauge(machines, 4, 120)
    asked = [worker_id for _, worker_id in machines.asked]
    assert (asked.count(1), asked.count(2)) == (1, 1)
    assert asked.count(3) >= 7
    assert sorted(board.usage) == [3, 4]


async def test_nobody_is_asked_where_that_is_off() -> None:
    """`usage_interval_sec = 0`."""
    machines = Machines()
    await gauge(machines, 4, 120, interval=0.0)
    assert machines.asked == []
