"""What is to be expected of jobs and of the queue: `policy.forecast`, fed from the store.

For screens and verbs: plain functions of a connection, to be run off the event loop. `now` is UTC ms.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gpuscale_tui.engine.budgets import look
from gpuscale_tui.model.budget import DAY_MS, Budget, Scope, begins, month_start
from gpuscale_tui.policy.budget import titled
from gpuscale_tui.policy.forecast import (
    USUAL_BOOT,
    Batch,
    Duration,
    Forecast,
    Means,
    Occupied,
    Past,
    Purse,
    Range,
    Running,
    cost_of,
    duration_of,
    forecast,
    past_of,
)
from gpuscale_tui.policy.world import Allowance
from gpuscale_tui.store import jobs, outlook
from gpuscale_tui.store.outlook import Like, OpenRun
from gpuscale_tui.store.progress import JobProgress, progress_of

KINDS_LOOKED_UP = 100
"""Kinds of open jobs, the largest, for which finished ones are looked up."""


class History:
    """How long finished jobs took: looked up once for each kind of job."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[tuple[object, ...], tuple[Past, ...]] = {}

    def past(self, like: Like) -> tuple[Past, ...]:
        """Finished jobs like one, the most alike first."""
        key = (like.stem, like.project, like.gpu_type)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= KINDS_LOOKED_UP:
                return ()
            on = "" if like.gpu_type is None else f" on {like.gpu_type}"
            named = past_of(outlook.took_by_name(self._connection, like), f"named {like.stem}{on}")
            of = past_of(outlook.took_by_project(self._connection, like), f"of project {like.project}{on}")
            found = self._known[key] = tuple(past for past in (named, of) if past is not None)
        return found


def expected(connection: sqlite3.Connection, name: str, project: str | None, gpu_type: str | None,
             max_runtime_sec: float | None = None) -> Duration:  # fmt: skip
    """How long a job that is not submitted yet would take from its start: for the form. `gpu_type` is canonical."""
    return duration_of(History(connection).past(Like(name, project, gpu_type)), _ms(max_runtime_sec))


@dataclass(frozen=True, slots=True)
class JobOutlook:
    """How long a job goes on (a running one) or takes (a waiting one), in ms, and what that will cost from now on;
    `rate` is what its machine costs, or would (micro-dollars per hour). None where it is not known."""

    duration: Duration
    rate: int | None
    cost: Range | None


def of_job(connection: sqlite3.Connection, job_id: int, now: int) -> JobOutlook | None:
    """What is to be expected of an open job: for its page. None for one that is not open."""
    job = jobs.get(connection, job_id)
    if job is None or job.state not in {"pending", "running"}:
        return None
    history = History(connection)
    for run in outlook.running(connection, job_id):
        left = _left(run, progress_of(connection, [job_id]).get(job_id), history, now)
        return JobOutlook(left, run.rate, None if left.took is None else cost_of(left.took, run.rate))
    spec = job.spec
    duration = duration_of(history.past(Like(spec.name, spec.project, spec.gpu_type)), _ms(spec.max_runtime_sec))
    rate = outlook.rates(connection, [spec.need.key]).get(spec.need.key)
    known = duration.took is not None and rate is not None
    return JobOutlook(duration, rate, cost_of(duration.took, rate) if known else None)  # type: ignore[arg-type]


def of_queue(connection: sqlite3.Connection, budget: Budget, cap: int, max_workers: int, now: int) -> Forecast:
    """When everything open is done and for how much, within the cap (micro-dollars per hour) and the limits."""
    history = History(connection)
    kinds = outlook.waiting(connection)
    keys = {kind.group_key for kind in kinds}
    rates, up = outlook.rates(connection, keys), outlook.up(connection)
    shares = _shared(up, {key: sum(kind.jobs for kind in kinds if kind.group_key == key) for key in keys})
    batches = [
        Batch(
            kind.jobs,
            duration_of(history.past(kind.like), _ms(kind.max_runtime_sec)),
            rates.get(kind.group_key),
            shares.get(kind.group_key, 0),
        )
        for kind in kinds
    ]
    runs = outlook.running(connection)
    progress = progress_of(connection, [run.job_id for run in runs])
    occupied = [Occupied(_left(run, progress.get(run.job_id), history, now), run.rate) for run in runs]
    found = forecast(batches, occupied, Means(max_workers, cap, _boot(connection), _purses(connection, budget, now)))
    if found.jobs and (budget.projects or budget.users or budget.per_job is not None):
        return replace(found, basis=(*found.basis, "limits of projects, users and single jobs are not in it"))
    return found


def _shared(up: dict[str, int], waiting: dict[str, int]) -> dict[str, int]:
    """Machines that stay with their group; more than it has jobs are none's."""
    return {key: min(up.get(key, 0), jobs) for key, jobs in waiting.items()}


def _left(run: OpenRun, progress: JobProgress | None, history: History, now: int) -> Duration:
    elapsed = 0 if run.started_at is None else max(0, now - run.started_at)
    eta = None if progress is None or progress.eta_ms is None else max(0, progress.at + progress.eta_ms - now)
    fraction = None if progress is None else progress.fraction
    return duration_of(history.past(run.like), _ms(run.max_runtime_sec), Running(elapsed, eta, fraction))


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _boot(connection: sqlite3.Connection) -> Range:
    past = past_of(outlook.boots(connection), "machines")
    return USUAL_BOOT if past is None else past.took


def _purses(connection: sqlite3.Connection, budget: Budget, now: int) -> tuple[Purse, ...]:
    """The limits on a day and a month."""
    if not budget.over_all:
        return ()
    return tuple(_purse(each, now) for each in _over_all(look(connection, budget, None, now).allowances))


def _over_all(found: Iterable[Allowance]) -> Sequence[Allowance]:
    return [each for each in found if each.scope in {Scope.DAY, Scope.MONTH}]


def _purse(each: Allowance, now: int) -> Purse:
    """What has been promised to the machines that are up is theirs: it is part of what is forecast."""
    left = 0 if each.held else max(0, each.limit - each.spent)
    if each.scope == Scope.DAY:
        return Purse(titled(each), left, each.limit, each.begins + DAY_MS - now, DAY_MS)
    ends = month_start(begins(Scope.MONTH, now) + 32 * DAY_MS)
    return Purse(titled(each), left, each.limit, ends - now, 30 * DAY_MS)
