"""What jobs have asked for before: completions and templates for the next one."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass

from gpuscale_tui.model.jobs import Job
from gpuscale_tui.store import market, rows

LOOKED_AT = 3_000
"""The newest jobs that are looked at: a completion is about what one does now, and it never takes long."""
MOST = 50


@dataclass(frozen=True, slots=True)
class Known:
    """Values of fields, the most used first; GPU types of the market as last read."""

    images: tuple[str, ...] = ()
    gpu_types: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    workdirs: tuple[str, ...] = ()
    gits: tuple[str, ...] = ()


def known(connection: sqlite3.Connection, user: str) -> Known:
    """What was asked for before; directories only by this user."""
    found = connection.execute(
        "SELECT image, gpu_type, project, CASE WHEN user = ? THEN workdir END AS workdir,"
        " git_url || CASE git_rev WHEN '' THEN '' ELSE '@' || git_rev END AS git FROM jobs"
        " ORDER BY id DESC LIMIT ?",
        (user, LOOKED_AT),
    ).fetchall()

    def most_used(column: str) -> tuple[str, ...]:
        counted = Counter(row[column] for row in found if row[column] is not None)
        return tuple(value for value, _ in counted.most_common(MOST))

    types = dict.fromkeys([*market.gpu_types(connection), *most_used("gpu_type")])
    return Known(most_used("image"), tuple(types), most_used("project"), most_used("workdir"), most_used("git"))


def recent_jobs(connection: sqlite3.Connection) -> list[Job]:
    """The newest jobs, newest first; values of secrets are not in them."""
    found = connection.execute("SELECT * FROM jobs ORDER BY id DESC LIMIT ?", (LOOKED_AT,))
    return [rows.job(row) for row in found]
