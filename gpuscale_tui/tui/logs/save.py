"""The question where to save a log: a path with completion, exact bytes or cleaned text, no file lost unasked."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.widgets import Input

from gpuscale_tui.tui.format import clean, size
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.widgets.confirm import Lines

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp

MOST_NAMES = 5_000
"""Names in a directory among which a completion is looked for."""


def completion(typed: str) -> str | None:
    """The path that what was typed begins, where the directory has one: the first by name, directories with a slash."""
    try:
        directory, begun = os.path.split(str(Path(typed).expanduser()) + ("/" if typed.endswith("/") else ""))
        with os.scandir(directory or ".") as entries:
            found = sorted(
                entry.name + ("/" if entry.is_dir() else "")
                for _, entry in zip(range(MOST_NAMES), entries, strict=False)
                if entry.name.startswith(begun) and (begun or not entry.name.startswith("."))
            )
    except (OSError, ValueError, RuntimeError):
        return None
    names = [name for name in found if name.isprintable() and name.rstrip("/") != begun] or [
        name for name in found if name == begun + "/"
    ]
    return typed[: len(typed) - len(begun)] + names[0] if begun and names else None


class Paths(Suggester):
    """Completes paths."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """The path that this begins."""
        return await asyncio.to_thread(completion, value)


def trouble(path: Path) -> str:
    """Why nothing can be saved there; empty when it can."""
    if path.is_dir():
        return "that is a directory"
    if not path.parent.is_dir():
        return f"there is no directory {path.parent}"
    if path.exists() and not path.is_file():
        return "that is no plain file"
    return "" if os.access(path.parent, os.W_OK) else f"you may not write in {path.parent}"


class SaveQuestion(ModalScreen[tuple[Path, bool] | None]):
    """Dismissed with the path and whether the bytes are to be exact; None when it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("tab", "complete", show=False, priority=True),
        Binding("ctrl+t", "kind", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    SaveQuestion { align: center middle; background: $background 60%; }
    SaveQuestion:ansi { background: ansi_default; }
    SaveQuestion Input { height: 1; border: none; padding: 0 1; margin: 1 0; background: $panel; }
    """

    def __init__(self, name: str, total: str) -> None:
        super().__init__()
        self._total = total
        self._exact = True
        self._asked: Path | None = None
        self.field = Input(name, suggester=Paths(), compact=True, select_on_focus=False, id="save-path")
        self.field.cursor_blink = False
        self.words = Lines([])

    @property
    def _me(self) -> GpuscaleApp:
        return self.app  # type: ignore[return-value]

    def compose(self) -> ComposeResult:
        """A title, the path, and what Enter will do."""
        with Vertical(id="box"):
            yield Lines([[("Save the output", "title"), (f"  {self._total}", "muted")]])
            yield self.field
            yield self.words

    def on_mount(self) -> None:
        """The path has the keys."""
        self.set_focus(self.field)
        self._tell("")

    def _tell(self, problem: str) -> None:
        kind = "the exact bytes" if self._exact else "cleaned text, as it is shown here"
        first: Line = (
            [(f"{self._me.look.glyphs.warn} {problem}", "bad")] if problem else [(f"Enter saves {kind}", "text")]
        )
        keys: Line = [
            ("Tab", "key"), (" completes  ", "muted"), ("^t", "key"), (" exact or cleaned  ", "muted"),
            ("Esc", "key"), (" leaves", "muted"),
        ]  # fmt: skip
        self.words.change([first, keys])

    def _path(self) -> Path:
        typed = Path(self.field.value.strip())
        with contextlib.suppress(RuntimeError):  # the home of a user that there is not
            typed = typed.expanduser()
        return typed.absolute()

    async def on_input_submitted(self) -> None:
        """Enter: save there; a file that is there already is replaced only after Enter once more."""
        if not self.field.value.strip():
            self._tell("a path is missing")
            return
        path = self._path()
        problem = await asyncio.to_thread(trouble, path)
        if problem:
            self._tell(clean(problem))
        elif await asyncio.to_thread(path.exists) and self._asked != path:
            self._asked = path
            there = (await asyncio.to_thread(path.stat)).st_size
            self._tell(f"it is there already ({size(there)}): Enter once more replaces it")
        else:
            self.dismiss((path, self._exact))

    def on_input_changed(self) -> None:
        """Another path: nothing was asked of it yet."""
        self._asked = None
        self._tell("")

    async def action_complete(self) -> None:
        """Take the completion."""
        found = await asyncio.to_thread(completion, self.field.value)
        if found is not None:
            self.field.value = found
            self.field.cursor_position = len(found)

    def action_kind(self) -> None:
        """Exact bytes, or cleaned text."""
        self._exact = not self._exact
        self._tell("")

    def action_leave(self) -> None:
        """Nothing is saved."""
        self.dismiss(None)
