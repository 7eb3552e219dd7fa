"""What users do with snapshots: fetch one, go on from one, remove some. Shared by the screen and the verbs.

Functions of a connection are commands, one transaction each; the others work on files, block, and belong on a thread.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpuscale_tui.engine.copying import Copied, DownloadError, Stopped, download, look
from gpuscale_tui.model.errors import NotFound, Refused
from gpuscale_tui.model.jobs import JobSpec, StartFrom, job_label
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.model.states import AttemptState, JobState
from gpuscale_tui.store import events, jobs, snapshots
from gpuscale_tui.store.archive import FILE, Archive, Progress, Snapshot, SnapshotError
from gpuscale_tui.store.checkpoints import SnapshotStore
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.snapshots import SnapshotRow

__all__ = [
    "Copied", "DownloadError", "Stopped", "archive", "archive_at", "ask_to_save", "ask_to_save_all", "branch_of",
    "broken", "checked_lately", "claim_removal", "download", "frees", "look", "must_be_kept", "newest_kept",
    "note_check", "pin", "refuse_removal", "removable", "remove", "resume", "snapshot_store", "superfluous", "unpin",
]  # fmt: skip

MISSING = "not on disk"
"""Said of a snapshot that is not where it should be."""
CHECK_LASTS_MS = 24 * 3_600_000
"""A snapshot whose every byte was compared so lately is taken for whole where its sizes are right."""


def snapshot_store(home: Home, settings: Settings) -> SnapshotStore:
    """Where snapshots are: the directory of the settings, else the home's."""
    named = settings.checkpoints.dir
    return SnapshotStore(Path(named).expanduser() if named else home.checkpoints)


def archive(home: Home, settings: Settings) -> Archive:
    """Where snapshots are kept by the settings, as verbs and screens see it."""
    from gpuscale_tui.engine.s3_places import both_archives

    return both_archives(settings, snapshot_store(home, settings)) or snapshot_store(home, settings)


def archive_at(home: Home, settings: Settings, place: str) -> Archive:
    """Where a snapshot is, by its `place`: those made before the settings changed are still where they were.

    Raises Refused for one in object storage that the settings do not name any more.
    """
    if place == "dir":
        return snapshot_store(home, settings)
    if settings.checkpoints.s3 is None:
        raise Refused("it is in object storage, and `s3` in [checkpoints] names none: set it again to reach it")
    return archive(home, settings)


def newest_kept(connection: sqlite3.Connection, job_id: int) -> SnapshotRow:
    """The newest snapshot of a job in which nothing is known to be wrong, else the newest. Raises NotFound."""
    if jobs.get(connection, job_id) is None:
        raise NotFound(f"there is no job {job_label(job_id)}; `gpuscale queue` lists them")
    rows = snapshots.kept(connection, job_id)
    if not rows:
        raise NotFound(
            f"{job_label(job_id)} has no snapshot that is kept; `gpuscale retry` starts it from the beginning"
        )
    return next((row for row in rows if row.fault is None), rows[0])


def must_be_kept(connection: sqlite3.Connection, start: StartFrom) -> SnapshotRow:
    """What is known of a snapshot. Raises NotFound or Refused where there is none or it was removed."""
    row = snapshots.get(connection, start.job_id, start.snapshot)
    if row is None:
        raise NotFound(f"there is no snapshot {start.label}; `gpuscale checkpoints` lists them")
    if row.pruned_at is not None:
        raise Refused(f"snapshot {start.label} was removed; `gpuscale checkpoints` lists those that are kept")
    return row


def branch_of(connection: sqlite3.Connection, start: StartFrom) -> JobSpec:
    """What a new job asks for that begins with this snapshot and is like its job in everything else.

    Of its secrets there are the names: `commands.submit` takes their values from that job. Raises NotFound or Refused.
    """
    must_be_kept(connection, start)
    job = jobs.get(connection, start.job_id)
    assert job is not None, "a snapshot has a job"
    return replace(job.spec, start_from=start, rehearse=False)


def pin(connection: sqlite3.Connection, chosen: Iterable[StartFrom], *, user: str, now: int) -> list[StartFrom]:
    """Keep snapshots until they are unpinned, whatever else is pruned; returns those that were not pinned before.

    Raises NotFound, or Refused for one that was removed: then none is pinned.
    """
    found = list(dict.fromkeys(chosen))
    for each in found:
        must_be_kept(connection, each)
    return [each for each in found if snapshots.pin(connection, each.job_id, each.snapshot, now=now, by=user)]


def unpin(connection: sqlite3.Connection, chosen: Iterable[StartFrom], *, user: str, now: int) -> list[StartFrom]:
    """Let snapshots be pruned like others; returns those that were pinned. Raises NotFound, Refused."""
    found = list(dict.fromkeys(chosen))
    for each in found:
        must_be_kept(connection, each)
    return [each for each in found if snapshots.unpin(connection, each.job_id, each.snapshot, now=now, by=user)]


def ask_to_save(connection: sqlite3.Connection, job_id: int, *, user: str, now: int) -> int:
    """Want a snapshot of a running job now; returns its attempt. A save that was asked for already goes on.

    Raises NotFound, and Refused where its command does not run.
    """
    job = jobs.get(connection, job_id)
    if job is None:
        raise NotFound(f"there is no job {job_label(job_id)}; `gpuscale queue` lists them")
    attempt = jobs.get_attempt(connection, job_id, job.attempt)
    if job.state != JobState.RUNNING or attempt is None or attempt.state != AttemptState.RUNNING:
        stage = "" if attempt is None or job.state != JobState.RUNNING else f" ({attempt.state})"
        raise Refused(f"{job_label(job_id)} is {job.state}{stage}: only a job whose command runs can be saved")
    jobs.ask_save(connection, job_id, user=user, now=now)
    return job.attempt


def ask_to_save_all(connection: sqlite3.Connection, job_ids: Sequence[int], *, user: str, now: int) -> list[int]:
    """Want a snapshot now of each of these whose command runs; returns those. One alone is refused with the reason."""
    if len(job_ids) == 1:
        ask_to_save(connection, job_ids[0], user=user, now=now)
        return list(job_ids)
    found = []
    for job_id in job_ids:
        with contextlib.suppress(Refused, NotFound):
            ask_to_save(connection, job_id, user=user, now=now)
            found.append(job_id)
    return found


def note_check(connection: sqlite3.Connection, which: StartFrom, fault: str, *, now: int) -> None:
    """Remember that every byte of a snapshot was compared, and what is wrong with it (empty: nothing)."""
    snapshots.record_check(connection, which.job_id, which.snapshot, fault or None, now=now)


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
    row = snapshots.get(connection, chosen.job_id, chosen.snapshot)
    if row is not None and row.pinned_at is not None:
        return "it is pinned; `gpuscale checkpoints unpin` lets it go"
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


def superfluous(connection: sqlite3.Connection, store: Archive, job_id: int, keep: int) -> list[StartFrom]:
    """The snapshots of a job besides the newest `keep`, the pinned ones and the last whole one. Reads files."""
    found = store.superfluous(job_id, keep, pinned=snapshots.pinned(connection, job_id))
    return [StartFrom(job_id, number) for number in found]


def checked_lately(connection: sqlite3.Connection, job_ids: Collection[int], now: int) -> frozenset[StartFrom]:
    """The snapshots of these jobs whose every byte was compared a short while ago, and was right."""
    rows = [row for job_id in job_ids for row in snapshots.kept(connection, job_id)]
    fresh = [row for row in rows if row.fault is None and row.checked_at and now - row.checked_at < CHECK_LASTS_MS]
    return frozenset(StartFrom(row.job_id, row.number) for row in fresh)


def removable(
    store: Archive, chosen: Iterable[StartFrom], *, checked: Collection[StartFrom] = frozenset()
) -> Removal:  # fmt: skip
    """Of the snapshots chosen, those without which their job still has a whole one. Reads and hashes files: blocking.

    Those `checked` lately are whole where their sizes are right. Raises Refused where the place of all snapshots is not
    there: then nothing can be told.
    """
    if isinstance(store, SnapshotStore) and not store.root.is_dir():
        raise Refused(f"{store.root} is not there: nothing was removed")
    going: list[StartFrom] = []
    staying: list[tuple[StartFrom, str]] = []
    for job_id, wanted in _by_job(chosen).items():
        last = _must_stay(store, job_id, wanted, checked)
        for number in wanted:
            if number == last:
                staying.append((StartFrom(job_id, number), f"it is the last whole snapshot of {job_label(job_id)}"))
            else:
                going.append(StartFrom(job_id, number))
    return Removal(tuple(going), tuple(staying))


def _by_job(chosen: Iterable[StartFrom]) -> Mapping[int, list[int]]:
    """Numbers by job, each once, in their order."""
    found: dict[int, list[int]] = {}
    for each in dict.fromkeys(chosen):
        found.setdefault(each.job_id, []).append(each.snapshot)
    return found


def _must_stay(
    store: Archive, job_id: int, wanted: Collection[int], checked: Collection[StartFrom]
) -> int | None:  # fmt: skip
    """The newest whole snapshot among those wanted gone, when no other is whole.

    In object storage, where reading all is dear, the newest whole one by its marks stays in any case.
    """
    if not isinstance(store, SnapshotStore):
        valid = store.newest_valid(job_id)
        return valid.number if valid is not None and valid.number in wanted else None
    numbers = store.numbers(job_id)
    for number in [*(n for n in numbers if n not in wanted), *(n for n in numbers if n in wanted)]:
        which = StartFrom(job_id, number)
        if broken(store, which, hashes=which not in checked) == "":
            return number if number in wanted else None
    return None


def frees(store: Archive, chosen: Iterable[StartFrom]) -> int:
    """Bytes that go with these snapshots, by their manifests: what others of their jobs share stays. Blocking."""
    freed = 0
    for job_id, wanted in _by_job(chosen).items():
        going: dict[str, int] = {}
        staying: set[str] = set()
        for snapshot in store.snapshots(job_id):
            contents = {entry.sha256: entry.size for entry in snapshot.files if entry.kind == FILE}
            if snapshot.number in wanted:
                going |= contents
            else:
                staying |= contents.keys()
        freed += sum(size for content, size in going.items() if content not in staying)
    return freed


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


def remove(store: Archive, chosen: Iterable[StartFrom]) -> None:
    """Remove snapshots that were claimed. One that is gone already is no error. Blocking; raises OSError."""
    for each in chosen:
        store.remove(each.job_id, each.snapshot)


def broken(store: Archive, which: StartFrom, *, hashes: bool = False, progress: Progress | None = None) -> str:
    """What is wrong with a snapshot where it is kept, in words, or nothing. Blocking.

    With `hashes` every byte is read; without, object storage is not asked at all. What `progress` raises ends it.
    """
    directory = isinstance(store, SnapshotStore)
    if not (directory or hashes):
        return ""
    if which.snapshot not in store.numbers(which.job_id):
        return MISSING
    try:
        found = store.find(which.job_id, which.snapshot)
        if hashes:
            return store.verify(found, progress) or found.fault or ""
    except SnapshotError as error:
        return str(error)
    return _wrong_sizes(found) or found.fault or ""


def _wrong_sizes(snapshot: Snapshot) -> str:
    for entry in snapshot.files:
        if entry.kind != FILE:
            continue
        try:
            size = os.lstat(snapshot.files_path / entry.name).st_size
        except OSError:
            return f"{entry.name!r} is missing"
        if size != entry.size:
            return f"{entry.name!r} has {size} bytes, not {entry.size}"
    return ""
