"""The line to type a filter or a search in; it stays in view while it has an effect."""

from __future__ import annotations

from types import MappingProxyType

from textual import events
from textual.message import Message
from textual.widgets import Input

MOVES = MappingProxyType({"down": (1, 0), "up": (-1, 0), "pagedown": (0, 1), "pageup": (0, -1)})
"""Keys that move in the list while a line is typed in: rows, pages."""


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

    def open(self, *, anew: bool = False) -> None:
        """Show the line and type in it, after what stands there or (`anew`) instead of it."""
        self.add_class("-open")
        self.screen.set_focus(self)  # at once: letters that follow are meant for it
        if anew:
            self.select_all()

    def close(self) -> None:
        """Empty and hide the line."""
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

    def on_key(self, event: events.Key) -> None:
        """The arrows move in the list."""
        if event.key in MOVES:
            event.stop()
            self.post_message(self.Moved(MOVES[event.key]))
