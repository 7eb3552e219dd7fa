"""Outputs of jobs for their users: what was fetched of OUTPUT_DIR, and how it is copied to where they want it.

Shared by the verb and the screen. What works on files blocks and belongs on a thread.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuscale_tui.engine import copying
from gpuscale_tui.engine.copying import CHUNK, Asked, Copied, DownloadError, Standing, unheard
from gpuscale_tui.model.errors import GpuscaleError, NotFound
from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.model.states import JobState
from gpuscale_tui.store import filehashes, jobs, output_files
from gpuscale_tui.store.archive import (
    DIRECTORY,
    FILE,
    LINK,
    Begun,
    BegunWrong,
    FileEntry,
    Progress,
    Snapshot,
    SnapshotMeta,
)
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.output_files import OutputRow


class NoOutputs(GpuscaleError):
    """There is nothing to get of this job; the message says why, and when there will be."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """The fetched outputs of one attempt: where they are, `others` that have some too, `remark` for their user."""

    row: OutputRow
    root: Path
    others: tuple[OutputRow, ...] = ()
    remark: str = ""


def find(connection: sqlite3.Connection, home: Home, job_id: int, attempt: int | None = None) -> Outputs:
    """The outputs of an attempt, by default of the newest that left any. Raises NotFound, NoOutputs."""
    job, label = jobs.get(connection, job_id), job_label(job_id)
    if job is None:
        raise NotFound(f"there is no job {label}; `gpuscale queue --all` lists them")
    rows = output_files.of_job(connection, job_id)
    row = next((each for each in rows if attempt in {None, each.attempt}), None)
    running = job.state == JobState.RUNNING and (attempt is None or attempt == job.attempt)
    if row is None:
        raise NoOutputs(_why_none(label, job.state, running, attempt, rows))
    remark = f"{label} runs: what attempt {job.attempt} leaves is fetched when it ends" if running else ""
    if row.error is not None:
        remark = f"{remark}; {row.error}" if remark else row.error
    return Outputs(row, home.outputs / label / str(row.attempt), tuple(each for each in rows if each != row), remark)


def _why_none(label: str, state: JobState, running: bool, attempt: int | None, rows: Sequence[OutputRow]) -> str:
    if running:
        return f"{label} runs: what it writes to $OUTPUT_DIR is fetched when its attempt ends"
    if attempt is not None:
        known = ", ".join(str(each.attempt) for each in rows) or "none"
        return f"attempt {attempt} of {label} left nothing in $OUTPUT_DIR; attempts that did: {known}"
    if state == JobState.PENDING:
        return f"{label} waits: what it writes to $OUTPUT_DIR is fetched when an attempt of it has ended"
    return f"{label} is {state} and left nothing in $OUTPUT_DIR"


def entries(outputs: Outputs) -> tuple[FileEntry, ...]:
    """Everything that was fetched, by name, without hashes. Blocking; raises NoOutputs where it is gone."""
    root = outputs.root
    if not root.is_dir():
        raise NoOutputs(f"{root} is not there any more: the outputs were removed by hand")
    found: list[FileEntry] = []
    for place, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = Path(place, name)
            found.append(_entry(path, path.relative_to(root).as_posix()))
    return tuple(sorted(found, key=lambda entry: os.fsencode(entry.name)))


def _entry(path: Path, name: str) -> FileEntry:
    status = path.lstat()
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return FileEntry(name, 0, 0o777, "", LINK, os.readlink(path))  # noqa: PTH115 - the text as it stands
    if stat.S_ISDIR(status.st_mode):
        return FileEntry(name, 0, mode, "", DIRECTORY)
    return FileEntry(name, status.st_size, mode, "", FILE)


@dataclass(frozen=True, slots=True)
class _Tree:
    """A fetched tree as what `copying` copies from."""

    root: Path

    def read(
        self, snapshot: Snapshot, entry: FileEntry, begun: Begun | None = None  # noqa: ARG002 - of this tree alone
    ) -> Iterator[bytes]:  # fmt: skip
        """The content, held against the hash that it had a moment ago."""
        begun = begun or Begun(0, hashlib.sha256())
        digest = begun.digest
        with os.fdopen(os.open(self.root / entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            file.seek(begun.size)
            while data := file.read(CHUNK):
                digest.update(data)
                yield data
        if digest.hexdigest() != entry.sha256:
            if begun.size:
                raise BegunWrong(f"{entry.name!r} was begun with other bytes")
            raise DownloadError(f"{entry.name!r} changes while it is copied; repeat it")


def hashed(home: Home, outputs: Outputs) -> Snapshot:
    """The same with hashes, as `copying` wants it. Reads what is not known yet. Blocking; raises NoOutputs, OSError."""
    found = entries(outputs)
    paths = {entry.name: outputs.root / entry.name for entry in found if entry.kind == FILE}
    hashes = filehashes.hashes(home.hashes, paths.values())
    files = tuple(
        FileEntry(entry.name, entry.size, entry.mode, hashes[paths[entry.name]]) if entry.name in paths else entry
        for entry in found
    )
    row = outputs.row
    return Snapshot(row.attempt, outputs.root, SnapshotMeta(row.job_id, row.attempt, 0, row.at), files)


def look(snapshot: Snapshot, target: Path) -> Standing:
    """See `copying.look`."""
    return copying.look(snapshot, target)


def copy(
    outputs: Outputs,
    snapshot: Snapshot,
    target: Path,
    *,
    standing: Standing | None = None,
    overwrite: bool = False,
    progress: Progress = unheard,
    stopped: Asked = lambda: False,
) -> Copied:
    """Copy outputs into a directory: see `copying.download`."""
    return copying.download(
        _Tree(outputs.root), snapshot, target, standing=standing, overwrite=overwrite, progress=progress,
        stopped=stopped,
    )  # fmt: skip
