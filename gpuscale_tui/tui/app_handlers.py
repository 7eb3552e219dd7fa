"""What can be done everywhere: change screens, ask for machines, copy, leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuscale_tui.tui import theme as themes
from gpuscale_tui.tui.format import plural, rate
from gpuscale_tui.tui.host import Leaving
from gpuscale_tui.tui.undo import UNDO_MS

if TYPE_CHECKING:
    from textual.app import App

    from gpuscale_tui.store.market import OfferRow
    from gpuscale_tui.tui.app import GpuscaleApp

    Base = App[Leaving]
else:
    Base = object

RENTED = ("ordering", "booting", "idle", "busy", "releasing")


class AppHandlers(Base):
    """Mixed into the application."""

    @property
    def _me(self) -> GpuscaleApp:
        return self  # type: ignore[return-value]

    def show_screen(self, name: str) -> None:
        """Show one of the numbered screens, its pages closed."""
        me = self._me
        if me.current_mode != name:
            me.switch_mode(name)
        while len(me.screen_stack) > 1:
            me.pop_screen()

    def do_screen_queue(self) -> None:
        """Screen 1."""
        self.show_screen("queue")

    def do_screen_workers(self) -> None:
        """Screen 2."""
        self.show_screen("workers")

    def do_screen_costs(self) -> None:
        """Screen 3."""
        self.show_screen("costs")

    def do_screen_logs(self) -> None:
        """Screen 4."""
        self.show_screen("logs")

    def do_screen_checkpoints(self) -> None:
        """Screen 5."""
        self.show_screen("checkpoints")

    def do_screen_market(self) -> None:
        """Screen 6."""
        self.show_screen("market")

    def do_screen_events(self) -> None:
        """Screen 7."""
        self.show_screen("events")

    def show_job(self, job_id: int) -> None:
        """A job's page over what is shown."""
        from gpuscale_tui.tui.screens.job import JobScreen

        self._me.push_screen(JobScreen(job_id))

    def show_worker(self, worker_id: int) -> None:
        """A machine's page over what is shown."""
        from gpuscale_tui.tui.screens.worker import WorkerScreen

        self._me.push_screen(WorkerScreen(worker_id))

    def show_offer(self, key: tuple[str, str, str]) -> None:
        """An offer's page over what is shown; `key` is provider, server, market."""
        from gpuscale_tui.tui.screens.offer import OfferScreen

        self._me.push_screen(OfferScreen(key))

    def show_logs(self, job_id: int) -> None:
        """The whole output of a job."""
        from gpuscale_tui.tui.screens.logs import LogsScreen

        self.show_screen("logs")
        screen = self._me.screen
        if isinstance(screen, LogsScreen):
            screen.choose(job_id)

    async def do_job_new(self) -> None:
        """The form, with what was written before."""
        from gpuscale_tui.tui.form import opening

        await opening.new(self._me)

    async def new_job_on(self, offer: OfferRow) -> None:
        """The form, asking for the GPU of an offer at its price."""
        from gpuscale_tui.tui.draft import amount
        from gpuscale_tui.tui.form import opening

        price = -(-offer.rate // max(1, offer.gpu_count))
        cents = -(-price // 100) * 100
        await opening.new(self._me, {"gpu": offer.gpu_type or "none", "gpus": str(max(1, offer.gpu_count)),
                                     "max_price": amount(cents)})  # fmt: skip

    def copy(self, text: str) -> None:
        """Put a text in the terminal's clipboard (OSC 52), and show it where that does not work."""
        me = self._me
        me.copy_to_clipboard(text)
        me.notify(f"Copied {text}", timeout=2, markup=False)

    async def do_scale(self) -> None:
        """More machines, or fewer."""
        from gpuscale_tui.engine import commands
        from gpuscale_tui.tui.widgets.scale import scale_question

        me = self._me
        status = me.snapshot.status
        if status is None:
            return
        price = await me.reader.database.read(commands.cheapest_price, me.settings)
        left = status.spend.cap - status.spend.used - status.spend.reserved
        question = scale_question(
            self.machines_up(), me.settings.scaler.max_workers, price, left, me.settings.scaler.gpu_type
        )
        me.push_screen(question, lambda amount: me.spawn(self._scale(amount)) if amount else None)

    async def _scale(self, amount: int) -> None:
        from gpuscale_tui.engine import commands
        from gpuscale_tui.tui.worker_handlers import keep_machines

        me = self._me
        if amount > 0:
            if await me.command(commands.scale_up, amount, me.settings, user=me.user, now=me.now()):
                me.notify(f"{plural(amount, 'more machine')} asked for", timeout=3)
            return
        done = await me.command(commands.scale_down, -amount, user=me.user, now=me.now(), wait_ms=UNDO_MS)
        if done is not None:
            name = plural(-amount, "machine")
            words = f"{name} {'goes' if amount == -1 else 'go'} back in {UNDO_MS // 1000} s"
            me.offer_undo(words, lambda: keep_machines(me, list(done), name))

    def do_spend_stop(self) -> None:
        """Stop all spending, after asking; then the page that stays until nothing is spent."""
        from gpuscale_tui.tui.widgets.confirm import confirm

        me = self._me
        status, machines = me.snapshot.status, self.machines_up()
        if status is None:
            return
        spend = status.spend.used + status.spend.reserved
        running = plural(status.jobs.get("running", 0), "job")
        text = [
            f"{plural(machines, 'machine')} for {rate(spend)} will be given back.",
            f"{running} running: told to stop, checkpoints saved, put back in the queue.",
            "The engine ends after that; nothing is rented until you start it again with E.",
        ]
        question = confirm("Stop all spending now?", text, "yes, stop all spending", "no, go on")
        me.push_screen(question, lambda sure: me.spawn(self._stop_spending()) if sure else None)

    async def _stop_spending(self) -> None:
        from gpuscale_tui.engine import commands
        from gpuscale_tui.tui.screens.spending import SpendingScreen

        me = self._me
        me.push_screen(SpendingScreen())
        if me.snapshot.engine.kind == "none" and self.machines_up():
            me.host.begin()
            await me.host.begun()
        await me.command(commands.stop, at_once=True, user=me.user, now=me.now())

    async def do_undo(self) -> None:
        """Undo the last step that can be undone."""
        me = self._me
        step = me.undos.take(me.now())
        if step is None:
            me.notify("There is nothing to undo, or it is too late", timeout=3)
        else:
            await step.undo()
        me.refresh_footer()
        me.poke()

    def do_engine_start(self) -> None:
        """Start the engine here."""
        self._me.host.begin()
        self._me.poke()

    def do_theme_next(self) -> None:
        """The next theme; one with a fault is said and left out."""
        me = self._me
        names = themes.available(me.theme_places)
        start = names.index(me.theme_file.name) if me.theme_file.name in names else -1
        for step in range(1, len(names) + 1):
            name = names[(start + step) % len(names)]
            try:
                self.choose_theme(name)
            except themes.ThemeError as error:
                me.notify(str(error), severity="error", timeout=8, markup=False)
                continue
            return

    def choose_theme(self, name: str) -> None:
        """Show everything in a theme. Raises ThemeError."""
        me = self._me
        me.use_theme(themes.load(name, me.theme_places))
        me.notify(f"{name}: {me.theme_file.description}", title="Theme", timeout=3, markup=False)

    def machines_up(self) -> int:
        """Machines that may cost money."""
        status = self._me.snapshot.status
        return sum(status.workers.get(state, 0) for state in RENTED) if status else 0

    def do_quit(self) -> None:
        """Leave; with machines rented by this window's engine, ask what becomes of them."""
        from gpuscale_tui.tui.widgets.confirm import Question

        me = self._me
        machines, status = self.machines_up(), me.snapshot.status
        if me.host.engine is None or status is None:
            me.exit(Leaving.BACKGROUND)
            return
        if not machines and not status.jobs.get("running", 0) and not status.jobs.get("pending", 0):
            me.exit(Leaving.RELEASE)
            return
        spend = status.spend.used + status.spend.reserved
        running = status.jobs.get("running", 0)
        text = [
            (
                f"{plural(machines, 'machine')} {'is' if machines == 1 else 'are'} rented for {rate(spend)};"
                f" {plural(running, 'job')} running, {status.jobs.get('pending', 0):,} waiting."
            )
        ]
        answers: list[tuple[str, str, Any]] = [
            ("b", "keep going in the background (ends when nothing is left to do)", Leaving.BACKGROUND),
            ("f", "finish what runs, give everything back, then leave", Leaving.FINISH),
            ("r", "save checkpoints, give everything back now, then leave", Leaving.RELEASE),
            ("c", "stay here", None),
        ]
        me.push_screen(Question("Leave gpuscale?", text, answers, otherwise=None), self._left)

    def _left(self, choice: Leaving | None) -> None:
        if choice is not None:
            self._me.exit(choice)
