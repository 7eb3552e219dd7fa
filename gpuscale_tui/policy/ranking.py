"""How the engine ranks what is on the market, for the eye: the order in which it would rent, and why.

There is no second opinion here: offers are judged by `stock` and put in order by `matching.preference`, by which
`renting` takes the first that the limits leave room for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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

MOST_NEEDS = 20
"""Groups of jobs for which offers are ranked, the most urgent: what is shown, in a few milliseconds of the loop."""
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
    needs = [(group.need, group.key, group.hours) for group in groups[:MOST_NEEDS]]
    if world.default_need is not None:
        needs.append((world.default_need, world.default_need.key, 0.0))
    known = {offer_id(offer): offer for offer in offers}
    places = _places(world, needs, markets, known)
    found: dict[OfferId, Ranking] = {}
    for key, offer in known.items():
        place = places.get(key)
        if place is None:
            found[key] = Ranking(_verdict(world, needs, offer))
            continue
        expected = expected_cost(offer, world.history)
        reason = _reason(offer, expected, world, room)
        found[key] = Ranking("", place[0], round(expected), reason, tuple(place[1]))
    return found


def _places(
    world: World, needs: Sequence[tuple[Need, str, float]], markets: Markets, offers: Mapping[OfferId, Offer]
) -> dict[OfferId, tuple[int, list[str]]]:
    """The rank of each offer that may be rented for its first need, and all needs that it serves.

    All offers are put in order once; each need then only picks its own from that order.
    """
    prefer = preference(world.history)
    order = sorted(offers, key=lambda key: prefer(offers[key]))
    position = {key: place for place, key in enumerate(order)}
    found: list[tuple[int, list[str]] | None] = [None] * len(order)
    picked: dict[int, list[int]] = {}
    kept: list[Judged] = []  # alive for as long as their identities are used as keys
    for need, key, hours in needs:
        judged = markets.of(need, key, hours)
        if id(judged) not in picked:
            kept.append(judged)
            mine = (position.get(offer_id(offer)) for offer in judged.offers)
            picked[id(judged)] = sorted(place for place in mine if place is not None)
        for rank_, place in enumerate(picked[id(judged)], 1):
            entry = found[place]
            if entry is None:
                found[place] = (rank_, [key])
            elif key not in entry[1]:
                entry[1].append(key)
    return {key: entry for key, entry in zip(order, found, strict=True) if entry is not None}


def _verdict(world: World, needs: Sequence[tuple[Need, str, float]], offer: Offer) -> str:
    """Why an offer is not rented: for the most urgent need of such a GPU, else for the settings' own."""
    if not needs:
        return "no job needs it"
    need, _, hours = next((each for each in needs if _same_model(each[0], offer)), needs[-1])
    return verdict_in_full(offer, need, world.limits, hours)


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
