"""How lines are drawn: a theme's roles as styles, the sign set, the time zone. Made anew with each theme."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.strip import Strip

from gpuscale_tui.tui.format import Glyphs, clean, cut, fit, moment
from gpuscale_tui.tui.theme import ThemeFile

Span = tuple[str, str]
"""A text, cleaned already, and the name of its role."""
Line = Sequence[Span]

REVERSED = Style(reverse=True, bold=True)


@dataclass(frozen=True, slots=True)
class Look:
    """Styles by role, signs, and the zone that times are shown in (None: local)."""

    styles: Mapping[str, Style]
    glyphs: Glyphs
    zone: tzinfo | None = None

    def style(self, role: str) -> Style:
        """The style of a role; an unknown one is plain text."""
        return self.styles.get(role) or self.styles["text"]

    def state(self, state: str) -> Span:
        """Sign and word of a state, in its colour."""
        return f"{self.glyphs.states.get(state, '?')} {state}", f"state-{state}"

    def when(self, at: int | None, now: int) -> str:
        """When something was, or a dash."""
        return "-" if at is None else moment(at, now, self.zone)

    def cut(self, text: str, width: int) -> str:
        """As `format.cut`, with this sign set."""
        return cut(text, width, self.glyphs.ellipsis)

    def fit(self, text: str, width: int, *, right: bool = False) -> str:
        """As `format.fit`, with this sign set."""
        return fit(text, width, right=right, ellipsis=self.glyphs.ellipsis)

    def _on_cursor(self, role: str) -> str:
        """Where the cursor is a reversed row, colours would become patches of ground."""
        if self.styles["cursor"].reverse:
            return "text"
        return "cursor-muted" if self.style(role).color == self.styles["muted"].color else role

    def strip(self, line: Line, width: int, base: str = "ground") -> Strip:
        """A line in exactly `width` cells on the ground of a role: cut with an ellipsis, padded with blanks.

        Texts from outside are cleaned by those who know them; one that was forgotten is cleaned here all the same.
        """
        ground = self.styles[base]
        quiet = base == "cursor"
        segments: list[Segment] = []
        left = width
        for text, role in line:
            if not text.isprintable():
                text = clean(text, ascii_only=self.glyphs.ascii)  # noqa: PLW2901
            length = cell_len(text)
            if length > left:
                text = cut(text, left, self.glyphs.ellipsis)  # noqa: PLW2901
                length = cell_len(text)
            segments.append(Segment(text, ground + self.style(self._on_cursor(role) if quiet else role)))
            left -= length
            if left <= 0:
                break
        if left > 0:
            segments.append(Segment(" " * left, ground))
        return Strip(segments, width)


def make(theme: ThemeFile, glyphs: Glyphs, zone: tzinfo | None) -> Look:
    """The look of a theme."""
    color = {key: Color.parse(value).rich_color for key, value in theme.colors.items()}
    text = Style(color=color["foreground"])
    marked = REVERSED if theme.ansi else Style(bgcolor=color["cursor"], bold=True)
    styles = {
        "text": Style(),
        "ground": text + Style(bgcolor=color["background"]),
        "bar": text + Style(bgcolor=color["panel"]),
        "raised": text + Style(bgcolor=color["surface"]),
        "cursor": text + marked + (Style() if theme.ansi else Style(color=color["cursor-text"])),
        "cursor-blurred": text + (Style(underline=True) if theme.ansi else Style(bgcolor=color["surface"])),
        "cursor-muted": Style(bold=False, color=color["cursor-text"]),
        "muted": Style(color=color["muted"], dim=theme.ansi or None),
        "strong": Style(bold=True),
        "heading": Style(color=color["muted"], bold=True, dim=None),
        "title": Style(color=color["primary"], bold=True),
        "key": Style(color=color["accent"], bold=True),
        "link": Style(color=color["primary"], underline=True),
        "line": Style(color=color["border"], dim=theme.ansi or None),
        "good": Style(color=color["success"]),
        "warn": Style(color=color["warning"], bold=True),
        "bad": Style(color=color["error"], bold=True),
        "accent": Style(color=color["accent"]),
        "tab": text + marked + (Style() if theme.ansi else Style(color=color["cursor-text"])),
        "match": REVERSED,
    }
    for state, value in theme.states.items():
        styles[f"state-{state}"] = Style(color=Color.parse(value).rich_color)
    return Look(styles, glyphs, zone)


def width_of(line: Iterable[Span]) -> int:
    """Cells that a line takes."""
    return sum(cell_len(text) for text, _ in line)


def first_that_fits(variants: Iterable[Line], width: int) -> Line:
    """The first of some lines, from the richest to the leanest, that fits; the last one when none does."""
    chosen: Line = ()
    for chosen in variants:
        if width_of(chosen) <= width:
            break
    return chosen


def wrap(text: str, width: int) -> list[str]:
    """A text in lines of at most `width` cells, broken between words where that is possible."""
    lines: list[str] = []
    current = ""
    for word in text.split(" "):
        candidate = f"{current} {word}" if current else word
        if cell_len(candidate) <= width:
            current = candidate
            continue
        if current:
            lines.append(current)
        current = word
        while cell_len(current) > width > 0:
            head = cut(current, width, "")
            lines.append(head or current[:1])
            current = current[len(head) or 1 :]
    return [*lines, current] if current or not lines else lines
