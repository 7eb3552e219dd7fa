"""Numbers of lines, ascending, very many of them: kept in blocks, four bytes each, and never changed in place."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

SMALL = 4_096
"""Blocks of fewer numbers are put together, so that a log that grows line by line has few of them."""


class Numbers:
    """Ascending line numbers. `before` and `after` give new ones; what a thread holds does not change under it."""

    __slots__ = ("_blocks", "_ends", "_firsts")

    def __init__(self, blocks: Iterable[array[int]] = ()) -> None:
        self._blocks = tuple(block for block in blocks if block)
        self._firsts = [block[0] for block in self._blocks]
        self._ends: list[int] = []
        total = 0
        for block in self._blocks:
            total += len(block)
            self._ends.append(total)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> int:
        place = bisect_right(self._ends, index)
        return self._blocks[place][index - (self._ends[place - 1] if place else 0)]

    def rank(self, line: int) -> int:
        """How many are smaller than a line's number."""
        place = bisect_right(self._firsts, line) - 1
        if place < 0:
            return 0
        return (self._ends[place - 1] if place else 0) + bisect_left(self._blocks[place], line)

    def has(self, line: int) -> bool:
        """Whether a line is among them."""
        rank = self.rank(line)
        return rank < len(self) and self[rank] == line

    def before(self, numbers: array[int]) -> Numbers:
        """These, and smaller ones before them."""
        if self._blocks and len(self._blocks[0]) + len(numbers) < SMALL:
            return Numbers((numbers + self._blocks[0], *self._blocks[1:]))
        return Numbers((numbers, *self._blocks))

    def after(self, numbers: array[int]) -> Numbers:
        """These, and greater ones after them."""
        if self._blocks and len(self._blocks[-1]) + len(numbers) < SMALL:
            return Numbers((*self._blocks[:-1], self._blocks[-1] + numbers))
        return Numbers((*self._blocks, numbers))

    def until(self, line: int) -> Numbers:
        """Only those that are smaller than a line's number."""
        kept = [block for block in self._blocks if block[0] < line]
        if kept and kept[-1][-1] >= line:
            kept[-1] = kept[-1][: bisect_left(kept[-1], line)]
        return self if len(kept) == len(self._blocks) and self._same_end(kept) else Numbers(kept)

    def _same_end(self, kept: list[array[int]]) -> bool:
        return not kept or kept[-1] is self._blocks[-1]
