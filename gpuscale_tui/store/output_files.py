"""What was fetched of jobs' OUTPUT_DIR: one row an attempt; the files are in the home."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OutputRow:
    """What was fetched when an attempt ended, at `at` (UTC ms). `error` says why it is not all, None when it is."""

    job_id: int
    attempt: int
    at: int
    files: int
    bytes: int
    error: str | None


def record(connection: sqlite3.Connection, row: OutputRow) -> None:
    """Note what was fetched; fetched again it counts anew."""
    connection.execute(
        "INSERT OR REPLACE INTO outputs (job_id, attempt, at, files, bytes, error) VALUES (?, ?, ?, ?, ?, ?)",
        (row.job_id, row.attempt, row.at, row.files, row.bytes, row.error),
    )


def of_job(connection: sqlite3.Connection, job_id: int) -> list[OutputRow]:
    """The attempts of a job that left something, newest first."""
    found = connection.execute(
        "SELECT job_id, attempt, at, files, bytes, error FROM outputs WHERE job_id = ? ORDER BY attempt DESC", (job_id,)
    )
    return [OutputRow(**dict(row)) for row in found]
