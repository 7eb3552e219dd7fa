"""The engine's clock: the wall's, but it never goes back while the engine lives.

Time-outs, retries and bills are reckoned in wall time, since they must outlive the engine. A wall clock that is set
back by an hour would put all of them off by that hour; then this one goes on by the time that really passes until the
wall has caught up.
"""

from __future__ import annotations

from collections.abc import Callable


class Steady:
    """UTC milliseconds from `wall`; `elapsed` (seconds, from any start) tells how much time really passes."""

    def __init__(self, wall: Callable[[], int], elapsed: Callable[[], float]) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._at = wall()
        self._since = elapsed()

    def __call__(self) -> int:
        """The time now; never before one that was told earlier."""
        wall, elapsed = self._wall(), self._elapsed()
        least = self._at + int((elapsed - self._since) * 1000)
        if wall < least:
            return least
        self._at, self._since = wall, elapsed
        return wall
