"""What can be done to a machine, on every screen that shows one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.store.views import WorkerRow
from gpuscale_tui.tui.format import clean, plural, rate, span, usd
from gpuscale_tui.tui.many import Ask, after_marks, ask_about_many, batches, release_costs_of_many
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.undo import UNDO_MS

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp


class WorkerHandlers:
    """Mixed into a screen that has a `worker`."""

    @property
    def gpuscale(self) -> GpuscaleApp:
        """The application."""
        raise NotImplementedError

    @property
    def worker(self) -> WorkerRow | None:
        """The machine that is meant."""
        raise NotImplementedError

    def subject(self) -> Subject:
        """What actions would act on."""
        raise NotImplementedError

    async def do_worker_release(self) -> None:
        """Give back, after asking."""
        from gpuscale_tui.store import many
        from gpuscale_tui.tui.widgets.confirm import confirm

        app, subject, worker = self.gpuscale, self.subject(), self.worker
        if subject.marked:
            sums = await app.reader.database.read(many.workers, sorted(subject.marked), app.now())
            if not sums.up:
                app.notify("None of the marked machines is up", timeout=3)
                return
            costs = release_costs_of_many(sums, len(subject.marked))
            ask = Ask(f"Give {plural(sums.up, 'machine')} back?", costs, f"yes, give {sums.up:,} back", sums.up)
            ask_about_many(app, ask, lambda: self._release(subject.workers))
        elif worker is not None:
            question = confirm(
                f"Give {worker_label(worker.id)} back?", release_costs(worker, app.now()), "yes, give it back",
                "no, keep it",
            )  # fmt: skip
            app.push_screen(question, lambda sure: app.spawn(self._release([worker.id])) if sure else None)

    async def _release(self, ids: Iterable[int]) -> None:
        from gpuscale_tui.engine import steps

        app, now = self.gpuscale, self.gpuscale.now()
        meant: list[int] = []
        requests: list[int] = []
        for batch in batches(ids):
            for done in await app.command(steps.release, batch, wait_ms=UNDO_MS, user=app.user, now=now) or ():
                meant += done.workers
                requests += done.requests
        after_marks(self)
        if not meant:
            app.notify("No machine was up any more", timeout=3)
            return
        name = worker_label(meant[0]) if len(meant) == 1 else plural(len(meant), "machine")
        words = f"{name} {'goes' if len(meant) == 1 else 'go'} back in {UNDO_MS // 1000} s"
        app.offer_undo(words, lambda: keep_machines(app, requests, name))

    def do_worker_why(self) -> None:
        """Why it was rented and is still up."""
        from gpuscale_tui.tui.widgets.confirm import Notice

        worker = self.worker
        if worker is None:
            return
        ascii_only = self.gpuscale.look.glyphs.ascii
        text = [clean(f"It was rented because: {worker.reason}", ascii_only=ascii_only)]
        if worker.why and worker.why != worker.reason:
            text.append(clean(f"Now ({worker.state}): {worker.why}", ascii_only=ascii_only))
        self.gpuscale.push_screen(Notice(f"Why is {worker_label(worker.id)} {worker.state}?", text))

    async def do_worker_shell(self) -> None:
        """A shell on it, where its job works."""
        from gpuscale_tui.engine import reach
        from gpuscale_tui.tui.shell import open_shell

        if self.worker is not None:
            await open_shell(self.gpuscale, reach.of_worker, self.worker.id)

    def do_copy(self) -> None:
        """Its id."""
        if self.worker is not None:
            self.gpuscale.copy(worker_label(self.worker.id))


async def keep_machines(app: GpuscaleApp, requests: Sequence[int], name: str) -> None:
    """Take requests to give machines back, back."""
    from gpuscale_tui.engine import steps

    done = await app.command(steps.take_back, requests, user=app.user, now=app.now())
    if done is None:
        return
    late = done[0].count(False)
    if not late:
        app.notify(f"{name} {'stays' if len(requests) == 1 else 'stay'}", timeout=5, markup=False)
    elif late == len(requests):
        app.notify(f"Too late: {name} {'goes' if late == 1 else 'go'} back already", severity="warning", timeout=5,
                   markup=False)  # fmt: skip
    else:
        app.notify(f"{len(requests) - late} stay; too late for {late}: they go back already", severity="warning",
                   timeout=5)  # fmt: skip


def release_costs(worker: WorkerRow, now: int) -> list[str]:
    """What giving a machine back saves and loses."""
    up = f" for {span(now - worker.held_from)}" if worker.held_from is not None else ""
    text = [f"It has been held{up}, costs {rate(worker.rate)} and has cost {usd(worker.cost)}."]
    if worker.job_id is not None:
        text.append(
            f"{job_label(worker.job_id)} runs on it: it is told to stop, its checkpoints are saved, and it goes back"
            f" in the queue."
        )
    text.append("Another one may be rented when jobs wait.")
    return text
