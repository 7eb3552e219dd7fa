"""What users do with snapshots: fetch one, go on from one, remove some. Shared by the screen and the verbs.

Functions of a connection are commands, one transaction each; the others work on files, block, and belong on a thread.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuscale_tui.model.errors import GpuscaleError, NotFound, Refused
from gpuscale_tui.model.jobs import StartFrom, job_label
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.model.states import AttemptState, JobState
from gpuscale_tui.store import events, jobs, snapshots
from gpuscale_tui.store.checkpoints import FileEntry, Snapshot, SnapshotError, SnapshotStore, verify
from gpuscale_tui.store.home import Home

CHUNK = 1 << 20
PART = ".gpuscale-part"
"""Ending of a file that is being written; it gets its name once its hash is right."""


class DownloadError(GpuscaleError):
    """A snapshot could not be copied out: a file that is not as it was stored, a place that cannot be written."""


class Stopped(GpuscaleError):
    """Copying was stopped by its user; files that were finished stay."""


def snapshot_store(home: Home, settings: Settings) -> SnapshotStore:
    """Where snapshots are: the directory of the settings, else the home's."""
    named = settings.checkpoints.dir
    return SnapshotStore(Path(named).expanduser() if named else home.checkpoints)


def must_be_kept(connection: sqlite3.Connection, start: StartFrom) -> None:
    """Raise NotFound or Refused where there is no such snapshot or it was removed."""
    row = snapshots.get(connection, start.job_id, start.snapshot)
    if row is None:
        raise NotFound(f"there is no snapshot {start.label}; `gpuscale checkpoints` lists them")
    if row.pruned_at is not None:
        raise Refused(f"snapshot {start.label} was removed; `gpuscale checkpoints` lists those that are kept")


def resume(connection: sqlite3.Connection, start: StartFrom, *, user: str, now: int) -> None:
    """Put a job back into the queue so that it goes on from a snapshot of its own that need not be its newest.

    Raises NotFound, and Refused while the job runs or where the snapshot was removed.
    """
    job = jobs.get(connection, start.job_id)
    if job is None:
        raise NotFound(f"there is no job {job_label(start.job_id)}; `gpuscale queue` lists them")
    if job.state == JobState.RUNNING:
        raise Refused(f"{job_label(job.id)} runs: cancel it first, or branch a new job from the snapshot")
    must_be_kept(connection, start)
    if job.state != JobState.PENDING:
        jobs.retry(connection, job.id, now, user)
    jobs.start_from(connection, job.id, start, after=job.attempt)
    events.append(connection, now, "request", f"resumes from snapshot {start.snapshot}, by {user}", job_id=job.id)


def refuse_removal(connection: sqlite3.Connection, chosen: StartFrom) -> str:
    """Why a snapshot must stay for now, in words; nothing where it may go."""
    holder = snapshots.holder(connection, chosen.job_id, chosen.snapshot)
    if holder is not None:
        return f"{job_label(holder)} starts from it"
    job = jobs.get(connection, chosen.job_id)
    attempt = jobs.get_attempt(connection, chosen.job_id, job.attempt) if job else None
    if attempt is not None and attempt.state in {AttemptState.ASSIGNED, AttemptState.STAGING}:
        return f"{job_label(chosen.job_id)} is being set up from its snapshots"
    return ""


@dataclass(frozen=True, slots=True)
class Removal:
    """What may be removed, and what stays with the reason."""

    going: tuple[StartFrom, ...]
    staying: tuple[tuple[StartFrom, str], ...] = ()


def removable(store: SnapshotStore, chosen: Iterable[StartFrom]) -> Removal:
    """Of the snapshots chosen, those without which their job still has a whole one. Reads and hashes files: blocking.

    Raises Refused where the directory of all snapshots is not there: then nothing can be told.
    """
    if not store.root.is_dir():
        raise Refused(f"{store.root} is not there: nothing was removed")
    going: list[StartFrom] = []
    staying: list[tuple[StartFrom, str]] = []
    by_job: dict[int, list[StartFrom]] = {}
    for each in dict.fromkeys(chosen):
        by_job.setdefault(each.job_id, []).append(each)
    for job_id, wanted in by_job.items():
        last = _must_stay(store, job_id, {each.snapshot for each in wanted})
        for each in wanted:
            if each.snapshot == last:
                staying.append((each, f"it is the last whole snapshot of {job_label(job_id)}"))
            else:
                going.append(each)
    return Removal(tuple(going), tuple(staying))


def _must_stay(store: SnapshotStore, job_id: int, wanted: set[int]) -> int | None:
    """The newest whole snapshot among those wanted gone, when no other is whole."""
    numbers = store.numbers(job_id)
    for number in [*(n for n in numbers if n not in wanted), *(n for n in numbers if n in wanted)]:
        if broken(store, StartFrom(job_id, number), hashes=True) == "":
            return number if number in wanted else None
    return None


def claim_removal(connection: sqlite3.Connection, chosen: Sequence[StartFrom], *, user: str, now: int) -> Removal:
    """Note that snapshots go, before they do: nothing can start from them any more. Those that jobs need stay."""
    going: list[StartFrom] = []
    staying: list[tuple[StartFrom, str]] = []
    for each in chosen:
        reason = refuse_removal(connection, each)
        if reason:
            staying.append((each, reason))
        else:
            snapshots.mark_pruned(connection, each.job_id, each.snapshot, now=now, epoch=None, by=user)
            going.append(each)
    return Removal(tuple(going), tuple(staying))


def remove(store: SnapshotStore, chosen: Iterable[StartFrom]) -> None:
    """Remove snapshots from disk. Blocking; raises OSError."""
    for each in chosen:
        store.remove(each.job_id, each.snapshot)


def broken(store: SnapshotStore, which: StartFrom, *, hashes: bool = False) -> str:
    """What is wrong with a snapshot on disk, in words, or nothing; with `hashes` every byte is read. Blocking."""
    if not (store.root / job_label(which.job_id) / str(which.snapshot)).is_dir():
        return "not on disk"
    try:
        found = store.find(which.job_id, which.snapshot)
    except SnapshotError as error:
        return str(error)
    if hashes:
        return verify(found) or ""
    return _wrong_sizes(found)


def _wrong_sizes(snapshot: Snapshot) -> str:
    for entry in snapshot.files:
        try:
            size = os.lstat(snapshot.files_path / entry.name).st_size
        except OSError:
            return f"{entry.name!r} is missing"
        if size != entry.size:
            return f"{entry.name!r} has {size} bytes, not {entry.size}"
    return ""


Progress = Callable[[int, int], None]
"""Hears of bytes done and bytes in all, from the thread that copies."""


def in_the_way(snapshot: Snapshot, target: Path) -> list[str]:
    """Names of the snapshot that are there already in a directory. Blocking; raises DownloadError for a hostile one."""
    for entry in snapshot.files:
        _place(target, entry)
    return [entry.name for entry in snapshot.files if os.path.lexists(target / entry.name)]


def download(
    snapshot: Snapshot,
    target: Path,
    *,
    overwrite: bool = False,
    progress: Progress = lambda _done, _all: None,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Copy a snapshot's files into a directory; every byte is held against the manifest. Returns bytes copied.

    Blocking. A file that is there already is replaced only with `overwrite`; one that is cut short never gets its
    name. Raises DownloadError, and Stopped once `stopped` says so.
    """
    done, size = 0, snapshot.size
    try:
        target.mkdir(parents=True, exist_ok=True)
        for entry in snapshot.files:
            place = _place(target, entry)
            if not overwrite and os.path.lexists(place):
                raise DownloadError(f"{place} is there already")
            place.parent.mkdir(parents=True, exist_ok=True)
            for count in _copy(snapshot, entry, place, stopped, overwrite=overwrite):
                done += count
                progress(done, size)
    except OSError as error:
        raise DownloadError(f"{error.filename or target}: {error.strerror}") from error
    return done


def _place(target: Path, entry: FileEntry) -> Path:
    """Where a file goes. Raises DownloadError when a link in the directory would lead it elsewhere."""
    place = target / entry.name
    for parent in place.parents:
        if parent == target:
            return place
        if parent.is_symlink():
            raise DownloadError(f"{parent} is a link: nothing is written through it")
    raise DownloadError(f"the file name {entry.name!r} leads out of the directory")


def _copy(
    snapshot: Snapshot, entry: FileEntry, place: Path, stopped: Callable[[], bool], *, overwrite: bool
) -> Iterable[int]:
    source, part = snapshot.files_path / entry.name, place.with_name(place.name[:200] + PART)
    part.unlink(missing_ok=True)
    digest = hashlib.sha256()
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with source.open("rb") as original, os.fdopen(os.open(part, flags, 0o600), "wb") as copy:
            while data := original.read(CHUNK):
                if stopped():
                    raise Stopped(f"stopped; {part.parent} has the files that were finished")
                copy.write(data)
                digest.update(data)
                yield len(data)
            os.fchmod(copy.fileno(), entry.mode & 0o777)
        if digest.hexdigest() != entry.sha256:
            raise DownloadError(f"{entry.name!r} has changed since it was stored: it was not copied")
        _give_its_name(part, place, overwrite=overwrite)
    finally:
        part.unlink(missing_ok=True)


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
