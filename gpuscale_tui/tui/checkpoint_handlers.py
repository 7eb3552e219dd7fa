"""What can be done with snapshots: fetched, resumed from, branched, removed."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.tui.format import clean, plural, share, size, span

if TYPE_CHECKING:
    from gpuscale_tui.store.checkpoints import Snapshot
    from gpuscale_tui.tui.app import GpuscaleApp
    from gpuscale_tui.tui.snapshot_cells import SnapshotLine

TELL_SEC = 0.5
"""How often a copy says how far it is."""
NAMED = 5


class CheckpointHandlers:
    """Mixed into the screen of snapshots."""

    transfer: tuple[str, str]
    marked: frozenset[Hashable]
    _stop: threading.Event | None = None

    @property
    def gpuscale(self) -> GpuscaleApp:
        """The application."""
        raise NotImplementedError

    @property
    def pointed(self) -> SnapshotLine | None:
        """The snapshot under the cursor."""
        raise NotImplementedError

    async def rows_for(self, ids: Iterable[Hashable]) -> Sequence[SnapshotLine]:
        """The rows of these snapshots."""
        raise NotImplementedError

    def forget_disk(self, ids: Iterable[tuple[int, int]]) -> None:
        """These may look different on disk now."""
        raise NotImplementedError

    def mark(self, ids: frozenset[Hashable]) -> None:
        """Mark these and no others."""
        raise NotImplementedError

    def tell_title(self) -> None:
        """Show the title anew."""
        raise NotImplementedError

    def do_open(self) -> None:
        """The job's page."""
        if self.pointed is not None:
            self.gpuscale.show_job(self.pointed.listed.snapshot.job_id)

    def do_copy(self) -> None:
        """The snapshot's name, as `--from` and the form take it."""
        if self.pointed is not None:
            self.gpuscale.copy(self.pointed.label)

    async def do_checkpoint_branch(self) -> None:
        """The form for a job that begins with it."""
        from gpuscale_tui.tui.form import opening

        if self.pointed is not None:
            await opening.branch(self.gpuscale, *self.pointed.id)

    async def do_checkpoint_why(self) -> None:
        """All that is known of it."""
        from gpuscale_tui.tui.widgets.confirm import Notice

        row = self.pointed
        if row is not None:
            lines = await self._about(row)
            self.gpuscale.push_screen(Notice(f"Snapshot {row.label}", lines))

    async def _about(self, row: SnapshotLine) -> list[str]:
        app, snapshot = self.gpuscale, row.listed.snapshot
        only_ascii = app.look.glyphs.ascii
        step = f" at step {snapshot.step:,}" if snapshot.step is not None else ""
        name = clean(row.listed.name, ascii_only=only_ascii)[:60]
        taken = f"{app.look.when(snapshot.at, app.now())}, {span(app.now() - snapshot.at)} ago"
        lines = [
            f"Of {job_label(snapshot.job_id)} {name}, attempt {snapshot.attempt}{step}.",
            f"Taken {taken}: {plural(snapshot.files, 'file')}, {size(snapshot.bytes)}.",
        ]
        if snapshot.pruned_at is not None:
            return [*lines, f"Removed {app.look.when(snapshot.pruned_at, app.now())}."]
        if row.listed.needed_by is not None:
            lines.append(f"{job_label(row.listed.needed_by)} starts from it, so it stays.")
        if row.wrong:
            return [*lines, f"On disk: {clean(row.wrong, ascii_only=only_ascii)}."]
        found = await self._found(row)
        biggest = sorted(found.files, key=lambda entry: -entry.size)[:NAMED] if found else []
        return [*lines, *(f"{size(each.size):>9}  {clean(each.name, ascii_only=only_ascii)[:50]}" for each in biggest)]

    async def _found(self, row: SnapshotLine) -> Snapshot | None:
        """The snapshot on disk by its manifest; what is wrong with it is said."""
        from gpuscale_tui.engine import checkpoints

        app = self.gpuscale
        store = checkpoints.snapshot_store(app.home, app.settings)
        try:
            return await asyncio.to_thread(store.find, *row.id)
        except GpuscaleError as error:
            app.notify(clean(str(error)), severity="error", timeout=6, markup=False)
            return None

    # resume

    async def do_checkpoint_resume(self) -> None:
        """Put its job back so that it goes on from here, after saying what is left aside."""
        from gpuscale_tui.store.snapshot_list import left_aside
        from gpuscale_tui.tui.widgets.confirm import confirm

        row, app = self.pointed, self.gpuscale
        if row is None:
            return
        aside = await app.reader.database.read(left_aside, *row.id)
        step = f" at step {row.listed.snapshot.step:,}" if row.listed.snapshot.step is not None else ""
        words = [f"{job_label(row.id[0])} waits in the queue again and begins with snapshot {row.id[1]}{step}."]
        if aside.count:
            steps = f", {aside.steps:,} steps" if aside.steps else ""
            words.append(
                f"Left aside: {plural(aside.count, 'newer snapshot')}, about {span(aside.ms)} of saved work{steps}."
                " They stay on disk until the job has made enough others."
            )
        if row.wrong:
            words.append(f"It is not whole on disk: {clean(row.wrong)}. The job would fail at its start.")
        question = confirm(f"Resume {job_label(row.id[0])} from {row.label}?", words, "yes, resume it from here")
        app.push_screen(question, lambda sure: app.spawn(self._resume(row)) if sure else None)

    async def _resume(self, row: SnapshotLine) -> None:
        from gpuscale_tui.engine import checkpoints

        app = self.gpuscale
        if await app.command(checkpoints.resume, row.start, user=app.user, now=app.now()) is not None:
            app.notify(f"{job_label(row.id[0])} waits in the queue, from snapshot {row.id[1]}", timeout=4)

    # removal

    async def do_checkpoint_prune(self) -> None:
        """Remove what is marked, else the one under the cursor, after saying what that frees."""
        from gpuscale_tui.tui.widgets.confirm import confirm

        app = self.gpuscale
        rows = list(await self.rows_for(self.marked)) if self.marked else [self.pointed] if self.pointed else []
        rows = [row for row in rows if row.kept]
        if not rows:
            app.notify("They were removed already.", timeout=3)
            return
        what = rows[0].label if len(rows) == 1 else plural(len(rows), "snapshot")
        freed = sum(row.listed.snapshot.bytes for row in rows)
        words = [
            f"{', '.join(row.label for row in rows[:8])}{' and others' if len(rows) > 8 else ''}.",
            f"It frees up to {size(freed)}: files that other snapshots share stay. It cannot be undone.",
            "The last whole snapshot of a job stays, and one that a job starts from.",
        ]
        question = confirm(f"Remove {what}?", words, "yes, remove", "no, keep them")
        app.push_screen(question, lambda sure: app.spawn(self._prune(rows)) if sure else None)

    async def _prune(self, rows: Sequence[SnapshotLine]) -> None:
        from gpuscale_tui.engine import checkpoints

        app = self.gpuscale
        store = checkpoints.snapshot_store(app.home, app.settings)
        try:
            judged = await asyncio.to_thread(checkpoints.removable, store, [row.start for row in rows])
            done = await app.command(checkpoints.claim_removal, judged.going, user=app.user, now=app.now())
            if done is None:
                return
            await asyncio.to_thread(checkpoints.remove, store, done[0].going)
        except (GpuscaleError, OSError) as error:
            app.notify(clean(str(error)), severity="error", timeout=8, markup=False)
            return
        self.forget_disk(row.id for row in rows)
        self.mark(frozenset())
        going = {each.label for each in done[0].going}
        freed = sum(row.listed.snapshot.bytes for row in rows if row.label in going)
        app.notify(f"{plural(len(going), 'snapshot')} removed, up to {size(freed)} freed", timeout=4)
        for each, reason in (*judged.staying, *done[0].staying):
            app.notify(f"{each.label} stays: {reason}", severity="warning", timeout=6, markup=False)

    # download

    async def do_checkpoint_get(self) -> None:
        """Ask where to, then copy."""
        from gpuscale_tui.tui.form.directories import DirectoryPicker

        row, app = self.pointed, self.gpuscale
        if row is None:
            return
        start = f"{os.getcwd()}/{row.label.replace('/', '-')}"  # noqa: PTH109 - text to begin with
        picker = DirectoryPicker(f"Copy snapshot {row.label} into which directory?", start, upload=False)
        app.push_screen(picker, lambda path: app.spawn(self._get(row, Path(path).expanduser())) if path else None)

    async def _get(self, row: SnapshotLine, target: Path) -> None:
        """Ask before anything is replaced."""
        from gpuscale_tui.engine import checkpoints
        from gpuscale_tui.tui.widgets.confirm import confirm

        app, found = self.gpuscale, await self._found(row)
        if found is None:
            return
        try:
            taken = await asyncio.to_thread(checkpoints.in_the_way, found, target)
        except (GpuscaleError, OSError) as error:
            app.notify(clean(str(error)), severity="error", timeout=8, markup=False)
            return
        if not taken:
            await self._copy(found, row.label, target, overwrite=False)
            return
        names = ", ".join(clean(name)[:40] for name in taken[:NAMED])
        words = [f"{clean(str(target))} has {plural(len(taken), 'file')} of the same name: {names}.", "They are lost."]
        question = confirm("Replace what is there?", words, "yes, replace them", "no, copy nothing")
        app.push_screen(
            question, lambda sure: app.spawn(self._copy(found, row.label, target, overwrite=True)) if sure else None
        )

    async def _copy(self, found: Snapshot, label: str, target: Path, *, overwrite: bool) -> None:
        """Copy off the loop, say how far it is, stop when asked."""
        from gpuscale_tui.engine import checkpoints

        app, stop = self.gpuscale, threading.Event()
        so_far = [0]
        self._stop = stop

        def heard(done: int, _all: int) -> None:
            so_far[0] = done

        task = asyncio.create_task(
            asyncio.to_thread(
                checkpoints.download, found, target, overwrite=overwrite, progress=heard, stopped=stop.is_set
            )
        )
        try:
            while not task.done():
                self._tell(f"{label}: {size(so_far[0])} of {size(found.size)}, {share(so_far[0], found.size)}")
                await asyncio.wait([task], timeout=TELL_SEC)
            copied = await task
        except GpuscaleError as error:
            app.notify(clean(str(error)), severity="error", timeout=8, markup=False)
        else:
            words = f"{label} copied to {clean(str(target))}: {size(copied)}, every byte as it was stored"
            app.notify(words, timeout=6, markup=False)
        finally:
            stop.set()  # where this ends with the application, the thread does too
            self._stop = None
            self._tell("")

    def _tell(self, words: str) -> None:
        self.transfer = (words, "accent")
        self.tell_title()

    def do_checkpoint_stop(self) -> None:
        """Stop copying."""
        if self._stop is not None:
            self._stop.set()
