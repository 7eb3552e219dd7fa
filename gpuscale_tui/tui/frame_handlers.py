"""What the frame can do on every screen: help, palette and typed commands, messages, and being put aside by Ctrl+Z."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gpuscale_tui.tui.format import plural, rate

if TYPE_CHECKING:
    from textual.app import App
    from textual.notifications import SeverityLevel

    from gpuscale_tui.tui.app import GpuscaleApp
    from gpuscale_tui.tui.host import Leaving
    from gpuscale_tui.tui.messages import Told
    from gpuscale_tui.tui.palette import Entry
    from gpuscale_tui.tui.typed import Command

    Base = App[Leaving]
else:
    Base = object

MOST_TOLD = 100
"""So many messages are kept."""


class FrameHandlers(Base):
    """Mixed into the application."""

    told: deque[Told]
    recent: list[Entry]

    @property
    def _frame(self) -> GpuscaleApp:
        return self  # type: ignore[return-value]

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = True,
    ) -> None:
        """Show a message for a while, and keep it among the messages."""
        from gpuscale_tui.tui.messages import Told

        self.told.append(Told(self._frame.now(), severity, f"{title}: {message}" if title else message))
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=markup)

    def do_messages(self) -> None:
        """What was told, the newest first."""
        from gpuscale_tui.tui.screens.told import MessagesPage

        self._frame.push_screen(MessagesPage(list(self.told)))

    def do_help(self) -> None:
        """All keys."""
        from gpuscale_tui.tui.screens.help import Help

        me = self._frame
        if me.base_screen is not None:
            me.push_screen(
                Help(me.base_screen.NAME, me.base_screen.subject()),
                lambda name: me.spawn(me.do(name)) if name else None,
            )

    async def do_palette(self) -> None:
        """Everything by name."""
        from gpuscale_tui.tui.palette import Palette

        me = self._frame
        if me.base_screen is not None:
            await me.push_screen(Palette(me.base_screen.NAME, me.base_screen.subject()), self._chosen)

    def filter_fields(self) -> Mapping[str, Sequence[str]]:
        """Names of the fields that the filter of each list knows, of the screens that were shown."""
        from gpuscale_tui.tui.screens.listing import ListScreen

        shown = [stack[0] for stack in self._frame._screen_stacks.values() if stack]
        return {screen.NAME: sorted(screen.FIELDS) for screen in shown if isinstance(screen, ListScreen)}

    def _chosen(self, entry: Entry | None) -> None:
        from gpuscale_tui.tui import typed
        from gpuscale_tui.tui.palette import MOST_RECENT

        if entry is None:
            return
        me = self._frame
        me.recent = [entry, *(each for each in me.recent if each.id != entry.id)][:MOST_RECENT]
        kind, _, name = entry.id.partition(":")
        if kind == "action":
            me.spawn(me.do(name))
        elif kind == "typed":
            me.spawn(self._obey(typed.read(entry.id)))
        elif kind == "theme":
            self._theme(name)
        elif kind == "job":
            me.show_job(int(name))
        elif kind == "worker":
            me.show_worker(int(name))

    def _theme(self, name: str) -> None:
        from gpuscale_tui.tui.theme import ThemeError

        me = self._frame
        try:
            me.choose_theme(name)
        except ThemeError as error:
            me.notify(str(error), severity="error", timeout=8, markup=False)

    async def _obey(self, command: Command) -> None:
        """Carry out what was typed."""
        me = self._frame
        if command.kind == "theme":
            self._theme(command.name)
        elif command.kind == "worker":
            await self._show_thing("workers", int(command.name), f"w{command.name}")
        elif command.kind in {"job", "logs"}:
            await self._show_thing(command.kind, int(command.name), f"j{command.name}")
        else:
            await me.do(f"screen.{command.name}")
            if command.kind == "filter":
                await self._filter(command)

    async def _show_thing(self, kind: str, number: int, label: str) -> None:
        """A page by its number; one that does not exist is said."""
        from gpuscale_tui.store import queries

        me = self._frame
        query: Any = queries.worker_row if kind == "workers" else queries.job_row
        if await me.reader.database.read(query, number) is None:
            me.notify(f"There is no {label}", severity="warning", timeout=4)
        elif kind == "logs":
            me.show_logs(number)
        elif kind == "job":
            me.show_job(number)
        else:
            me.show_worker(number)

    async def _filter(self, command: Command) -> None:
        from gpuscale_tui.tui.screens.listing import ListScreen

        screen = self._frame.base_screen
        if not isinstance(screen, ListScreen):
            self._frame.notify(f"The screen {command.name} has no filter", timeout=3)
            return
        await screen.do_list_filter()
        if screen.line is not None:
            screen.line.value = command.rest
            screen.read_line()
            await screen.action_leave_line(True)

    # put aside

    async def do_suspend(self) -> None:
        """Ctrl+Z stops the engine's thread too: with machines rented by it, its work is handed over first."""
        from gpuscale_tui.tui.widgets.confirm import Question

        me, status = self._frame, self._frame.snapshot.status
        machines = me.machines_up()
        if me.host.engine is None or status is None or not machines:
            me.suspend_now()
            return
        spend = status.spend.used + status.spend.reserved
        text = [
            f"{plural(machines, 'machine')} rented for {rate(spend)}: nobody would watch over that.",
            "An engine in the background can take over; back here the screen attaches to it.",
        ]
        answers = [("c", "stay here", False), ("b", "hand over to the background, then put the screen aside", True)]
        me.push_screen(
            Question("Put gpuscale aside?", text, answers, otherwise=False),
            lambda sure: me.spawn(self._hand_over_and_suspend()) if sure else None,
        )

    async def _hand_over_and_suspend(self) -> None:
        me, engine = self._frame, self._frame.host.engine
        if engine is None or me.host.hand_over is None:
            return
        me.notify("Handing over to an engine in the background", timeout=3)
        try:
            pid = await asyncio.to_thread(me.host.hand_over, engine)
        except OSError as error:
            me.notify(f"Not handed over: {error}", severity="error", timeout=8, markup=False)
            return
        me.notify(f"The engine goes on in the background (pid {pid})", timeout=5)
        me.suspend_now()

    def suspend_now(self) -> None:
        """Give the terminal back and stop; `fg` in the shell shows the screen again."""
        me, driver = self._frame, self._frame._driver
        if driver is None or not driver.can_suspend:
            me.notify("This terminal cannot put a program aside", timeout=4)
            return
        me.action_suspend_process()
        me.poke()

    async def tell_what_happened(self) -> None:
        """At the start: what went on since a terminal was lost, once."""
        from gpuscale_tui.store import handover

        me = self._frame
        if me.readonly:
            return
        found = await me.reader.database.write(handover.told_now, me.now())
        if found is not None:
            me.notify(handover.words(found, me.look.when(found.at, me.now())), severity="warning", timeout=30,
                      markup=False)  # fmt: skip
