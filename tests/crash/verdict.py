"""What must hold after a crash, and once everything has come to rest: sentences on what does not."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuscale_tui.store import events, jobs, logs, queries, workers
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.events import Event
from gpuscale_tui.store.views import JobFilter, JobRow
from tests.crash.job import line
from tests.crash.world import CAP_USD, Submission, World, check_files

MICRO = 1_000_000
FEE_PERCENT = 105
"""On-demand orders cost 5 percent more than their price (Clore API reference, section 2.3)."""


def after_a_kill(world: World) -> list[str]:
    """I1 at the moment of the crash: files are sound, and each living order stands behind a worker of the store."""
    wrong = check_files(world.home)
    orders = world.alive()  # first: the store is at rest, and what is ordered later is not looked at
    with world.open() as db:
        held = Counter(worker.server_id for worker in db.read(workers.live))
        committed = db.read(workers.committed_rate)
    for order in orders:
        if held[str(order["server"])] == 0:
            wrong.append(
                f"order {order['order']} on server {order['server']} lives and no worker of the store knows it"
            )
    if committed > CAP_USD * MICRO:
        wrong.append(f"{committed} micro-dollars per hour are committed, more than the cap")
    return wrong


def at_rest(world: World) -> list[str]:
    """Everything that must hold once nothing waits, runs or is rented."""
    with world.open() as db:
        rows = db.read(queries.job_rows, JobFilter(), limit=100_000)
        wrong = [*_jobs(world, db, rows), *_fleet(world, db), *_money(world, db), *_cap(world, db)]
    return wrong + check_files(world.home)


def _jobs(world: World, db: Database, rows: Sequence[JobRow]) -> Iterator[str]:
    found_jobs = [job for row in rows if (job := db.read(jobs.get, row.id))]
    known = {(job.spec.env["CRASH_NAME"], job.spec.params["part"]): job for job in found_jobs}
    became_done = Counter(event.job_id for event in all_events(db) if event.kind == "job" and event.to_state == "done")
    by_key = Counter(key for key, _ in known)
    for submission in world.submissions:
        found = by_key.pop(submission.key, 0)
        if found not in ({submission.count} if submission.told else {0, submission.count}):
            yield f"{submission.key}: {found} of {submission.count} jobs are there (told: {submission.told})"
    if by_key:
        yield f"jobs that nobody submitted: {dict(by_key)}"
    steps = {submission.key: submission.steps for submission in world.submissions}
    for (key, part), job in known.items():
        if job.state != "done":
            yield f"j{job.id} is {job.state}: {job.error}"
            continue
        work = Work.read(world, f"{key}-{part}")
        if became_done[job.id] != 1:
            yield f"j{job.id} became done {became_done[job.id]} times"
        taken = _taken(world, db, job.id, work.starts)
        for text in (*work.faults(steps.get(key, 0), taken), *_output(world, job.id, work, taken)):
            yield f"j{job.id}: {text}"


def _taken(world: World, db: Database, job_id: int, attempts: Iterable[int]) -> set[int]:
    """The attempts whose machine was taken away under them."""
    found = [db.read(jobs.get_attempt, job_id, number) for number in attempts]
    ran_on = {each.number: db.read(workers.get, each.worker_id) for each in found if each and each.cause == "preempted"}
    return {number for number, worker in ran_on.items() if worker and worker.order_id in world.evicted}


@dataclass(slots=True)
class Work:
    """What a job counted, by attempt."""

    name: str
    starts: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    steps: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    ends: list[int] = field(default_factory=list)
    twins: list[int] = field(default_factory=list)

    @classmethod
    def read(cls, world: World, name: str) -> Work:
        """The counts of one job."""
        work, path = cls(name), world.counts / name
        for text in path.read_text().splitlines() if path.exists() else []:
            word, attempt, number = text.split()
            if word == "start":
                work.starts[int(attempt)].append(int(number))
            elif word == "step":
                work.steps[int(attempt)].append(int(number))
            elif word == "end":
                work.ends.append(int(attempt))
            else:
                work.twins.append(int(attempt))
        return work

    def faults(self, steps: int, taken: Collection[int]) -> Iterator[str]:
        """Started once an attempt, no step left out, none repeated within an attempt, ended once.

        `taken` are the attempts whose machine the marketplace took away: what they came to was lost with it, and they
        may be ending still when the next one begins.
        """
        if [attempt for attempt in self.twins if attempt - 1 not in taken]:
            yield f"two copies ran at once: attempts {self.twins} and the ones before"
        ends = [attempt for attempt in self.ends if attempt not in taken]
        if len(ends) != 1:
            yield f"its work came to an end {len(ends)} times: {self.ends}"
        for attempt, first in self.starts.items():
            if len(first) != 1:
                yield f"attempt {attempt} was started {len(first)} times"
            done = self.steps[attempt]
            if done != list(range(first[0], first[0] + len(done))):
                yield f"attempt {attempt} did the steps {done} from {first[0]} on"
        if sorted({step for done in self.steps.values() for step in done}) != list(range(steps)):
            yield "not all of its steps were done"

    def output(self, attempt: int) -> bytes:
        """What an attempt printed."""
        return "".join(line(self.name, step) + "\n" for step in self.steps[attempt]).encode()


def _output(world: World, job_id: int, work: Work, taken: Collection[int]) -> Iterator[str]:
    """An attempt that came to its end has its whole output stored; of a broken one the stored part is a beginning."""
    connection = logs.connect_logs(world.home.logs, readonly=True)
    try:
        for attempt in work.starts:
            stored, printed = logs.read(connection, job_id, attempt, 0, 1 << 40), work.output(attempt)
            if attempt in work.ends and attempt not in taken and stored != printed:
                yield f"the log of attempt {attempt} has {len(stored)} bytes and is not the {len(printed)} printed"
            elif not printed.startswith(stored):
                yield f"the log of attempt {attempt} has what was never printed"
    finally:
        connection.close()


def _fleet(world: World, db: Database) -> Iterator[str]:
    for order in world.alive():
        yield f"order {order['order']} was not given back"
    for worker in db.read(workers.live):
        yield f"worker w{worker.id} is {worker.state} in the store"
    foreign = [order for order in world.market.live_orders() if order["order"] == world.foreign]
    if not foreign:
        yield "the foreign order has ended"


def _money(world: World, db: Database) -> Iterator[str]:
    """The ledger is the marketplace's bill, order by order and in all."""
    lines = {str(each["order"]): each["total_micro"] for each in world.market.bill()["orders"]}
    lines.pop(str(world.foreign))
    booked = {
        worker.order_id: worker.cost
        for row in db.read(queries.worker_rows, ended=True)
        if (worker := db.read(workers.get, row.id)) and worker.order_id is not None
    }
    for order, total in lines.items():
        if booked.pop(order, None) != total:
            yield f"order {order} costs {total} by its bill and {booked.get(order)} by the ledger"
    if booked:
        yield f"booked for orders that do not exist: {booked}"
    costs = db.read(queries.costs, "worker", None)
    if costs.total != sum(lines.values()):
        yield f"the ledger says {costs.total}, the bills {sum(lines.values())}"
    if costs.productive + costs.setup + costs.idle + costs.rejected + costs.lost != costs.total:
        yield "what the money went for does not add up to what was spent"


def _cap(world: World, db: Database) -> Iterator[str]:
    """By the marketplace's history of living orders, and by the worst case in the store's events."""
    changes = []
    for order in world.market.bill()["orders"]:
        if order["order"] != world.foreign:
            rate = order["price_per_day_micro"] * FEE_PERCENT / 100 / 24
            changes += [(order["created_ms"], 1, rate), (order["ended_ms"] or 1 << 60, 0, -rate)]
    peak = rate_now = 0.0
    for _, _, change in sorted(changes):
        rate_now += change
        peak = max(peak, rate_now)
    if peak > CAP_USD * MICRO:
        yield f"the marketplace has seen {peak:.0f} micro-dollars per hour of ours, the cap is {CAP_USD * MICRO:.0f}"
    worst = worst_case(db)
    if worst > CAP_USD * MICRO:
        yield f"by the store's events {worst} micro-dollars per hour were committed, the cap is {CAP_USD * MICRO:.0f}"


def worst_case(db: Database) -> int:
    """The highest sum of rates (micro-dollars per hour) that was committed at one time, by the audit log."""
    rates = {row.id: row.rate for row in db.read(queries.worker_rows, ended=True)}
    live: dict[int, int] = {}
    peak = 0
    for event in all_events(db):
        if event.kind == "worker" and event.worker_id is not None and event.to_state is not None:
            live[event.worker_id] = 0 if event.to_state in {"released", "lost"} else rates[event.worker_id]
            peak = max(peak, sum(live.values()))
    return peak


def all_events(db: Database) -> list[Event]:
    """The whole audit log."""
    return db.read(events.after, 0, 10_000_000)


def summary(db: Database, world: World) -> dict[str, Any]:
    """Figures for the end of a campaign."""
    rows = db.read(queries.job_rows, JobFilter(), limit=100_000)
    attempts = sum(row.attempt for row in rows)
    orders = world.market.bill()["orders"]
    return {
        "jobs": len(rows), "attempts": attempts, "orders": len(orders) - 1, "evicted": len(world.evicted),
        "billed_usd": sum(each["total_micro"] for each in orders if each["order"] != world.foreign) / MICRO,
        "peak_committed_usd_per_hour": worst_case(db) / MICRO, "cap_usd_per_hour": CAP_USD,
    }  # fmt: skip


def as_json(found: dict[str, Any]) -> str:
    """The figures on one line."""
    return json.dumps(found)


__all__ = ["Submission", "after_a_kill", "as_json", "at_rest", "summary"]
