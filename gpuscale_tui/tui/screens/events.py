"""Screen 7: everything that happened, newest first, with its cause; a filter looks back as far as one waits."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence

from textual.widget import Widget

from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.store.event_list import EVENT_FIELDS, EventList, EventPage, events_of
from gpuscale_tui.store.events import Event
from gpuscale_tui.tui.format import clean, plural
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.messages import RowPointed
from gpuscale_tui.tui.reader import Wish
from gpuscale_tui.tui.record_cells import EVENT_COLUMNS, event_told
from gpuscale_tui.tui.screens.base import bindings_for
from gpuscale_tui.tui.screens.listing import ListScreen
from gpuscale_tui.tui.widgets.why import Why

EMPTY = ((), (("Nothing has happened yet.", "strong"),))
MOST_EXPORTED = 100_000
_ABOUT_HOST = re.compile(r"\b(?:host|server|owner) \S+")


class EventsScreen(ListScreen[EventPage, Event]):
    """The audit log; Enter goes to the job, the machine, or the market for a host."""

    NAME = "events"
    TAB = "events"
    BINDINGS = bindings_for("events")
    COLUMNS = EVENT_COLUMNS
    FIELDS = EVENT_FIELDS
    SORTS = ("",)
    EMPTY = EMPTY
    NOUN = ("event", "events")
    LINE = "filter: kind:warning job:j17 cause:host_fault age<2h, a text; Enter keeps it, Esc clears it"

    def __init__(self) -> None:
        super().__init__()
        self.why = Why()
        self._list = EventList()
        self._page = EventPage(0, 0, ())
        self._readings = 0

    def body(self) -> Iterable[Widget]:
        """Title, table, and the whole text of the one under the cursor."""
        return (self.heading, self.table, self.why)

    def wish(self) -> Wish:
        """The page of the table; while it looks further back, each reading is another."""
        query, window, followed = self.wanted, self.table.window(), self.table.followed
        event_id = followed if isinstance(followed, int) else None
        key = (query, window, self._readings)
        return Wish(
            self,
            key,
            lambda connection, moment: self._list.page(connection, query, window, event_id, moment.now),
        )

    def feed(self, content: EventPage, output: object, now: int) -> None:  # noqa: ARG002 - this screen reads no output
        """Show the page. The cursor stays at the top while it is there: new events come in view."""
        self._page = content
        if self.table.cursor == 0:
            self.table.forget_row()
        self.put(content.total, content.first, content.rows, now, content.place)
        if content.more:
            self._readings += 1
            self.gpuscale.poke()

    def title_line(self) -> tuple[Line, Line]:
        """How many, the filter, and how far back it has looked."""
        left, right = self.usual_title()
        page, look = self._page, self.gpuscale.look
        if not self.wanted or page.searched_to is None:
            return left, right
        when = look.when(page.searched_to, self.gpuscale.now())
        going = f", more{look.glyphs.ellipsis}" if page.more else ""
        return left, [(f"searched back to {when}{going}", "accent" if page.more else "muted")]

    def put(self, total: int, first: int, rows: Sequence[Event], now: int, place: int | None = None) -> None:
        """Show rows; nothing found yet is not nothing there."""
        super().put(total, first, rows, now, place)
        if self.wanted and self._page.more and not total:
            self.table.empty = ((), (("Nothing so far; looking further back.", "muted"),))
            self.table.repaint()

    def on_row_pointed(self, event: RowPointed) -> None:
        """The whole text."""
        super().on_row_pointed(event)
        row = self.table.pointed
        if row is None:
            self.why.tell(("", "text"), "")
        else:
            self.why.tell((row.kind, "title"), clean(event_told(row), ascii_only=self.gpuscale.look.glyphs.ascii))

    async def do_open(self) -> None:
        """The page of what it happened to."""
        row = self.table.pointed
        if row is None:
            return
        job_id, worker_id = _about(row)
        if job_id is not None:
            self.gpuscale.show_job(job_id)
        elif worker_id is not None:
            self.gpuscale.show_worker(worker_id)
        elif _ABOUT_HOST.search(row.detail):
            await self.gpuscale.do("screen.market")
        else:
            self.notify("This is about no job, machine or host", timeout=3)

    def do_copy(self) -> None:
        """The id of what it happened to."""
        row = self.table.pointed
        job_id, worker_id = (None, None) if row is None else _about(row)
        if job_id is not None:
            self.gpuscale.copy(job_label(job_id))
        elif worker_id is not None:
            self.gpuscale.copy(worker_label(worker_id))

    async def ids_shown(self) -> Iterable[int]:
        """Ids of the newest events that match, as far as the search has come."""
        ids = await self.ask(self._list.ids, self.wanted, MOST_EXPORTED)
        if len(ids) == MOST_EXPORTED:
            self.notify(f"The newest {plural(MOST_EXPORTED, 'event')} are written; a filter chooses others", timeout=6)
        return ids

    async def rows_for(self, ids: Iterable[Hashable]) -> Sequence[Event]:
        """These events."""
        wanted = [each for each in ids if isinstance(each, int)]
        return await self.ask(events_of, wanted)


def _about(row: Event) -> tuple[int | None, int | None]:
    """The job, or else the machine, that something happened to; what befalls a machine is about the machine."""
    if row.kind == "worker" and row.worker_id is not None:
        return None, row.worker_id
    return row.job_id, row.worker_id
