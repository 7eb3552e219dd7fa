"""Snapshots that are being put together, each in a directory of its own that its maker holds.

    root/j17/.tmp-4-1f0c/hold        locked while its maker lives: by this, others tell it from what a crash left
    root/j17/.tmp-4-1f0c/tree/       becomes root/j17/4, by one rename: files/, meta.json, manifest.json

Two makers, of one process or of several, never meet: each has a name that no other has. Where the file system knows no
locks, what has not been touched for a day counts as left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpuscale_tui import rights
from gpuscale_tui.store.archive import FileEntry, Snapshot

DRAFT, GONE, PARTS = ".tmp-", ".gone-", ".parts-"
HOLD, TREE, FILES = "hold", "tree", "files"
YOUNG_SEC, STALE_SEC = 3_600.0, 86_400.0
"""A draft without its lock file is being made, or was left, for an hour; one that cannot be locked, for a day."""


class Hold:
    """A lock file that is held until it is let go, its holder is forgotten or the process ends."""

    def __init__(self, directory: Path) -> None:
        made = directory / f"{HOLD}.new"
        self._descriptor = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            rights.settle(made)
            with contextlib.suppress(OSError):  # no locks here: then age tells, see `is_left`
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            made.rename(directory / HOLD)  # under its name it is locked, or its maker is dead
        except BaseException:
            self.let_go()
            raise

    def let_go(self) -> None:
        """Others may remove the directory from now on. Repeating it is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            self.let_go()


@dataclass(slots=True)
class Shelf:
    """The kept snapshots of a job, newest first, and where each content stands, by SHA-256; filled when first asked."""

    kept: Sequence[Snapshot] | None = None
    places: dict[str, list[Place]] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A file of a kept snapshot: its entry, below `root`."""

    root: Path
    entry: FileEntry


@dataclass(frozen=True, slots=True)
class Draft:
    """A snapshot that is being put together: fetch into `path`, below which names are as on the machine.

    `number` is the one it will have, unless another snapshot of the job takes it first. `adopted` are files taken over
    from earlier snapshots (`SnapshotStore.adopt`): never write into one of those. `copied` are those of them that had
    to be copied, where the file system knows no hard links.
    """

    job_id: int
    number: int
    path: Path
    hold: Hold
    adopted: dict[str, FileEntry] = field(default_factory=dict)
    copied: set[str] = field(default_factory=set)
    shelf: Shelf = field(default_factory=Shelf)

    @property
    def tree(self) -> Path:
        """What will become the snapshot's directory."""
        return self.path.parent

    @property
    def shell(self) -> Path:
        """The directory that is removed when the draft has become a snapshot or nothing."""
        return self.path.parent.parent


def make(home: Path, job_id: int, number: int) -> Draft:
    """A new, empty draft in a job's directory. Raises OSError."""
    rights.make_directory(home)
    shell = home / f"{DRAFT}{number}-{secrets.token_hex(6)}"
    shell.mkdir(mode=0o700)
    rights.settle(shell)
    hold = Hold(shell)
    files = shell / TREE / FILES
    rights.make_directory(files)
    return Draft(job_id, number, files, hold)


def discard(draft: Draft) -> None:
    """Remove a draft; one that has become a snapshot leaves its empty shell. Repeating it is harmless."""
    remove_tree(draft.shell)
    draft.hold.let_go()


def left_behind(home: Path) -> Iterator[Path]:
    """Drafts and half-removed snapshots in a job's directory that nobody works on. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(home.iterdir()):
            if path.name.startswith(GONE) or (path.name.startswith(DRAFT) and is_left(path)):
                yield path


def is_left(shell: Path) -> bool:
    """Whether the maker of a draft is dead."""
    try:
        descriptor = os.open(shell / HOLD, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return _untouched(shell, YOUNG_SEC)
    except OSError:
        return _untouched(shell, STALE_SEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return _untouched(shell, STALE_SEC)
    finally:
        os.close(descriptor)
    return True


def _untouched(directory: Path, seconds: float) -> bool:
    """Whether nothing below a directory was changed for so long; False while that cannot be told."""
    limit = time.time() - seconds
    try:
        newest = max((place.stat().st_mtime for place, _, _ in _walk(directory)), default=limit)
    except OSError:
        return False
    return newest < limit


def _walk(directory: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    for folder, folders, files in os.walk(directory):
        yield Path(folder), folders, files
        for name in files:
            yield Path(folder, name), [], []


def remove_tree(directory: Path) -> None:
    """Remove a directory that another program may be removing, too. Raises OSError."""

    def gone(_function: object, _path: object, told: tuple[type[BaseException], BaseException, object]) -> None:
        if not isinstance(told[1], FileNotFoundError):
            raise told[1]

    shutil.rmtree(directory, onerror=gone)
