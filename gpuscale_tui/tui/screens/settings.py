"""Screen 8: every setting, what it means, where it comes from; changed in place."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.widget import Widget

from gpuscale_tui.config import SETTINGS_NAME, ConfigError, Loaded, value_of
from gpuscale_tui.config_keys import Key
from gpuscale_tui.config_write import ABSENT, Files
from gpuscale_tui.model.query import TEXT, FieldKind, words
from gpuscale_tui.tui import theme as themes
from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.look import Line, Look, Span
from gpuscale_tui.tui.messages import RowPointed
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.screens.base import bindings_for
from gpuscale_tui.tui.screens.listing import ListScreen
from gpuscale_tui.tui.setting_rows import (
    THEME,
    SettingRow,
    as_typed,
    choices_of,
    is_secret,
    kind_of,
    setting_rows,
    short,
    typed,
    with_leads,
)
from gpuscale_tui.tui.settings_handlers import NO_FILES
from gpuscale_tui.tui.widgets.columns import Column
from gpuscale_tui.tui.widgets.panel import Panel

UNKNOWN = "?"
"""Where a setting in force comes from while the files cannot be read."""
SOURCES = ("default", "config.toml", SETTINGS_NAME, "environment")


@dataclass(frozen=True, slots=True)
class Sight:
    """The files as they are: the settings in them, or what is wrong with them."""

    loaded: Loaded | None
    trouble: str = ""


def look_at(files: Files | None, _connection: sqlite3.Connection, _moment: Moment) -> Sight:
    """Read the files beside the event loop; what is wrong with them is no trouble of the store."""
    if files is None:
        return Sight(None)
    try:
        return Sight(files.read())
    except ConfigError as error:
        first = error.problems[0]
        more = f" (and {len(error.problems) - 1} more)" if error.problems[1:] else ""
        return Sight(None, f"{replace(first, file=Path(first.file).name)}{more}")
    except OSError as error:
        return Sight(None, str(error))


def _table(row: SettingRow, _look: Look, _now: int) -> Span:
    return (row.table if row.lead else "", "title")


def _value(row: SettingRow, look: Look, _now: int) -> Span:
    value = row.value.encode("ascii", "replace").decode() if look.glyphs.ascii else row.value
    return value, "muted" if row.source == "default" else "strong"


def _source(row: SettingRow, _look: Look, _now: int) -> Span:
    return row.source, {"default": "muted", "environment": "warn"}.get(row.source, "accent")


COLUMNS: tuple[Column[SettingRow], ...] = (
    Column("table", "TABLE", 15, _table, id="table", value=lambda row, _now: row.table),
    Column("name", "SETTING", 21, lambda row, _look, _now: (row.name, "text")),
    Column("value", "VALUE", 20, _value, grow=2, most=34),
    Column("source", "FROM", 13, _source),
    Column("", "MEANING", 30, lambda row, _look, _now: (row.meaning, "muted"), grow=3, drop=1),
)


class SettingsScreen(ListScreen[Sight, SettingRow]):
    """The list of settings, and below it everything about the one under the cursor."""

    NAME = "settings"
    TAB = "settings"
    BINDINGS = bindings_for("settings")
    COLUMNS = COLUMNS
    FIELDS: ClassVar[Mapping[str, FieldKind]] = {
        "table": TEXT.told("table of the file"),
        "name": TEXT.told("name of the setting"),
        "value": TEXT.told("its value"),
        "source": words(*SOURCES, help="where it comes from"),
        "from": words(*SOURCES, help="where it comes from").named("source"),
    }
    SORTS = ("", "table", "name", "value", "source")
    NOUN = ("setting", "settings")

    def __init__(self) -> None:
        super().__init__()
        self.about = Panel(id="about")
        self._sight = Sight(None)

    def body(self) -> Iterable[Widget]:
        """Title, table, and what there is to say of one setting."""
        self.about.styles.height = 5
        self.table.styles.overflow_y = "scroll"  # there are always more than fit
        return (self.heading, self.table, self.about)

    def wish(self) -> Wish:
        """The files; again when one of them has changed."""
        files = self.gpuscale.files
        return Wish(self, _stamps(files), partial(look_at, files))

    def feed(self, content: Sight, output: object, now: int) -> None:  # noqa: ARG002 - reads no output
        """Show what is in force or, where it can be read, what the files say."""
        self._sight = content
        if content.loaded is not None and content.loaded.settings == self.gpuscale.settings:
            self.gpuscale.loaded = content.loaded
        self._arrange(now)

    def changed(self) -> None:
        """Another filter or order: all rows are here."""
        self._arrange(self.gpuscale.now())

    def took(self, snapshot: object) -> None:
        """Settings may have been taken over meanwhile."""
        super().took(snapshot)  # type: ignore[arg-type]
        if self.table.fetched:
            self._arrange(self.gpuscale.now())

    def _arrange(self, now: int) -> None:
        rows = setting_rows(self._shown())
        if self._sight.trouble and self.gpuscale.loaded is None:
            rows = [replace(row, source=UNKNOWN, place="") for row in rows]
        found = self.sift(rows, now)
        plain = not self.sort.key and not self.sort.descending
        rows = with_leads(found) if plain else [_alone(row) for row in found]
        self.put(len(rows), 0, rows, now)
        self._tell()

    def _shown(self) -> Loaded:
        app = self.gpuscale
        return self._sight.loaded or app.loaded or Loaded(app.settings, Path(), {})

    def text_of(self, row: SettingRow, now: int) -> str:  # noqa: ARG002 - no ages here
        """Everything that is said of it."""
        return f"{row.id} {row.value} {row.source} {row.meaning} {row.allowed}"

    def title_line(self) -> tuple[Line, Line]:
        """How many there are, which file is written, and what is wrong."""
        app = self.gpuscale
        glyphs, sight = app.look.glyphs, self._sight
        left, right = self.usual_title()
        if sight.trouble:
            said = clean(sight.trouble, ascii_only=glyphs.ascii)
            return [(f"{glyphs.warn} not taken over: {said}", "bad")], right
        if sight.loaded is not None and sight.loaded.settings != app.settings:
            return [(f"{glyphs.warn} the files say something else than what is in force: ", "warn"), ("R", "key"),
                    (" takes it over", "text")], right  # fmt: skip
        if app.files is not None and not right:
            right = [(clean(short(app.files.settings), ascii_only=glyphs.ascii), "muted")]
        return left, right

    def on_row_pointed(self, event: RowPointed) -> None:
        """Another setting, other words."""
        super().on_row_pointed(event)
        self._tell()

    def _tell(self) -> None:
        row = self.table.pointed
        self.about.write(lambda width, _height: [] if row is None else about_lines(row, self.gpuscale.look, width))

    async def do_setting_change(self) -> None:
        """Change the one under the cursor, with what fits it."""
        row, app = self.table.pointed, self.gpuscale
        if row is None:
            return
        why = why_fixed(row) if app.files is not None else NO_FILES
        if why or row.key is None:
            app.notify(why, timeout=5, markup=False)
            return
        present = value_of(self._shown().settings, row.id)
        if row.id == THEME:
            self.choose_theme()
        elif kind_of(row.key) == "choice":
            self._pick(row, row.key, present)
        else:
            self._type(row, row.key, present)

    def _pick(self, row: SettingRow, key: Key, present: object) -> None:
        from gpuscale_tui.tui.widgets.change import Pick

        options = choices_of(key)
        place = next((at for at, (_, value) in enumerate(options) if value == present), 0)
        question = Pick(row.id, [row.meaning], [word for word, _ in options], place)
        self.app.push_screen(question, lambda at: None if at is None else self._set(row, options[at][1]))

    def _type(self, row: SettingRow, key: Key, present: object) -> None:
        from gpuscale_tui.tui.widgets.change import ChangeValue

        text: list[Line | str] = [row.meaning, f"Allowed: {row.allowed}.{how_typed(key)} Default: {row.default}."]
        question = ChangeValue(
            row.id, text, as_typed(key, present), lambda words: typed(key, words), secret=is_secret(key)
        )
        self.app.push_screen(question, lambda words: None if words is None else self._set(row, typed(key, words)))

    def choose_theme(self) -> None:
        """A list of themes, each shown as the cursor comes to it."""
        from gpuscale_tui.tui.widgets.change import Pick

        app, before = self.gpuscale, self.gpuscale.theme_file
        names, about = themes.described(app.theme_places)
        row = next(row for row in setting_rows(self._shown()) if row.id == THEME)

        def show(at: int) -> None:
            try:
                app.use_theme(before if names[at] == before.name else themes.load(names[at], app.theme_places))
            except themes.ThemeError as error:
                app.notify(str(error), severity="error", timeout=8, markup=False)

        def chosen(at: int | None) -> None:
            if at is not None:
                self._set(row, names[at])

        present = names.index(before.name) if before.name in names else 0
        self.app.push_screen(Pick("Theme", [], about, present, show), chosen)

    def _set(self, row: SettingRow, value: object) -> None:
        self.gpuscale.spawn(self._write(row, ABSENT if value is None else value))

    async def _write(self, row: SettingRow, value: object) -> None:
        words = f"{row.id} is back to what it was without this screen" if value is ABSENT else f"{row.id} changed"
        later = "; an engine takes it up when it next starts" if row.later else ""
        wrong = await self.gpuscale.change_settings({row.id: value}, words + later)
        if wrong:
            self.gpuscale.notify(wrong, severity="error", timeout=8, markup=False)

    async def do_setting_default(self) -> None:
        """Take the one under the cursor out of settings.toml."""
        row = self.table.pointed
        if row is None:
            return
        if not row.here or row.key is None:
            self.gpuscale.notify(f"{row.id} does not stand in {SETTINGS_NAME}: {_from(row)}", timeout=4, markup=False)
            return
        await self._write(row, ABSENT)

    def do_copy(self) -> None:
        """The full name of the setting."""
        row = self.table.pointed
        if row is not None:
            self.gpuscale.copy(row.id)


def _alone(row: SettingRow) -> SettingRow:
    """A row that stands outside its table: it names it."""
    return replace(row, lead=True)


def _stamps(files: Files | None) -> tuple[object, ...]:
    """What changes with the files, to know when to read them."""
    if files is None:
        return ()
    return tuple(themes.stamp_of(path) for path in (files.config, files.settings))


def why_fixed(row: SettingRow) -> str:
    """Why a setting cannot be changed here, or nothing."""
    if row.variable:
        return f"{row.id} is set by {row.variable} of the environment, which wins over every file"
    if row.key is None:
        return f"Hosts are listed here; add one with the set-up (F2), change them in {row.place or 'config.toml'}"
    return ""


def how_typed(key: Key) -> str:
    """A word on how lists and tables are typed."""
    if is_secret(key):
        return " Typed anew as a whole, set apart by blanks."
    return {
        "list": " Set apart by commas.", "table": " As name = value, set apart by commas.",
    }.get(kind_of(key), "")  # fmt: skip


def _from(row: SettingRow) -> str:
    if row.source == "default":
        return "it has its default"
    return f"it comes from {row.place}"


def about_lines(row: SettingRow, look: Look, width: int) -> list[Line]:
    """All there is to say of one setting, in four lines."""
    ascii_only = look.glyphs.ascii
    value = clean(row.value, ascii_only=ascii_only)
    default = f"   default {row.default}" if row.default and row.default != row.value else ""
    origin: Line = [(f" {_from(row)[3:].capitalize()}", "muted")]
    if row.source in {"default", UNKNOWN}:
        origin = [(" Has its default" if row.source == "default" else "", "muted")]
    if row.here:
        origin = [*origin, ("   d", "key"), (" takes it out of there", "muted")]
    if why_fixed(row):
        origin = [(f" {look.glyphs.warn} {clean(why_fixed(row), ascii_only=ascii_only)}", "warn")]
    elif row.later:
        origin = [*origin, (f"   {look.glyphs.warn} counts from an engine's next start", "warn")]
    lines: list[Line] = [
        [(f" {row.id}", "title"), (f" = {value}", "strong"), (default, "muted")],
        [(f" {row.meaning}", "text")],
        [(f" Allowed: {row.allowed}", "muted")],
        origin,
    ]
    return [[], *lines] if width else lines
