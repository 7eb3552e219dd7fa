"""`checkpoints`: the snapshots of jobs' checkpoint directories that are kept."""

from __future__ import annotations

import sqlite3

import click

from gpuscale_tui.cli.common import JOB_ID, home_option, json_option, now_ms, read, unknown_job, verb
from gpuscale_tui.cli.formatting import Column, iso, print_json, print_table, span
from gpuscale_tui.model.errors import NotFound
from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store import queries, snapshots
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.snapshots import SnapshotRow


@verb(example="gpuscale checkpoints j17")
@click.argument("job_id", metavar="[ID]", required=False, type=JOB_ID)
@json_option
@home_option
def checkpoints(job_id: int | None, as_json: bool, home: Home) -> None:
    """List the snapshots of checkpoints that are kept.

    Of one job or of all, newest first."""
    rows = read(home, _kept, job_id)
    if as_json:
        print_json([_json(row) for row in rows])
    else:
        print_table(_columns(now_ms()), rows, "no snapshot is kept")


def _kept(connection: sqlite3.Connection, job_id: int | None) -> list[SnapshotRow]:
    if job_id is not None and queries.job_row(connection, job_id) is None:
        raise NotFound(unknown_job(job_id))
    return snapshots.kept(connection, job_id)


def _json(row: SnapshotRow) -> dict[str, object]:
    return {
        "job_id": job_label(row.job_id),
        "snapshot": row.number,
        "attempt": row.attempt,
        "at": iso(row.at),
        "files": row.files,
        "bytes": row.bytes,
    }


def _columns(now: int) -> list[Column[SnapshotRow]]:
    return [
        Column("JOB", lambda row: job_label(row.job_id)),
        Column("SNAPSHOT", lambda row: str(row.number), right=True),
        Column("ATTEMPT", lambda row: str(row.attempt), right=True),
        Column("FILES", lambda row: str(row.files), right=True),
        Column("BYTES", lambda row: f"{row.bytes:,}", right=True),
        Column("AGE", lambda row: span(now - row.at), right=True),
    ]
