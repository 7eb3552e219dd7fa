"""All keys and what they do, made from the table of actions; those of the screen that asked come first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from gpuscale_tui.tui.actions import ACTIONS, Action, on_screen
from gpuscale_tui.tui.keymap import display_keys
from gpuscale_tui.tui.look import Line, wrap
from gpuscale_tui.tui.widgets.page_view import PageView
from gpuscale_tui.tui.widgets.title import Title

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp

KEYS = 16
LABEL = 12


def help_lines(screen: str, keymap: Mapping[str, str], width: int) -> list[Line]:
    """The page for a screen: its own actions by group, then those of other screens."""
    here = on_screen(screen)
    lines: list[Line] = []
    for title, actions in (("on this screen", here), ("on other screens", [a for a in ACTIONS if a not in here])):
        lines += [[(f" {title.upper()}", "title")], []] if not lines else [[], [(f" {title.upper()}", "title")], []]
        groups = list(dict.fromkeys(action.group for action in actions))
        for group in sorted(groups, key=lambda name: name in {"Everywhere", "Moving"}):
            lines.append([(f" {group}", "heading")])
            for action in actions:
                if action.group == group:
                    lines += _action_lines(action, keymap, width)
            lines.append([])
    return lines[:-1]


def _action_lines(action: Action, keymap: Mapping[str, str], width: int) -> list[Line]:
    keys = "  ".join(display_keys(action, keymap))
    room = width - KEYS - LABEL - 4
    beside = room >= 30
    words = wrap(action.help.replace("`", ""), room if beside else width - KEYS - 4)
    label = f"{action.label:<{LABEL}} " if beside else ""
    first: Line = [(f"  {keys:<{KEYS}}", "key"), (label, "strong"), (words[0], "text")]
    indent = " " * (KEYS + 2 + len(label))
    return [first, *([(indent, "text"), (line, "text")] for line in words[1:])]


class Help(ModalScreen[None]):
    """The page of keys over the screen that it is about."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter", "leave", show=False),
        Binding("j,down", "scroll(1)", show=False),
        Binding("k,up", "scroll(-1)", show=False),
        Binding("ctrl+d,pagedown,space", "page(1)", show=False),
        Binding("ctrl+u,pageup", "page(-1)", show=False),
        Binding("g,home", "end(False)", show=False),
        Binding("G,end", "end(True)", show=False),
    ]

    def __init__(self, screen_name: str) -> None:
        super().__init__()
        self._screen_name = screen_name
        self.page = PageView(id="help-page")

    def compose(self) -> ComposeResult:
        """A tall box."""
        with Vertical(id="help-box"):
            self.heading = Title()
            yield self.heading
            yield self.page

    def on_mount(self) -> None:
        """Write the page."""
        app: GpuscaleApp = self.app  # type: ignore[assignment]
        self.heading.tell([("Keys", "title"), (f"  on {self._screen_name}", "muted")], [("Esc closes", "muted")])
        self.page.write(lambda width: help_lines(self._screen_name, app.keymap, width), app.now())
        self.set_focus(self.page)

    def action_leave(self) -> None:
        """Close it."""
        self.dismiss(None)

    def action_scroll(self, rows: int) -> None:
        """Scroll."""
        self.page.move_by(rows)

    def action_page(self, pages: int) -> None:
        """Scroll by pages."""
        self.page.move_pages(pages)

    def action_end(self, last: bool) -> None:
        """To the beginning or the end."""
        self.page.move_to_end(last)
