"""How the pages of a job and of a machine are written: labelled texts, wrapped to a width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.look import Line, Look, Span, wrap

LABEL = 12
"""Cells of a label."""


@dataclass(frozen=True, slots=True)
class Page:
    """How a page is written: its look, the time (UTC ms) and its width."""

    look: Look
    now: int
    width: int

    def foreign(self, text: str) -> str:
        """A text from outside, cleaned."""
        return clean(text, ascii_only=self.look.glyphs.ascii)

    def rule(self, title: str) -> Line:
        """A line that begins a part of the page."""
        rule = self.look.glyphs.rule
        return [
            (f" {rule}{rule} ", "line"),
            (title, "heading"),
            (" " + rule * max(0, self.width - len(title) - 6), "line"),
        ]

    def fact(self, label: str, text: str, role: str = "text") -> list[Line]:
        """A labelled text, wrapped under itself."""
        lines = wrap(self.foreign(text), max(10, self.width - LABEL - 3))
        first: Line = [(f" {label:<{LABEL}} ", "muted"), (lines[0], role)]
        return [first, *([(" " * (LABEL + 2), "text"), (line, role)] for line in lines[1:])]

    def facts(self, pairs: Sequence[tuple[str, str]]) -> list[Line]:
        """Short labelled texts, two beside each other where there is room."""
        pairs = [(label, text) for label, text in pairs if text]
        columns = 2 if self.width >= 76 else 1
        cell = self.width // columns - LABEL - 3
        lines: list[Line] = []
        for start in range(0, len(pairs), columns):
            spans: list[Span] = []
            for label, text in pairs[start : start + columns]:
                spans += [(f" {label:<{LABEL}} ", "muted"), (self.look.fit(self.foreign(text), cell) + " ", "text")]
            lines.append(spans)
        return lines
