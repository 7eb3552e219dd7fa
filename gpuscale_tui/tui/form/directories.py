"""Directories of this computer: completed while typed, chosen from a list, with what of one would be uploaded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.widgets import Input

from gpuscale_tui.tui.form.chooser import COLUMNS, Entry
from gpuscale_tui.tui.format import clean, plural, size
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.messages import RowOpened
from gpuscale_tui.tui.widgets.confirm import Lines
from gpuscale_tui.tui.widgets.rows_table import RowsTable

if TYPE_CHECKING:
    from gpuscale_tui.engine.intake import WorkdirLook
    from gpuscale_tui.tui.app import GpuscaleApp

MOST = 2_000
"""Entries of a directory that are looked at."""
KEYS = "Tab, right: in  left: out  Enter takes it  Esc leaves"
NAMED = 6


def subdirectories(typed: str, most: int = MOST) -> list[str]:
    """Directories whose path begins as typed, without hidden ones unless one is begun. Blocking."""
    head, begun = os.path.split(typed)
    place = Path(head or ".").expanduser()
    try:
        with os.scandir(place) as entries:
            found = sorted(
                entry.name
                for entry, _ in zip(entries, range(most), strict=False)
                if entry.name.startswith(begun) and (begun or not entry.name.startswith(".")) and entry.is_dir()
            )
    except OSError:
        return []
    slash = "" if head.endswith("/") or not head else "/"
    return [f"{head}{slash}{name}" for name in found if name.isprintable()]


class DirectorySuggester(Suggester):
    """Completes a path; what was used before comes first."""

    def __init__(self, used: Sequence[str] = ()) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self.used = used

    async def get_suggestion(self, value: str) -> str | None:
        """The first that begins so."""
        if not value:
            return None
        known = next((path for path in self.used if path.startswith(value) and path != value), None)
        if known is not None:
            return known
        found = await asyncio.to_thread(subdirectories, value)
        return next((f"{path}/" for path in found if path != value), None)


class DirectoryPicker(ModalScreen[str | None]):
    """Answers with a directory, None for none. With `upload` it says what of it a job would take along."""

    DEFAULT_CSS = """
    DirectoryPicker { align: center top; background: $background 60%; }
    DirectoryPicker #picker-box {
        width: 96; max-width: 96%; height: 20; max-height: 84%; margin-top: 2;
        background: $background; border: round $line;
    }
    DirectoryPicker #picker-line { height: 1; border: none; padding: 0 1; background: $surface; }
    DirectoryPicker Lines { height: auto; }
    .-ascii DirectoryPicker #picker-box { border: ascii $line; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False, priority=True),
        Binding("enter", "take", show=False, priority=True),
        Binding("tab", "complete", show=False, priority=True),
        Binding("down", "move(1)", show=False, priority=True),
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("right", "into", show=False, priority=True),
        Binding("left", "out", show=False, priority=True),
    ]

    def __init__(self, title: str, start: str, *, upload: bool) -> None:
        super().__init__()
        self._title, self._upload = title, upload
        self.line = Input(clean(start), compact=True, select_on_focus=False, id="picker-line")
        self.line.cursor_blink = False
        empty = ((("  No directory in here.", "muted"),),)
        self.table: RowsTable[Entry] = RowsTable(COLUMNS, id="picker-table", empty=empty)
        self.table.HEAD = 0
        self.table.always_active = True
        self.table.can_focus = False
        self.about = Lines([[], []], "ground")

    @property
    def _me(self) -> GpuscaleApp:
        return self.app  # type: ignore[return-value]

    def compose(self) -> ComposeResult:
        """A box at the top."""
        with Vertical(id="picker-box"):
            yield Lines([[(f" {self._title}", "title")]], "ground")
            yield self.line
            yield self.table
            yield self.about
            yield Lines([[(f" {KEYS}", "muted")]], "ground")

    def on_mount(self) -> None:
        """What is there now."""
        self.set_focus(self.line)
        self.line.cursor_position = len(self.line.value)
        self._look()

    def on_input_changed(self, _event: Input.Changed) -> None:
        """Another place."""
        self._look()

    def _look(self) -> None:
        search: Any = partial(self._list, self.line.value)
        self.run_worker(search, exclusive=True, group="directories")

    async def _list(self, typed: str) -> None:
        limit = self._me.settings.scaler.workdir_max_mb if self._upload else None
        found, look = await asyncio.to_thread(_look_into, typed, limit)
        if typed != self.line.value:
            return
        entries = [Entry(path, os.path.basename(path)) for path in found]  # noqa: PTH119 - text, not a file
        self.table.restart()
        self.table.put(len(entries), 0, entries, self._me.now())
        lines = [] if look is None else told(look, ascii_only=self._me.look.glyphs.ascii)
        self.about.change([*lines, [], []][:2])

    def action_complete(self) -> None:
        """Take what the cursor is on into the line."""
        row = self.table.pointed
        if row is not None:
            self.line.value = row.id
            self.line.cursor_position = len(row.id)

    def action_into(self) -> None:
        """Into the directory under the cursor."""
        row = self.table.pointed
        if row is not None:
            self.line.value = f"{row.id}/"
            self.line.cursor_position = len(self.line.value)

    def action_out(self) -> None:
        """To the directory that holds this one."""
        path = os.path.dirname(self.line.value.rstrip("/"))  # noqa: PTH120 - text, not a file
        self.line.value = path if path.endswith("/") else f"{path}/" if path else "/"
        self.line.cursor_position = len(self.line.value)

    def action_move(self, rows: int) -> None:
        """Up and down."""
        self.table.move_by(rows)

    def action_take(self) -> None:
        """The directory in the line."""
        self.dismiss(self.line.value.strip() or None)

    def on_row_opened(self, _event: RowOpened) -> None:
        """A double click goes in."""
        self.action_into()

    def action_leave(self) -> None:
        """None."""
        self.dismiss(None)


def _look_into(typed: str, limit: float | None) -> tuple[list[str], WorkdirLook | None]:
    """Directories that begin as typed; with a limit (MB), what would be uploaded of the one that is named."""
    from gpuscale_tui.engine import intake

    path = Path(typed).expanduser().absolute()
    look = intake.look_at_workdir(path, limit) if limit is not None and typed.strip() and path.is_dir() else None
    return subdirectories(typed), look


def told(found: WorkdirLook, *, ascii_only: bool) -> list[Line]:
    """What would be uploaded of a directory, and what stays."""
    if found.problem:
        return [[(f" ! {clean(found.problem, ascii_only=ascii_only)}", "bad")]]
    words = f" {plural(found.files, 'file')}, {size(found.bytes)} would be uploaded"
    lines: list[Line] = [[(words, "good" if found.files else "warn")]]
    if found.staying:
        names = ", ".join(clean(name, ascii_only=ascii_only)[:40] for name in found.staying[:NAMED])
        more = f" and {len(found.staying) - NAMED} more" if len(found.staying) > NAMED else ""
        lines.append([(f" stays here: {names}{more}", "muted")])
    return lines
