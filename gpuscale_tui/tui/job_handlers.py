"""What can be done to a job, on every screen that shows one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store.views import JobRow
from gpuscale_tui.tui.cells import job_time
from gpuscale_tui.tui.format import clean, usd

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp


class JobHandlers:
    """Mixed into a screen that has a `job`."""

    @property
    def gpuscale(self) -> GpuscaleApp:
        """The application."""
        raise NotImplementedError

    @property
    def job(self) -> JobRow | None:
        """The job that is meant."""
        raise NotImplementedError

    def do_job_cancel(self) -> None:
        """Cancel it, after asking."""
        from gpuscale_tui.tui.widgets.confirm import confirm

        job = self.job
        if job is None:
            return
        app = self.gpuscale
        question = confirm(f"Cancel {self._titled(job)}?", cancel_costs(job, app.now()), "yes, cancel it")
        app.push_screen(question, lambda sure: app.spawn(self._cancel(job)) if sure else None)

    async def _cancel(self, job: JobRow) -> None:
        from gpuscale_tui.engine import commands

        app = self.gpuscale
        done = await app.command(commands.cancel, [job.id], user=app.user, now=app.now())
        if done:
            app.notify(f"{job_label(job.id)}: {done[0][0][1]}", timeout=3)

    async def do_job_retry(self) -> None:
        """Put it back in the queue."""
        from gpuscale_tui.engine import commands

        job = self.job
        if job is None:
            return
        app = self.gpuscale
        if await app.command(commands.retry, [job.id], user=app.user, now=app.now()):
            app.notify(f"{job_label(job.id)} waits in the queue again", timeout=3)

    async def do_job_sooner(self) -> None:
        """One step up."""
        await self._set_priority(-1)

    async def do_job_later(self) -> None:
        """One step down."""
        await self._set_priority(1)

    async def _set_priority(self, step: int) -> None:
        job = self.job
        if job is None:
            return
        if not 1 <= job.priority + step <= 10:
            self.gpuscale.notify(f"{job_label(job.id)} has priority {job.priority}: it goes from 1 to 10", timeout=3)
            return
        await self._give_priority(job, job.priority + step)

    async def _give_priority(self, job: JobRow, priority: int) -> None:
        from gpuscale_tui.engine import commands

        app = self.gpuscale
        await app.command(commands.set_priority, job.id, priority, user=app.user, now=app.now())

    def do_job_priority(self) -> None:
        """Choose a priority."""
        from gpuscale_tui.tui.widgets.confirm import Question

        job = self.job
        if job is None:
            return
        words = {1: "first of all", 5: "as usual", 10: "last of all"}
        answers = [(str(n % 10), f"{n:>2}  {words.get(n, '')}".rstrip(), n) for n in range(1, 11)]
        question = Question[int](
            f"Priority of {self._titled(job)}", [f"It has {job.priority}; a lower number goes first."], answers,
            otherwise=job.priority, focus=job.priority - 1,
        )  # fmt: skip
        app = self.gpuscale
        app.push_screen(
            question, lambda n: app.spawn(self._give_priority(job, n)) if n not in {None, job.priority} else None
        )

    def do_job_why(self) -> None:
        """The whole sentence."""
        from gpuscale_tui.tui.widgets.confirm import Notice

        job = self.job
        if job is not None:
            why = clean(job.why, ascii_only=self.gpuscale.look.glyphs.ascii)
            self.gpuscale.push_screen(Notice(f"Why is {self._titled(job)} {job.state}?", [why]))

    def do_job_logs(self) -> None:
        """Its output."""
        if self.job is not None:
            self.gpuscale.show_logs(self.job.id)

    async def do_job_clone(self) -> None:
        """The form with its values."""
        if self.job is not None:
            await self.gpuscale.clone(self.job.id)

    def do_copy(self) -> None:
        """Its id."""
        if self.job is not None:
            self.gpuscale.copy(job_label(self.job.id))

    def _titled(self, job: JobRow) -> str:
        name = clean(job.name, ascii_only=self.gpuscale.look.glyphs.ascii)
        return f"{job_label(job.id)} {self.gpuscale.look.cut(name, 40)}"


def cancel_costs(job: JobRow, now: int) -> list[str]:
    """What cancelling a job costs and loses."""
    if job.state == "pending" and job.attempt == 0:
        return ["It has not started and has cost nothing."]
    if job.state == "pending":
        return [
            f"It waits for attempt {job.attempt + 1} and has cost {usd(job.cost)} so far. Its checkpoints are kept."
        ]
    return [
        f"It has run for {job_time(job, now)} and cost {usd(job.cost)} so far.",
        "It is told to stop and its checkpoints are saved; what it did after the last one it wrote is lost.",
        "The key r puts it back in the queue later, and it resumes from there.",
    ]
