"""The title line of a page or of a part of one."""

from __future__ import annotations

from textual.strip import Strip

from gpuscale_tui.tui.look import Line, width_of
from gpuscale_tui.tui.widgets.header import Bar


class Title(Bar):
    """Something on the left, something on the right; the left side is cut first."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._left: Line = ()
        self._right: Line = ()

    def tell(self, left: Line, right: Line = ()) -> None:
        """Show another title, cleaned already."""
        self._left, self._right = left, [*right, (" ", "text")]
        self.repaint()

    def draw(self, width: int) -> Strip:
        """The line."""
        room = width - width_of(self._right) - 2
        left = self.look.strip([(" ", "text"), *self._left], max(0, room), "raised")
        right = self.look.strip([("  ", "text"), *self._right], width - max(0, room), "raised")
        return Strip.join([left, right])
