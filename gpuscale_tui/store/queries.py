"""What screens and verbs ask of the store. Each query is a plain function of a connection and needs no network.

Pages are found by walking an index for their ids alone; the wide columns and the joins are read for the rows of the
page only, so that the first page of 100,000 jobs costs what the first page of ten does.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from gpuscale_tui.model.budget import day_start, month_start
from gpuscale_tui.model.jobs import Attempt
from gpuscale_tui.model.states import JobState, WorkerState
from gpuscale_tui.store import budgets, notices, rows, wallets, why
from gpuscale_tui.store.books import costs
from gpuscale_tui.store.events import Event
from gpuscale_tui.store.views import EngineView, JobFilter, JobRow, JobSort, Spend, Status, WorkerRow
from gpuscale_tui.store.why import why_job, why_worker

__all__ = [
    "attempts", "costs", "count_jobs", "events_count", "events_page", "job_events", "job_ids", "job_row", "job_rows",
    "queue_ids", "rows_of", "status", "why_job", "why_worker", "worker_events", "worker_row", "worker_rows",
]  # fmt: skip

FINAL_STATES = ("done", "failed", "cancelled")
LIVE = "state NOT IN ('released', 'lost')"
MAX_ID = 2**63 - 1

_SORTS: dict[str, str] = {
    "id": "id {d}",
    "name": "name COLLATE NOCASE {d}, id {d}",
    "state": "state {d}, priority {d}, id {d}",
    "priority": "priority {d}, id {d}",
    "gpu": "gpu_type COLLATE NOCASE {d} NULLS LAST, gpu_count {d}, id {d}",
    "cost": "cost {d}, id {d}",
    "submitted": "submitted_at {d}, id {d}",
    "started": "started_at {d} NULLS LAST, id {d}",
    "finished": "finished_at {d} NULLS LAST, id {d}",
}


def job_rows(  # noqa: PLR0917 - a page is a filter, an order and a place
    connection: sqlite3.Connection,
    filter: JobFilter = JobFilter(),  # noqa: A002, B008 - the filter is frozen, and the name is what it is
    sort: JobSort = "queue",
    descending: bool = False,
    offset: int = 0,
    limit: int = 100,
    *,
    engine_alive: bool | None = None,
) -> list[JobRow]:
    """One page of jobs, each with its `why`.

    `queue` is: running ones, then pending ones by priority and age, then finished ones, newest first. Rows without a
    time come last where the order is by time. `engine_alive` as in `why_job`.
    """
    if sort == "queue":
        ids = queue_ids(connection, filter, descending, offset, limit)
    else:
        where, bound = _where(filter, filter.states)
        order = _SORTS[sort].format(d="DESC" if descending else "ASC")
        page = f"SELECT id FROM jobs WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
        ids = [row[0] for row in connection.execute(page, (*bound, limit, offset))]
    return rows_of(connection, ids, engine_alive)


def job_row(connection: sqlite3.Connection, job_id: int, *, engine_alive: bool | None = None) -> JobRow | None:
    """One job as a table shows it."""
    found = rows_of(connection, [job_id], engine_alive)
    return found[0] if found else None


def count_jobs(connection: sqlite3.Connection, filter: JobFilter = JobFilter()) -> int:  # noqa: A002, B008
    """How many jobs a filter lets through."""
    where, bound = _where(filter, filter.states)
    return int(connection.execute(f"SELECT count(*) FROM jobs WHERE {where}", bound).fetchone()[0])


def job_ids(connection: sqlite3.Connection, filter: JobFilter = JobFilter()) -> list[int]:  # noqa: A002, B008
    """The ids of all jobs that a filter lets through, in ascending order."""
    where, bound = _where(filter, filter.states)
    return [row[0] for row in connection.execute(f"SELECT id FROM jobs WHERE {where} ORDER BY id", bound)]


def _where(chosen: JobFilter, states: Sequence[str]) -> tuple[str, tuple[object, ...]]:
    """A condition on `jobs` and what it binds."""
    conditions = ["1"]
    bound: list[object] = []
    if states:
        conditions.append(f"state IN ({', '.join('?' * len(states))})")
        bound += states
    if chosen.text:
        patterns = _patterns(chosen.text)
        columns = ("'j' || id", "name", "project", "gpu_type")
        tests = [f"{column} LIKE ? ESCAPE '\\'" for column in columns for _ in patterns]
        conditions.append(f"({' OR '.join(tests)})")
        bound += patterns * len(columns)
    return " AND ".join(conditions), tuple(bound)


def _patterns(text: str) -> list[str]:
    """LIKE patterns that find a text in any case. SQLite folds ASCII by itself; other letters are tried both ways."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    variants = {escaped} if escaped.isascii() else {escaped, escaped.lower(), escaped.upper(), escaped.capitalize()}
    return [f"%{variant}%" for variant in sorted(variants)]


def queue_ids(
    connection: sqlite3.Connection, chosen: JobFilter, descending: bool, offset: int, limit: int
) -> list[int]:
    """Ids of one page in the order of the queue: its segments one after the other, each along an index."""
    ids: list[int] = []
    skip = offset
    for query, bound in _queue_segments(chosen, descending):
        if len(ids) >= limit:
            break
        found = connection.execute(f"{query} LIMIT ? OFFSET ?", (*bound, limit - len(ids), skip)).fetchall()
        ids += [row[0] for row in found]
        if found:
            skip = 0
        elif skip:
            skip -= int(connection.execute(f"SELECT count(*) FROM ({query})", bound).fetchone()[0])
    return ids


def _queue_segments(chosen: JobFilter, descending: bool) -> list[tuple[str, tuple[object, ...]]]:
    """The queries whose results make up the queue, one after the other, and what they bind."""
    direction, backwards = ("DESC", "ASC") if descending else ("ASC", "DESC")
    segments = []
    for state in _wanted(chosen, ("running", "pending")):
        where, bound = _where(chosen, [state])
        order = f"priority {direction}, id {direction}"
        segments.append((f"SELECT id FROM jobs WHERE {where} ORDER BY {order}", bound))
    finals = [_where(chosen, [state]) for state in _wanted(chosen, FINAL_STATES)]
    if finals:
        parts = (f"SELECT id, finished_at FROM jobs WHERE {where} AND finished_at IS NOT NULL" for where, _ in finals)
        query = f"{' UNION ALL '.join(parts)} ORDER BY finished_at {backwards}, id {backwards}"
        segments.append((query, tuple(value for _, bound in finals for value in bound)))
    return segments[::-1] if descending else segments


def _wanted(chosen: JobFilter, states: Sequence[str]) -> list[str]:
    return [state for state in states if not chosen.states or state in chosen.states]


def rows_of(connection: sqlite3.Connection, ids: Sequence[int], engine_alive: bool | None) -> list[JobRow]:
    """The rows of these jobs, in this order."""
    clock = why.engine_clock(connection, engine_alive)
    found = connection.execute(
        f"SELECT {why.JOB_COLUMNS}, j.name, j.priority, j.gpu_type, j.gpu_count, j.max_price, j.project, j.user,"
        " w.order_id, coalesce(w.provider, j.provider) AS provider, w.rate, j.cost, j.submitted_at, j.rehearsal,"
        " j.started_at AS first_started_at FROM json_each(?) page CROSS JOIN jobs j ON j.id = page.value"
        f" {why.JOB_JOINS}"
        " ORDER BY page.key",
        (json.dumps(list(ids)),),
    )
    return [_job_row(row, clock) for row in found]


def _job_row(row: sqlite3.Row, clock: int | None) -> JobRow:
    return JobRow(
        id=row["id"],
        name=row["name"],
        state=row["state"],
        attempt=row["attempt"],
        priority=row["priority"],
        gpu_type=row["gpu_type"],
        gpu_count=row["gpu_count"],
        max_price=row["max_price"],
        project=row["project"],
        user=row["user"],
        worker_id=row["worker_id"],
        order_id=row["order_id"],
        provider=row["provider"],
        rate=row["rate"],
        cost=row["cost"],
        submitted_at=row["submitted_at"],
        started_at=row["first_started_at"],
        finished_at=row["finished_at"],
        exit_code=row["exit_code"],
        cause=row["cause"],
        error=row["error"],
        cancelling=row["cancel_requested_at"] is not None,
        why=why.of_job(row, clock),
        rehearsal=row["rehearsal"],
    )


_WORKERS = (
    "SELECT w.id, w.provider, w.state, w.order_id, w.server_id, w.gpu_type, w.gpu_count, w.market, w.rate, w.job_id,"
    " j.name AS job_name, w.host AS ssh_host, w.port AS ssh_port, w.cost, w.billed, w.created_at, w.held_from,"
    " w.idle_since, w.ended_at, w.release_asked, w.reason, w.why, w.ready_at, w.contact_at, w.silent_since,"
    " w.expires_at, w.down_since FROM workers w LEFT JOIN jobs j ON j.id = w.job_id"
)


def worker_rows(
    connection: sqlite3.Connection, *, ended: bool = False, offset: int = 0, limit: int = 1000
) -> list[WorkerRow]:
    """Workers that may cost money, oldest first; with `ended` followed by those that are gone, newest first."""
    live = f"{_WORKERS} WHERE w.{LIVE} ORDER BY w.id LIMIT ? OFFSET ?"
    found = connection.execute(live, (limit, offset)).fetchall()
    if ended and len(found) < limit:
        count = connection.execute(f"SELECT count(*) FROM workers WHERE {LIVE}").fetchone()[0]
        gone = f"{_WORKERS} WHERE w.ended_at IS NOT NULL ORDER BY w.ended_at DESC, w.id DESC LIMIT ? OFFSET ?"
        found += connection.execute(gone, (limit - len(found), max(0, offset - count))).fetchall()
    return [_worker_row(row) for row in found]


def worker_row(connection: sqlite3.Connection, worker_id: int) -> WorkerRow | None:
    """One worker as a table shows it."""
    row = connection.execute(f"{_WORKERS} WHERE w.id = ?", (worker_id,)).fetchone()
    return _worker_row(row) if row else None


def _worker_row(row: sqlite3.Row) -> WorkerRow:
    return WorkerRow(**{**dict(row), "billed": bool(row["billed"]), "why": why.of_worker(row)})


def status(connection: sqlite3.Connection, now: int, default_cap: int) -> Status:
    """Engine, counts by state and money now. The cap is the running engine's, else `default_cap`.

    `engine.running` says that no engine has signed off; whether it lives, only its lock can tell.
    """
    engine = connection.execute("SELECT epoch, pid, mode, heartbeat_at, stopped_at, cap, note FROM engine").fetchone()
    running = engine is not None and engine["stopped_at"] is None
    return Status(
        engine=_engine_view(engine, running),
        jobs=_job_counts(connection),
        workers=_worker_counts(connection),
        spend=_spend(connection, engine["cap"] if running else default_cap, now),
        deaf=tuple(notices.failing(connection)),
        wallets=tuple(wallets.wallets(connection, now)),
    )


def _engine_view(row: sqlite3.Row | None, running: bool) -> EngineView:
    if row is None:
        return EngineView(running=False, pid=None, mode=None, epoch=None, heartbeat_at=None, note="")
    return EngineView(
        running=running,
        pid=row["pid"] if running else None,
        mode=row["mode"] if running else None,
        epoch=row["epoch"],
        heartbeat_at=row["heartbeat_at"],
        note=row["note"],
    )


def _job_counts(connection: sqlite3.Connection) -> dict[str, int]:
    found = dict(tuple(row) for row in connection.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
    return {state.value: found.get(state.value, 0) for state in JobState}


def _worker_counts(connection: sqlite3.Connection) -> dict[str, int]:
    found = dict(
        tuple(row)
        for row in connection.execute(
            f"SELECT state, count(*) FROM workers WHERE {LIVE} GROUP BY state"
            " UNION ALL SELECT state, count(*) FROM workers WHERE ended_at IS NOT NULL GROUP BY state"
        )
    )
    return {state.value: found.get(state.value, 0) for state in WorkerState}


def _spend(connection: sqlite3.Connection, cap: int, now: int) -> Spend:
    row = connection.execute(
        "SELECT coalesce(sum(rate) FILTER (WHERE state <> 'ordering'), 0) AS used,"
        f" coalesce(sum(rate) FILTER (WHERE state = 'ordering'), 0) AS reserved FROM workers WHERE {LIVE}"
    ).fetchone()
    today, month = (budgets.spent(connection, "all", "", since) for since in (day_start(now), month_start(now)))
    return Spend(used=row["used"], reserved=row["reserved"], cap=cap, today=today, month=month)


def attempts(connection: sqlite3.Connection, job_id: int) -> list[Attempt]:
    """All executions of a job, first to last."""
    found = connection.execute("SELECT * FROM attempts WHERE job_id = ? ORDER BY number", (job_id,))
    return [rows.attempt(row) for row in found]


def job_events(connection: sqlite3.Connection, job_id: int, limit: int = 200) -> list[Event]:
    """The newest `limit` events of a job, oldest of them first."""
    found = connection.execute("SELECT * FROM events WHERE job_id = ? ORDER BY id DESC LIMIT ?", (job_id, limit))
    return [Event(**dict(row)) for row in found][::-1]


def worker_events(connection: sqlite3.Connection, worker_id: int, limit: int = 200) -> list[Event]:
    """The newest `limit` events of a worker, oldest of them first."""
    found = connection.execute("SELECT * FROM events WHERE worker_id = ? ORDER BY id DESC LIMIT ?", (worker_id, limit))
    return [Event(**dict(row)) for row in found][::-1]


def events_page(connection: sqlite3.Connection, before_id: int | None = None, limit: int = 100) -> list[Event]:
    """Events newest first, those before an id (None: the newest of all)."""
    found = connection.execute(
        "SELECT * FROM events WHERE id < ? ORDER BY id DESC LIMIT ?",
        (MAX_ID if before_id is None else before_id, limit),
    )
    return [Event(**dict(row)) for row in found]


def events_count(connection: sqlite3.Connection) -> int:
    """How many events there are. Only the oldest are ever dropped, so the ids have no gaps: nothing is counted."""
    row = connection.execute("SELECT (SELECT max(id) FROM events), (SELECT min(id) FROM events)").fetchone()
    return 0 if row[0] is None else int(row[0] - row[1] + 1)
