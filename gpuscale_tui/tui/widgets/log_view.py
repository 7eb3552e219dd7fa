"""A job's output: opened at its end, followed until the reader moves up, any window of it at once, searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual.geometry import Size
from textual.strip import Strip

from gpuscale_tui.tui.format import plural
from gpuscale_tui.tui.logs import draw
from gpuscale_tui.tui.logs.draw import Dress, Times
from gpuscale_tui.tui.logs.layout import Build, Layout, Stream, plain
from gpuscale_tui.tui.logs.window import Item, Kept, Manner, Window, read_window
from gpuscale_tui.tui.logs.wrap import Piece, from_bottom, from_top
from gpuscale_tui.tui.look import Span
from gpuscale_tui.tui.messages import FollowChanged
from gpuscale_tui.tui.reader import OutputQuery
from gpuscale_tui.tui.widgets.window import WindowView

__all__ = ["LogView", "Stream", "Window"]

Place = tuple[int, int]
"""An attempt, and a line of it."""


class LogView(WindowView[Item]):
    """Rows of one stream, with a cursor. `follow` keeps the end in view; any upward move ends that.

    `build` says which lines stand in which rows, `variant` tells one build from another.
    """

    def __init__(self, *, id: str | None = None, empty: str = "No output yet.") -> None:  # noqa: A002
        super().__init__(id=id)
        self.empty = empty
        self.stream: Stream | None = None
        self.follow = True
        self.unseen = 0
        self.left = 0
        self.wrap = False
        self.times: Times = "off"
        self.raw = False
        self.numbered = False
        self.build: Build = plain
        self.variant: object = None
        self.lineup: Layout = plain(())
        self.captions: Mapping[int, str] = {}
        self.began: Mapping[int, int] = {}
        self.matches: dict[str, tuple[tuple[int, int], ...]] = {}
        self.range_from: Place | None = None
        self._cursor = 0
        self._place: Place | None = None
        self._lines = 0
        self._kept: Kept = {}
        self._wanted: Place | None = None
        self._hidden = 0
        self._pieces: list[Piece] = []

    def open(self, stream: Stream | None, at: Place | None = None) -> bool:
        """Show a stream from its end, or around a line of it (`at`); False when it is shown already."""
        if stream == self.stream:
            return False
        self._wanted = at
        self.stream, self.unseen, self.left, self._lines = stream, 0, 0, 0
        self._place, self.range_from = None, None
        self.show_lines(plain, None)
        self._set_follow(True)
        self.lineup = plain(())
        self.put(0, 0, (), self.now)
        self.fetched = False
        return True

    def show_lines(self, build: Build, variant: object) -> None:
        """Show other lines of the stream; the cursor stays on its line, or comes to the next one."""
        self.build, self.variant = build, variant
        self.gpuscale.poke()

    def wanted(self) -> tuple[object, OutputQuery | None]:
        """The key and the query for what is to be seen."""
        if self.stream is None:
            return None, None
        first, count = self.window()
        rows = (None, 3 * self.page) if self.follow else (first, max(count, 3 * self.page))
        manner = Manner(self.raw, self.times != "off")
        key = (self.stream, self.variant, rows, manner)
        return key, read_window(self.stream, self.build, rows, manner, self._kept)

    def take(self, window: Window, now: int) -> None:
        """Take rows that were read."""
        if window.stream != self.stream:
            return
        grown, anew = window.lines - self._lines, not self.fetched
        self.unseen = 0 if self.follow or anew else self.unseen + max(0, grown)
        self._lines = window.lines
        turned = window.layout.total != self.lineup.total or bool(window.layout.segments != self.lineup.segments)
        old_top, self.lineup = self.top, window.layout
        self.put(window.layout.total, window.first, window.items, now)
        if self.follow:
            self.go_to_line(max(0, window.layout.total - self.page))
        elif turned and self._place is not None:
            self._keep_cursor(old_top)
        if self._wanted is not None:
            self.go_to(self._wanted)
            self._wanted = None
        if grown or anew:
            self.post_message(FollowChanged(self.follow))

    def _keep_cursor(self, old_top: int) -> None:
        """The rows have moved: the cursor stays on its line, and that where it was on the screen."""
        assert self._place is not None
        here = self.lineup.at(min(self._cursor, self.lineup.total - 1)) if self.lineup.total else None
        if here is not None and here.kind != "line" and (here.attempt, here.line) == self._place:
            return  # a section or a rule, which is no line of its own
        found = self.lineup.find(*self._place)
        moved, self._cursor = found - self._cursor, found
        if moved:
            self.go_to_line(max(0, old_top + moved))
            self.forget_drawn()
            self.gpuscale.poke()

    def put(self, total: int, first: int, items: Any, now: int) -> None:
        """Take rows that were fetched."""
        self._pieces = []
        super().put(total, first, items, now)

    def _resize(self) -> None:
        beyond = self.page - 1 if self.wrap else 0  # wrapped, the last line alone may fill the page
        self.virtual_size = Size(self.size.width, self.total + beyond)

    @property
    def cursor(self) -> int:
        """The row of the cursor; the last one while the end is followed."""
        return max(0, self.total - 1) if self.follow else min(self._cursor, max(0, self.total - 1))

    @property
    def hit(self) -> int | None:
        """The row of the cursor, when there is one to be seen."""
        return None if self.follow else self.cursor

    @property
    def place(self) -> Place | None:
        """Attempt and line under the cursor."""
        if not self.total:
            return None
        if self.follow or self._place is None:
            row = self.lineup.at(self.cursor)
            return row.attempt, row.line
        return self._place

    def badge(self) -> Span:
        """Whether the end is followed, and how much came since it is not."""
        glyphs = self.look.glyphs
        if self.follow:
            return f"{glyphs.states['running']} following", "good"
        more = f"  {glyphs.falling} +{plural(self.unseen, 'new line')}" if self.unseen else ""
        return f"{glyphs.states['idle']} {self._where()}{more}", "warn"

    def _where(self) -> str:
        """The line under the cursor, by its own number."""
        if not self.total:
            return "no line"
        row = self.lineup.at(self.cursor)
        lines = next((part.lines for part in self.lineup.parts if part.attempt == row.attempt), 0)
        attempt = f"attempt {row.attempt} " if len(self.lineup.parts) > 1 else ""
        return f"attempt {row.attempt}" if row.kind == "rule" else f"{attempt}line {row.line + 1:,} of {lines:,}"

    def _dress(self) -> Dress:
        numbers = len(f"{max((part.lines for part in self.lineup.parts), default=0):,}") if self.numbered else 0
        left = 0 if self.wrap else self.left
        return Dress(self.look, self.now, self.times, numbers, left, self.began, self.captions)

    def prefix_width(self) -> int:
        """Cells before the text: margin, time, number."""
        dress = self._dress()
        return 1 + (9 if dress.times != "off" else 0) + (dress.numbers + 1 if dress.numbers else 0)

    def draw_item(self, index: int, item: Item, width: int) -> Strip:
        """One row, its matches marked."""
        return self._draw(index, item, width, None)

    def _draw(self, index: int, item: Item, width: int, piece: tuple[int, int] | None) -> Strip:
        dress, here = self._dress(), not self.follow and index == self.cursor
        room = width - self.prefix_width()
        spans: list[Span] = [draw.margin(item, dress, cursor=here, marked=self._in_range(index))]
        if piece is not None and piece[0] > 0:
            spans.append((" " * (self.prefix_width() - 1), "muted"))
        else:
            spans += draw.prefix(item, dress)
        found = self.matches.get(item.shown.text, ())
        if piece is None or item.row.kind != "line":
            spans += draw.body(item, dress, found, room)
        else:
            spans += draw.painted(item.shown.text, item.shown.paint, found, piece)
        if self.look.glyphs.ascii and item.row.kind == "line":
            spans = [(draw.plain(text, ascii_only=True), role) for text, role in spans]
        return self.look.strip(spans, width, "raised" if here or self._in_range(index) else "ground")

    def range(self) -> tuple[int, int]:
        """The first and the last row of what is marked, or twice the cursor's."""
        start = self.lineup.find(*self.range_from) if self.range_from is not None else self.cursor
        return min(start, self.cursor), max(start, self.cursor)

    def _in_range(self, index: int) -> bool:
        if self.range_from is None:
            return False
        low, high = self.range()
        return low <= index <= high

    def draw_beyond(self, index: int, width: int) -> Strip:
        """What to expect where there is nothing."""
        if self.total == 0 and index == 0 and (self.fetched or self.stream is None):
            return self.look.strip([(" " + self.empty, "muted")], width)
        return super().draw_beyond(index, width)

    def _strip(self, y: int) -> Strip:
        if not self.wrap or not self.total:
            return super()._strip(y)
        width = self.scrollable_content_region.width
        rows = self._wrapped(width)
        if y >= len(rows):
            return self.draw_beyond(self.total, width)
        index, piece = rows[y]
        item = self.item(index)
        return super()._strip(y) if item is None else self._draw(index, item, width, piece)

    def _wrapped(self, width: int) -> list[Piece]:
        """What stands in each row of the screen where lines are wrapped."""
        if not self._pieces:
            room = max(1, width - self.prefix_width())
            if self.follow:
                self._pieces = from_bottom(self.items_here(), room, self.page)
            else:
                top = min(self.top, max(0, self.total - 1))
                self._pieces = from_top(self.items_here(), top, room, self._hidden, self.page)
        return self._pieces

    def forget_drawn(self) -> None:
        """Paint everything again."""
        self._pieces = []
        super().forget_drawn()

    def _set_follow(self, follow: bool) -> None:
        if follow != self.follow:
            at_end = max(0, self.total - 1)
            self.follow, self._pieces, self._hidden = follow, [], 0
            if follow:
                self.unseen, self._place = 0, None
            else:
                self._lead(at_end)
            self._drawn.clear()
            self.post_message(FollowChanged(follow))

    def _lead(self, index: int) -> None:
        """Put the cursor on a row, without showing it."""
        self._cursor = max(0, min(index, self.total - 1))
        if self.total:
            row = self.lineup.at(self._cursor)
            self._place = (row.attempt, row.line)

    def follow_end(self) -> None:
        """Go to the end and stay there."""
        self._set_follow(True)
        self.go_to_line(self.total)
        self.forget_drawn()
        self.gpuscale.poke()

    def move_by(self, rows: int) -> None:
        """Move the cursor; upwards ends following, coming to the last row begins it."""
        if not self.total or (self.follow and rows >= 0):
            return
        if self.wrap and self._scroll_long(rows):
            return
        self._set_follow(False)
        self.point_at_row(self._cursor + rows)
        if rows > 0 and self._cursor >= self.total - 1:
            self.follow_end()

    def point_at_row(self, index: int) -> None:
        """Put the cursor on a row and show it."""
        self._hidden = 0
        self._lead(index)
        self.show_line(self._cursor)
        self.forget_drawn()
        if not self.covered():
            self.gpuscale.poke()
        self.post_message(FollowChanged(self.follow))

    def show_line(self, index: int) -> None:
        """Scroll as little as needed for a row to be visible, also where the lines above it are wrapped."""
        if not self.wrap or index < self.top:
            super().show_line(index)
            return
        width = max(1, self.scrollable_content_region.width - self.prefix_width())
        above = [(number, item) for number, item in self.items_here() if number <= index]
        rows = from_bottom(above, width, self.page)
        if rows and rows[-1][0] == index and self.top < rows[0][0]:
            whole = rows[0][1][0] == 0
            self.go_to_line(rows[0][0] if whole or rows[0][0] == index else rows[0][0] + 1)
        elif not rows or rows[-1][0] != index:
            super().show_line(index)

    def _scroll_long(self, rows: int) -> bool:
        """Whether the line under the cursor is longer than the page, and was scrolled within."""
        item = self.item(self._cursor)
        if self.follow or item is None or self.top != self._cursor:
            return False
        room = max(1, self.scrollable_content_region.width - self.prefix_width())
        over = len(draw.pieces(item.shown.text, room)) - self.page
        wanted = max(0, min(self._hidden + rows, over))
        if over <= 0 or wanted == self._hidden:
            return False
        self._hidden = wanted
        self.forget_drawn()
        return True

    def leave_end(self) -> None:
        """Follow the end no more; the cursor stands on the last row."""
        self._set_follow(False)

    def move_to_end(self, last: bool) -> None:
        """To the first line, or to the end to follow it."""
        if last:
            self.follow_end()
            return
        self._set_follow(False)
        self.point_at_row(0)

    def go_to(self, place: Place) -> None:
        """Put the cursor on a line and show it in the middle."""
        self._set_follow(False)
        index = self.lineup.find(*place)
        self._hidden = 0
        self._lead(index)
        self._place = place
        if not self.top <= index < self.top + self.page - (self.page // 2 if self.wrap else 0):
            self.go_to_line(max(0, index - self.page // 2))
        self.forget_drawn()
        self.gpuscale.poke()
        self.post_message(FollowChanged(self.follow))

    def set_wrap(self, wrap: bool) -> None:
        """Long lines whole in several rows, or cut at the edge."""
        self.wrap, self._hidden = wrap, 0
        self._resize()
        if self.follow:
            self.go_to_line(self.total)
        else:
            self.show_line(self.cursor)

    def shift(self, cells: int) -> None:
        """Show what is to the right, or left for a negative number."""
        self.left = max(0, self.left + cells)
        self.forget_drawn()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """The wheel and the scroll bar end following too; the cursor stays in view."""
        super().watch_scroll_y(old_value, new_value)
        self._pieces = []
        if new_value < old_value and self.follow and self.top + self.page < self.total:
            self._set_follow(False)
            self._lead(self.top + self.page - 1)

    def on_resize(self, event: Any) -> None:
        """The end stays in view where it is followed, else the cursor."""
        super().on_resize(event)
        self._pieces = []
        if self.follow:
            self.go_to_line(max(0, self.total - self.page))
        elif self.total:
            self.show_line(self.cursor)

    def on_click(self, event: Any) -> None:
        """A click puts the cursor on a row."""
        index = self.top + event.y
        if self.wrap:
            rows = self._wrapped(self.scrollable_content_region.width)
            index = rows[event.y][0] if event.y < len(rows) else self.total
        if index < self.total:
            self._set_follow(False)
            self.point_at_row(index)
