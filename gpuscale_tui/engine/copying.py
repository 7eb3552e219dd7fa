"""Snapshots copied out to where their user wants them: resumable, every byte held against the manifest. All of it
blocks and belongs on a thread.

What is there and right already is not copied again, so that a copy that was interrupted is simply repeated: a file that
was cut short never gets its name, and goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.store.archive import DIRECTORY, LINK, Begun, BegunWrong, FileEntry, Progress, Snapshot, SnapshotError

CHUNK = 1 << 20
PART = ".gpuscale-part"
"""Ending of a file that is being written; it gets its name once its hash is right. One that was cut short stays."""


class DownloadError(GpuscaleError):
    """A snapshot could not be copied out: a file that is not as it was stored, a place that cannot be written."""


class Stopped(GpuscaleError):
    """Stopped by its user; what was finished stays."""


class Source(Protocol):
    """What files are read from; every `Archive` is one."""

    def read(self, snapshot: Snapshot, entry: FileEntry, begun: Begun | None = None) -> Iterator[bytes]:
        """The content of one file, held against its entry: see `Archive.read`."""
        ...


Asked = Callable[[], bool]
"""Whether the user wants it to stop."""


def _never() -> bool:
    return False


def unheard(_done: int, _all: int) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a directory has of a snapshot: names that are there and `right`, and names that something else `taken`."""

    right: frozenset[str] = frozenset()
    taken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Copied:
    """What came of a copy: bytes that were written, and bytes that were there already."""

    bytes: int
    there: int = 0


def look(
    snapshot: Snapshot, target: Path, *, progress: Progress = unheard, stopped: Asked = _never
) -> Standing:  # fmt: skip
    """What of a snapshot is in a directory already; files of the right size are read and hashed.

    Raises DownloadError where a link in the directory would lead a file elsewhere, Stopped, and OSError.
    """
    right: set[str] = set()
    taken: list[str] = []
    read, size = 0, snapshot.size
    for entry in snapshot.files:
        place = place_of(target, entry)
        if not os.path.lexists(place):
            continue
        if _is_right(entry, place, stopped):
            right.add(entry.name)
            read += entry.size
            progress(read, size)
        else:
            taken.append(entry.name)
    return Standing(frozenset(right), tuple(taken))


def _is_right(entry: FileEntry, place: Path, stopped: Asked) -> bool:
    if entry.kind == LINK:
        return place.is_symlink() and os.readlink(place) == entry.target  # noqa: PTH115 - as it was written
    if place.is_symlink():
        return False
    if entry.kind == DIRECTORY:
        return place.is_dir()
    if not place.is_file() or place.stat().st_size != entry.size:
        return False
    digest = hashlib.sha256()
    with place.open("rb") as file:
        while data := file.read(CHUNK):
            if stopped():
                raise Stopped("stopped while what is there already was looked at")
            digest.update(data)
    return digest.hexdigest() == entry.sha256


def place_of(target: Path, entry: FileEntry) -> Path:
    """Where a file goes. Raises DownloadError when a link in the directory would lead it elsewhere."""
    place = target / entry.name
    for parent in place.parents:
        if parent == target:
            return place
        if parent.is_symlink():
            raise DownloadError(f"{parent} is a link: nothing is written through it")
    raise DownloadError(f"the file name {entry.name!r} leads out of the directory")


def download(
    archive: Source,
    snapshot: Snapshot,
    target: Path,
    *,
    standing: Standing | None = None,
    overwrite: bool = False,
    progress: Progress = unheard,
    stopped: Asked = _never,
) -> Copied:
    """Copy a snapshot into a directory. `standing` is what `look` found there, where that was asked already.

    Something else of the same name is replaced only with `overwrite`. Raises DownloadError, and Stopped once `stopped`
    says so: what was copied stays and is not copied again the next time.
    """
    try:
        known = standing or look(snapshot, target, progress=progress, stopped=stopped)
        if known.taken and not overwrite:
            raise DownloadError(f"{target / known.taken[0]} is there already")
        target.mkdir(parents=True, exist_ok=True)
        missing = [entry for entry in snapshot.files if entry.name not in known.right]
        _check_room(target, sum(entry.size for entry in missing))
        there = sum(entry.size for entry in snapshot.files if entry.name in known.right)
        return Copied(_put(archive, snapshot, target, missing, there, overwrite, progress, stopped), there)
    except OSError as error:
        raise DownloadError(f"{error.filename or target}: {error.strerror or error}") from error


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target).free
    if needed > free:
        raise DownloadError(f"{target} has {free:,} bytes free, and {needed:,} more are needed: nothing was copied")


def _put(  # noqa: PLR0917 - only called here
    archive: Source, snapshot: Snapshot, target: Path, missing: list[FileEntry], there: int, overwrite: bool,
    progress: Progress, stopped: Asked,
) -> int:  # fmt: skip
    """Directories, files, then links, so that nothing is written through one; returns bytes written."""
    done, size = there, snapshot.size
    for entry in sorted(missing, key=lambda each: (each.kind == LINK, each.name)):
        place = place_of(target, entry)
        if entry.kind == DIRECTORY:
            _make_directory(place, overwrite=overwrite)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == LINK:
            _make_link(entry, place, overwrite=overwrite)
            continue
        for count in _copy(archive, snapshot, entry, place, stopped, overwrite=overwrite):
            done += count
            progress(done, size)
    for entry in snapshot.files:
        if entry.kind == DIRECTORY:
            (target / entry.name).chmod(entry.mode & 0o777 | 0o700)
    return done - there


def _make_directory(place: Path, *, overwrite: bool) -> None:
    if overwrite and os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
        place.unlink()
    place.mkdir(parents=True, exist_ok=True)


def _make_link(entry: FileEntry, place: Path, *, overwrite: bool) -> None:
    """A link that is made under another name first: there is never a moment without one."""
    part = _part_of(place, entry)
    part.unlink(missing_ok=True)
    part.symlink_to(entry.target)
    try:
        if not overwrite and os.path.lexists(place):
            raise DownloadError(f"{place} is there already")
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def _part_of(place: Path, entry: FileEntry) -> Path:
    """Beside its place, with a name of its own for each content that is short whatever the file's is."""
    name = hashlib.sha256(os.fsencode(entry.name) + b"\0" + entry.sha256.encode("ascii")).hexdigest()
    return place.with_name(f".{name[:16]}{PART}")


def _copy(
    archive: Source, snapshot: Snapshot, entry: FileEntry, place: Path, stopped: Asked, *, overwrite: bool
) -> Iterator[int]:
    """Write one file, after what an earlier try has left of it; yields bytes done. A wrong beginning is done again."""
    part = _part_of(place, entry)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(part, flags, 0o600), "r+b") as copy:
            begun = _begun(copy, entry)
            yield begun.size
            try:
                yield from _append(archive.read(snapshot, entry, begun), copy, stopped)
            except BegunWrong:
                yield -copy.tell()
                copy.seek(0)
                copy.truncate()
                yield from _append(archive.read(snapshot, entry), copy, stopped)
            os.fchmod(copy.fileno(), entry.mode & 0o777)
    except SnapshotError as error:
        if not isinstance(error, OSError):  # the content is wrong, not the way to it
            part.unlink(missing_ok=True)
        raise DownloadError(f"{error}: it was not copied") from error
    except Stopped:
        if not part.stat().st_size:
            part.unlink()
        raise
    try:
        _give_its_name(part, place, overwrite=overwrite)
    finally:
        part.unlink(missing_ok=True)


def _begun(copy: BinaryIO, entry: FileEntry) -> Begun:
    """What an earlier try has written; nothing where that is no beginning of the file. `copy` stands behind it."""
    digest, size = hashlib.sha256(), 0
    if os.fstat(copy.fileno()).st_size < entry.size:
        while data := copy.read(CHUNK):
            digest.update(data)
            size += len(data)
    copy.seek(size)
    copy.truncate()
    return Begun(size, digest)


def _append(source: Iterator[bytes], copy: BinaryIO, stopped: Asked) -> Iterator[int]:
    for data in source:
        if stopped():
            raise Stopped("stopped; repeat it to go on from here")
        copy.write(data)
        yield len(data)


def _give_its_name(part: Path, place: Path, *, overwrite: bool) -> None:
    """A file that has appeared meanwhile is not replaced unasked."""
    if overwrite:
        part.replace(place)
        return
    try:
        os.link(part, place)
    except FileExistsError as error:
        raise DownloadError(f"{place} is there already") from error
    except OSError:  # a file system without hard links
        if os.path.lexists(place):
            raise DownloadError(f"{place} is there already") from None
        part.replace(place)
