"""Settings that change while the screen is shown: written, read anew, taken over here and by the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.money import parse_usd
from gpuscale_tui.tui import theme as themes
from gpuscale_tui.tui.host import Leaving
from gpuscale_tui.tui.keymap import KeymapError, checked_keymap

if TYPE_CHECKING:
    from textual.app import App

    from gpuscale_tui.config import Loaded
    from gpuscale_tui.tui.app import GpuscaleApp

    Base = App[Leaving]
else:
    Base = object

THEME_LOOK_SEC = 2.0
"""How often is looked whether the file of the theme that is shown has changed."""
NO_FILES = "these settings come from the program that started this screen: they cannot be changed here"


class SettingsHandlers(Base):
    """Mixed into the application."""

    @property
    def _app(self) -> GpuscaleApp:
        return self  # type: ignore[return-value]

    def do_screen_settings(self) -> None:
        """Screen 8."""
        self._app.show_screen("settings")

    async def change_settings(self, changes: Mapping[str, object], words: str) -> str:
        """Write changes into settings.toml and take them over; what is wrong with them, or nothing. Can be undone."""
        app = self._app
        if app.files is None:
            return NO_FILES
        trouble = self._trouble_here(changes)
        if trouble:
            return trouble
        try:
            written = await asyncio.to_thread(app.files.change, changes)
        except (GpuscaleError, OSError) as error:
            return str(error)
        await self._everywhere(written.loaded)
        app.offer_undo(words, lambda: self._undo_change(written.undo))
        return ""

    async def _undo_change(self, undo: Mapping[str, object]) -> None:
        app = self._app
        if app.files is None:
            return
        try:
            written = await asyncio.to_thread(app.files.change, undo)
        except (GpuscaleError, OSError) as error:
            app.notify(str(error), severity="error", timeout=8, markup=False)
            return
        await self._everywhere(written.loaded)
        app.notify("Settings as they were before", timeout=3)

    async def do_settings_reload(self) -> None:
        """Read the files anew, here and in the engine."""
        app = self._app
        if app.files is None:
            app.notify(NO_FILES.capitalize(), timeout=5)
            return
        try:
            loaded = await asyncio.to_thread(app.files.read)
        except (GpuscaleError, OSError) as error:
            app.notify(f"The settings stay as they were: {error}", severity="error", timeout=12, markup=False)
            return
        await self._everywhere(loaded)
        app.notify("Settings read anew", timeout=3)

    async def _everywhere(self, loaded: Loaded) -> None:
        """Take settings over and tell the engine."""
        from gpuscale_tui.engine import commands

        app = self._app
        self.take_over(loaded)
        if not app.readonly:
            await app.command(commands.reload, user=app.user, now=app.now())
        app.poke()

    def take_over(self, loaded: Loaded) -> None:
        """What the screen makes of the settings: cap, theme, keys, banner. What is wrong stays as it was."""
        app = self._app
        before, app.settings = app.settings.ui, loaded.settings
        app.loaded = loaded
        app.reader.set_cap(parse_usd(loaded.settings.scaler.max_hourly_budget))
        ui = loaded.settings.ui
        try:
            if ui.theme != before.theme:
                app.use_theme(themes.load(app.fit_theme(ui.theme), app.theme_places))
            if ui.keymap != before.keymap:
                app.keymap = checked_keymap(ui.keymap)
                app.set_keymap(app.keymap)
        except (themes.ThemeError, KeymapError) as error:
            app.notify(str(error), severity="error", timeout=8, markup=False)
        screen = app.base_screen
        if screen is not None and screen.is_mounted:
            screen.took(app.snapshot)

    def _trouble_here(self, changes: Mapping[str, Any]) -> str:
        """What only the screen can say of its own settings: whether theme and keys exist."""
        app = self._app
        try:
            if isinstance(changes.get("ui.theme"), str):
                themes.load(changes["ui.theme"], app.theme_places)
            if isinstance(changes.get("ui.keymap"), Mapping):
                checked_keymap(changes["ui.keymap"])
        except (themes.ThemeError, KeymapError) as error:
            return str(error)
        return ""

    def do_setup(self) -> None:
        """The questions of the first start."""
        from gpuscale_tui.tui.screens.guide import Guide

        app = self._app
        if app.files is None:
            app.notify(NO_FILES.capitalize(), timeout=5)
            return
        app.spawn(Guide(app).run())

    def maybe_guide(self) -> None:
        """At the first start of all begin with the set-up."""
        app = self._app
        if app.files is None or app.readonly or app.files.config.exists():
            return  # nearly always: nothing more is imported
        from gpuscale_tui.tui.screens.guide import is_first_start

        if is_first_start(app):
            self.do_setup()

    def begin_demo(self) -> None:
        """Leave; the command line goes on with the demonstration."""
        app = self._app
        app.wants_demo = True
        app.exit(Leaving.FINISH)

    def follow_theme_file(self) -> None:
        """Look now and then whether the theme's file has changed, so that who writes one sees it."""
        self._app.set_interval(THEME_LOOK_SEC, self.look_at_theme)

    def look_at_theme(self) -> None:
        """Show the theme anew if its file has changed; what is wrong with it is told once."""
        app = self._app
        stamp = themes.stamp_of(app.theme_file.path)
        if stamp == app.theme_stamp:
            return
        app.theme_stamp = stamp
        try:
            app.use_theme(themes.load(app.theme_file.name, app.theme_places))
        except themes.ThemeError as error:
            app.notify(str(error), severity="error", timeout=8, markup=False)
