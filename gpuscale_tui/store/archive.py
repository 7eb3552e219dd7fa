"""What every store of snapshots can do, wherever it keeps them, and what a snapshot is made of.

Names come from a machine and are hostile: only plain relative ones are taken, and links only where they lead to a place
inside the tree. Every function here blocks: it belongs on a thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.jobs import job_label

FILE, DIRECTORY, LINK = "file", "directory", "link"
KINDS = (FILE, DIRECTORY, LINK)
LONGEST_PART, LONGEST_NAME, LONGEST_TARGET = 255, 3_000, 4_095
"""Bytes of one part of a name, of a whole name (4,096 less room for the directory of the store), of a link's target."""
LINKS_ON_THE_WAY = 40
"""As many as Linux follows before it says ELOOP."""

Progress = Callable[[int, int], None]
"""Hears of bytes done and bytes in all, from the thread that works. What it raises ends the work."""
Report = Callable[[int, str], None]
"""Hears of the number of a snapshot that is skipped, and why."""


class SnapshotError(GpuscaleError):
    """A snapshot cannot be made or read: a hostile name, a missing or wrong file, a manifest that makes no sense."""


class Gone(SnapshotError, OSError):
    """A store has nothing of what it should have: a disk that is not mounted, or somebody has removed it all."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One thing of a snapshot: its relative name, size in bytes, permission bits on the machine, SHA-256 in hex.

    `kind` is `file`, `directory` or `link`; only a file has a size and a hash, only a link a `target`, relative to the
    place where it stands. Directories that hold something need no entry, but for their permission bits.
    """

    name: str
    size: int
    mode: int
    sha256: str
    kind: str = FILE
    target: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """Where a snapshot comes from; `at` is UTC ms.

    `step`, `epoch`, `loss`: how far the job was by its own output, None where that said nothing. `kind` is why it was
    taken: `interval`, `last` before an end, `asked` by a user. `left_out` names what the directory had and the snapshot
    has not, each with the reason.
    """

    job_id: int
    attempt: int
    worker_id: int
    at: int
    step: int | None = None
    epoch: float | None = None
    loss: float | None = None
    kind: str = "interval"
    job_name: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One committed snapshot. In a directory store its files are below `files_path`.

    `stored` is how many bytes it added when it was made (the rest stood in snapshots before it); None in those of older
    programs. `faults` are files that their own formats say are cut off, by name, with the reason: such a snapshot is
    never chosen while an older one without faults is whole. `torn` are all files that are cut off, also those that
    speak against nothing (see `faults`). `remarks` are told once, by the commit that made it.
    """

    number: int
    path: Path
    meta: SnapshotMeta
    files: tuple[FileEntry, ...]
    stored: int | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    torn: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def files_path(self) -> Path:
        """The directory that holds the files."""
        return self.path / "files"

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)

    @property
    def fault(self) -> str | None:
        """What is wrong with it by its files' own formats, in words; None when nothing is."""
        return "; ".join(f"{name!r} is cut off: {reason}" for name, reason in self.faults.items()) or None


class Digest(Protocol):
    """A hash that goes on, such as `hashlib.sha256()`."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""
        ...

    def hexdigest(self) -> str:
        """The hash of all that was taken in, in hex."""
        ...


@dataclass(frozen=True, slots=True)
class Begun:
    """The first `size` bytes of a file, which somebody has already; `digest` has taken them in."""

    size: int
    digest: Digest


class BegunWrong(SnapshotError):
    """What somebody had of a file already does not go with the rest: begin anew."""


class Archive(Protocol):
    """A store of snapshots. All functions block; OSError (or SnapshotError) where the store cannot be reached."""

    def root_words(self) -> str:
        """Where it is, for messages."""
        ...

    def numbers(self, job_id: int) -> list[int]:
        """Numbers of the snapshots that are there, newest first, whole or not."""
        ...

    def snapshots(self, job_id: int) -> list[Snapshot]:
        """The snapshots with a readable manifest, newest first; their files are not looked at."""
        ...

    def find(self, job_id: int, number: int) -> Snapshot:
        """One snapshot by its manifest; its files are not looked at. Raises SnapshotError where that cannot be read."""
        ...

    def newest_valid(self, job_id: int, report: Report | None = None, *, after: int = 0) -> Snapshot | None:
        """The newest snapshot, of attempts above `after`, whose every byte is as its manifest says and that has no
        fault; without such a one the newest that is whole but has a `fault`: its user is told. `report` hears of each
        that is skipped."""
        ...

    def verify(self, snapshot: Snapshot, progress: Progress | None = None) -> str | None:
        """Why a snapshot is broken, None when every file has the size and hash that the manifest says."""
        ...

    def read(self, snapshot: Snapshot, entry: FileEntry, begun: Begun | None = None) -> Iterator[bytes]:
        """A file's bytes, or those after what is `begun`, a piece at a time.

        Raises SnapshotError, at the end, when they are not what was stored; BegunWrong when that may lie with what was
        there."""
        ...

    def superfluous(
        self, job_id: int, keep: int, *, pinned: Collection[int] = (), trusted: int | None = None
    ) -> list[int]:
        """The snapshots that may go: all but the newest `keep`, the pinned ones and the newest valid one; none where
        none is valid. `trusted` is the number of one just committed: its bytes are not read again."""
        ...

    def remove(self, job_id: int, number: int) -> None:
        """Remove a snapshot. One that is gone already is no error."""
        ...

    def usage(self, job_ids: Iterable[int]) -> dict[int, int]:
        """Bytes that the snapshots of each job really take: what several of them share counts once."""
        ...

    def discard_drafts(self, job_id: int) -> None:
        """Remove what interrupted snapshots and removals left behind, never what is being put together now."""
        ...


def unreadable(job_id: int, number: int, reason: str) -> SnapshotError:
    """The error for a snapshot that is not there or cannot be read."""
    return SnapshotError(f"snapshot {number} of {job_label(job_id)}: {reason}")


def refused_name(name: str) -> str | None:
    """Why a name is not taken, None for one that is: it could lead out of its directory, or is no name."""
    try:
        coded = os.fsencode(name)
    except UnicodeEncodeError:
        return "only plain relative names are taken"
    parts = coded.split(b"/")
    if b"\x00" in coded or any(part in {b"", b".", b".."} for part in parts):
        return "only plain relative names are taken"
    if len(coded) > LONGEST_NAME or max(map(len, parts)) > LONGEST_PART:
        return "only plain relative names are taken, not one as long as this"
    return None


def check_name(name: str) -> None:
    """Refuse a file name that could lead out of its directory or is no name. Raises SnapshotError."""
    reason = refused_name(name)
    if reason is not None:
        raise SnapshotError(f"the file name {name!r} is refused: {reason}")


def settle_links(links: Mapping[str, str], *, base: str = "") -> tuple[dict[str, str], dict[str, str]]:
    """Which links of a tree may be kept, with their targets, and why the others may not.

    Each is followed through the other links of the tree: a target that leaves the tree on any part of its way is
    refused, as are circles. An absolute target below `base` (the tree's directory on its machine) becomes a relative
    one. What a link leads to need not be there.
    """
    relative = {name: _relative(name, target, base) for name, target in links.items()}
    taken: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name, target in relative.items():
        reason = refused_name(name) or _refused_target(target) or _leads_out(name, relative)
        if reason is None:
            taken[name] = target
        else:
            refused[name] = reason
    return taken, refused


def _relative(name: str, target: str, base: str) -> str:
    stem = base.rstrip("/")
    if not stem or not (target == stem or target.startswith(stem + "/")):
        return target
    return "../" * name.count("/") + (target[len(stem) :].strip("/") or ".")


def _refused_target(target: str) -> str | None:
    try:
        coded = os.fsencode(target)
    except UnicodeEncodeError:
        return "its target is no name of a file"
    if not coded or b"\x00" in coded or len(coded) > LONGEST_TARGET:
        return "its target is no name of a file"
    return f"it leads to {target!r}, outside the directory" if target.startswith("/") else None


def _leads_out(name: str, links: Mapping[str, str]) -> str | None:
    """Follow a link as the kernel would, but that what is no link of the tree counts as a directory."""
    place: list[str] = name.split("/")[:-1]
    ahead, followed = links[name].split("/")[::-1], 1
    while ahead:
        part = ahead.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            if not place:
                return f"it leads to {links[name]!r}, outside the directory"
            place.pop()
            continue
        next_link = links.get("/".join([*place, part]))
        if next_link is None:
            place.append(part)
            continue
        followed += 1
        if followed > LINKS_ON_THE_WAY:
            return f"it leads to {links[name]!r} and round in circles"
        if next_link.startswith("/"):
            return f"it leads to {links[name]!r}, outside the directory"
        ahead += next_link.split("/")[::-1]
    return None
