"""Changing a value in place: what it means, and a line to type in with what is wrong beside it, or a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.look import Line, wrap
from gpuscale_tui.tui.widgets.confirm import Choice, Lines, Question

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp


class ChangeValue(ModalScreen[str]):
    """A line to type in. It is dismissed with the text once that is right, or with None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False, priority=True)]
    AUTO_FOCUS = ""
    DEFAULT_CSS = """
    ChangeValue Input { height: 1; border: none; padding: 0 1; background: $panel; }
    """

    def __init__(
        self,
        title: str,
        text: Sequence[Line | str],
        value: str,
        check: Callable[[str], object],
        *,
        secret: bool = False,
    ) -> None:
        """`check` takes what is typed and raises a GpuscaleError that says what is wrong with it."""
        super().__init__()
        self._title = title
        self._text = text
        self._check = check
        self.line = Input(value, compact=True, password=secret, select_on_focus=False, id="value")
        self.line.cursor_blink = False
        self.said = Lines([[]])

    @property
    def _width(self) -> int:
        return max(20, min(self.app.size.width - 6, 74) - 4)

    def compose(self) -> ComposeResult:
        """A box in the middle."""
        lines: list[Line] = [[(f" {self._title}", "title")], []]
        for part in self._text:
            lines += (
                [[(f" {each}", "text")] for each in wrap(part, self._width - 2)] if isinstance(part, str) else [part]
            )
        with Vertical(id="box"):
            yield Lines([*lines, []])
            yield self.line
            yield self.said

    def on_mount(self) -> None:
        """Type at once, after what stands there."""
        self.set_focus(self.line)
        self.line.cursor_position = len(self.line.value)
        self._judge()

    def _judge(self) -> str:
        """Say what is wrong with what is typed."""
        app: GpuscaleApp = self.app  # type: ignore[assignment]
        look, wrong = app.look, ""
        try:
            self._check(self.line.value)
        except GpuscaleError as error:
            wrong = clean(str(error), ascii_only=look.glyphs.ascii)
        hint: list[Line] = [[(" Enter", "key"), (" keeps it   ", "muted"), ("Esc", "key"), (" leaves it", "muted")]]
        sign = look.glyphs.states["failed"]
        self.said.change(
            [[], *([[(f" {each}", "bad")] for each in wrap(f"{sign} {wrong}", self._width - 2)] if wrong else hint)]
        )
        return wrong

    def on_input_changed(self, _event: Input.Changed) -> None:
        """Each letter is judged."""
        self._judge()

    def on_input_submitted(self, _event: Input.Submitted) -> None:
        """Enter keeps what is right."""
        if not self._judge():
            self.dismiss(self.line.value)

    def action_leave(self) -> None:
        """Nothing is changed."""
        self.dismiss(None)


class Pick(Question[int | None]):
    """A list to choose from; the present choice has the focus. `look_at` is called with each that comes under the
    cursor, and with the first one again when the list is left: a preview."""

    def __init__(
        self,
        title: str,
        text: Sequence[Line | str],
        options: Sequence[str],
        present: int,
        look_at: Callable[[int], None] | None = None,
    ) -> None:
        keys = "123456789abcdefghi"
        answers = [(keys[place] if place < len(keys) else " ", option, place) for place, option in enumerate(options)]
        super().__init__(title, text, answers, otherwise=None, focus=max(0, present))
        self._present = max(0, present)
        self._look_at = look_at
        self.at = self._present

    def action_next(self, step: int) -> None:
        """The next one."""
        choices = list(self.query(Choice))
        self._go((self.at + step) % len(choices))

    def _go(self, place: int) -> None:
        self.at = place
        self.query(Choice)[place].focus()
        if self._look_at is not None:
            self._look_at(place)

    def action_take(self) -> None:
        """The one under the cursor."""
        self.answer(self.at)

    def action_leave(self) -> None:
        """Leave it as it was."""
        if self._look_at is not None and self.at != self._present:
            self._look_at(self._present)
        super().action_leave()

    def on_key(self, event: events.Key) -> None:
        """A number answers; with a preview it only goes there, and Enter takes it."""
        if self._look_at is None:
            return
        event.prevent_default()
        place = next((place for place, (key, _, _) in enumerate(self._answers) if event.character == key), None)
        if place is not None:
            event.stop()
            self._go(place)
