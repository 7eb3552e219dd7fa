"""When to rent and when to give back: the behaviour table of DESIGN section 10 as one pure function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpuscale_tui.model.money import format_usd
from gpuscale_tui.model.offers import Need, Offer
from gpuscale_tui.model.states import Purpose, WorkerState
from gpuscale_tui.policy.matching import best_offer, machine_serves, offer_verdict, price_limit
from gpuscale_tui.policy.placing import queue_order
from gpuscale_tui.policy.world import Machine, MarketView, PendingJob, Plan, Reason, Release, Rent, World


@dataclass(frozen=True, slots=True)
class Group:
    """Pending jobs that could share a machine, with what stands ready for them.

    `uncovered` jobs have neither an idle machine nor one on its way. `servers` counts all machines that could take
    them sooner or later, busy ones too. `offers` are those that may be rented for them.
    """

    need: Need
    jobs: tuple[PendingJob, ...]
    uncovered: int
    servers: int
    coming: int
    offers: tuple[Offer, ...]
    verdicts: Counter[str]

    @property
    def urgency(self) -> tuple[int, int, tuple[int, int, int]]:
        """Smallest first: the most urgent priority, then the most jobs without a machine, then the oldest."""
        first = min(self.jobs, key=queue_order)
        return (first.priority, -self.uncovered, queue_order(first))


def plan(world: World) -> Plan:
    """What to rent and give back now, and why everything else stays as it is."""
    groups = group_jobs(world)
    releases = _releases(world)
    rent, holds = _rent(world, groups)
    reasons = {group.need.key: holds.get(group.need.key) or _waiting(world, group) for group in groups}
    if rent is not None and rent.need.key in reasons:
        reasons[rent.need.key] = Reason("renting", rent.reason)
    return Plan((rent,) if rent else (), releases, reasons, _worker_reasons(world, releases))


def group_jobs(world: World) -> list[Group]:
    """The pending jobs by need, most urgent group first; each machine counts as supply for one job only."""
    by_key: dict[str, list[PendingJob]] = {}
    for job in world.pending:
        by_key.setdefault(job.need.key, []).append(job)
    supply = [machine for machine in world.machines if machine.on_its_way or machine.state == WorkerState.IDLE]
    groups = []
    for jobs in sorted(by_key.values(), key=lambda members: min(map(queue_order, members))):
        group, supply = _group(world, jobs, supply)
        groups.append(group)
    return sorted(groups, key=lambda group: group.urgency)


def _group(world: World, jobs: list[PendingJob], supply: list[Machine]) -> tuple[Group, list[Machine]]:
    need = jobs[0].need
    ready = [job for job in jobs if job.not_before is None or job.not_before <= world.now]
    fitting = [machine for machine in supply if machine_serves(machine, need, world.limits)]
    used = {machine.id for machine in fitting[: len(ready)]}
    servers = sum(machine_serves(machine, need, world.limits) for machine in world.machines if _may_take_work(machine))
    market = world.markets.get(need.key, MarketView())
    judged = [(offer, offer_verdict(offer, need, world.limits)) for offer in market.offers]
    group = Group(
        need=need,
        jobs=tuple(jobs),
        uncovered=len(ready) - len(used),
        servers=servers,
        coming=sum(machine.on_its_way for machine in fitting),
        offers=tuple(offer for offer, verdict in judged if not verdict),
        verdicts=Counter(verdict for _, verdict in judged if verdict),
    )
    return group, [machine for machine in supply if machine.id not in used]


def _may_take_work(machine: Machine) -> bool:
    return machine.state in {WorkerState.ORDERING, WorkerState.BOOTING, WorkerState.IDLE, WorkerState.BUSY}


def _rent(world: World, groups: list[Group]) -> tuple[Rent | None, dict[str, Reason]]:
    """The one machine to rent now, if any, and why each group that wanted one does not get it."""
    if world.drain:
        return None, {group.need.key: Reason("stopping", "the engine takes no new work") for group in groups}
    placeable = [group for group in groups if group.offers and group.uncovered > 0]
    waiting = sum(group.uncovered for group in placeable)
    holds: dict[str, Reason] = {}
    for group in placeable:
        wish = _wish(world, group, waiting)
        if wish is None:
            continue
        verdict = _affordable(world, group.offers)
        if isinstance(verdict, Reason):
            holds.update({other.need.key: verdict for other in placeable if other.need.key not in holds})
            return None, holds
        return Rent(verdict, group.need, wish), holds
    return _standing(world), holds


def _wish(world: World, group: Group, waiting: int) -> str | None:
    """Why this group should have one more machine, None when it need not."""
    if waiting >= world.scaler.scale_up_threshold:
        return f"{waiting} jobs wait without a machine (scale_up_threshold is {world.scaler.scale_up_threshold})"
    if group.servers == 0:
        return f"{group.uncovered} of the queue's jobs have no machine that could take them"
    return None


def _affordable(world: World, offers: Sequence[Offer]) -> Offer | Reason:
    """The best offer within max_workers and the cap, or why there is none."""
    committed = sum(machine.rate for machine in world.machines)
    if len(world.machines) >= world.scaler.max_workers:
        return Reason(
            "max_workers",
            f"max_workers is reached ({len(world.machines)} of {world.scaler.max_workers}): one more would help",
        )
    fitting = [offer for offer in offers if committed + offer.rate <= world.cap]
    if fitting:
        return best_offer(fitting)
    missing = committed + min(offer.rate for offer in offers) - world.cap
    return Reason(
        "cap",
        f"the cap of {format_usd(world.cap)}/h is reached ({format_usd(committed)}/h committed):"
        f" {format_usd(missing, 4)}/h more would rent the next machine",
    )


def _standing(world: World) -> Rent | None:
    """A machine that no job asks for: min_workers, or `scale up` by hand."""
    short = world.scaler.min_workers - len(world.machines)
    if world.default_need is None or (world.scale_up <= 0 and short <= 0):
        return None
    market = world.markets.get(world.default_need.key, MarketView())
    offers = [offer for offer in market.offers if not offer_verdict(offer, world.default_need, world.limits)]
    chosen = _affordable(world, offers) if offers else None
    if not isinstance(chosen, Offer):
        return None
    if world.scale_up > 0:
        return Rent(chosen, world.default_need, "asked for by hand (scale up)", Purpose.HAND)
    return Rent(chosen, world.default_need, f"min_workers is {world.scaler.min_workers}", Purpose.MINIMUM)


def _releases(world: World) -> tuple[Release, ...]:
    """Idle machines to give back, the dearest first, never below min_workers; and what `scale down` asks for."""
    keep = 0 if world.drain else world.scaler.min_workers
    live = [machine for machine in world.machines if _may_take_work(machine)]
    spare = len(live) - keep
    releases: list[Release] = []
    idle = [machine for machine in live if machine.state == WorkerState.IDLE]
    for machine in sorted(idle, key=lambda machine: (-machine.rate, machine.id)):
        reason = _release_reason(world, machine)
        if reason and spare > len(releases):
            releases.append(Release(machine.id, reason))
    chosen = {release.worker_id for release in releases}
    for machine in _by_dispensability(machine for machine in live if machine.id not in chosen):
        if len(releases) >= world.scale_down:
            break
        releases.append(Release(machine.id, "asked for by hand (scale down)"))
    return tuple(releases)


def _by_dispensability(machines: Iterable[Machine]) -> list[Machine]:
    rank = {WorkerState.IDLE: 0, WorkerState.BOOTING: 1, WorkerState.ORDERING: 2, WorkerState.BUSY: 3}
    return sorted(machines, key=lambda machine: (rank[machine.state], -machine.rate, machine.id))


def _release_reason(world: World, machine: Machine) -> str | None:
    """Why this idle machine should go back, None while it should stay."""
    if world.drain:
        return "the engine is stopping"
    if not world.pending and not world.running and machine.purpose != Purpose.HAND:
        return "nothing is pending or running"
    could_take = sum(machine_serves(machine, job.need, world.limits) for job in world.pending)
    idle_ms = world.now - (world.now if machine.idle_since is None else machine.idle_since)
    if could_take >= world.scaler.scale_down_threshold or idle_ms < world.scaler.idle_timeout_sec * 1000:
        return None
    return (
        f"idle for {idle_ms // 1000} s (idle_timeout_sec is {world.scaler.idle_timeout_sec:g}) and {could_take} waiting"
        f" jobs could use it (scale_down_threshold is {world.scaler.scale_down_threshold})"
    )


def _waiting(world: World, group: Group) -> Reason:
    """Why the jobs of a group wait when nothing is rented for them now."""
    if group.coming:
        return Reason("booting", f"{_machines(group.coming)} on the way")
    if group.uncovered == 0 and group.servers:
        return Reason("placing", "a machine is free and takes the next job")
    if group.servers and group.offers:
        return Reason(
            "short_queue",
            f"{_machines(group.servers)} will take it when free; one more is rented from"
            f" {world.scaler.scale_up_threshold} waiting jobs (scale_up_threshold)",
        )
    if group.servers:
        return Reason("busy", f"{_machines(group.servers)} will take it when free; no further offer fits")
    return _no_offer(world, group)


def _machines(count: int) -> str:
    return "1 machine" if count == 1 else f"{count} machines"


def _no_offer(world: World, group: Group) -> Reason:
    market = world.markets.get(group.need.key)
    if market is None:
        return Reason("looking", "the market has not been read for it yet")
    if group.offers:
        return Reason("held", "held for a moment after a fault")
    wanted = _wanted(group.need)
    why = Counter(market.rejected)
    why.update(group.verdicts)
    if not why and market.errors:
        return Reason("provider_error", f"no answer from the market: {market.errors[0]}")
    if not why:
        return Reason("no_offer", f"no provider offers {wanted}: choose another GPU, or wait")
    counted = ", ".join(f"{count} {reason}" for reason, count in why.most_common(4))
    return Reason("no_offer", f"no offer of {wanted} fits: {counted}{_cheapest(world, group, market)}")


def _wanted(need: Need) -> str:
    return "a machine" if need.gpu_type is None else f"{need.gpu_count}x {need.gpu_type}"


def _cheapest(world: World, group: Group, market: MarketView) -> str:
    """The smallest change of price that would lift the refusal, where price is all that is wrong."""
    limit = price_limit(group.need, world.limits)
    dear = [
        -(-offer.rate // max(1, group.need.gpu_count))
        for offer in market.offers
        if offer_verdict(offer, group.need, world.limits).startswith("over the price limit")
    ]
    if not dear:
        return ""
    return f"; a limit of {format_usd(min(dear), 4)}/h instead of {format_usd(limit)}/h would do"


def _worker_reasons(world: World, releases: tuple[Release, ...]) -> dict[int, str]:
    """Why each idle machine is still up."""
    leaving = {release.worker_id for release in releases}
    sentences = {}
    for machine in world.machines:
        if machine.state == WorkerState.IDLE and machine.id not in leaving:
            sentences[machine.id] = _kept(world, machine)
    return sentences


def _kept(world: World, machine: Machine) -> str:
    if not machine.taking_work:
        return "idle; cannot be reached just now"
    if len(world.machines) <= world.scaler.min_workers:
        return f"idle; kept because min_workers is {world.scaler.min_workers}"
    since = world.now if machine.idle_since is None else machine.idle_since
    left = world.scaler.idle_timeout_sec - (world.now - since) / 1000
    if left > 0:
        return f"idle; goes back within {world.scaler.idle_timeout_sec:g} s unless a job can use it"
    return "idle; waiting jobs could use it"
