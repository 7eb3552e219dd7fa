"""What every screen has: the frame, its bindings from the table of actions, and how it is fed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import Widget

from gpuscale_tui.tui.actions import by_id, on_screen
from gpuscale_tui.tui.messages import RowOpened, RowPointed, Snapshot
from gpuscale_tui.tui.reader import Wish
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.footer import Footer
from gpuscale_tui.tui.widgets.header import Banner, Header, Tabs
from gpuscale_tui.tui.widgets.window import WindowView

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp
    from gpuscale_tui.tui.widgets.filter import FilterBar

SETTLE_SEC = 1.0
"""A key waits so long at most for what the keys before it have asked for."""

C = TypeVar("C")


def bindings_for(name: str) -> list[BindingType]:
    """The bindings of one screen, from the table."""
    leaving: list[BindingType] = [
        Binding("enter", "screen.leave_line(True)", show=False, priority=True),
        Binding("escape", "screen.leave_line(False)", show=False, priority=True),
    ]
    return leaving + [
        Binding(
            action.keys,
            f"screen.do('{action.id}')",
            action.label,
            show=False,
            id=action.id,
            tooltip=action.help,
            priority=action.at_once,
        )
        for action in on_screen(name)
    ]


class BaseScreen(Screen[None], Generic[C]):
    """A screen of the application. A subclass gives NAME, BINDINGS, `body`, `wish` and `feed`.

    `wish` says what to read, as functions of a connection; `feed` gets what they returned. Neither is ever awaited.
    """

    NAME: ClassVar[str] = ""
    TAB: ClassVar[str] = ""
    LINE: ClassVar[str] = ""
    """What the line for typing says while it is empty."""

    AUTO_FOCUS = ""

    @property
    def gpuscale(self) -> GpuscaleApp:
        """The application, by its own type."""
        return self.app  # type: ignore[return-value]

    def compose(self) -> ComposeResult:
        """The frame around the body."""
        yield Header()
        yield Banner()
        yield Tabs(self.TAB or self.NAME)
        yield from self.body()
        yield Footer(self.NAME)

    def body(self) -> Iterable[Widget]:
        """The widgets between tabs and footer."""
        raise NotImplementedError

    def wish(self) -> Wish:
        """What is to be read for this screen as it stands now."""
        return Wish(self)

    def feed(self, content: C, output: object, now: int) -> None:
        """Show what was read."""

    def subject(self) -> Subject:
        """What actions would act on."""
        return Subject(engine=self.gpuscale.snapshot.engine.kind)

    def took(self, snapshot: Snapshot) -> None:
        """Something was read: by this screen's wish, or only the header's truth."""
        for bar in (*self.query(Header), *self.query(Banner)):
            bar.repaint()
        if snapshot.owner is self and not snapshot.error:
            self.feed(snapshot.content, snapshot.output, snapshot.taken_at)  # type: ignore[arg-type]
        self.refresh_footer()

    def ticked(self, now: int) -> None:
        """A second has gone by."""
        for bar in self.query(Header):
            bar.repaint()
        for view in self.query(WindowView):
            view.tick(now)

    def refresh_footer(self) -> None:
        """The footer shows what applies now."""
        for footer in self.query(Footer):
            footer.show(self.subject())

    def on_screen_resume(self) -> None:
        """The screen is shown again: read for it at once."""
        self.gpuscale.poke()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a line is typed in, the keys are letters; only the form's own actions go on."""
        if action == "leave_line":
            return self.line is not None and self.focused is self.line
        typing = action == "do" and self.focused is not None and not isinstance(self.focused, WindowView)
        return not typing or by_id()[str(parameters[0])].where == ("form",)

    async def action_leave_line(self, kept: bool) -> None:
        """Leave the line that is typed in (Enter, Escape); what it chose is shown before the next key is taken."""
        line = self.line
        if line is None:
            return
        self.set_focus(self.moved)
        line.leave(kept=kept)
        settled = asyncio.Event()
        line.call_later(self.call_later, settled.set)
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SEC):
                await settled.wait()
                await self.gpuscale.reader.read()

    async def action_do(self, action_id: str) -> None:
        """Carry out an action of the table."""
        await self.gpuscale.do(action_id)

    def on_row_pointed(self, _event: RowPointed) -> None:
        """The cursor is on something else."""
        self.refresh_footer()

    async def on_row_opened(self, _event: RowOpened) -> None:
        """A double click is as good as Enter."""
        await self.gpuscale.do("open")

    async def caught_up(self) -> None:
        """Wait until the row under the cursor is here: keys that come in a burst mean what they will show."""
        view = self.moving
        if view is not None and view.lacks_row:
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SEC):
                    await self.gpuscale.reader.read()

    @property
    def moved(self) -> WindowView[Any] | None:
        """What the moving keys move when nothing else has the focus: the first view."""
        return next((view for view in self.query(WindowView) if view.can_focus and view.display), None)

    @property
    def moving(self) -> WindowView[Any] | None:
        """What the moving keys move."""
        return self.focused if isinstance(self.focused, WindowView) else self.moved

    @property
    def line(self) -> FilterBar | None:
        """The line that a filter or a search is typed in, once it was opened."""
        return next((widget for widget in self.query("#filter")), None)  # type: ignore[return-value]

    @property
    def typed(self) -> str:
        """What stands in the line."""
        return self.line.value if self.line is not None else ""

    async def open_line(self, *, anew: bool = False) -> None:
        """Type a filter or a search, after what stands there or (`anew`) instead of it."""
        line = self.line
        if line is None:
            from gpuscale_tui.tui.widgets import filter as typing_line

            line = typing_line.FilterBar(self.LINE)
            await self.mount(line, before=next(iter(self.query("#why")), None) or self.query_one(Footer))
        line.open(anew=anew)

    def close_line(self) -> None:
        """Empty and hide the line."""
        if self.line is not None:
            self.line.close()

    def on_filter_bar_moved(self, event: FilterBar.Moved) -> None:
        """The arrows move in the list while a filter is typed."""
        view = self.moved
        if view is not None:
            view.move_by(event.rows)
            view.move_pages(event.pages)

    def do_move_down(self) -> None:
        """One row down."""
        self._move_by(1)

    def do_move_up(self) -> None:
        """One row up."""
        self._move_by(-1)

    def _move_by(self, rows: int) -> None:
        if self.moving is not None:
            self.moving.move_by(rows)

    def do_move_page_down(self) -> None:
        """One page down."""
        if self.moving is not None:
            self.moving.move_pages(1)

    def do_move_page_up(self) -> None:
        """One page up."""
        if self.moving is not None:
            self.moving.move_pages(-1)

    def do_move_first(self) -> None:
        """To the first row."""
        if self.moving is not None:
            self.moving.move_to_end(last=False)

    def do_move_last(self) -> None:
        """To the last row."""
        if self.moving is not None:
            self.moving.move_to_end(last=True)

    def do_back(self) -> None:
        """Leave a page; a list stays where it is."""
        if len(self.app.screen_stack) > 1 and self.NAME != self.TAB:
            self.app.pop_screen()
