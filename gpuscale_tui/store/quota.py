"""Room for a project's snapshots: which of them go so that its quota holds, and when that cannot be.

A new snapshot takes the place of the one before as the last that its job can go on from. So that one may go as well,
but only once the new one is there: for that moment there may be more than the quota. The rest goes before.

Blocking but for `plan`, which is pure, and the functions of a connection.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.model.settings import CheckpointConfig
from gpuscale_tui.store import snapshots
from gpuscale_tui.store.archive import FILE, Archive, Snapshot

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Claim:
    """A project's kept snapshots as the database has them: those that must stay, by job and number, with the reason."""

    project: str
    job_ids: tuple[int, ...]
    staying: Mapping[tuple[int, int], str]


@dataclass(frozen=True, slots=True)
class Held:
    """A snapshot that takes room: its contents with their sizes by SHA-256. `stays` is why it may not go, or empty.

    `last` is set for the one that its job would go on from, `surplus` where it is none of the newest that are kept.
    """

    job_id: int
    number: int
    at: int
    contents: Mapping[str, int]
    stays: str = ""
    last: bool = False
    surplus: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """What goes, as job and number: `before` the new snapshot is made, `after` once it is committed.

    `refused` says why it cannot be made at all; then nothing goes. Sizes in bytes.
    """

    used: int
    quota: int
    before: tuple[tuple[int, int], ...] = ()
    after: tuple[tuple[int, int], ...] = ()
    refused: str = ""


def quota_of(settings: CheckpointConfig, project: str) -> int:
    """Bytes of snapshots that a project may keep; 0 is no limit."""
    return round(settings.quotas.get(project, settings.quota_mb) * MEGABYTE)


def claim(connection: sqlite3.Connection, job_id: int) -> Claim:
    """The jobs that share a job's quota, and which of their snapshots must stay."""
    row = connection.execute("SELECT project FROM jobs WHERE id = ?", (job_id,)).fetchone()
    project = "" if row is None else str(row["project"] or "")
    found = connection.execute(
        "SELECT DISTINCT j.id FROM jobs j JOIN snapshots s ON s.job_id = j.id AND s.pruned_at IS NULL"
        " WHERE coalesce(j.project, '') = ? UNION SELECT ? ORDER BY 1",
        (project, job_id),
    ).fetchall()
    job_ids = tuple(int(each[0]) for each in found)
    staying: dict[tuple[int, int], str] = {}
    for each in job_ids:
        for kept in snapshots.kept(connection, each):
            holder = snapshots.holder(connection, each, kept.number)
            if kept.pinned_at is not None:
                staying[each, kept.number] = "pinned"
            elif holder is not None:
                staying[each, kept.number] = f"{job_label(holder)} starts from it"
    return Claim(project, job_ids, staying)


def make_room(archive: Archive, claimed: Claim, job_id: int, wanted: int, quota: int, *, keep: int) -> Room:
    """Which snapshots go so that `wanted` bytes more of a job hold in its project's quota (bytes). Nothing is removed.

    `keep` is how many of each job are kept anyway. Before another job loses a snapshot, the last whole one of it is
    looked for by its bytes. Raises OSError where they cannot be read.
    """
    found = {each: archive.snapshots(each) for each in claimed.job_ids}
    lasts = {each: _last(snapshots_) for each, snapshots_ in found.items()}
    checked = {job_id}
    while True:
        held = [
            one for each, snapshots_ in found.items()
            for one in _held(each, snapshots_, claimed.staying, lasts[each], keep)
        ]  # fmt: skip
        room = plan(held, job_id, wanted, quota, claimed.project)
        losing = {each for each, _ in room.before} - checked
        if not losing:
            return room
        for each in losing:
            valid = archive.newest_valid(each)
            lasts[each] = valid.number if valid is not None else None
        checked |= losing


def _last(found: Sequence[Snapshot]) -> int | None:
    """The one that its job would go on from, as far as manifests tell."""
    return next((each.number for each in found if each.fault is None), found[0].number if found else None)


def _held(
    job_id: int, found: Sequence[Snapshot], staying: Mapping[tuple[int, int], str], last: int | None, keep: int
) -> Iterable[Held]:  # fmt: skip
    """Of a job without a whole one, none goes."""
    for place, each in enumerate(found):
        contents = {entry.sha256: entry.size for entry in each.files if entry.kind == FILE}
        reason = staying.get((job_id, each.number), "" if last is not None else "none of its job is whole")
        yield Held(
            job_id, each.number, each.meta.at, contents, reason, last=each.number == last, surplus=place >= keep
        )  # fmt: skip


def plan(held: Collection[Held], job_id: int, wanted: int, quota: int, project: str = "") -> Room:
    """Choose what goes: superfluous ones first, the oldest first, and of each job never the last it could go on from;
    but of the job that gets a new one, once that is there, also the one before."""
    used = sum({(each.job_id, content): size for each in held for content, size in each.contents.items()}.values())
    if quota <= 0 or used + wanted <= quota:
        return Room(used, quota)
    sharers: dict[int, Counter[str]] = {}
    for each in held:
        sharers.setdefault(each.job_id, Counter()).update(each.contents.keys())
    may_go = [each for each in held if not each.stays and (not each.last or each.job_id == job_id)]
    may_go.sort(key=lambda one: (one.last, not one.surplus, one.at, one.job_id, one.number))
    going, left = _chosen(may_go, sharers, used + wanted, quota)
    if left > quota:
        whose = f"project {project}" if project else "jobs without a project"
        return Room(used, quota, refused=(
            f"the quota of {whose} for snapshots is {_mb(quota)}: {_mb(used)} are used, {_mb(wanted)} more are needed,"
            f" and without all that may go (not the last snapshot of a job, none that is pinned or needed) it would"
            f" still be {_mb(left)}; raise quota_mb or quotas in [checkpoints], or unpin some"
        ))  # fmt: skip
    before = tuple((each.job_id, each.number) for each in going if not each.last)
    return Room(used, quota, before, tuple((each.job_id, each.number) for each in going if each.last))


def _chosen(
    may_go: Sequence[Held], sharers: Mapping[int, Counter[str]], left: int, quota: int
) -> tuple[list[Held], int]:  # fmt: skip
    """The first of them without which the rest fits, and the bytes left then; what would free nothing stays."""
    going: list[Held] = []
    for each in may_go:
        if left <= quota:
            break
        left -= sum(size for content, size in each.contents.items() if sharers[each.job_id][content] == 1)
        sharers[each.job_id].subtract(each.contents.keys())
        going.append(each)
    for each in reversed(going.copy()):
        again = sum(size for content, size in each.contents.items() if sharers[each.job_id][content] == 0)
        if left + again <= quota:
            left += again
            sharers[each.job_id].update(each.contents.keys())
            going.remove(each)
    return going, left


def _mb(size: int) -> str:
    return f"{size / MEGABYTE:,.1f} MB"
