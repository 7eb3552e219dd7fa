"""Notices: messages to the outside, and how far each address has been told.

A notice is written in the transaction of what it tells, and stays; an address moves along the notices by their id. So
nothing is lost when the engine dies, and an address that fails keeps no other one waiting.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from gpuscale_tui.model.notices import NoticeKind

__all__ = ["NoticeKind", "add"]

KEPT_MS = 7 * 86_400_000
KEYED_KEPT_MS = 90 * 86_400_000
"""A key must outlive what it stands for, such as the budget of a month."""
LONGEST_TEXT = 2_000


@dataclass(frozen=True, slots=True)
class Notice:
    """One message. `at` is UTC ms."""

    id: int
    at: int
    kind: str
    text: str
    job_id: int | None
    worker_id: int | None


@dataclass(frozen=True, slots=True)
class Target:
    """An address: `upto` is the last notice that it was told (or that was given up), times are UTC ms."""

    target: str
    label: str
    upto: int
    sent_at: int | None
    failures: int
    failing_since: int | None
    next_at: int
    error: str | None


def add(
    connection: sqlite3.Connection,
    now: int,
    kind: NoticeKind,
    text: str,
    *,
    key: str = "",
    job_id: int | None = None,
    worker_id: int | None = None,
) -> bool:
    """Ask for a message; one with a `key` is said once, however often it is asked for. `now` is UTC ms.

    False for a key that was said before.
    """
    made = connection.execute(
        "INSERT INTO notices (at, kind, key, text, job_id, worker_id) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (key) DO NOTHING RETURNING id",
        (now, kind, key or None, text[:LONGEST_TEXT], job_id, worker_id),
    ).fetchall()
    return bool(made)


def is_known(connection: sqlite3.Connection, key: str) -> bool:
    """Whether a message with this key was asked for before."""
    return connection.execute("SELECT 1 FROM notices WHERE key = ?", (key,)).fetchone() is not None


def latest_id(connection: sqlite3.Connection) -> int:
    """Id of the newest notice, 0 when there is none."""
    return int(connection.execute("SELECT max(id) FROM notices").fetchone()[0] or 0)


def register(connection: sqlite3.Connection, target: str, label: str) -> None:
    """Know an address; a new one is told what comes from now on."""
    connection.execute(
        "INSERT INTO notice_targets (target, label, upto) VALUES (?, ?, ?)"
        " ON CONFLICT (target) DO UPDATE SET label = excluded.label",
        (target, label, latest_id(connection)),
    )


def targets(connection: sqlite3.Connection) -> dict[str, Target]:
    """Every address that was ever used, by its digest."""
    rows = connection.execute("SELECT * FROM notice_targets ORDER BY label, target")
    return {row["target"]: Target(**dict(row)) for row in rows}


def failing(connection: sqlite3.Connection) -> list[Target]:
    """The addresses whose last message did not get through."""
    return [target for target in targets(connection).values() if target.failures]


def waiting(connection: sqlite3.Connection, upto: int, limit: int) -> list[Notice]:
    """The notices after `upto`, oldest first."""
    rows = connection.execute(
        "SELECT id, at, kind, text, job_id, worker_id FROM notices WHERE id > ? ORDER BY id LIMIT ?", (upto, limit)
    )
    return [Notice(**dict(row)) for row in rows]


def passed(connection: sqlite3.Connection, target: str, upto: int) -> None:
    """Notices up to this one need not be sent there."""
    connection.execute("UPDATE notice_targets SET upto = ? WHERE target = ? AND upto < ?", (upto, target, upto))


def sent(connection: sqlite3.Connection, target: str, upto: int, now: int, next_at: int) -> None:
    """An address has taken the notices up to this one."""
    connection.execute(
        "UPDATE notice_targets SET upto = max(upto, ?), sent_at = ?, next_at = ?, failures = 0, failing_since = NULL,"
        " error = NULL WHERE target = ?",
        (upto, now, next_at, target),
    )


def failed(connection: sqlite3.Connection, target: str, error: str, now: int, next_at: int) -> None:
    """An address did not take a message; it is tried again at `next_at`."""
    connection.execute(
        "UPDATE notice_targets SET failures = failures + 1, failing_since = coalesce(failing_since, ?), next_at = ?,"
        " error = ? WHERE target = ?",
        (now, next_at, error[:LONGEST_TEXT], target),
    )


def prune(connection: sqlite3.Connection, now: int, in_use: Collection[str]) -> None:
    """Forget old notices, and addresses that are no longer used."""
    connection.execute(
        "DELETE FROM notices WHERE at < ? OR (key IS NULL AND at < ?)", (now - KEYED_KEPT_MS, now - KEPT_MS)
    )
    for target in targets(connection).keys() - set(in_use):
        connection.execute("DELETE FROM notice_targets WHERE target = ?", (target,))
