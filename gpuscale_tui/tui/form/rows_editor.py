"""Rows of a name and a value: the parameters of a sweep, or the variables of a job with its secrets hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input

from gpuscale_tui.tui.form.safe_input import SafeInput
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.widgets.confirm import Lines
from gpuscale_tui.tui.widgets.title import Title

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp

KEYS = "Tab next  ^n new row  ^d remove row  ^s keep  Esc leave as it was"
MEANING = 8
"""Lines below the rows: as many whatever they say, so that nothing moves while one types."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands; the value of a `secret` one is never shown."""

    name: str
    value: str
    secret: bool = False


Judge = Callable[[Sequence[Row]], tuple[Sequence[Line], str]]
"""Says what the rows mean, in a few lines, and what is wrong with them, empty when they may be kept."""


class Part(SafeInput):
    """A name or a value."""

    DEFAULT_CSS = """
    Part { height: 1; border: none; padding: 0 1; background: $surface; }
    Part:focus { background: $panel; border: none; }
    Part.-name { width: 1fr; }
    Part.-value { width: 3fr; }
    """

    def __init__(self, value: str, kind: str, placeholder: str) -> None:
        super().__init__(value, placeholder=placeholder, classes=f"-{kind}")


class Pair(Horizontal):
    """One row."""

    DEFAULT_CSS = "Pair { height: 1; }"

    def __init__(self, row: Row, words: tuple[str, str]) -> None:
        super().__init__()
        self.name_part = Part(row.name, "name", words[0])
        self.value_part = Part(row.value, "value", words[1])
        self.value_part.password = row.secret

    def compose(self) -> ComposeResult:
        """Name, value."""
        yield self.name_part
        yield self.value_part


class RowsEditor(ModalScreen[tuple[Row, ...] | None]):
    """Answers with the rows, None when they are to stay as they were. `secret` says which names are secret ones."""

    DEFAULT_CSS = """
    RowsEditor { align: center middle; background: $background 60%; }
    RowsEditor #box { width: 90; padding: 0 1; }
    RowsEditor #pairs { height: auto; max-height: 12; }
    RowsEditor Lines { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,down,enter", "go(1)", show=False, priority=True),
        Binding("shift+tab,up", "go(-1)", show=False, priority=True),
        Binding("ctrl+n", "add", show=False, priority=True),
        Binding("ctrl+d", "remove", show=False, priority=True),
        Binding("ctrl+s", "keep", show=False, priority=True),
        Binding("escape", "leave", show=False, priority=True),
    ]
    AUTO_FOCUS = ""

    def __init__(
        self,
        title: str,
        rows: Iterable[Row],
        words: tuple[str, str],
        judge: Judge,
        secret: Callable[[str], bool] = lambda _name: False,
    ) -> None:
        super().__init__()
        self._title, self._words, self._judge, self._secret = title, words, judge, secret
        self.pairs = [Pair(row, words) for row in rows] or [Pair(Row("", ""), words)]
        self.hidden = {pair.name_part.value for pair in self.pairs if pair.value_part.password}
        self.meaning = Lines([[]] * MEANING)

    def compose(self) -> ComposeResult:
        """A box with the rows, what they mean, and the keys."""
        self.heading = Title()
        self.keys = Title()
        with Vertical(id="box"):
            yield self.heading
            with VerticalScroll(id="pairs") as pairs:
                pairs.can_focus = False
                yield from self.pairs
            yield self.meaning
            yield self.keys

    def on_mount(self) -> None:
        """The first row has the cursor."""
        self.heading.tell([(self._title, "title")])
        self.keys.tell([(KEYS, "muted")])
        self.set_focus(self.pairs[0].name_part)
        self.show_meaning()

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows that have a name or a value."""
        found = (
            Row(pair.name_part.value.strip(), pair.value_part.text, pair.value_part.password) for pair in self.pairs
        )
        return tuple(row for row in found if row.name or row.value)

    def on_input_changed(self, _event: Input.Changed) -> None:
        """A name may say that its value is secret: it is hidden at once, and stays hidden."""
        for pair in self.pairs:
            if self._secret(pair.name_part.value):
                pair.value_part.password = True
        self.show_meaning()

    def show_meaning(self) -> None:
        """What the rows mean now."""
        lines, wrong = self._judge(self.rows)
        app: GpuscaleApp = self.app  # type: ignore[assignment]
        sign = app.look.glyphs.states["failed"]
        told: list[Line] = [[], *lines, *([[(f" {sign} {wrong}", "bad")]] if wrong else [])]
        self.meaning.change([*told, *([[]] * (MEANING - len(told)))])

    def _parts(self) -> list[Part]:
        return [part for pair in self.pairs for part in (pair.name_part, pair.value_part)]

    async def action_go(self, step: int) -> None:
        """The next part; after the last one a new row, unless that is empty."""
        parts = self._parts()
        at = next((place for place, part in enumerate(parts) if part.has_focus), 0)
        if at + step >= len(parts) and any(part.value.strip() for part in parts[-2:]):
            await self.action_add()
            return
        self.set_focus(parts[(at + step) % len(parts)])

    async def action_add(self) -> None:
        """A new row at the end."""
        pair = Pair(Row("", ""), self._words)
        self.pairs.append(pair)
        await self.query_one("#pairs").mount(pair)
        self.set_focus(pair.name_part)

    async def action_remove(self) -> None:
        """Take the row with the cursor away; the last one is emptied."""
        pair = next((pair for pair in self.pairs if pair.name_part.has_focus or pair.value_part.has_focus), None)
        if pair is None:
            return
        if len(self.pairs) == 1:
            pair.name_part.text = pair.value_part.text = ""
            pair.value_part.password = False
            self.set_focus(pair.name_part)
            return
        at = self.pairs.index(pair)
        self.pairs.remove(pair)
        self.set_focus(self.pairs[max(0, at - 1)].name_part)
        await pair.remove()
        self.show_meaning()

    def action_keep(self) -> None:
        """Take them, when nothing is wrong with them; after the letters that are still on their way."""
        focused = self.focused
        if isinstance(focused, Part):
            focused.call_later(self.call_later, self._keep)
        else:
            self._keep()

    def _keep(self) -> None:
        if not self._judge(self.rows)[1] and self.is_current:
            self.dismiss(self.rows)

    def action_leave(self) -> None:
        """As it was."""
        self.dismiss(None)

    def on_click(self, event: events.Click) -> None:
        """A click beside the box leaves it as it was."""
        if event.widget is self:
            self.dismiss(None)
