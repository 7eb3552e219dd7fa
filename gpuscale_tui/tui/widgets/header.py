"""The lines at the top of every screen: the truth about money, engine and counts; the tabs; the banner."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from textual import events
from textual.strip import Strip
from textual.widget import Widget

from gpuscale_tui.tui.actions import SCREENS, by_id
from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.look import Line, Look, Span, first_that_fits
from gpuscale_tui.tui.widgets.truth import Facts, variants

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp


class Bar(Widget):
    """A line of the screen's frame, drawn by itself."""

    DEFAULT_CSS = "Bar { height: 1; width: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._drawn: Strip | None = None

    @property
    def gpuscale(self) -> GpuscaleApp:
        """The application, by its own type."""
        return self.app  # type: ignore[return-value]

    @property
    def look(self) -> Look:
        """How lines are drawn now."""
        return self.gpuscale.look

    def draw(self, width: int) -> Strip:
        """The line."""
        raise NotImplementedError

    def repaint(self) -> None:
        """Paint again if the line looks different."""
        if self.size.width and self.draw(self.size.width) != self._drawn:
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The line, as Textual asks for it."""
        strip = self.draw(self.size.width) if y == 0 else Strip.blank(self.size.width)
        self._drawn = strip
        return strip


class Header(Bar):
    """Money used, reserved and allowed, today's sum, the engine, the counts. Always true, or it says that it is old."""

    def draw(self, width: int) -> Strip:
        """The richest variant that fits."""
        app = self.gpuscale
        facts = Facts(app.snapshot, app.now(), app.reader.age(app.now()), app.readonly)
        return self.look.strip(first_that_fits(variants(facts, self.look, width), width), width, "bar")


SHORT_LABELS = MappingProxyType({"checkpoints": "Ckpts"})
"""What makes all tabs fit in 80 columns."""


class Tabs(Bar):
    """The screens on number keys; the one shown is marked."""

    def __init__(self, current: str) -> None:
        super().__init__()
        self._current = current

    def draw(self, width: int) -> Strip:
        """All tabs with full words, shorter ones where they do not fit."""
        return self.look.strip(first_that_fits(self._variants(), width), width)

    def _variants(self) -> list[Line]:
        return [self._tabs(12, {}), self._tabs(12, SHORT_LABELS), self._tabs(5, SHORT_LABELS), self._tabs(0, {})]

    def _tabs(self, letters: int, short: Mapping[str, str]) -> list[Span]:
        spans: list[Span] = [(" ", "text")]
        for number, name in enumerate(SCREENS, 1):
            here = name == self._current
            label = short.get(name, by_id()[f"screen.{name}"].label)
            label = label if here and not letters else label[:letters]
            spans += [(f" {number} ", "tab" if here else "key"), (f"{label} ", "tab" if here else "muted")]
        return spans

    def on_click(self, event: events.Click) -> None:
        """A click on a tab shows its screen."""
        position = 0
        spans = first_that_fits(self._variants(), self.size.width)
        for index, (text, _) in enumerate(spans):
            position += len(text)
            if event.x < position and index:
                self.gpuscale.show_screen(SCREENS[(index - 1) // 2])
                return


class Banner(Bar):
    """A line that every screen shows: which money is at stake, why there is no engine. Gone when there is neither."""

    def on_mount(self) -> None:
        """Nothing is known of the engine yet."""
        self.display = bool(self.line())

    def line(self) -> Line:
        """What is to be said."""
        said = clean(self.gpuscale.settings.ui.banner)
        trouble = clean(self.gpuscale.snapshot.engine.note)
        return [
            *([(f" {said} ", "accent")] if said else []),
            *([(f" {self.look.glyphs.warn} {trouble}", "bad")] if trouble else []),
        ]

    def draw(self, width: int) -> Strip:
        """The line."""
        return self.look.strip(self.line(), width, "raised")

    def repaint(self) -> None:
        """Come and go with what is to be said."""
        self.display = bool(self.line())
        super().repaint()
