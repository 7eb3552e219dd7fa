"""A line to type in and what fits it: templates, values used before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.look import Line, Look, Span
from gpuscale_tui.tui.messages import RowOpened, RowPointed
from gpuscale_tui.tui.widgets.columns import Column
from gpuscale_tui.tui.widgets.confirm import Lines
from gpuscale_tui.tui.widgets.rows_table import RowsTable

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp

DETAILS = 6


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to choose, cleaned where it is shown. `details` stand below while it is pointed at."""

    id: str
    label: str
    text: str = ""
    details: tuple[str, ...] = ()


def _cell(part: Callable[[Entry], str], role: str) -> Callable[[Entry, Look, int], Span]:
    return lambda row, look, _now: (clean(part(row), ascii_only=look.glyphs.ascii), role)


COLUMNS: tuple[Column[Entry], ...] = (
    Column("", "", 24, _cell(lambda row: row.label, "strong"), grow=2, most=60),
    Column("", "", 16, _cell(lambda row: row.text, "muted"), grow=1),
)


def fitting(typed: str, entries: Sequence[Entry]) -> list[Entry]:
    """Entries that have every word that was typed, in their order."""
    words = typed.casefold().split()
    return [entry for entry in entries if all(word in f"{entry.label} {entry.text}".casefold() for word in words)]


class Chooser(ModalScreen[str | None]):
    """Answers with the id of what was chosen, None for nothing."""

    DEFAULT_CSS = """
    Chooser { align: center top; background: $background 60%; }
    Chooser #chooser-box {
        width: 96; max-width: 96%; height: 20; max-height: 84%; margin-top: 2;
        background: $background; border: round $line;
    }
    Chooser #chooser-line { height: 1; border: none; padding: 0 1; background: $surface; }
    Chooser Lines { height: auto; }
    .-ascii Chooser #chooser-box { border: ascii $line; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("down,ctrl+n,tab", "move(1)", show=False, priority=True),
        Binding("up,ctrl+p,shift+tab", "move(-1)", show=False, priority=True),
        Binding("pagedown", "pages(1)", show=False),
        Binding("pageup", "pages(-1)", show=False),
    ]

    def __init__(self, words: str, entries: Sequence[Entry], nothing: str) -> None:
        super().__init__()
        self._entries = entries
        self.line = Input(placeholder=words, compact=True, id="chooser-line")
        self.line.cursor_blink = False
        self.table: RowsTable[Entry] = RowsTable(COLUMNS, id="chooser-table", empty=(((nothing, "muted"),),))
        self.table.HEAD = 0
        self.table.always_active = True
        self.table.can_focus = False
        self.details = Lines([[]] * (DETAILS + 1), "ground")

    @property
    def _me(self) -> GpuscaleApp:
        return self.app  # type: ignore[return-value]

    def compose(self) -> ComposeResult:
        """A box at the top."""
        with Vertical(id="chooser-box"):
            yield self.line
            yield self.table
            yield self.details

    def on_mount(self) -> None:
        """Everything, before anything is typed."""
        self.set_focus(self.line)
        self._show("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """What fits."""
        self._show(event.value)

    def _show(self, typed: str) -> None:
        found = fitting(typed, self._entries)
        self.table.restart()
        self.table.put(len(found), 0, found, self._me.now())

    def on_row_pointed(self, _event: RowPointed) -> None:
        """More about the one under the cursor."""
        row, only_ascii = self.table.pointed, self._me.look.glyphs.ascii
        shown = row.details[:DETAILS] if row is not None else ()
        lines: list[Line] = [[], *([(f"  {clean(each, ascii_only=only_ascii)}", "text")] for each in shown)]
        self.details.change([*lines, *([[]] * (DETAILS - len(shown)))])

    def on_input_submitted(self) -> None:
        """Enter takes what the cursor is on."""
        row = self.table.pointed
        self.dismiss(row.id if row is not None else None)

    def on_row_opened(self, _event: RowOpened) -> None:
        """So does a double click."""
        self.on_input_submitted()

    def action_leave(self) -> None:
        """Nothing."""
        self.dismiss(None)

    def action_move(self, rows: int) -> None:
        """Up and down."""
        self.table.move_by(rows)

    def action_pages(self, pages: int) -> None:
        """Up and down by pages."""
        self.table.move_pages(pages)
