"""The palette: every action, screen, theme, job and machine by a few letters, and commands that are typed.

What was chosen last comes first. Jobs and machines are asked of the store, a page of those that fit: never all of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
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
from gpuscale_tui.tui import typed as typing
from gpuscale_tui.tui.actions import ACTIONS, Action
from gpuscale_tui.tui.format import clean, gpus
from gpuscale_tui.tui.keymap import display_keys
from gpuscale_tui.tui.look import Look, Span
from gpuscale_tui.tui.messages import RowOpened
from gpuscale_tui.tui.widgets.columns import Column
from gpuscale_tui.tui.widgets.rows_table import RowsTable

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp
    from gpuscale_tui.tui.subjects import Subject

MOST = 50
MOST_JOBS = 20
MOST_RECENT = 12
UNKNOWN = 9
"""Rank of what the store found by a text that its label does not show."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to choose: `id` is `action:...`, `theme:...`, `job:17`, `worker:3` or `typed:...`; texts are cleaned.

    `line:...` stays and puts a text into the line. `off` says why it does not apply now.
    """

    id: str
    label: str
    text: str
    key: str = ""
    off: str = ""


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


def rank(typed: str, entry: Entry) -> int | None:
    """How well an entry fits: by its label, else by what is said of it."""
    by_label, by_text = score(typed, entry.label), score(typed, entry.text)
    if by_label is not None:
        return by_label
    if by_text is not None and by_text < 3:
        return by_text + 4
    return UNKNOWN if entry.id.startswith(("job:", "worker:")) else None


def ranked(typed: str, entries: Iterable[Entry], recent: Sequence[str] = ()) -> list[Entry]:
    """The entries that fit, best first; of equal ones those that were chosen last."""
    fitting = []
    for place, entry in enumerate(entries):
        best = rank(typed, entry)
        if best is not None:
            age = recent.index(entry.id) if entry.id in recent else len(recent)
            fitting.append((best, age, bool(entry.off) and not typed, place, entry))
    return [item[-1] for item in sorted(fitting, key=lambda item: item[:-1])]


def find_things(connection: sqlite3.Connection, typed: str) -> list[Entry]:
    """Jobs and machines by name, id or GPU."""
    found = []
    for row in queries.job_rows(connection, JobFilter(text=typed), limit=MOST_JOBS):
        found.append(Entry(f"job:{row.id}", f"{job_label(row.id)} {clean(row.name)}", f"job, {row.state}"))
    for machine in queries.worker_rows(connection):
        label = f"{worker_label(machine.id)} {clean(gpus(machine.gpu_type, machine.gpu_count))}"
        if score(typed, label) in {0, 1, 2}:
            found.append(Entry(f"worker:{machine.id}", label, f"machine, {machine.state}"))
    return found


def jobs_for_command(connection: sqlite3.Connection, word: str, typed: str) -> list[Entry]:
    """Jobs that `logs` or `job` may mean."""
    return [
        Entry(typing.Command(word, str(row.id)).id, f"{word} {row.id}", clean(f"{row.name}, {row.state}"))
        for row in queries.job_rows(connection, JobFilter(text=typed), limit=MOST_JOBS)
    ]


def _label(row: Entry, look: Look, _now: int) -> Span:
    text = row.label.encode("ascii", "replace").decode() if look.glyphs.ascii else row.label
    return text, "muted" if row.off else "strong"


def _text(row: Entry, look: Look, _now: int) -> Span:
    return (f"{look.glyphs.dot} {row.off}", "line") if row.off else (row.text, "muted")


COLUMNS: tuple[Column[Entry], ...] = (
    Column("", "", 18, _label, grow=1, most=34, id="label"),
    Column("", "", 20, _text, grow=4, id="text"),
    Column("", "", 7, lambda row, _look, _now: (row.key, "key"), right=True, id="key"),
)


class Palette(ModalScreen[Entry]):
    """A line to type in, and what fits. It is dismissed with what was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("tab", "complete", show=False, priority=True),
        Binding("down,ctrl+n", "move(1)", show=False),
        Binding("up,ctrl+p", "move(-1)", show=False),
        Binding("pagedown", "pages(1)", show=False),
        Binding("pageup", "pages(-1)", show=False),
    ]

    def __init__(self, screen_name: str, subject: Subject) -> None:
        super().__init__()
        self._screen_name = screen_name
        self._subject = subject
        self._found: tuple[str, list[Entry]] = ("", [])
        self.line = Input(
            placeholder="an action, a job, a machine, a theme; or `queue failed`, `logs 42`, `q`", compact=True,
            id="palette-line",
        )  # fmt: skip
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
        self._show("", [])

    def _action(self, action: Action) -> Entry:
        me = self._me
        here = self._screen_name in action.where
        off = me.why_not(action, self._subject) if here else f"on the screen {action.where[0]}"
        label = action.label[0].upper() + action.label[1:]
        key = " ".join(display_keys(action, me.keymap)[:1])
        return Entry(f"action:{action.id}", label, action.help.replace("`", ""), key, off)

    def _fixed(self, typed: str) -> list[Entry]:
        me = self._me
        entries = [
            self._action(a) for a in ACTIONS if a.palette and (self._screen_name in a.where or (typed and a.where))
        ]
        if not typed:
            return [entry for entry in me.recent if not entry.id.startswith("action:")] + entries
        names = themes.available(me.theme_places)
        skins = [Entry(f"theme:{name}", f"Theme {name}", "colours") for name in names]
        return [*entries, *skins]

    def _typed(self, typed: str) -> list[Entry]:
        """What the line says as a command, and what it may become."""
        me, command = self._me, typing.parse(typed)
        names = themes.available(me.theme_places)
        whole = []
        if command is not None and command.kind == "action":
            found = next(a for a in ACTIONS if a.id == command.name)
            whole = [Entry(f"action:{found.id}", typed.strip(": "), found.help.replace("`", ""), off="")]
        elif command is not None and (command.kind != "theme" or command.name in names):
            whole = [Entry(command.id, typed.strip().removeprefix(":").strip(), typing.words_of(command))]
        lines = typing.completions(typed, names, me.filter_fields())
        more = [
            Entry(f"line:{line}" if line.endswith((" ", ":")) else typing.parse(line).id, line.strip(), "a command")  # type: ignore[union-attr]
            for line in lines
            if line.endswith((" ", ":")) or typing.parse(line) is not None
        ]
        return [*whole, *(more if " " in typed.strip() or typed.startswith(":") or typed.endswith(" ") else [])]

    def on_input_changed(self, event: Input.Changed) -> None:
        """Find what fits; the store is asked beside."""
        typed = event.value
        kept = self._found[1] if self._found[0] == typed else []
        self._show(typed, kept)
        if typed.strip(": "):
            search: Any = partial(self._find, typed)
            self.run_worker(search, exclusive=True, group="find")

    async def _find(self, typed: str) -> None:
        text = typed.strip().removeprefix(":").strip()
        word, blank, rest = text.partition(" ")
        read = self._me.reader.database.read
        if blank and word in typing.OF_JOBS:
            things = await read(jobs_for_command, word, rest.strip())
        else:
            things = await read(find_things, text)
        if typed == self.line.value:
            self._found = (typed, things)
            self._show(typed, things)

    def _show(self, typed: str, things: list[Entry]) -> None:
        """Commands first, then what fits best."""
        recent = [entry.id for entry in self._me.recent]
        text = typed.strip().removeprefix(":")
        commands = self._typed(typed)
        word = text.partition(" ")[0]
        asks_for_a_job = word in typing.OF_JOBS and " " in text
        best = things if asks_for_a_job else ranked(text, [*self._fixed(text), *things], recent)
        shown = list({entry.id: entry for entry in [*commands, *best]}.values())[:MOST]
        self.table.restart()
        self.table.put(len(shown), 0, shown, self._me.now())

    def on_input_submitted(self) -> None:
        """Enter takes what the cursor is on; what only goes on typing stays."""
        row = self.table.pointed
        if row is not None and row.id.startswith("line:"):
            self._write(row.id.removeprefix("line:"))
        else:
            self.dismiss(row)

    def _write(self, text: str) -> None:
        self.line.value = text
        self.line.cursor_position = len(text)

    def on_row_opened(self, _event: RowOpened) -> None:
        """So does a double click."""
        self.on_input_submitted()

    def action_complete(self) -> None:
        """Tab writes what the cursor is on into the line, where that is a command."""
        row = self.table.pointed
        if row is None:
            return
        kind, _, name = row.id.partition(":")
        if kind == "line":
            self._write(name)
        elif kind == "typed":
            self._write(row.label)
        elif kind == "theme":
            self._write(f"theme {name}")
        elif name.startswith("screen."):
            self._write(f"{name.removeprefix('screen.')} ")

    def action_leave(self) -> None:
        """Nothing."""
        self.dismiss(None)

    def action_move(self, rows: int) -> None:
        """Up and down."""
        self.table.move_by(rows)

    def action_pages(self, pages: int) -> None:
        """Up and down by pages."""
        self.table.move_pages(pages)
