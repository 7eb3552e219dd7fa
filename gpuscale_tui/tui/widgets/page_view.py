"""A page of ready-made lines: scrolled, wrapped to its width, painted only where it changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.strip import Strip

from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.widgets.window import WindowView

Writer = Callable[[int], Sequence[Line]]
"""Writes the page for a width."""


class PageView(WindowView[Line]):
    """A page that is written anew for its width whenever what it tells has changed."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._writer: Writer | None = None
        self._written_for = -1

    def write(self, writer: Writer, now: int) -> None:
        """Show a page."""
        self._writer = writer
        self.now = now
        self._rewrite()

    def _rewrite(self) -> None:
        width = self.size.width - 1  # the scroll bar may come or go with what is written
        if self._writer is None or width <= 0:
            return
        self._written_for = width
        lines = self._writer(width)
        self.put(len(lines), 0, lines, self.now)

    def tick(self, now: int) -> None:
        """Ages are part of what is written."""
        self.now = now
        self._rewrite()

    def on_resize(self, event: object) -> None:
        """Wrap anew."""
        super().on_resize(event)
        self._rewrite()

    def covered(self) -> bool:
        """All lines are always here."""
        return True

    def draw_item(self, index: int, item: Line, width: int) -> Strip:  # noqa: ARG002 - lines need no number
        """One line."""
        return self.look.strip(item, width)
