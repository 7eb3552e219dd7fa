"""Which rows of the screen long lines take when they are wrapped."""

from __future__ import annotations

from collections.abc import Sequence

from gpuscale_tui.tui.logs.draw import pieces
from gpuscale_tui.tui.logs.window import Item

Piece = tuple[int, tuple[int, int]]
"""A row of the layout, and the part of its text (from, to) that stands here."""


def _pieces(index: int, item: Item, room: int) -> list[Piece]:
    return [(index, piece) for piece in (pieces(item.shown.text, room) if item.row.kind == "line" else [(0, 0)])]


def from_top(items: Sequence[tuple[int, Item]], top: int, room: int, hidden: int, page: int) -> list[Piece]:
    """The rows from item `top` on, without the first `hidden` of them."""
    rows: list[Piece] = []
    for index, item in items:
        if index >= top:
            rows += _pieces(index, item, room)
        if len(rows) >= page + hidden:
            break
    return rows[hidden : hidden + page]


def from_bottom(items: Sequence[tuple[int, Item]], room: int, page: int) -> list[Piece]:
    """The rows that end with the last item."""
    rows: list[Piece] = []
    for index, item in reversed(items):
        rows = _pieces(index, item, room) + rows
        if len(rows) >= page:
            break
    return rows[-page:]
