"""What every list has: a filter, orders, columns to choose, marks, export; the cursor stays on its row."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from textual.widget import Widget

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.query import FieldKind, Query, QueryError, parse_query
from gpuscale_tui.tui.format import clean, plural
from gpuscale_tui.tui.kept import Choice
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.messages import ColumnChosen
from gpuscale_tui.tui.screens.base import BaseScreen
from gpuscale_tui.tui.widgets import columns as columns_
from gpuscale_tui.tui.widgets.columns import Column
from gpuscale_tui.tui.widgets.rows_table import RowsTable
from gpuscale_tui.tui.widgets.title import Title

C = TypeVar("C")
T = TypeVar("T")
R = TypeVar("R", bound=Any)

NO_QUERY = Query()
MOST_FILTERS = 30


@dataclass(frozen=True, slots=True)
class Order:
    """What a list is sorted by, and whether the other way round."""

    key: str
    descending: bool = False


class ListScreen(BaseScreen[C], Generic[C, R]):
    """A screen with one table. A subclass gives NAME, TAB, BINDINGS, `wish`, `feed` and:

    COLUMNS: all columns, those that are not `optional` in the order in which they are shown by default.
    FIELDS: what the filter knows (`model.query`). SORTS: keys of columns to sort by; the first is how the list comes.
    EMPTY: what is said where there is nothing at all.

    A list in memory calls `sift` in `feed` and gives the rest to `put`; it says in `value` what a row has in a
    field. A list in the store asks it by `wanted` and `sort`, and overrides `ids_shown`, `ids_between`, `rows_for`.
    """

    COLUMNS: ClassVar[Sequence[Column[Any]]] = ()
    FIELDS: ClassVar[Mapping[str, FieldKind]] = {}
    SORTS: ClassVar[Sequence[str]] = ("",)
    EMPTY: ClassVar[Sequence[Line]] = ()
    NOUN: ClassVar[tuple[str, str]] = ("row", "rows")
    """One row, several rows."""
    LINE = "filter: a text, name:value, cost>1, !not; Enter keeps it, Esc clears it"

    def __init__(self) -> None:
        super().__init__()
        self.heading = Title(id="heading")
        self.table: RowsTable[R] = RowsTable(columns_.chosen(self.COLUMNS, ()), id="rows", empty=self.EMPTY)
        self.wanted: Query = NO_QUERY
        """The filter: what is typed, as long as it can be read; else the last one that could."""
        self.sort = Order(self.SORTS[0])
        self.marked: frozenset[Hashable] = frozenset()
        self._last_mark: Hashable = None
        self._rows: Sequence[R] = ()
        self._arranged: Sequence[R] = ()

    def body(self) -> Iterable[Widget]:
        """Title and table."""
        return (self.heading, self.table)

    def on_mount(self) -> None:
        """The table has the keys; order and columns are as they were left."""
        self.set_focus(self.table)
        kept = self.gpuscale.kept.of(self.NAME)
        if kept.sort in self.SORTS:
            self.sort = Order(kept.sort, kept.descending)
            self.table.set_order(kept.sort, kept.descending)
        self.table.set_columns(columns_.chosen(self.COLUMNS, kept.columns))
        if self.gpuscale.kept.warning:
            self.notify(self.gpuscale.kept.warning, severity="warning", timeout=8, markup=False)
            self.gpuscale.kept.warning = ""

    # what a subclass may say

    def title_line(self) -> tuple[Line, Line] | None:
        """Left and right of the title; None for the usual: how many rows, the filter, the marks, the order."""
        return None

    def value(self, row: R, name: str, now: int) -> object:  # noqa: ARG002 - ages need the time
        """What a row has in a field of the filter or a key to sort by, None where that is nothing."""
        return getattr(row, name, None)

    def text_of(self, row: R, now: int) -> str:
        """What words without a field search."""
        return "\n".join(column.cell(row, self.gpuscale.look, now)[0] for column in self.COLUMNS)

    def changed(self) -> None:
        """Filter or order are others: read, or sift, anew."""
        self.gpuscale.poke()

    async def ids_shown(self) -> Iterable[Hashable]:
        """Ids of all rows that the filter lets through."""
        return [row.id for row in self._arranged]

    async def ids_between(self, one: Hashable, other: Hashable) -> Iterable[Hashable]:
        """Ids from one row to another, both with them, in the order shown; none when one of them is not shown."""
        ids = [row.id for row in self._arranged]
        if one not in ids or other not in ids:
            return []
        first, last = sorted((ids.index(one), ids.index(other)))
        return ids[first : last + 1]

    async def rows_for(self, ids: Iterable[Hashable]) -> Sequence[R]:
        """The rows with these ids, as far as there are any."""
        wanted = frozenset(ids)
        return [row for row in self._rows if row.id in wanted]

    async def ask(self, query: Callable[..., Sequence[T]], *args: Any, **kwargs: Any) -> Sequence[T]:
        """Ask the store something for an action; nothing when it cannot be read, which is said."""
        try:
            return await self.gpuscale.reader.database.read(query, *args, **kwargs)
        except (GpuscaleError, sqlite3.Error) as error:
            self.notify(f"The store cannot be read: {error}", severity="error", timeout=8, markup=False)
            return ()

    # rows come

    def sift(self, rows: Sequence[R], now: int) -> list[R]:
        """Of all rows in memory those that the filter lets through, in order."""
        self._rows = rows
        query, order = self.wanted, self.sort
        found = [
            row
            for row in rows
            if not query or query.matches(lambda name, row=row: self.value(row, name, now), self.text_of(row, now))  # type: ignore[misc]
        ]
        if order.key != self.SORTS[0]:
            values = {id(row): self.value(row, order.key, now) for row in found}
            known = [row for row in found if values[id(row)] is not None]
            known.sort(key=lambda row: _sortable(values[id(row)]), reverse=order.descending)
            found = known + [row for row in found if values[id(row)] is None]
        elif order.descending:
            found.reverse()
        self._arranged = found
        return found

    def put(self, total: int, first: int, rows: Sequence[R], now: int, place: int | None = None) -> None:
        """Show rows: `first` is the place of the first of them among `total`, `place` the cursor's row's."""
        nothing = (
            (),
            ((f"No {self.NOUN[0]} matches the filter.", "muted"), ("  Esc", "key"), (" leaves it.", "muted")),
        )
        self.table.empty = nothing if self.wanted else self.EMPTY
        self.table.put(total, first, rows, now, place)
        self.tell_title()

    def tell_title(self) -> None:
        """Say anew what is shown."""
        told = self.title_line()
        left, right = told if told is not None else self.usual_title()
        self.heading.tell(left, right)

    def usual_title(self) -> tuple[Line, Line]:
        """How many rows, the filter, the marks; the order on the right."""
        glyphs = self.gpuscale.look.glyphs
        left = [(plural(self.table.total, *self.NOUN), "strong")]
        if self.wanted:
            left += [(" match ", "muted"), (clean(self.wanted.text.strip(), ascii_only=glyphs.ascii), "accent")]
        return [*left, *self.mark_words()], self.order_words()

    def mark_words(self) -> Line:
        """`, 3 marked`, or nothing."""
        if not self.marked:
            return []
        return [("   ", "text"), (f"{self.gpuscale.look.glyphs.mark} {len(self.marked):,} marked", "key")]

    def order_words(self) -> Line:
        """What it is sorted by, unless that is as always."""
        if self.sort == Order(self.SORTS[0]):
            return []
        glyphs = self.gpuscale.look.glyphs
        return [(f"by {self.sort.key} {glyphs.falling if self.sort.descending else glyphs.rising}", "muted")]

    # filter

    async def do_list_filter(self) -> None:
        """Type a filter."""
        await self.open_line()
        if self.line is not None:
            self.line.know(self.FIELDS, self.gpuscale.kept.of(self.NAME).filters)

    def on_input_changed(self, _event: object) -> None:
        """Each letter has its effect at once; what cannot be read yet changes nothing but says why."""
        self.read_line()

    def read_line(self) -> None:
        """Take over what is typed."""
        line = self.line
        try:
            query = parse_query(self.typed, self.FIELDS)
        except QueryError as error:
            if line is not None:
                line.tell(error.reason if self.typed.endswith(error.word) else str(error))
            return
        if line is not None:
            line.tell("")
        before, self.wanted = self.wanted, query
        if query != before:
            self.table.restart()
            self.changed()
        self.tell_title()

    def on_filter_bar_left(self, event: Any) -> None:
        """A filter that was kept is remembered."""
        if event.kept and self.wanted:
            kept = self.gpuscale.kept.of(self.NAME)
            text = self.wanted.text.strip()
            filters = (text, *(each for each in kept.filters if each != text))
            self.keep(replace(kept, filters=filters[:MOST_FILTERS]))

    # order

    def do_list_sort(self) -> None:
        """The next order."""
        place = self.SORTS.index(self.sort.key) if self.sort.key in self.SORTS else -1
        self.order_by(Order(self.SORTS[(place + 1) % len(self.SORTS)]))

    def do_list_turn(self) -> None:
        """The other way round."""
        self.order_by(Order(self.sort.key, not self.sort.descending))

    def on_column_chosen(self, event: ColumnChosen) -> None:
        """Sort by a column that was clicked; a second click turns it round."""
        if event.key in self.SORTS:
            again = event.key == self.sort.key
            self.order_by(Order(event.key, again and not self.sort.descending))

    def order_by(self, order: Order) -> None:
        """Sort otherwise, and remember that."""
        self.sort = order
        self.table.set_order(order.key, order.descending)
        self.table.restart()
        self.keep(replace(self.gpuscale.kept.of(self.NAME), sort=order.key, descending=order.descending))
        self.changed()
        self.tell_title()

    # columns

    def do_list_columns(self) -> None:
        """Choose columns and their order."""
        from gpuscale_tui.tui.widgets.choose import ChooseColumns

        shown = [column.name for column in self.table.columns]
        self.app.push_screen(ChooseColumns(self.COLUMNS, shown), self._choose)

    def _choose(self, names: tuple[str, ...] | None) -> None:
        if names is None:
            return
        self.table.set_columns(columns_.chosen(self.COLUMNS, names))
        self.keep(replace(self.gpuscale.kept.of(self.NAME), columns=names))

    def keep(self, choice: Choice) -> None:
        """Remember a choice in the home."""
        if choice != self.gpuscale.kept.of(self.NAME):
            self.gpuscale.kept.put(self.NAME, choice)
            self.gpuscale.spawn(self._save())

    async def _save(self) -> None:
        kept = self.gpuscale.kept
        try:
            await asyncio.to_thread(kept.save, kept.text())
        except OSError as error:
            self.notify(f"Not remembered: {error}", severity="warning", timeout=5, markup=False)

    # marks

    def do_list_mark(self) -> None:
        """Mark the row under the cursor, or take its mark away, and go on to the next."""
        row = self.table.pointed
        if row is None:
            return
        self._last_mark = row.id
        self.mark(self.marked ^ {row.id})
        self.table.move_by(1)

    async def do_list_range(self) -> None:
        """Mark from the last mark to the cursor."""
        row = self.table.pointed
        if row is None:
            return
        start = self._last_mark if self._last_mark is not None else row.id
        self.mark(self.marked.union(await self.ids_between(start, row.id), {row.id}))
        self._last_mark = row.id

    async def do_list_all(self) -> None:
        """Mark all that the filter shows; when all are marked, none of them."""
        shown = frozenset(await self.ids_shown())
        if not shown:
            return
        self.mark(self.marked - shown if shown <= self.marked else self.marked | shown)

    def mark(self, ids: frozenset[Hashable]) -> None:
        """Mark these rows and no others."""
        self.marked = ids
        self.table.show_marks(ids)
        self.tell_title()
        self.refresh_footer()

    # leaving

    def do_back(self) -> None:
        """Leave the marks, then the filter, then the order."""
        if self.marked:
            self._last_mark = None
            self.mark(frozenset())
        elif self.typed or self.wanted:
            self.close_line()
            self.read_line()
        elif self.sort != Order(self.SORTS[0]):
            self.order_by(Order(self.SORTS[0]))

    # export

    async def do_list_export(self) -> None:
        """Write what is shown, or what is marked, to a file of comma-separated values."""
        from gpuscale_tui.tui.export import file_name, write_csv

        app, now = self.gpuscale, self.gpuscale.now()
        ids = list(self.marked or await self.ids_shown())
        if not ids:
            app.notify("There is nothing to write", timeout=3)
            return
        path = Path(app.home.path) / "exports" / file_name(self.NAME, now)
        try:
            count = await write_csv(path, self.table.columns, ids, self.rows_for, app.look, now)
        except OSError as error:
            app.notify(f"Not written: {error}", severity="error", timeout=8, markup=False)
            return
        app.notify(f"{plural(count, *self.NOUN)} written to {path}", timeout=8, markup=False)


def _sortable(value: object) -> tuple[int, Any]:
    """A value that can be compared with any other: numbers before texts, in any case."""
    return (0, value) if isinstance(value, int | float) else (1, str(value).casefold())
