"""One SSH connection a worker, opened when first needed and again when lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.remote.connection import Machine, connect
from gpuscale_tui.remote.errors import Unreachable

CONNECT_SEC = 15.0


class Links:
    """The open connections, by worker. Connecting to one worker never waits for another."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._machines: dict[int, Machine] = {}
        self._locks: dict[int, asyncio.Lock] = {}

    async def machine(self, worker: Worker) -> Machine:
        """The worker's connection. Raises Unreachable, AuthRefused or HostKeyChanged."""
        async with self._locks.setdefault(worker.id, asyncio.Lock()):
            open_one = self._machines.get(worker.id)
            if open_one is not None and not open_one.closed:
                return open_one
            machine = await self._connect(worker)
            self._machines[worker.id] = machine
            self._context.bells.ring("tidier")
            return machine

    async def _connect(self, worker: Worker) -> Machine:
        if worker.endpoint is None:
            raise Unreachable(f"{worker_label(worker.id)} has no address yet")
        return await connect(worker.endpoint, client_key=self._context.home.client_key, timeout_sec=CONNECT_SEC)

    def is_open(self, worker_id: int) -> bool:
        """Whether there is a living connection (keepalives notice a dead one within a minute)."""
        machine = self._machines.get(worker_id)
        return machine is not None and not machine.closed

    def open_workers(self) -> frozenset[int]:
        """The workers with a living connection."""
        return frozenset(worker_id for worker_id, machine in self._machines.items() if not machine.closed)

    def open_machine(self, worker_id: int) -> Machine | None:
        """The worker's connection if there is a living one."""
        machine = self._machines.get(worker_id)
        return None if machine is None or machine.closed else machine

    async def drop_except(self, worker_ids: Iterable[int]) -> None:
        """Close the connections of workers that are no longer there."""
        keep = set(worker_ids)
        for worker_id in [known for known in self._machines if known not in keep]:
            self._locks.pop(worker_id, None)
            await self._machines.pop(worker_id).close()

    async def aclose(self) -> None:
        """Close all connections."""
        await self.drop_except(())


def pinned(worker: Worker, host_key: str) -> Worker:
    """The worker with its host key pinned."""
    return worker if worker.endpoint is None else replace(worker, endpoint=replace(worker.endpoint, host_key=host_key))
