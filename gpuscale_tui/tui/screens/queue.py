"""Screen 1: all jobs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from textual.widget import Widget

from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store.job_list import JOB_FIELDS, JOB_SORTS, JobList, JobPage, JobView, rows_for
from gpuscale_tui.store.views import JobRow
from gpuscale_tui.tui.cells import JOB_COLUMNS, RESUMES
from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.job_handlers import JobHandlers
from gpuscale_tui.tui.messages import RowPointed
from gpuscale_tui.tui.reader import Wish
from gpuscale_tui.tui.screens.base import bindings_for
from gpuscale_tui.tui.screens.listing import ListScreen
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.why import Why

EMPTY = (
    (),
    (("Nothing queued.", "strong"),),
    (),
    (("Press ", "muted"), ("n", "key"), (" for a new job, or in another terminal:", "muted")),
    (("  gpuscale submit -- python train.py --lr 1e-3", "text"),),
)


class QueueScreen(ListScreen[JobPage, JobRow], JobHandlers):
    """The table of jobs, a filter, and why the one under the cursor is where it is."""

    NAME = "queue"
    TAB = "queue"
    BINDINGS = bindings_for("queue")
    COLUMNS = JOB_COLUMNS
    FIELDS = JOB_FIELDS
    SORTS = JOB_SORTS
    EMPTY = EMPTY
    NOUN = ("job", "jobs")

    def __init__(self) -> None:
        super().__init__()
        self.why = Why()
        self._list = JobList()

    def body(self) -> Iterable[Widget]:
        """Title, table and why."""
        return (self.heading, self.table, self.why)

    @property
    def view(self) -> JobView:
        """Which jobs, in which order."""
        return JobView(self.wanted, self.sort.key, self.sort.descending)

    def wish(self) -> Wish:
        """The page of the table."""
        view, window, seen = self.view, self.table.window(), self.table.in_view
        followed = self.table.followed
        job_id = followed if isinstance(followed, int) else None
        return Wish(
            self,
            (view, window),
            lambda connection, moment: self._list.page(
                connection, view, window, job_id, moment.now, seen=seen, engine_alive=moment.engine_alive
            ),
        )

    def feed(self, content: JobPage, output: object, now: int) -> None:  # noqa: ARG002 - this screen reads no output
        """Show the page."""
        self.put(content.total, content.first, content.rows, now, content.place)
        self._tell_why()

    def subject(self) -> Subject:
        """The job under the cursor and what is marked."""
        marked = frozenset(each for each in self.marked if isinstance(each, int))
        return Subject(job=self.job, engine=self.gpuscale.snapshot.engine.kind, marked=marked)

    @property
    def job(self) -> JobRow | None:
        """The job under the cursor."""
        return self.table.pointed

    def on_row_pointed(self, event: RowPointed) -> None:
        """Another job, another reason."""
        super().on_row_pointed(event)
        self._tell_why()

    def _tell_why(self) -> None:
        job = self.job
        if job is None:
            self.why.tell(("", "text"), "")
        else:
            words = "; ".join(part for part in (job.why, RESUMES.get(job.rehearsal, "")) if part)
            self.why.tell((job_label(job.id), "title"), clean(words, ascii_only=self.gpuscale.look.glyphs.ascii))

    def do_open(self) -> None:
        """The job's page."""
        if self.job is not None:
            self.gpuscale.show_job(self.job.id)

    async def ids_shown(self) -> Iterable[int]:
        """Ids of all jobs that the filter lets through."""
        view, now = self.view, self.gpuscale.now()
        return await self.ask(self._list.ids, view, now)

    async def ids_between(self, one: Hashable, other: Hashable) -> Iterable[int]:
        """Ids from one job to another, as they are shown."""
        view, now = self.view, self.gpuscale.now()
        return await self.ask(self._list.between, view, one, other, now)

    async def rows_for(self, ids: Iterable[Hashable]) -> Sequence[JobRow]:
        """The rows of these jobs."""
        wanted = [each for each in ids if isinstance(each, int)]
        alive = self.gpuscale.snapshot.engine.kind != "none"
        return await self.ask(rows_for, wanted, engine_alive=alive)
