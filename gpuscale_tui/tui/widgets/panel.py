"""Lines that are made for the widget's size and painted again only where they look different."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from gpuscale_tui.tui.look import Line, Look

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp

Writer = Callable[[int, int], Sequence[Line]]
"""Makes the lines for a width and a height; the height is 0 while it is asked how high the lines are by themselves."""


class Panel(Widget):
    """Lines on a screen that do not scroll. With `height: auto` it is as high as what is written."""

    DEFAULT_CSS = "Panel { height: 1fr; width: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._writer: Writer | None = None
        self._strips: list[Strip] = []
        self._made_for = Size(0, 0)
        self._count = 0

    @property
    def look(self) -> Look:
        """How lines are drawn now."""
        app: GpuscaleApp = self.app  # type: ignore[assignment]
        return app.look

    def write(self, writer: Writer) -> None:
        """Show other lines."""
        self._writer = writer
        self.rewrite()

    def rewrite(self) -> None:
        """Make the lines anew and paint those that look different."""
        if self._writer is None or not self.is_mounted:
            return
        if self.styles.is_auto_height:
            count = len(self._writer(self.size.width or self.screen.size.width, 0))
            if count != self._count:
                self._count = count
                self.refresh(layout=True)
                self.screen.refresh(layout=True)  # at once, not when this widget has come to rest
        width = self.size.width
        before, self._strips = self._strips, self._made()
        for y in range(max(len(before), len(self._strips))):
            if y >= len(before) or y >= len(self._strips) or before[y] != self._strips[y]:
                self.refresh(Region(0, y, width, 1))

    def _made(self) -> list[Strip]:
        self._made_for = self.size
        width, height = self.size
        if self._writer is None or width <= 0 or height <= 0 or not self.display:
            return []
        return [self.look.strip(line, width) for line in self._writer(width, height)[:height]]

    def on_resize(self) -> None:
        """Make the lines for the new size."""
        self.rewrite()

    def notify_style_update(self) -> None:
        """The theme may have changed."""
        super().notify_style_update()
        self._strips = []

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002 - Textual's
        """As many lines as are written."""
        if self._writer is not None:
            self._count = len(self._writer(width, 0))
        return self._count

    def render_line(self, y: int) -> Strip:
        """One line, as Textual asks for it."""
        if not self._strips or self._made_for != self.size:  # it has grown: painted as it is laid out
            self._strips = self._made()
        return self._strips[y] if y < len(self._strips) else self.look.strip((), self.size.width)
