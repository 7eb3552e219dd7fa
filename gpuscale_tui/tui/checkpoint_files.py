"""What is done with the bytes of snapshots on the screen: copied out and verified, off the loop, stopped by a key."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.tui.format import clean, plural, share, size

if TYPE_CHECKING:
    from gpuscale_tui.engine.copying import Copied, Standing
    from gpuscale_tui.store.archive import Archive, Progress, Snapshot
    from gpuscale_tui.tui.app import GpuscaleApp
    from gpuscale_tui.tui.snapshot_cells import SnapshotLine

TELL_SEC = 0.5
"""How often a copy or a verification says how far it is."""
NAMED = 5
T = TypeVar("T")


class CheckpointFiles:
    """Part of what is mixed into the screen of snapshots. One copy or verification at a time."""

    transfer: tuple[str, str]
    _stop: threading.Event | None = None

    @property
    def gpuscale(self) -> GpuscaleApp:
        """The application."""
        raise NotImplementedError

    @property
    def pointed(self) -> SnapshotLine | None:
        """The snapshot under the cursor."""
        raise NotImplementedError

    async def meant(self) -> list[SnapshotLine]:
        """All that are marked, else the one under the cursor; without those that were removed."""
        raise NotImplementedError

    def forget_disk(self, ids: Iterable[tuple[int, int]]) -> None:
        """These may look different on disk now."""
        raise NotImplementedError

    def tell_title(self) -> None:
        """Show the title anew."""
        raise NotImplementedError

    async def found(self, row: SnapshotLine) -> tuple[Archive, Snapshot] | None:
        """Where it is, and the snapshot by its manifest; what is wrong with it is said."""
        from gpuscale_tui.engine import checkpoints

        app = self.gpuscale

        def find() -> tuple[Archive, Snapshot]:
            store = checkpoints.archive_at(app.home, app.settings, row.listed.snapshot.place)
            return store, store.find(*row.id)

        try:
            return await asyncio.to_thread(find)
        except (GpuscaleError, OSError) as error:
            app.notify(clean(str(error)), severity="error", timeout=6, markup=False)
            return None

    # verify

    async def do_checkpoint_verify(self) -> None:
        """Compare every byte of what is marked, else of the one under the cursor."""
        rows = await self.meant()
        if rows and self._stop is None:
            self.gpuscale.spawn(self._verify_all(rows))

    async def _verify_all(self, rows: Sequence[SnapshotLine]) -> None:
        app, wrong, done = self.gpuscale, 0, 0
        for number, row in enumerate(rows, 1):
            place = f" ({number} of {len(rows)})" if len(rows) > 1 else ""
            fault = await self._verify(row, f"verifying {row.label}{place}")
            if fault is None:
                break
            done += 1
            wrong += bool(fault)
            if fault:
                app.notify(f"{row.label} is broken: {clean(fault)}", severity="error", timeout=8, markup=False)
        if done - wrong:
            what = rows[0].label if done == 1 else f"{done - wrong:,} of {plural(len(rows), 'snapshot')}"
            app.notify(f"{what} verified: every byte as it was stored", timeout=4, markup=False)

    async def _verify(self, row: SnapshotLine, words: str) -> str | None:
        """What is wrong with one, nothing for a whole one; None when it could not be told."""
        from gpuscale_tui.engine import checkpoints

        app = self.gpuscale

        def look(heard: Progress, _stopped: Callable[[], bool]) -> str:
            store = checkpoints.archive_at(app.home, app.settings, row.listed.snapshot.place)
            return checkpoints.broken(store, row.start, hashes=True, progress=heard)

        fault = await self._work(words, row.listed.snapshot.bytes, look)
        if fault is None:
            return None
        noted = await app.command(checkpoints.note_check, row.start, fault, now=app.now())
        self.forget_disk([row.id])
        return fault if noted is not None else None

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
        """Ask before anything is replaced; what is there and right is not copied again."""
        from gpuscale_tui.engine import checkpoints
        from gpuscale_tui.tui.widgets.confirm import confirm

        app, source = self.gpuscale, await self.found(row)
        if source is None:
            return
        try:
            standing = await asyncio.to_thread(checkpoints.look, source[1], target)
        except (GpuscaleError, OSError) as error:
            app.notify(clean(str(error)), severity="error", timeout=8, markup=False)
            return
        if not standing.taken:
            await self._copy(row.label, source, target, standing, overwrite=False)
            return
        names = ", ".join(clean(name)[:40] for name in standing.taken[:NAMED])
        words = [
            f"{clean(str(target))} has {plural(len(standing.taken), 'other file')} of the same name: {names}.",
            "They are lost.",
        ]
        question = confirm("Replace what is there?", words, "yes, replace them", "no, copy nothing")

        def answered(sure: bool | None) -> None:
            if sure:
                app.spawn(self._copy(row.label, source, target, standing, overwrite=True))

        app.push_screen(question, answered)

    async def _copy(
        self, label: str, source: tuple[Archive, Snapshot], target: Path, standing: Standing, *, overwrite: bool
    ) -> None:
        """Copy off the loop, say how far it is, stop when asked."""
        from gpuscale_tui.engine import checkpoints

        store, found = source

        def copy(heard: Progress, stopped: Callable[[], bool]) -> Copied:
            return checkpoints.download(
                store, found, target, standing=standing, overwrite=overwrite, progress=heard, stopped=stopped
            )

        done = await self._work(label, found.size, copy)
        if done is not None:
            there = f", {size(done.there)} of it were there" if done.there else ""
            words = f"{label} copied to {clean(str(target))}: {size(found.size)}{there}, every byte as it was stored"
            self.gpuscale.notify(words, timeout=6, markup=False)

    async def _work(
        self, words: str, whole: int, work: Callable[[Progress, Callable[[], bool]], T]
    ) -> T | None:  # fmt: skip
        """Do something long off the loop; how far it is stands in the title, `x` stops it. None when it came to
        nothing, which is said."""
        from gpuscale_tui.engine.copying import Stopped

        app, stop = self.gpuscale, threading.Event()
        so_far = [0]
        self._stop = stop

        def heard(done: int, _all: int) -> None:
            so_far[0] = done
            if stop.is_set():
                raise Stopped("stopped")

        task = asyncio.create_task(asyncio.to_thread(work, heard, stop.is_set))
        try:
            while not task.done():
                self._tell(f"{words}: {size(so_far[0])} of {size(whole)}, {share(so_far[0], whole)}")
                await asyncio.wait([task], timeout=TELL_SEC)
            return await task
        except (GpuscaleError, OSError) as error:
            app.notify(clean(str(error)), severity="error", timeout=8, markup=False)
            return None
        finally:
            stop.set()  # where this ends with the application, the thread does too
            self._stop = None
            self._tell("")

    def _tell(self, words: str) -> None:
        self.transfer = (words, "accent")
        self.tell_title()

    def do_checkpoint_stop(self) -> None:
        """Stop copying or verifying."""
        if self._stop is not None:
            self._stop.set()
