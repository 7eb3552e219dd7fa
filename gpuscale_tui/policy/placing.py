"""Which waiting job runs on which machine: priority first, then age; the cheapest machine that serves it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heapreplace
from operator import attrgetter

from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.offers import Need
from gpuscale_tui.policy.fleet import Fleet
from gpuscale_tui.policy.world import Limits, Machine, PendingJob, Place

_in_queue_order = attrgetter("priority", "submitted_at", "id")


def queue_order(job: PendingJob) -> tuple[int, int, int]:
    """The order of the queue: priority, then age, then id."""
    return (job.priority, job.submitted_at, job.id)


def is_ready(job: PendingJob, now: int) -> bool:
    """Whether the job may run now: it is not held after a fault."""
    return job.not_before is None or job.not_before <= now


def by_need(jobs: Iterable[PendingJob]) -> dict[Need, list[PendingJob]]:
    """The jobs of each need, in the order of the queue."""
    shared: dict[int, list[PendingJob]] = {}  # jobs of one group mostly share one Need, and an id is cheap to hash
    for job in jobs:
        shared.setdefault(id(job.need), []).append(job)
    groups: dict[Need, list[PendingJob]] = {}
    for members in shared.values():
        groups.setdefault(members[0].need, []).extend(members)
    for members in groups.values():
        members.sort(key=_in_queue_order)
    return groups


def assign(groups: Sequence[Sequence[PendingJob]], fleet: Fleet) -> list[tuple[PendingJob, Machine]]:
    """Pair jobs with machines, first come first served; the jobs of a group have one need and stand in queue order.

    What is left of a group when none of the fleet's machines serves it any more is passed over.
    """
    heads = [(queue_order(jobs[0]), 0, index) for index, jobs in enumerate(groups) if jobs]
    heapify(heads)
    pairs: list[tuple[PendingJob, Machine]] = []
    while heads:
        _, position, index = heads[0]
        jobs = groups[index]
        machine = fleet.take(jobs[position].need)
        if machine is not None:
            pairs.append((jobs[position], machine))
        position += 1
        if machine is None or position == len(jobs):
            heappop(heads)
        else:
            heapreplace(heads, (queue_order(jobs[position]), position, index))
    return pairs


def place(pending: Iterable[PendingJob], machines: Iterable[Machine], limits: Limits, now: int) -> tuple[Place, ...]:
    """Pair waiting jobs with idle machines; each machine takes one job, each job one machine."""
    groups = by_need(job for job in pending if is_ready(job, now))
    fleet = Fleet((machine for machine in machines if machine.free), limits, groups)
    return tuple(
        Place(job.id, machine.id, f"first in the queue that {worker_label(machine.id)} can take")
        for job, machine in assign(list(groups.values()), fleet)
    )
