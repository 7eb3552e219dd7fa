"""What the database knows of snapshots: which there were, of which attempt, how large (the files: `checkpoints.py`)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gpuscale_tui.store import events


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """One snapshot of a job's checkpoint directory. `at` and `pruned_at` are UTC ms; pruned ones are gone from disk.

    `step`, `epoch`, `loss`: how far the job was by its own output when it was taken; None where that said nothing.
    `kind` is why it was taken (`interval`, `last` before an end, `asked` by a user), `took_ms` how long that took,
    `stored` the bytes that it added (the rest stood in snapshots before it). `pinned_at` (UTC ms) is set while it may
    not be pruned, `checked_at` when every byte was last compared, `fault` what is wrong with it as far as is known.
    `place` is where its files are: `dir` or `s3`. `of_at` (UTC ms) is when the newest of its files was written: work
    after that stands in no file of it; None where that is not known.
    """

    job_id: int
    number: int
    attempt: int
    at: int
    files: int
    bytes: int
    pruned_at: int | None
    step: int | None = None
    kind: str = "interval"
    took_ms: int | None = None
    stored: int | None = None
    pinned_at: int | None = None
    checked_at: int | None = None
    fault: str | None = None
    epoch: float | None = None
    loss: float | None = None
    place: str = "dir"
    of_at: int | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What is noted with a snapshot beside its size; see `SnapshotRow`. `at` is when its directory was looked at, None
    for now; `of_at` is None where it is not known."""

    at: int | None = None
    kind: str = "interval"
    step: int | None = None
    epoch: float | None = None
    loss: float | None = None
    took_ms: int | None = None
    stored: int | None = None
    fault: str | None = None
    place: str = "dir"
    of_at: int | None = None


def record_snapshot(  # noqa: PLR0917 - the columns in their order
    connection: sqlite3.Connection,
    job_id: int,
    number: int,
    attempt: int,
    files: int,
    size: int,
    *,
    now: int,
    epoch: int | None,
    step: int | None = None,
    about: About | None = None,
) -> None:
    """Note a snapshot that is committed: its number, how many files and bytes, and what else is known of it; `step`
    where nothing else is. Repeating it is harmless."""
    told = about or About(step=step)
    fresh = connection.execute(
        "INSERT INTO snapshots (job_id, number, attempt, at, files, bytes, step, kind, epoch, loss, took_ms, stored,"
        " fault, place, of_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING RETURNING number",
        (job_id, number, attempt, told.at or now, files, size, told.step, told.kind, told.epoch, told.loss,
         told.took_ms, told.stored, told.fault, told.place, told.of_at),
    ).fetchall()  # fmt: skip
    if fresh:
        words = f"snapshot {number} saved: {files} {'file' if files == 1 else 'files'}, {size} bytes"
        if told.step is not None:
            words += f", step {told.step}"
        if told.fault is not None:
            words += f"; {told.fault}"
        events.append(
            connection, now, "attempt", words, epoch=epoch,
            job_id=job_id, attempt=attempt,
        )  # fmt: skip


def mark_pruned(
    connection: sqlite3.Connection, job_id: int, number: int, *, now: int, epoch: int | None, by: str = ""
) -> bool:
    """Note that a snapshot goes; only then is it removed from disk. False, and nothing noted, where a job needs it or
    it is pinned.

    Noted first, so that no job can be told to begin with one that is being removed. Repeating it is harmless. `by` is
    the user who wants it.
    """
    if holder(connection, job_id, number) is not None or number in pinned(connection, job_id):
        return False
    pruned = connection.execute(
        "UPDATE snapshots SET pruned_at = ? WHERE job_id = ? AND number = ? AND pruned_at IS NULL RETURNING attempt",
        (now, job_id, number),
    ).fetchall()
    if pruned:
        words = f"snapshot {number} removed" + (f", by {by}" if by else "")
        events.append(connection, now, "attempt", words, epoch=epoch, job_id=job_id, attempt=pruned[0]["attempt"])
    return True


def pin(connection: sqlite3.Connection, job_id: int, number: int, *, now: int, by: str) -> bool:
    """Keep a snapshot whatever else is pruned, as long as its user wants; False where it is so already or was removed.

    Pinned ones do not count among the newest that are kept.
    """
    changed = connection.execute(
        "UPDATE snapshots SET pinned_at = ? WHERE job_id = ? AND number = ? AND pinned_at IS NULL"
        " AND pruned_at IS NULL RETURNING attempt",
        (now, job_id, number),
    ).fetchall()
    return _told(connection, changed, job_id, f"snapshot {number} pinned by {by}", now)


def unpin(connection: sqlite3.Connection, job_id: int, number: int, *, now: int, by: str) -> bool:
    """Let a snapshot be pruned like any other; False where it was not pinned."""
    changed = connection.execute(
        "UPDATE snapshots SET pinned_at = NULL WHERE job_id = ? AND number = ? AND pinned_at IS NOT NULL"
        " RETURNING attempt",
        (job_id, number),
    ).fetchall()
    return _told(connection, changed, job_id, f"snapshot {number} is not pinned any more, by {by}", now)


def _told(connection: sqlite3.Connection, changed: list[sqlite3.Row], job_id: int, words: str, now: int) -> bool:
    if changed:
        events.append(connection, now, "request", words, job_id=job_id, attempt=changed[0]["attempt"])
    return bool(changed)


def pinned(connection: sqlite3.Connection, job_id: int) -> frozenset[int]:
    """Numbers of a job's snapshots that may not be pruned."""
    found = connection.execute("SELECT number FROM snapshots WHERE job_id = ? AND pinned_at IS NOT NULL", (job_id,))
    return frozenset(int(row[0]) for row in found)


def record_check(
    connection: sqlite3.Connection, job_id: int, number: int, fault: str | None, *, now: int, epoch: int | None = None
) -> None:
    """Note that every byte of a snapshot was compared, and what is wrong with it, if anything is."""
    known = connection.execute(
        "SELECT fault, attempt FROM snapshots WHERE job_id = ? AND number = ?", (job_id, number)
    ).fetchone()
    if known is None:
        return
    connection.execute(
        "UPDATE snapshots SET checked_at = ?, fault = ? WHERE job_id = ? AND number = ?", (now, fault, job_id, number)
    )
    if fault is not None and fault != known["fault"]:
        words = f"snapshot {number} is broken: {fault}"
        events.append(connection, now, "warning", words, epoch=epoch, job_id=job_id, attempt=known["attempt"])


def holder(connection: sqlite3.Connection, job_id: int, number: int) -> int | None:
    """The job that is open, begins with this snapshot and has no newer one of its own; None when no job needs it."""
    row = connection.execute(
        "SELECT j.id FROM jobs j WHERE j.start_job = ? AND j.start_snapshot = ? AND j.state IN ('pending', 'running')"
        " AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.job_id = j.id AND s.attempt > j.start_after"
        " AND s.pruned_at IS NULL) ORDER BY j.id LIMIT 1",
        (job_id, number),
    ).fetchone()
    return None if row is None else int(row[0])


def get(connection: sqlite3.Connection, job_id: int, number: int) -> SnapshotRow | None:
    """One snapshot, also one that was removed."""
    row = connection.execute("SELECT * FROM snapshots WHERE job_id = ? AND number = ?", (job_id, number)).fetchone()
    return None if row is None else SnapshotRow(**dict(row))


def last_snapshot_at(connection: sqlite3.Connection, job_id: int, attempt: int) -> int | None:
    """When the newest snapshot of an attempt was taken (UTC ms), None when it has none."""
    row = connection.execute(
        "SELECT max(at) FROM snapshots WHERE job_id = ? AND attempt = ?", (job_id, attempt)
    ).fetchone()
    return None if row[0] is None else int(row[0])


@dataclass(frozen=True, slots=True)
class Work:
    """What the live attempt on a worker would lose: `saved_at` is its newest snapshot (UTC ms), None without one."""

    worker_id: int
    saved_at: int | None
    priority: int


def work_at_stake(connection: sqlite3.Connection) -> list[Work]:
    """For each worker with a job: since when that job's work is not saved, and how urgent it is."""
    found = connection.execute(
        "SELECT a.worker_id, (SELECT CASE WHEN s.attempt = a.number THEN s.at END FROM snapshots s"
        " WHERE s.job_id = a.job_id ORDER BY s.number DESC LIMIT 1) AS saved_at, j.priority"
        " FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.state <> 'ended'"
    )
    return [Work(**dict(row)) for row in found]


def last_number(connection: sqlite3.Connection, job_id: int) -> int:
    """The highest number that a snapshot of this job ever had, 0 without any: numbers are never used again."""
    row = connection.execute("SELECT max(number) FROM snapshots WHERE job_id = ?", (job_id,)).fetchone()
    return int(row[0] or 0)


def snapshots(connection: sqlite3.Connection, job_id: int) -> list[SnapshotRow]:
    """All snapshots of a job, newest first, pruned ones too."""
    found = connection.execute("SELECT * FROM snapshots WHERE job_id = ? ORDER BY number DESC", (job_id,))
    return [SnapshotRow(**dict(row)) for row in found]


def kept(connection: sqlite3.Connection, job_id: int | None = None) -> list[SnapshotRow]:
    """The snapshots that are still on disk, of one job or of all, newest first."""
    found = connection.execute(
        "SELECT * FROM snapshots WHERE pruned_at IS NULL AND (?1 IS NULL OR job_id = ?1)"
        " ORDER BY at DESC, job_id DESC, number DESC",
        (job_id,),
    )
    return [SnapshotRow(**dict(row)) for row in found]


def count(connection: sqlite3.Connection) -> int:
    """How many snapshots of all jobs there were, pruned ones too."""
    return int(connection.execute("SELECT count(*) FROM snapshots").fetchone()[0])


def page(connection: sqlite3.Connection, offset: int, limit: int) -> list[SnapshotRow]:
    """One page of the snapshots of all jobs, newest first, pruned ones too."""
    found = connection.execute(
        "SELECT * FROM snapshots ORDER BY at DESC, job_id DESC, number DESC LIMIT ? OFFSET ?", (limit, offset)
    )
    return [SnapshotRow(**dict(row)) for row in found]
