"""What can be done everywhere: change screens, ask for machines, copy, leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuscale_tui.tui import theme as themes
from gpuscale_tui.tui.format import plural, rate
from gpuscale_tui.tui.host import Leaving
from gpuscale_tui.tui.widgets.confirm import Question

if TYPE_CHECKING:
    from textual.app import App

    from gpuscale_tui.tui.app import GpuscaleApp

    Base = App[Leaving]
else:
    Base = object

RENTED = ("ordering", "booting", "idle", "busy", "releasing")


class AppDeeds(Base):
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

    def copy(self, text: str) -> None:
        """Put a text in the terminal's clipboard (OSC 52), and show it where that does not work."""
        me = self._me
        me.copy_to_clipboard(text)
        me.notify(f"Copied {text}", timeout=2, markup=False)

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
