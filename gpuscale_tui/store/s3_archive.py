"""Snapshots of jobs' checkpoint directories in object storage.

    PREFIX/j17/objects/<sha256>   contents, each once for all snapshots of the job
    PREFIX/j17/3.json             manifest, as in a directory store; written last
    PREFIX/j17/3.marks.json       the mark (ETag) that the service gave each of its contents
    PREFIX/j17/3.meta.json        where it comes from, for people and other programs
    PREFIX/home.json              whose prefix it is: job numbers of two homes mean different jobs
    PREFIX/j17/4.claim            somebody puts snapshot 4 together: while it is there, no object is thrown away

A snapshot exists once its manifest does; a manifest is stored whole or not at all. Contents are checked against their
hash by the service when they arrive (`s3_bucket`), and against the mark that they had then ever after. Every function
here blocks; one engine at a time makes snapshots of a job, others may read and remove meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store import faults, soundness
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
    unreadable,
)
from gpuscale_tui.store.manifest import Manifest, check_tree, decode, encode, meta_file
from gpuscale_tui.store.s3_bucket import Bucket, Listed
from gpuscale_tui.store.s3_client import ObjectStoreError
from gpuscale_tui.store.s3_owner import check_owner
from gpuscale_tui.store.soundness import Verdict

OBJECTS, CLAIM, MANIFEST, MARKS, META = "objects/", ".claim", ".json", ".marks.json", ".meta.json"
CLAIM_MS = 3_600_000
"""An older claim is of an engine that died."""
PARTS_MS = 24 * 3_600_000
"""An upload in parts that was begun before is not gone on with."""
P = ParamSpec("P")
T = TypeVar("T")
THREADS, JUDGED, READERS = 8, 1_000, 8
"""Of so many new files of a snapshot the formats are looked at, by so many threads."""
REMEMBERED = 256
"""Manifests kept in memory: they never change."""


@dataclass(frozen=True, slots=True)
class Held:
    """An object of a job: its size and the service's mark of its content."""

    size: int
    etag: str


class S3Archive:
    """The snapshots in one bucket below one prefix; see `Archive`. `now` gives UTC ms.

    With an `owner` (the id of a home) nothing of another home's prefix is read or changed.
    """

    def __init__(
        self, bucket: Bucket, *, owner: str = "", now: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self.bucket = bucket
        self._owner = owner
        self._now = now
        self._lock = threading.Lock()
        self._known: dict[tuple[int, int, str], Snapshot] = {}
        self._distrusted: set[tuple[int, str]] = set()
        self._threads = ThreadPoolExecutor(THREADS, "s3")

    def root_words(self) -> str:
        """See `Archive`."""
        return self.bucket.words

    def numbers(self, job_id: int) -> list[int]:
        """See `Archive`."""
        return sorted(self._manifests(job_id), reverse=True)

    def snapshots(self, job_id: int) -> list[Snapshot]:
        """See `Archive`."""
        found = []
        for number, listed in sorted(self._manifests(job_id).items(), reverse=True):
            loaded = self._load(job_id, number, listed.etag)
            if isinstance(loaded, Snapshot):
                found.append(loaded)
        return found

    def find(self, job_id: int, number: int) -> Snapshot:
        """See `Archive`."""
        found = self._load(job_id, number, "")
        if isinstance(found, str):
            raise unreadable(job_id, number, found)
        return found

    def newest_valid(self, job_id: int, report: Report | None = None, *, after: int = 0) -> Snapshot | None:
        """See `Archive`. That every byte is as it was stored is told by the service's marks: nothing is read."""
        objects = self.objects(job_id)
        faulty: Snapshot | None = None
        for number, listed in sorted(self._manifests(job_id).items(), reverse=True):
            found = self._load(job_id, number, listed.etag)
            if isinstance(found, Snapshot) and found.meta.attempt <= after:
                continue
            reason = found if isinstance(found, str) else self._missing(found, objects, self._marks(job_id, number))
            if reason is None and isinstance(found, Snapshot):
                if found.fault is None:
                    return found
                faulty, reason = faulty or found, found.fault
            if report is not None and reason is not None:
                report(number, reason)
        return faulty

    def verify(self, snapshot: Snapshot, progress: Progress | None = None) -> str | None:
        """See `Archive`. Every byte is read; what several files share, once."""
        done, total = 0, snapshot.size
        checked: set[str] = set()
        for entry in _files(snapshot):
            if entry.sha256 not in checked:
                tell = partial(_tell, progress, done, total)
                reason = self._compare(snapshot, entry, tell)
                if reason is not None:
                    return reason
                checked.add(entry.sha256)
            done += entry.size
            _tell(progress, done, total, 0)
        return None

    def read(self, snapshot: Snapshot, entry: FileEntry, begun: Begun | None = None) -> Iterator[bytes]:
        """See `Archive`."""
        begun = begun or Begun(0, hashlib.sha256())
        digest, size = begun.digest, begun.size
        for data in self.bucket.read(self.key(snapshot.meta.job_id, entry.sha256), begun.size):
            digest.update(data)
            size += len(data)
            if size > entry.size:
                break
            yield data
        if size != entry.size or digest.hexdigest() != entry.sha256:
            if begun.size:
                raise BegunWrong(f"{entry.name!r} was begun with other bytes")
            self.distrust(snapshot.meta.job_id, entry.sha256)
            raise SnapshotError(f"{entry.name!r} has changed since it was stored")

    def usage(self, job_ids: Iterable[int]) -> dict[int, int]:
        """See `Archive`."""
        return {job: sum(held.size for held in self.objects(job).values()) for job in job_ids}

    def objects(self, job_id: int) -> dict[str, Held]:
        """The contents that are there, by SHA-256."""
        self._check_owner()
        stem = f"{job_label(job_id)}/{OBJECTS}"
        found = self.bucket.find_all(stem, flat=True)
        return {each.key.removeprefix(stem): Held(each.size, each.etag) for each in found}

    def key(self, job_id: int, sha256: str) -> str:
        """The key of a content."""
        return f"{job_label(job_id)}/{OBJECTS}{sha256}"

    async def do(self, work: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """Let threads of its own work: a slow storage must not take those on which everything else relies."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **more))

    # Making snapshots.

    def begin(self, job_id: int, *, after: int = 0) -> int:
        """Claim a number above all that are there and above `after` (the highest that the database knows)."""
        number = max([after, *self._manifests(job_id)]) + 1
        self.claim(job_id, number)
        return number

    def commit(
        self,
        number: int,
        entries: Sequence[FileEntry],
        meta: SnapshotMeta,
        *,
        fresh: Collection[str] = (),
    ) -> Snapshot:
        """Make a claimed number a snapshot: its contents are all there, those of the names in `fresh` are new.

        Raises SnapshotError where one is not there.
        """
        job_id = meta.job_id
        files = tuple(sorted(entries, key=lambda entry: entry.name))
        check_tree(files)
        new = [entry for entry in files if entry.kind == FILE and entry.name in fresh]
        self._distrusted -= {(job_id, entry.sha256) for entry in new}
        stored = sum({entry.sha256: entry.size for entry in new}.values())
        made = Snapshot(number, self._place(job_id, number), meta, files, stored)
        objects = self.objects(job_id)
        reason = self._missing(made, objects)
        if reason is not None:
            raise SnapshotError(reason)
        verdicts = self.judge(job_id, new, [entry.name for entry in files])
        found = faults.find(lambda name, _: verdicts.get(name, Verdict()), files, new, self.snapshots(job_id))
        made = replace(made, faults=found.faults, torn=found.torn)
        stem = f"{job_label(job_id)}/{number}"
        marks = {entry.sha256: objects[entry.sha256].etag for entry in _files(made)}
        self.bucket.put(f"{stem}{META}", meta_file(meta))
        self.bucket.put(f"{stem}{MARKS}", json.dumps(marks, indent=1).encode("ascii"))
        self.bucket.put(f"{stem}{MANIFEST}", encode(Manifest(meta, files, stored, found.faults, found.torn)))
        self.bucket.remove([f"{stem}{CLAIM}"])
        reason = self._missing(made, self.objects(job_id), marks)
        if reason is not None:  # a removal that began before our claim took something away
            self.bucket.remove([f"{stem}{MANIFEST}"])
            raise SnapshotError(f"{reason}; it was removed meanwhile")
        return made

    def judge(self, job_id: int, files: Sequence[FileEntry], present: Collection[str]) -> dict[str, Verdict]:
        """What the largest of the files say of themselves, by name; of their contents only pieces are read."""

        def one(entry: FileEntry) -> Verdict:
            with self.bucket.open(self.key(job_id, entry.sha256), entry.size) as file:
                return soundness.judge_open(file, entry.size, entry.name, present)

        chosen = sorted(files, key=lambda entry: -entry.size)[:JUDGED]
        with ThreadPoolExecutor(READERS, "s3 reader") as pool:
            return {entry.name: verdict for entry, verdict in zip(chosen, pool.map(one, chosen), strict=True)}

    def sum_at(self, key: str) -> str:
        """The hash of what really lies at a key."""
        digest = hashlib.sha256()
        for data in self.bucket.read(key):
            digest.update(data)
        return digest.hexdigest()

    def trusted(self, job_id: int) -> dict[str, Held]:
        """The contents that need not be sent again: without those whose bytes turned out to be others."""
        found = self.objects(job_id)
        return {sha256: held for sha256, held in found.items() if (job_id, sha256) not in self._distrusted}

    def distrust(self, job_id: int, sha256: str) -> None:
        """What lies there under a hash has another: no snapshot with it is chosen until it was sent again."""
        self._distrusted.add((job_id, sha256))

    def claim(self, job_id: int, number: int) -> None:
        """Say that a snapshot is being put together still; more often than `CLAIM_MS`."""
        self.bucket.put(f"{job_label(job_id)}/{number}{CLAIM}", b"{}")

    def release(self, job_id: int, number: int) -> None:
        """A snapshot is not being put together any more, whatever came of it."""
        self.bucket.remove([f"{job_label(job_id)}/{number}{CLAIM}"])

    def discard_drafts(self, job_id: int) -> None:
        """See `Archive`."""
        over = [each.key for each in self._claims(job_id) if each.at <= self._now() - CLAIM_MS]
        self.bucket.remove(over)
        self.bucket.abandon_parts(f"{job_label(job_id)}/{OBJECTS}", self._now() - PARTS_MS)

    # Removing.

    def superfluous(
        self, job_id: int, keep: int, *, pinned: Collection[int] = (), trusted: int | None = None
    ) -> list[int]:
        """See `Archive`."""
        numbers = self.numbers(job_id)
        doomed = [number for number in numbers[max(1, keep) :] if number not in pinned]
        if not doomed:
            return []
        if trusted not in numbers:
            newest = self.newest_valid(job_id)
            trusted = newest.number if newest else None
        return [] if trusted is None else [number for number in doomed if number != trusted]

    def remove(self, job_id: int, number: int) -> None:
        """See `Archive`. The manifest goes first, then the contents that no other manifest names."""
        self._check_owner()
        stem = f"{job_label(job_id)}/{number}"
        self.bucket.remove([f"{stem}{MANIFEST}"])
        self.bucket.remove([f"{stem}{MARKS}", f"{stem}{META}"])
        self._sweep(job_id)

    def _sweep(self, job_id: int) -> None:
        """Throw away the contents that nothing names: not while somebody may be about to name them."""
        self.bucket.abandon_parts(f"{job_label(job_id)}/{OBJECTS}", self._now() - PARTS_MS)
        if self._claimed(job_id):
            return
        named: set[str] = set()
        objects = self.objects(job_id)
        for number, listed in self._manifests(job_id).items():
            found = self._load(job_id, number, listed.etag)
            if isinstance(found, str):
                return  # what it names cannot be told
            named |= {entry.sha256 for entry in _files(found)}
        unnamed = [self.key(job_id, sha256) for sha256 in objects if sha256 not in named]
        if unnamed and not self._claimed(job_id):
            self.bucket.remove(unnamed)

    def _claimed(self, job_id: int) -> bool:
        return any(each.at > self._now() - CLAIM_MS for each in self._claims(job_id))

    def _claims(self, job_id: int) -> list[Listed]:
        return [each for each in self._own(job_id) if each.key.endswith(CLAIM)]

    # Parts.

    def _check_owner(self) -> None:
        """Raise ObjectStoreError where the prefix is another home's. Once is enough."""
        if self._owner:
            check_owner(self.bucket, self._owner)
            self._owner = ""

    def _own(self, job_id: int) -> Iterator[Listed]:
        self._check_owner()
        return self.bucket.find_all(f"{job_label(job_id)}/", flat=True)

    def _manifests(self, job_id: int) -> dict[int, Listed]:
        found = {}
        for each in self._own(job_id):
            name = each.key.rpartition("/")[2].removesuffix(MANIFEST)
            if each.key.endswith(MANIFEST) and name.isascii() and name.isdigit() and len(name) < 10:
                found[int(name)] = each
        return found

    def _place(self, job_id: int, number: int) -> Path:
        return Path(f"{self.bucket.place}/{job_label(job_id)}/{number}")

    def _load(self, job_id: int, number: int, etag: str) -> Snapshot | str:
        """A snapshot by its manifest, or why that cannot be read. Raises ObjectStoreError when nothing can be asked."""
        self._check_owner()
        known = self._known.get((job_id, number, etag)) if etag else None
        if known is not None:
            return known
        data = self.bucket.get(f"{job_label(job_id)}/{number}{MANIFEST}")
        if data is None:
            return "it is not there"
        try:
            told = decode(data)
        except SnapshotError as error:
            return f"its manifest cannot be read: {error}"
        if told.meta.job_id != job_id:
            return "its manifest is of another job"
        found = Snapshot(
            number, self._place(job_id, number), told.meta, told.files, told.stored, told.faults, told.torn
        )
        if etag:
            self._remember((job_id, number, etag), found)
        return found

    def _remember(self, key: tuple[int, int, str], found: Snapshot) -> None:
        with self._lock:
            while len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[key] = found

    def _marks(self, job_id: int, number: int) -> Mapping[str, str]:
        """The marks of a snapshot's contents; empty where they cannot be told."""
        try:
            told = json.loads(self.bucket.get(f"{job_label(job_id)}/{number}{MARKS}") or b"{}")
        except ValueError:
            return {}
        return {str(sha256): str(mark) for sha256, mark in told.items()} if isinstance(told, dict) else {}

    def _missing(
        self, snapshot: Snapshot, objects: Mapping[str, Held], marks: Mapping[str, str] | None = None
    ) -> str | None:
        """What of a snapshot is not there, or not as it was when it was stored."""
        for entry in _files(snapshot):
            held = objects.get(entry.sha256)
            if held is None:
                return f"{entry.name!r} is missing"
            if held.size != entry.size:
                return f"{entry.name!r} has {held.size} bytes, not {entry.size}"
            wrong = (snapshot.meta.job_id, entry.sha256) in self._distrusted
            if wrong or (marks or {}).get(entry.sha256, held.etag) != held.etag:
                return f"{entry.name!r} has changed since it was stored"
        return None

    def _compare(self, snapshot: Snapshot, entry: FileEntry, tell: Callable[[int], None]) -> str | None:
        try:
            for done in itertools.accumulate(map(len, self.read(snapshot, entry))):
                tell(done)
        except ObjectStoreError as error:
            if error.away:
                raise
            return f"{entry.name!r}: {error}"
        except SnapshotError as error:
            return str(error)
        return None


def _tell(progress: Progress | None, done: int, total: int, more: int) -> None:
    if progress is not None:
        progress(done + more, total)


def _files(snapshot: Snapshot) -> list[FileEntry]:
    return [entry for entry in snapshot.files if entry.kind == FILE]
