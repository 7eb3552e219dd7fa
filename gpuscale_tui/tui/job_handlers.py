"""What can be done to a job, or to all that are marked, on every screen that shows jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store.views import JobRow
from gpuscale_tui.tui.cells import job_time
from gpuscale_tui.tui.format import clean, plural, usd
from gpuscale_tui.tui.many import Ask, after_marks, ask_about_many, batches, cancel_costs_of_many
from gpuscale_tui.tui.saving_handlers import SavingHandlers
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.undo import UNDO_MS

if TYPE_CHECKING:
    from gpuscale_tui.engine.steps import Cancelled
    from gpuscale_tui.store.many import ManyJobs
    from gpuscale_tui.store.undoing import Before, Undone


class JobHandlers(SavingHandlers):
    """Mixed into a screen that has a `job`; where rows can be marked, all marked ones are meant."""

    async def do_job_cancel(self) -> None:
        """Cancel, after asking."""
        from gpuscale_tui.tui.widgets.confirm import confirm

        app, subject, job = self.gpuscale, self.subject(), self.job
        if subject.marked:
            many = await self._many(subject)
            count = many.count("running", "pending")
            if not count:
                app.notify("None of the marked jobs waits or runs", timeout=3)
                return
            title = f"Cancel {plural(count, 'job')}?"
            costs = cancel_costs_of_many(many, len(subject.marked))
            ask_about_many(app, Ask(title, costs, f"yes, cancel {count:,}", count), lambda: self._cancel(subject.jobs))
        elif job is not None:
            question = confirm(f"Cancel {self._titled(job)}?", cancel_costs(job, app.now()), "yes, cancel it")
            app.push_screen(question, lambda sure: app.spawn(self._cancel([job.id])) if sure else None)

    async def _many(self, subject: Subject) -> ManyJobs:
        from gpuscale_tui.store import many

        app = self.gpuscale
        return await app.reader.database.read(many.jobs, sorted(subject.marked), app.now())

    async def _cancel(self, ids: Iterable[int]) -> None:
        from gpuscale_tui.engine import steps

        app, now = self.gpuscale, self.gpuscale.now()
        done: list[Cancelled] = []
        for batch in batches(ids):
            made = await app.command(steps.cancel, batch, wait_ms=UNDO_MS, user=app.user, now=now)
            done += made or ()
        found = [step for each in done for step in each.steps]
        after_marks(self)
        if not found:
            app.notify("Nothing was cancelled: it has ended already", timeout=3)
            return
        running = sum(step.state == "running" for step in found)
        stops = f"told to stop in {UNDO_MS // 1000} s"
        if len(found) == 1:
            words = f"{job_label(found[0].id)} is {stops if running else 'cancelled'}"
        else:
            words = f"{plural(len(found), 'job')} cancelled" + (f", {running:,} of them {stops}" if running else "")
        said = ("as it was", "being stopped already")
        app.offer_undo(words, lambda: self._undo_all(steps.undo_cancel, done, said))

    async def _undo_all(self, command: Any, parts: Sequence[Any], words: tuple[str, str], *args: Any) -> None:
        """Undo part by part, and say what came of it; `words` for what is back and for what is too late."""
        app = self.gpuscale
        done: list[Undone] = []
        for part in parts:
            done += await app.command(command, part, *args, user=app.user, now=app.now()) or ()
        returned = [job_id for each in done for job_id in each.back]
        missed = [job_id for each in done for job_id in each.late]
        said = [f"{_listed(returned)} {'is' if len(returned) == 1 else 'are'} {words[0]}"] if returned else []
        said += [f"{'too' if said else 'Too'} late for {_listed(missed)}: {words[1]}"] if missed else []
        text = "; ".join(said) or "There was nothing left to undo"
        app.notify(text, severity="warning" if missed else "information", timeout=5, markup=False)

    async def do_job_retry(self) -> None:
        """Put back in the queue; of many after asking."""
        app, subject = self.gpuscale, self.subject()
        if subject.marked:
            many = await self._many(subject)
            count = many.count("done", "failed", "cancelled", "pending")
            kinds = f"{plural(many.count('failed'), 'failed job')}, {many.count('cancelled'):,} cancelled"
            text = [
                f"{kinds}, {many.count('done'):,} done go back in the queue; waiting ones held after faults go on.",
                f"Together they have cost {usd(many.cost)} so far. They resume from their last snapshots.",
            ]
            ask = Ask(f"Retry {plural(count, 'job')}?", text, f"yes, retry {count:,}", count)
            ask_about_many(app, ask, lambda: self._retry(subject.jobs))
        elif subject.job is not None:
            await self._retry([subject.job.id])

    async def _retry(self, ids: Iterable[int]) -> None:
        from gpuscale_tui.engine import steps

        app = self.gpuscale
        done: list[tuple[Before, ...]] = []
        for batch in batches(ids):
            done += await app.command(steps.retry, batch, user=app.user, now=app.now()) or ()
        found = [step.id for each in done for step in each]
        after_marks(self)
        if not found:
            app.notify("Nothing to retry: it waits or runs already", timeout=3)
            return
        words = f"{_listed(found)} {'waits' if len(found) == 1 else 'wait'} in the queue again"
        said = ("as before the retry", "placed already, x cancels")
        app.offer_undo(words, lambda: self._undo_all(steps.undo_retry, done, said))

    async def do_job_sooner(self) -> None:
        """One step up."""
        await self._step_priority(-1)

    async def do_job_later(self) -> None:
        """One step down."""
        await self._step_priority(1)

    async def _step_priority(self, step: int) -> None:
        app, subject, job = self.gpuscale, self.subject(), self.job
        if job is not None and not subject.marked and not 1 <= job.priority + step <= 10:
            app.notify(f"{job_label(job.id)} has priority {job.priority}: it goes from 1 to 10", timeout=3)
            return
        now = await app.reader.database.read(_priorities, sorted(subject.jobs))
        await self._give(
            {job_id: min(10, max(1, old + step)) for job_id, old in now.items()}, told=bool(subject.marked)
        )

    async def _give(self, given: Mapping[int, int], *, told: bool) -> None:
        """Give priorities by id; with `told` it is said beside the key that undoes it."""
        from gpuscale_tui.engine import steps

        app = self.gpuscale
        done: list[tuple[Before, ...]] = []
        for batch in batches(given):
            some = {job_id: given[job_id] for job_id in batch}
            done += await app.command(steps.reorder, some, user=app.user, now=app.now()) or ()
        found = [step.id for each in done for step in each]
        if not found:
            app.notify("No priority was changed: only a waiting job has one", timeout=3)
            return
        after_marks(self, keep=True)
        numbers = sorted({given[job_id] for job_id in found})
        words = f"{_listed(found)} {'has' if len(found) == 1 else 'have'} priority {numbers[0]}"
        words += f" to {numbers[-1]}" if len(numbers) > 1 else ""
        said = ("in the old place", "given another priority since")
        app.offer_undo(words, lambda: self._undo_all(steps.undo_reorder, done, said, given), told=told)

    def do_job_priority(self) -> None:
        """Choose a priority."""
        from gpuscale_tui.tui.widgets.confirm import Question

        job, subject, app = self.job, self.subject(), self.gpuscale
        if job is None and not subject.marked:
            return
        words = {1: "first of all", 5: "as usual", 10: "last of all"}
        answers = [(str(n % 10), f"{n:>2}  {words.get(n, '')}".rstrip(), n) for n in range(1, 11)]
        if subject.marked or job is None:
            title, old, now = f"Priority of {plural(len(subject.marked), 'marked job')}", 0, "Of those that wait."
        else:
            title, old, now = f"Priority of {self._titled(job)}", job.priority, f"It has {job.priority}."
        question = Question[int](
            title, [f"{now.removesuffix('.')}; a lower number goes first."], answers, otherwise=old,
            focus=max(0, old - 1),
        )  # fmt: skip
        ids, told = subject.jobs, bool(subject.marked)

        def chosen(number: int | None) -> None:
            if number is not None and number != old:
                app.spawn(self._give(dict.fromkeys(ids, number), told=told))

        app.push_screen(question, chosen)

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
            from gpuscale_tui.tui.form import opening

            await opening.clone(self.gpuscale, self.job.id)

    async def do_job_edit(self) -> None:
        """The form that changes it."""
        if self.job is not None:
            from gpuscale_tui.tui.form import opening

            await opening.edit(self.gpuscale, self.job.id)

    async def do_job_branch(self) -> None:
        """The form for a job that begins with its newest snapshot."""
        if self.job is not None:
            from gpuscale_tui.tui.form import opening

            await opening.branch(self.gpuscale, self.job.id)

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


def _priorities(connection: sqlite3.Connection, job_ids: Sequence[int]) -> dict[int, int]:
    """The priorities of those that wait."""
    from gpuscale_tui.store import undoing

    return {step.id: step.priority for step in undoing.before(connection, job_ids) if step.state == "pending"}


def _listed(ids: Sequence[int]) -> str:
    """`j11`, `j11, j12 and j13`, or `14 jobs`."""
    if len(ids) > 4:
        return plural(len(ids), "job")
    names = [job_label(job_id) for job_id in ids]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
