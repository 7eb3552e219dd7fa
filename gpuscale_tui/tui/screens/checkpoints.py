"""Screen 5: snapshots of the jobs' checkpoint directories, newest first."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from textual.widget import Widget

from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store import queries, snapshots
from gpuscale_tui.tui.format import plural
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.record_cells import SNAPSHOT_COLUMNS, SnapshotLine
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.widgets.rows_table import RowsTable
from gpuscale_tui.tui.widgets.title import Title

EMPTY = (
    (),
    (("No checkpoint has been fetched yet.", "strong"),),
    (),
    (("A job that writes to $CHECKPOINT_DIR has it fetched while it runs,", "muted"),),
    (("and resumes from it when its machine is lost.", "muted"),),
)


@dataclass(frozen=True, slots=True)
class Page:
    """Snapshots from the `first` newest on, of `total`."""

    total: int
    first: int
    rows: tuple[SnapshotLine, ...]


def read_snapshots(connection: sqlite3.Connection, moment: Moment, window: tuple[int, int]) -> Page:
    """One page of snapshots with their jobs' names."""
    total = snapshots.count(connection)
    first = max(0, min(window[0], total - window[1]))
    found = snapshots.page(connection, first, window[1])
    names = {}
    for job_id in {snapshot.job_id for snapshot in found}:
        row = queries.job_row(connection, job_id, engine_alive=moment.engine_alive)
        names[job_id] = row.name if row is not None else ""
    return Page(total, first, tuple(SnapshotLine(snapshot, names[snapshot.job_id]) for snapshot in found))


class CheckpointsScreen(BaseScreen[Page]):
    """The table of snapshots; Enter goes to the job."""

    NAME = "checkpoints"
    TAB = "checkpoints"
    BINDINGS = bindings_for("checkpoints")

    def __init__(self) -> None:
        super().__init__()
        self.heading = Title()
        self.table: RowsTable[SnapshotLine] = RowsTable(SNAPSHOT_COLUMNS, id="snapshots", empty=EMPTY)

    def body(self) -> Iterable[Widget]:
        """Title and table."""
        return (self.heading, self.table)

    def on_mount(self) -> None:
        """The table has the keys."""
        self.set_focus(self.table)

    def wish(self) -> Wish:
        """The page of the table."""
        window = self.table.window()
        return Wish(self, window, lambda connection, moment: read_snapshots(connection, moment, window))

    def feed(self, content: Page, output: object, now: int) -> None:  # noqa: ARG002 - this screen reads no output
        """Show the page."""
        self.table.put(content.total, content.first, content.rows, now)
        self.heading.tell([("checkpoints ", "title"), (plural(content.total, "snapshot"), "text")])

    def do_open(self) -> None:
        """The job's page."""
        row = self.table.pointed
        if row is not None:
            self.gpuscale.show_job(row.snapshot.job_id)

    def do_copy(self) -> None:
        """The job's id."""
        row = self.table.pointed
        if row is not None:
            self.gpuscale.copy(job_label(row.snapshot.job_id))
