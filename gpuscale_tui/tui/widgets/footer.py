"""The keys that work here, in one line; what does not apply to the row under the cursor is dim."""

from __future__ import annotations

from textual import events
from textual.strip import Strip

from gpuscale_tui.tui.actions import Action, on_screen
from gpuscale_tui.tui.keymap import display_keys
from gpuscale_tui.tui.look import Span, width_of
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.header import Bar

LAST = ("help",)
"""Always shown, whatever else there is no room for."""

PASSING = ("undo",)
"""Shown only while they apply."""


class Footer(Bar):
    """Keys and words, most useful first; a click on one does it."""

    def __init__(self, screen_name: str) -> None:
        super().__init__()
        self._actions = [action for action in on_screen(screen_name) if action.footer]
        self._hits: list[tuple[int, int, str]] = []
        self.subject = Subject()

    def show(self, subject: Subject) -> None:
        """The cursor is on something else."""
        self.subject = subject
        self.repaint()

    def draw(self, width: int) -> Strip:
        """As many keys as fit; help is always among them."""
        passing = [action.id for action in self._actions if action.id in PASSING and not self._off(action)]
        shown = [action for action in self._actions if action.id not in PASSING or action.id in passing]
        actions = sorted(shown, key=lambda action: (action.id not in passing, action.footer))
        chosen, left = [], width - 1 - sum(width_of(self._key(a)) for a in actions if a.id in LAST)
        for action in actions:
            if action.id in LAST:
                continue
            needed = width_of(self._key(action))
            if needed <= left:
                chosen.append(action)
                left -= needed
        chosen += [action for action in actions if action.id in LAST]
        spans: list[Span] = [(" ", "text")]
        self._hits = []
        for action in chosen:
            start = width_of(spans)
            spans += self._key(action)
            self._hits.append((start, width_of(spans), action.id))
        return self.look.strip(spans, width, "bar")

    def _off(self, action: Action) -> bool:
        return bool(self.gpuscale.why_not(action, self.subject))

    def _key(self, action: Action) -> list[Span]:
        key = display_keys(action, self.gpuscale.keymap)[0]
        off = self._off(action)
        return [(key, "line" if off else "key"), (f" {action.label}  ", "line" if off else "text")]

    async def on_click(self, event: events.Click) -> None:
        """A click on a key does what the key does."""
        for start, end, action_id in self._hits:
            if start <= event.x < end:
                await self.gpuscale.do(action_id)
