"""Which columns a list shows, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.strip import Strip

from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.widgets.columns import Column
from gpuscale_tui.tui.widgets.window import WindowView

HINT = "space shows or hides, J K move, d by default, Enter keeps it"


class ColumnList(WindowView[str]):
    """The columns, one a line."""

    DEFAULT_CSS = "ColumnList { height: auto; max-height: 16; scrollbar-size-vertical: 1; }"

    def __init__(self, names: Sequence[str], shown: Sequence[str]) -> None:
        super().__init__(id="columns")
        self.names = [*shown, *(name for name in names if name not in shown)]
        self.shown = set(shown)
        self.at = 0

    def show_names(self) -> None:
        """Paint what has changed."""
        self.put(len(self.names), 0, self.names, 0)
        self.show_line(self.at)
        self.repaint()

    def draw_item(self, index: int, item: str, width: int) -> Strip:
        """A sign where it is shown, and its name."""
        here, glyphs = index == self.at, self.look.glyphs
        sign = f"[{glyphs.mark}]" if item in self.shown else "[ ]"
        line: Line = [
            (f" {glyphs.cursor if here else ' '} ", "title"),
            (f"{sign} ", "key" if item in self.shown else "muted"),
            (item, "text" if item in self.shown else "muted"),
        ]
        return self.look.strip(line, width, "cursor" if here else "raised")

    def draw_beyond(self, index: int, width: int) -> Strip:  # noqa: ARG002 - as the class has it
        """Nothing below the last one."""
        return self.look.strip((), width, "raised")

    def get_content_height(self, *_: Any) -> int:
        """A line a column."""
        return len(self.names)

    def on_click(self, event: events.Click) -> None:
        """A click shows or hides."""
        index = self.top + event.y
        if index < len(self.names):
            self.at = index
            self.turn()

    def turn(self) -> None:
        """Show the column under the cursor, or hide it; one is always shown."""
        name = self.names[self.at]
        if self.shown != {name}:
            self.shown ^= {name}
        self.show_names()

    def go(self, step: int, *, carry: bool = False) -> None:
        """To the next column, or carry this one there."""
        target = max(0, min(self.at + step, len(self.names) - 1))
        if carry:
            self.names.insert(target, self.names.pop(self.at))
        self.at = target
        self.show_names()


class ChooseColumns(ModalScreen[tuple[str, ...] | None]):
    """Answers with the names of the columns to show, empty for the default, None when nothing is to change."""

    DEFAULT_CSS = """
    ChooseColumns { align: center middle; background: $background 60%; }
    ChooseColumns:ansi { background: ansi_default; }
    ChooseColumns #box { width: 66; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "go(1)", show=False),
        Binding("up,k", "go(-1)", show=False),
        Binding("J,shift+down", "carry(1)", show=False),
        Binding("K,shift+up", "carry(-1)", show=False),
        Binding("space,x", "turn", show=False),
        Binding("d", "default", show=False),
        Binding("enter", "keep", show=False),
        Binding("escape,q,C", "leave", show=False),
    ]

    def __init__(self, columns: Sequence[Column[Any]], shown: Sequence[str]) -> None:
        super().__init__()
        self.list = ColumnList([column.name for column in columns], shown)

    def compose(self) -> ComposeResult:
        """A box with the list and the keys."""
        from gpuscale_tui.tui.widgets.title import Title

        with Vertical(id="box"):
            self._title = Title()
            yield self._title
            yield self.list
            self._hint = Title()
            yield self._hint

    def on_mount(self) -> None:
        """The list has the keys."""
        self._title.tell([("Columns", "title")])
        self._hint.tell([(HINT, "muted")])
        self.set_focus(self.list)
        self._fit()
        self.list.show_names()

    def on_resize(self) -> None:
        """Title, hint and frame stay in view."""
        self._fit()

    def _fit(self) -> None:
        self.list.styles.max_height = max(3, int(0.9 * self.app.size.height) - 6)

    def action_go(self, step: int) -> None:
        """Up or down."""
        self.list.go(step)

    def action_carry(self, step: int) -> None:
        """Carry the column up or down."""
        self.list.go(step, carry=True)

    def action_turn(self) -> None:
        """Show or hide."""
        self.list.turn()

    def action_default(self) -> None:
        """As it is by default."""
        self.dismiss(())

    def action_keep(self) -> None:
        """These."""
        self.dismiss(tuple(name for name in self.list.names if name in self.list.shown))

    def action_leave(self) -> None:
        """As it was."""
        self.dismiss(None)
