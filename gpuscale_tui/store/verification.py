"""Whether a snapshot on disk is as its manifest says: every byte of every file, and where its links lead."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from gpuscale_tui.store.archive import DIRECTORY, FILE, FileEntry, Progress, Snapshot, SnapshotError
from gpuscale_tui.store.sealing import CHUNK, check_size


def verify(
    snapshot: Snapshot, progress: Progress | None = None, rotten: Callable[[FileEntry], None] | None = None
) -> str | None:
    """Why a snapshot in a directory is broken, None when everything is as its manifest says. Every byte is read.

    `rotten` hears of a file that has its size and other bytes.
    """
    done = 0
    size = snapshot.size
    for entry in snapshot.files:
        try:
            if entry.kind != FILE:
                _check_other(snapshot.files_path, entry)
                continue
            digest = hashlib.sha256()
            with check_size(snapshot.files_path, entry).open("rb") as file:
                while data := file.read(CHUNK):
                    digest.update(data)
                    done += len(data)
                    if progress is not None:
                        progress(done, size)
            if digest.hexdigest() != entry.sha256:
                if rotten is not None:
                    rotten(entry)
                return f"{entry.name!r} has changed since it was stored"
        except SnapshotError as error:
            return str(error)
        except OSError as error:
            return f"{entry.name!r} cannot be read: {error.strerror or error}"
    return None


def _check_other(root: Path, entry: FileEntry) -> None:
    """A directory must be there; a link, where it is on disk at all, must lead where it did.

    The manifest is enough to put both back; on a file system without links only the manifest has them.
    """
    path = root / entry.name
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError as error:
        if entry.kind == DIRECTORY:
            raise SnapshotError(f"{entry.name!r} is missing") from error
        return
    if entry.kind == DIRECTORY and stat.S_ISDIR(mode):
        return
    # as it was written: a Path would leave out a doubled slash
    if entry.kind == DIRECTORY or not stat.S_ISLNK(mode) or os.readlink(path) != entry.target:  # noqa: PTH115
        raise SnapshotError(f"{entry.name!r} has changed since it was stored")
