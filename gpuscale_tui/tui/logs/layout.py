"""Which line stands in which row: all of them, those that match, or sections folded; several attempts as one.

Everything here is computed from how many lines each attempt has and from numbers of lines: no text is read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gpuscale_tui.tui.logs.numbers import Numbers

ALL = 0
"""The attempt of a stream that shows all attempts as one."""

NONE = Numbers()


@dataclass(frozen=True, slots=True)
class Stream:
    """The output of one attempt of a job, or (`attempt` ALL) of all of them one after the other."""

    job_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Part:
    """An attempt, and how many lines and bytes its output has."""

    attempt: int
    lines: int
    size: int = 0


Kind = Literal["line", "rule", "section"]


@dataclass(frozen=True, slots=True)
class Row:
    """What stands in one row: a line, a rule before an attempt, or a section, of `count` lines from `line`."""

    kind: Kind
    attempt: int
    line: int = 0
    count: int = 1
    epoch: int = 0
    open: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows that follow each other: one special row, lines `first` and on, or the lines of `numbers`."""

    rows: int
    attempt: int
    first: int = 0
    numbers: Numbers | None = None
    special: Row | None = None

    def at(self, place: int) -> Row:
        """One of them."""
        if self.special is not None:
            return self.special
        line = self.first + place if self.numbers is None else self.numbers[place]
        return Row("line", self.attempt, line)

    def place(self, line: int) -> int:
        """Where the first row stands that is a line or comes after it."""
        if self.special is not None:
            return 0 if line < self.special.line + self.special.count else 1
        found = line - self.first if self.numbers is None else self.numbers.rank(line)
        return max(0, min(found, self.rows))


class Layout:
    """Rows `0 .. total-1` and what stands in each."""

    __slots__ = ("_ends", "parts", "segments", "total")

    def __init__(self, parts: Sequence[Part], segments: Sequence[Segment]) -> None:
        self.parts = tuple(parts)
        self.segments = [segment for segment in segments if segment.rows]
        self._ends: list[int] = []
        self.total = 0
        for segment in self.segments:
            self.total += segment.rows
            self._ends.append(self.total)

    def at(self, index: int) -> Row:
        """What stands in a row."""
        place = bisect_right(self._ends, index)
        segment = self.segments[place]
        return segment.at(index - (self._ends[place] - segment.rows))

    def find(self, attempt: int, line: int) -> int:
        """The row of a line, or of what comes after where it is not shown; at most the last row."""
        for segment, end in zip(self.segments, self._ends, strict=True):
            if segment.attempt < attempt or (segment.special is not None and segment.special.kind == "rule"):
                continue
            if segment.attempt > attempt:
                return end - segment.rows
            place = segment.place(line)
            if segment.special is not None and segment.special.open:
                place = max(place, min(1, max(0, line - segment.special.line + 1)))
            if place < segment.rows:
                return end - segment.rows + place
        return max(0, self.total - 1)


Build = Callable[[Sequence[Part]], Layout]
"""Makes a layout once it is known how many lines there are."""


def rules(parts: Sequence[Part]) -> Mapping[int, Segment]:
    """The rules before attempts, by attempt; none where there is one attempt only."""
    if len(parts) < 2:
        return {}
    return {part.attempt: Segment(1, part.attempt, special=Row("rule", part.attempt, count=0)) for part in parts}


def plain(parts: Sequence[Part]) -> Layout:
    """Every line."""
    ruled = rules(parts)
    segments: list[Segment] = []
    for part in parts:
        if part.attempt in ruled:
            segments.append(ruled[part.attempt])
        segments.append(Segment(part.lines, part.attempt))
    return Layout(parts, segments)


def filtered(numbers: Mapping[int, Numbers]) -> Build:
    """Only some lines of each attempt."""

    def build(parts: Sequence[Part]) -> Layout:
        ruled = rules(parts)
        segments: list[Segment] = []
        for part in parts:
            found = numbers.get(part.attempt, NONE)
            if part.attempt in ruled:
                segments.append(ruled[part.attempt])
            segments.append(Segment(len(found), part.attempt, numbers=found))
        return Layout(parts, segments)

    return build


Mark = tuple[int, int]
"""A line with which an epoch begins, and its number."""


def folded(marks: Mapping[int, Sequence[Mark]], unfolded: frozenset[tuple[int, int]]) -> Build:
    """The lines of each epoch as one row, but those of sections that were unfolded: (attempt, first line)."""

    def build(parts: Sequence[Part]) -> Layout:
        ruled = rules(parts)
        segments: list[Segment] = []
        for part in parts:
            if part.attempt in ruled:
                segments.append(ruled[part.attempt])
            segments += _sections(part, merged(marks.get(part.attempt, ())), unfolded)
        return Layout(parts, segments)

    return build


def merged(marks: Sequence[Mark]) -> list[Mark]:
    """The marks without those that only say again which epoch it is."""
    kept: list[Mark] = []
    for mark in marks:
        if not kept or kept[-1][1] != mark[1]:
            kept.append(mark)
    return kept


def _sections(part: Part, marks: Sequence[Mark], unfolded: frozenset[tuple[int, int]]) -> list[Segment]:
    first = min(marks[0][0], part.lines) if marks else part.lines
    segments = [Segment(first, part.attempt)]
    for place, (line, epoch) in enumerate(marks):
        end = min(marks[place + 1][0] if place + 1 < len(marks) else part.lines, part.lines)
        if end <= line:
            continue
        is_open = (part.attempt, line) in unfolded
        section = Row("section", part.attempt, line, end - line, epoch, is_open)
        segments.append(Segment(1, part.attempt, special=section))
        if is_open:
            segments.append(Segment(end - line, part.attempt, line))
    return segments
