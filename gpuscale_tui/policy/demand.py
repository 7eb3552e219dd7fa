"""Demand and supply: which waiting jobs have a machine, here or on its way, and which have none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuscale_tui.model.offers import Need
from gpuscale_tui.policy.fleet import Fleet
from gpuscale_tui.policy.placing import assign, by_need, is_ready, queue_order
from gpuscale_tui.policy.world import Machine, PendingJob, World

PATIENCE_MS = 10 * 60_000
"""A machine that has been busy with one job for so long may be for days: a short queue does not wait for it any more.
A machine of its own is up in about this time."""


@dataclass(frozen=True, slots=True)
class Group:
    """Pending jobs that could share a machine, in the order of the queue, with what stands ready for them.

    `ready` jobs may run now, the others are held after a fault. Of the ready ones `coming` have a machine on its way
    and `uncovered` have neither that nor an idle one; no machine is counted for two jobs. `servers` are all machines
    that could take them sooner or later, busy ones too; `soon` leaves out those that were given their present job
    PATIENCE_MS ago or longer. `neediest` is the most urgent job without a machine, where there is one.
    """

    need: Need
    key: str
    jobs: tuple[PendingJob, ...]
    ready: int
    uncovered: int
    coming: int
    servers: int
    soon: int
    neediest: PendingJob

    @property
    def hours(self) -> float:
        """For how long the most urgent job may need a machine, in whole hours; 0 where it does not say."""
        return float(-(-(self.neediest.max_runtime_sec or 0) // 3600))

    @property
    def urgency(self) -> tuple[int, bool, int, tuple[int, int, int]]:
        """Smallest first: the most urgent job without a machine, then groups that no machine serves soon, then the
        most jobs without a machine, then the oldest."""
        first = self.neediest
        return (first.priority, self.soon > 0, -self.uncovered, queue_order(first))


@dataclass(frozen=True, slots=True)
class Demand:
    """Groups, the most urgent first, and what idle machines are there for.

    `taken`: the ready job that takes a machine next. `reserved`: the job a machine is kept for, held after a fault but
    going on within idle_timeout_sec. `unreserved` counts the other jobs of that kind, by need.
    """

    groups: tuple[Group, ...]
    taken: Mapping[int, PendingJob]
    reserved: Mapping[int, PendingJob]
    unreserved: Mapping[Need, int]


def group_jobs(world: World) -> list[Group]:
    """The pending jobs by need, most urgent group first; each machine counts as supply for one job only."""
    return list(match(world).groups)


def match(world: World) -> Demand:
    """Give every waiting job the machine that placing would give it, idle ones and those on their way."""
    jobs = by_need(world.pending)
    ready = {need: [job for job in members if is_ready(job, world.now)] for need, members in jobs.items()}
    supply = Fleet((machine for machine in world.machines if machine.free or machine.on_its_way), world.limits, jobs)
    pairs = assign(list(ready.values()), supply)
    soon = _held_for_a_moment(world, jobs)
    later = assign(list(soon.values()), supply)
    given: dict[Need, list[Machine]] = {}
    for job, machine in pairs:
        given.setdefault(job.need, []).append(machine)
    servers = [machine for machine in world.machines if machine.may_serve]
    sooner_or_later = Fleet(servers, world.limits)
    soon_free = Fleet((machine for machine in servers if not _long_busy(machine, world.now)), world.limits)
    groups = [
        _group(members, ready[need], given.get(need, ()), (sooner_or_later.serving(need), soon_free.serving(need)))
        for need, members in jobs.items()
    ]
    reserved = Counter(job.need for job, _ in later)
    return Demand(
        groups=tuple(sorted(groups, key=lambda group: group.urgency)),
        taken={machine.id: job for job, machine in pairs if machine.free},
        reserved={machine.id: job for job, machine in later if machine.free},
        unreserved={need: len(members) - reserved[need] for need, members in soon.items()},
    )


def _long_busy(machine: Machine, now: int) -> bool:
    return machine.busy_since is not None and now - machine.busy_since >= PATIENCE_MS


def _held_for_a_moment(world: World, jobs: Mapping[Need, Sequence[PendingJob]]) -> dict[Need, list[PendingJob]]:
    """Jobs that are held now and go on within idle_timeout_sec."""
    until = world.now + round(world.scaler.idle_timeout_sec * 1000)
    held = {
        need: [job for job in members if job.not_before is not None and world.now < job.not_before <= until]
        for need, members in jobs.items()
    }
    return {need: members for need, members in held.items() if members}


def _group(
    jobs: Sequence[PendingJob], ready: Sequence[PendingJob], machines: Sequence[Machine], servers: tuple[int, int]
) -> Group:
    """Machines are given out in the order of the queue, so the jobs without one are the last."""
    uncovered = ready[len(machines) :]
    need = jobs[0].need
    return Group(
        need=need,
        key=need.key,
        jobs=tuple(jobs),
        ready=len(ready),
        uncovered=len(uncovered),
        coming=sum(machine.on_its_way for machine in machines),
        servers=servers[0],
        soon=servers[1],
        neediest=(uncovered or ready or jobs)[0],
    )
