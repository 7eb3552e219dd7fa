"""Questions: nothing destructive happens without one that says what it costs; the harmless answer has the focus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widget import Widget

from gpuscale_tui.tui.look import Line, Span, wrap

if TYPE_CHECKING:
    from textual.widgets import Input

    from gpuscale_tui.tui.app import GpuscaleApp
    from gpuscale_tui.tui.look import Look

A = TypeVar("A")


class Lines(Widget):
    """A few fixed lines."""

    DEFAULT_CSS = "Lines { height: auto; width: 1fr; }"

    def __init__(self, lines: Sequence[Line], base: str = "raised") -> None:
        super().__init__()
        self._lines = lines
        self._base = base

    @property
    def _look(self) -> Look:
        app: GpuscaleApp = self.app  # type: ignore[assignment]
        return app.look

    def get_content_height(self, container: object, viewport: object, width: int) -> int:  # noqa: ARG002
        """As many lines as there are."""
        return len(self._lines)

    def change(self, lines: Sequence[Line]) -> None:
        """Show other lines."""
        layout = len(lines) != len(self._lines)
        if lines != self._lines:
            self._lines = lines
            self.refresh(layout=layout)

    def render_line(self, y: int) -> Strip:
        """One line."""
        line = self._lines[y] if y < len(self._lines) else ()
        return self._look.strip(line, self.size.width, self._base)


class Choice(Widget, can_focus=True):
    """One answer: its key and words, worked by the key, by Enter when it has the focus, or by a click."""

    DEFAULT_CSS = "Choice { height: 1; width: 1fr; }"

    def __init__(self, index: int, key: str, words: str) -> None:
        super().__init__()
        self.index = index
        self._key = key
        self._words = words

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 - it has one line
        """The answer, marked while it has the focus."""
        app: GpuscaleApp = self.app  # type: ignore[assignment]
        look = app.look
        mark = look.glyphs.cursor if self.has_focus else " "
        spans: list[Span] = [(f" {mark} ", "title"), (f"{self._key}", "key"), (f"  {self._words}", "text")]
        return look.strip(spans, self.size.width, "cursor" if self.has_focus else "raised")

    def on_focus(self) -> None:
        """It looks different."""
        self.refresh()

    def on_blur(self) -> None:
        """It looks different."""
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """A click answers."""
        event.stop()
        self.screen.answer(self.index)  # type: ignore[attr-defined]


class Question(ModalScreen[A], Generic[A]):
    """A title, some lines, some answers. Escape gives `otherwise`; so does the first answer when that stands there."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("down,j,tab,right", "next(1)", show=False),
        Binding("up,k,shift+tab,left", "next(-1)", show=False),
        Binding("enter", "take", show=False),
    ]
    AUTO_FOCUS = ""

    def __init__(
        self,
        title: str,
        text: Sequence[Line | str],
        answers: Sequence[tuple[str, str, A]],
        otherwise: A,
        focus: int = 0,
    ) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._answers = answers
        self._otherwise = otherwise
        self._first = focus

    def compose(self) -> ComposeResult:
        """A box in the middle."""
        app: GpuscaleApp = self.app  # type: ignore[assignment]
        width = max(20, min(app.size.width - 6, 74) - 4)
        lines: list[Line] = [[(f" {self._title}", "title")], []]
        for part in self._text:
            lines += [[(f" {line}", "text")] for line in wrap(part, width - 2)] if isinstance(part, str) else [part]
        with Vertical(id="box"):
            yield Lines([*lines, []])
            for index, (key, words, _) in enumerate(self._answers):
                yield Choice(index, key, words)

    def on_mount(self) -> None:
        """The harmless answer has the focus."""
        self.query(Choice)[self._first].focus()

    def answer(self, index: int) -> None:
        """Give an answer."""
        self.dismiss(self._answers[index][2])

    def action_leave(self) -> None:
        """No answer: the harmless one."""
        self.dismiss(self._otherwise)

    def action_next(self, step: int) -> None:
        """The next answer."""
        choices = list(self.query(Choice))
        current = next((c.index for c in choices if c.has_focus), 0)
        choices[(current + step) % len(choices)].focus()

    def action_take(self) -> None:
        """The answer that has the focus."""
        self.answer(next((c.index for c in self.query(Choice) if c.has_focus), self._first))

    def on_key(self, event: events.Key) -> None:
        """An answer's own key."""
        for index, (key, _, _) in enumerate(self._answers):
            if event.character == key:
                event.stop()
                self.answer(index)
                return


def confirm(title: str, text: Sequence[Line | str], yes: str, no: str = "no, leave it as it is") -> Question[bool]:
    """A question with yes and no; no has the focus."""
    return Question(title, text, [("n", no, False), ("y", yes, True)], otherwise=False)


class Notice(Question[None]):
    """Something to read."""

    def __init__(self, title: str, text: Sequence[Line | str]) -> None:
        super().__init__(title, text, [("q", "close", None)], otherwise=None)


class TypedNumber(ModalScreen[bool]):
    """A question about so many things that their number has to be typed to say yes."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]

    def __init__(self, title: str, text: Sequence[str], number: int) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._number = number

    def compose(self) -> ComposeResult:
        """A box in the middle with a line to type in."""
        from textual.widgets import Input

        app: GpuscaleApp = self.app  # type: ignore[assignment]
        width = max(20, min(app.size.width - 6, 74) - 4)
        lines: list[Line] = [[(f" {self._title}", "title")], []]
        for part in self._text:
            lines += [[(f" {line}", "text")] for line in wrap(part, width - 2)]
        how: Line = [
            (" Type ", "muted"),
            (str(self._number), "key"),
            (" and Enter to do it, Esc to leave it.", "muted"),
        ]
        line = Input(compact=True, id="number")
        line.cursor_blink = False
        with Vertical(id="box"):
            yield Lines([*lines, [], how])
            yield line

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter: yes with the right number; with any other it is asked on."""
        if event.value.strip().replace(",", "") == str(self._number):
            self.dismiss(True)
        else:
            event.input.value = ""
            self.notify(f"That is not {self._number:,}", timeout=2)

    def action_leave(self) -> None:
        """No."""
        self.dismiss(False)
