"""A sandbox in this process, a renter who works it over real sockets, and a clock that can be set."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest

from gpuscale_tui.sandbox.options import Options
from gpuscale_tui.sandbox.server import Sandbox

GPU_4090 = "1x NVIDIA GeForce RTX 4090"
DOLLARS = "USD-Blockchain"


async def until(probe: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until the probe (plain or async) gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        result = probe()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return result
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


class SetClock:
    """Wall time plus what the test adds."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead

    def forward(self, seconds: float) -> None:
        self.ahead += round(seconds * 1000)


@dataclass
class Renter:
    """Somebody who rents machines: HTTP clients, a key, and the steps every test needs."""

    sandbox: Sandbox
    api: httpx.AsyncClient
    control: httpx.AsyncClient
    key: asyncssh.SSHKey
    clock: SetClock

    async def get(self, path: str, **query: Any) -> Any:
        return (await self.api.get(path, params=query)).json()

    async def post(self, path: str, body: Any) -> httpx.Response:
        return await self.api.post(path, json=body)

    async def servers(self, note: str = "", gpu: str = GPU_4090) -> list[dict[str, Any]]:
        """Market rows, cheapest first: ordinary ones of a GPU, or those with a note."""
        notes = {s.id: s.note for s in self.sandbox.book.market.servers.values()}
        rows = [row for row in (await self.get("/marketplace"))["servers"] if isinstance(row["id"], int)]
        fitting = [
            r for r in rows if (note in notes[r["id"]] if note else not notes[r["id"]] and r["specs"]["gpu"] == gpu)
        ]
        return sorted(fitting, key=lambda row: row["price"]["on_demand"][DOLLARS])

    def wish(self, server: int, **changes: Any) -> dict[str, Any]:
        """A create_order body."""
        body = {
            "renting_server": server,
            "type": "on-demand",
            "currency": DOLLARS,
            "image": "cloreai/jupyter:ubuntu24.04-v2",
            "ports": {"22": "tcp", "8888": "http"},
            "env": {"MANAGED_BY": "us"},
            "ssh_key": self.key.export_public_key().decode(),
            "autossh_entrypoint": True,
        }
        return {name: value for name, value in (body | changes).items() if value is not None}

    async def create(self, server: int, **changes: Any) -> httpx.Response:
        return await self.post("/create_order", self.wish(server, **changes))

    async def rent(self, index: int = 0, **changes: Any) -> dict[str, Any]:
        """Rent an ordinary machine and wait until its container runs; its row of my_orders."""
        server = (await self.servers())[index]["id"]
        reply = await self.create(server, **changes)
        assert (reply.status_code, reply.json()) == (200, {"code": 0})
        return await until(lambda: self.order(server, up=True))

    async def order(self, server: int, *, up: bool = False) -> dict[str, Any] | None:
        """The row of a server's order in my_orders, if it is there (and runs)."""
        rows = [row for row in (await self.get("/my_orders"))["orders"] if row["si"] == server]
        return next((row for row in rows if not up or row["mon_container"] == 2), None)

    async def completed(self, number: int) -> dict[str, Any] | None:
        rows = (await self.get("/my_orders", return_completed="true"))["orders"]
        return next((row for row in rows if row["id"] == number and row.get("expired")), None)

    async def connect(self, row: dict[str, Any], **changes: Any) -> asyncssh.SSHClientConnection:
        """An SSH connection to an order's machine, with our key."""
        options: dict[str, Any] = {"username": "root", "client_keys": [self.key], "known_hosts": None, "config": None}
        return await asyncssh.connect("127.0.0.1", ssh_port(row), **options | changes)

    async def bill(self) -> Any:
        return (await self.control.get("/bill")).json()

    async def log(self, what: str) -> list[dict[str, Any]]:
        return [entry for entry in (await self.control.get("/log")).json()["log"] if entry["what"] == what]

    async def fault(self, **faults: Any) -> None:
        reply = await self.control.post("/faults", json={"set": faults})
        assert reply.status_code == 200, reply.text


def ssh_port(row: dict[str, Any]) -> int:
    """The public port for port 22."""
    return int(next(text for text in row["tcp_ports"] if text.startswith("22:")).partition(":")[2])


MakeRenter = Callable[..., Any]


@pytest.fixture
def make_renter(tmp_path: Path) -> MakeRenter:
    """Start a sandbox with options of one's own: `async with make_renter(rate_limits=True) as renter`."""

    @asynccontextmanager
    async def make(**options: Any) -> AsyncIterator[Renter]:
        clock = SetClock()
        problems: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        settings: dict[str, Any] = {"root": tmp_path / "root", "boot_seconds": (0.0, 0.05), "listing_lag": 0.0}
        async with Sandbox(Options(**settings | options), clock=clock) as sandbox:
            headers = {"auth": sandbox.api_key}
            token = {"x-sandbox-token": sandbox.control_token}
            async with (
                httpx.AsyncClient(base_url=sandbox.url, headers=headers, timeout=60) as api,
                httpx.AsyncClient(base_url=sandbox.control_url, headers=token, timeout=60) as control,
            ):
                yield Renter(sandbox, api, control, asyncssh.generate_private_key("ssh-ed25519"), clock)
        gc.collect()
        assert problems == [], "the event loop had something to complain about"

    return make


@pytest.fixture
async def renter(make_renter: MakeRenter) -> AsyncIterator[Renter]:
    """A renter on a quick sandbox without faults."""
    async with make_renter() as renter:
        yield renter
