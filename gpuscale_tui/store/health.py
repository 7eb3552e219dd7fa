"""Whether a database file is intact, for `doctor`."""

from __future__ import annotations

import sqlite3

MOST = 5


def damage(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with the file in SQLite's words, the first few findings; empty when it is intact."""
    found = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({MOST})")]
    found = [] if found == ["ok"] else found
    for row in connection.execute("PRAGMA foreign_key_check").fetchmany(MOST):
        found.append(f"a row of {row[0]} refers to a row of {row[2]} that is missing")
    return found


def newest_event_at(connection: sqlite3.Connection) -> int | None:
    """UTC ms of the newest event, None without any."""
    row = connection.execute("SELECT at FROM events ORDER BY id DESC LIMIT 1").fetchone()
    return None if row is None else int(row[0])
