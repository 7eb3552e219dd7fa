"""How far the running jobs are, and what the machines do now: the newest only, for the lists on screen.

Both come from jobs' output and from the machines themselves, so they are claims, not facts. They are written every ten
seconds at most, all together (`record`): each commit wakes every screen. What was before is in the log file
(`series.py`).
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from types import MappingProxyType

MOST_AT_ONCE = 500
"""Ids in one query."""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is by its own output; None where it does not say.

    `at` is when it last said anything (UTC ms). `step` of `steps` and `epoch` of `epochs` are as printed, `fraction`
    (0 to 1) is how much of the job is done, `speed` steps per second, `eta_ms` the time left from `at` on. `loss` is
    the newest; it may be nan or infinite.
    """

    job_id: int
    attempt: int
    at: int
    step: int | None = None
    steps: int | None = None
    epoch: float | None = None
    epochs: int | None = None
    fraction: float | None = None
    loss: float | None = None
    speed: float | None = None
    eta_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a machine did at a time (UTC ms); None where it does not say.

    `gpu_percent` is the mean over its GPUs, `gpu_temp_c` the hottest, memory is all of them together; `cpu_percent` is
    of all cores together (0 to 100). `disk_free_mb` is where jobs write.
    """

    worker_id: int
    at: int
    gpu_percent: int | None = None
    gpu_mem_mb: int | None = None
    gpu_mem_total_mb: int | None = None
    gpu_temp_c: int | None = None
    cpu_percent: int | None = None
    mem_mb: int | None = None
    mem_total_mb: int | None = None
    disk_free_mb: int | None = None


USAGE_COLUMNS = ", ".join(field.name for field in fields(Usage))
_PROGRESS = ", ".join(field.name for field in fields(JobProgress))


def record(
    connection: sqlite3.Connection,
    jobs: Iterable[JobProgress],
    machines: Iterable[Usage],
    first_steps: Mapping[tuple[int, int], int] = MappingProxyType({}),
) -> None:
    """Replace what is known of these jobs and machines. Those that the store does not know are passed over.

    `first_steps`: by job and number of the attempt the first step that its output told.
    """
    connection.executemany(
        f"INSERT OR REPLACE INTO progress ({_PROGRESS}) SELECT {_marks(JobProgress)}"
        " WHERE EXISTS (SELECT 1 FROM jobs WHERE id = ?1)",
        [_storable(each) for each in jobs],
    )
    connection.executemany(
        f"INSERT OR REPLACE INTO usage ({USAGE_COLUMNS}) SELECT {_marks(Usage)}"
        " WHERE EXISTS (SELECT 1 FROM workers WHERE id = ?1)",
        [astuple(each) for each in machines],
    )
    connection.executemany(
        "UPDATE attempts SET first_step = ? WHERE job_id = ? AND number = ? AND first_step IS NULL",
        [(step, *attempt) for attempt, step in first_steps.items()],
    )


def _marks(kind: type[JobProgress] | type[Usage]) -> str:
    return ", ".join(f"?{number}" for number, _ in enumerate(fields(kind), 1))


def _storable(known: JobProgress) -> tuple[object, ...]:
    """A row; SQLite would make NULL of nan, which is not the same: a loss that became nan is news."""
    return tuple("nan" if isinstance(value, float) and math.isnan(value) else value for value in astuple(known))


def progress_of(connection: sqlite3.Connection, job_ids: Collection[int]) -> dict[int, JobProgress]:
    """How far these jobs are, by job; those whose output says nothing are missing."""
    found: dict[int, JobProgress] = {}
    for row in _rows(connection, f"SELECT {_PROGRESS} FROM progress WHERE job_id IN", job_ids):
        values = dict(row)
        if values["loss"] is not None:
            values["loss"] = float(values["loss"])
        found[values["job_id"]] = JobProgress(**values)
    return found


def usage_now(connection: sqlite3.Connection, worker_ids: Collection[int]) -> Mapping[int, Usage]:
    """What these machines did when they were last asked, by worker; those never asked are missing."""
    rows = _rows(connection, f"SELECT {USAGE_COLUMNS} FROM usage WHERE worker_id IN", worker_ids)
    return {row["worker_id"]: Usage(**dict(row)) for row in rows}


def _rows(connection: sqlite3.Connection, query: str, ids: Collection[int]) -> list[sqlite3.Row]:
    found: list[sqlite3.Row] = []
    wanted = list(ids)
    for begin in range(0, len(wanted), MOST_AT_ONCE):
        part = wanted[begin : begin + MOST_AT_ONCE]
        found += connection.execute(f"{query} ({', '.join('?' * len(part))})", part)
    return found
