"""Snapshots of jobs' checkpoint directories, on disk.

    root/j17/3/files/...        what the job saved, files 0600, directories 0700, links as they were
    root/j17/3/meta.json        where it comes from, for people
    root/j17/3/manifest.json    names, sizes, modes and SHA-256 of the files, and where they come from; written last
    root/j17/.tmp-4-1f0c        one that is being put together (`drafts`); nothing in it counts
    root/j17/.gone-1-77aa       one that is being removed
    root/j17/.parts-2           what has arrived of large files of attempt 2
    root/j17/.rotten            hashes of contents that were found changed on disk: taken over after a look only

A snapshot exists once it has its number: it is put together under another name, flushed to disk and renamed. A file
that is equal to one in any snapshot of the job is stored once (hard links). Every function here blocks; several
programs may work on a job's directory at once.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from gpuscale_tui import rights
from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store import drafts, faults, sealing, soundness
from gpuscale_tui.store.archive import (
    FILE,
    Begun,
    BegunWrong,
    FileEntry,
    Progress,
    Report,
    Snapshot,
    SnapshotError,
    SnapshotMeta,
    check_name,
    unreadable,
)
from gpuscale_tui.store.drafts import DRAFT, GONE, PARTS, Draft
from gpuscale_tui.store.manifest import LARGEST, MANIFEST, META, Manifest, check_tree, decode, encode, meta_file
from gpuscale_tui.store.opening import sync_directory
from gpuscale_tui.store.sealing import CHUNK, SharePlaces
from gpuscale_tui.store.verification import verify

__all__ = [
    "DRAFT", "GONE", "MANIFEST", "Draft", "FileEntry", "Snapshot", "SnapshotError", "SnapshotMeta", "SnapshotStore",
    "check_name", "verify",
]  # fmt: skip
ROTTEN = ".rotten"
TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR})


class SnapshotStore:
    """The snapshots below one directory: an `Archive`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._told_of_links = False

    def root_words(self) -> str:
        """See `Archive.root_words`."""
        return str(self.root)

    def begin(self, job_id: int, *, after: int = 0) -> Draft:
        """Begin a snapshot with a number above all on disk and above `after` (the highest that the database knows)."""
        number = max([after, *self.numbers(job_id)]) + 1
        return drafts.make(self._home(job_id), job_id, number)

    def adopt(self, draft: Draft, entry: FileEntry) -> bool:
        """Take a file with that content over from any kept snapshot of the job, without reading it again.

        False when none has it in its full size: then it must be fetched. Raises SnapshotError for a hostile name.
        """
        check_name(entry.name)
        if entry.kind != FILE:
            return True  # links and directories are made by `commit`
        places = self._places(draft).get(entry.sha256, [])
        if entry.sha256 in self._rotten(draft.job_id):
            places = [place for place in places if sealing.is_whole(place)]
        return any(sealing.adopt(draft, entry, place) for place in places)

    def measure(self, draft: Draft, modes: Mapping[str, int]) -> tuple[FileEntry, ...]:
        """The entries of files of a draft whose hashes are not known, with their permission bits: all are read."""
        for name in modes:
            check_name(name)
        return tuple(sealing.measure(draft, name, mode) for name, mode in modes.items())

    def commit(self, draft: Draft, tree: Sequence[FileEntry] | Mapping[str, int], meta: SnapshotMeta) -> Snapshot:
        """Make a draft a snapshot that holds exactly `tree`; anything else in the draft is removed.

        Hashes are those of the entries: they are not computed again, sizes are compared; where `tree` is names with
        permission bits, they are computed here. A file equal to one in any kept snapshot of the job is stored once.
        On disk when this returns. Raises SnapshotError for what is refused (a name, a link that leads out, a file that
        is not as its entry says), OSError.
        """
        if isinstance(tree, Mapping):
            tree = self.measure(draft, tree)
        entries = tuple(replace(entry, mode=entry.mode & 0o777) for entry in sorted(tree, key=lambda one: one.name))
        check_tree(entries)
        sealed = sealing.seal(draft, entries, self._places(draft))
        found = faults.find(partial(soundness.judge, draft.path), entries, sealed.fresh, self._kept(draft))
        sealing.write_new(draft.tree / META, meta_file(meta))
        manifest = Manifest(meta, entries, sealed.stored, found.faults, found.torn)
        sealing.write_new(draft.tree / MANIFEST, encode(manifest))
        sync_directory(draft.tree)
        number = self._give_number(draft)
        with contextlib.suppress(OSError):  # it is a snapshot; the empty shell goes with the next clean-up
            drafts.discard(draft)
        remarks = self._remark() if sealed.unlinked or draft.copied else ()
        path = self._home(draft.job_id) / str(number)
        return Snapshot(number, path, meta, entries, sealed.stored, found.faults, found.torn, remarks)

    def discard(self, draft: Draft) -> None:
        """Remove a draft that is not needed. Harmless for one that was committed, or twice."""
        drafts.discard(draft)

    def parts(self, job_id: int, attempt: int) -> Path:
        """Where partial files of an attempt are kept until they are whole; made when it is not there."""
        path = self._home(job_id) / f"{PARTS}{attempt}"
        rights.make_directory(path)
        return path

    def discard_parts(self, job_id: int, attempt: int) -> None:
        """Remove what is left of an attempt's partial files: it has ended."""
        drafts.remove_tree(self._home(job_id) / f"{PARTS}{attempt}")

    def snapshots(self, job_id: int) -> list[Snapshot]:
        """See `Archive.snapshots`."""
        found = (self._load(job_id, number) for number in self.numbers(job_id))
        return [snapshot for snapshot in found if isinstance(snapshot, Snapshot)]

    def newest_valid(self, job_id: int, report: Report | None = None, *, after: int = 0) -> Snapshot | None:
        """See `Archive.newest_valid`."""
        faulty: list[Snapshot] = []
        for number in self.numbers(job_id):
            snapshot = self._load(job_id, number)
            if isinstance(snapshot, Snapshot) and snapshot.meta.attempt <= after:
                continue
            reason = self._unfit(snapshot, faulty)
            if reason is None and isinstance(snapshot, Snapshot):
                return snapshot
            if report is not None and reason is not None:
                report(number, reason)
        return next((snapshot for snapshot in faulty if self.verify(snapshot) is None), None)

    def find(self, job_id: int, number: int) -> Snapshot:
        """See `Archive.find`."""
        found = self._load(job_id, number)
        if isinstance(found, str):
            raise unreadable(job_id, number, found)
        return found

    def numbers(self, job_id: int) -> list[int]:
        """See `Archive.numbers`."""
        names = _names(self._home(job_id))
        return sorted((int(name) for name in names if name.isascii() and name.isdigit()), reverse=True)

    def verify(self, snapshot: Snapshot, progress: Progress | None = None) -> str | None:
        """See `Archive.verify`. A file with other bytes is not taken over into new snapshots from then on."""
        return verify(snapshot, progress, partial(self._distrust, snapshot))

    def read(self, snapshot: Snapshot, entry: FileEntry, begun: Begun | None = None) -> Iterator[bytes]:
        """See `Archive.read`."""
        begun = begun or Begun(0, hashlib.sha256())
        digest = begun.digest
        with sealing.check_size(snapshot.files_path, entry).open("rb") as file:
            file.seek(begun.size)
            while data := file.read(CHUNK):
                digest.update(data)
                yield data
        if digest.hexdigest() != entry.sha256:
            if begun.size:
                raise BegunWrong(f"{entry.name!r} was begun with other bytes")
            self._distrust(snapshot, entry)
            raise SnapshotError(f"{entry.name!r} has changed since it was stored")

    def superfluous(
        self, job_id: int, keep: int, *, pinned: Collection[int] = (), trusted: int | None = None
    ) -> list[int]:
        """See `Archive.superfluous`."""
        numbers = self.numbers(job_id)
        doomed = [number for number in numbers[max(1, keep) :] if number not in pinned]
        if not doomed:
            return []
        valid = trusted if self._is_sound(job_id, trusted) else self._newest_valid_number(job_id)
        return [] if valid is None else [number for number in doomed if number != valid]

    def remove(self, job_id: int, number: int) -> None:
        """See `Archive.remove`. What an interrupted removal left goes, too."""
        home = self._home(job_id)
        with contextlib.suppress(FileNotFoundError):
            (home / str(number)).rename(home / f"{GONE}{number}-{secrets.token_hex(6)}")
            sync_directory(home)
        for name in _names(home):
            if name.startswith(GONE):
                drafts.remove_tree(home / name)

    def usage(self, job_ids: Iterable[int]) -> dict[int, int]:
        """See `Archive.usage`."""
        return {job_id: self._used(job_id) for job_id in job_ids}

    def discard_drafts(self, job_id: int) -> None:
        """See `Archive.discard_drafts`."""
        self.clear(job_id)

    def clear(self, job_id: int) -> int:
        """Remove drafts and half-removed snapshots whose makers are dead; returns how many there were."""
        left = list(drafts.left_behind(self._home(job_id)))
        for path in left:
            drafts.remove_tree(path)
        return len(left)

    def jobs(self) -> list[int]:
        """The jobs that have a directory here."""
        names = _names(self.root)
        return sorted(int(name[1:]) for name in names if name[:1] == "j" and name[1:].isascii() and name[1:].isdigit())

    def attempts_with_parts(self, job_id: int) -> list[int]:
        """The attempts of a job that have partial files here."""
        names = [name.removeprefix(PARTS) for name in _names(self._home(job_id)) if name.startswith(PARTS)]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def _home(self, job_id: int) -> Path:
        return self.root / job_label(job_id)

    def _unfit(self, snapshot: Snapshot | str, faulty: list[Snapshot]) -> str | None:
        """Why a snapshot is not taken at once, None for one that is. Those with a fault are noted."""
        if isinstance(snapshot, str):
            return snapshot
        if snapshot.fault is not None:
            faulty.append(snapshot)
            return snapshot.fault
        return self.verify(snapshot)

    def _distrust(self, snapshot: Snapshot, entry: FileEntry) -> None:
        """Note content that has changed on disk: where it stands under another name, it may be the same bytes."""
        if entry.sha256 in self._rotten(snapshot.meta.job_id):
            return
        with contextlib.suppress(OSError):  # a store that may only be read is not stored into either
            place = self._home(snapshot.meta.job_id) / ROTTEN
            with open(place, "a", encoding="ascii", opener=rights.private_opener) as file:
                file.write(f"{entry.sha256}\n")

    def _rotten(self, job_id: int) -> frozenset[str]:
        """Contents of which somebody has found other bytes on disk."""
        try:
            return frozenset((self._home(job_id) / ROTTEN).read_text(encoding="ascii").split())
        except OSError:
            return frozenset()

    def _give_number(self, draft: Draft) -> int:
        """Rename a draft's tree to the first number that is free from its own on."""
        home, number = self._home(draft.job_id), draft.number
        while True:
            try:
                draft.tree.rename(home / str(number))
            except OSError as error:
                if error.errno not in TAKEN:
                    raise
                number = max([number, *self.numbers(draft.job_id)]) + 1
                continue
            sync_directory(home)
            return number

    def _remark(self) -> tuple[str, ...]:
        """Said once by each store: room is all that it costs."""
        if self._told_of_links:
            return ()
        self._told_of_links = True
        return (f"{self.root} is on a file system without hard links: unchanged files are stored again each time",)

    def _places(self, draft: Draft) -> SharePlaces:
        """Where the contents of the job's kept snapshots stand, the newest first."""
        places = draft.shelf.places
        if places is None:
            places = draft.shelf.places = {}
            for snapshot in self._kept(draft):
                for entry in snapshot.files:
                    if entry.kind == FILE:
                        places.setdefault(entry.sha256, []).append(drafts.Place(snapshot.files_path, entry))
        return places

    def _kept(self, draft: Draft) -> Sequence[Snapshot]:
        """The job's snapshots, newest first, as they were when the draft first asked."""
        if draft.shelf.kept is None:
            draft.shelf.kept = self.snapshots(draft.job_id)
        return draft.shelf.kept

    def _used(self, job_id: int) -> int:
        found: dict[tuple[int, int], int] = {}
        for number in self.numbers(job_id):
            for folder, _, files in os.walk(self._home(job_id) / str(number)):
                for name in files:
                    with contextlib.suppress(FileNotFoundError):
                        told = Path(folder, name).lstat()
                        found[told.st_dev, told.st_ino] = told.st_size if stat.S_ISREG(told.st_mode) else 0
        return sum(found.values())

    def _is_sound(self, job_id: int, number: int | None) -> bool:
        """Whether a snapshot is there whose manifest knows of no fault."""
        found = None if number is None else self._load(job_id, number)
        return isinstance(found, Snapshot) and found.fault is None

    def _newest_valid_number(self, job_id: int) -> int | None:
        valid = self.newest_valid(job_id)
        return valid.number if valid else None

    def _load(self, job_id: int, number: int) -> Snapshot | str:
        """A snapshot by its manifest, or why that cannot be read."""
        path = self._home(job_id) / str(number)
        try:
            with (path / MANIFEST).open("rb") as file:
                data = file.read(LARGEST + 1)
            found = decode(data)
        except (OSError, SnapshotError) as error:
            return f"its manifest cannot be read: {error}"
        return Snapshot(number, path, found.meta, found.files, found.stored, found.faults, found.torn)


def _names(directory: Path) -> list[str]:
    """What stands in a directory; nothing where it is not there."""
    try:
        return [path.name for path in directory.iterdir()]
    except FileNotFoundError:
        return []
