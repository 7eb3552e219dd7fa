"""Screen 4: the output of a job, live and whole; beside it, where there is room, the jobs to choose from."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from textual.containers import Horizontal
from textual.widget import Widget

from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store import queries
from gpuscale_tui.store.views import JobFilter, JobRow
from gpuscale_tui.tui.cells import RAIL_COLUMNS
from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.job_handlers import JobHandlers
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.messages import FollowChanged, RowPointed
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.screens.queue import Page, View, read_jobs
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.filter import FilterBar
from gpuscale_tui.tui.widgets.log_view import LogView, Stream, Window, find_in, search_order
from gpuscale_tui.tui.widgets.rows_table import RowsTable
from gpuscale_tui.tui.widgets.title import Title

SIDEWAYS = 20
NEIGHBOURS = 200
"""Jobs among which the one before and the next are found where there is no room for the rail."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """The jobs of the rail, and the one whose output is shown."""

    page: Page
    job: JobRow | None


def read_shelf(connection: sqlite3.Connection, moment: Moment, view: View, job_id: int | None) -> Shelf:
    """The rail, and the job that was chosen, else the first of the queue."""
    page = read_jobs(connection, moment, view)
    if job_id is not None:
        return Shelf(page, queries.job_row(connection, job_id, engine_alive=moment.engine_alive))
    first = queries.job_rows(connection, limit=1, engine_alive=moment.engine_alive)
    return Shelf(page, first[0] if first else None)


def compile_search(text: str) -> re.Pattern[str]:
    """A regular expression, or the plain text where it is none; capital letters count only where there are some."""
    flags = re.IGNORECASE if text == text.lower() else 0
    try:
        return re.compile(text, flags)
    except re.error:
        return re.compile(re.escape(text), flags)


class LogsScreen(BaseScreen[Shelf], JobHandlers):
    """The output of one job; other jobs and attempts are one key away."""

    NAME = "logs"
    TAB = "logs"
    LINE = "search: a text or a regular expression; n next, N previous, Esc clears it"
    BINDINGS = bindings_for("logs")

    def __init__(self) -> None:
        super().__init__()
        self.heading = Title()
        self.rail: RowsTable[JobRow] = RowsTable(RAIL_COLUMNS, id="rail")
        self.output = LogView(id="output", empty="No output yet. It appears here as the job writes it.")
        self._job: JobRow | None = None
        self._chosen: int | None = None
        self._attempt: int | None = None

    def body(self) -> Iterable[Widget]:
        """Title, rail and output."""
        return (self.heading, Horizontal(self.rail, self.output, id="shelf"))

    def on_mount(self) -> None:
        """The output has the keys."""
        self.set_focus(self.output)

    def choose(self, job_id: int) -> None:
        """Show the output of a job."""
        if job_id != self._chosen:
            self._chosen, self._attempt = job_id, None
            self.rail.point_at(job_id)
            self.gpuscale.poke()

    def wish(self) -> Wish:
        """The rail, the job, and the lines in view."""
        window = self.rail.window() if self.rail.display and self.rail.size.height else (0, NEIGHBOURS)
        view, job_id = View(JobFilter(), "queue", False, window), self._chosen
        key, output = self.output.wanted()
        return Wish(
            self, (view, job_id, key), lambda connection, moment: read_shelf(connection, moment, view, job_id), output
        )

    def feed(self, content: Shelf, output: object, now: int) -> None:
        """Show what was read."""
        self.rail.put(content.page.total, content.page.first, content.page.rows, now)
        self._job = content.job
        if self._job is None:
            self.output.empty = "No job yet: its output will appear here. Press 1, then n, for a new one."
        if self.output.open(self._stream()):
            self.gpuscale.poke()
        if isinstance(output, Window):
            self.output.take(output, now)
        self._tell()

    def _stream(self) -> Stream | None:
        if self._job is None or not self._job.attempt:
            return None
        attempt = self._attempt if self._attempt is not None else self._job.attempt
        return Stream(self._job.id, min(attempt, self._job.attempt))

    def _tell(self) -> None:
        job, look, stream = self._job, self.gpuscale.look, self.output.stream
        if job is None:
            self.heading.tell([("no job", "muted")])
            return
        left: list[tuple[str, str]] = [
            (job_label(job.id), "title"), ("  ", "text"), look.state(job.state), ("  ", "text"),
        ]  # fmt: skip
        if stream is not None:
            left.append(
                (f"attempt {stream.attempt} of {job.attempt}  ", "warn" if stream.attempt < job.attempt else "muted")
            )
        left.append((clean(job.name, ascii_only=look.glyphs.ascii), "strong"))
        right: Line = [self.output.badge()] if stream is not None else [("no attempt yet", "muted")]
        self.heading.tell(left, right)

    @property
    def moved(self) -> LogView:
        """The keys move the output, unless the rail has the focus."""
        return self.output

    @property
    def job(self) -> JobRow | None:
        """The job whose output is shown."""
        return self._job

    def subject(self) -> Subject:
        """The job whose output is shown."""
        return Subject(job=self._job, engine=self.gpuscale.snapshot.engine.kind)

    def on_row_pointed(self, event: RowPointed) -> None:
        """The cursor of the rail came to another job."""
        if isinstance(event.row, JobRow) and self.rail.has_focus:
            self.choose(event.row.id)

    def on_follow_changed(self, _event: FollowChanged) -> None:
        """The badge."""
        self._tell()

    def do_log_follow(self) -> None:
        """To the end, and stay there."""
        self.output.follow_end()

    def do_log_attempt(self) -> None:
        """The attempt before, and round to the last."""
        if self._job is None or self._job.attempt < 2:
            self.notify("This job has no other attempt", timeout=2)
            return
        shown = self.output.stream.attempt if self.output.stream else self._job.attempt
        self._attempt = shown - 1 if shown > 1 else self._job.attempt
        self.output.open(self._stream())
        self._tell()
        self.gpuscale.poke()

    def do_log_job_before(self) -> None:
        """The job before."""
        self._neighbour(-1)

    def do_log_job_after(self) -> None:
        """The next job."""
        self._neighbour(1)

    def _neighbour(self, step: int) -> None:
        self.rail.move_by(step)
        row = self.rail.pointed
        if row is not None:
            self.choose(row.id)

    def do_log_right(self) -> None:
        """Sideways."""
        self.output.shift(SIDEWAYS)

    def do_log_left(self) -> None:
        """Sideways, back."""
        self.output.shift(-SIDEWAYS)

    async def do_log_search(self) -> None:
        """Type what to find."""
        await self.open_line(anew=True)

    def on_filter_bar_left(self, event: FilterBar.Left) -> None:
        """Mark what was typed everywhere, and go to the nearest place above."""
        self.output.pattern = compile_search(self.typed) if event.kept else None
        self.output.hit = None
        self.output.forget_drawn()
        if event.kept:
            self._begin_search(self.output.top + self.output.page, backwards=True)

    async def do_log_next(self) -> None:
        """The next match."""
        start = self.output.hit + 1 if self.output.hit is not None else self.output.top
        await self._again(start, backwards=False)

    async def do_log_previous(self) -> None:
        """The match before."""
        start = self.output.hit if self.output.hit is not None else self.output.top + self.output.page
        await self._again(start, backwards=True)

    async def _again(self, start: int, *, backwards: bool) -> None:
        if self.output.pattern is None:
            await self.open_line()
            return
        self._begin_search(start, backwards=backwards)

    def _begin_search(self, start: int, *, backwards: bool) -> None:
        search: Any = partial(self._find, start, backwards=backwards)
        self.run_worker(search, exclusive=True, group="find")

    async def _find(self, start: int, *, backwards: bool) -> None:
        stream, pattern = self.output.stream, self.output.pattern
        if stream is None or pattern is None:
            return
        for first, count in search_order(self.output.total, start, backwards=backwards):
            found = await self.gpuscale.reader.read_output(find_in(stream, pattern, first, count))
            if isinstance(found, tuple) and found:
                self.output.go_to(found[-1] if backwards else found[0])
                return
        self.notify("Not found", timeout=2)

    def do_back(self) -> None:
        """Leave the search."""
        if self.output.pattern is not None:
            self.output.pattern, self.output.hit = None, None
            self.close_line()
            self.output.forget_drawn()
