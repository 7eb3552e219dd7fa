"""A scrolled view of very many lines that keeps only those around the ones on screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from gpuscale_tui.tui.look import Look

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp

T = TypeVar("T")


class WindowView(ScrollView, Generic[T], can_focus=True, inherit_bindings=False):
    """Lines `0 .. total-1` of which `window` says which to fetch, and `put` gives them.

    A subclass draws one line in `draw_item`, and `HEAD` fixed lines above in `draw_head`. Only lines that look
    different from what is on the terminal are painted again: nothing changes, nothing is written.
    """

    HEAD = 0
    DEFAULT_CSS = """
    WindowView { overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; height: 1fr; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self.total = 0
        self.now = 0
        self.fetched = False
        self._first = 0
        self._items: Sequence[T] = ()
        self._drawn: dict[int, Strip] = {}

    @property
    def gpuscale(self) -> GpuscaleApp:
        """The application, by its own type."""
        return self.app  # type: ignore[return-value]

    @property
    def look(self) -> Look:
        """How lines are drawn now."""
        return self.gpuscale.look

    @property
    def page(self) -> int:
        """Lines that are visible at once, below the head."""
        return max(1, self.size.height - self.HEAD)

    @property
    def top(self) -> int:
        """The first visible line."""
        return int(self.scroll_offset.y)

    def window(self) -> tuple[int, int]:
        """First line and number of lines to fetch: what is visible, and as much again above and below."""
        first = max(0, self.top - self.page)
        return first, self.top + 2 * self.page - first

    def covered(self) -> bool:
        """Whether all visible lines are here."""
        last = min(self.total, self.top + self.page)
        return self._first <= self.top and last <= self._first + len(self._items)

    def put(self, total: int, first: int, items: Sequence[T], now: int) -> None:
        """Take lines that were fetched."""
        self.fetched = True
        self.now = now
        self._first, self._items = first, items
        if total != self.total:
            self.total = total
            self._resize()
        self.repaint()

    def _resize(self) -> None:
        self.virtual_size = Size(self.size.width, self.total + self.HEAD)

    def item(self, index: int) -> T | None:
        """A line, when it is here."""
        place = index - self._first
        return self._items[place] if 0 <= place < len(self._items) else None

    def items_here(self) -> Sequence[tuple[int, T]]:
        """The lines that are here, with their numbers."""
        return list(enumerate(self._items, self._first))

    def tick(self, now: int) -> None:
        """The time has changed: ages may look different."""
        self.now = now
        self.repaint()

    def repaint(self) -> None:
        """Paint again the lines that look different from what was drawn last."""
        width = self.size.width
        if width <= 0:
            return
        for y in range(self.size.height):
            strip = self._strip(y)
            if self._drawn.get(y) != strip:
                self.refresh(Region(0, y, width, 1))

    def forget_drawn(self) -> None:
        """Paint everything again: the look or the columns have changed."""
        self._drawn.clear()
        self.refresh()

    def notify_style_update(self) -> None:
        """The theme may have changed."""
        super().notify_style_update()
        self._drawn.clear()

    def render_line(self, y: int) -> Strip:
        """One line on screen, as Textual asks for it."""
        strip = self._strip(y)
        self._drawn[y] = strip
        return strip

    def _strip(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        if y < self.HEAD:
            return self.draw_head(y, width)
        index = self.top + y - self.HEAD
        if index >= self.total:
            return self.draw_beyond(index, width)
        item = self.item(index)
        return (
            self.look.strip([(" " + self.look.glyphs.ellipsis, "muted")], width)
            if item is None
            else self.draw_item(index, item, width)
        )

    def draw_head(self, y: int, width: int) -> Strip:
        """A fixed line above the others."""
        raise NotImplementedError

    def draw_item(self, index: int, item: T, width: int) -> Strip:
        """A line."""
        raise NotImplementedError

    def draw_beyond(self, index: int, width: int) -> Strip:  # noqa: ARG002 - subclasses teach here what to do
        """A line below the last one."""
        return self.look.strip((), width)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Fetch what has come into view."""
        super().watch_scroll_y(old_value, new_value)
        self._drawn.clear()
        if not self.covered():
            self.gpuscale.poke()

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        """The scroll bar has come: it stands where the view was scrolled to before there was one."""
        if shown and self.is_attached:
            self.vertical_scrollbar.position = self.scroll_y

    def on_resize(self, _event: Any) -> None:
        """Fetch what has come into view."""
        self._drawn.clear()
        self._resize()
        if not self.covered():
            self.gpuscale.poke()

    def go_to_line(self, line: int) -> None:
        """Make a line the first visible one, as far as there are lines; also before the scroll bar has come."""
        self.scroll_to(y=line, animate=False, force=True)

    def move_by(self, rows: int) -> None:
        """Scroll; a view with a cursor moves that."""
        self.go_to_line(self.top + rows)

    def move_pages(self, pages: int) -> None:
        """Move by pages."""
        self.move_by(pages * max(1, self.page - 1))

    def move_to_end(self, last: bool) -> None:
        """To the beginning or the end."""
        self.go_to_line(self.total if last else 0)

    @property
    def lacks_row(self) -> bool:
        """Whether what is under the cursor is not here yet."""
        return False

    def show_line(self, index: int) -> None:
        """Scroll as little as needed for a line to be visible."""
        if index < self.top:
            self.go_to_line(index)
        elif index >= self.top + self.page:
            self.go_to_line(index - self.page + 1)
