"""Screen 1: all jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from textual.widget import Widget

from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.model.states import JobState
from gpuscale_tui.store import queries
from gpuscale_tui.store.views import JobFilter, JobRow, JobSort
from gpuscale_tui.tui.cells import JOB_COLUMNS
from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.job_handlers import JobHandlers
from gpuscale_tui.tui.messages import ColumnChosen, RowPointed
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.rows_table import RowsTable
from gpuscale_tui.tui.widgets.why import Why

SORTS: tuple[JobSort, ...] = get_args(JobSort)
STATES = tuple(state.value for state in JobState)
EMPTY = (
    (),
    (("Nothing queued.", "strong"),),
    (),
    (("Press ", "muted"), ("n", "key"), (" for a new job, or in another terminal:", "muted")),
    (("  gpuscale submit -- python train.py --lr 1e-3", "text"),),
)


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs from `first` on, of `total` that the filter lets through."""

    total: int
    first: int
    rows: tuple[JobRow, ...]


def parse_filter(line: str) -> JobFilter:
    """Words that name a state (also `status:failed`) choose states; the others are a text to look for."""
    states: list[str] = []
    words: list[str] = []
    for word in line.split():
        state = word.removeprefix("status:").removeprefix("state:")
        (states if state in STATES else words).append(state if state in STATES else word)
    return JobFilter(tuple(states), " ".join(words))


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at: which jobs, in which order, which rows of them (first, number)."""

    chosen: JobFilter
    sort: JobSort
    descending: bool
    window: tuple[int, int]


def read_jobs(connection: sqlite3.Connection, moment: Moment, view: View) -> Page:
    """One page of jobs; when the list has become shorter, its last page."""
    total = queries.count_jobs(connection, view.chosen)
    first = max(0, min(view.window[0], total - view.window[1]))
    found = queries.job_rows(
        connection, view.chosen, view.sort, view.descending, first, view.window[1], engine_alive=moment.engine_alive
    )
    return Page(total, first, tuple(found))


class QueueScreen(BaseScreen[Page], JobHandlers):
    """The table of jobs, a filter, and why the one under the cursor is where it is."""

    NAME = "queue"
    TAB = "queue"
    LINE = "filter: a text, or states such as failed running; Enter keeps it, Esc clears it"
    BINDINGS = bindings_for("queue")

    def __init__(self) -> None:
        super().__init__()
        self.table: RowsTable[JobRow] = RowsTable(JOB_COLUMNS, id="jobs", empty=EMPTY)
        self.why = Why()
        self._sort: JobSort = "queue"
        self._descending = False

    def body(self) -> Iterable[Widget]:
        """Table and why."""
        return (self.table, self.why)

    def on_mount(self) -> None:
        """The table has the keys."""
        self.set_focus(self.table)

    def wish(self) -> Wish:
        """The page of the table."""
        view = View(parse_filter(self.typed), self._sort, self._descending, self.table.window())
        return Wish(self, view, lambda connection, moment: read_jobs(connection, moment, view))

    def feed(self, content: Page, output: object, now: int) -> None:  # noqa: ARG002 - this screen reads no output
        """Show the page."""
        filtered = bool(self.typed)
        self.table.empty = ((), (("No job matches the filter.", "muted"),)) if filtered else EMPTY
        self.table.put(content.total, content.first, content.rows, now)
        self._tell_why()

    def subject(self) -> Subject:
        """The job under the cursor."""
        return Subject(job=self.job, engine=self.gpuscale.snapshot.engine.kind)

    @property
    def job(self) -> JobRow | None:
        """The job under the cursor."""
        return self.table.pointed

    def on_row_pointed(self, event: RowPointed) -> None:
        """Another job, another reason."""
        super().on_row_pointed(event)
        self._tell_why()

    def _tell_why(self) -> None:
        job = self.job
        if job is None:
            self.why.tell(("", "text"), "")
        else:
            self.why.tell((job_label(job.id), "title"), clean(job.why, ascii_only=self.gpuscale.look.glyphs.ascii))

    def do_open(self) -> None:
        """The job's page."""
        if self.job is not None:
            self.gpuscale.show_job(self.job.id)

    async def do_list_filter(self) -> None:
        """Type a filter."""
        await self.open_line()

    def on_input_changed(self, _event: object) -> None:
        """Each letter has its effect at once."""
        self.table.restart()
        self.gpuscale.poke()

    def do_back(self) -> None:
        """Leave the filter, then the order."""
        if self.typed:
            self.close_line()
        elif self._sort != "queue":
            self._order("queue", descending=False)

    def do_list_sort(self) -> None:
        """The next order."""
        self._order(SORTS[(SORTS.index(self._sort) + 1) % len(SORTS)], descending=False)

    def do_list_turn(self) -> None:
        """The other way round."""
        self._order(self._sort, descending=not self._descending)

    def on_column_chosen(self, event: ColumnChosen) -> None:
        """Sort by a column that was clicked; a second click turns it round."""
        again = event.key == self._sort
        self._order(next(sort for sort in SORTS if sort == event.key), descending=again and not self._descending)

    def _order(self, sort: JobSort, *, descending: bool) -> None:
        self._sort, self._descending = sort, descending
        self.table.set_order(sort, descending)
        self.table.restart()
        self.gpuscale.poke()
        if sort == "queue":
            self.notify("In the order of the queue" + (", turned round" if descending else ""), timeout=2)
        elif sort not in {column.key for column in JOB_COLUMNS}:
            self.notify(f"Sorted by {sort}", timeout=2)
