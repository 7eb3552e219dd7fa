"""From a draft's files to a tree that may become a snapshot: exactly what its entries say, shared, flushed to disk.

What the bytes of a file are was computed while they came; here only sizes are looked at, and the bytes of older files
that are to be shared. Equal content is one file with several names (hard links), among all kept snapshots of a job.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from gpuscale_tui import rights
from gpuscale_tui.store.archive import DIRECTORY, FILE, LINK, FileEntry, SnapshotError
from gpuscale_tui.store.drafts import Draft, Place
from gpuscale_tui.store.opening import sync_directory

NO_LINKS = frozenset({errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES})
"""What file systems answer that know no hard links, or no more of this file."""
NO_SYMLINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP})
CHUNK = 1 << 20
MANY, AT_ONCE = 64, 8
"""From so many files on they are flushed at once, so many at a time."""
SharePlaces = dict[str, list[Place]]


@dataclass(slots=True)
class Sealed:
    """What sealing a draft came to: bytes that are new on disk, files whose content no kept snapshot had, and whether
    the file system refused a hard link. `unflushed` are written and not yet safe."""

    stored: int = 0
    fresh: list[FileEntry] = field(default_factory=list)
    unflushed: list[Path] = field(default_factory=list)
    unlinked: bool = False


def measure(draft: Draft, name: str, mode: int) -> FileEntry:
    """The entry of a file of a draft, its bytes read. Raises SnapshotError where it is no plain file, OSError."""
    path = plain_file(draft.path, name)
    return FileEntry(name, path.stat().st_size, mode & 0o777, sha256(path))


def seal(draft: Draft, entries: Sequence[FileEntry], places: SharePlaces) -> Sealed:
    """Make a draft's tree exactly these entries and flush it. Raises SnapshotError, OSError."""
    for entry in entries:
        if entry.kind == FILE and entry.name not in draft.adopted:
            check_size(draft.path, entry)
    _clear(draft.path, entries)
    for entry in entries:
        if entry.kind == DIRECTORY:
            (draft.path / entry.name).mkdir(mode=0o700, parents=True, exist_ok=True)
        elif entry.kind == LINK:
            _make_link(draft.path / entry.name, entry.target)
    directories = _settle_directories(draft.path)
    sealed = Sealed()
    first: SharePlaces = {}
    for entry in entries:
        if entry.kind == FILE:
            _seal_file(draft, entry, places, first, sealed)
    flush_all(sealed.unflushed)
    for directory in directories:
        sync_directory(directory)
    return sealed


def _seal_file(draft: Draft, entry: FileEntry, places: SharePlaces, first: SharePlaces, sealed: Sealed) -> None:
    path = draft.path / entry.name
    if entry.name in draft.adopted and entry.name not in draft.copied:
        return
    known = places.get(entry.sha256, [])
    if not known and entry.sha256 not in first:
        sealed.fresh.append(entry)
    if entry.size and entry.name not in draft.copied:
        for place in first.get(entry.sha256, []):
            if _share(draft, path, place, sealed):
                return
        for place in known:
            if is_whole(place) and _share(draft, path, place, sealed):
                return
    first.setdefault(entry.sha256, []).append(Place(draft.path, entry))
    sealed.stored += entry.size
    rights.settle(path)
    sealed.unflushed.append(path)


def _share(draft: Draft, path: Path, place: Place, sealed: Sealed) -> bool:
    """Replace a file by a hard link to an equal one; else it is stored twice, which costs room and nothing else."""
    link = draft.tree / "link"
    try:
        link.unlink(missing_ok=True)
        os.link(place.root / place.entry.name, link, follow_symlinks=False)
    except FileNotFoundError:  # that snapshot is being removed
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        sealed.unlinked = True
        return False
    link.replace(path)
    return True


def is_whole(place: Place) -> bool:
    """Whether a stored file still has the bytes that it was stored with."""
    try:
        return sha256(check_size(place.root, place.entry)) == place.entry.sha256
    except (OSError, SnapshotError):
        return False


def flush_all(paths: Sequence[Path]) -> None:
    """Flush files: many at once, for a disk writes its journal once for all who wait for it."""
    if len(paths) < MANY:
        for path in paths:
            flush(path)
        return
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="flush") as pool:
        for _ in pool.map(flush, paths):
            pass


def flush(path: Path) -> None:
    """Make a file's bytes survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: Path, data: bytes) -> None:
    """Write a whole file that is not there yet, flushed to disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    rights.settle(path)


def adopt(draft: Draft, entry: FileEntry, place: Place) -> bool:
    """Take over a file of a kept snapshot under the entry's name; False when it is not whole there.

    Where the file system knows no hard links it is copied, and its bytes are looked at on the way.
    """
    target = draft.path / entry.name
    try:
        source = check_size(place.root, place.entry)
        rights.make_directory(target.parent)
        target.unlink(missing_ok=True)
        os.link(source, target, follow_symlinks=False)
    except (SnapshotError, FileNotFoundError):
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if not _copy(source, target, entry):
            return False
        draft.copied.add(entry.name)
    draft.adopted[entry.name] = entry
    return True


def _copy(source: Path, target: Path, entry: FileEntry) -> bool:
    """Copy a file, flushed when its draft is sealed; False, and nothing is left, when its bytes are others."""
    digest = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with source.open("rb") as original:
            while data := original.read(CHUNK):
                digest.update(data)
                _write(descriptor, data)
    finally:
        os.close(descriptor)
    if digest.hexdigest() == entry.sha256:
        return True
    target.unlink()
    return False


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def check_size(root: Path, entry: FileEntry) -> Path:
    """The entry's path. Raises SnapshotError unless it is a regular file of the right size, reached without links."""
    path = plain_file(root, entry.name)
    size = path.stat().st_size
    if size != entry.size:
        raise SnapshotError(f"{entry.name!r} has {size} bytes, not {entry.size}")
    return path


def plain_file(root: Path, name: str) -> Path:
    """Path of a regular file below `root`, no part of which is a link. Raises SnapshotError."""
    path, mode = root, 0
    for part in name.split("/"):
        path /= part
        try:
            mode = path.lstat().st_mode
        except OSError as error:
            raise SnapshotError(f"{name!r} is missing") from error
        if stat.S_ISLNK(mode):
            raise SnapshotError(f"{name!r} is or lies behind a link")
    if not stat.S_ISREG(mode):
        raise SnapshotError(f"{name!r} is no regular file")
    return path


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_link(path: Path, target: str) -> None:
    """Make a link. Where the file system knows none, the manifest alone has it, which is enough to put it back."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        path.symlink_to(target)
    except OSError as error:
        if error.errno not in NO_SYMLINKS:
            raise


def _clear(root: Path, entries: Sequence[FileEntry]) -> None:
    """Remove everything below a draft that is none of its files nor on the way to one.

    Raises SnapshotError where a file is not there under its very name: file systems that tell no upper from lower case
    have one file for two names.
    """
    wanted = {entry.name for entry in entries if entry.kind == FILE}
    folders = {entry.name for entry in entries if entry.kind == DIRECTORY}
    for name in (*wanted, *folders):
        parent = name.rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    found: set[str] = set()
    for path, name, is_folder in list(_below(root)):
        if is_folder and name not in folders:
            path.rmdir()
        elif not is_folder and name not in wanted:
            path.unlink()
        elif not is_folder:
            found.add(name)
    for name in sorted(wanted - found):
        raise SnapshotError(f"{name!r} is missing: names that the file system takes for one another cannot be kept")


def _below(root: Path) -> Iterator[tuple[Path, str, bool]]:
    """Everything below a directory: what a directory holds before itself."""
    for directory, folders, files in os.walk(root, topdown=False):
        base = directory[len(str(root)) :].lstrip("/")
        links = [name for name in folders if Path(directory, name).is_symlink()]
        for name in (*files, *links):
            yield Path(directory, name), f"{base}/{name}" if base else name, False
        if base:
            yield Path(directory), base, True


def _settle_directories(root: Path) -> list[Path]:
    """All directories of a draft, deepest first, with their rights made ours: each from the one that holds it."""
    found = []
    for directory, _, _ in os.walk(root):
        rights.settle(Path(directory))
        found.append(Path(directory))
    return found[::-1]
