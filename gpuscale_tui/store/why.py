"""One sentence for each job and worker: why it is where it is, and the smallest change that would lift it."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.store import budgets

NO_ENGINE = "the engine is not running: start it with `gpuscale`, or without a screen with `gpuscale --autopilot`"
PROBABLY_THE_JOB = "it is probably the job"
"""Said in the error of a job that failed on several machines in a row, and then told while it is held."""
NOT_LOOKED_AT = "submitted; the engine has not looked at it yet"

JOB_COLUMNS = (
    "j.id, j.state, j.attempt, j.faults, j.not_before, j.cancel_requested_at, j.worker_id, j.exit_code, j.cause,"
    " j.error, j.finished_at, a.state AS stage, a.assigned_at, a.started_at AS stage_started_at,"
    f" g.reason AS group_reason, CASE WHEN j.state = 'pending' THEN {budgets.OF_JOB} END AS held_by_budget"
)
"""What `of_job` reads, from `jobs j` and `JOB_JOINS`."""
JOB_JOINS = (
    "LEFT JOIN workers w ON w.id = j.worker_id"
    " LEFT JOIN attempts a ON a.job_id = j.id AND a.number = j.attempt"
    " LEFT JOIN group_reasons g ON g.group_key = j.group_key AND j.state = 'pending'"
)

_STAGES = {
    "assigned": "given to {worker} at {assigned}; it begins there as soon as the machine answers",
    "staging": "its files are being put on {worker}, since {assigned}",
    "running": "its command runs on {worker} since {started}",
    "saving": "its command on {worker} has ended; output and checkpoints are being fetched",
}
_CAUSES = {
    "user_error": "its command failed",
    "timeout": "it ran longer than its max_runtime",
    "cancelled": "it was cancelled",
    "preempted": "its machine was taken away",
    "host_fault": "its machine failed",
    "provider_fault": "its provider failed",
    "our_fault": "gpuscale failed it",
    "budget": "it was stopped to keep to the budget",
}


def utc(at: int | None) -> str:
    """`2026-01-31 12:00:05 UTC`, or `an unknown time`."""
    if at is None:
        return "an unknown time"
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def engine_clock(connection: sqlite3.Connection, alive: bool | None) -> int | None:
    """When the engine last showed life (UTC ms), None when none runs.

    `alive` is what the caller knows from the lock; None leaves it to what the engine wrote itself.
    """
    row = connection.execute("SELECT heartbeat_at, stopped_at FROM engine").fetchone()
    if row is None or alive is False or (alive is None and row["stopped_at"] is not None):
        return None
    return int(row["heartbeat_at"])


def of_job(row: sqlite3.Row, clock: int | None) -> str:
    """The sentence for one job; `clock` is `engine_clock`."""
    if row["state"] == "pending":
        return _pending(row, clock)
    if row["state"] == "running":
        return _running(row, clock)
    return _ended(row)


def _pending(row: sqlite3.Row, clock: int | None) -> str:
    if row["cancel_requested_at"] is not None:
        later = clock is not None and row["cancel_requested_at"] > clock
        return f"it is cancelled at {utc(row['cancel_requested_at'])}" if later else "it is being cancelled"
    if clock is None:
        return NO_ENGINE
    if row["held_by_budget"] is not None:
        return str(row["held_by_budget"])
    if row["not_before"] is not None and row["not_before"] > clock:
        fault = _CAUSES.get(row["cause"] or "", "a fault")
        times = "once" if row["faults"] == 1 else f"{row['faults']} times"
        if PROBABLY_THE_JOB in (row["error"] or ""):
            return f"held until {utc(row['not_before'])}: {row['error']}"
        return f"held until {utc(row['not_before'])} because {fault} ({times} so far); it goes on by itself then"
    return str(row["group_reason"] or NOT_LOOKED_AT)


def _running(row: sqlite3.Row, clock: int | None) -> str:
    sentence = _STAGES.get(row["stage"] or "", "runs on {worker}").format(
        worker=worker_label(row["worker_id"]) if row["worker_id"] else "a worker",
        assigned=utc(row["assigned_at"]),
        started=utc(row["stage_started_at"]),
    )
    if row["cancel_requested_at"] is not None:
        at = row["cancel_requested_at"]
        later = clock is not None and at > clock
        asked = f"it is told to stop at {utc(at)}" if later else f"it is being cancelled, asked at {utc(at)}"
        sentence = f"{asked}; {sentence}"
    return sentence if clock is not None else f"{sentence}; nobody watches it: {NO_ENGINE}"


def _ended(row: sqlite3.Row) -> str:
    if row["state"] == "done":
        return f"done at {utc(row['finished_at'])}"
    if row["state"] == "cancelled":
        return f"cancelled at {utc(row['finished_at'])}; `gpuscale retry {job_label(row['id'])}` puts it back"
    cause = _CAUSES.get(row["cause"] or "", "it failed")
    code = f" with exit code {row['exit_code']}" if row["exit_code"] is not None else ""
    error = f": {row['error']}" if row["error"] else ""
    return f"{cause}{code}{error}; `gpuscale retry {job_label(row['id'])}` puts it back"


def why_job(connection: sqlite3.Connection, job_id: int, *, engine_alive: bool | None = None) -> str:
    """Why a job waits, runs or ended: one sentence with the smallest change that would lift it. Raises LookupError.

    `engine_alive` is what the caller knows from the engine's lock, which outlives no kill -9; None trusts the store.
    """
    row = connection.execute(f"SELECT {JOB_COLUMNS} FROM jobs j {JOB_JOINS} WHERE j.id = ?", (job_id,)).fetchone()
    if row is None:
        raise LookupError(f"there is no job {job_label(job_id)}")
    return of_job(row, engine_clock(connection, engine_alive))


def of_worker(row: sqlite3.Row) -> str:
    """The sentence for one worker (columns `state why job_id`)."""
    if row["why"]:
        return str(row["why"])
    if row["state"] == "busy" and row["job_id"] is not None:
        return f"runs {job_label(row['job_id'])}"
    return f"is {row['state']}"


def why_worker(connection: sqlite3.Connection, worker_id: int) -> str:
    """Why a worker was rented and why it is still up, or how it ended. Raises LookupError."""
    row = connection.execute(
        "SELECT state, reason, why, job_id, ended_at FROM workers WHERE id = ?", (worker_id,)
    ).fetchone()
    if row is None:
        raise LookupError(f"there is no worker {worker_label(worker_id)}")
    now = of_worker(row)
    ended = f" at {utc(row['ended_at'])}" if row["ended_at"] is not None else ""
    rented = f"rented because: {row['reason']}; " if row["reason"] and row["reason"] != now else ""
    return f"{rented}{row['state']}{ended}: {now}"
