"""Short ways to the states that tests of the store begin in."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from gpuscale_tui.model.jobs import Attempt, JobSpec
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Market, Need, Offer
from gpuscale_tui.model.states import AttemptState, Cause, JobState, WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.store import jobs, workers
from gpuscale_tui.store.database import Database, transact
from gpuscale_tui.store.jobs import Ending

P = ParamSpec("P")
T = TypeVar("T")
DOLLAR = 1_000_000
HOUR = 3_600_000
T0 = 1_700_000_000_000
NEED = Need("img", "RTX 4090", 1, None)
_numbers = itertools.count(1)


def spec(**changes: Any) -> JobSpec:
    """A job that is right in every field but those given."""
    return JobSpec(**{"image": "img", "command": "python train.py", "gpu_type": "RTX 4090", **changes})


def offer(rate: int = DOLLAR, **changes: Any) -> Offer:
    """An offer at a rate in micro-dollars per hour."""
    fields: dict[str, Any] = {
        "provider": "clore", "server_id": f"s{next(_numbers)}", "gpu_type": "RTX 4090", "gpu_count": 1,
        "terms": Terms(rate), "market": Market.ON_DEMAND,
    }  # fmt: skip
    return Offer(**{**fields, **changes})


def intent(rate: int = DOLLAR, cap: int = 100 * DOLLAR, max_workers: int = 1000, **changes: Any) -> workers.Intent:
    """An intent to rent at a rate, within limits."""
    fields: dict[str, Any] = {
        "token": f"t{next(_numbers)}", "offer": offer(rate), "need": NEED, "reason": "2 jobs wait",
        "known_orders": frozenset({"o0"}), "cap": cap, "max_workers": max_workers,
    }  # fmt: skip
    return workers.Intent(**{**fields, **changes})


@dataclass
class Bench:
    """A database and a clock that stands still until it is moved."""

    path: Path
    db: Database = field(init=False)
    now: int = T0
    epoch: int | None = None

    def __post_init__(self) -> None:
        self.db = Database(self.path)
        self.db.connection.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug here, and tests are many

    def write(self, command: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One transaction, guarded by the epoch if there is one."""
        return transact(self.db.connection, self.epoch, command, *args, **kwargs)

    def read(self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One query."""
        return self.db.read(query, *args, **kwargs)

    def value(self, sql: str, *bound: object) -> Any:
        """The first value of the first row."""
        return self.db.connection.execute(sql, bound).fetchone()[0]

    @property
    def by(self) -> dict[str, Any]:
        """The keyword arguments that most commands end with."""
        return {"now": self.now, "epoch": self.epoch}

    def submit(self, count: int = 1, **changes: Any) -> list[int]:
        """Submit equal jobs."""
        return self.write(jobs.insert, [spec(**changes)] * count, self.now)

    def order(self, rate: int = DOLLAR, **changes: Any) -> Worker:
        """A worker that is being ordered."""
        worker = self.write(workers.write_intent, intent(rate, **changes), **self.by)
        assert isinstance(worker, Worker)
        return worker

    def boot(self, rate: int = DOLLAR, **changes: Any) -> Worker:
        """A worker whose order exists."""
        worker = self.order(rate, **changes)
        adoption = workers.Adoption(f"o{worker.id}", self.now, Endpoint("127.0.0.1", 22))
        self.write(workers.adopt, worker.id, adoption, **self.by)
        return self.worker(worker.id)

    def idle(self, rate: int = DOLLAR, **changes: Any) -> Worker:
        """A worker that is ready for work."""
        worker = self.boot(rate, **changes)
        self.write(workers.became_ready, worker.id, "ssh-ed25519 AAAA", **self.by)
        return self.worker(worker.id)

    def placed(self, **changes: Any) -> Attempt:
        """A new job on a new worker."""
        worker = self.idle()
        (job_id,) = self.submit(**changes)
        return self.place(job_id, worker.id)

    def place(self, job_id: int, worker_id: int) -> Attempt:
        """Give a job to a worker, which must succeed."""
        attempt = self.write(jobs.place, job_id, worker_id, **self.by)
        assert attempt is not None
        return attempt

    def end(self, attempt: Attempt, cause: Cause, state: JobState, **changes: Any) -> bool:
        """End an attempt."""
        return self.write(jobs.end_attempt, attempt, Ending(cause, state, **changes), **self.by)

    def advance(self, attempt: Attempt, *states: AttemptState) -> Attempt:
        """Move an attempt through states."""
        for state in states:
            attempt = self.write(jobs.advance_attempt, attempt, state, **self.by)
        return attempt

    def worker(self, worker_id: int) -> Worker:
        """A worker as it stands."""
        worker = self.read(workers.get, worker_id)
        assert worker is not None
        return worker

    def worker_in(self, state: WorkerState) -> Worker:
        """A new worker in the state named."""
        make = {
            WorkerState.ORDERING: self.order, WorkerState.BOOTING: self.boot, WorkerState.IDLE: self.idle,
        }  # fmt: skip
        if state in make:
            return make[state]()
        if state == WorkerState.BUSY:
            return self.worker(self.placed().worker_id)
        worker = self.idle()
        if state in {WorkerState.RELEASING, WorkerState.RELEASED}:
            self.write(workers.begin_release, worker.id, "enough", **self.by)
        if state in {WorkerState.RELEASED, WorkerState.LOST}:
            self.write(workers.confirm_gone, worker.id, "gone", cause=None, **self.by)
        return self.worker(worker.id)

    def job_in(self, state: JobState) -> int:
        """A new job in the state named."""
        if state == JobState.PENDING:
            return self.submit()[0]
        attempt = self.placed()
        causes = {
            JobState.DONE: Cause.FINISHED, JobState.FAILED: Cause.USER_ERROR, JobState.CANCELLED: Cause.CANCELLED,
        }  # fmt: skip
        if state in causes:
            self.end(attempt, causes[state], state)
        return attempt.job_id
