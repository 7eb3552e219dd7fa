"""The palette: every action that applies here, every screen, theme, job and machine, found by a few letters."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.store import queries
from gpuscale_tui.store.views import JobFilter
from gpuscale_tui.tui import theme as themes
from gpuscale_tui.tui.actions import ACTIONS
from gpuscale_tui.tui.format import clean, gpus
from gpuscale_tui.tui.keymap import display_keys
from gpuscale_tui.tui.look import Look, Span
from gpuscale_tui.tui.messages import RowOpened
from gpuscale_tui.tui.widgets.columns import Column
from gpuscale_tui.tui.widgets.rows_table import RowsTable

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp

MOST = 50


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to choose: `id` is `action:...`, `theme:...`, `job:17` or `worker:3`; the texts are cleaned."""

    id: str
    label: str
    text: str
    key: str = ""


def score(typed: str, label: str) -> int | None:
    """How well letters fit a label, lower is better: at its beginning, at a word's, within, scattered; None: not."""
    typed, label = typed.casefold().strip(), label.casefold()
    if not typed:
        return 0
    place = label.find(typed)
    if place == 0:
        return 0
    if place > 0:
        return 1 if not label[place - 1].isalnum() else 2
    rest = iter(label)
    return 3 if all(letter in rest for letter in typed.replace(" ", "")) else None


def ranked(typed: str, entries: Iterable[Entry]) -> list[Entry]:
    """The entries that fit, best first."""
    fitting = []
    for place, entry in enumerate(entries):
        by_label, by_text = score(typed, entry.label), score(typed, entry.text)
        best = by_label if by_label is not None else by_text + 4 if by_text is not None and by_text < 3 else None
        if best is not None:
            fitting.append((best, place, entry))
    return [entry for _, _, entry in sorted(fitting, key=lambda item: item[:2])]


def find_things(connection: sqlite3.Connection, typed: str) -> list[Entry]:
    """Jobs and machines by name, id or GPU."""
    found = []
    for row in queries.job_rows(connection, JobFilter(text=typed), limit=20):
        found.append(Entry(f"job:{row.id}", f"{job_label(row.id)} {clean(row.name)}", f"job, {row.state}"))
    for machine in queries.worker_rows(connection):
        label = f"{worker_label(machine.id)} {clean(gpus(machine.gpu_type, machine.gpu_count))}"
        if score(typed, label) in {0, 1, 2}:
            found.append(Entry(f"worker:{machine.id}", label, f"machine, {machine.state}"))
    return found


def _label(row: Entry, look: Look, _now: int) -> Span:
    return row.label.encode("ascii", "replace").decode() if look.glyphs.ascii else row.label, "strong"


COLUMNS: tuple[Column[Entry], ...] = (
    Column("", "", 18, _label, grow=1, most=34),
    Column("", "", 20, lambda row, _look, _now: (row.text, "muted"), grow=4),
    Column("", "", 7, lambda row, _look, _now: (row.key, "key"), right=True),
)


class Palette(ModalScreen[str]):
    """A line to type in, and what fits. It is dismissed with the id of what was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("down,ctrl+n", "move(1)", show=False),
        Binding("up,ctrl+p", "move(-1)", show=False),
        Binding("pagedown", "pages(1)", show=False),
        Binding("pageup", "pages(-1)", show=False),
    ]

    def __init__(self, screen_name: str) -> None:
        super().__init__()
        self._screen_name = screen_name
        self.line = Input(placeholder="an action, a job, a machine, a theme", compact=True, id="palette-line")
        self.line.cursor_blink = False
        self.table: RowsTable[Entry] = RowsTable(COLUMNS, id="palette-table", empty=((("Nothing fits.", "muted"),),))
        self.table.HEAD = 0
        self.table.always_active = True
        self.table.can_focus = False

    @property
    def _me(self) -> GpuscaleApp:
        return self.app  # type: ignore[return-value]

    def compose(self) -> ComposeResult:
        """A box at the top."""
        with Vertical(id="palette-box"):
            yield self.line
            yield self.table

    def on_mount(self) -> None:
        """Everything, before anything is typed."""
        self.set_focus(self.line)
        self._show(self._fixed(""))

    def _fixed(self, typed: str) -> list[Entry]:
        me = self._me
        actions = [
            Entry(
                f"action:{a.id}",
                a.label.capitalize(),
                a.help.replace("`", ""),
                " ".join(display_keys(a, me.keymap)[:1]),
            )
            for a in ACTIONS
            if a.palette and self._screen_name in a.where
        ]
        skins = [Entry(f"theme:{name}", f"Theme {name}", "colours") for name in themes.available(me.theme_places)]
        return ranked(typed, [*actions, *(skins if typed else [])])

    def on_input_changed(self, event: Input.Changed) -> None:
        """Find what fits; the store is asked beside."""
        self._show(self._fixed(event.value))
        if event.value.strip():
            search: Any = partial(self._find, event.value)
            self.run_worker(search, exclusive=True, group="find")

    async def _find(self, typed: str) -> None:
        things = await self._me.reader.database.read(find_things, typed.strip())
        if typed == self.line.value:
            self._show([*self._fixed(typed), *things] if things else self._fixed(typed))

    def _show(self, entries: list[Entry]) -> None:
        self.table.restart()
        self.table.put(len(entries[:MOST]), 0, entries[:MOST], self._me.now())

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
