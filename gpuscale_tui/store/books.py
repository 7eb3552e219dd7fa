"""The books: what the providers charged, for what kind of time, and for whom."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime

from gpuscale_tui.model.budget import DAY_MS, day_start, month_start
from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.model.money import split
from gpuscale_tui.store.views import CostKey, CostRow, Costs

__all__ = ["DAY_MS", "NO_JOB", "NO_VALUE", "charged", "costs", "day_start", "differences", "month_start"]

NO_JOB = "(no job)"
NO_VALUE = "(none)"

_KINDS = ("job", "setup", "rejected", "lost", "idle")
_JOB = "LEFT JOIN jobs j ON j.id = s.job_id"
_WORKER = "JOIN workers w ON w.id = s.worker_id"
_KEYS: dict[str, tuple[str, str]] = {
    "project": (f"CASE WHEN s.job_id IS NULL THEN '{NO_JOB}' ELSE coalesce(j.project, '{NO_VALUE}') END", _JOB),
    "user": (f"CASE WHEN s.job_id IS NULL THEN '{NO_JOB}' ELSE coalesce(nullif(j.user, ''), '{NO_VALUE}') END", _JOB),
    "job": ("+s.job_id", ""),
    "gpu": (f"coalesce(w.gpu_type, '{NO_VALUE}')", _WORKER),
    "provider": ("w.provider", _WORKER),
    "worker": ("+s.worker_id", ""),
    "day": ("''", ""),
}
"""For each key: the expression (`+` keeps SQLite from a scattered walk along an index), and the table it needs.
Days come from the ledger; their spans give the kinds only."""


@dataclass(slots=True)
class _Group:
    """What the spans of one key weigh by kind, in micro-dollars, and how many jobs they held."""

    jobs: int
    weights: dict[str, int]


def charged(connection: sqlite3.Connection, since: int | None) -> int:
    """Micro-dollars that were charged since then (UTC ms), over all workers."""
    row = connection.execute("SELECT coalesce(sum(amount), 0) FROM ledger WHERE at >= ?", (since or 0,)).fetchone()
    return int(row[0])


def costs(connection: sqlite3.Connection, by: CostKey, since: int | None = None) -> Costs:
    """The books by project, user, GPU, provider, day (UTC), job or worker, dearest first (days: newest first).

    `total` is what was charged (the ledger), all of it or since a time (UTC ms). The five kinds add up to it exactly,
    and so do the rows. Time that no job held is in the row `(no job)` where the key is a job's. With `since`, a span
    that had begun before counts with its later part.
    """
    total = charged(connection, since)
    groups = _groups(connection, by, since)
    weights = [sum(group.weights[kind] for group in groups.values()) for kind in _KINDS]
    kinds = dict(zip(_KINDS, split(total, weights), strict=True))
    rows = _by_day(connection, since) if by == "day" else _by_key(groups, total)
    difference, differing = differences(connection, since)
    return Costs(
        total=total, productive=kinds["job"], setup=kinds["setup"], idle=kinds["idle"], rejected=kinds["rejected"],
        lost=kinds["lost"], rows=tuple(rows), difference=difference, differing=differing,
    )  # fmt: skip


def differences(connection: sqlite3.Connection, since: int | None) -> tuple[int, int]:
    """By how much the final bills of machines that ended since then differ from our own reckoning, and of how many."""
    row = connection.execute(
        "SELECT coalesce(sum(cost - reckoned), 0), count(*) FROM workers WHERE ended_at >= ? AND reckoned <> cost",
        (since or 0,),
    ).fetchone()
    return int(row[0]), int(row[1])


def _groups(connection: sqlite3.Connection, by: str, since: int | None) -> dict[str, _Group]:
    """The spans of each key; those that straddle `since` with their later part only."""
    expression, join = _KEYS[by]
    sums = ", ".join(f"coalesce(sum(s.cost) FILTER (WHERE s.kind = '{kind}'), 0) AS {kind}" for kind in _KINDS)
    found = connection.execute(
        f"SELECT {expression} AS key, count(DISTINCT s.job_id) AS jobs, {sums} FROM spans s {join}"
        " WHERE ? IS NULL OR s.ended_at IS NULL OR s.ended_at > ? GROUP BY 1",
        (since, since),
    )
    groups = {_label(by, row["key"]): _Group(row["jobs"], {kind: row[kind] for kind in _KINDS}) for row in found}
    if since is not None:
        _take_off_earlier(connection, by, since, groups)
    return groups


def _take_off_earlier(connection: sqlite3.Connection, by: str, since: int, groups: dict[str, _Group]) -> None:
    """Take what the spans that straddle `since` cost before it off their groups."""
    expression, join = _KEYS[by]
    booked = connection.execute("SELECT coalesce(max(at), 0) FROM ledger").fetchone()[0]
    found = connection.execute(
        f"SELECT s.kind, {expression} AS key, s.cost, s.started_at, max(coalesce(s.ended_at, ?), ?) AS ended_at"
        f" FROM spans s {join} WHERE s.started_at < ? AND (s.ended_at IS NULL OR s.ended_at > ?) AND s.cost <> 0",
        (booked, since, since, since),
    )
    for row in found:
        earlier, whole = since - row["started_at"], row["ended_at"] - row["started_at"]
        groups[_label(by, row["key"])].weights[row["kind"]] -= row["cost"] * earlier // whole


def _label(by: str, key: object) -> str:
    if by == "job":
        return NO_JOB if key is None else job_label(int(str(key)))
    return worker_label(int(str(key))) if by == "worker" else str(key)


def _by_key(groups: dict[str, _Group], total: int) -> list[CostRow]:
    if not groups:
        return [CostRow(NO_JOB, 0, total)] if total else []
    shares = split(total, [sum(group.weights.values()) for group in groups.values()])
    rows = [CostRow(key, group.jobs, share) for (key, group), share in zip(groups.items(), shares, strict=True)]
    return sorted(rows, key=lambda row: (-row.cost, row.key))


def _by_day(connection: sqlite3.Connection, since: int | None) -> list[CostRow]:
    """Days as the ledger has them, with the number of jobs that were placed on each."""
    found = connection.execute(
        "SELECT at / ? AS day, sum(amount) AS cost FROM ledger WHERE at >= ? GROUP BY 1 ORDER BY 1 DESC",
        (DAY_MS, since or 0),
    ).fetchall()
    placed = connection.execute(
        "SELECT started_at / ?, count(DISTINCT job_id) FROM spans WHERE job_id IS NOT NULL AND started_at >= ?"
        " GROUP BY 1",
        (DAY_MS, since or 0),
    )
    jobs = {int(day): int(count) for day, count in placed}
    return [CostRow(_date(row["day"]), jobs.get(row["day"], 0), row["cost"]) for row in found]


def _date(day: int) -> str:
    return f"{datetime.fromtimestamp(day * DAY_MS / 1000, UTC):%Y-%m-%d}"
