"""What fits what: needs against machines and offers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from gpuscale_tui.model.gpus import canonical_gpu
from gpuscale_tui.model.money import format_usd
from gpuscale_tui.model.offers import Market, Need, Offer
from gpuscale_tui.policy.world import Limits, Machine

UNKNOWN_RELIABILITY = 0.9
"""What a host that says nothing of its reliability counts as: a middling one."""
LEAST_RELIABILITY = 0.05


@lru_cache(maxsize=4096)
def gpu_model(name: str) -> str:
    """A GPU's name in the one form that is compared. Remembered: a plan compares the same few names all the time."""
    return canonical_gpu(name).casefold()


class Ask(NamedTuple):
    """What a need asks of any machine, its image aside; many groups of jobs share one.

    `limit` is micro-dollars per hour and GPU (per machine without a GPU), `ceiling` the same for the whole machine: a
    machine with more GPUs than asked for costs all of its price.
    """

    model: str | None
    gpus: int
    provider: str | None
    market: Market | None
    limit: int
    ceiling: int


def price_limit(need: Need, limits: Limits) -> int:
    """Micro-dollars per hour and GPU that a need may cost (per machine where it needs no GPU)."""
    return limits.default_price if need.max_price is None else need.max_price


def ask_of(need: Need, limits: Limits) -> Ask:
    """What a need asks of any machine under these limits."""
    limit = price_limit(need, limits)
    if need.gpu_type is None:
        return Ask(None, 0, need.provider, need.market, limit, limit)
    gpus = max(1, need.gpu_count)
    return Ask(gpu_model(need.gpu_type), gpus, need.provider, need.market, limit, limit * gpus)


def machine_serves(machine: Machine, need: Need, limits: Limits) -> bool:
    """Whether a job with this need could run on this machine: GPU, image, price, provider and market."""
    ask = ask_of(need, limits)
    return (
        machine.image in {None, need.image}
        and machine.rate <= ask.ceiling
        and not mismatch(machine.gpu_type, machine.gpu_count, machine.provider, machine.market, ask)
    )


def offer_verdict(offer: Offer, need: Need, limits: Limits) -> str:
    """Empty when the offer may be rented for the need, else the first reason against it, in words to be counted.

    The price comes last: where it is the verdict, a higher limit is all that is missing.
    """
    ask = ask_of(need, limits)
    return (
        mismatch(offer.gpu_type, offer.gpu_count, offer.provider, offer.market, ask)
        or host_verdict(offer, limits)
        or (over_price(ask) if offer.terms.rate > ask.ceiling else "")
    )


def mismatch(gpu_type: str | None, gpu_count: int, provider: str, market: str, ask: Ask) -> str:
    """Why a machine is not of the kind that is asked for: GPU, provider and market; empty when it is."""
    if ask.model is not None and (gpu_type is None or gpu_count < ask.gpus or gpu_model(gpu_type) != ask.model):
        return "another GPU"
    if ask.provider is not None and ask.provider != provider:
        return f"not from {ask.provider}"
    if ask.market is not None and ask.market != market:
        return f"not {ask.market}"
    return ""


def host_verdict(offer: Offer, limits: Limits) -> str:
    """Why nobody should rent this offer just now, whatever they need; empty when they may."""
    if limits.paused and (offer.provider, offer.server_id) in limits.paused:
        return "paused after a failure"
    if offer.reliability is not None and offer.reliability < limits.min_reliability:
        return f"reliability below {limits.min_reliability:g}"
    if offer.country is not None and offer.country.upper() in limits.exclude_countries:
        return "in an excluded country"
    return ""


def over_price(ask: Ask) -> str:
    """The verdict on an offer that only its price speaks against."""
    return f"over the price limit of {format_usd(ask.limit)}/h{' per GPU' if ask.model is not None else ''}"


def expected_cost(offer: Offer) -> float:
    """Micro-dollars that an hour of useful work on this offer is expected to cost: price over the chance that the host
    keeps it, the fee for creating the order spread over one hour."""
    reliability = UNKNOWN_RELIABILITY if offer.reliability is None else max(offer.reliability, LEAST_RELIABILITY)
    return (offer.terms.rate + offer.terms.creation_fee) / reliability


def best_offer(offers: Sequence[Offer]) -> Offer:
    """The offer whose work will cost least; ties go to the lower server id so that a plan is reproducible."""
    return min(offers, key=lambda offer: (expected_cost(offer), offer.terms.rate, offer.provider, offer.server_id))
