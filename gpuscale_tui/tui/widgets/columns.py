"""Columns of a table: what a cell says, how wide it may be, and which columns go first when there is no room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gpuscale_tui.tui.look import Look, Span

R = TypeVar("R")
GAP = 2
LEAST = 10
"""Cells that a column which may grow keeps in a terminal too narrow for all."""
MARGIN = 2
"""Cells before the first column: the cursor's sign and a blank."""


@dataclass(frozen=True, slots=True)
class Column(Generic[R]):
    """One column.

    `key` is what it is sorted by, empty when it is not. `id` is what it is called where columns are chosen, by default
    its title; an `optional` one is shown only when it was chosen. `value` is what an export writes (row, time), by
    default the cell's text. `width` is what it needs; with `grow` it takes its part of
    what is left over, up to `most`. `drop` says in which order columns go when there is no room: the highest first,
    0 never. `cell` gets the row, the look and the time (UTC ms), and returns cleaned text and its role.
    """

    key: str
    title: str
    width: int
    cell: Callable[[R, Look, int], Span]
    grow: int = 0
    most: int = 200
    drop: int = 0
    right: bool = False
    id: str = ""
    optional: bool = False
    value: Callable[[R, int], object] | None = None

    @property
    def name(self) -> str:
        """What it is called where columns are chosen."""
        return self.id or self.title.lower() or self.key


@dataclass(frozen=True, slots=True)
class Placed(Generic[R]):
    """A column and the cells that it has."""

    column: Column[R]
    start: int
    width: int


def place(columns: Sequence[Column[R]], width: int) -> list[Placed[R]]:
    """Choose the columns that fit and share out what is left over."""
    chosen = list(columns)
    while _needed(chosen) > width and (droppable := [column for column in chosen if column.drop]):
        chosen.remove(max(droppable, key=lambda column: column.drop))
    spare = width - _needed(chosen)
    widths = _grown(chosen, spare) if spare >= 0 else _shrunk(chosen, -spare)
    placed, start = [], MARGIN
    for column, cells in zip(chosen, widths, strict=True):
        placed.append(Placed(column, start, cells))
        start += cells + GAP
    return placed


def chosen(columns: Sequence[Column[R]], names: Sequence[str]) -> list[Column[R]]:
    """The columns with these names, in this order; without names those that are shown by default."""
    known = {column.name: column for column in columns}
    picked = [known[name] for name in names if name in known]
    return picked or [column for column in columns if not column.optional]


def _needed(columns: Sequence[Column[R]]) -> int:
    return MARGIN + sum(column.width for column in columns) + GAP * max(0, len(columns) - 1) + 1


def _shrunk(columns: Sequence[Column[R]], lacking: int) -> list[int]:
    """Where even what must stay does not fit, columns that may grow give way first."""
    widths = [column.width for column in columns]
    for index, column in enumerate(columns):
        if column.grow:
            less = min(lacking, max(0, column.width - LEAST))
            widths[index] -= less
            lacking -= less
    return widths


def _grown(columns: Sequence[Column[R]], spare: int) -> list[int]:
    widths = [column.width for column in columns]
    while spare > 0:
        growing = [i for i, column in enumerate(columns) if column.grow and widths[i] < column.most]
        if not growing:
            break
        parts = sum(columns[i].grow for i in growing)
        for index in growing:
            more = min(-(-spare * columns[index].grow // parts), columns[index].most - widths[index], spare)
            widths[index] += more
            spare -= more
            parts -= columns[index].grow
    return widths
