"""Where the sandbox gets the time from, so that tests can bring their own."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns UTC milliseconds since 1970."""


def wall_clock() -> int:
    """The computer's own clock."""
    return time.time_ns() // 1_000_000
