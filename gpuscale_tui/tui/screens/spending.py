"""The page that stays until nothing is spent any more: the dollars an hour that still run, machine by machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from textual.widget import Widget

from gpuscale_tui.store import queries
from gpuscale_tui.store.views import WorkerRow
from gpuscale_tui.tui.cells import WORKER_COLUMNS
from gpuscale_tui.tui.format import plural, rate, usd
from gpuscale_tui.tui.look import Line, Look
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.widgets.page_view import PageView
from gpuscale_tui.tui.widgets.rows_table import RowsTable

COLUMNS = tuple(column for column in WORKER_COLUMNS if column.title not in {"DOES", "ADDRESS"})
NOTHING = ((), (("No machine is rented any more.", "good"),))


def read_machines(connection: sqlite3.Connection, _moment: Moment) -> tuple[WorkerRow, ...]:
    """Everything that may still cost."""
    return tuple(queries.worker_rows(connection))


class SpendingScreen(BaseScreen[tuple[WorkerRow, ...]]):
    """Stays in front until used and reserved are both zero; it can be left, and says so until then."""

    NAME = "spending"
    TAB = "workers"
    BINDINGS = bindings_for("spending")

    def __init__(self) -> None:
        super().__init__()
        self.words = PageView(id="spending-words")
        self.words.can_focus = False
        self.table: RowsTable[WorkerRow] = RowsTable(COLUMNS, id="spending", empty=NOTHING)

    def body(self) -> Iterable[Widget]:
        """The figure and the machines."""
        return (self.words, self.table)

    def on_mount(self) -> None:
        """The table has the keys."""
        self.set_focus(self.table)

    def wish(self) -> Wish:
        """All machines that are up."""
        return Wish(self, None, read_machines)

    def feed(self, content: tuple[WorkerRow, ...], output: object, now: int) -> None:  # noqa: ARG002 - reads no output
        """Show what still runs."""
        look, engine = self.gpuscale.look, self.gpuscale.snapshot.engine.kind
        self.words.write(lambda width: stop_lines(content, look, width, engine), now)
        self.table.put(len(content), 0, content, now)


def stop_lines(machines: tuple[WorkerRow, ...], look: Look, width: int, engine: str) -> list[Line]:
    """The figure, large and true, and what is being waited for."""
    total = sum(machine.rate for machine in machines)
    cost = sum(machine.cost for machine in machines)
    if not machines:
        return [
            [],
            [
                (f"  {look.glyphs.states['done']} $0.00/h", "good"),
                ("  confirmed: nothing is rented any more", "strong"),
            ],
            [],
            [("  Jobs that were running wait in the queue with their checkpoints.", "text")],
            [
                ("  Esc goes back. ", "muted"),
                ("E", "key"),
                (" starts the engine again, and it rents again if jobs wait.", "muted"),
            ],
        ]
    waiting = "Checkpoints are saved; providers are asked until each confirms."
    if engine == "none":
        waiting = "No engine runs: press E to start one, which gives everything back that is not needed."
    asked = sum(1 for machine in machines if machine.release_asked)
    return [
        [],
        [
            (f"  {look.glyphs.warn} {rate(total)}", "bad"),
            (f"  still runs for {plural(len(machines), 'machine')}", "strong"),
        ],
        [],
        [(f"  {asked} of {len(machines)} asked to go back; these have cost {usd(cost)}.", "text")],
        [(f"  {look.cut(waiting, width - 4)}", "muted")],
    ]
