"""Which files of a checkpoint directory are written in full, judged by looks at it from outside.

A checkpoint that is stored while its program still writes it is worse than none: it would be resumed from. Hence a
file counts as complete only on evidence: it stood still, it was renamed into its place, a marker announces it, or its
command has ended. Everything here is pure: the looks are arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Entry(Protocol):
    """One entry of a look: what `remote.listing.RemoteFile` has. Times are UTC ms by the machine's clock."""

    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def mtime(self) -> int: ...
    @property
    def changed_at(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def stamp(self) -> str: ...
    @property
    def inode(self) -> int: ...
    @property
    def target(self) -> str: ...


E = TypeVar("E", bound=Entry)


@dataclass(frozen=True, slots=True)
class Listing(Generic[E]):
    """One look at a directory: what is in it, and the machine's clock (UTC ms) when the look began."""

    clock: int
    files: Sequence[E]


@dataclass(frozen=True, slots=True)
class Choice(Generic[E]):
    """What may be stored now (`files`: also directories and links), what must be waited for, what is never taken while
    the job runs; the last two as path and reason."""

    files: tuple[E, ...]
    waiting: tuple[tuple[str, str], ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()
