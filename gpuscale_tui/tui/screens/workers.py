"""Screen 2: all machines."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from textual.widget import Widget

from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.store.views import WorkerRow
from gpuscale_tui.store.worker_list import (
    WORKER_FIELDS,
    WORKER_SORTS,
    MachineRow,
    WorkerPage,
    WorkerView,
    machine_rows,
    worker_ids,
    worker_page,
)
from gpuscale_tui.tui.format import clean, rate
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.machine_cells import MACHINE_COLUMNS
from gpuscale_tui.tui.messages import RowPointed
from gpuscale_tui.tui.reader import Wish
from gpuscale_tui.tui.screens.base import bindings_for
from gpuscale_tui.tui.screens.listing import ListScreen
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.why import Why
from gpuscale_tui.tui.worker_handlers import WorkerHandlers

AGE_STEP_MS = 10_000
"""What a filter says of times is looked at anew this often."""
EMPTY = (
    (),
    (("No machine is rented, and nothing is spent.", "strong"),),
    (),
    (("One is rented when the queue needs it. ", "muted"), ("s", "key"), (" asks for one by hand,", "muted")),
    (("a", "key"), (" shows machines that are gone, ", "muted"), ("t", "key"), (" what they did.", "muted")),
)


class WorkersScreen(ListScreen[WorkerPage, MachineRow], WorkerHandlers):
    """The table of machines, and why the one under the cursor is still up."""

    NAME = "workers"
    TAB = "workers"
    BINDINGS = bindings_for("workers")
    COLUMNS = MACHINE_COLUMNS
    FIELDS = WORKER_FIELDS
    SORTS = WORKER_SORTS
    EMPTY = EMPTY
    NOUN = ("machine", "machines")
    LINE = "filter: state:idle gpu:4090 rate>0.3 use<10; Enter keeps it, Esc clears it"

    def __init__(self) -> None:
        super().__init__()
        self.why = Why()
        self._ended = False
        self._together = 0

    def body(self) -> Iterable[Widget]:
        """Title, table and why."""
        return (self.heading, self.table, self.why)

    @property
    def view(self) -> WorkerView:
        """Which machines, in which order."""
        return WorkerView(self.wanted, self.sort.key, self.sort.descending, self._ended)

    def wish(self) -> Wish:
        """The page of the table."""
        view, window, followed = self.view, self.table.window(), self.table.followed
        number = followed if isinstance(followed, int) else None
        aged = self.gpuscale.now() // AGE_STEP_MS if view.query or view.sort == "up" else 0
        return Wish(
            self,
            (view, window, aged),
            lambda connection, moment: worker_page(connection, view, window, number, moment.now),
        )

    def feed(self, content: WorkerPage, output: object, now: int) -> None:  # noqa: ARG002 - this screen reads no output
        """Show the page."""
        self._together = content.rate
        self.put(content.total, content.first, content.rows, now, content.place)
        self._tell_why()

    def title_line(self) -> tuple[Line, Line]:
        """The usual, and what they cost together."""
        left, right = self.usual_title()
        together = [("  ", "text"), (f"{rate(self._together)} together", "muted")] if self._together else []
        gone = [("  with those that are gone", "muted")] if self._ended else []
        return [*left, *together, *gone], right

    @property
    def worker(self) -> WorkerRow | None:
        """The machine under the cursor."""
        pointed = self.table.pointed
        return pointed.row if pointed is not None else None

    def subject(self) -> Subject:
        """The machine under the cursor and what is marked."""
        marked = frozenset(each for each in self.marked if isinstance(each, int))
        return Subject(worker=self.worker, engine=self.gpuscale.snapshot.engine.kind, marked=marked)

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

    def do_worker_timeline(self) -> None:
        """What all of them did when."""
        from gpuscale_tui.tui.screens.fleet import FleetScreen

        self.app.push_screen(FleetScreen(self.worker.id if self.worker is not None else None))

    async def ids_shown(self) -> Iterable[int]:
        """Ids of all machines that the filter lets through."""
        return await self.gpuscale.reader.database.read(worker_ids, self.view, self.gpuscale.now())

    async def ids_between(self, one: Hashable, other: Hashable) -> Iterable[int]:
        """Ids from one machine to another, as they are shown."""
        ids = list(await self.ids_shown())
        if one not in ids or other not in ids:
            return []
        first, last = sorted((ids.index(one), ids.index(other)))
        return ids[first : last + 1]

    async def rows_for(self, ids: Iterable[Hashable]) -> Sequence[MachineRow]:
        """The rows of these machines."""
        wanted = [each for each in ids if isinstance(each, int)]
        return await self.gpuscale.reader.database.read(machine_rows, wanted)
