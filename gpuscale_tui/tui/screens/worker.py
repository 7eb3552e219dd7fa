"""A machine's page: why it is up, what it does and did, its use over time, what it costs, what its host did before."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import ClassVar

from textual.containers import Horizontal
from textual.widget import Widget

from gpuscale_tui.model.hosts import examination_in_words, in_words
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.store import fleet, hosts, queries, series, workers
from gpuscale_tui.store.views import WorkerRow
from gpuscale_tui.store.worker_list import machine_rows
from gpuscale_tui.tui.curves import LEAST, Course, memory_plot, use_plot
from gpuscale_tui.tui.format import clean, gpus, rate
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.machine_story import WorkerStory, write_summary, write_worker
from gpuscale_tui.tui.page import Page
from gpuscale_tui.tui.reader import Moment, OutputQuery, Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.page_view import PageView
from gpuscale_tui.tui.widgets.panel import Panel
from gpuscale_tui.tui.widgets.parts import Parts
from gpuscale_tui.tui.widgets.title import Title
from gpuscale_tui.tui.worker_handlers import WorkerHandlers

MINUTE_MS = 60_000
MOST_MS = 24 * 3_600_000
"""The curves show the last day of a machine at most."""
PARTS = ("story", "curves")


def read_story(connection: sqlite3.Connection, _moment: Moment, worker_id: int) -> WorkerStory | None:
    """Everything that the page tells; None when there is no such machine."""
    row, worker = queries.worker_row(connection, worker_id), workers.get(connection, worker_id)
    if row is None or worker is None:
        return None
    known = hosts.histories(connection, 0, (worker.provider, worker.server_id))
    examined = hosts.examination_of(connection, worker_id)
    return WorkerStory(
        row=row,
        worker=worker,
        events=tuple(queries.worker_events(connection, worker_id)),
        why=queries.why_worker(connection, worker_id),
        host=tuple(in_words(known[0])) if known else (),
        shown="" if examined is None else examination_in_words(examined),
        spans=tuple(fleet.worker_spans(connection, worker_id)),
        machine=next(iter(machine_rows(connection, [worker_id])), None),
    )


def read_use(worker_id: int, since: int, until: int) -> OutputQuery:
    """A query for the use of a machine over time."""

    def query(connection: sqlite3.Connection) -> Course:
        return Course(usage=tuple(series.usage(connection, worker_id, since, until)))

    return query


class WorkerScreen(BaseScreen[WorkerStory | None], WorkerHandlers):
    """The whole story of one machine. With room its parts stand beside each other; else `v` shows the other one."""

    NAME = "worker"
    TAB = "workers"
    BINDINGS = bindings_for("worker")
    DEFAULT_CSS: ClassVar[str] = """
    WorkerScreen #summary { height: auto; }
    WorkerScreen #upper { height: 1fr; }
    WorkerScreen #upper PageView { width: 3fr; height: 1fr; }
    WorkerScreen #curves { width: 2fr; }
    """

    def __init__(self, worker_id: int) -> None:
        super().__init__()
        self._worker_id = worker_id
        self._story: WorkerStory | None = None
        self._course = Course()
        self._part = ""
        self.heading = Title()
        self.summary = Panel(id="summary")
        self.parts = Parts(self.show_part)
        self.page = PageView(id="page")
        self.curves = Panel(id="curves")

    def body(self) -> Iterable[Widget]:
        """Title, summary, story and curves."""
        return (self.heading, self.summary, self.parts, Horizontal(self.page, self.curves, id="upper"))

    def on_mount(self) -> None:
        """The story has the keys."""
        self._arrange()

    def on_resize(self) -> None:
        """More room, or less."""
        self._arrange()

    @property
    def names(self) -> tuple[str, ...]:
        """What `v` goes through."""
        return ("all", *PARTS) if self.app.size.width >= 100 else PARTS

    @property
    def part(self) -> str:
        """What is shown."""
        return self._part if self._part in self.names else self.names[0]

    def show_part(self, name: str) -> None:
        """Show one part, or all."""
        self._part = name
        self._arrange()
        self.gpuscale.poke()

    def do_worker_view(self) -> None:
        """The next part."""
        names = self.names
        self.show_part(names[(names.index(self.part) + 1) % len(names)])

    def _arrange(self) -> None:
        part = self.part
        self.page.display = part in {"all", "story"}
        self.curves.display = part in {"all", "curves"}
        self.set_focus(self.page if self.page.display else None)
        self._tell()

    def _time(self) -> tuple[int, int] | None:
        """The time of the curves (UTC ms), up to a whole minute; None before it is held."""
        row = self.worker
        if row is None or row.held_from is None:
            return None
        end = row.ended_at if row.ended_at is not None else self.gpuscale.now()
        until = -(-end // MINUTE_MS) * MINUTE_MS
        return max(row.held_from, until - MOST_MS), until

    def wish(self) -> Wish:
        """The story and the use."""
        worker_id, time = self._worker_id, self._time()
        output = read_use(worker_id, *time) if time is not None else None
        return Wish(
            self, (worker_id, time), lambda connection, moment: read_story(connection, moment, worker_id), output
        )

    def feed(self, content: WorkerStory | None, output: object, now: int) -> None:
        """Show what was read."""
        if content is None:
            self.app.pop_screen()
            return
        before = self._time()
        self._story = content
        if before != self._time():
            self.gpuscale.poke()
        if isinstance(output, Course):
            self._course = output
        look = self.gpuscale.look
        self.page.write(lambda width: write_worker(content, Page(look, self.gpuscale.now(), width)), now)
        self.summary.write(
            lambda width, _height: write_summary(content, Page(self.gpuscale.look, self.gpuscale.now(), width))
        )
        self.curves.write(self._curves)
        self._tell()

    def ticked(self, now: int) -> None:
        """A second has gone by."""
        super().ticked(now)
        self.summary.rewrite()

    def _curves(self, width: int, height: int) -> list[Line]:
        """GPU and CPU use above, memory below; only the use where there is no room for both."""
        look, time = self.gpuscale.look, self._time()
        since, until = time if time is not None else (0, 0)
        empty = "it has not said yet what it uses" if time is not None else "it is not held yet"
        upper = height if height < 2 * LEAST - 4 else (height + 1) // 2
        lines = use_plot(self._course, "use", width, upper, look, since=since, until=until, empty=empty)
        if height > upper:
            lines += memory_plot(self._course, width, height - upper, look, since=since, until=until)
        return lines

    def _tell(self) -> None:
        row, look = self.worker, self.gpuscale.look
        if row is None:
            return
        machine = clean(f"{gpus(row.gpu_type, row.gpu_count)} at {row.provider}", ascii_only=look.glyphs.ascii)
        left = [(worker_label(row.id), "title"), (f"  {machine}", "strong"), (f"  {rate(row.rate)}", "text")]
        self.heading.tell(left, [look.state(row.state)])
        self.parts.tell(self.names, self.part)

    @property
    def worker(self) -> WorkerRow | None:
        """This machine."""
        return self._story.row if self._story is not None else None

    def subject(self) -> Subject:
        """This machine."""
        return Subject(worker=self.worker, engine=self.gpuscale.snapshot.engine.kind)

    def do_worker_timeline(self) -> None:
        """What all of them did when."""
        from gpuscale_tui.tui.screens.fleet import FleetScreen

        self.app.push_screen(FleetScreen(self._worker_id))
