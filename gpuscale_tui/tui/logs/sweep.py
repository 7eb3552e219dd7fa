"""Going through all output of a job in slices, the nearest lines first: what is done, what comes next, what was found.

Pure: it says which slice to do and takes what came of it; who does it is not its business.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gpuscale_tui.tui.logs.layout import NONE, Mark, Part
from gpuscale_tui.tui.logs.numbers import Numbers
from gpuscale_tui.tui.logs.scan import Found, Slice

Place = tuple[int, int]
"""An attempt and a line of it."""
MOST_MARKS = 200_000
"""Epochs that are told apart; output that names more of them is no training."""


@dataclass(slots=True)
class _Covered:
    """What was gone through of one attempt: lines `low` up to `high`. `lists` are what was found in them."""

    low: int
    high: int
    low_chunk: int = -1
    high_chunk: int = -1
    back_done: bool = False
    size: int = -1
    lists: list[Numbers] = field(default_factory=lambda: [NONE, NONE])
    epochs: list[Mark] = field(default_factory=list)


class Sweep:
    """One search, or the index of errors, warnings and epochs (`pattern` empty), over the attempts of a stream."""

    def __init__(
        self, job_id: int, start: Place | None, *, backwards: bool = True, pattern: str = "", flags: int = 0
    ) -> None:
        self.job_id = job_id
        self.pattern = pattern
        self.flags = flags
        self.generation = 0
        self._start = start
        self._backwards = backwards
        self._covered: dict[int, _Covered] = {}

    def next(self, parts: Sequence[Part]) -> Slice | None:
        """The slice to do now; None when all was gone through."""
        for part, backwards in self._order(parts):
            done = self._covered.get(part.attempt) or self._begin(part)
            if backwards and not done.back_done:
                return self._slice(part.attempt, done.low, done.low_chunk, forward=False)
            if not backwards and done.size < part.size:  # more may have been read than was known of here
                return self._slice(part.attempt, done.high, done.high_chunk, forward=True)
        return None

    def _order(self, parts: Sequence[Part]) -> Iterator[tuple[Part, bool]]:
        """The parts, each in both directions: first the one that was begun in and what comes next on the way."""
        near = self._start[0] if self._start else (parts[-1].attempt if parts else 0)
        own = [part for part in parts if part.attempt == near]
        before, after = [p for p in parts if p.attempt < near], [p for p in parts if p.attempt > near]
        onward = [*own, *before[::-1], *after[::-1]] if self._backwards else [*own, *after, *before]
        yield from ((part, self._backwards) for part in onward)
        yield from ((part, not self._backwards) for part in onward)

    def _begin(self, part: Part) -> _Covered:
        """The last line is gone through forwards: it may still grow."""
        last = max(0, part.lines - 1)
        line = last
        if self._start is not None and self._start[0] == part.attempt:
            line = min(self._start[1], last)
        elif not self._backwards:
            line = 0
        done = self._covered[part.attempt] = _Covered(line, line, back_done=line == 0)
        return done

    def _slice(self, attempt: int, line: int, chunk: int, *, forward: bool) -> Slice:
        return Slice(self.job_id, attempt, forward, line, chunk, self.pattern, self.flags)

    def take(self, task: Slice, found: Found) -> bool:
        """Take what a slice came upon; whether that was anything."""
        done = self._covered[task.attempt]
        lists = [_numbers(data) for data in found.lines]
        if task.forward:
            kept = [old.until(task.line) for old in done.lists]
            news = [old.after(new) for old, new in zip(kept, lists, strict=False)]
            epochs = [mark for mark in done.epochs if mark[0] < task.line] if found.epochs else done.epochs
            done.epochs = [*epochs, *found.epochs][:MOST_MARKS]
            done.high, done.high_chunk, done.size = found.line, found.chunk, found.size if found.done else -1
        else:
            news = [old.before(new) for old, new in zip(done.lists, lists, strict=False)]
            done.epochs = [*found.epochs, *done.epochs][:MOST_MARKS]
            done.low, done.low_chunk, done.back_done = found.line, found.chunk, found.done
            if found.done:
                done.low = 0
        changed = any(len(old) != len(new) for old, new in zip(done.lists, news, strict=False)) or bool(found.epochs)
        done.lists[: len(news)] = news
        self.generation += changed
        return changed

    def found(self, which: int = 0) -> dict[int, Numbers]:
        """What was found so far, by attempt: matches (0), or errors (0) and warnings (1)."""
        return {attempt: done.lists[which] for attempt, done in self._covered.items()}

    def epochs(self) -> dict[int, tuple[Mark, ...]]:
        """Where epochs begin, by attempt."""
        return {attempt: tuple(done.epochs) for attempt, done in self._covered.items()}

    def count(self, which: int = 0) -> int:
        """How many were found so far."""
        return sum(len(done.lists[which]) for done in self._covered.values())

    def progress(self, parts: Sequence[Part]) -> tuple[int, int]:
        """Lines that were gone through, and how many there are."""
        done = sum(covered.high - covered.low for covered in self._covered.values())
        total = sum(part.lines for part in parts)
        return min(done, total), total


def _numbers(data: bytes) -> array[int]:
    numbers = array("I")
    numbers.frombytes(data)
    return numbers


def nearest(
    found: Mapping[int, Numbers], parts: Sequence[Part], place: Place, *, backwards: bool
) -> tuple[Place, bool] | None:
    """The next place after (or the one before) a place, and whether that goes round the end; None: no place."""
    attempts = [part.attempt for part in parts if len(found.get(part.attempt, NONE))]
    if not attempts:
        return None
    attempt, line = place
    own = found.get(attempt, NONE)
    rank = own.rank(line) if backwards else own.rank(line + 1)
    if backwards and rank > 0:
        return (attempt, own[rank - 1]), False
    if not backwards and rank < len(own):
        return (attempt, own[rank]), False
    beyond = [a for a in attempts if (a < attempt if backwards else a > attempt)]
    other = (beyond or attempts)[-1 if backwards else 0]
    numbers = found[other]
    return (other, numbers[len(numbers) - 1 if backwards else 0]), not beyond


def rank_of(found: Mapping[int, Numbers], place: Place) -> int | None:
    """Which one a place is, counting from 1 over all attempts; None when it is none of them."""
    attempt, line = place
    own = found.get(attempt, NONE)
    if not own.has(line):
        return None
    return sum(len(numbers) for other, numbers in found.items() if other < attempt) + own.rank(line) + 1
