"""The sandbox marketplace as a process of its own, for tests that rent from it over real sockets."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

FAST = ("--boot-seconds", "0.3-0.6", "--listing-lag", "0.2")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Where it listens, and its control surface, which knows what really happened."""

    url: str
    api_key: str
    control_token: str

    def _call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self.url.removesuffix("/v1") + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"x-sandbox-token": self.control_token, "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)

    def bill(self) -> Any:
        """What everything has cost, by the marketplace's own reckoning."""
        return self._call("/sandbox/bill")

    def orders(self) -> list[dict[str, Any]]:
        """Every order ever made."""
        return list(self._call("/sandbox/orders")["orders"])

    def live_orders(self) -> list[dict[str, Any]]:
        """Orders that still cost."""
        return [order for order in self.orders() if order["live"]]

    def servers(self) -> list[dict[str, Any]]:
        """The machines on the market."""
        return list(self._call("/sandbox/servers")["servers"])

    def log(self) -> list[dict[str, Any]]:
        """Every call, and what was done."""
        return list(self._call("/sandbox/log")["log"])

    def fault(self, **faults: Any) -> None:
        """Switch faults on."""
        self._call("/sandbox/faults", {"set": faults})

    def faults(self) -> dict[str, dict[str, Any]]:
        """The faults that are on or were, with how often each has struck."""
        return dict(self._call("/sandbox/faults")["faults"])

    def switch(self, path: str, **body: Any) -> Any:
        """Work one of the control surface's switches, such as `bid`, `floor`, `take` or `balance`."""
        return self._call(f"/sandbox/{path}", body)

    def control(self, what: str, body: dict[str, Any]) -> Any:
        """Any other call of the control surface."""
        return self._call(f"/sandbox/{what}", body)

    def evict(self, order_id: int) -> None:
        """End an order without notice."""
        self._call("/sandbox/evict", {"order": order_id})


@contextmanager
def running_sandbox(*options: str) -> Iterator[Sandbox]:
    """A sandbox process; its machines and their processes end with it."""
    command = [sys.executable, "-m", "gpuscale_tui.sandbox", "serve", *FAST, *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())
        yield Sandbox(ready["url"], ready["api_key"], ready["control_token"])
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()
