"""The sentence for the row under the cursor, always in view: why it is where it is."""

from __future__ import annotations

from textual.strip import Strip

from gpuscale_tui.tui.look import Span, wrap
from gpuscale_tui.tui.widgets.header import Bar


class Why(Bar):
    """A label and a sentence in two lines; what does not fit is behind the key of `why`."""

    DEFAULT_CSS = "Why { height: 2; }"

    def __init__(self) -> None:
        super().__init__(id="why")
        self._label: Span = ("", "text")
        self._sentence = ""
        self._painted: list[Strip] = []

    def tell(self, label: Span, sentence: str) -> None:
        """Show another sentence, cleaned already."""
        if (label, sentence) != (self._label, self._sentence):
            self._label, self._sentence = label, sentence
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """One of the two lines."""
        width = self.size.width
        indent = len(self._label[0]) + 2
        lines = wrap(self._sentence, max(10, width - indent - 1))
        text = lines[y] if y < len(lines) else ""
        if y == 1 and len(lines) > 2:
            text = self.look.cut(" ".join(lines[1:]), width - indent - 1)
        lead: Span = (f" {self._label[0]} ", self._label[1]) if y == 0 else (" " * indent, "text")
        return self.look.strip([lead, (text, "text")], width, "raised")
