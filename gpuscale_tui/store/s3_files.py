"""Files of this computer into object storage, and contents from there into files. Blocking."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpuscale_tui.model.objects import PartSizes
from gpuscale_tui.store.archive import FileEntry, Snapshot, SnapshotError
from gpuscale_tui.store.s3_archive import READERS, S3Archive
from gpuscale_tui.store.s3_bucket import Part, Stored, whole_sum


def store_file(archive: S3Archive, job_id: int, path: Path, entry: FileEntry, sizes: PartSizes) -> None:
    """Store a content whose hash is known; the service refuses it when it is not that. Large ones go in parts, and
    parts that are there are not sent again. Raises SnapshotError, OSError."""
    key = archive.key(job_id, entry.sha256)
    if entry.size < sizes.parts_from:
        with path.open("rb") as file:
            archive.bucket.put_stream(key, file, entry.size, entry.sha256)
    else:
        _store_parts(archive, key, path, entry, sizes.part_of(entry.size))
    _check(archive, key, entry)


def _store_parts(archive: S3Archive, key: str, path: Path, entry: FileEntry, step: int) -> None:
    bucket = archive.bucket
    upload = bucket.begin_parts(key)
    have = bucket.parts(key, upload)
    sums = []
    with path.open("rb") as file:
        while data := file.read(step):
            sums.append(hashlib.sha256(data).hexdigest())
            part = Part(len(sums), len(data), "", sums[-1])
            found = have.get(part.number)
            if found is None or found.size != part.size or found.sha256 not in {"", part.sha256}:
                bucket.put_part(key, upload, part, data)
    there = bucket.parts(key, upload)
    bucket.finish_parts(key, upload, [there[number + 1] for number in range(len(sums))])
    found_whole = bucket.look(key)
    if found_whole is not None and found_whole.sha256 not in {"", whole_sum(sums)}:
        bucket.remove([key])
        raise SnapshotError(f"{entry.name!r} did not arrive whole")


def _check(archive: S3Archive, key: str, entry: FileEntry) -> None:
    """Where the service keeps no hash, what it has is read back once."""
    found = archive.bucket.look(key)
    if found is None or found.size != entry.size:
        raise SnapshotError(f"{entry.name!r} did not arrive whole")
    if not found.sha256 and archive.sum_at(key) != entry.sha256:
        archive.bucket.remove([key])
        raise SnapshotError(f"{entry.name!r} did not arrive whole")


def fetch_file(archive: S3Archive, snapshot: Snapshot, entry: FileEntry, target: Path) -> None:
    """Write a file's content into a new file. Raises SnapshotError when it is not what was stored, OSError."""
    with target.open("xb") as file:
        for data in archive.read(snapshot, entry):
            file.write(data)


def look_at(archive: S3Archive, job_id: int, hashes: Sequence[str]) -> dict[str, Stored]:
    """What the service says of contents, each asked for by itself: with the hashes that it keeps."""
    with ThreadPoolExecutor(READERS, "s3 reader") as pool:
        found = zip(hashes, pool.map(lambda each: archive.bucket.look(archive.key(job_id, each)), hashes), strict=True)
        return {sha256: stored for sha256, stored in found if stored is not None}


def read_sums(archive: S3Archive, job_id: int, hashes: Sequence[str]) -> list[str]:
    """The hashes of what really lies there: all of it is read."""
    return [archive.sum_at(archive.key(job_id, sha256)) for sha256 in hashes]
