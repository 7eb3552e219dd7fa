"""Which files of a checkpoint directory are written in full, judged by looks at it from outside.

A checkpoint that is stored while its program still writes it is worse than none: it would be resumed from. Hence a
file counts as complete only on evidence: it stood still, it was renamed into its place, a marker announces it, or its
command has ended. Everything here is pure: the looks are arguments.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from gpuscale_tui.policy.markers import Markers, read_markers, touched

KINDS = frozenset({"file", "directory", "link"})
SMALL_BYTES = 4_096
"""A file that is no larger, and not empty, was written by one call (C and Python collect at least so much before they
write): nothing can have come between."""


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
    the job runs; the last two as path and reason. `small`: paths among the files that were touched just now, and count
    as complete because what is so small is written by one call."""

    files: tuple[E, ...]
    waiting: tuple[tuple[str, str], ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()
    small: frozenset[str] = frozenset()


TEMPORARY = re.compile(
    r"(?:\.?tmp[-_.].*|\.tmp.*|tmp[a-z0-9_]{8}|\.nfs.*|\.#.*|_temp(?:orary)?(?:_.*)?"
    r"|.*\.(?:tmp|temp)(?:[-_.][0-9A-Za-z_-]*|[0-9a-f]{6,}|[0-9]+)?|.*\.tempstate[0-9]*"
    r"|.*\.orbax-checkpoint-tmp(?:-[0-9]+)?"
    r"|.*(?:\.part|\.partial|\.incomplete|\.lock|\.swp|\.crdownload|~|[-_]tmp))\Z"
)
"""Names of what is not finished yet, of a file or of a directory on its way: of atomic writers (torch, transformers,
fsspec, TensorFlow, Orbax), downloads, editors and locks."""
STREAM = re.compile(r"(?:events\.out\.tfevents\..*|.*\.(?:log|jsonl|csv|tsv|out|err|stdout|stderr|ndjson))\Z")
"""Names of what is appended to for as long as a job runs."""


def is_temporary(path: str) -> bool:
    """Whether a name on this path says that the file is not finished."""
    return any(TEMPORARY.match(part) for part in path.split("/"))


def is_stream(path: str) -> bool:
    """Whether the name is one of a file that is appended to as long as its job runs, such as a log."""
    return STREAM.match(path.rpartition("/")[2]) is not None


def complete(now: Listing[E], before: Listing[E] | None, *, settle_ms: int, ended: bool) -> Choice[E]:
    """What of a directory is written in full, by a look at it and the look before.

    A file is complete when nobody touched it for `settle_ms`, by the machine's clock or because it is the same in both
    looks that far apart; when it was renamed into its place; when a marker that is newer announces it; when it is small
    and not empty. Nothing below a temporary name is, nor what lacks the marker that it must have. `ended`: nothing of
    the job runs any more, so that everything is as complete as it will ever be.
    """
    usual = [entry for entry in now.files if entry.kind in KINDS]
    ignored = [(entry.path, "it is no file") for entry in now.files if entry.kind not in KINDS]
    if ended:
        return Choice(tuple(usual), (), tuple(ignored))
    named = [entry for entry in usual if not is_temporary(entry.path)]
    ignored += [(entry.path, "its name is of an unfinished file") for entry in usual if is_temporary(entry.path)]
    look = _Look(now, before, settle_ms)
    markers = read_markers((entry for entry in named if entry.kind == "file"), now.clock, settle_ms)
    waiting: dict[str, str] = {}
    small: set[str] = set()
    for entry in named:
        held = markers.reason(entry.path)
        reason = held or (None if entry.path in markers.announced else look.unfinished(entry))
        if reason is None or entry.kind != "file":
            continue
        if held is None and 0 < entry.size <= SMALL_BYTES:
            small.add(entry.path)
        else:
            waiting[entry.path] = reason
    chosen = [entry for entry in named if entry.path not in waiting]
    kept = _without_loose_ends(chosen, waiting, look, markers)
    return Choice(kept, tuple(sorted(waiting.items())), tuple(ignored), frozenset(small))


@dataclass(slots=True)
class _Look(Generic[E]):
    """Two looks compared."""

    now: Listing[E]
    before: Listing[E] | None
    settle_ms: int
    paths: dict[str, E] = field(init=False)
    inodes: dict[int, E] = field(init=False)

    def __post_init__(self) -> None:
        known = () if self.before is None else self.before.files
        self.paths = {entry.path: entry for entry in known}
        self.inodes = {entry.inode: entry for entry in known if entry.inode}

    def unfinished(self, entry: E) -> str | None:
        """Why a file is not complete by itself, None when it is."""
        if self.settled(entry) or self._was_moved(entry):
            return None
        old = self.paths.get(entry.path)
        if old is not None and old.inode == entry.inode and old.size < entry.size:
            return "it grows"
        return "it is being written"

    def settled(self, entry: E) -> bool:
        """Whether nobody touched it for long enough. A clock that is behind the files' own says nothing."""
        if 0 <= self.now.clock - touched(entry) >= self.settle_ms:
            return True
        old = self.paths.get(entry.path)
        if old is None or self.before is None or self.now.clock - self.before.clock < self.settle_ms:
            return False
        return _same(old, entry)

    def _was_moved(self, entry: E) -> bool:
        """Renamed into its place: it had a temporary name before, or its entry was changed after its last byte was
        written, and it is no file that has stood there before."""
        before = self.inodes.get(entry.inode) if entry.inode else None
        if before is not None and before.path != entry.path and is_temporary(before.path):
            return before.size == entry.size
        in_place = before is not None and before.path == entry.path
        return not in_place and 0 < entry.mtime < entry.changed_at and entry.size > 0


def _same(old: Entry, new: Entry) -> bool:
    if old.stamp or new.stamp:
        return old.stamp == new.stamp
    return (old.size, old.mtime, old.inode) == (new.size, new.mtime, new.inode)


def _without_loose_ends(
    chosen: Sequence[E], waiting: dict[str, str], look: _Look[E], markers: Markers
) -> tuple[E, ...]:
    """Without links to what is waited for, and without directories of which nothing would be left."""
    links = {entry.path for entry in chosen if entry.kind == "link" and _leads_to(entry, waiting)}
    waiting.update(dict.fromkeys(links, "what it leads to is not complete yet"))
    filled = {parent for entry in chosen if entry.kind != "directory" for parent in _parents(entry.path)}
    pending = {parent for path in waiting for parent in _parents(path)}
    kept = []
    for entry in chosen:
        if entry.kind == "directory" and entry.path not in filled:
            if entry.path in pending or markers.reason(entry.path) is not None:
                continue
            if not look.settled(entry):
                waiting[entry.path] = "it was made just now and is empty"
                continue
        if entry.path not in links:
            kept.append(entry)
    return tuple(kept)


def _leads_to(link: Entry, waiting: dict[str, str]) -> bool:
    base = link.path.rpartition("/")[0]
    target = posixpath.normpath(posixpath.join(base, link.target)) if link.target else ""
    return target in waiting or any(path.startswith(f"{target}/") for path in waiting if target)


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
