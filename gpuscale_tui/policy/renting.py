"""Which machine to rent now, and why a group of jobs that wants one does not get it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gpuscale_tui.model.hosts import History
from gpuscale_tui.model.money import format_usd
from gpuscale_tui.model.offers import Need, Offer
from gpuscale_tui.model.states import Purpose
from gpuscale_tui.policy import budget
from gpuscale_tui.policy.demand import PATIENCE_MS, Group
from gpuscale_tui.policy.matching import best_offer
from gpuscale_tui.policy.reputation import choice_of_market
from gpuscale_tui.policy.stock import Judged, Markets
from gpuscale_tui.policy.wording import count, usd_at_least
from gpuscale_tui.policy.world import BudgetView, Reason, Rent, World

NEXT = Reason("next", "another machine is being rented first; these jobs are looked at next")


@dataclass(frozen=True, slots=True)
class Room:
    """What the limits leave, in micro-dollars per hour and machines, everything not confirmed released counted."""

    committed: int
    cap: int
    machines: int
    most: int
    history: History = field(default_factory=History)
    budget: BudgetView | None = None

    @property
    def full(self) -> bool:
        """Whether no machine more may be rented."""
        return self.machines >= self.most

    def best(self, judged: Judged) -> Offer | None:
        """The best offer that may be rented now."""
        left = self.cap - self.committed
        if self.full or judged.cheapest is None or judged.cheapest > left:
            return None
        fit = [offer for offer in judged.offers if offer.terms.rate <= left]
        affordable = budget.affordable_ones(fit, self.budget)
        return best_offer(affordable, self.history) if affordable else None

    def short_of_money(self, judged: Judged) -> Reason | None:
        """Why a budget leaves nothing for even the cheapest machine; None where that is not what is wrong."""
        if self.budget is None or budget.affordable_ones(judged.offers, self.budget):
            return None
        return budget.refusal(self.budget, min(judged.offers, key=lambda offer: offer.terms.rate))

    def missing(self, rate: int) -> int:
        """How much (micro-dollars per hour) the cap lacks for a machine; 0 when it has room."""
        return max(0, self.committed + rate - self.cap)


@dataclass(frozen=True, slots=True)
class Decision:
    """The one machine to rent now, if any; why each group that wants one gets it or not; and how many jobs count."""

    rent: Rent | None
    reasons: dict[str, Reason]
    waiting: int


def decide(world: World, groups: Sequence[Group], markets: Markets) -> Decision:
    """Rent one machine: what was asked for by hand, else for the most urgent group that the limits allow one.

    A group that waits for room holds nobody else back, but takes precedence over machines to keep min_workers. Jobs
    whose machine would cost more than the whole cap, or for which nothing is rented for a while, do not count towards
    the threshold of the others.
    """
    if world.drain:
        stopping = Reason("stopping", "the engine takes no new work")
        return Decision(None, {group.key: stopping for group in groups}, 0)
    room = room_of(world)
    held = {group.key: reason for group in groups if group.uncovered and (reason := held_back(world, group.need))}
    wanting = [(group, markets.of_group(group)) for group in groups if group.uncovered and group.key not in held]
    counting = {group.key for group, judged in wanting if judged.cheapest is not None and judged.cheapest <= world.cap}
    waiting = sum(group.uncovered for group, _ in wanting if group.key in counting)
    rent, ahead = _by_hand(world, room, markets)
    reasons: dict[str, Reason] = dict(held)
    for group, judged in wanting:
        wish = _wish(world, group, waiting if group.key in counting else waiting + group.uncovered)
        if judged.cheapest is None or wish is None:
            continue
        offer = None if rent else room.best(judged)
        if rent is not None:
            reasons[group.key] = NEXT
        elif offer is not None:
            why = _with_choice(wish, offer, group.need, judged, world)
            rent = Rent(offer, group.need, why)
            reasons[group.key] = Reason("renting", why)
        else:
            missing = room.missing(judged.cheapest)
            others_first = ahead is not None and ahead <= missing
            reasons[group.key] = room.short_of_money(judged) or _no_room(room, missing, others_first=others_first)
            ahead = missing if ahead is None else min(ahead, missing)
    if rent is None and len(reasons) == len(held):
        rent = _minimum(world, room, markets)
    return Decision(rent, reasons, waiting)


def room_of(world: World) -> Room:
    """What the limits leave in this world."""
    committed = sum(machine.rate for machine in world.machines)
    return Room(committed, world.cap, len(world.machines), world.scaler.max_workers, world.history, world.budget)


def held_back(world: World, need: Need) -> Reason | None:
    """Why nothing is rented for a need for a while although there may be offers: its machines came to nothing."""
    limits, spent = world.limits, world.setup_spent.get(need.key, 0)
    if need.image in limits.paused_images:
        return Reason("image", f"nothing is rented for the image {need.image} now: {limits.paused_images[need.image]}")
    if limits.max_setup and spent >= limits.max_setup:
        return Reason(
            "setup",
            f"setting machines up for these jobs has cost {format_usd(spent)} and none of them has started since:"
            f" raise max_setup_usd (now {format_usd(limits.max_setup)}), or `gpuscale retry` one of them",
        )
    return None


def _with_choice(wish: str, offer: Offer, need: Need, judged: Judged, world: World) -> str:
    """The wish, and why a machine is rented in this way where the job leaves that open."""
    limits = world.limits
    if need.market is not None or limits.order_types.get(offer.provider) != "auto":
        return wish
    paused = [why for (provider, _), why in limits.paused_markets.items() if provider == offer.provider]
    if paused:
        return f"{wish}; {offer.market}, because {paused[0]}"
    same = [other for other in judged.offers if other.provider == offer.provider]
    choice = choice_of_market(offer, same, world.history)
    return f"{wish}; {choice}" if choice else wish


def _wish(world: World, group: Group, waiting: int) -> str | None:
    """Why this group should have one more machine, None when it need not."""
    threshold = world.scaler.scale_up_threshold
    if waiting >= threshold:
        return f"{count(waiting, 'job waits', 'jobs wait')} without a machine (scale_up_threshold is {threshold})"
    waits = count(group.uncovered, "waiting job")
    if group.servers == 0:
        return f"there is no machine that could take {waits}"
    if group.soon == 0:
        return f"no machine that could take {waits} has become free for {PATIENCE_MS // 60_000} min"
    return None


def _no_room(room: Room, missing: int, *, others_first: bool) -> Reason:
    """Which limit is reached, and the figure that would change it."""
    tail = " would rent the next one" + (", for more urgent jobs first" if others_first else "")
    workers = f"max_workers is reached ({room.machines} of {room.most})"
    cap = f"the cap of {format_usd(room.cap)}/h leaves too little ({format_usd(room.committed)}/h committed)"
    more = f"{usd_at_least(missing)}/h more"
    if room.full and missing:
        return Reason("max_workers", f"{workers} and {cap}: max_workers {room.machines + 1} and {more}{tail}")
    if room.full:
        return Reason("max_workers", f"{workers}: max_workers {room.machines + 1}{tail}")
    return Reason("cap", f"{cap}: {more}{tail}")


def _by_hand(world: World, room: Room, markets: Markets) -> tuple[Rent | None, int | None]:
    """The machine that `scale up` asks for; or, where a limit stands against it, what the cap lacks for it."""
    if world.scale_up <= 0 or world.default_need is None or held_back(world, world.default_need):
        return None, None
    judged = markets.of(world.default_need, world.default_need.key)
    offer = room.best(judged)
    if offer is not None:
        return Rent(offer, world.default_need, "asked for by hand (scale up)", Purpose.HAND), None
    return None, None if judged.cheapest is None else room.missing(judged.cheapest)


def _minimum(world: World, room: Room, markets: Markets) -> Rent | None:
    """A machine to keep min_workers; those on their way back do not count."""
    staying = sum(not machine.leaving for machine in world.machines)
    if world.default_need is None or staying >= world.scaler.min_workers or held_back(world, world.default_need):
        return None
    offer = room.best(markets.of(world.default_need, world.default_need.key))
    if offer is None:
        return None
    return Rent(offer, world.default_need, f"min_workers is {world.scaler.min_workers}", Purpose.MINIMUM)
