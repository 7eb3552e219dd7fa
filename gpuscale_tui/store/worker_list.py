"""The list of machines as a screen asks for it: a filter, an order, the rows that are on screen and no others.

The ids of a list of a thousand machines are walked at each reading (2 ms); what a machine does now, how long such ones
took to boot and how far its job is are read for the rows on screen.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from gpuscale_tui.model.query import DURATION, MONEY, NUMBER, TEXT, FieldKind, Query, label, words
from gpuscale_tui.model.states import LIVE_WORKER_STATES, WorkerState
from gpuscale_tui.store import liveness, queries, workers
from gpuscale_tui.store.filtering import SqlField, where
from gpuscale_tui.store.progress import JobProgress, Usage, progress_of, usage_now
from gpuscale_tui.store.views import WorkerRow

_STATE = words(*(state.value for state in WorkerState), bare=True, help="what it is")
WORKER_FIELDS: Mapping[str, FieldKind] = MappingProxyType({
    "state": _STATE,
    "status": _STATE.named("state"),
    "gpu": TEXT.told("its GPU; gpu=none for none"),
    "rate": MONEY.told("what it costs an hour, fees included"),
    "cost": MONEY.told("what it has cost"),
    "use": NUMBER.told("GPU use in percent"),
    "temp": NUMBER.told("the hottest GPU, in degrees Celsius"),
    "memory": NUMBER.told("GPU memory used, in percent"),
    "up": DURATION.told("how long it has been held"),
    "idle": DURATION.told("how long it has been idle"),
    "job": label("j", help="the job on it"),
    "name": TEXT.told("the name of the job on it"),
    "id": label("w", help="its number"),
    "worker": label("w").named("id"),
    "gpus": NUMBER.told("how many GPUs it has"),
    "provider": TEXT.told("where it is from"),
    "market": TEXT.told("on-demand or spot"),
    "server": TEXT.told("the provider's name of the host"),
    "order": TEXT.told("the provider's name of the rental"),
    "why": TEXT.told("why it is up"),
})  # fmt: skip
"""What a filter of machines knows."""

_UP = "coalesce(w.ended_at, {now}) - w.held_from"
_SQL: Mapping[str, SqlField] = MappingProxyType({
    "state": SqlField("w.state"),
    "gpu": SqlField("w.gpu_type"),
    "rate": SqlField("w.rate"),
    "cost": SqlField("w.cost"),
    "use": SqlField("u.gpu_percent"),
    "temp": SqlField("u.gpu_temp_c"),
    "memory": SqlField("100.0 * u.gpu_mem_mb / u.gpu_mem_total_mb"),
    "up": SqlField(_UP),
    "idle": SqlField("CASE w.state WHEN 'idle' THEN {now} - w.idle_since END"),
    "job": SqlField("w.job_id"),
    "name": SqlField("j.name"),
    "id": SqlField("w.id"),
    "gpus": SqlField("w.gpu_count"),
    "provider": SqlField("w.provider"),
    "market": SqlField("w.market"),
    "server": SqlField("w.server_id"),
    "order": SqlField("w.order_id"),
    "why": SqlField("w.why"),
})  # fmt: skip
_SEARCHED = ("'w' || w.id", "w.state", "w.gpu_type", "w.provider", "w.server_id", "w.order_id", "j.name", "'j' || j.id")

WORKER_SORTS = ("age", "id", "state", "gpu", "use", "temp", "memory", "rate", "job", "up", "cost")
"""What the list can be sorted by; the first: those that are up, oldest first, then those gone, newest first."""
_ORDERS: Mapping[str, str] = MappingProxyType({
    "age": "w.ended_at IS NOT NULL {d}, CASE WHEN w.ended_at IS NULL THEN w.id ELSE -w.ended_at END {d}",
    "id": "w.id {d}",
    "state": "w.state {d}, w.id {d}",
    "gpu": "w.gpu_type COLLATE NOCASE {d} NULLS LAST, w.gpu_count {d}, w.id {d}",
    "use": "u.gpu_percent {d} NULLS LAST, w.id {d}",
    "temp": "u.gpu_temp_c {d} NULLS LAST, w.id {d}",
    "memory": "100.0 * u.gpu_mem_mb / u.gpu_mem_total_mb {d} NULLS LAST, w.id {d}",
    "rate": "w.rate {d}, w.id {d}",
    "job": "w.job_id {d} NULLS LAST, w.id {d}",
    "up": f"{_UP} {{d}} NULLS LAST, w.id {{d}}",
    "cost": "w.cost {d}, w.id {d}",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A list of machines: which, in which order, whether with those that are gone."""

    query: Query = Query()  # noqa: RUF009 - a query is frozen
    sort: str = "age"
    descending: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class MachineRow:
    """A machine as the list shows it: what it says it does, and how long such ones took to be up (ms)."""

    row: WorkerRow
    used: Usage | None = None
    usual_boot: int | None = None
    progress: JobProgress | None = None

    @property
    def id(self) -> int:
        """Its number."""
        return self.row.id


@dataclass(frozen=True, slots=True)
class WorkerPage:
    """Machines from `first` on, of `total` in the list. `place` is where the one that was asked for stands."""

    total: int
    first: int
    rows: tuple[MachineRow, ...]
    place: int | None = None
    rate: int = 0
    """What all of the list that are up cost an hour."""


def worker_ids(connection: sqlite3.Connection, view: WorkerView, now: int) -> list[int]:
    """The ids of a list, in its order."""
    test, bound = where(view.query, _SQL, now, searched=_SEARCHED)
    states = "" if view.ended or _asks_for_ended(view.query) else f" AND w.{queries.LIVE}"
    order = _ORDERS[view.sort].format(d="DESC" if view.descending else "ASC", now=int(now))
    found = connection.execute(
        "SELECT w.id FROM workers w LEFT JOIN jobs j ON j.id = w.job_id LEFT JOIN usage u ON u.worker_id = w.id"
        f" WHERE {test}{states} ORDER BY {order}",
        bound,
    )
    return [row[0] for row in found]


def _asks_for_ended(query: Query) -> bool:
    """Whether a filter names a state of machines that are gone: then they are shown without being asked for."""
    gone = {state.value for state in WorkerState if state not in LIVE_WORKER_STATES}
    return any(term.field == "state" and not term.negated and gone & set(term.values) for term in query.terms)


def worker_page(
    connection: sqlite3.Connection, view: WorkerView, window: tuple[int, int], followed: int | None, now: int
) -> WorkerPage:
    """The rows of a window (first, number), moved to the end of a list that has become shorter."""
    ids = worker_ids(connection, view, now)
    first = max(0, min(window[0], len(ids) - window[1]))
    place = ids.index(followed) if followed in ids else None
    row = connection.execute(
        f"SELECT coalesce(sum(rate), 0) FROM workers WHERE {queries.LIVE} AND id IN (SELECT value FROM json_each(?))",
        (json.dumps(ids),),
    ).fetchone()
    rows = machine_rows(connection, ids[first : first + window[1]])
    return WorkerPage(len(ids), first, tuple(rows), place, int(row[0]))


def machine_rows(connection: sqlite3.Connection, ids: Collection[int]) -> list[MachineRow]:
    """The rows of these machines, in this order, as far as there are such machines."""
    rows = [row for row in (queries.worker_row(connection, number) for number in ids) if row is not None]
    used = usage_now(connection, ids)
    known = progress_of(connection, [row.job_id for row in rows if row.job_id is not None])
    boots = usual_boots(connection, rows)
    return [MachineRow(row, used.get(row.id), boots.get(row.id), known.get(row.job_id or 0)) for row in rows]


def usual_boots(connection: sqlite3.Connection, rows: Sequence[WorkerRow]) -> dict[int, int]:
    """How long (ms) machines like those that boot took before: the middle of those on the same host, else with the same
    image, else of the provider; those of which nothing is known are missing."""
    found: dict[int, int] = {}
    for row in rows:
        worker = workers.get(connection, row.id) if row.state == WorkerState.BOOTING else None
        if worker is not None:
            known = liveness.boot_times(connection, worker)
            like = next((sorted(known[level]) for level in ("host", "image", "provider") if known[level]), None)
            if like is not None:
                found[row.id] = round(like[len(like) // 2] * 1000)
    return found
