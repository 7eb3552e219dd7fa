"""What the screen has told, the newest first: a toast is gone in seconds, what it said is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.look import Line, Look, wrap
from gpuscale_tui.tui.messages import Told
from gpuscale_tui.tui.widgets.page_view import PageView
from gpuscale_tui.tui.widgets.title import Title

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp

ROLES = {"error": "bad", "warning": "warn"}
WORDS = {"error": "error", "warning": "warning"}


def lines_of(told: Sequence[Told], look: Look, now: int, width: int) -> list[Line]:
    """Time, what kind it was, and the words."""
    lines: list[Line] = []
    for each in reversed(told):
        kind = WORDS.get(each.severity, "")
        lead = f" {look.when(each.at, now):>8}  "
        sign = f"{look.glyphs.warn} {kind}: " if kind else ""
        for number, part in enumerate(wrap(sign + clean(each.text, ascii_only=look.glyphs.ascii), width - len(lead))):
            role = ROLES.get(each.severity, "text")
            lines.append([(lead if not number else " " * len(lead), "muted"), (part, role)])
    return lines or [[(" Nothing was told yet.", "muted")]]


class MessagesPage(ModalScreen[None]):
    """The last messages over the screen."""

    DEFAULT_CSS = """
    #told-box { width: 96; max-width: 96%; height: 80%; background: $background; border: round $line; }
    .-ascii #told-box { border: ascii $line; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,i,enter", "leave", show=False),
        Binding("j,down", "scroll(1)", show=False),
        Binding("k,up", "scroll(-1)", show=False),
        Binding("ctrl+d,ctrl+f,pagedown", "page(1)", show=False),
        Binding("ctrl+u,pageup", "page(-1)", show=False),
    ]

    def __init__(self, told: Sequence[Told]) -> None:
        super().__init__()
        self._told = told
        self.page = PageView(id="told-page")
        self.heading = Title()

    def compose(self) -> ComposeResult:
        """A tall box."""
        with Vertical(id="told-box"):
            yield self.heading
            yield self.page

    def on_mount(self) -> None:
        """Write the page."""
        app: GpuscaleApp = self.app  # type: ignore[assignment]
        self.heading.tell(
            [("Messages", "title"), (f"  the last {len(self._told)}", "muted")], [("Esc closes", "muted")]
        )
        now = app.now()
        self.page.write(lambda width: lines_of(self._told, app.look, now, width), now)
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
