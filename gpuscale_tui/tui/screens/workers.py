"""Screen 2: all machines."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from textual.widget import Widget

from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.states import LIVE_WORKER_STATES
from gpuscale_tui.store import queries
from gpuscale_tui.store.views import WorkerRow
from gpuscale_tui.tui.cells import WORKER_COLUMNS
from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.messages import RowPointed
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.rows_table import RowsTable
from gpuscale_tui.tui.widgets.why import Why
from gpuscale_tui.tui.worker_handlers import WorkerHandlers

EMPTY = (
    (),
    (("No machine is rented, and nothing is spent.", "strong"),),
    (),
    (("One is rented when the queue needs it. ", "muted"), ("s", "key"), (" asks for one by hand,", "muted")),
    (("a", "key"), (" shows machines that are gone.", "muted")),
)


@dataclass(frozen=True, slots=True)
class Page:
    """Machines from `first` on, of `total`."""

    total: int
    first: int
    rows: tuple[WorkerRow, ...]


def read_workers(connection: sqlite3.Connection, moment: Moment, ended: bool, window: tuple[int, int]) -> Page:
    """One page of machines, the ones that are gone after the others."""
    counts = queries.status(connection, moment.now, 0).workers
    total = sum(count for state, count in counts.items() if ended or state in LIVE_WORKER_STATES)
    first, limit = max(0, min(window[0], total - window[1])), window[1]
    return Page(total, first, tuple(queries.worker_rows(connection, ended=ended, offset=first, limit=limit)))


class WorkersScreen(BaseScreen[Page], WorkerHandlers):
    """The table of machines, and why the one under the cursor is still up."""

    NAME = "workers"
    TAB = "workers"
    BINDINGS = bindings_for("workers")

    def __init__(self) -> None:
        super().__init__()
        self.table: RowsTable[WorkerRow] = RowsTable(WORKER_COLUMNS, id="workers", empty=EMPTY)
        self.why = Why()
        self._ended = False

    def body(self) -> Iterable[Widget]:
        """Table and why."""
        return (self.table, self.why)

    def on_mount(self) -> None:
        """The table has the keys."""
        self.set_focus(self.table)

    def wish(self) -> Wish:
        """The page of the table."""
        ended, window = self._ended, self.table.window()
        return Wish(self, (ended, window), lambda connection, moment: read_workers(connection, moment, ended, window))

    def feed(self, content: Page, output: object, now: int) -> None:  # noqa: ARG002 - this screen reads no output
        """Show the page."""
        self.table.put(content.total, content.first, content.rows, now)
        self._tell_why()

    @property
    def worker(self) -> WorkerRow | None:
        """The machine under the cursor."""
        return self.table.pointed

    def subject(self) -> Subject:
        """The machine under the cursor."""
        return Subject(worker=self.worker, engine=self.gpuscale.snapshot.engine.kind)

    def on_row_pointed(self, event: RowPointed) -> None:
        """Another machine, another reason."""
        super().on_row_pointed(event)
        self._tell_why()

    def _tell_why(self) -> None:
        worker = self.worker
        if worker is None:
            self.why.tell(("", "text"), "")
        else:
            why = clean(worker.why or worker.reason, ascii_only=self.gpuscale.look.glyphs.ascii)
            self.why.tell((worker_label(worker.id), "title"), why)

    def do_open(self) -> None:
        """The machine's page."""
        if self.worker is not None:
            self.gpuscale.show_worker(self.worker.id)

    def do_worker_ended(self) -> None:
        """Show machines that are gone, or not."""
        self._ended = not self._ended
        self.table.restart()
        self.gpuscale.poke()
