"""A table of any length that fetches the rows on screen, and whose cursor stays on its row when rows move."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, TypeVar

from textual import events
from textual.strip import Strip

from gpuscale_tui.tui.look import Line, Span
from gpuscale_tui.tui.messages import ColumnChosen, RowOpened, RowPointed
from gpuscale_tui.tui.widgets.columns import GAP, Column, Placed, place
from gpuscale_tui.tui.widgets.window import WindowView


class HasId(Protocol):
    """A row: its id stays the same while everything else may change."""

    @property
    def id(self) -> Any:
        """What tells it from all others."""
        ...


R = TypeVar("R", bound=HasId)


class RowsTable(WindowView[R]):
    """Rows with a cursor. `put` gives it rows, RowPointed tells where the cursor is."""

    HEAD = 1

    def __init__(self, columns: Sequence[Column[R]], *, id: str | None = None, empty: Sequence[Line] = ()) -> None:  # noqa: A002
        super().__init__(id=id)
        self.empty: Sequence[Line] = empty
        self.sort = ""
        self.descending = False
        self._columns = columns
        self._placed: list[Placed[R]] = []
        self._placed_for = -1
        self._cursor = 0
        self._cursor_id: object = None
        self._told: object = None
        self._marked: AbstractSet[Any] = frozenset()
        self.always_active = False
        self._old = False

    @property
    def cursor(self) -> int:
        """Number of the row that the cursor is on."""
        return self._cursor

    @property
    def pointed(self) -> R | None:
        """The row that the cursor is on, when there is one and it is here; none while other rows are on their way."""
        return self.item(self._cursor) if self.total and not self._old else None

    @property
    def lacks_row(self) -> bool:
        """Whether what is under the cursor is not here yet."""
        return self.total > 0 and self.pointed is None

    @property
    def followed(self) -> object:
        """Id of the row that the cursor stays on; None while it stays at its place."""
        return self._cursor_id

    @property
    def in_view(self) -> bool:
        """Whether the row under the cursor is on screen."""
        return self.top <= self._cursor < self.top + self.page

    def put(self, total: int, first: int, items: Sequence[R], now: int, place: int | None = None) -> None:
        """Take rows that were fetched; the cursor follows its row, also to a `place` that is not among them."""
        self._old = False
        if self._cursor_id is not None:
            found = next((first + at for at, row in enumerate(items) if row.id == self._cursor_id), place)
            if found is not None and found != self._cursor:
                seen = self.in_view
                self._cursor = found
                if seen or not self.fetched:
                    self.call_after_refresh(self.show_line, found)
        self._cursor = max(0, min(self._cursor, total - 1))
        super().put(total, first, items, now)
        self._settle()

    def _settle(self) -> None:
        """Remember the row under the cursor and tell when it is another or has changed."""
        row = self.pointed
        if row is not None:
            self._cursor_id = row.id
        if row != self._told:
            self._told = row
            self.post_message(RowPointed(row))

    def point_at(self, row_id: object) -> None:
        """Put the cursor on the row with this id as soon as it is here."""
        self._cursor_id = row_id

    def restart(self) -> None:
        """Begin anew at the first row: other rows are about to come, or another order."""
        self._cursor, self._cursor_id, self._old = 0, None, True
        self.go_to_line(0)

    def forget_row(self) -> None:
        """Let the cursor stay at its place, whatever row comes there."""
        self._cursor_id = None

    def move_to(self, index: int) -> None:
        """Put the cursor on a row and show it."""
        index = max(0, min(index, self.total - 1))
        before, self._cursor = self._cursor, index
        self._cursor_id = None
        self.show_line(index)
        if before != index:
            self.repaint()
        self._settle()

    def move_by(self, rows: int) -> None:
        """Move the cursor down, or up for a negative number."""
        self.move_to(self._cursor + rows)

    def move_to_end(self, last: bool) -> None:
        """Move the cursor to the first or the last row."""
        self.move_to(self.total - 1 if last else 0)

    def set_columns(self, columns: Sequence[Column[R]]) -> None:
        """Show other columns."""
        if list(columns) != list(self._columns):
            self._columns, self._placed_for = columns, -1
            self.forget_drawn()

    @property
    def columns(self) -> Sequence[Column[R]]:
        """The columns that are shown where there is room."""
        return self._columns

    def show_marks(self, marked: AbstractSet[Any]) -> None:
        """Put a sign before these rows."""
        self._marked = marked
        self.repaint()

    def set_order(self, sort: str, descending: bool) -> None:
        """Show in the head what the rows are sorted by."""
        self.sort, self.descending = sort, descending
        self.forget_drawn()

    def _layout(self, width: int) -> list[Placed[R]]:
        if self._placed_for != width:
            self._placed, self._placed_for = place(self._columns, width), width
        return self._placed

    def draw_head(self, y: int, width: int) -> Strip:  # noqa: ARG002 - there is one line of it
        """The titles, with a sign at the one that is sorted by."""
        spans: list[Span] = [("  ", "heading")]
        layout = self._layout(width)
        for placed in layout:
            column = placed.column
            sign = self.look.glyphs.falling if self.descending else self.look.glyphs.rising
            title = f"{column.title} {sign}" if column.key and column.key == self.sort else column.title
            gap = "" if placed is layout[-1] else " " * GAP
            spans.append((self.look.fit(title, placed.width, right=column.right) + gap, "heading"))
        return self.look.strip(spans, width)

    def draw_item(self, index: int, item: R, width: int) -> Strip:
        """One row."""
        here, active = index == self._cursor, self.has_focus or self.always_active
        sign, role = (self.look.glyphs.cursor if here else " "), "title" if active else "muted"
        spans: list[Span] = [(sign + " ", role)]
        if item.id in self._marked:
            spans = [(sign, role), (self.look.glyphs.mark, "key")]
        layout = self._layout(width)
        for placed in layout:
            text, role = placed.column.cell(item, self.look, self.now)
            gap = "" if placed is layout[-1] else " " * GAP
            spans.append((self.look.fit(text, placed.width, right=placed.column.right) + gap, role))
        base = "ground" if not here else "cursor" if active else "cursor-blurred"
        return self.look.strip(spans, width, base)

    def draw_beyond(self, index: int, width: int) -> Strip:
        """Where there are no rows at all: what to do about it."""
        line = index - 1
        if self.total == 0 and self.fetched and 0 <= line < len(self.empty):
            return self.look.strip([("  ", "text"), *self.empty[line]], width)
        return super().draw_beyond(index, width)

    def on_focus(self, _event: events.Focus) -> None:
        """The cursor looks different."""
        self.repaint()

    def on_blur(self, _event: events.Blur) -> None:
        """The cursor looks different."""
        self.repaint()

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, a second one opens; a click on a title sorts."""
        if event.y < self.HEAD:
            hit = next((p for p in self._placed if p.start <= event.x < p.start + p.width + GAP), None)
            if hit is not None and hit.column.key:
                self.post_message(ColumnChosen(hit.column.key))
            return
        index = self.top + event.y - self.HEAD
        if index >= self.total:
            return
        self.move_to(index)
        if event.chain == 2 and self.pointed is not None:
            self.post_message(RowOpened(self.pointed))
