"""Budgets in the store: what was spent in a time and on what, what is due yet, and which limits are used up.

Sums by day are kept as the ledger grows, so that a year of bookings costs no more to read than a day.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache

from gpuscale_tui.model.budget import Budget, Reserve, Scope, begins, still_due
from gpuscale_tui.model.money import Terms, format_usd
from gpuscale_tui.model.states import WorkerState

LIVE = "state NOT IN ('released', 'lost')"
WORDS = {Scope.DAY: "the daily budget", Scope.MONTH: "the monthly budget"}


@dataclass(frozen=True, slots=True)
class Paid:
    """A machine that may cost money, for whom, and what it costs. Money is micro-dollars, times are UTC ms.

    `held_from` of an order that is not known yet is when it was intended: it may cost since then. `job_cost` is what
    the job on it has cost so far, here and elsewhere.
    """

    worker_id: int
    state: WorkerState
    terms: Terms
    held_from: int
    cost: int
    release_asked: int
    release_next_at: int | None
    job_id: int | None
    project: str | None
    user: str | None
    job_cost: int

    def due(self, reserve: Reserve, now: int) -> int:
        """What it will cost, beyond what is booked, before it can be given back."""
        until = now + reserve.staying_ms
        if self.state == WorkerState.RELEASING:
            waits = self.release_next_at if self.release_next_at is not None and not self.release_asked else now
            until = max(now, waits) + reserve.tick_ms
        return still_due(self.terms, self.held_from, self.cost, until, now=now)

    def promised(self, reserve: Reserve, now: int) -> int:
        """The same, but for a machine that is new at least what its first while costs: less would not be worth it."""
        if self.state == WorkerState.RELEASING:
            return self.due(reserve, now)
        first = self.held_from + reserve.first_ms
        return max(self.due(reserve, now), still_due(self.terms, self.held_from, self.cost, first, now=now))


@dataclass(frozen=True, slots=True)
class Hold:
    """A limit that is used up: since `begins` (UTC ms) `amount` (micro-dollars) were all there was."""

    scope: Scope
    name: str
    begins: int
    amount: int
    reason: str


def spent(connection: sqlite3.Connection, scope: str, name: str, since: int) -> int:
    """Micro-dollars booked since a midnight: `all` (name empty), or on the jobs of a `project` or a `user`."""
    row = connection.execute(
        "SELECT coalesce(sum(amount), 0) FROM spent WHERE scope = ? AND name = ? AND day >= ?", (scope, name, since)
    ).fetchone()
    return int(row[0])


def paid(connection: sqlite3.Connection) -> list[Paid]:
    """Everything that may cost money."""
    found = connection.execute(
        "SELECT w.id AS worker_id, w.state, w.terms, coalesce(w.held_from, w.created_at) AS held_from, w.cost,"
        " w.release_asked, w.release_next_at,"
        " w.job_id, j.project, j.user, coalesce(j.cost, 0) AS job_cost"
        f" FROM workers w LEFT JOIN jobs j ON j.id = w.job_id WHERE w.{LIVE} ORDER BY w.id"
    )
    return [
        Paid(
            worker_id=row["worker_id"], state=WorkerState(row["state"]), terms=_terms(row["terms"]),
            held_from=row["held_from"], cost=row["cost"], release_asked=row["release_asked"],
            release_next_at=row["release_next_at"], job_id=row["job_id"], project=row["project"], user=row["user"],
            job_cost=row["job_cost"],
        )
        for row in found
    ]  # fmt: skip


@lru_cache(maxsize=4096)
def _terms(text: str) -> Terms:
    """Terms as `workers.terms` keeps them. Remembered: the same few hundred are read every few seconds."""
    return Terms(**json.loads(text))


def refusal(connection: sqlite3.Connection, budget: Budget, terms: Terms, *, now: int) -> str | None:
    """Why no machine with these terms may be rented, None when the limits on everything have room for it.

    Counted are what was booked, what everything not confirmed released will cost until it can be given back (at least
    its first while), and the first while of the new machine. A machine that costs nothing is always welcome.
    """
    first = terms.charge(budget.reserve.first_ms)
    if not budget.over_all or not first:
        return None
    due = sum(machine.promised(budget.reserve, now) for machine in paid(connection))
    for scope, limit in budget.over_all:
        since = begins(scope, now)
        booked = spent(connection, "all", "", since)
        if booked + due + first > limit or held(connection, scope, since, limit):
            return (
                f"{WORDS[scope]} of {format_usd(limit)} has no room for this machine: {format_usd(booked)} are spent,"
                f" {format_usd(due)} committed, and its first while would cost {format_usd(first)}"
            )
    return None


def held(connection: sqlite3.Connection, scope: Scope, since: int, limit: int, name: str = "") -> bool:
    """Whether this limit was used up in this time and has not been raised since."""
    row = connection.execute(
        "SELECT 1 FROM holds WHERE scope = ? AND name = ? AND begins = ? AND amount >= ?", (scope, name, since, limit)
    ).fetchone()
    return row is not None


def holds(connection: sqlite3.Connection) -> list[Hold]:
    """The limits that are used up."""
    found = connection.execute("SELECT scope, name, begins, amount, reason FROM holds ORDER BY scope, name")
    return [Hold(**{**dict(row), "scope": Scope(row["scope"])}) for row in found]


def keep(connection: sqlite3.Connection, wanted: Iterable[Hold], *, now: int) -> None:
    """Make exactly these limits the ones that are used up."""
    connection.execute("DELETE FROM holds")
    connection.executemany(
        "INSERT INTO holds (scope, name, begins, amount, at, reason) VALUES (?, ?, ?, ?, ?, ?)",
        [(hold.scope, hold.name, hold.begins, hold.amount, now, hold.reason) for hold in wanted],
    )


OF_JOB = (
    "(SELECT h.reason FROM holds h WHERE (h.scope = 'job' AND h.name = CAST(j.id AS TEXT))"
    " OR (h.scope = 'project' AND h.name = j.project) OR (h.scope = 'user' AND h.name = j.user) LIMIT 1)"
)
"""Why a job `j` is held back by a limit of its own, its project's or its user's; NULL when it is not."""


def stopping(connection: sqlite3.Connection) -> dict[int, str]:
    """Running jobs that must be saved and put back because a limit of theirs is used up, with the reason.

    A job on a machine that costs nothing may go on.
    """
    if connection.execute("SELECT 1 FROM holds WHERE scope IN ('project', 'user', 'job') LIMIT 1").fetchone() is None:
        return {}
    found = connection.execute(
        f"SELECT j.id, {OF_JOB} AS reason FROM workers w JOIN jobs j ON j.id = w.job_id"
        f" WHERE w.{LIVE} AND w.rate > 0 AND j.state = 'running'"
    )
    return {row["id"]: row["reason"] for row in found if row["reason"] is not None}


def unheld(connection: sqlite3.Connection) -> str:
    """A condition on `jobs` that leaves out those that a limit holds back; `1` where there are none."""
    columns = {"project": "coalesce(project, '')", "user": "user", "job": "CAST(id AS TEXT)"}
    scopes = [row[0] for row in connection.execute("SELECT DISTINCT scope FROM holds")]
    conditions = [
        f"{columns[scope]} NOT IN (SELECT name FROM holds WHERE scope = '{scope}')"
        for scope in columns
        if scope in scopes
    ]
    return " AND ".join(conditions) or "1"


def jobs_at_their_limit(connection: sqlite3.Connection, limit: int) -> list[tuple[int, int]]:
    """Jobs (id, cost) that wait and have cost more than a limit for one job, or that are held for it already."""
    found = connection.execute(
        "SELECT id, cost FROM jobs WHERE state = 'pending' AND cost > 0 AND cost > ?1"
        " UNION SELECT j.id, j.cost FROM holds h JOIN jobs j ON j.id = CAST(h.name AS INTEGER)"
        " WHERE h.scope = 'job' AND j.state IN ('pending', 'running')",
        (limit,),
    )
    return [(row["id"], row["cost"]) for row in found]


def remember(connection: sqlite3.Connection, budget: Budget) -> None:
    """Note the limits that the engine works under, for those who look on."""
    connection.execute(
        "INSERT INTO meta (key, value) VALUES ('budget', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
        (json.dumps(asdict(budget)),),
    )


def remembered(connection: sqlite3.Connection) -> Budget | None:
    """The limits of the engine that runs or ran last, None before the first one."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'budget'").fetchone()
    if row is None:
        return None
    fields = json.loads(row["value"])
    return Budget(**{**fields, "reserve": Reserve(**fields["reserve"])})
