"""What was done and can be undone for some seconds, by one key, wherever the user is by then."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

UNDO_MS = 10_000
"""How long what was done can be undone; what costs or loses something is asked of the engine for that much later."""

MOST = 20
"""So many steps are kept at most."""


@dataclass(frozen=True, slots=True)
class Undo:
    """One step back: `words` say what was done, `undo` undoes it, until `until` (UTC ms)."""

    words: str
    undo: Callable[[], Awaitable[None]]
    until: int


class UndoStack:
    """The steps that are still open, the last one first to be undone."""

    def __init__(self) -> None:
        self._steps: deque[Undo] = deque(maxlen=MOST)

    def push(self, step: Undo) -> None:
        """Something was done."""
        self._steps.append(step)

    def take(self, now: int) -> Undo | None:
        """The last step that is still open, None when there is none; it is not given twice."""
        self.expire(now)
        return self._steps.pop() if self._steps else None

    def top(self, now: int) -> Undo | None:
        """The last step that is still open, left where it is."""
        self.expire(now)
        return self._steps[-1] if self._steps else None

    def expire(self, now: int) -> None:
        """Forget what is too late to undo."""
        open_ones = [step for step in self._steps if step.until > now]
        self._steps.clear()
        self._steps.extend(open_ones)
