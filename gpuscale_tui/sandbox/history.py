"""What happened, in order: every call of the API and everything the sandbox did of its own accord."""

from __future__ import annotations

from collections import deque
from typing import Any

from gpuscale_tui.sandbox.clock import Clock

KEPT = 20_000


class History:
    """Numbered entries, oldest first. Only the last 20,000 are kept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._next = 1

    def add(self, what: str, **details: Any) -> None:
        """Note one thing: `what` is a short word such as "call", "created", "up", "ended", "fault"."""
        self._entries.append({"n": self._next, "ms": self._clock(), "what": what, **details})
        self._next += 1

    def since(self, number: int) -> list[dict[str, Any]]:
        """All entries with a greater number."""
        return [entry for entry in self._entries if entry["n"] > number]
