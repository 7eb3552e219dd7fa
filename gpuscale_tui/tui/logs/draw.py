"""How a row of output is drawn: margin, time, number, and the text with the worker's colours and the matches in it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from rich.cells import cell_len, chop_cells

from gpuscale_tui.tui.format import plural, span
from gpuscale_tui.tui.logs.lines import Paint
from gpuscale_tui.tui.logs.window import Item
from gpuscale_tui.tui.look import Look, Span, width_of

Times = Literal["off", "clock", "since"]
TIMES: tuple[Times, ...] = ("off", "clock", "since")
"""When lines came: not shown, as the time of day, as the time since the attempt began to print."""

Matches = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Dress:
    """What rows are drawn with. `numbers` is the width of line numbers, 0 for none."""

    look: Look
    now: int
    times: Times = "off"
    numbers: int = 0
    left: int = 0
    began: Mapping[int, int] = field(default_factory=dict)
    captions: Mapping[int, str] = field(default_factory=dict)


def margin(item: Item, dress: Dress, *, cursor: bool, marked: bool) -> Span:
    """The sign before a row: the cursor, a mark, an error, a warning."""
    glyphs = dress.look.glyphs
    if cursor:
        return glyphs.cursor, "title"
    if marked:
        return glyphs.mark, "accent"
    if item.kind == "error":
        return glyphs.states["failed"], "bad"
    return (glyphs.warn, "warn") if item.kind == "warning" else (" ", "text")


def prefix(item: Item, dress: Dress) -> list[Span]:
    """Time and number of a line."""
    spans: list[Span] = []
    if dress.times != "off":
        spans.append((f"{_time(item, dress):>8} ", "muted"))
    if dress.numbers:
        number = f"{item.row.line + 1:,}" if item.row.kind != "rule" else ""
        spans.append((f"{number:>{dress.numbers}} ", "muted"))
    return spans


def _time(item: Item, dress: Dress) -> str:
    if item.at is None:
        return "-" if item.row.kind != "rule" else ""
    if dress.times == "since":
        return "+" + span(item.at - dress.began.get(item.row.attempt, item.at))
    when, today = (
        datetime.fromtimestamp(value / 1000, UTC).astimezone(dress.look.zone) for value in (item.at, dress.now)
    )
    return f"{when:%H:%M:%S}" if when.date() == today.date() else f"{when:%d.%H:%M}"


def body(item: Item, dress: Dress, matches: Matches, width: int) -> list[Span]:
    """What stands right of the prefix, as far as it is in view."""
    if item.row.kind == "rule":
        return _rule(item, dress, width)
    if item.row.kind == "section":
        return _section(item, dress, width)
    return painted(item.shown.text, item.shown.paint, matches, (dress.left, dress.left + width + 1))


def _rule(item: Item, dress: Dress, width: int) -> list[Span]:
    glyphs = dress.look.glyphs
    words = f" {dress.captions.get(item.row.attempt) or f'attempt {item.row.attempt}'} "
    words = dress.look.cut(words, max(0, width - 2))
    return [(glyphs.rule * 2, "line"), (words, "heading"), (glyphs.rule * (width - 2 - cell_len(words)), "line")]


def _section(item: Item, dress: Dress, width: int) -> list[Span]:
    row, glyphs = item.row, dress.look.glyphs
    sign = "-" if row.open else "+"
    if not glyphs.ascii:
        sign = "▾" if row.open else "▸"
    head: list[Span] = [(f"{sign} epoch {row.epoch:<3} ", "strong"), (f"{plural(row.count, 'line'):>12}  ", "muted")]
    text = plain(item.shown.text, ascii_only=glyphs.ascii)
    return [*head, (dress.look.cut(text, max(0, width - width_of(head))), "muted" if row.open else "text")]


def plain(text: str, *, ascii_only: bool) -> str:
    """A harmless text in the signs that the terminal has; as long as before."""
    return text.encode("ascii", "replace").decode() if ascii_only else text


def painted(text: str, paint: Paint, matches: Matches, view: tuple[int, int]) -> list[Span]:
    """A part of a text: in the worker's colours, and the matches marked above them."""
    start, end = min(view[0], len(text)), min(view[1], len(text))
    matches = [(a, b) for a, b in matches if b > start and a < end]
    cuts = {start, end}
    for low, high in [*((a, b) for a, b, _ in paint), *matches]:
        cuts |= {min(max(low, start), end), min(max(high, start), end)}
    edges = sorted(cuts)
    spans: list[Span] = []
    for low, high in itertools.pairwise(edges):
        role = next((role for a, b, role in paint if a <= low < b), "text")
        if any(a <= low < b for a, b in matches):
            role = "match"
        spans.append((text[low:high], role))
    return spans


def pieces(text: str, width: int) -> list[tuple[int, int]]:
    """Where a text is broken to be shown whole in rows of so many cells; one empty piece for an empty text."""
    if not text or width <= 0:
        return [(0, len(text))]
    if text.isascii():
        return [(at, min(at + width, len(text))) for at in range(0, len(text), width)]
    found: list[tuple[int, int]] = []
    at = 0
    for piece in chop_cells(text, width):
        found.append((at, at + len(piece)))
        at += len(piece)
    return found
