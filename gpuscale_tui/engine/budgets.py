"""Budgets as they stand: the settings' limits beside what the store says was spent and what is rented."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from gpuscale_tui.model.budget import Budget, Scope, begins
from gpuscale_tui.policy.world import Allowance, BudgetView
from gpuscale_tui.store import budgets
from gpuscale_tui.store.budgets import Hold, Paid


def look(connection: sqlite3.Connection, budget: Budget, cap: int | None, now: int) -> BudgetView:
    """Every limit that is set, and how far it is used.

    The cap (micro-dollars per hour; None leaves it out), the day, the month, projects, users, and each job that runs or
    is held for what it has cost.
    """
    machines, held = budgets.paid(connection), budgets.holds(connection)
    due = {machine.worker_id: machine.due(budget.reserve, now) for machine in machines}
    found = [
        *_cap(machines, cap, now),
        *_over_all(connection, budget, sum(due.values()), now),
        *_of_names(connection, Scope.PROJECT, budget.projects, machines, due, now),
        *_of_names(connection, Scope.USER, budget.users, machines, due, now),
        *_of_jobs(connection, budget, machines, due),
    ]
    return BudgetView(
        allowances=tuple(_with_hold(each, held) for each in found),
        promised=sum(machine.promised(budget.reserve, now) for machine in machines),
        first_ms=budget.reserve.first_ms,
    )


def _cap(machines: Sequence[Paid], cap: int | None, now: int) -> Iterator[Allowance]:
    if cap is not None:
        rate = sum(machine.terms.rate for machine in machines)
        yield Allowance(Scope.HOUR, "", cap, 0, rate, begins(Scope.HOUR, now))


def _over_all(connection: sqlite3.Connection, budget: Budget, due: int, now: int) -> Iterator[Allowance]:
    for scope, limit in budget.over_all:
        since = begins(scope, now)
        yield Allowance(scope, "", limit, budgets.spent(connection, "all", "", since), due, since)


def _of_names(  # noqa: PLR0917 - the limits of one kind, and all that they are held against
    connection: sqlite3.Connection,
    scope: Scope,
    limits: Mapping[str, int],
    machines: Sequence[Paid],
    due: Mapping[int, int],
    now: int,
) -> Iterator[Allowance]:
    since = begins(scope, now)
    for name, limit in limits.items():
        of = (each for each in machines if name == (each.project if scope == Scope.PROJECT else each.user))
        committed = sum(due[each.worker_id] for each in of)
        yield Allowance(scope, name, limit, budgets.spent(connection, scope, name, since), committed, since)


def _of_jobs(
    connection: sqlite3.Connection, budget: Budget, machines: Sequence[Paid], due: Mapping[int, int]
) -> Iterator[Allowance]:
    """The job on each machine, and those that wait and have cost too much already."""
    if budget.per_job is None:
        return
    running = {machine.job_id: machine for machine in machines if machine.job_id is not None}
    for job_id, machine in running.items():
        yield Allowance(Scope.JOB, str(job_id), budget.per_job, machine.job_cost, due[machine.worker_id], 0)
    for job_id, cost in budgets.jobs_at_their_limit(connection, budget.per_job):
        if job_id not in running:
            yield Allowance(Scope.JOB, str(job_id), budget.per_job, cost, 0, 0)


def _with_hold(allowance: Allowance, held: Sequence[Hold]) -> Allowance:
    """Used up in this time, and not raised since."""
    same = any(
        (hold.scope, hold.name, hold.begins) == (allowance.scope, allowance.name, allowance.begins)
        and hold.amount >= allowance.limit
        for hold in held
    )
    return replace(allowance, held=True) if same else allowance
