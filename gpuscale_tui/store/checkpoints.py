"""Snapshots of jobs' checkpoint directories, on disk.

    root/j17/3/files/...        what the job saved, files 0600, directories 0700
    root/j17/3/manifest.json    names, sizes, modes and SHA-256 of the files, and where they come from; written last
    root/j17/.tmp-4             one that is being put together; nothing in it counts
    root/j17/.gone-1            one that is being removed

A snapshot exists once it has its number: it is put together under another name, flushed to disk and renamed. Names
come from a machine and are hostile: only plain relative ones of regular files are taken. Every function here blocks;
one engine at a time works on a job's directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gpuscale_tui import rights
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store.home import private_opener
from gpuscale_tui.store.opening import sync_directory

MANIFEST = "manifest.json"
DRAFT, GONE = ".tmp-", ".gone-"


class SnapshotError(GpuscaleError):
    """A snapshot cannot be made or read: a hostile name, a missing or wrong file, a manifest that makes no sense."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a snapshot: its relative name, size in bytes, permission bits on the machine, SHA-256 in hex."""

    name: str
    size: int
    mode: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """Where a snapshot comes from; `at` is UTC ms."""

    job_id: int
    attempt: int
    worker_id: int
    at: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One committed snapshot. Its files are below `files_path`."""

    number: int
    path: Path
    meta: SnapshotMeta
    files: tuple[FileEntry, ...]

    @property
    def files_path(self) -> Path:
        """The directory that holds the files."""
        return self.path / "files"

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)


@dataclass(frozen=True, slots=True)
class Draft:
    """A snapshot that is being put together: fetch into `path`, below which names are as on the machine.

    `reused` are files taken over from an earlier snapshot (`SnapshotStore.reuse`): never write into one of those.
    """

    job_id: int
    number: int
    path: Path
    reused: dict[str, FileEntry] = field(default_factory=dict)


class SnapshotStore:
    """The snapshots below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def begin(self, job_id: int, *, after: int = 0) -> Draft:
        """Begin a snapshot with a number above all on disk and above `after` (the highest that the database knows)."""
        home = self._home(job_id)
        rights.make_directory(home)
        number = max([after, *self._numbers(job_id)]) + 1
        draft = home / f"{DRAFT}{number}"
        if draft.exists():
            shutil.rmtree(draft)
        rights.make_directory(draft / "files")
        return Draft(job_id, number, draft / "files")

    def reuse(self, draft: Draft, snapshot: Snapshot, name: str) -> None:
        """Take a file over from an earlier snapshot without a copy. Raises SnapshotError when it is not whole there."""
        entry = next((entry for entry in snapshot.files if entry.name == name), None)
        if entry is None:
            raise SnapshotError(f"snapshot {snapshot.number} has no file {name!r}")
        source = snapshot.files_path / name
        _check_size(snapshot.files_path, entry)
        target = draft.path / name
        rights.make_directory(target.parent)
        target.unlink(missing_ok=True)
        os.link(source, target)
        draft.reused[name] = entry

    def commit(self, draft: Draft, files: Mapping[str, int], meta: SnapshotMeta) -> Snapshot:
        """Make a draft a snapshot: `files` are the names below `draft.path` that count, with their permission bits.

        Anything else in the draft is removed. A file equal to the one of that name in the snapshot before is stored
        once for both. On disk when this returns. Raises SnapshotError for a name or file that is refused, OSError.
        """
        for name in files:
            check_name(name)
        _remove_others(draft.path, set(files))
        before = self._newest(draft.job_id)
        directories = _settle_directories(draft.path)
        entries = tuple(_seal(draft, name, mode, before) for name, mode in sorted(files.items()))
        for directory in directories:
            sync_directory(directory)
        _write_manifest(draft.path.parent, meta, entries)
        final = self._home(draft.job_id) / str(draft.number)
        draft.path.parent.rename(final)
        sync_directory(final.parent)
        return Snapshot(draft.number, final, meta, entries)

    def snapshots(self, job_id: int) -> list[Snapshot]:
        """The snapshots with a readable manifest, newest first; their files are not looked at."""
        found = []
        for number in self._numbers(job_id):
            snapshot = self._load(job_id, number)
            if isinstance(snapshot, Snapshot):
                found.append(snapshot)
        return found

    def newest_valid(
        self, job_id: int, report: Callable[[int, str], None] | None = None, *, after: int = 0
    ) -> Snapshot | None:
        """The newest snapshot whose every file is as its manifest says; `report` hears of each broken one and why.

        Only those of attempts above `after` count.
        """
        for number in self._numbers(job_id):
            snapshot = self._load(job_id, number)
            if isinstance(snapshot, Snapshot) and snapshot.meta.attempt <= after:
                continue
            reason = verify(snapshot) if isinstance(snapshot, Snapshot) else snapshot
            if reason is None and isinstance(snapshot, Snapshot):
                return snapshot
            if report is not None and reason is not None:
                report(number, reason)
        return None

    def find(self, job_id: int, number: int) -> Snapshot:
        """One snapshot by its manifest; its files are not looked at. Raises SnapshotError where that cannot be read."""
        found = self._load(job_id, number)
        if isinstance(found, str):
            raise SnapshotError(f"snapshot {number} of {job_label(job_id)}: {found}")
        return found

    def numbers(self, job_id: int) -> list[int]:
        """Numbers of the snapshots on disk, newest first, whole or not."""
        return self._numbers(job_id)

    def superfluous(self, job_id: int, keep: int, *, trusted: int | None = None) -> list[int]:
        """The snapshots that may go: all but the newest `keep`, never the newest valid one; none where none is valid.

        `trusted` is the number of one that is known to be valid (just committed): it is not verified again.
        """
        numbers = self._numbers(job_id)
        doomed = numbers[max(1, keep) :]
        if not doomed:
            return []
        valid = trusted if trusted in numbers else self._newest_valid_number(job_id)
        return [] if valid is None else [number for number in doomed if number != valid]

    def remove(self, job_id: int, number: int) -> None:
        """Remove a snapshot, and what an interrupted removal left. One that is gone already is no error."""
        self._sweep(job_id, GONE)
        home = self._home(job_id)
        gone = home / f"{GONE}{number}"
        with contextlib.suppress(FileNotFoundError):
            (home / str(number)).rename(gone)
            sync_directory(home)
        _discard(gone)

    def discard_drafts(self, job_id: int) -> None:
        """Remove what interrupted snapshots and removals left behind."""
        self._sweep(job_id, DRAFT)
        self._sweep(job_id, GONE)

    def _home(self, job_id: int) -> Path:
        return self.root / job_label(job_id)

    def _numbers(self, job_id: int) -> list[int]:
        """Numbers of the snapshots on disk, newest first."""
        home = self._home(job_id)
        if not home.is_dir():
            return []
        names = (path.name for path in home.iterdir())
        return sorted((int(name) for name in names if name.isascii() and name.isdigit()), reverse=True)

    def _newest(self, job_id: int) -> Snapshot | None:
        return next(iter(self.snapshots(job_id)), None)

    def _newest_valid_number(self, job_id: int) -> int | None:
        valid = self.newest_valid(job_id)
        return valid.number if valid else None

    def _load(self, job_id: int, number: int) -> Snapshot | str:
        """A snapshot by its manifest, or why that cannot be read."""
        path = self._home(job_id) / str(number)
        try:
            content = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            files = tuple(FileEntry(**entry) for entry in content["files"])
            for entry in files:
                check_name(entry.name)
            return Snapshot(number, path, SnapshotMeta(**content["meta"]), files)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SnapshotError) as error:
            return f"its manifest cannot be read: {error}"

    def _sweep(self, job_id: int, prefix: str) -> None:
        home = self._home(job_id)
        if home.is_dir():
            for path in [path for path in home.iterdir() if path.name.startswith(prefix)]:
                _discard(path)


def _discard(directory: Path) -> None:
    """Remove a directory that another program may be removing, too."""

    def gone(_function: object, _path: object, told: tuple[type[BaseException], BaseException, object]) -> None:
        if not isinstance(told[1], FileNotFoundError):
            raise told[1]

    shutil.rmtree(directory, onerror=gone)


def check_name(name: str) -> None:
    """Refuse a file name that could lead out of its directory or is no name. Raises SnapshotError."""
    try:
        parts = os.fsencode(name).split(b"/")
    except UnicodeEncodeError:
        parts = [b""]
    if "\x00" in name or any(part in {b"", b".", b".."} or len(part) > 255 for part in parts):
        raise SnapshotError(f"the file name {name!r} is refused: only plain relative names are taken")


def verify(snapshot: Snapshot) -> str | None:
    """Why a snapshot is broken, None when every file has the size and hash that the manifest says."""
    for entry in snapshot.files:
        try:
            path = _check_size(snapshot.files_path, entry)
            if _sha256(path) != entry.sha256:
                return f"{entry.name!r} has changed since it was stored"
        except (OSError, SnapshotError) as error:
            return str(error)
    return None


def _check_size(root: Path, entry: FileEntry) -> Path:
    """The entry's path. Raises SnapshotError unless it is a regular file of the right size, reached without links."""
    path = _plain_file(root, entry.name)
    size = path.stat().st_size
    if size != entry.size:
        raise SnapshotError(f"{entry.name!r} has {size} bytes, not {entry.size}")
    return path


def _plain_file(root: Path, name: str) -> Path:
    """Path of a regular file below `root`, no part of which is a link. Raises SnapshotError."""
    path = root
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


def _seal(draft: Draft, name: str, mode: int, before: Snapshot | None) -> FileEntry:
    """Hash one file of a draft, flush it to disk and give it its mode; share it with the snapshot before if equal."""
    path = _plain_file(draft.path, name)
    known = draft.reused.get(name)
    if known is not None and path.stat().st_nlink > 1:
        return FileEntry(name, known.size, mode & 0o777, known.sha256)
    entry = FileEntry(name, path.stat().st_size, mode & 0o777, _sha256(path))
    if before is None or not _share(draft, entry, before):
        rights.settle(path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return entry


def _share(draft: Draft, entry: FileEntry, before: Snapshot) -> bool:
    """Replace a file by a hard link to the equal one of the snapshot before; False when there is none that is whole."""
    old = next((old for old in before.files if old.name == entry.name), None)
    if old is None or (old.size, old.sha256) != (entry.size, entry.sha256):
        return False
    try:
        source = _check_size(before.files_path, old)
        if _sha256(source) != entry.sha256:
            return False
        link = draft.path.parent / "link"
        link.unlink(missing_ok=True)
        os.link(source, link)
        link.replace(draft.path / entry.name)
    except (OSError, SnapshotError):  # then it is stored twice, which costs room and nothing else
        return False
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_others(root: Path, names: set[str]) -> None:
    """Remove everything below a draft that is not one of its files or a directory on the way to one."""
    for directory, directories, files in os.walk(root, topdown=False):
        base = Path(directory)
        links = [name for name in directories if (base / name).is_symlink()]
        for path in (base / name for name in (*files, *links)):
            if path.relative_to(root).as_posix() not in names:
                path.unlink()
        if base != root and not any(base.iterdir()):
            base.rmdir()


def _settle_directories(root: Path) -> list[Path]:
    """All directories of a draft, deepest first, with their rights made ours: each from the one that holds it."""
    found = []
    for directory, _, _ in os.walk(root):
        rights.settle(Path(directory))
        found.append(Path(directory))
    return found[::-1]


def _write_manifest(directory: Path, meta: SnapshotMeta, entries: tuple[FileEntry, ...]) -> None:
    content = {"meta": asdict(meta), "files": [asdict(entry) for entry in entries]}
    with open(directory / MANIFEST, "x", encoding="utf-8", opener=private_opener) as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(directory)
