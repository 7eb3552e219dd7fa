"""The list of jobs as a screen asks for it: a filter, an order, a few rows of very many, and where one of them stands.

In the order of the queue without a filter, which is the usual case, everything is found along an index. Any other
list is walked once for its ids, which are kept until the data change: a page of it, and the place of a job in it, then
cost nothing however far down they are.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from gpuscale_tui.model.query import (
    AGE,
    DURATION,
    MONEY,
    NUMBER,
    PERCENT,
    TEXT,
    FieldKind,
    Query,
    label,
    words,
)
from gpuscale_tui.model.states import Cause, JobState
from gpuscale_tui.store import queries
from gpuscale_tui.store.filtering import SqlField, where
from gpuscale_tui.store.progress import progress_of
from gpuscale_tui.store.views import JobFilter, JobRow

STATES = tuple(state.value for state in JobState)
ANY = JobFilter()
NO_QUERY = Query()
AGE_STEP_MS = 10_000
"""Ages in a filter are reckoned anew this often."""

_STATE = words(*STATES, bare=True, help="where it stands")
_PRICE = MONEY.told("what an hour of a GPU may cost at most")
_TRY = NUMBER.told("which execution of it this is")
_ON = label("w", help="the machine that it runs or last ran on")

JOB_FIELDS: Mapping[str, FieldKind] = MappingProxyType({
    "status": _STATE,
    "state": _STATE.named("status"),
    "name": TEXT.told("its name"),
    "gpu": TEXT.told("the GPU that it needs; gpu=none for none"),
    "cost": MONEY.told("what it has cost so far"),
    "project": TEXT.told("its project"),
    "user": TEXT.told("who submitted it"),
    "id": label("j", help="its number"),
    "job": label("j").named("id"),
    "gpus": NUMBER.told("how many GPUs it needs"),
    "price": _PRICE,
    "max_price": _PRICE.named("price"),
    "rate": MONEY.told("what its machine costs an hour"),
    "priority": NUMBER.told("1 goes first, 10 last"),
    "try": _TRY,
    "attempt": _TRY.named("try"),
    "on": _ON,
    "worker": _ON.named("on"),
    "provider": TEXT.told("where its machine is from, or must be from"),
    "image": TEXT.told("its container image"),
    "exit": NUMBER.told("the exit code of its command"),
    "cause": words(*(cause.value for cause in Cause), help="why it ended, or last ended"),
    "error": TEXT.told("what went wrong"),
    "age": AGE.told("since it was submitted"),
    "submitted": AGE.named("age"),
    "waiting": DURATION.told("how long it has waited in the queue, of those that wait"),
    "ran": DURATION.told("how long it runs or ran"),
    "time": DURATION.named("ran"),
    "finished": AGE.told("since it ended"),
    "progress": PERCENT.told("how much of it is done, by its own output"),
    "eta": DURATION.told("how long it still takes, by its own output"),
    "loss": NUMBER.told("its newest loss"),
    "ended": AGE.named("finished"),
    "rehearsal": words("wanted", "moving", "resumed", "verified", "failed", help="how far its rehearsed move is"),
})  # fmt: skip
"""What a filter of jobs knows."""


def _of_progress(expression: str) -> str:
    return f"(SELECT {expression} FROM progress p WHERE p.job_id = jobs.id)"


_SQL: Mapping[str, SqlField] = MappingProxyType({
    "status": SqlField("state"),
    "name": SqlField("name"),
    "gpu": SqlField("gpu_type"),
    "cost": SqlField("cost"),
    "project": SqlField("project"),
    "user": SqlField("user"),
    "id": SqlField("id"),
    "gpus": SqlField("gpu_count"),
    "price": SqlField("max_price"),
    "rate": SqlField("CASE state WHEN 'running' THEN (SELECT w.rate FROM workers w WHERE w.id = jobs.worker_id) END"),
    "priority": SqlField("priority"),
    "try": SqlField("nullif(attempt, 0)"),
    "on": SqlField("worker_id"),
    "provider": SqlField("coalesce((SELECT w.provider FROM workers w WHERE w.id = jobs.worker_id), provider)"),
    "image": SqlField("image"),
    "exit": SqlField("exit_code"),
    "rehearsal": SqlField("rehearsal"),
    "cause": SqlField("cause"),
    "error": SqlField("error"),
    "age": SqlField("{now} - submitted_at"),
    "waiting": SqlField("CASE state WHEN 'pending' THEN {now} - submitted_at END"),
    "ran": SqlField("coalesce(finished_at, {now}) - started_at"),
    "finished": SqlField("{now} - finished_at"),
    "progress": SqlField(_of_progress("fraction")),
    "eta": SqlField(f"CASE state WHEN 'running' THEN {_of_progress('max(0, at + eta_ms - {now})')} END"),
    "loss": SqlField(_of_progress("CASE typeof(loss) WHEN 'text' THEN 9e999 ELSE loss END")),
})  # fmt: skip
_SEARCHED = ("'j' || id", "name", "project", "gpu_type")
"""What a word without a field is looked for in."""

JOB_SORTS = (
    "queue", "id", "name", "status", "priority", "gpu", "cost", "rate", "project", "user", "try", "on", "submitted",
    "started", "time", "finished", "progress", "eta", "loss",
)  # fmt: skip
_ORDERS: Mapping[str, str] = MappingProxyType({
    "id": "id {d}",
    "name": "name COLLATE NOCASE {d}, id {d}",
    "status": "state {d}, priority {d}, id {d}",
    "priority": "priority {d}, id {d}",
    "gpu": "gpu_type COLLATE NOCASE {d} NULLS LAST, gpu_count {d}, id {d}",
    "cost": "cost {d}, id {d}",
    "rate": f"{_SQL['rate'].expression} {{d}} NULLS LAST, id {{d}}",
    "project": "project COLLATE NOCASE {d} NULLS LAST, id {d}",
    "user": "user COLLATE NOCASE {d}, id {d}",
    "try": "attempt {d}, id {d}",
    "on": "worker_id {d} NULLS LAST, id {d}",
    "submitted": "submitted_at {d}, id {d}",
    "started": "started_at {d} NULLS LAST, id {d}",
    "time": "coalesce(finished_at, {now}) - started_at {d} NULLS LAST, id {d}",
    "finished": "finished_at {d} NULLS LAST, id {d}",
    "progress": f"{_SQL['progress'].expression} {{d}} NULLS LAST, id {{d}}",
    "eta": f"{_SQL['eta'].expression} {{d}} NULLS LAST, id {{d}}",
    "loss": f"{_SQL['loss'].expression} {{d}} NULLS LAST, id {{d}}",
})  # fmt: skip
_LIVE = "state IN ('running', 'pending')"
_QUEUE = (
    f"CASE state WHEN 'running' THEN 0 WHEN 'pending' THEN 1 ELSE 2 END {{d}},"
    f" CASE WHEN {_LIVE} THEN priority ELSE -finished_at END {{d}}, CASE WHEN {_LIVE} THEN id ELSE -id END {{d}}"
)
"""The order of the queue as one expression, for a list that is walked anyway."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs from `first` on, of `total` in the list. `place` is where the job that was asked for stands."""

    total: int
    first: int
    rows: tuple[JobRow, ...]
    place: int | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """A list of jobs: which, in which order."""

    query: Query = NO_QUERY
    sort: str = "queue"
    descending: bool = False

    @property
    def plain(self) -> bool:
        """Whether it is the queue itself, which is found along an index."""
        return not self.query and self.sort == "queue"


def condition(query: Query, now: int) -> tuple[str, tuple[object, ...]]:
    """What the jobs that a filter lets through have in common, as SQL and what it binds."""
    return where(query, _SQL, now, searched=_SEARCHED)


class JobList:
    """Answers for one screen; it keeps the ids of the list that was asked for last. For one thread at a time."""

    def __init__(self) -> None:
        self._ids: array[int] = array("q")
        self._of: tuple[object, ...] = ()

    def page(
        self,
        connection: sqlite3.Connection,
        view: JobView,
        window: tuple[int, int],
        followed: int | None = None,
        now: int = 0,
        *,
        seen: bool = True,
        engine_alive: bool | None = None,
    ) -> JobPage:
        """The rows of a window (first, number), moved to the end of a list that has become shorter.

        `followed` is a job whose place is asked for when it is not among them; where it was `seen` before, the window
        goes with it.
        """
        total = self._total(connection, view, now)
        first = max(0, min(window[0], total - window[1]))
        ids = self._slice(connection, view, first, window[1])
        place = None
        if followed is not None and followed not in ids:
            place = self._place(connection, view, followed)
            if place is not None and seen:
                first = max(0, min(place - window[1] // 2, total - window[1]))
                ids = self._slice(connection, view, first, window[1])
        return JobPage(total, first, tuple(rows_for(connection, ids, engine_alive=engine_alive)), place)

    def ids(self, connection: sqlite3.Connection, view: JobView, now: int) -> Sequence[int]:
        """The ids of all jobs of the list; in order unless it is the queue itself."""
        if view.plain:
            return _ids(connection, "SELECT id FROM jobs", ())
        return self._walked(connection, view, now)

    def between(self, connection: sqlite3.Connection, view: JobView, one: int, other: int, now: int) -> Sequence[int]:
        """The ids from one job to another, both with them; none when one of them is not in the list."""
        self._total(connection, view, now)
        places = [self._place(connection, view, each) for each in (one, other)]
        if places[0] is None or places[1] is None:
            return []
        first, last = sorted((places[0], places[1]))
        return self._slice(connection, view, first, last - first + 1)

    def _total(self, connection: sqlite3.Connection, view: JobView, now: int) -> int:
        return queries.count_jobs(connection) if view.plain else len(self._walked(connection, view, now))

    def _slice(self, connection: sqlite3.Connection, view: JobView, first: int, count: int) -> Sequence[int]:
        if not view.plain:
            return self._ids[first : first + count]
        total = queries.count_jobs(connection)
        last = max(0, total - first - count)
        if first <= last:
            return queries.queue_ids(connection, ANY, view.descending, first, count)
        # nearer to the other end: fewer rows to pass over from there
        return queries.queue_ids(connection, ANY, not view.descending, last, min(count, total - first))[::-1]

    def _place(self, connection: sqlite3.Connection, view: JobView, job_id: int) -> int | None:
        if view.plain:
            return queue_place(connection, job_id, view.descending)
        try:
            return self._ids.index(job_id)
        except ValueError:
            return None

    def _walked(self, connection: sqlite3.Connection, view: JobView, now: int) -> array[int]:
        """The ids of a list in order, walked anew when the data have changed."""
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        aged = any(JOB_FIELDS[term.field].kind in {"age", "duration"} for term in view.query.terms if term.field)
        of = (version, view, now // AGE_STEP_MS if aged else 0)
        if of != self._of:
            order = (_QUEUE if view.sort == "queue" else _ORDERS[view.sort]).replace("{now}", str(int(now)))
            test, bound = condition(view.query, now)
            direction = "DESC" if view.descending else "ASC"
            ordered = f"SELECT id FROM jobs WHERE {test} ORDER BY {order.replace('{d}', direction)}"
            self._ids, self._of = _ids(connection, ordered, bound), of
        return self._ids


def _ids(connection: sqlite3.Connection, query: str, bound: tuple[object, ...]) -> array[int]:
    """What a query of ids finds, in one step of SQLite: a hundred thousand rows one by one would hold up the screen."""
    found = connection.execute(f"SELECT group_concat(id) FROM ({query})", bound).fetchone()[0]
    return array("q", map(int, found.split(",")) if found else ())


def queue_place(connection: sqlite3.Connection, job_id: int, descending: bool = False) -> int | None:
    """Where a job stands in the queue, counted along its index from 0; None when there is no such job."""
    row = connection.execute("SELECT state, priority, finished_at FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        return None
    state = row["state"]
    sooner = "SELECT count(*) FROM jobs WHERE state = ? AND (priority, id) < (?, ?)"
    later = "SELECT count(*) FROM jobs WHERE state = ? AND (finished_at, id) > (?, ?) AND finished_at IS NOT NULL"
    before = 0
    for other in ("running", "pending"):
        if state == other:
            before += _count(connection, sooner, (other, row["priority"], job_id))
            break
        before += _count(connection, "SELECT count(*) FROM jobs WHERE state = ?", (other,))
    else:
        if row["finished_at"] is None:
            return None
        before += sum(_count(connection, later, (other, row["finished_at"], job_id)) for other in queries.FINAL_STATES)
    return queries.count_jobs(connection) - 1 - before if descending else before


def _count(connection: sqlite3.Connection, query: str, bound: tuple[object, ...]) -> int:
    return int(connection.execute(query, bound).fetchone()[0])


def rows_for(connection: sqlite3.Connection, ids: Collection[int], *, engine_alive: bool | None = None) -> list[JobRow]:
    """The rows of these jobs with how far they are, in this order, as far as there are such jobs."""
    rows = queries.rows_of(connection, list(ids), engine_alive)
    known = progress_of(connection, [row.id for row in rows])
    return [replace(row, progress=known.get(row.id)) for row in rows]
