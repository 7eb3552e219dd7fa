"""The line to type a filter or a search in; it stays in view while it has an effect."""

from __future__ import annotations

from textual import events
from textual.message import Message
from textual.widgets import Input


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

    def __init__(self, placeholder: str) -> None:
        super().__init__(placeholder=placeholder, compact=True, select_on_focus=False, id="filter")
        self.cursor_blink = False

    def open(self, *, anew: bool = False) -> None:
        """Show the line and type in it, after what stands there or (`anew`) instead of it."""
        self.add_class("-open")
        self.focus()
        if anew:
            self.select_all()

    def close(self) -> None:
        """Empty and hide the line."""
        self.value = ""
        self.remove_class("-open")

    def on_key(self, event: events.Key) -> None:
        """Enter and Escape leave the line."""
        if event.key not in {"enter", "escape"}:
            return
        event.stop()
        event.prevent_default()
        kept = event.key == "enter" and bool(self.value)
        if not kept:
            self.close()
        self.post_message(self.Left(kept))
