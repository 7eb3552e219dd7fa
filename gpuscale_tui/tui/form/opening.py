"""Forms are opened with what is known, and with the draft that was left in one about the same."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gpuscale_tui.model.jobs import Job, StartFrom, job_label
from gpuscale_tui.store import jobs, queries, snapshots
from gpuscale_tui.tui.form import origin as origins
from gpuscale_tui.tui.form.origin import Origin
from gpuscale_tui.tui.format import size

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp

MOST_SNAPSHOTS = 300


async def show(app: GpuscaleApp, origin: Origin, changes: Mapping[str, str] | None = None) -> None:
    """Open a form; `changes` go over the draft that was left."""
    from gpuscale_tui.tui.screens.form import FormScreen

    if not app.drafts.loaded:
        await asyncio.to_thread(app.drafts.load)
    left = app.drafts.get(origin.key)
    await app.push_screen(FormScreen(origin, left, changes or {}))


async def new(app: GpuscaleApp, changes: Mapping[str, str] | None = None) -> None:
    """A new job."""
    await show(app, origins.new(app.settings), changes)


async def clone(app: GpuscaleApp, job_id: int) -> None:
    """A copy of a job."""
    job = await app.reader.database.read(jobs.get, job_id)
    if job is not None:
        await show(app, origins.clone(job, app.settings))


async def edit(app: GpuscaleApp, job_id: int) -> None:
    """A job that waits, to be changed."""
    job = await app.reader.database.read(jobs.get, job_id)
    if job is None:
        return
    if job.state != "pending":
        app.notify(f"{job_label(job_id)} is {job.state}: only a waiting job can be edited", timeout=4)
        return
    await show(app, origins.edit(job, app.settings))


async def branch(app: GpuscaleApp, job_id: int, number: int | None = None) -> None:
    """A new job from a snapshot of another: the newest that is kept, or the one named."""
    row, job = await app.reader.database.read(_source, job_id, number)
    if job is None:
        return
    if row is None or row.pruned_at is not None:
        which = f"snapshot {number} of {job_label(job_id)} was removed" if number else f"{job_label(job_id)} has no"
        words = which if number else f"{which} snapshot that is kept: c clones it from the start"
        app.notify(words[0].upper() + words[1:], severity="warning", timeout=5)
        return
    await show(app, origins.branch(job, StartFrom(job_id, row.number), row.step, app.settings))


def _source(
    connection: sqlite3.Connection, job_id: int, number: int | None
) -> tuple[snapshots.SnapshotRow | None, Job | None]:
    if number is not None:
        row = snapshots.get(connection, job_id, number)
    else:
        row = next(iter(snapshots.kept(connection, job_id)), None)
    return row, jobs.get(connection, job_id)


def kept_snapshots(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Snapshots that a job could start from: label, the job's name, size and step."""
    found = []
    for row in snapshots.kept(connection)[:MOST_SNAPSHOTS]:
        job = queries.job_row(connection, row.job_id)
        step = f"step {row.step:,}  " if row.step is not None else ""
        label = StartFrom(row.job_id, row.number).label
        found.append((label, job.name if job else "", f"{step}{size(row.bytes)}"))
    return found
