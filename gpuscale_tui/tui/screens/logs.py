"""Screen 4: the output of a job, live and whole; beside it, where there is room, the jobs to choose from."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from textual.containers import Horizontal
from textual.widget import Widget

from gpuscale_tui.model.jobs import Attempt, job_label, worker_label
from gpuscale_tui.store import queries, workers
from gpuscale_tui.store.job_list import JobList, JobPage, JobView
from gpuscale_tui.store.views import JobRow
from gpuscale_tui.tui.cells import RAIL_COLUMNS
from gpuscale_tui.tui.format import Glyphs, clean, gpus, span
from gpuscale_tui.tui.job_handlers import JobHandlers
from gpuscale_tui.tui.logs.draw import TIMES
from gpuscale_tui.tui.logs.finding import LogFinding
from gpuscale_tui.tui.logs.layout import ALL
from gpuscale_tui.tui.logs.taking import LogTaking
from gpuscale_tui.tui.logs.telling import counts_line, found_line
from gpuscale_tui.tui.look import Line, Span
from gpuscale_tui.tui.messages import FollowChanged, RowPointed
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.log_view import LogView, Stream, Window
from gpuscale_tui.tui.widgets.rows_table import RowsTable
from gpuscale_tui.tui.widgets.title import Title

SIDEWAYS = 20
NEIGHBOURS = 200
"""Jobs among which the one before and the next are found where there is no room for the rail."""
MOST_CAPTIONS = 100
"""Attempts, the newest, whose machines are named."""


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt and the GPU that it had."""

    attempt: Attempt
    gpu: str


@dataclass(frozen=True, slots=True)
class Shelf:
    """The jobs of the rail, the one whose output is shown, and its attempts where there are several."""

    page: JobPage
    job: JobRow | None
    tried: tuple[Tried, ...] = ()


def read_shelf(
    connection: sqlite3.Connection, moment: Moment, queue: JobList, window: tuple[int, int], job_id: int | None
) -> Shelf:
    """The rail, and the job that was chosen, else the first of the queue."""
    page = queue.page(connection, JobView(), window, now=moment.now, engine_alive=moment.engine_alive)
    if job_id is None:
        first = queries.job_rows(connection, limit=1, engine_alive=moment.engine_alive)
        return Shelf(page, first[0] if first else None, read_tried(connection, first[0]) if first else ())
    job = queries.job_row(connection, job_id, engine_alive=moment.engine_alive)
    return Shelf(page, job, read_tried(connection, job) if job else ())


def read_tried(connection: sqlite3.Connection, job: JobRow) -> tuple[Tried, ...]:
    """The attempts of a job, the newest of them where there are very many."""
    tried = []
    for attempt in queries.attempts(connection, job.id)[-MOST_CAPTIONS:]:
        worker = workers.get(connection, attempt.worker_id)
        tried.append(Tried(attempt, gpus(worker.gpu_type, worker.gpu_count) if worker else ""))
    return tuple(tried)


def caption(tried: Tried, now: int, glyphs: Glyphs) -> str:
    """What the rule before an attempt says: machine, how long it ran, and why it ended."""
    attempt = tried.attempt
    words = [f"attempt {attempt.number}", f"{worker_label(attempt.worker_id)} {tried.gpu}".strip()]
    if attempt.started_at is not None:
        words.append(span((attempt.ended_at or now) - attempt.started_at))
    words.append(attempt.cause.value.replace("_", " ") if attempt.cause else attempt.state.value)
    if attempt.exit_code:
        words.append(f"exit {attempt.exit_code}")
    return clean(f" {glyphs.dot} ".join(words), ascii_only=glyphs.ascii)


class LogsScreen(LogFinding, LogTaking, BaseScreen[Shelf], JobHandlers):
    """The output of one job; other jobs and attempts are one key away."""

    NAME = "logs"
    TAB = "logs"
    LINE = "a regular expression; Enter keeps it, n next, N previous, & only these lines, Esc ends it"
    BINDINGS = bindings_for("logs")

    def __init__(self) -> None:
        super().__init__()
        self.heading = Title()
        self.found = Title(id="found")
        self.rail: RowsTable[JobRow] = RowsTable(RAIL_COLUMNS, id="rail")
        self.output = LogView(id="output", empty="No output yet. It appears here as the job writes it.")
        self._queue = JobList()
        self._job: JobRow | None = None
        self._tried: tuple[Tried, ...] = ()
        self._chosen: int | None = None
        self._attempt: int | None = None
        self.set_up_finding()

    def body(self) -> Iterable[Widget]:
        """Title, rail and output, and what is looked for."""
        self.found.display = False
        return (self.heading, Horizontal(self.rail, self.output, id="shelf"), self.found)

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
        queue, job_id = self._queue, self._chosen
        key, output = self.output.wanted()
        return Wish(
            self,
            (window, job_id, key),
            lambda connection, moment: read_shelf(connection, moment, queue, window, job_id),
            output,
        )

    def feed(self, content: Shelf, output: object, now: int) -> None:
        """Show what was read."""
        self.rail.put(content.page.total, content.page.first, content.page.rows, now)
        self._job, self._tried = content.job, content.tried
        if self._job is None:
            self.output.empty = "No job yet: its output will appear here. Press 1, then n, for a new one."
        glyphs = self.gpuscale.look.glyphs
        self.output.began = {t.attempt.number: t.attempt.started_at or t.attempt.assigned_at for t in self._tried}
        self.output.captions = {tried.attempt.number: caption(tried, now, glyphs) for tried in self._tried}
        self._open(self._stream())
        if isinstance(output, Window):
            self.output.take(output, now)
            self.go_on()
        self._tell()
        self.tell_found()

    def _open(self, stream: Stream | None) -> None:
        """Show a stream; from one attempt to all as one and back the reader stays at the line."""
        before, place = self.output.stream, None if self.output.follow else self.output.place
        other = stream is None or before is None or stream.job_id != before.job_id
        if other or (place is not None and stream is not None and stream.attempt not in {ALL, place[0]}):
            place = None
        if self.output.open(stream, place):
            self.begin_stream()
            self.gpuscale.poke()

    def _stream(self) -> Stream | None:
        """What is to be shown; who reads an earlier attempt is not torn away when the job moves on."""
        if self._job is None or not self._job.attempt:
            return None
        shown = self.output.stream
        newest = Stream(self._job.id, self._job.attempt)
        if self._attempt is not None:
            return Stream(self._job.id, min(self._attempt, self._job.attempt))
        reading = shown is not None and shown.job_id == newest.job_id and not self.output.follow
        return shown if reading else newest

    def _tell(self) -> None:
        job, look, stream = self._job, self.gpuscale.look, self.output.stream
        if job is None:
            self.heading.tell([("no job", "muted")])
            return
        left: list[Span] = [(job_label(job.id), "title"), ("  ", "text"), look.state(job.state), ("  ", "text")]
        if stream is not None and stream.attempt == ALL:
            left.append((f"all {job.attempt} attempts  ", "accent"))
        elif stream is not None and job.attempt > 1:
            left.append(
                (f"attempt {stream.attempt} of {job.attempt}  ", "warn" if stream.attempt < job.attempt else "muted")
            )
        left.append((clean(job.name, ascii_only=look.glyphs.ascii), "strong"))
        right: Line = [("no attempt yet", "muted")]
        if stream is not None:
            right = [*counts_line(self, self.size.width), self.output.badge()]
        self.heading.tell(left, right)

    def tell_found(self) -> None:
        """What is looked for, in a line of its own while there is something to tell."""
        left, right = found_line(self)
        typing = self.line is not None and self.line.has_focus
        self.found.display = bool(left) or typing
        self.found.tell(left, right)
        self._tell()

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
        """The badge, and which match is the current one."""
        self.tell_found()

    def do_log_follow(self) -> None:
        """To the end, and stay there; with another attempt begun meanwhile, to the end of that."""
        self.output.follow_end()
        self._open(self._stream())

    def do_log_attempt(self) -> None:
        """The attempt before, after the first all as one, then the newest again."""
        if self._job is None or self._job.attempt < 2:
            self.notify("This job has no other attempt", timeout=2)
            return
        shown = self.output.stream.attempt if self.output.stream else self._job.attempt
        if shown == ALL:
            self._attempt = None
            self.output.follow_end()
        else:
            self._attempt = shown - 1
        self._open(self._stream())
        self._tell()

    def do_log_times(self) -> None:
        """When lines came: not, the time of day, since the attempt began."""
        self.output.times = TIMES[(TIMES.index(self.output.times) + 1) % len(TIMES)]
        self._redraw()

    def do_log_wrap(self) -> None:
        """Long lines whole, or cut."""
        self.output.set_wrap(not self.output.wrap)
        self._redraw()

    def do_log_raw(self) -> None:
        """Every control character, or lines as a terminal would show them."""
        self.output.raw = not self.output.raw
        self._redraw()
        self.tell_found()

    def _redraw(self) -> None:
        self.output.forget_drawn()
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

    def do_back(self) -> None:
        """Leave what was begun last: a range, the search, the filter or the folding."""
        if self.output.range_from is not None:
            self.output.range_from = None
            self.output.forget_drawn()
        elif self.search is not None or self.trouble:
            self.end_search()
        elif self.mode == "sections":
            self.do_log_fold()
