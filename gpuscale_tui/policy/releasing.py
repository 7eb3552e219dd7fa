"""Which machines to give back, and why each idle one is still up."""

from __future__ import annotations

from collections.abc import Iterable

from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.model.states import Cause, Purpose, WorkerState
from gpuscale_tui.policy.demand import Demand
from gpuscale_tui.policy.limits import above_limits, least_loss
from gpuscale_tui.policy.matching import machine_serves
from gpuscale_tui.policy.world import Machine, Release, World


def releases(world: World, demand: Demand, *, short_of_room: bool) -> tuple[Release, ...]:
    """Machines to give back. `short_of_room`: waiting jobs cannot be given a machine as things are.

    First what `scale down` asks for and what is above the limits, below min_workers too; then what is not needed any
    more, the dearest first, down to min_workers.
    """
    staying = _staying(world)
    if world.drain:
        unoccupied = [machine for machine in _dearest_first(staying) if machine.state != WorkerState.BUSY]
        return tuple(Release(machine.id, "the engine is stopping") for machine in unoccupied)
    asked = least_loss(staying, world.now)[: max(0, world.scale_down)]
    chosen = [Release(machine.id, "asked for by hand (scale down)") for machine in asked]
    above = above_limits(_without(staying, chosen), world.cap, world.scaler.max_workers, world.now)
    chosen += [Release(id_, reason, Cause.BUDGET) for id_, reason in above.items()]
    for machine in _above_minimum(world, demand, _without(staying, chosen)):
        reason = _unneeded(world, machine, short_of_room)
        if reason is not None:
            chosen.append(Release(machine.id, reason))
    return tuple(chosen)


def idle_reasons(world: World, demand: Demand, leaving: Iterable[Release], *, short_of_room: bool) -> dict[int, str]:
    """Why each idle machine that is not given back now is still up."""
    left = _without(_staying(world), leaving)
    above = {machine.id for machine in _above_minimum(world, demand, left)}
    return {
        machine.id: "idle; " + _kept(world, demand, machine, machine.id in above, short_of_room)
        for machine in left
        if machine.state == WorkerState.IDLE
    }


def _staying(world: World) -> list[Machine]:
    return [machine for machine in world.machines if not machine.leaving]


def _without(machines: Iterable[Machine], chosen: Iterable[Release]) -> list[Machine]:
    gone = {release.worker_id for release in chosen}
    return [machine for machine in machines if machine.id not in gone]


def _dearest_first(machines: Iterable[Machine]) -> list[Machine]:
    """At the same price those that are not ready yet come first: they are worth less."""
    return sorted(machines, key=lambda machine: (-machine.rate, machine.state == WorkerState.IDLE, machine.id))


def _above_minimum(world: World, demand: Demand, staying: list[Machine]) -> list[Machine]:
    """The machines that nobody needs and min_workers does not keep, the dearest first.

    min_workers keeps the cheapest ones, also while a dearer one has not idled for long enough yet.
    """
    nothing_left = _nothing_left(world)
    unneeded = [
        machine
        for machine in _dearest_first(staying)
        if (machine.state == WorkerState.IDLE or (nothing_left and machine.state != WorkerState.BUSY))
        and not _needed(world, demand, machine)
    ]
    return unneeded[: max(0, len(staying) - world.scaler.min_workers)]


def _nothing_left(world: World) -> bool:
    return not world.pending and not world.running


def _needed(world: World, demand: Demand, machine: Machine) -> bool:
    """A ready job takes it next, or enough jobs that go on soon could use it."""
    if machine.id in demand.taken:
        return True
    if machine.id not in demand.reserved:
        return False
    threshold, users = world.scaler.scale_down_threshold, 1
    for need, number in demand.unreserved.items():
        if users >= threshold:
            break
        users += number if machine_serves(machine, need, world.limits) else 0
    return users >= threshold


def _unneeded(world: World, machine: Machine, short_of_room: bool) -> str | None:
    """Why a machine that nobody needs goes back now, None while it stays."""
    nothing_left = _nothing_left(world)
    if nothing_left and machine.purpose != Purpose.HAND:
        return "nothing is pending or running"
    idle_ms = 0 if machine.idle_since is None else world.now - machine.idle_since
    if machine.state != WorkerState.IDLE or idle_ms < round(world.scaler.idle_timeout_sec * 1000):
        return None
    idle = f"idle for {idle_ms // 1000} s (idle_timeout_sec is {world.scaler.idle_timeout_sec:g})"
    threshold = world.scaler.scale_down_threshold
    if nothing_left:
        return f"{idle}, nothing is pending or running"
    if threshold > 0:
        few = "no waiting job" if threshold == 1 else f"fewer than {threshold} waiting jobs"
        return f"{idle}, {few} could use it (scale_down_threshold is {threshold})"
    return f"{idle}, makes room for waiting jobs that cannot use it" if short_of_room else None


def _kept(world: World, demand: Demand, machine: Machine, above_minimum: bool, short_of_room: bool) -> str:
    """The sentence for one idle machine."""
    if not machine.taking_work:
        return "cannot be reached just now"
    if machine.id in demand.taken:
        return f"takes {job_label(demand.taken[machine.id].id)} next"
    if _needed(world, demand, machine):
        return f"kept for {job_label(demand.reserved[machine.id].id)}, which is held for a moment after a fault"
    if not above_minimum:
        return f"kept because min_workers is {world.scaler.min_workers}"
    if world.scaler.scale_down_threshold == 0 and not _nothing_left(world) and not short_of_room:
        return "kept as long as jobs wait or run (scale_down_threshold is 0)"
    return f"goes back after {world.scaler.idle_timeout_sec:g} s of idling (idle_timeout_sec) unless a job can use it"
