"""What forecasts are made from: open jobs by kind, how long finished ones took, what machines cost. Aggregated here."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

SAMPLES = 200
"""Finished jobs that are looked at for one kind, the newest."""
_END = re.compile(r"[0-9\-_.#]+$", re.ASCII)
_STEM = "rtrim(substr(name || ' ', 1, instr(name || ' ', ' ') - 1), '0123456789-_.#')"


def stem(name: str) -> str:
    """The first word of a job's name without the number at its end: what the jobs of one piece of work share."""
    return _END.sub("", name.split(" ", 1)[0])


@dataclass(frozen=True, slots=True)
class Like:
    """What tells which finished jobs a job is like."""

    name: str
    project: str | None
    gpu_type: str | None

    @property
    def stem(self) -> str:
        """See `stem`."""
        return stem(self.name)


@dataclass(frozen=True, slots=True)
class OpenKind:
    """Pending jobs that a forecast cannot tell apart: `like` has one of their names. `max_runtime_sec` as theirs."""

    group_key: str
    like: Like
    max_runtime_sec: float | None
    jobs: int


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A running job: since when its attempt works (UTC ms, None while it is set up), and what its machine costs."""

    job_id: int
    like: Like
    max_runtime_sec: float | None
    started_at: int | None
    rate: int


def waiting(connection: sqlite3.Connection) -> list[OpenKind]:
    """The pending jobs by kind, the largest first."""
    found = connection.execute(
        f"SELECT group_key, {_STEM} AS stem, project, gpu_type, max_runtime_sec, count(*) AS jobs FROM jobs"
        " WHERE state = 'pending' AND cancel_requested_at IS NULL"
        " GROUP BY group_key, stem, project, gpu_type, max_runtime_sec ORDER BY jobs DESC, group_key, stem"
    )
    return [
        OpenKind(row["group_key"], Like(row["stem"], row["project"], row["gpu_type"]), row["max_runtime_sec"],
                 row["jobs"])
        for row in found
    ]  # fmt: skip


_RUNNING = """
    SELECT j.id, j.name, j.project, j.gpu_type, j.max_runtime_sec, a.started_at, coalesce(w.rate, 0) AS rate
    FROM jobs j JOIN attempts a ON a.job_id = j.id AND a.state <> 'ended' LEFT JOIN workers w ON w.id = a.worker_id
    WHERE j.state = 'running'
"""


def running(connection: sqlite3.Connection, job_id: int | None = None) -> list[OpenRun]:
    """The running jobs, or one of them."""
    chosen, bound = ("", ()) if job_id is None else (" AND j.id = ?", (job_id,))
    return [
        OpenRun(row["id"], Like(row["name"], row["project"], row["gpu_type"]), row["max_runtime_sec"],
                row["started_at"], row["rate"])
        for row in connection.execute(_RUNNING + chosen, bound)
    ]  # fmt: skip


def took_by_name(connection: sqlite3.Connection, like: Like) -> list[int]:
    """How long (ms, first start to end) the newest jobs of the same name and GPU took that are done."""
    if not like.stem:
        return []
    found = connection.execute(
        f"SELECT finished_at - started_at FROM jobs WHERE state = 'done' AND {_STEM} = ? AND gpu_type IS ?"
        " ORDER BY finished_at DESC LIMIT ?",
        (like.stem, like.gpu_type, SAMPLES),
    )
    return [row[0] for row in found if row[0]]


def took_by_project(connection: sqlite3.Connection, like: Like) -> list[int]:
    """The same of the same project and GPU."""
    if like.project is None:
        return []
    found = connection.execute(
        "SELECT finished_at - started_at FROM jobs WHERE state = 'done' AND project = ? AND gpu_type IS ?"
        " ORDER BY finished_at DESC LIMIT ?",
        (like.project, like.gpu_type, SAMPLES),
    )
    return [row[0] for row in found if row[0]]


def rates(connection: sqlite3.Connection, group_keys: Collection[str]) -> dict[str, int]:
    """The lowest rate (micro-dollars per hour) of a machine for each group of jobs: of the offers that serve it now,
    else what one rented for it cost last. Groups without either are missing."""
    wanted = set(group_keys)
    found: dict[str, int] = {}
    for row in connection.execute(
        "SELECT s.value AS key, min(o.rate) AS rate FROM offers o, json_each(o.serves) s GROUP BY 1"
    ):
        if row["key"] in wanted:
            found[row["key"]] = row["rate"]
    for key in wanted - set(found):
        row = connection.execute(
            "SELECT rate FROM workers WHERE group_key = ? ORDER BY created_at DESC LIMIT 1", (key,)
        ).fetchone()
        if row is not None:
            found[key] = row["rate"]
    return found


def up(connection: sqlite3.Connection) -> dict[str, int]:
    """How many machines that were rented for each group take work now or soon."""
    found = connection.execute(
        "SELECT group_key, count(*) FROM workers WHERE state IN ('ordering', 'booting', 'idle', 'busy') GROUP BY 1"
    )
    return {row[0]: row[1] for row in found}


def boots(connection: sqlite3.Connection) -> list[int]:
    """How long (ms) the newest machines took from the order to their first use."""
    found = connection.execute(
        "SELECT setup_ms FROM outcomes WHERE kind = 'ready' AND setup_ms IS NOT NULL ORDER BY id DESC LIMIT 50"
    )
    return [row[0] for row in found]
