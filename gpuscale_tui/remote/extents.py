"""Which bytes of a file have arrived."""

from __future__ import annotations

from collections.abc import Iterable

Extent = tuple[int, int]
"""From the first byte to the one after the last."""


def merged(extents: Iterable[Extent]) -> list[Extent]:
    """The same bytes in as few extents as possible, in order; empty ones go."""
    found: list[Extent] = []
    for start, end in sorted(extents):
        if start >= end:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def missing(extents: Iterable[Extent], size: int, *, grain: int, longest: int) -> list[Extent]:
    """What lacks of a file of `size` bytes, in order, in pieces of at most `longest`.

    Each piece begins at a multiple of `grain`, so that a few bytes may be asked for again.
    """
    found: list[Extent] = []
    position = 0
    for start, end in (*merged(extents), (size, size)):
        position = position // grain * grain if position < start else position
        while position < start:
            found.append((position, min(position + longest, start)))
            position = found[-1][1]
        position = max(position, end)
    return found


def reach(extents: Iterable[Extent], position: int) -> int:
    """How far the bytes go on without a gap from `position`."""
    for start, end in merged(extents):
        if start <= position < end:
            return end
    return position


def covered(extents: Iterable[Extent]) -> int:
    """How many bytes there are."""
    return sum(end - start for start, end in merged(extents))
