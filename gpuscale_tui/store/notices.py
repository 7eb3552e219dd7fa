"""Notices: messages to the outside that wait in the store until they are sent."""

from __future__ import annotations

import sqlite3
from enum import StrEnum


class NoticeKind(StrEnum):
    """What a message is about; users choose by these names."""

    JOB_DONE = "job_done"
    JOB_FAILED = "job_failed"
    MACHINE_LOST = "machine_lost"
    BUDGET = "budget"
    BALANCE = "balance"
    ORPHAN = "orphan"
    BREAKER = "breaker"
    STALLED = "stalled"
    LEASE = "lease"
    BILL = "bill"


def add(
    connection: sqlite3.Connection,
    now: int,
    kind: NoticeKind,
    text: str,
    *,
    key: str = "",
    job_id: int | None = None,
    worker_id: int | None = None,
) -> None:
    """Ask for a message; one with a `key` is said once, however often it is asked for. `now` is UTC ms."""
    connection.execute(
        "INSERT INTO notices (at, kind, key, text, job_id, worker_id) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (key) DO NOTHING",
        (now, kind, key or None, text, job_id, worker_id),
    )
