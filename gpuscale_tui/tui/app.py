"""The application: it puts the parts together, switches screens, and ends in good order whatever ends it."""

from __future__ import annotations

import asyncio
import getpass
import sqlite3
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeVar

from textual.app import App
from textual.screen import Screen

from gpuscale_tui.config import Loaded
from gpuscale_tui.config_write import Files
from gpuscale_tui.engine import doorbell
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.money import parse_usd
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.opening import StoreError
from gpuscale_tui.tui import screens
from gpuscale_tui.tui import theme as themes
from gpuscale_tui.tui.actions import READONLY, SCREENS, Action, by_id, why_not
from gpuscale_tui.tui.app_handlers import AppHandlers
from gpuscale_tui.tui.format import ASCII, UNICODE
from gpuscale_tui.tui.frame_handlers import MOST_TOLD, FrameHandlers
from gpuscale_tui.tui.host import EngineHost, Leaving
from gpuscale_tui.tui.kept import Kept
from gpuscale_tui.tui.keymap import checked_keymap, display_keys
from gpuscale_tui.tui.look import Look, make
from gpuscale_tui.tui.messages import EngineState, Snapshot
from gpuscale_tui.tui.reader import POLL_SEC, Reader, Wish
from gpuscale_tui.tui.screens.base import BaseScreen
from gpuscale_tui.tui.settings_handlers import SettingsHandlers
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.undo import UNDO_MS, Undo, UndoStack
from gpuscale_tui.tui.widgets.header import Header
from gpuscale_tui.tui.widgets.truth import STALE_AFTER_MS

if TYPE_CHECKING:
    from gpuscale_tui.tui.form.keeping import Drafts

READER = "reader"
"""Group of the worker that reads the store for as long as the screen is shown."""

P = ParamSpec("P")
T = TypeVar("T")


def _clock() -> int:
    return time.time_ns() // 1_000_000


class GpuscaleApp(AppHandlers, FrameHandlers, SettingsHandlers, App[Leaving]):
    """The full-screen application over one home.

    `interval` is the time in seconds between two looks at the store, None for only when asked: tests drive it by hand.
    `fit` says which theme the terminal can show where the settings ask for one.
    """

    TITLE = "gpuscale"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    DEFAULT_MODE = "queue"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual declares it as it does
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        name: partial(screens.make, name) for name in SCREENS
    }

    def __init__(
        self,
        home: Home,
        settings: Settings,
        *,
        host: EngineHost,
        user_config: Path | None = None,
        clock: Callable[[], int] = _clock,
        interval: float | None = POLL_SEC,
        zone: tzinfo | None = None,
        utf8: bool = True,
        no_color: bool = False,
        fit: Callable[[str], str] = str,
        readonly: bool = False,
        files: Files | None = None,
    ) -> None:
        self.settings = settings
        self.files = files
        self.loaded: Loaded | None = None
        self.wants_demo = False
        self.readonly = readonly
        self.undos = UndoStack()
        self.told = deque(maxlen=MOST_TOLD)
        self.recent = []
        self.keymap = checked_keymap(settings.ui.keymap)
        self.theme_places = themes.directories(user_config)
        self.fit_theme: Callable[[str], str] = (lambda _: themes.NO_COLOR_THEME) if no_color else fit
        self.theme_file = themes.load(self.fit_theme(settings.ui.theme), self.theme_places)
        self._glyphs = UNICODE if utf8 else ASCII
        self._zone = zone
        self.look: Look = make(self.theme_file, self._glyphs, zone)
        super().__init__(ansi_color=True if no_color else None)
        self.home = home
        self.host = host
        self.now = clock
        self.user = getpass.getuser()
        self.animation_level = "none"
        self.snapshot = Snapshot(clock(), None, EngineState("starting"))
        self.failure = ""
        self._drafts: Drafts | None = None
        self.kept = Kept(home.path / "screen.json")
        cap = parse_usd(settings.scaler.max_hourly_budget)
        self.reader = Reader(home, cap, clock, self, interval, readonly=readonly)
        self._watches = interval is not None
        self.set_keymap(self.keymap)
        self.use_theme(self.theme_file)
        self.set_class(not utf8, "-ascii")

    @property
    def drafts(self) -> Drafts:
        """What was left in forms."""
        if self._drafts is None:
            from gpuscale_tui.tui.form.keeping import Drafts

            self._drafts = Drafts(self.home.path / "drafts.json")
        return self._drafts

    def use_theme(self, theme: themes.ThemeFile) -> None:
        """Show everything in another theme."""
        self.theme_file = theme
        self.theme_stamp = themes.stamp_of(theme.path)
        self.look = make(theme, self._glyphs, self._zone)
        self.register_theme(themes.textual_theme(theme))
        if self.theme == theme.name:  # its file has changed: the same name, other colours
            self.mutate_reactive(GpuscaleApp.theme)
        else:
            self.theme = theme.name

    async def on_mount(self) -> None:
        """Read from now on; the first frame does not wait for it."""
        if self.reader.by_itself:
            self.follow_theme_file()
        self.run_worker(self._read(), group=READER, exit_on_error=True)
        self.app_resume_signal.subscribe(self, self._resumed)
        if self._watches:
            self.set_interval(1.0, self._watch)

    def _resumed(self, _app: App[Any]) -> None:
        """The terminal is ours again after it was another program's: paint everything anew."""
        self.refresh(layout=True)
        self.poke()

    def _watch(self) -> None:
        """Where nothing is read any more, the header must say so by itself: nobody else paints it."""
        screen = self.base_screen
        if self.reader.age(self.now()) > STALE_AFTER_MS and screen is not None and screen.is_mounted:
            screen.query_one(Header).repaint()

    async def _read(self) -> None:
        try:
            await self.reader.open()
        except (StoreError, sqlite3.Error, OSError) as error:
            self.failure = str(error)
            self.exit(return_code=1)
            return
        await self.reader.run()

    async def on_unmount(self) -> None:
        """Leave nothing open."""
        await self.reader.close()

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Run something beside the screen; it ends with the application, and its failure is a failure of it."""
        self.run_worker(work, group="handlers", exit_on_error=True)

    @property
    def base_screen(self) -> BaseScreen[Any] | None:
        """The screen that is shown, below any question."""
        stack = self.screen_stack if self._screen_stacks[self._current_mode] else []
        return next((screen for screen in reversed(stack) if isinstance(screen, BaseScreen)), None)

    def wish(self) -> Wish:
        """What the reader should read."""
        screen = self.base_screen
        return screen.wish() if screen is not None and screen.is_mounted else Wish(None)

    def engine_state(self, pid: int | None) -> EngineState:
        """Where the engine runs."""
        return self.host.state(pid)

    def took(self, snapshot: Snapshot) -> None:
        """Show what was read; start the engine once the first of it is on the terminal."""
        first = self.snapshot.status is None
        self.snapshot = snapshot
        screen = self.base_screen
        if screen is not None:
            with self.batch_update():
                screen.took(snapshot)
        if first:
            self.call_after_refresh(self.host.begin)
            self.spawn(self.tell_what_happened())
            self.call_after_refresh(self.maybe_guide)

    def ticked(self, now: int) -> None:
        """A second has gone by."""
        screen = self.base_screen
        if screen is not None:
            screen.ticked(now)
        self.refresh_footer()

    def refresh_footer(self) -> None:
        """The keys that work now may be others than before."""
        screen = self.base_screen
        if screen is not None and screen.is_mounted:
            screen.refresh_footer()

    def poke(self) -> None:
        """Read soon."""
        self.reader.poke()

    async def command(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[T] | None:
        """Run a command of `engine.commands` and wake the engine; its result in a tuple, None when it was refused."""
        if self.readonly:
            self.notify(READONLY.capitalize(), severity="error", timeout=8, markup=False)
            return None
        try:
            result = await self.reader.database.write(function, *args, **kwargs)
        except (GpuscaleError, sqlite3.Error) as error:
            self.notify(str(error), severity="error", timeout=8, markup=False)
            return None
        doorbell.ring(self.home)
        self.poke()
        return (result,)

    def why_not(self, action: Action, subject: Subject) -> str:
        """Why an action does not apply to a subject of the screen that is shown, or nothing."""
        step = self.undos.top(self.now()) if action.id == "undo" else None
        return why_not(action, replace(subject, undo=step.words) if step else subject, readonly=self.readonly)

    def offer_undo(
        self, words: str, undo: Callable[[], Awaitable[None]], seconds: float = UNDO_MS / 1000, *, told: bool = True
    ) -> None:
        """Say what was done and that the key `u` undoes it, for some seconds; not `told`, only the footer says it."""
        self.undos.push(Undo(words, undo, self.now() + round(seconds * 1000)))
        key = display_keys(by_id()["undo"], self.keymap)[0]
        if told:
            self.notify(f"{words}. {key} undoes it.", timeout=seconds, markup=False)
        self.refresh_footer()

    async def do(self, action_id: str) -> None:
        """Carry out an action of the table on the screen that is shown, or say why it does not apply."""
        action, screen = by_id()[action_id], self.base_screen
        if screen is None:
            return
        await screen.caught_up()
        reason = self.why_not(action, screen.subject())
        if reason:
            self.notify(reason[0].upper() + reason[1:], timeout=3, markup=False)
            return
        method = getattr(screen, action.method, None) or getattr(self, action.method)
        result = method()
        if asyncio.iscoroutine(result):
            await result

    async def action_quit(self) -> None:
        """Ctrl+Q anywhere."""
        if isinstance(self.screen, BaseScreen):
            await self.do("quit")
        else:
            self.screen.dismiss(None)


def run_app(
    home: Home, settings: Settings, config: Path | None, environ: Mapping[str, str], *, readonly: bool = False
) -> int:
    """Show the screen until it is left; the exit code. Raises ThemeError or KeymapError before anything is shown."""
    from gpuscale_tui.tui.run import run

    return run(home, settings, config, environ, readonly=readonly)
