"""Keeping to the budgets: what is used up is told, holds its work back, and stops what runs for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gpuscale_tui.engine import budgets as looks
from gpuscale_tui.engine import view
from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.budget import Budget, Scope
from gpuscale_tui.model.money import HOUR_MS
from gpuscale_tui.model.states import Cause, WorkerState
from gpuscale_tui.policy.budget import UsedUp, said_at, steps, stops_everything, used_up
from gpuscale_tui.policy.limits import least_loss
from gpuscale_tui.policy.world import BudgetView
from gpuscale_tui.store import budgets, events, jobs, notices, snapshots, workers
from gpuscale_tui.store.budgets import Hold
from gpuscale_tui.store.notices import NoticeKind

LOOK_SEC = 5.0
State = tuple[object, ...]


class Treasurer:
    """Compares what is spent and committed with what may be, and acts before the limit is passed.

    The limits on a day and a month give everything back that costs money, in order of least loss; those of a project,
    a user and a job stop these jobs (the runner sees the holds). Everything is decided anew from the store each time.
    """

    name = "treasurer"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._done: State | None = None
        self._remembered: Budget | None = None

    async def tick(self) -> float:
        """See `Service.tick`."""
        context, settings = self._context, self._context.settings
        budget, cap = view.budget(settings), view.cap(settings)
        if budget != self._remembered:
            await context.db.note(budgets.remember, budget)
            self._remembered = budget
        found = await context.db.read(looks.look, budget, cap, context.now())
        state = _state(found)
        if state != self._done or stops_everything(used_up(found)) is not None:
            changed = await context.db.write(
                keep, budget, cap, grace_ms=int(settings.scaler.shutdown_grace_sec * 1000), now=context.now(),
                epoch=context.epoch,
            )  # fmt: skip
            self._done = state
            if changed:
                context.bells.ring("planner", "placer", "runner", "releaser")
        return min(LOOK_SEC, settings.scaler.poll_interval_sec)


def _state(found: BudgetView) -> State:
    """What is told and held: as long as it stays the same, nothing has to be written."""
    told = [(each.scope, each.name, each.begins, each.limit, step) for each, step in steps(found)]
    held = [(each.allowance.scope, each.allowance.name, each.allowance.held) for each in used_up(found)]
    return (tuple(told), tuple(held))


def keep(
    connection: sqlite3.Connection, budget: Budget, cap: int, *, grace_ms: int, now: int, epoch: int | None
) -> bool:
    """Hold back and stop what the limits say, in one transaction; True when something has changed."""
    found = looks.look(connection, budget, cap, now)
    _tell(connection, found, now=now, epoch=epoch)
    out = used_up(found)
    changed = _hold(connection, out, now=now, epoch=epoch)
    everything = stops_everything(out)
    if everything is not None:
        changed |= _give_everything_back(connection, everything.reason, grace_ms=grace_ms, now=now, epoch=epoch)
    return changed


def _tell(connection: sqlite3.Connection, found: BudgetView, *, now: int, epoch: int | None) -> None:
    """Each step of each limit once in its time: for the outside, and in the audit log (the cap: once a day, and not
    there, for it is meant to be used)."""
    for allowance, step in steps(found):
        key = f"budget:{allowance.scope}:{allowance.name}:{allowance.begins}:{allowance.limit}:{step}"
        job_id = int(allowance.name) if allowance.scope == Scope.JOB else None
        text = said_at(allowance, step)
        new = notices.add(connection, now, NoticeKind.BUDGET, text, key=key, job_id=job_id)
        if new and allowance.scope != Scope.HOUR:
            events.append(connection, now, "warning", text, epoch=epoch, job_id=job_id, cause=Cause.BUDGET)


def _hold(connection: sqlite3.Connection, out: Sequence[UsedUp], *, now: int, epoch: int | None) -> bool:
    """Write down which limits are used up, and say which are new and which are no more."""
    before = {(hold.scope, hold.name): hold for hold in budgets.holds(connection)}
    wanted: list[Hold] = []
    for each in out:
        allowance = each.allowance
        old = before.pop((allowance.scope, allowance.name), None)
        if old is not None and allowance.held:
            wanted.append(old)
            continue
        wanted.append(Hold(allowance.scope, allowance.name, allowance.begins, allowance.limit, each.reason))
        _note(connection, wanted[-1], each.reason, now=now, epoch=epoch)
    for hold in before.values():
        _note(connection, hold, "its limit was raised or its time began anew: work goes on", now=now, epoch=epoch)
    new = set(wanted) != set(budgets.holds(connection))
    if new:
        budgets.keep(connection, wanted, now=now)
    return new


def _note(connection: sqlite3.Connection, hold: Hold, text: str, *, now: int, epoch: int | None) -> None:
    job_id = int(hold.name) if hold.scope == Scope.JOB else None
    named = text if text == hold.reason else f"budget of the {hold.scope} {hold.name}".rstrip() + f": {text}"
    events.append(connection, now, "warning", named, epoch=epoch, job_id=job_id, cause=Cause.BUDGET)


def _give_everything_back(
    connection: sqlite3.Connection, reason: str, *, grace_ms: int, now: int, epoch: int | None
) -> bool:
    """All that costs money, what has least to lose first; hosts of our own that cost nothing go on."""
    live = [worker for worker in workers.live(connection) if worker.terms.charge(HOUR_MS)]
    machines = view.machines(live, jobs.live_attempts(connection), snapshots.work_at_stake(connection))
    begun = [
        workers.begin_release(
            connection, machine.id, reason, cause=Cause.BUDGET, grace_ms=grace_ms, now=now, epoch=epoch
        )
        for machine in least_loss((each for each in machines if each.state != WorkerState.RELEASING), now)
    ]
    return any(begun)
