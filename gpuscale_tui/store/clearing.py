"""What crashes leave among the snapshots on disk, found and removed later, at no hurry.

* Snapshots that the database calls removed whose directory is still there: the program ended between the two.
* Drafts, partial files and half-removed directories whose makers are dead.
* Snapshots that are whole on disk and that the database does not know: the program ended before it noted them. They are
  noted, so that users see them.

Three steps, since the database is not waited for with files open: `look` (blocking), `decide` (a read), `clear`
(blocking); then `note_unknown` (a write). Nothing that is being put together, and nothing of a job that is being set up
from its snapshots, is touched.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpuscale_tui.store import snapshots
from gpuscale_tui.store.archive import Snapshot
from gpuscale_tui.store.checkpoints import SnapshotStore

SETTLED_MS = 600_000
"""A snapshot younger than this may still be on its way into the database."""


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in a job's directory: numbers of snapshots, attempts with partial files, whether there is rubbish."""

    job_id: int
    numbers: tuple[int, ...]
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Doomed:
    """What may go (snapshots and partial files, by job), and what the database does not know."""

    snapshots: tuple[tuple[int, int], ...] = ()
    parts: tuple[tuple[int, int], ...] = ()
    unknown: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was removed: snapshots, and directories of drafts and partial files; and what must be noted."""

    snapshots: int
    rubbish: int
    unknown: tuple[Snapshot, ...]


def look(store: SnapshotStore, job_ids: Iterable[int]) -> list[Found]:
    """What lies in the directories of these jobs. Blocking. Raises OSError."""
    return [Found(job_id, tuple(store.numbers(job_id)), tuple(store.attempts_with_parts(job_id))) for job_id in job_ids]


def decide(connection: sqlite3.Connection, found: Sequence[Found]) -> Doomed:
    """What of it may go. Nothing of a job that the database does not know: it is another home's."""
    going: list[tuple[int, int]] = []
    parts: list[tuple[int, int]] = []
    unknown: list[tuple[int, int]] = []
    for each in found:
        known = connection.execute("SELECT id FROM jobs WHERE id = ?", (each.job_id,)).fetchone()
        if known is None:
            continue
        rows = {row.number: row for row in snapshots.snapshots(connection, each.job_id) if row.place == "dir"}
        states = dict(
            connection.execute("SELECT number, state FROM attempts WHERE job_id = ?", (each.job_id,)).fetchall()
        )
        if not {"assigned", "staging"} & set(states.values()):
            pruned = (number for number in each.numbers if number in rows and rows[number].pruned_at is not None)
            going += [(each.job_id, number) for number in pruned]
        parts += [(each.job_id, attempt) for attempt in each.parts if states.get(attempt, "ended") == "ended"]
        unknown += [(each.job_id, number) for number in each.numbers if number not in rows]
    return Doomed(tuple(going), tuple(parts), tuple(unknown))


def clear(store: SnapshotStore, found: Sequence[Found], doomed: Doomed, *, now: int) -> Cleared:
    """Remove it. Blocking. Raises OSError where the disk does not let it: then the rest is left for the next time."""
    for job_id, number in doomed.snapshots:
        store.remove(job_id, number)
    for job_id, attempt in doomed.parts:
        store.discard_parts(job_id, attempt)
    rubbish = len(doomed.parts) + sum(store.clear(each.job_id) for each in found)
    settled = [_load(store, job_id, number) for job_id, number in doomed.unknown]
    unknown = tuple(each for each in settled if each is not None and each.meta.at < now - SETTLED_MS)
    return Cleared(len(doomed.snapshots), rubbish, unknown)


def _load(store: SnapshotStore, job_id: int, number: int) -> Snapshot | None:
    return next((each for each in store.snapshots(job_id) if each.number == number), None)


def note_unknown(connection: sqlite3.Connection, unknown: Sequence[Snapshot], *, epoch: int | None) -> None:
    """Note snapshots that are on disk and were never noted; harmless for those that were meanwhile."""
    for each in unknown:
        meta = each.meta
        about = snapshots.About(
            kind=meta.kind, step=meta.step, epoch=meta.epoch, loss=meta.loss, stored=each.stored, fault=each.fault
        )  # fmt: skip
        snapshots.record_snapshot(
            connection, meta.job_id, each.number, meta.attempt, len(each.files), each.size,
            now=meta.at, epoch=epoch, about=about,
        )  # fmt: skip
