"""A machine's page: why it was rented, why it is still up, what it costs, what happened to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from textual.widget import Widget

from gpuscale_tui.model.hosts import examination_in_words, in_words
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.store import hosts, queries, workers
from gpuscale_tui.store.views import WorkerRow
from gpuscale_tui.tui.format import clean, gpus, rate
from gpuscale_tui.tui.machine_story import WorkerStory, write_worker
from gpuscale_tui.tui.page import Page
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.page_view import PageView
from gpuscale_tui.tui.widgets.title import Title
from gpuscale_tui.tui.worker_handlers import WorkerHandlers


def read_story(connection: sqlite3.Connection, _moment: Moment, worker_id: int) -> WorkerStory | None:
    """Everything that the page tells; None when there is no such machine."""
    row, worker = queries.worker_row(connection, worker_id), workers.get(connection, worker_id)
    if row is None or worker is None:
        return None
    events = tuple(queries.worker_events(connection, worker_id))
    known = hosts.histories(connection, 0, (worker.provider, worker.server_id))
    told = tuple(in_words(known[0])) if known else ()
    examined = hosts.examination_of(connection, worker_id)
    shown = "" if examined is None else examination_in_words(examined)
    return WorkerStory(row, worker, events, queries.why_worker(connection, worker_id), told, shown)


class WorkerScreen(BaseScreen[WorkerStory | None], WorkerHandlers):
    """The whole story of one machine."""

    NAME = "worker"
    TAB = "workers"
    BINDINGS = bindings_for("worker")

    def __init__(self, worker_id: int) -> None:
        super().__init__()
        self._worker_id = worker_id
        self._story: WorkerStory | None = None
        self.heading = Title()
        self.page = PageView(id="story")

    def body(self) -> Iterable[Widget]:
        """Title and story."""
        return (self.heading, self.page)

    def on_mount(self) -> None:
        """The story has the keys."""
        self.set_focus(self.page)

    def wish(self) -> Wish:
        """The story."""
        worker_id = self._worker_id
        return Wish(self, worker_id, lambda connection, moment: read_story(connection, moment, worker_id))

    def feed(self, content: WorkerStory | None, output: object, now: int) -> None:  # noqa: ARG002 - reads no output
        """Show what was read."""
        if content is None:
            self.app.pop_screen()
            return
        self._story = content
        look, row = self.gpuscale.look, content.row
        self.page.write(lambda width: write_worker(content, Page(look, self.gpuscale.now(), width)), now)
        machine = clean(f"{gpus(row.gpu_type, row.gpu_count)} at {row.provider}", ascii_only=look.glyphs.ascii)
        left = [(worker_label(row.id), "title"), (f"  {machine}", "strong"), (f"  {rate(row.rate)}", "text")]
        self.heading.tell(left, [look.state(row.state)])

    @property
    def worker(self) -> WorkerRow | None:
        """This machine."""
        return self._story.row if self._story is not None else None

    def subject(self) -> Subject:
        """This machine."""
        return Subject(worker=self.worker, engine=self.gpuscale.snapshot.engine.kind)
