"""Which waiting job runs on which idle worker: priority first, then age; the cheapest machine that serves it."""

from __future__ import annotations

from collections.abc import Iterable

from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.policy.matching import machine_serves
from gpuscale_tui.policy.world import Limits, Machine, PendingJob, Place


def queue_order(job: PendingJob) -> tuple[int, int, int]:
    """The order of the queue: priority, then age, then id."""
    return (job.priority, job.submitted_at, job.id)


def place(pending: Iterable[PendingJob], machines: Iterable[Machine], limits: Limits, now: int) -> tuple[Place, ...]:
    """Pair waiting jobs with idle machines; each machine takes one job, each job one machine."""
    free = sorted(
        (machine for machine in machines if machine.state == WorkerState.IDLE and machine.taking_work),
        key=lambda machine: (machine.rate, machine.id),
    )
    places: list[Place] = []
    hopeless: set[str] = set()
    for job in sorted(pending, key=queue_order):
        if not free:
            break
        if (job.not_before is not None and job.not_before > now) or job.need.key in hopeless:
            continue
        chosen = next((machine for machine in free if machine_serves(machine, job.need, limits)), None)
        if chosen is None:
            hopeless.add(job.need.key)
            continue
        free.remove(chosen)
        places.append(Place(job.id, chosen.id, f"first in the queue that {_name(chosen)} can take"))
    return tuple(places)


def _name(machine: Machine) -> str:
    return f"w{machine.id}"
