"""What can be done with snapshots: fetched, verified, pinned, resumed from, branched, removed."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.tui.checkpoint_files import NAMED, CheckpointFiles
from gpuscale_tui.tui.format import clean, plural, size, span

if TYPE_CHECKING:
    from gpuscale_tui.tui.snapshot_cells import SnapshotLine

WHY = {"interval": "by time", "last": "before its attempt ended", "asked": "because it was asked for"}


class CheckpointHandlers(CheckpointFiles):
    """Mixed into the screen of snapshots."""

    marked: frozenset[Hashable]

    async def rows_for(self, ids: Iterable[Hashable]) -> Sequence[SnapshotLine]:
        """The rows of these snapshots."""
        raise NotImplementedError

    def mark(self, ids: frozenset[Hashable]) -> None:
        """Mark these and no others."""
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
        step += f", loss {snapshot.loss:.6g}" if snapshot.loss is not None else ""
        name = clean(row.listed.name, ascii_only=only_ascii)[:60]
        taken = f"{app.look.when(snapshot.at, app.now())}, {span(app.now() - snapshot.at)} ago"
        took = f" It took {span(snapshot.took_ms)}" if snapshot.took_ms is not None else ""
        added = f" and added {size(snapshot.stored)}" if snapshot.stored is not None else ""
        lines = [
            f"Of {job_label(snapshot.job_id)} {name}, attempt {snapshot.attempt}{step}.",
            f"Taken {taken} {WHY.get(snapshot.kind, '')}: {plural(snapshot.files, 'file')}, {size(snapshot.bytes)}.",
            *([f"{took or ' It'}{added}.".strip()] if took or added else []),
        ]
        if snapshot.pruned_at is not None:
            return [*lines, f"Removed {app.look.when(snapshot.pruned_at, app.now())}."]
        if snapshot.pinned_at is not None:
            lines.append(f"Pinned {app.look.when(snapshot.pinned_at, app.now())}: it is not pruned; P lets it go.")
        checked = snapshot.checked_at
        if checked is not None and snapshot.fault is None:
            lines.append(f"Verified {span(app.now() - checked)} ago: every byte was as it was stored.")
        elif snapshot.fault is not None:
            lines.append(f"Broken: {clean(snapshot.fault, ascii_only=only_ascii)}.")
        else:
            lines.append("Not verified since it was stored; v compares every byte.")
        if row.listed.needed_by is not None:
            lines.append(f"{job_label(row.listed.needed_by)} starts from it, so it stays.")
        if row.wrong:
            return [*lines, f"On disk: {clean(row.wrong, ascii_only=only_ascii)}."]
        source = await self.found(row)
        biggest = sorted(source[1].files, key=lambda entry: -entry.size)[:NAMED] if source else []
        return [*lines, *(f"{size(each.size):>9}  {clean(each.name, ascii_only=only_ascii)[:50]}" for each in biggest)]

    async def meant(self) -> list[SnapshotLine]:
        """All that are marked, else the one under the cursor; without those that were removed."""
        rows = list(await self.rows_for(self.marked)) if self.marked else [self.pointed] if self.pointed else []
        return [row for row in rows if row.kept]

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
        wrong = row.wrong or row.listed.snapshot.fault
        if wrong:
            words.append(f"It is not whole: {clean(wrong)}. The job would fail at its start, or begin with another.")
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

        app, rows = self.gpuscale, await self.meant()
        if not rows:
            app.notify("They were removed already.", timeout=3)
            return
        what = rows[0].label if len(rows) == 1 else plural(len(rows), "snapshot")
        freed = await self._frees(rows)
        pinned = sum(row.listed.snapshot.pinned_at is not None for row in rows)
        words = [
            f"{', '.join(row.label for row in rows[:8])}{' and others' if len(rows) > 8 else ''}.",
            f"It frees up to {size(freed)}: what other snapshots share stays. It cannot be undone.",
            "The last whole snapshot of a job stays, and one that a job starts from.",
            *(
                [f"{plural(pinned, 'pinned one')} {'stays' if pinned == 1 else 'stay'}; P lets them go."]
                if pinned
                else []
            ),
        ]
        question = confirm(f"Remove {what}?", words, "yes, remove", "no, keep them")
        app.push_screen(question, lambda sure: app.spawn(self._prune(rows)) if sure else None)

    async def _frees(self, rows: Sequence[SnapshotLine]) -> int:
        """Bytes that go with them, by their manifests; by their sizes where those cannot be read or are far away."""
        from gpuscale_tui.engine import checkpoints

        app = self.gpuscale
        sizes = sum(row.listed.snapshot.bytes for row in rows)
        here = [row.start for row in rows if row.listed.snapshot.place == "dir"]
        if len(here) < len(rows):
            return sizes
        try:
            return await asyncio.to_thread(checkpoints.frees, checkpoints.snapshot_store(app.home, app.settings), here)
        except (GpuscaleError, OSError):
            return sizes

    async def _prune(self, rows: Sequence[SnapshotLine]) -> None:
        going: list[str] = []
        staying: list[str] = []
        freed = 0
        for place in dict.fromkeys(row.listed.snapshot.place for row in rows):
            some = [row for row in rows if row.listed.snapshot.place == place]
            done = await self._prune_at(place, some)
            if done is None:
                return
            going, staying, freed = going + done[0], staying + done[1], freed + done[2]
        self.forget_disk(row.id for row in rows)
        self.mark(frozenset())
        app = self.gpuscale
        app.notify(f"{plural(len(going), 'snapshot')} removed, {size(freed)} freed", timeout=4)
        for words in staying:
            app.notify(words, severity="warning", timeout=6, markup=False)

    async def _prune_at(
        self, place: str, rows: Sequence[SnapshotLine]
    ) -> tuple[list[str], list[str], int] | None:  # fmt: skip
        """Those that went, those that stay with the reason, and bytes that were freed; None when it failed."""
        from gpuscale_tui.engine import checkpoints

        app, now = self.gpuscale, self.gpuscale.now()
        jobs = {row.start.job_id for row in rows}
        checked = await app.reader.database.read(checkpoints.checked_lately, jobs, now)
        try:
            store = checkpoints.archive_at(app.home, app.settings, place)
            judged = await asyncio.to_thread(
                checkpoints.removable, store, [row.start for row in rows], checked=checked
            )  # fmt: skip
            done = await app.command(checkpoints.claim_removal, judged.going, user=app.user, now=now)
            if done is None:
                return None
            freed = await asyncio.to_thread(checkpoints.frees, store, done[0].going)
            await asyncio.to_thread(checkpoints.remove, store, done[0].going)
        except (GpuscaleError, OSError) as error:
            app.notify(clean(str(error)), severity="error", timeout=8, markup=False)
            return None
        stay = (*judged.staying, *done[0].staying)
        return [each.label for each in done[0].going], [f"{each.label} stays: {why}" for each, why in stay], freed

    # pin

    async def do_checkpoint_pin(self) -> None:
        """Pin what is marked, else the one under the cursor; where all of it is pinned, let it go."""
        from gpuscale_tui.engine import checkpoints

        app, rows = self.gpuscale, await self.meant()
        pinned = bool(rows) and all(row.listed.snapshot.pinned_at is not None for row in rows)
        step, back = (checkpoints.unpin, checkpoints.pin) if pinned else (checkpoints.pin, checkpoints.unpin)
        done = await app.command(step, [row.start for row in rows], user=app.user, now=app.now())
        if not done or not done[0]:
            return
        changed = done[0]

        async def undo() -> None:
            await app.command(back, changed, user=app.user, now=app.now())

        name = changed[0].label if len(changed) == 1 else plural(len(changed), "snapshot")
        are = "is" if len(changed) == 1 else "are"
        words = "not pinned any more" if pinned else "pinned: kept whatever else is pruned"
        app.offer_undo(f"{name} {are} {words}", undo)
