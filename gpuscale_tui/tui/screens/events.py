"""Screen 7: everything that happened, newest first."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from textual.widget import Widget

from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.store import events, queries
from gpuscale_tui.store.events import Event
from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.messages import RowPointed
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.record_cells import EVENT_COLUMNS, event_words
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.widgets.rows_table import RowsTable
from gpuscale_tui.tui.widgets.why import Why

EMPTY = ((), (("Nothing has happened yet.", "strong"),))


@dataclass(frozen=True, slots=True)
class Page:
    """Events from the `first` newest on, of `total`."""

    total: int
    first: int
    rows: tuple[Event, ...]


def read_events(connection: sqlite3.Connection, _moment: Moment, window: tuple[int, int]) -> Page:
    """One page of events. Ids have no gaps, so a place in the list is an id."""
    total = queries.events_count(connection)
    first = max(0, min(window[0], total - window[1]))
    newest = events.latest_id(connection)
    return Page(total, first, tuple(queries.events_page(connection, newest - first + 1, window[1])))


class EventsScreen(BaseScreen[Page]):
    """The audit log; Enter goes to the job or the machine."""

    NAME = "events"
    TAB = "events"
    BINDINGS = bindings_for("events")

    def __init__(self) -> None:
        super().__init__()
        self.table: RowsTable[Event] = RowsTable(EVENT_COLUMNS, id="events", empty=EMPTY)
        self.why = Why()

    def body(self) -> Iterable[Widget]:
        """Table, and the whole text of the one under the cursor."""
        return (self.table, self.why)

    def on_mount(self) -> None:
        """The table has the keys."""
        self.set_focus(self.table)

    def wish(self) -> Wish:
        """The page of the table."""
        window = self.table.window()
        return Wish(self, window, lambda connection, moment: read_events(connection, moment, window))

    def feed(self, content: Page, output: object, now: int) -> None:  # noqa: ARG002 - this screen reads no output
        """Show the page. The cursor stays at the top while it is there: new events come in view."""
        if self.table.cursor == 0:
            self.table.forget_row()
        self.table.put(content.total, content.first, content.rows, now)

    def on_row_pointed(self, event: RowPointed) -> None:
        """The whole text."""
        super().on_row_pointed(event)
        row = self.table.pointed
        if row is not None:
            self.why.tell((row.kind, "title"), clean(event_words(row), ascii_only=self.gpuscale.look.glyphs.ascii))

    def do_open(self) -> None:
        """The page of what it happened to."""
        row = self.table.pointed
        if row is None:
            return
        if row.job_id is not None:
            self.gpuscale.show_job(row.job_id)
        elif row.worker_id is not None:
            self.gpuscale.show_worker(row.worker_id)

    def do_copy(self) -> None:
        """The id of what it happened to."""
        row = self.table.pointed
        if row is not None and row.job_id is not None:
            self.gpuscale.copy(job_label(row.job_id))
        elif row is not None and row.worker_id is not None:
            self.gpuscale.copy(worker_label(row.worker_id))
