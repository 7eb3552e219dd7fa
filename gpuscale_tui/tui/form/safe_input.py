"""A line to type in that shows foreign text harmless, and gives it back as it was unless it is changed."""

from __future__ import annotations

from typing import Any

from textual.widgets import Input

from gpuscale_tui.tui.format import clean


class SafeInput(Input):
    """What another member wrote may hold escape sequences or line ends: the line never has them, `text` still does."""

    def __init__(self, text: str = "", **options: Any) -> None:
        self._foreign = text
        super().__init__(clean(text), select_on_focus=False, compact=True, **options)
        self.cursor_blink = False

    @property
    def text(self) -> str:
        """What stands here: as it came while nobody has changed it, else as it is shown."""
        return self._foreign if self.value == clean(self._foreign) else self.value

    @text.setter
    def text(self, text: str) -> None:
        self._foreign = text
        self.value = clean(text)
