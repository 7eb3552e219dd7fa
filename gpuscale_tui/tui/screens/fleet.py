"""The timeline of the fleet: what each machine did when, and what setting up and idling came to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from textual.strip import Strip
from textual.widget import Widget

from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.store import fleet, queries
from gpuscale_tui.store.fleet import FleetSpan, FleetTotal, totals_of
from gpuscale_tui.store.views import WorkerRow
from gpuscale_tui.tui.format import clean, gpus, plural, rate, share, usd
from gpuscale_tui.tui.look import Line, Span
from gpuscale_tui.tui.messages import RowPointed
from gpuscale_tui.tui.outlook import wrapped
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.strips import stretches_of, totals_line
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.panel import Panel
from gpuscale_tui.tui.widgets.rows_table import RowsTable
from gpuscale_tui.tui.widgets.timeline import Scale, Stretch, axis, bar
from gpuscale_tui.tui.widgets.title import Title
from gpuscale_tui.tui.worker_handlers import WorkerHandlers

HOUR_MS = 3_600_000
LENGTHS = (HOUR_MS // 6, HOUR_MS, 4 * HOUR_MS, 24 * HOUR_MS, 72 * HOUR_MS)
NAMES = ("10 minutes", "1 hour", "4 hours", "24 hours", "3 days")
FIRST = 2
"""What is shown first; less where that holds everything there is."""
BEFORE = 21
"""Cells before the strip: cursor, id, state, and a blank on either side."""


@dataclass(frozen=True, slots=True)
class FleetRow:
    """A machine and what it did in the time that is shown."""

    row: WorkerRow
    spans: tuple[FleetSpan, ...]

    @property
    def id(self) -> int:
        """Its number."""
        return self.row.id


@dataclass(frozen=True, slots=True)
class FleetPage:
    """Machines from `first` on, of `total` that were there from `since` to `until` (UTC ms), and what all of them
    came to. `place` is where the machine that was asked for stands."""

    since: int
    until: int
    total: int = 0
    first: int = 0
    rows: tuple[FleetRow, ...] = ()
    totals: Mapping[str, FleetTotal] = field(default_factory=dict)
    place: int | None = None


def read_fleet(
    connection: sqlite3.Connection, moment: Moment, time: tuple[int, int], window: tuple[int, int], followed: int | None
) -> FleetPage:
    """The machines of a window (first, number) and what they did."""
    since, until = time
    ids = fleet.fleet_workers(connection, since, min(until, moment.now + 1))
    first = max(0, min(window[0], len(ids) - window[1]))
    shown = ids[first : first + window[1]]
    spans: dict[int, list[FleetSpan]] = {number: [] for number in shown}
    for each in fleet.fleet_spans(connection, since, until, shown):
        spans[each.worker_id].append(each)
    rows = [(queries.worker_row(connection, number), tuple(spans[number])) for number in shown]
    return FleetPage(
        since, until, len(ids), first, tuple(FleetRow(row, done) for row, done in rows if row is not None),
        fleet.fleet_totals(connection, since, min(until, moment.now)),
        ids.index(followed) if followed in ids else None,
    )  # fmt: skip


class FleetTable(RowsTable[FleetRow]):
    """One line a machine: its id, its state, its strip under a common scale."""

    def __init__(self) -> None:
        super().__init__((), id="fleet")
        self.time = (0, HOUR_MS)

    def show_time(self, since: int, until: int) -> None:
        """Another time is shown (UTC ms)."""
        if (since, until) != self.time:
            self.time = (since, until)
            self.forget_drawn()

    def _scale(self, width: int) -> Scale:
        return Scale(*self.time, max(10, width - BEFORE - 1))

    def draw_head(self, y: int, width: int) -> Strip:  # noqa: ARG002 - there is one line of it
        """The scale."""
        names: list[Span] = [(f"{'  ID  STATE':<{BEFORE}}", "heading"), (axis(self._scale(width), self.look), "muted")]
        return self.look.strip(names, width)

    def draw_item(self, index: int, item: FleetRow, width: int) -> Strip:
        """One machine."""
        here, active = index == self.cursor, self.has_focus
        words, role = self.look.state(item.row.state)
        line: list[Span] = [
            (self.look.glyphs.cursor + " " if here else "  ", "title" if active else "muted"),
            (f"{worker_label(item.id):<5}"[:5], "strong"), (f"{words:<{BEFORE - 8}}"[: BEFORE - 8] + " ", role),
        ]  # fmt: skip
        line += bar(self._stretches(item), self._scale(width), self.look)
        return self.look.strip(line, width, "ground" if not here else "cursor" if active else "cursor-blurred")

    def _stretches(self, item: FleetRow) -> list[Stretch]:
        """What it did; an order that is not settled yet shows since when it is out."""
        row = item.row
        found = stretches_of(item.spans, self.now)
        if row.held_from is None:
            found.append(Stretch("ordering", row.created_at, row.ended_at or self.now))
        return found


class FleetScreen(BaseScreen[FleetPage], WorkerHandlers):
    """What each machine did when, for the last hours or any time before."""

    NAME = "fleet"
    TAB = "workers"
    BINDINGS = bindings_for("fleet")
    DEFAULT_CSS = "FleetScreen #sums { height: 3; }"

    def __init__(self, worker_id: int | None = None) -> None:
        super().__init__()
        self.heading = Title()
        self.table = FleetTable()
        self.sums = Panel(id="sums")
        self._length = FIRST
        self._fits = False
        self._end: int | None = None
        self._page: FleetPage | None = None
        if worker_id is not None:
            self.table.point_at(worker_id)

    def body(self) -> Iterable[Widget]:
        """Title, strips, sums."""
        return (self.heading, self.table, self.sums)

    def on_mount(self) -> None:
        """The strips have the keys."""
        self.set_focus(self.table)

    @property
    def time(self) -> tuple[int, int]:
        """The time that is shown (UTC ms): up to now, rounded up to a cell, unless it was moved."""
        length = LENGTHS[self._length]
        cell = max(1000, length // max(10, self.app.size.width - BEFORE))
        end = self._end if self._end is not None else self.gpuscale.now()
        until = -(-end // cell) * cell
        return until - length, until

    def wish(self) -> Wish:
        """The machines on screen, and the sums over all."""
        time, window, followed = self.time, self.table.window(), self.table.followed
        number = followed if isinstance(followed, int) else None
        return Wish(
            self, (time, window), lambda connection, moment: read_fleet(connection, moment, time, window, number)
        )

    def feed(self, content: FleetPage, output: object, now: int) -> None:  # noqa: ARG002 - this screen reads no output
        """Show the page."""
        self._page = content
        self._fit(content, now)
        look = self.gpuscale.look
        until = "now" if self._end is None else _to_minute(look.when(content.until, now))
        times = f"{_to_minute(look.when(content.since, now))} to {until}"
        self.table.empty = ((), (("No machine was there in this time.", "muted"),))
        self.table.show_time(content.since, content.until)
        self.table.put(content.total, content.first, content.rows, now, content.place)
        self.heading.tell(
            [("what the machines did", "title"), (f"  {NAMES[self._length]}", "strong"), (f"  {times}", "text")],
            [(plural(content.total, "machine"), "text"), ("" if self._end is None else "  not up to now", "warn")],
        )
        self.sums.write(self._sums)

    def _fit(self, page: FleetPage, now: int) -> None:
        """At first: a time that is not mostly empty, where all machines are young."""
        if self._fits or not page.rows or len(page.rows) < page.total:
            return
        self._fits = True
        began = min(row.row.created_at for row in page.rows)
        self._length = next((n for n, length in enumerate(LENGTHS[:FIRST]) if began > now - length), self._length)
        if self._length != FIRST:
            self.gpuscale.poke()

    def _sums(self, width: int, _height: int) -> list[Line]:
        """What the signs mean and come to: of all machines, then of the one under the cursor."""
        page = self._page
        if page is None:
            return []
        look, totals = self.gpuscale.look, page.totals
        cost = sum(total.cost for total in totals.values())
        wasted = sum(total.cost for kind, total in totals.items() if kind != "job")
        words = f" {usd(cost)} in all, {share(wasted, cost)} of it not for jobs"
        rows = wrapped([*totals_line(totals, look), (words, "muted")], width - 1) if totals else []
        lines: list[Line] = [[(" ", "text"), *row] for row in rows]
        pointed = self.table.pointed
        if pointed is not None:
            own = totals_of(pointed.spans, page.since, min(page.until, self.gpuscale.now()))
            row = pointed.row
            machine = clean(gpus(row.gpu_type, row.gpu_count), ascii_only=look.glyphs.ascii)
            head: Line = [(f" {worker_label(row.id)}", "title"), (f" {machine} {rate(row.rate)} ", "muted")]
            return [*lines, [*head, *totals_line(own, look)]]
        return lines

    def on_row_pointed(self, event: RowPointed) -> None:
        """Another machine, other sums."""
        super().on_row_pointed(event)
        self.sums.rewrite()

    def _look_at(self, *, length: int | None = None, end: int | None = None) -> None:
        """Show another time; an end that is not past means up to now."""
        if length is not None:
            self._length, self._fits = length, True
        self._end = end if end is not None and end < self.gpuscale.now() else None
        self.gpuscale.poke()

    def do_fleet_shorter(self) -> None:
        """A shorter time."""
        self._look_at(length=max(0, self._length - 1), end=self._end)

    def do_fleet_longer(self) -> None:
        """A longer time."""
        self._look_at(length=min(len(LENGTHS) - 1, self._length + 1), end=self._end)

    def do_fleet_earlier(self) -> None:
        """What was half as long before."""
        since, until = self.time
        self._look_at(end=until - (until - since) // 2)

    def do_fleet_later(self) -> None:
        """What was half as long after, up to now."""
        since, until = self.time
        self._look_at(end=until + (until - since) // 2)

    def do_fleet_now(self) -> None:
        """Up to now again."""
        self._look_at()

    @property
    def worker(self) -> WorkerRow | None:
        """The machine under the cursor."""
        pointed = self.table.pointed
        return pointed.row if pointed is not None else None

    def subject(self) -> Subject:
        """The machine under the cursor."""
        return Subject(worker=self.worker, engine=self.gpuscale.snapshot.engine.kind)

    def do_open(self) -> None:
        """The machine's page."""
        if self.worker is not None:
            self.gpuscale.show_worker(self.worker.id)


def _to_minute(moment: str) -> str:
    """A time of day without its seconds; a date stays as it is."""
    return moment[:5] if moment.count(":") == 2 else moment
