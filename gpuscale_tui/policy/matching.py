"""What fits what: needs against machines and offers."""

from __future__ import annotations

from gpuscale_tui.model.gpus import same_gpu
from gpuscale_tui.model.money import format_usd
from gpuscale_tui.model.offers import Need, Offer
from gpuscale_tui.policy.world import Limits, Machine


def price_limit(need: Need, limits: Limits) -> int:
    """Micro-dollars per hour and GPU that a need may cost (per machine where it needs no GPU)."""
    return limits.default_price if need.max_price is None else need.max_price


def machine_serves(machine: Machine, need: Need, limits: Limits) -> bool:
    """Whether a job with this need could run on this machine: GPU, image, price, provider and market."""
    return (
        _gpu_fits(machine.gpu_type, machine.gpu_count, need)
        and (machine.image is None or machine.image == need.image)
        and (need.provider is None or need.provider == machine.provider)
        and (need.market is None or need.market == machine.market)
        and _rate_per_gpu(machine.rate, need) <= price_limit(need, limits)
    )


def _gpu_fits(gpu_type: str | None, gpu_count: int, need: Need) -> bool:
    if need.gpu_type is None:
        return True
    return gpu_type is not None and gpu_count >= need.gpu_count and same_gpu(gpu_type, need.gpu_type)


def _rate_per_gpu(rate: int, need: Need) -> int:
    """What the need pays per GPU: a machine with more GPUs than asked for costs all of its price."""
    return -(-rate // max(1, need.gpu_count))


def offer_verdict(offer: Offer, need: Need, limits: Limits) -> str:
    """Empty when the offer may be rented for the need, else the first reason against it, in words to be counted."""
    if not _gpu_fits(offer.gpu_type, offer.gpu_count, need):
        return "another GPU"
    if need.provider is not None and need.provider != offer.provider:
        return f"not from {need.provider}"
    if need.market is not None and need.market != offer.market:
        return f"not {need.market}"
    paused = limits.paused.get((offer.provider, offer.server_id))
    if paused is not None:
        return "paused after a failure"
    if offer.reliability is not None and offer.reliability < limits.min_reliability:
        return f"reliability below {limits.min_reliability:g}"
    if offer.country is not None and offer.country in limits.exclude_countries:
        return "in an excluded country"
    limit = price_limit(need, limits)
    if _rate_per_gpu(offer.rate, need) > limit:
        return f"over the price limit of {format_usd(limit)}/h{' per GPU' if need.gpu_count else ''}"
    return ""


def expected_cost(offer: Offer) -> float:
    """Micro-dollars that an hour of useful work on this offer is expected to cost: price over the chance that the host
    keeps it. A host that says nothing of its reliability counts as a middling one."""
    reliability = 0.9 if offer.reliability is None else max(offer.reliability, 0.05)
    hourly = offer.rate + offer.terms.creation_fee
    return hourly / reliability


def best_offer(offers: list[Offer]) -> Offer:
    """The offer whose work will cost least; ties go to the lower server id so that a plan is reproducible."""
    return min(offers, key=lambda offer: (expected_cost(offer), offer.rate, offer.provider, offer.server_id))
