"""A job's page: its facts, why it is where it is, its story, and the end of its output as it grows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from textual.widget import Widget

from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store import jobs, queries, snapshots, workers
from gpuscale_tui.store.views import JobRow
from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.job_handlers import JobHandlers
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.messages import FollowChanged
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.story import JobStory, Page, write_job
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.log_view import LogView, Stream, Window
from gpuscale_tui.tui.widgets.page_view import PageView
from gpuscale_tui.tui.widgets.title import Title


def read_story(connection: sqlite3.Connection, moment: Moment, job_id: int) -> JobStory | None:
    """Everything that the page tells; None when there is no such job."""
    row = queries.job_row(connection, job_id, engine_alive=moment.engine_alive)
    job = jobs.get(connection, job_id)
    if row is None or job is None:
        return None
    attempts = queries.attempts(connection, job_id)[::-1]
    machines = {number: workers.get(connection, number) for number in {attempt.worker_id for attempt in attempts}}
    return JobStory(
        row=row,
        job=job,
        attempts=tuple(attempts),
        workers={number: worker for number, worker in machines.items() if worker is not None},
        events=tuple(queries.job_events(connection, job_id)),
        snapshots=tuple(snapshots.snapshots(connection, job_id)),
    )


class JobScreen(BaseScreen[JobStory | None], JobHandlers):
    """The whole story of one job."""

    NAME = "job"
    TAB = "queue"
    BINDINGS = bindings_for("job")

    def __init__(self, job_id: int) -> None:
        super().__init__()
        self._job_id = job_id
        self._story: JobStory | None = None
        self.heading = Title()
        self.page = PageView(id="story")
        self.bottom = Title(id="output-title")
        self.output = LogView(id="tail")

    def body(self) -> Iterable[Widget]:
        """Title, story, output."""
        return (self.heading, self.page, self.bottom, self.output)

    def on_mount(self) -> None:
        """The story has the keys; Tab goes to the output."""
        self.set_focus(self.page)

    def wish(self) -> Wish:
        """The story, and the end of the output."""
        job_id = self._job_id
        key, output = self.output.wanted()
        return Wish(self, (job_id, key), lambda connection, moment: read_story(connection, moment, job_id), output)

    def feed(self, content: JobStory | None, output: object, now: int) -> None:
        """Show what was read."""
        if content is None:
            self.app.pop_screen()
            return
        self._story = content
        self.page.write(lambda width: write_job(content, Page(self.gpuscale.look, self.gpuscale.now(), width)), now)
        if self.output.open(Stream(content.row.id, content.row.attempt) if content.row.attempt else None):
            self.gpuscale.poke()
        if isinstance(output, Window):
            self.output.take(output, now)
        self._tell()

    def _tell(self) -> None:
        row, look = self.job, self.gpuscale.look
        if row is None:
            return
        state = look.state("stopping" if row.cancelling and row.state == "running" else row.state)
        name = clean(row.name, ascii_only=look.glyphs.ascii)
        tries = f"attempt {row.attempt}" if row.attempt else "no attempt yet"
        self.heading.tell([(job_label(row.id), "title"), (f"  {name}", "strong")], [state, (f"  {tries}", "muted")])
        badge: Line = [self.output.badge()] if self.output.stream else []
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

    def do_log_search(self) -> None:
        """The whole output, where there is a search."""
        if self.job is not None:
            self.gpuscale.show_logs(self.job.id)
