"""What can be done to a machine, on every screen that shows one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.store.views import WorkerRow
from gpuscale_tui.tui.format import clean, rate, span, usd

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

    def do_worker_release(self) -> None:
        """Give it back, after asking."""
        from gpuscale_tui.tui.widgets.confirm import confirm

        worker = self.worker
        if worker is None:
            return
        app = self.gpuscale
        question = confirm(
            f"Give {worker_label(worker.id)} back?", release_costs(worker, app.now()), "yes, give it back",
            "no, keep it",
        )  # fmt: skip
        app.push_screen(question, lambda sure: app.spawn(self._release(worker)) if sure else None)

    async def _release(self, worker: WorkerRow) -> None:
        from gpuscale_tui.engine import commands

        app = self.gpuscale
        if await app.command(commands.release, worker.id, user=app.user, now=app.now()):
            app.notify(f"{worker_label(worker.id)} is asked to go back", timeout=3)

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

    def do_copy(self) -> None:
        """Its id."""
        if self.worker is not None:
            self.gpuscale.copy(worker_label(self.worker.id))


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
