"""How the engine ranks what is on the market, for the eye: the order in which it would rent, and why.

There is no second opinion here: offers are judged by `stock` and put in order by `matching.preference`, by which
`renting` takes the first that the limits leave room for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpuscale_tui.model.money import format_usd
from gpuscale_tui.model.offers import Market, Need, Offer
from gpuscale_tui.policy.demand import Group
from gpuscale_tui.policy.matching import gpu_model, preference, verdict_in_full
from gpuscale_tui.policy.renting import Room, room_of
from gpuscale_tui.policy.reputation import UNKNOWN_RELIABILITY, evictions_per_hour, expected_cost
from gpuscale_tui.policy.stock import Judged, Markets
from gpuscale_tui.policy.wording import count
from gpuscale_tui.policy.world import World

SERVES = 20
"""Groups that are named for one offer, the most urgent."""
OfferId = tuple[str, str, Market]


def offer_id(offer: Offer) -> OfferId:
    """What tells an offer from all others: provider, server, and how it is rented."""
    return (offer.provider, offer.server_id, offer.market)


@dataclass(frozen=True, slots=True)
class Ranking:
    """What the engine makes of an offer.

    `verdict` is empty where it may be rented: then `rank` (from 1) is its place among those for the first need that it
    `serves` (keys, the most urgent first), `expected` what an hour of useful work there is expected to cost
    (micro-dollars), and `reason` what that is made of.
    """

    verdict: str = ""
    rank: int | None = None
    expected: int | None = None
    reason: str = ""
    serves: tuple[str, ...] = ()


def rank(world: World, groups: Sequence[Group], offers: Iterable[Offer]) -> dict[OfferId, Ranking]:
    """What the engine makes of each offer for these groups of jobs (the most urgent first) and the settings' need."""
    markets, room = Markets(world), room_of(world)
    needs = [(group.need, group.key, group.hours) for group in groups]
    if world.default_need is not None:
        needs.append((world.default_need, world.default_need.key, 0.0))
    places = _places(world, needs, markets)
    found: dict[OfferId, Ranking] = {}
    for offer in offers:
        place = places.get(offer_id(offer))
        if place is None:
            found[offer_id(offer)] = Ranking(_verdict(world, needs, offer))
            continue
        expected = expected_cost(offer, world.history)
        reason = _reason(offer, expected, world, room)
        found[offer_id(offer)] = Ranking("", place[0], round(expected), reason, tuple(place[1][:SERVES]))
    return found


def _places(
    world: World, needs: Sequence[tuple[Need, str, float]], markets: Markets
) -> dict[OfferId, tuple[int, list[str]]]:
    """The rank of each offer that may be rented for its first need, and all needs that it serves."""
    places: dict[OfferId, tuple[int, list[str]]] = {}
    orders: dict[int, list[OfferId]] = {}
    kept: list[Judged] = []  # alive for as long as their identities are used as keys
    for need, key, hours in needs:
        judged = markets.of(need, key, hours)
        if id(judged) not in orders:
            kept.append(judged)
            best_first = sorted(judged.offers, key=preference(world.history))
            orders[id(judged)] = [offer_id(offer) for offer in best_first]
        for place, found in enumerate(orders[id(judged)], 1):
            serves = places.setdefault(found, (place, []))[1]
            if key not in serves:
                serves.append(key)
    return places


def _verdict(world: World, needs: Sequence[tuple[Need, str, float]], offer: Offer) -> str:
    """Why an offer is not rented: for the most urgent need of such a GPU, else for the settings' own."""
    mine = [each for each in needs if _same_model(each[0], offer)] or list(needs[-1:])
    return verdict_in_full(offer, mine[0][0], world.limits, mine[0][2]) if mine else "no job needs it"


def _same_model(need: Need, offer: Offer) -> bool:
    if need.gpu_type is None or offer.gpu_type is None:
        return need.gpu_type is None
    return gpu_model(need.gpu_type) == gpu_model(offer.gpu_type)


def _reason(offer: Offer, expected: float, world: World, room: Room) -> str:
    """What an hour of work there is expected to cost, what that is made of, and whether the limits allow it now."""
    known = world.history.hosts.get((offer.provider, offer.server_id))
    said = UNKNOWN_RELIABILITY if offer.reliability is None else offer.reliability
    parts = [f"price {format_usd(offer.rate, 3)}/h"]
    parts.append(f"reliability {said:.1%}".replace("%", " %") + (" assumed" if offer.reliability is None else ""))
    if offer.terms.creation_fee:
        parts.append(f"{format_usd(offer.terms.creation_fee, 3)} for the order")
    if known is not None and known.rentals:
        parts.append(f"{count(known.rentals, 'rental')} of ours, {count(known.faults, 'fault')}")
    evictions = evictions_per_hour(offer, world.history)
    if evictions:
        parts.append(f"taken away every {1 / evictions:.0f} h")
    return f"an hour of work: {format_usd(round(expected), 3)} ({', '.join(parts)}){_room_words(offer, room)}"


def _room_words(offer: Offer, room: Room) -> str:
    """What stands against it just now though nothing speaks against the offer."""
    if room.full:
        return f"; not now: max_workers is reached ({room.machines} of {room.most})"
    missing = room.missing(offer.rate)
    if missing:
        return f"; not now: the cap lacks {format_usd(missing, 3)}/h"
    return ""
