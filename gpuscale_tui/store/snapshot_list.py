"""The list of all snapshots, as its screen filters and sorts it: pages, places and ids, answered by SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpuscale_tui.model.query import AGE, NUMBER, SIZE, TEXT, FieldKind, Query, label, words
from gpuscale_tui.store.filtering import SqlField, where
from gpuscale_tui.store.snapshots import SnapshotRow

Id = tuple[int, int]
"""Job and number of a snapshot."""
STATES = ("kept", "removed")
KINDS = ("interval", "last", "asked")
FIELDS: Mapping[str, FieldKind] = {
    "job": label("j").told("the job, such as j17"),
    "name": TEXT.told("the job's name"),
    "state": words(*STATES).told("kept or removed"),
    "no": NUMBER.told("its number"),
    "try": NUMBER.told("the attempt that wrote it"),
    "step": NUMBER.told("how far the job was"),
    "epoch": NUMBER.told("how far the job was, in epochs"),
    "loss": NUMBER.told("its loss then"),
    "kind": words(*KINDS, help="why it was taken: by time, before an end, asked for"),
    "pinned": words("yes", "no", help="whether it is kept whatever else is pruned"),
    "stored": SIZE.told("the bytes that it added"),
    "verified": AGE.told("since its every byte was compared"),
    "fault": TEXT.told("what is wrong with it"),
    "size": SIZE.told("its bytes"),
    "files": NUMBER.told("how many files"),
    "age": AGE.told("since it was taken"),
}
_COLUMNS: Mapping[str, SqlField] = {
    "": SqlField("'j' || s.job_id || ' ' || j.name"),
    "job": SqlField("s.job_id"),
    "name": SqlField("j.name"),
    "state": SqlField("CASE WHEN s.pruned_at IS NULL THEN 'kept' ELSE 'removed' END"),
    "no": SqlField("s.number"),
    "try": SqlField("s.attempt"),
    "step": SqlField("s.step"),
    "epoch": SqlField("s.epoch"),
    "loss": SqlField("s.loss"),
    "kind": SqlField("s.kind"),
    "pinned": SqlField("CASE WHEN s.pinned_at IS NULL THEN 'no' ELSE 'yes' END"),
    "stored": SqlField("s.stored"),
    "verified": SqlField("({now} - s.checked_at)"),
    "fault": SqlField("s.fault"),
    "size": SqlField("s.bytes"),
    "files": SqlField("s.files"),
    "age": SqlField("({now} - s.at)"),
}
SORTS = ("taken", "job", "name", "step", "loss", "size", "stored", "files")
_ORDERS = {
    "taken": ("s.at {down}, s.job_id {down}, s.number {down}", True),
    "job": ("s.job_id {up}, s.number DESC", False),
    "name": ("j.name COLLATE NOCASE {up}, s.job_id, s.number DESC", False),
    "step": ("s.step IS NULL, s.step {down}, s.job_id, s.number DESC", True),
    "loss": ("s.loss IS NULL, s.loss {up}, s.job_id, s.number DESC", False),
    "stored": ("s.stored IS NULL, s.stored {down}, s.job_id, s.number DESC", True),
    "size": ("s.bytes {down}, s.job_id, s.number DESC", True),
    "files": ("s.files {down}, s.job_id, s.number DESC", True),
}
_FROM = "FROM snapshots s JOIN jobs j ON j.id = s.job_id"


@dataclass(frozen=True, slots=True)
class SnapshotView:
    """Which snapshots, in which order: without a filter newest first."""

    query: Query
    sort: str = "taken"
    descending: bool = False


@dataclass(frozen=True, slots=True)
class ListedSnapshot:
    """A snapshot with its job's name; `needed_by` is the job that begins with it and has none of its own yet."""

    snapshot: SnapshotRow
    name: str
    needed_by: int | None = None

    @property
    def id(self) -> Id:
        """Job and number."""
        return (self.snapshot.job_id, self.snapshot.number)


def page(
    connection: sqlite3.Connection, view: SnapshotView, window: tuple[int, int], now: int
) -> tuple[int, int, list[ListedSnapshot]]:
    """How many there are, the place of the first that is returned, and the rows; the last page of a shorter list."""
    condition, bound = where(view.query, _COLUMNS, now)
    counted = "snapshots" if condition == "1" else f"({_only(condition)})"
    total = int(connection.execute(f"SELECT count(*) FROM {counted}", bound).fetchone()[0])
    first = max(0, min(window[0], total - window[1]))
    found = connection.execute(
        f"SELECT s.*, j.name AS job_name, {_NEEDED} AS needed_by {_FROM} WHERE {condition} ORDER BY {_order(view)}"
        " LIMIT ? OFFSET ?",
        (*bound, window[1], first),
    )
    return total, first, [_row(row) for row in found]


def ids(connection: sqlite3.Connection, view: SnapshotView, now: int) -> list[Id]:
    """All of them, in order."""
    condition, bound = where(view.query, _COLUMNS, now)
    found = connection.execute(f"SELECT s.job_id, s.number {_FROM} WHERE {condition} ORDER BY {_order(view)}", bound)
    return [(int(row[0]), int(row[1])) for row in found]


def rows_for(connection: sqlite3.Connection, wanted: Iterable[Id]) -> list[ListedSnapshot]:
    """The rows with these ids, as far as there are any."""
    found = []
    for job_id, number in wanted:
        row = connection.execute(
            f"SELECT s.*, j.name AS job_name, {_NEEDED} AS needed_by {_FROM} WHERE s.job_id = ? AND s.number = ?",
            (job_id, number),
        ).fetchone()
        found += [_row(row)] if row else []
    return found


_NEEDED = (
    "(SELECT b.id FROM jobs b WHERE b.start_job = s.job_id AND b.start_snapshot = s.number"
    " AND b.state IN ('pending', 'running') AND NOT EXISTS (SELECT 1 FROM snapshots o WHERE o.job_id = b.id"
    " AND o.attempt > b.start_after AND o.pruned_at IS NULL) LIMIT 1)"
)


def _only(condition: str) -> str:
    return f"SELECT 1 {_FROM} WHERE {condition}"


def _order(view: SnapshotView) -> str:
    text, downward = _ORDERS[view.sort]
    falls = downward is not view.descending
    return text.replace("{down}", "DESC" if falls else "ASC").replace("{up}", "DESC" if falls else "ASC")


def _row(row: sqlite3.Row) -> ListedSnapshot:
    columns = dict(row)
    name, needed = columns.pop("job_name"), columns.pop("needed_by")
    return ListedSnapshot(SnapshotRow(**columns), name, needed)


@dataclass(frozen=True, slots=True)
class LeftAside:
    """What a job that resumes from an older snapshot leaves aside: newer snapshots that are kept, and the time (ms)
    and steps between it and the newest of them."""

    count: int
    ms: int
    steps: int


def left_aside(connection: sqlite3.Connection, job_id: int, number: int) -> LeftAside:
    """What is newer than a snapshot of the same job."""
    row = connection.execute(
        "SELECT count(*), max(n.at) - s.at, max(n.step) - s.step FROM snapshots s JOIN snapshots n"
        " ON n.job_id = s.job_id AND n.number > s.number AND n.pruned_at IS NULL WHERE s.job_id = ? AND s.number = ?",
        (job_id, number),
    ).fetchone()
    return LeftAside(int(row[0]), max(0, int(row[1] or 0)), max(0, int(row[2] or 0)))


def jobs_by_project(connection: sqlite3.Connection) -> dict[str, tuple[int, ...]]:
    """The jobs of each project ("" for none) that have snapshots which are kept in a directory."""
    found = connection.execute(
        "SELECT DISTINCT coalesce(j.project, '') AS project, j.id FROM snapshots s JOIN jobs j ON j.id = s.job_id"
        " WHERE s.pruned_at IS NULL AND s.place = 'dir' ORDER BY 1, 2"
    )
    projects: dict[str, list[int]] = {}
    for project, job_id in found:
        projects.setdefault(project, []).append(int(job_id))
    return {project: tuple(ids) for project, ids in projects.items()}
