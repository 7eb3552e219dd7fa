"""All keys and what they do, made from the table of actions: letters narrow the list, Enter does what it points at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from gpuscale_tui.tui.actions import ACTIONS, Action
from gpuscale_tui.tui.keymap import display_keys
from gpuscale_tui.tui.look import Look, Span
from gpuscale_tui.tui.messages import RowOpened, RowPointed
from gpuscale_tui.tui.widgets.columns import Column
from gpuscale_tui.tui.widgets.rows_table import RowsTable
from gpuscale_tui.tui.widgets.title import Title
from gpuscale_tui.tui.widgets.why import Why

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp
    from gpuscale_tui.tui.subjects import Subject


@dataclass(frozen=True, slots=True)
class Row:
    """One action: `group` is said where it begins, `off` why it does not apply now."""

    id: str
    keys: str
    label: str
    text: str
    group: str
    off: str = ""


def rows(screen: str, keymap: Mapping[str, str], why_not: Mapping[str, str]) -> list[Row]:
    """Every action: those of the screen by group, then those of other screens, which say where they are."""
    here = [action for action in ACTIONS if screen in action.where]
    elsewhere = [action for action in ACTIONS if screen not in action.where]
    made: list[Row] = []
    for actions in (here, elsewhere):
        groups = sorted(dict.fromkeys(a.group for a in actions), key=lambda name: name in {"Everywhere", "Moving"})
        for group in groups:
            made += [_row(a, keymap, why_not, screen) for a in actions if a.group == group]
    return made


def _row(action: Action, keymap: Mapping[str, str], why_not: Mapping[str, str], screen: str) -> Row:
    off = why_not.get(action.id, "") if screen in action.where else f"on the screen {' or '.join(action.where[:3])}"
    keys = " ".join(display_keys(action, keymap))
    return Row(action.id, keys, action.label, action.help.replace("`", ""), action.group, off)


def fits(row: Row, typed: str) -> bool:
    """Whether every word is in the row; a single sign may be its key."""
    text = f"{row.label} {row.text} {row.group} {row.id}".casefold()
    if typed.strip() in row.keys.split():
        return True
    return all(word in text or word in row.keys.split() for word in typed.casefold().split())


def _first(row: Row, typed: str) -> tuple[bool, bool, bool]:
    """Those whose key or label was typed come first, those that do not apply last."""
    word = typed.casefold().strip()
    return typed.strip() not in row.keys.split(), not row.label.casefold().startswith(word), bool(row.off)


def _words(row: Row, look: Look, _now: int) -> Span:
    return (f"{look.glyphs.dot} {row.off}", "muted") if row.off else (row.text, "text")


COLUMNS: tuple[Column[Row], ...] = (
    Column("", "GROUP", 10, lambda row, _look, _now: (row.group, "heading"), drop=1, id="group"),
    Column("", "KEY", 12, lambda row, _look, _now: (row.keys, "muted" if row.off else "key"), id="key"),
    Column("", "DOES", 13, lambda row, _look, _now: (row.label, "muted" if row.off else "strong"), id="label"),
    Column("", "", 30, _words, grow=1, id="text"),
)


class Help(ModalScreen[str]):
    """The page of keys over the screen that it is about. It is dismissed with the id of an action to carry out."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("f1", "leave", show=False, priority=True),
        Binding("down", "move(1)", show=False),
        Binding("up", "move(-1)", show=False),
        Binding("pagedown,ctrl+d", "pages(1)", show=False, priority=True),
        Binding("pageup,ctrl+u", "pages(-1)", show=False, priority=True),
    ]

    def __init__(self, screen_name: str, subject: Subject) -> None:
        super().__init__()
        self._screen_name = screen_name
        self._subject = subject
        self._rows: list[Row] = []
        self.line = Input(
            placeholder="letters narrow the list; Enter does it, Esc closes", compact=True, id="help-line"
        )
        self.line.cursor_blink = False
        self.table: RowsTable[Row] = RowsTable(COLUMNS, id="help-table", empty=((("No key does that.", "muted"),),))
        self.table.HEAD = 0
        self.table.always_active = True
        self.table.can_focus = False
        self.why = Why()

    @property
    def _me(self) -> GpuscaleApp:
        return self.app  # type: ignore[return-value]

    def compose(self) -> ComposeResult:
        """A tall box."""
        with Vertical(id="help-box"):
            self.heading = Title()
            yield self.heading
            yield self.line
            yield self.table
            yield self.why

    def on_mount(self) -> None:
        """All keys."""
        me = self._me
        off = {action.id: me.why_not(action, self._subject) for action in ACTIONS}
        self._rows = rows(self._screen_name, me.keymap, off)
        self.set_focus(self.line)
        self._show("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow the list; `/` first is as good as without, and `?` again closes."""
        if event.value == "?":
            self.dismiss(None)
        else:
            self._show(event.value.removeprefix("/"))

    def _show(self, typed: str) -> None:
        found = [row for row in self._rows if fits(row, typed)]
        if typed.strip():
            found.sort(key=lambda row: _first(row, typed))
        self.heading.tell(
            [("Keys", "title"), (f"  on {self._screen_name}", "muted")],
            [(f"{len(found)} of {len(self._rows)}", "muted")],
        )
        self.table.restart()
        self.table.put(len(found), 0, found, self._me.now())
        self._tell()

    def on_row_pointed(self, _event: RowPointed) -> None:
        """The whole sentence of another one."""
        self._tell()

    def _tell(self) -> None:
        row = self.table.pointed
        if row is None:
            self.why.tell(("", "text"), "")
            return
        text = f"{row.text} Not now: {row.off}." if row.off else row.text
        self.why.tell((row.keys.split()[0] if row.keys else row.label, "key"), text)

    def on_input_submitted(self) -> None:
        """Carry it out, or say why not."""
        row = self.table.pointed
        if row is not None and row.off:
            self._me.notify(row.off[0].upper() + row.off[1:], timeout=3, markup=False)
        elif row is not None:
            self.dismiss(row.id)

    def on_row_opened(self, _event: RowOpened) -> None:
        """A double click too."""
        self.on_input_submitted()

    def action_leave(self) -> None:
        """What was typed goes first, then the page."""
        if self.line.value:
            self.line.value = ""
        else:
            self.dismiss(None)

    def action_move(self, rows: int) -> None:
        """Up and down."""
        self.table.move_by(rows)

    def action_pages(self, pages: int) -> None:
        """Up and down by pages."""
        self.table.move_pages(pages)
