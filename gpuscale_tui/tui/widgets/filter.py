"""The line to type a filter or a search in; it stays in view while it has an effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widgets import Input

from gpuscale_tui.model.query import FieldKind
from gpuscale_tui.tui.format import clean

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp

MOVES = MappingProxyType({"down": (1, 0), "up": (-1, 0), "pagedown": (0, 1), "pageup": (0, -1)})
"""Keys that move in the list while a line is typed in: rows, pages."""

NOTE_CELLS = 12
"""Less room than this says nothing of what is wrong."""


class FilterBar(Input):
    """Hidden until it is opened. Enter keeps what was typed, Escape clears it; each letter has its effect at once."""

    DEFAULT_CSS = """
    FilterBar { height: 1; border: none; padding: 0 1; background: $surface; display: none; }
    FilterBar.-open { display: block; }
    FilterBar:focus { border: none; }
    """

    class Left(Message):
        """The line was left: with Enter (`kept`) or Escape."""

        def __init__(self, kept: bool) -> None:
            super().__init__()
            self.kept = kept

    class Moved(Message):
        """The list was moved in while typing, by so many pages or rows: `(rows, pages)`."""

        def __init__(self, move: tuple[int, int]) -> None:
            super().__init__()
            self.rows, self.pages = move

    def __init__(self, placeholder: str) -> None:
        super().__init__(placeholder=placeholder, compact=True, select_on_focus=False, id="filter")
        self.cursor_blink = False
        self._note = ""
        self._past: Sequence[str] = ()
        self._at = -1

    def know(self, fields: Mapping[str, FieldKind], past: Sequence[str]) -> None:
        """Complete these fields, and give these filters of the past again."""
        from gpuscale_tui.tui.widgets.suggest import FieldSuggester

        self._past, self._at = past, -1
        self.suggester = FieldSuggester(fields)

    def tell(self, note: str) -> None:
        """Say what is wrong with what stands here, in the line itself; an empty text takes that back."""
        if note != self._note:
            self._note = note
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """What is typed, and what is wrong with it on the right."""
        strip = super().render_line(y)
        width = self.scrollable_content_region.width
        room = width - len(self.value) - 3
        if y or not self._note or room < NOTE_CELLS:
            return strip
        app: GpuscaleApp = self.app  # type: ignore[assignment]
        look = app.look
        note = look.cut(clean(f"{look.glyphs.warn} {self._note}", ascii_only=look.glyphs.ascii), room)
        words = look.strip([(note, "warn")], cell_len(note), "raised")
        return Strip.join([strip.crop(0, width - words.cell_length), words])

    def open(self, *, anew: bool = False) -> None:
        """Show the line and type in it, after what stands there or (`anew`) instead of it."""
        self.add_class("-open")
        self.screen.set_focus(self)  # at once: letters that follow are meant for it
        if anew:
            self.select_all()

    def close(self) -> None:
        """Empty and hide the line."""
        self.tell("")
        self._at = -1
        self.value = ""
        self.remove_class("-open")

    def leave(self, *, kept: bool) -> None:
        """End typing, after the letters that are still on their way to this line."""
        self.call_later(self._leave, kept)

    def _leave(self, kept: bool) -> None:
        kept = kept and bool(self.value)
        if not kept:
            self.close()
        self.post_message(self.Left(kept))

    def _recall(self, key: str) -> bool:
        """Give a filter of the past: up and down, as long as nothing else was typed."""
        step = {"up": 1, "down": -1}.get(key, 0)
        mine = not self.value if self._at < 0 else self.value == self._past[self._at]
        if not step or not self._past or not mine or (step < 0 and self._at < 0):
            return False
        self._at = max(-1, min(self._at + step, len(self._past) - 1))
        self.value = self._past[self._at] if self._at >= 0 else ""
        self.cursor_position = len(self.value)
        return True

    def on_key(self, event: events.Key) -> None:
        """The arrows move in the list, or among past filters while the line is empty; tab completes."""
        if event.key == "tab":
            event.stop()
            event.prevent_default()
            self.action_cursor_right()
        elif self._recall(event.key):
            event.stop()
            event.prevent_default()
        elif event.key in MOVES:
            event.stop()
            self.post_message(self.Moved(MOVES[event.key]))
