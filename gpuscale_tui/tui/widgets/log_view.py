"""A job's output: opened at its end, followed until the reader scrolls up, any window of it at once, searched."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from textual.strip import Strip

from gpuscale_tui.store import logs
from gpuscale_tui.tui.format import MAX_CLEANED, clean, plural
from gpuscale_tui.tui.look import Span
from gpuscale_tui.tui.messages import FollowChanged
from gpuscale_tui.tui.reader import OutputQuery
from gpuscale_tui.tui.widgets.window import WindowView

SEARCH_LINES = 5_000
"""Lines that one step of a search looks at; other readings come in between."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The output of one attempt."""

    job_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Window:
    """Lines of a stream as they were read; `total` is how many it has."""

    stream: Stream
    total: int
    first: int
    lines: tuple[bytes, ...]


def read_window(stream: Stream, first: int | None, count: int) -> OutputQuery:
    """A query for `count` lines from `first`; None means the last ones."""

    def query(connection: sqlite3.Connection) -> Window:
        total = logs.line_count(connection, stream.job_id, stream.attempt)
        start = max(0, total - count) if first is None else min(first, max(0, total - 1))
        found = logs.lines(connection, stream.job_id, stream.attempt, start, count)
        return Window(stream, total, start, tuple(found))

    return query


def find_in(stream: Stream, pattern: re.Pattern[str], first: int, count: int) -> OutputQuery:
    """A query for the numbers of the lines of a window that match."""

    def query(connection: sqlite3.Connection) -> tuple[int, ...]:
        found = logs.lines(connection, stream.job_id, stream.attempt, first, count)
        return tuple(first + place for place, line in enumerate(found) if pattern.search(visible(line)))

    return query


def search_order(total: int, start: int, *, backwards: bool) -> list[tuple[int, int]]:
    """Windows (first, number) that cover all lines once: from `start` on, or what is before it, then round the end."""
    start = min(max(0, start), total)
    after = [(at, min(SEARCH_LINES, total - at)) for at in range(start, total, SEARCH_LINES)]
    before = [(at, min(SEARCH_LINES, start - at)) for at in range(0, start, SEARCH_LINES)]
    return before[::-1] + after[::-1] if backwards else after + before


def visible(line: bytes, *, ascii_only: bool = False) -> str:
    """A line as a terminal would be left with it: what follows the last carriage return, cleaned."""
    kept = line.rstrip(b"\r").rpartition(b"\r")[2][: 4 * MAX_CLEANED]
    return clean(kept.decode("utf-8", "replace"), ascii_only=ascii_only)


class LogView(WindowView[bytes]):
    """Lines of one stream. `follow` keeps the end in view; any upward move ends that."""

    def __init__(self, *, id: str | None = None, empty: str = "No output yet.") -> None:  # noqa: A002
        super().__init__(id=id)
        self.empty = empty
        self.stream: Stream | None = None
        self.follow = True
        self.pattern: re.Pattern[str] | None = None
        self.unseen = 0
        self.left = 0
        self.hit: int | None = None

    def open(self, stream: Stream | None) -> bool:
        """Show a stream from its end; False when it is shown already."""
        if stream == self.stream:
            return False
        self.stream, self.unseen, self.left, self.hit = stream, 0, 0, None
        self.fetched = False
        self._set_follow(True)
        self.put(0, 0, (), self.now)
        self.fetched = False
        return True

    def wanted(self) -> tuple[object, OutputQuery | None]:
        """The key and the query for what is to be seen."""
        if self.stream is None:
            return None, None
        first, count = self.window()
        chosen = None if self.follow else first
        return (self.stream, chosen, count), read_window(self.stream, chosen, 3 * self.page)

    def take(self, window: Window, now: int) -> None:
        """Take lines that were read."""
        if window.stream != self.stream:
            return
        grown = window.total - self.total
        if self.follow or not self.fetched:
            self.unseen = 0
        elif grown > 0:
            self.unseen += grown
        self.put(window.total, window.first, window.lines, now)
        if self.follow:
            self.go_to_line(max(0, window.total - self.page))
        self.post_message(FollowChanged(self.follow))

    def badge(self) -> Span:
        """Whether the end is followed, and how much came since it is not."""
        if self.follow:
            return f"{self.look.glyphs.states['running']} following", "good"
        more = f"  {self.look.glyphs.falling} {plural(self.unseen, 'new line')}" if self.unseen else ""
        return (
            f"{self.look.glyphs.states['idle']} line {min(self.top + self.page, self.total):,} of {self.total:,}{more}",
            "warn",
        )

    def draw_item(self, index: int, item: bytes, width: int) -> Strip:
        """One line, cleaned, its matches marked."""
        text = visible(item, ascii_only=self.look.glyphs.ascii)[self.left :]
        base = "raised" if index == self.hit else "ground"
        return self.look.strip(self._marked(text), width, base)

    def _marked(self, text: str) -> list[Span]:
        if self.pattern is None:
            return [(" " + text, "text")]
        spans: list[Span] = [(" ", "text")]
        end = 0
        for match in self.pattern.finditer(text):
            if match.end() > match.start():
                spans += [(text[end : match.start()], "text"), (match.group(), "match")]
                end = match.end()
        return [*spans, (text[end:], "text")]

    def draw_beyond(self, index: int, width: int) -> Strip:
        """What to expect where there is nothing."""
        if self.total == 0 and index == 0 and (self.fetched or self.stream is None):
            return self.look.strip([(" " + self.empty, "muted")], width)
        return super().draw_beyond(index, width)

    def _set_follow(self, follow: bool) -> None:
        if follow != self.follow:
            self.follow = follow
            if follow:
                self.unseen = 0
            self.post_message(FollowChanged(follow))

    def follow_end(self) -> None:
        """Go to the end and stay there."""
        self._set_follow(True)
        self.go_to_line(self.total)
        self.gpuscale.poke()

    def move_by(self, rows: int) -> None:
        """Scroll; upwards ends following, coming to the end begins it."""
        if rows < 0:
            self._set_follow(False)
        self.go_to_line(self.top + rows)
        if rows > 0 and self.top + self.page >= self.total:
            self.follow_end()

    def move_to_end(self, last: bool) -> None:
        """To the first line, or to the end to follow it."""
        if last:
            self.follow_end()
        else:
            self._set_follow(False)
            self.go_to_line(0)
            self.gpuscale.poke()

    def go_to(self, line: int) -> None:
        """Show a line in the middle and mark it."""
        self._set_follow(False)
        self.hit = line
        self.go_to_line(max(0, line - self.page // 2))
        self.forget_drawn()
        self.gpuscale.poke()

    def shift(self, cells: int) -> None:
        """Show what is to the right, or left for a negative number."""
        self.left = max(0, self.left + cells)
        self.forget_drawn()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """The wheel and the scroll bar end following too."""
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value and self.top + self.page < self.total:
            self._set_follow(False)
