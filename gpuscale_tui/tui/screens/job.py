"""A job's page: how far it is and what it costs, its story over time, its curves, the end of its output as it grows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from textual.containers import Horizontal
from textual.widget import Widget

from gpuscale_tui.engine import outlook
from gpuscale_tui.engine.meter import Meter
from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.model.money import parse_usd
from gpuscale_tui.store import fleet, jobs, output_files, progress, queries, rehearsals, series, snapshots, workers
from gpuscale_tui.store.unsaved import unsaved
from gpuscale_tui.store.views import JobRow
from gpuscale_tui.tui.curves import LEAST, Course, metric_plot, use_plot
from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.job_handlers import JobHandlers
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.messages import FollowChanged
from gpuscale_tui.tui.outlook import usage_words
from gpuscale_tui.tui.page import Page
from gpuscale_tui.tui.reader import Moment, OutputQuery, Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.story import JobStory, write_job, write_summary
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.log_view import LogView, Stream, Window
from gpuscale_tui.tui.widgets.page_view import PageView
from gpuscale_tui.tui.widgets.panel import Panel
from gpuscale_tui.tui.widgets.parts import Parts
from gpuscale_tui.tui.widgets.title import Title

MINUTE_MS = 60_000
PARTS = ("story", "curves", "output")


def read_story(connection: sqlite3.Connection, moment: Moment, job_id: int, meter: Meter) -> JobStory | None:
    """Everything that the page tells; None when there is no such job."""
    row = queries.job_row(connection, job_id, engine_alive=moment.engine_alive)
    job = jobs.get(connection, job_id)
    if row is None or job is None:
        return None
    attempts = queries.attempts(connection, job_id)[::-1]
    machines = {number: workers.get(connection, number) for number in {attempt.worker_id for attempt in attempts}}
    there = [row.worker_id] if row.worker_id is not None and row.state == "running" else []
    used = progress.usage_now(connection, there)
    losing = unsaved(connection, moment.now, [job_id])
    return JobStory(
        row=row,
        job=job,
        attempts=tuple(attempts),
        workers={number: worker for number, worker in machines.items() if worker is not None},
        events=tuple(queries.job_events(connection, job_id)),
        snapshots=tuple(snapshots.snapshots(connection, job_id)),
        spans=tuple(fleet.job_spans(connection, job_id)),
        progress=progress.progress_of(connection, [job_id]).get(job_id),
        unsaved=losing.get(job_id),
        advice=meter.advice(connection, losing.values(), moment.now).get(job_id),
        used=used.get(row.worker_id or 0),
        outlook=outlook.of_job(connection, job_id, moment.now),
        outputs=tuple(output_files.of_job(connection, job_id)),
        rehearsed=rehearsals.words(job),
    )


@dataclass(frozen=True, slots=True)
class Past:
    """What is read from the log file: the end of the output, and the curves."""

    window: object
    course: Course


@dataclass(frozen=True, slots=True)
class Stay:
    """Where a job is or was last, and for which time its machine's use is shown (UTC ms)."""

    worker_id: int
    since: int
    until: int


def read_past(job_id: int, metric: str, stay: Stay | None, window: OutputQuery | None) -> OutputQuery:
    """A query for the curves, and for the window of the output that is shown."""

    def query(connection: sqlite3.Connection) -> Past:
        names = series.metric_names(connection, job_id)
        name = metric if metric in names else next(iter(names), "")
        points = series.metric(connection, job_id, name) if name else []
        used = [] if stay is None else series.usage(connection, stay.worker_id, stay.since, stay.until)
        shown = window(connection) if window is not None else None
        return Past(shown, Course(tuple(names), name, tuple(points), tuple(used)))

    return query


class JobScreen(BaseScreen[JobStory | None], JobHandlers):
    """The whole story of one job. With room its parts stand beside each other; else `v` shows one after the other."""

    NAME = "job"
    TAB = "queue"
    BINDINGS = bindings_for("job")
    DEFAULT_CSS: ClassVar[str] = """
    JobScreen #summary { height: auto; }
    JobScreen #upper { height: 3fr; }
    JobScreen #upper PageView { width: 3fr; height: 1fr; }
    JobScreen #curves { width: 2fr; }
    JobScreen #end { height: 2fr; }
    JobScreen.-one #upper { height: 1fr; }
    JobScreen.-one #end { height: 1fr; }
    """

    def __init__(self, job_id: int) -> None:
        super().__init__()
        self._job_id = job_id
        self._meter = Meter()
        self._story: JobStory | None = None
        self._course = Course()
        self._metric = ""
        self._part = ""
        self.heading = Title()
        self.summary = Panel(id="summary")
        self.parts = Parts(self.show_part)
        self.page = PageView(id="page")
        self.curves = Panel(id="curves")
        self.bottom = Title(id="output-title")
        self.output = LogView(id="end")

    def body(self) -> Iterable[Widget]:
        """Title, summary, story and curves, output."""
        upper = Horizontal(self.page, self.curves, id="upper")
        return (self.heading, self.summary, self.parts, upper, self.bottom, self.output)

    def on_mount(self) -> None:
        """The story has the keys."""
        self._arrange()

    def on_resize(self) -> None:
        """More room, or less."""
        self._arrange()

    @property
    def has_room(self) -> bool:
        """Whether the parts stand beside each other."""
        return self.app.size.width >= 100 and self.app.size.height >= 30

    @property
    def names(self) -> tuple[str, ...]:
        """What `v` goes through."""
        return ("all", *PARTS) if self.has_room else PARTS

    @property
    def part(self) -> str:
        """What is shown."""
        return self._part if self._part in self.names else self.names[0]

    def show_part(self, name: str) -> None:
        """Show one part, or all."""
        self._part = name
        self._arrange()
        self.gpuscale.poke()

    def do_job_view(self) -> None:
        """The next part."""
        names = self.names
        self.show_part(names[(names.index(self.part) + 1) % len(names)])

    def _arrange(self) -> None:
        part = self.part
        self.set_class(part != "all", "-one")
        self.page.display = part in {"all", "story"}
        self.curves.display = part in {"all", "curves"}
        self.query_one("#upper").display = part != "output"
        self.bottom.display = part == "all"
        self.output.display = part in {"all", "output"}
        self.set_focus(self.output if part == "output" else self.page if self.page.display else None)
        self.summary.rewrite()
        self._tell()

    def wish(self) -> Wish:
        """The story, the curves, and the end of the output."""
        job_id, stay, meter = self._job_id, self._stay(), self._meter
        key, output = self.output.wanted()
        past = read_past(job_id, self._metric, stay, output)
        return Wish(
            self, (job_id, key, self._metric, stay),
            lambda connection, moment: read_story(connection, moment, job_id, meter), past,
        )  # fmt: skip

    def _stay(self) -> Stay | None:
        """The time that the newest attempt held its machine, up to a whole minute."""
        attempt = self._story.attempt if self._story is not None else None
        if attempt is None:
            return None
        until = attempt.ended_at if attempt.ended_at is not None else self.gpuscale.now()
        return Stay(attempt.worker_id, attempt.assigned_at, -(-until // MINUTE_MS) * MINUTE_MS)

    def feed(self, content: JobStory | None, output: object, now: int) -> None:
        """Show what was read."""
        if content is None:
            self.app.pop_screen()
            return
        before = self._stay()
        self._story = content
        opened = self.output.open(Stream(content.row.id, content.row.attempt) if content.row.attempt else None)
        if opened or before != self._stay():
            self.gpuscale.poke()
        if isinstance(output, Past):
            self._course = output.course
            if isinstance(output.window, Window):
                self.output.take(output.window, now)
        look = self.gpuscale.look
        self.page.write(lambda width: write_job(content, Page(look, self.gpuscale.now(), width)), now)
        self.summary.write(lambda width, _height: self._summary(content, width))
        self.curves.write(self._curves)
        self._tell()

    def ticked(self, now: int) -> None:
        """A second has gone by."""
        super().ticked(now)
        self.summary.rewrite()

    def _summary(self, story: JobStory, width: int) -> list[Line]:
        limit = self.gpuscale.settings.budget.per_job
        page = Page(self.gpuscale.look, self.gpuscale.now(), width)
        brief = self.part in {"curves", "output"} and not self.has_room
        return write_summary(story, page, None if limit is None else parse_usd(limit), brief=brief)

    def _curves(self, width: int, height: int) -> list[Line]:
        """The metric above, the machine below; only the metric where there is no room for both."""
        look, stay, story = self.gpuscale.look, self._stay(), self._story
        running = story is not None and story.row.state in {"running", "pending"}
        upper = height if height < 2 * LEAST - 4 else (height * 11) // 20
        lines = metric_plot(self._course, width, upper, look, running=running)
        lower = height - upper
        if lower <= 0:
            return lines
        if stay is None:
            return [*lines, *use_plot(Course(), "machine", width, lower, look, since=0, until=0,
                                      empty="it has had no machine yet")]  # fmt: skip
        label = worker_label(stay.worker_id)
        used = usage_words(story.used if story is not None else None, self.gpuscale.now(), width - len(label) - 7)
        title = f"{label} {used}".rstrip()
        return [
            *lines,
            *use_plot(self._course, title, width, lower, look, since=stay.since, until=stay.until,
                      empty="its machine has not said what it uses"),
        ]  # fmt: skip

    def _tell(self) -> None:
        row, look = self.job, self.gpuscale.look
        if row is None:
            return
        state = look.state("stopping" if row.cancelling and row.state == "running" else row.state)
        name = clean(row.name, ascii_only=look.glyphs.ascii)
        tries = f"attempt {row.attempt}" if row.attempt else "no attempt yet"
        self.heading.tell([(job_label(row.id), "title"), (f"  {name}", "strong")], [state, (f"  {tries}", "muted")])
        badge: Line = [self.output.badge()] if self.output.stream else []
        self.parts.tell(self.names, self.part, badge if self.part == "output" else ())
        self.bottom.tell([("output", "heading"), ("  Tab goes there, l shows it whole", "muted")], badge)

    def on_follow_changed(self, _event: FollowChanged) -> None:
        """The badge of the output."""
        self._tell()

    @property
    def job(self) -> JobRow | None:
        """This job."""
        return self._story.row if self._story is not None else None

    def subject(self) -> Subject:
        """This job."""
        return Subject(job=self.job, engine=self.gpuscale.snapshot.engine.kind)

    def do_job_metric(self) -> None:
        """The next metric."""
        names = self._course.names
        if len(names) < 2:
            self.notify("There is no other metric in its output." if names else "Its output has no metrics yet.",
                        timeout=3)  # fmt: skip
            return
        place = names.index(self._course.name) if self._course.name in names else -1
        self._metric = names[(place + 1) % len(names)]
        if not self.curves.display:
            self.show_part("curves")
        self.gpuscale.poke()

    def do_log_search(self) -> None:
        """The whole output, where there is a search."""
        if self.job is not None:
            self.gpuscale.show_logs(self.job.id)
