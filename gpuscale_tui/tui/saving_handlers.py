"""What is done for the work of a job: saved now, a move rehearsed, a shell on its machine, its outputs taken."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.tui.format import clean, plural, size
from gpuscale_tui.tui.subjects import Subject

if TYPE_CHECKING:
    from gpuscale_tui.engine.collecting import Outputs
    from gpuscale_tui.engine.copying import Copied
    from gpuscale_tui.store.views import JobRow
    from gpuscale_tui.tui.app import GpuscaleApp


class SavingHandlers:
    """Part of what is mixed into a screen that has a `job`."""

    @property
    def gpuscale(self) -> GpuscaleApp:
        """The application."""
        raise NotImplementedError

    @property
    def job(self) -> JobRow | None:
        """The job that is meant."""
        raise NotImplementedError

    def subject(self) -> Subject:
        """What actions would act on."""
        raise NotImplementedError

    async def do_job_save(self) -> None:
        """A snapshot now, of the job or of all marked ones that run."""
        from gpuscale_tui.engine import checkpoints

        app, subject = self.gpuscale, self.subject()
        done = await app.command(checkpoints.ask_to_save_all, sorted(subject.jobs), user=app.user, now=app.now())
        if done is None:
            return
        if not done[0]:
            app.notify("None of them runs: only a running job can be saved", timeout=3)
            return
        name = job_label(done[0][0]) if len(done[0]) == 1 else plural(len(done[0]), "job")
        app.notify(f"A snapshot of {name} is taken now; what comes of it stands in its story", timeout=4)

    async def do_job_drill(self) -> None:
        """Move it once on purpose, after saying what that costs."""
        from gpuscale_tui.tui.widgets.confirm import Question

        app, job = self.gpuscale, self.job
        if job is None:
            return
        rehearsal = await self._rehearsal()
        try:
            words = await app.reader.database.read(rehearsal.forecast, job.id, elsewhere=False, now=app.now())
        except GpuscaleError as error:
            app.notify(clean(str(error)), severity="error", timeout=6, markup=False)
            return
        text = [f"{words}.", "Where it goes on is compared with where it was; the job then carries 'resume verified'."]
        answers: Sequence[tuple[str, str, bool | None]] = [
            ("n", "no, leave it where it is", None),
            ("y", "yes, move it", False),
            ("e", "yes, and give its machine back: it must go on on another one", True),
        ]
        question = Question[bool | None](f"Rehearse a move of {job_label(job.id)}?", text, answers, otherwise=None)

        def chosen(elsewhere: bool | None) -> None:
            if elsewhere is not None:
                app.spawn(self._drill(job.id, elsewhere=elsewhere))

        app.push_screen(question, chosen)

    async def _drill(self, job_id: int, *, elsewhere: bool) -> None:
        app, rehearsal = self.gpuscale, await self._rehearsal()
        done = await app.command(rehearsal.ask, job_id, elsewhere=elsewhere, user=app.user, now=app.now())
        if done is not None:
            app.notify(
                f"{job_label(job_id)} is moved once after its next snapshot; its page tells how it goes", timeout=5
            )

    async def _rehearsal(self) -> Any:
        """Its module, which brings the engine along: loaded off the loop."""
        return await asyncio.to_thread(importlib.import_module, "gpuscale_tui.engine.rehearsal")

    async def do_job_shell(self) -> None:
        """A shell on its machine, where it works."""
        from gpuscale_tui.engine import reach
        from gpuscale_tui.tui.shell import open_shell

        if self.job is not None:
            await open_shell(self.gpuscale, reach.of_job, self.job.id)

    async def do_job_get(self) -> None:
        """Ask where its outputs shall go, then copy them."""
        from gpuscale_tui.engine import collecting
        from gpuscale_tui.tui.form.directories import DirectoryPicker

        app, job = self.gpuscale, self.job
        if job is None:
            return
        try:
            found = await app.reader.database.read(collecting.find, app.home, job.id)
        except GpuscaleError as error:
            app.notify(clean(str(error)), timeout=5, markup=False)
            return
        if found.remark:
            app.notify(clean(found.remark), severity="warning", timeout=6, markup=False)
        what = f"{plural(found.row.files, 'file')}, {size(found.row.bytes)} of attempt {found.row.attempt}"
        start = f"{os.getcwd()}/{job_label(job.id)}"  # noqa: PTH109 - text to begin with
        picker = DirectoryPicker(f"Copy {what} of {job_label(job.id)} into which directory?", start, upload=False)
        app.push_screen(picker, lambda path: app.spawn(self._take(found, Path(path).expanduser())) if path else None)

    async def _take(self, found: Outputs, target: Path, *, overwrite: bool = False) -> None:
        """Copy; what is there and right is not copied again, and what is other is not replaced unasked."""
        from gpuscale_tui.engine import collecting
        from gpuscale_tui.tui.widgets.confirm import confirm

        app, leaving = self.gpuscale, threading.Event()

        def copy() -> tuple[Sequence[str], Copied | None, int]:
            tree = collecting.hashed(app.home, found)
            standing = collecting.look(tree, target)
            if standing.taken and not overwrite:
                return standing.taken, None, tree.size
            done = collecting.copy(
                found, tree, target, standing=standing, overwrite=overwrite, stopped=leaving.is_set
            )  # fmt: skip
            return (), done, tree.size

        try:
            taken, done, whole = await asyncio.to_thread(copy)
        except (GpuscaleError, OSError) as error:
            app.notify(clean(str(error)), severity="error", timeout=8, markup=False)
            return
        finally:
            leaving.set()  # where this ends with the application, the thread does too
        if done is not None:
            there = f", {size(done.there)} of it were there" if done.there else ""
            app.notify(f"Copied to {clean(str(target))}: {size(whole)}{there}", timeout=6, markup=False)
            return
        names = ", ".join(clean(name)[:40] for name in taken[:5])
        words = [f"{clean(str(target))} has {plural(len(taken), 'other file')} of the same name: {names}."]
        question = confirm(
            "Replace what is there?", [*words, "They are lost."], "yes, replace them", "no, copy nothing"
        )
        app.push_screen(
            question, lambda sure: app.spawn(self._take(found, target, overwrite=True)) if sure else None
        )  # fmt: skip
