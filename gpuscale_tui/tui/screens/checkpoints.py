"""Screen 5: what running jobs would lose now, and all snapshots of checkpoints with what can be done with them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.widget import Widget

from gpuscale_tui.engine.meter import Meter
from gpuscale_tui.model.jobs import StartFrom
from gpuscale_tui.model.query import FieldKind
from gpuscale_tui.store import snapshot_list
from gpuscale_tui.store.snapshot_list import ListedSnapshot, SnapshotView
from gpuscale_tui.store.unsaved import unsaved_by_name
from gpuscale_tui.tui.checkpoint_handlers import CheckpointHandlers
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.screens.base import bindings_for
from gpuscale_tui.tui.screens.listing import ListScreen
from gpuscale_tui.tui.snapshot_cells import COLUMNS, Losing, SnapshotLine, quota_line, unsaved_lines
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.confirm import Lines

EMPTY = (
    (),
    (("No checkpoint has been fetched yet.", "strong"),),
    (),
    (("A job that writes to $CHECKPOINT_DIR has it fetched while it runs,", "muted"),),
    (("and resumes from it when its machine is lost.", "muted"),),
)
MOST_QUOTAS = 2
"""Projects whose quota is shown: those that are fullest."""
LOOKED_AT = 100
"""Snapshots on disk that are looked at in one go."""


@dataclass(frozen=True, slots=True)
class Page:
    """Snapshots from the `first` on, of `total`; what running jobs would lose, the dearest first; jobs by project."""

    total: int
    first: int
    rows: tuple[ListedSnapshot, ...]
    losing: tuple[Losing, ...]
    projects: Mapping[str, tuple[int, ...]]


def _is_here(row: ListedSnapshot) -> bool:
    """Whether it can be looked at without asking a network."""
    return row.snapshot.pruned_at is None and row.snapshot.place == "dir"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is read beside the page: advice by `meter` for `most` jobs, which are saved every `set_ms`; quotas."""

    meter: Meter
    most: int
    set_ms: int
    quotas: bool


def read_snapshots(
    connection: sqlite3.Connection, moment: Moment, view: SnapshotView, window: tuple[int, int], asked: Asked
) -> Page:  # fmt: skip
    """One page of snapshots, and what is not in any."""
    total, first, rows = snapshot_list.page(connection, view, window, moment.now)
    found = sorted(unsaved_by_name(connection, moment.now), key=lambda pair: -pair[1].cost)
    advice = asked.meter.advice(connection, [each for _, each in found[: asked.most]], moment.now)
    losing = tuple(Losing(name, each, advice.get(each.job_id), asked.set_ms) for name, each in found)
    projects = snapshot_list.jobs_by_project(connection) if asked.quotas else {}
    return Page(total, first, tuple(rows), losing, projects)


class CheckpointsScreen(ListScreen[Page, SnapshotLine], CheckpointHandlers):
    """What is unsaved, and the table of snapshots; Enter goes to the job."""

    NAME = "checkpoints"
    TAB = "checkpoints"
    BINDINGS = bindings_for("checkpoints")
    COLUMNS = COLUMNS
    FIELDS: ClassVar[Mapping[str, FieldKind]] = snapshot_list.FIELDS
    SORTS = snapshot_list.SORTS
    EMPTY = EMPTY
    NOUN = ("snapshot", "snapshots")

    def __init__(self) -> None:
        super().__init__()
        self.losing = Lines([[]], "ground")
        self.transfer: tuple[str, str] = ("", "")
        self._wrong: dict[tuple[int, int], str] = {}
        self._looking = False
        self._lines = 1
        self._page: Page | None = None
        self._meter = Meter()
        self._weighed: object = None
        self._quota_lines: list[Line] = []

    def body(self) -> Iterable[Widget]:
        """What is unsaved, title, table."""
        return (self.losing, self.heading, self.table)

    def on_mount(self) -> None:
        """What runs is known before it is read what that would lose: the lines have their place at once."""
        super().on_mount()
        status = self.gpuscale.snapshot.status
        running = status.jobs.get("running", 0) if status is not None else 0
        self._lines = 1 + min(running, self._most)
        self.losing.change([[]] * self._lines)

    @property
    def _most(self) -> int:
        """Jobs with unsaved work that are named."""
        return max(1, self.app.size.height // 8)

    @property
    def view(self) -> SnapshotView:
        """Which snapshots, in which order."""
        return SnapshotView(self.wanted, self.sort.key, self.sort.descending)

    def wish(self) -> Wish:
        """The page of the table."""
        view, window = self.view, self.table.window()
        config = self.gpuscale.settings.checkpoints
        asked = Asked(
            self._meter, self._most, round(config.interval_sec * 1000), bool(config.quota_mb or config.quotas)
        )
        return Wish(
            self, (view, window, asked),
            lambda connection, moment: read_snapshots(connection, moment, view, window, asked),
        )  # fmt: skip

    def feed(self, content: Page, output: object, now: int) -> None:  # noqa: ARG002 - this screen reads no output
        """Show the page; what is on disk is looked at beside."""
        self._page = content
        self._tell_unsaved(content)
        self._put(now)
        unknown = [row.id for row in content.rows if _is_here(row) and row.id not in self._wrong]
        if unknown and not self._looking:
            self._looking = True
            self.gpuscale.spawn(self._look(unknown[:LOOKED_AT]))
        heap = (tuple(content.projects.items()), content.total)
        if content.projects and heap != self._weighed:
            self._weighed = heap
            self.gpuscale.spawn(self._weigh(content.projects))

    def _tell_unsaved(self, page: Page) -> None:
        lines = unsaved_lines(page.losing, self.gpuscale.look, self._most, self.app.size.width) + self._quota_lines
        higher = len(lines) != self._lines
        self._lines = len(lines)
        self.losing.change(lines)
        if higher:  # the screen itself: laid out before anything else is painted
            self._clear_arrangement_cache()
            self.refresh(layout=True)

    def _put(self, now: int) -> None:
        page = self._page
        if page is not None:
            rows = [SnapshotLine(row, self._wrong.get(row.id)) for row in page.rows]
            self.put(page.total, page.first, rows, now)

    async def _look(self, ids: Sequence[tuple[int, int]]) -> None:
        """See what is on disk; the store may be slow, so nothing waits for this."""
        from gpuscale_tui.engine import checkpoints

        store = checkpoints.snapshot_store(self.gpuscale.home, self.gpuscale.settings)
        try:
            found = await asyncio.to_thread(lambda: {each: checkpoints.broken(store, StartFrom(*each)) for each in ids})
        except OSError as error:
            found = dict.fromkeys(ids, str(error))
        finally:
            self._looking = False
        self._wrong.update(found)
        if self.is_mounted:
            self._put(self.gpuscale.now())

    async def _weigh(self, projects: Mapping[str, tuple[int, ...]]) -> None:
        """See what the projects that have a quota really take; files that snapshots share count once."""
        from gpuscale_tui.engine import checkpoints
        from gpuscale_tui.store.quota import quota_of

        app = self.gpuscale
        limits = {project: quota_of(app.settings.checkpoints, project) for project in projects}
        store = checkpoints.snapshot_store(app.home, app.settings)
        try:
            used = {
                project: sum((await asyncio.to_thread(store.usage, projects[project])).values())
                for project, limit in limits.items()
                if limit
            }
        except OSError:  # the list says of each snapshot what is wrong
            return
        fullest = sorted(used, key=lambda project: -used[project] / limits[project])[:MOST_QUOTAS]
        self._quota_lines = [quota_line(project, used[project], limits[project]) for project in fullest]
        if self.is_mounted and self._page is not None:
            self._tell_unsaved(self._page)

    def forget_disk(self, ids: Iterable[tuple[int, int]]) -> None:
        """These may look different on disk now."""
        for each in ids:
            self._wrong.pop(each, None)

    def on_screen_resume(self) -> None:
        """The disk may have changed while another screen was shown."""
        self._wrong.clear()
        super().on_screen_resume()

    def title_line(self) -> tuple[Line, Line] | None:
        """The usual, and what is being copied."""
        left, right = self.usual_title()
        return left, [self.transfer] if self.transfer[0] else right

    @property
    def pointed(self) -> SnapshotLine | None:
        """The snapshot under the cursor."""
        return self.table.pointed

    def subject(self) -> Subject:
        """The snapshot under the cursor and those that are marked."""
        row = self.pointed
        return Subject(
            engine=self.gpuscale.snapshot.engine.kind,
            snapshot=row.listed.snapshot if row else None,
            snapshots=len(self.marked),
            copying=bool(self.transfer[0]),
        )

    async def ids_shown(self) -> Iterable[tuple[int, int]]:
        """Ids of all snapshots that the filter lets through."""
        return await self.gpuscale.reader.database.read(snapshot_list.ids, self.view, self.gpuscale.now())

    async def ids_between(self, one: Hashable, other: Hashable) -> Iterable[tuple[int, int]]:
        """Ids from one snapshot to another, as they are shown."""
        shown = list(await self.ids_shown())
        if one not in shown or other not in shown:
            return []
        first, last = sorted((shown.index(one), shown.index(other)))
        return shown[first : last + 1]

    async def rows_for(self, ids: Iterable[Hashable]) -> Sequence[SnapshotLine]:
        """The rows of these snapshots."""
        wanted = [each for each in ids if isinstance(each, tuple)]
        found = await self.gpuscale.reader.database.read(snapshot_list.rows_for, wanted)
        return [SnapshotLine(row, self._wrong.get(row.id)) for row in found]
