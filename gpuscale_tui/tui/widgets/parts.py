"""The line that says which parts a page has and which of them is shown; a click chooses one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import events
from textual.strip import Strip

from gpuscale_tui.tui.look import Line, Span, width_of
from gpuscale_tui.tui.widgets.header import Bar


class Parts(Bar):
    """Names of parts, the shown one marked by a sign and not by colour alone; a word on the right."""

    def __init__(self, chosen: Callable[[str], None], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._chosen = chosen
        self._names: Sequence[str] = ()
        self._shown = ""
        self._right: Line = ()
        self._hits: list[tuple[int, int, str]] = []

    def tell(self, names: Sequence[str], shown: str, right: Line = ()) -> None:
        """Other parts, or another of them."""
        self._names, self._shown, self._right = names, shown, right
        self.repaint()

    def draw(self, width: int) -> Strip:
        """The line."""
        spans: list[Span] = [(" ", "text")]
        self._hits = []
        for name in self._names:
            here = name == self._shown
            begin = width_of(spans)
            spans.append((f"[{name}]" if here else f" {name} ", "strong" if here else "muted"))
            self._hits.append((begin, width_of(spans), name))
        spans.append(("  v", "key"))
        spans.append((" next", "muted"))
        right = [*self._right, (" ", "text")]
        room = max(0, width - width_of(right))
        return Strip.join([
            self.look.strip(spans, room, "raised"), self.look.strip(right, width - room, "raised"),
        ])  # fmt: skip

    def on_click(self, event: events.Click) -> None:
        """Show the part that was clicked."""
        for begin, end, name in self._hits:
            if begin <= event.x < end:
                self._chosen(name)
