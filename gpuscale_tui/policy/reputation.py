"""What an hour of useful work on an offer is expected to cost, by its price and by what its host and market did before.

Little is known of most hosts, so each figure is drawn towards that of the whole market, and the market's towards what
is usual: one eviction weighs little on a host that was held for a hundred hours and much on one held for a minute.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpuscale_tui.model.hosts import History, HostHistory, MarketHistory
from gpuscale_tui.model.money import HOUR_MS, format_usd
from gpuscale_tui.model.offers import Market, Offer

UNKNOWN_RELIABILITY = 0.9
"""What a host that says nothing of its reliability counts as: a middling one."""
LEAST_RELIABILITY = 0.05
SPOT_EVICTIONS_PER_HOUR = 0.1
"""How often a spot machine is taken away, before we know better: every ten hours."""
KNOWN_AFTER_HOURS = 10.0
"""Hours held after which our own experience weighs as much as what is usual."""
USUAL_SETUP_HOURS = 1 / 12
USUAL_LOSS_HOURS = 1 / 6
"""Work that an eviction throws away: what was done since the last checkpoint."""
KNOWN_AFTER = 2.0
"""Set-ups and evictions after which our own experience weighs as much as what is usual."""
KNOWN_AFTER_RENTALS = 4.0
LARGEST_PRICE_RATIO = 3.0
NOTHING_KNOWN = History()


def expected_cost(offer: Offer, history: History = NOTHING_KNOWN) -> float:
    """Micro-dollars that an hour of useful work on this offer is expected to cost.

    The price, and more of it where set-up takes long or the bill was higher than the quote; the fee for the order,
    spread over one hour; over the chances that the host keeps the machine (its reliability) and that it works at all
    (its failures with us); and for each eviction to be expected the lost work and another set-up.
    """
    reliability = UNKNOWN_RELIABILITY if offer.reliability is None else max(offer.reliability, LEAST_RELIABILITY)
    host = history.hosts.get((offer.provider, offer.server_id))
    market = history.markets.get((offer.provider, offer.market))
    if host is None and market is None and offer.market != Market.SPOT:
        return (offer.terms.rate + offer.terms.creation_fee) / reliability
    host, market = host or _NEW_HOST, market or _NEW_MARKET
    usual_setup = _drawn(market.setup_ms / HOUR_MS, market.setups, USUAL_SETUP_HOURS, KNOWN_AFTER)
    setup = _drawn(host.setup_ms / HOUR_MS, host.setups, usual_setup, KNOWN_AFTER)
    lost = _drawn(market.lost_ms / HOUR_MS, market.evictions, USUAL_LOSS_HOURS, KNOWN_AFTER)
    again = 1 + evictions_per_hour(offer, history) * (lost + setup)
    slower = max(0.5, 1 + setup - usual_setup)
    works = 1 - host.faults / (host.rentals + host.faults + KNOWN_AFTER_RENTALS)
    rate = offer.terms.rate * _price_ratio(host) * slower * again
    return (rate + offer.terms.creation_fee) / (reliability * works)


def evictions_per_hour(offer: Offer, history: History) -> float:
    """How often a machine rented by this offer is expected to be taken away."""
    usual = SPOT_EVICTIONS_PER_HOUR if offer.market == Market.SPOT else 0.0
    market = history.markets.get((offer.provider, offer.market), _NEW_MARKET)
    there = _drawn(market.evictions, market.held_ms / HOUR_MS, usual, KNOWN_AFTER_HOURS)
    host = history.hosts.get((offer.provider, offer.server_id), _NEW_HOST)
    return _drawn(host.evictions, host.held_ms / HOUR_MS, there, KNOWN_AFTER_HOURS)


def choice_of_market(chosen: Offer, offers: Sequence[Offer], history: History) -> str:
    """Why this way of renting and not the other, where both were to be had; else nothing."""
    others = [offer for offer in offers if offer.market != chosen.market]
    if not others:
        return ""
    other = min(expected_cost(offer, history) for offer in others)
    cost = expected_cost(chosen, history)
    return (
        f"{chosen.market}: an hour of work is expected to cost {format_usd(round(cost), 3)}, with evictions, set-up and"
        f" failures, {format_usd(round(other), 3)} {_ways(chosen.market)}"
    )


def _ways(market: Market) -> str:
    return "on demand" if market == Market.SPOT else "on spot"


def _drawn(total: float, count: float, usual: float, weight: float) -> float:
    """The mean of so many observations, drawn towards what is usual as if that had been seen `weight` times."""
    return (total + usual * weight) / (count + weight)


def _price_ratio(host: HostHistory) -> float:
    ratio = host.price_ratio
    return 1.0 if ratio is None else min(max(ratio, 1.0), LARGEST_PRICE_RATIO)


_NEW_HOST = HostHistory("", "")
_NEW_MARKET = MarketHistory()
