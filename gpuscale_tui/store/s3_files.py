"""Files of this computer into object storage, and contents from there into files. Blocking."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gpuscale_tui.model.objects import PartSizes
from gpuscale_tui.store.archive import FileEntry, Snapshot, SnapshotError
from gpuscale_tui.store.s3_archive import S3Archive
from gpuscale_tui.store.s3_bucket import Part, whole_sum


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
