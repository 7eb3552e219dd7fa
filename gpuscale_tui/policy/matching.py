"""What fits what: needs against machines and offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from gpuscale_tui.model.cuda import Cuda, cuda_text, image_cuda, parse_cuda
from gpuscale_tui.model.gpus import canonical_gpu
from gpuscale_tui.model.hosts import History
from gpuscale_tui.model.money import format_usd
from gpuscale_tui.model.offers import Market, Need, Offer
from gpuscale_tui.policy.reputation import NOTHING_KNOWN, expected_cost
from gpuscale_tui.policy.world import Limits, Machine

USUAL_PCIE_GEN = 3
"""The generation of a slot that states its width only."""
PCIE_LANE_GB_PER_SEC = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}
BANNED = "banned"
"""How the reason of a pause begins that a user ordered."""


@lru_cache(maxsize=4096)
def gpu_model(name: str) -> str:
    """A GPU's name in the one form that is compared. Remembered: a plan compares the same few names all the time."""
    return canonical_gpu(name).casefold()


class Ask(NamedTuple):
    """What a need asks of any machine, its image aside; many groups of jobs share one.

    `limit` is micro-dollars per hour and GPU (per machine without a GPU), `ceiling` the same for the whole machine: a
    machine with more GPUs than asked for costs all of its price. `cuda` is what its image needs of a driver, `hours`
    for how long its job may need the machine; both are asked of offers only.
    """

    model: str | None
    gpus: int
    provider: str | None
    market: Market | None
    limit: int
    ceiling: int
    cuda: Cuda | None = None
    hours: float = 0.0


def price_limit(need: Need, limits: Limits) -> int:
    """Micro-dollars per hour and GPU that a need may cost (per machine where it needs no GPU)."""
    return limits.default_price if need.max_price is None else need.max_price


def ask_of(need: Need, limits: Limits, hours: float = 0.0) -> Ask:
    """What a need asks of any machine under these limits, for a job that may take so many hours."""
    limit = price_limit(need, limits)
    if need.gpu_type is None:
        return Ask(None, 0, need.provider, need.market, limit, limit, None, hours)
    gpus, cuda = max(1, need.gpu_count), image_cuda(need.image)
    return Ask(gpu_model(need.gpu_type), gpus, need.provider, need.market, limit, limit * gpus, cuda, hours)


def machine_serves(machine: Machine, need: Need, limits: Limits) -> bool:
    """Whether a job with this need could run on this machine: GPU, image, price, provider and market."""
    ask = ask_of(need, limits)
    return (
        machine.image in {None, need.image}
        and machine.rate <= ask.ceiling
        and not mismatch(machine.gpu_type, machine.gpu_count, machine.provider, machine.market, ask)
    )


def offer_verdict(offer: Offer, need: Need, limits: Limits, hours: float = 0.0) -> str:
    """Empty when the offer may be rented for the need, else the first reason against it, in words to be counted.

    The price comes last: where it is the verdict, a higher limit is all that is missing.
    """
    ask = ask_of(need, limits, hours)
    return (
        mismatch(offer.gpu_type, offer.gpu_count, offer.provider, offer.market, ask)
        or unsuitable(offer.provider, offer.market, offer_cuda(offer, limits), ask, limits)
        or host_verdict(offer, limits)
        or (too_short(ask) if is_too_short(offer, ask, limits) else "")
        or (over_price(ask) if offer.terms.rate > ask.ceiling else "")
    )


def verdict_in_full(offer: Offer, need: Need, limits: Limits, hours: float = 0.0) -> str:
    """The verdict on one offer with what is known of its host: until when it is paused, and after what."""
    verdict = offer_verdict(offer, need, limits, hours)
    if verdict in _PAUSES:
        return limits.paused.get((offer.provider, offer.server_id), verdict)
    if verdict in _OWNER_PAUSES:
        return f"owner {limits.paused_owners.get((offer.provider, offer.owner or ''), verdict)}"
    return verdict


def mismatch(gpu_type: str | None, gpu_count: int, provider: str, market: str, ask: Ask) -> str:
    """Why a machine is not of the kind that is asked for: GPU, provider and market; empty when it is."""
    if ask.model is not None and (gpu_type is None or gpu_count < ask.gpus or gpu_model(gpu_type) != ask.model):
        return "another GPU"
    if ask.provider is not None and ask.provider != provider:
        return f"not from {ask.provider}"
    if ask.market is not None and ask.market != market:
        return f"not {ask.market}"
    return ""


_PAUSES = ("paused after a failure", BANNED)
_OWNER_PAUSES = ("paused with its owner's other hosts", "its owner is banned")


def unsuitable(provider: str, market: str, cuda: Cuda | None, ask: Ask, limits: Limits) -> str:
    """Why an offer's way of renting or its driver does not suit what is asked for; empty when both do."""
    order_type = limits.order_types.get(provider, "auto")
    if ask.market is None and order_type not in {"auto", market}:
        return f"not {order_type} (order_type)"
    if ask.market is None and order_type == "auto" and (provider, market) in limits.paused_markets:
        return f"{market} machines were taken away too often"
    if cuda is not None and ask.cuda is not None and cuda < ask.cuda:
        return f"CUDA older than the image's {cuda_text(ask.cuda)}"
    return ""


def offer_cuda(offer: Offer, limits: Limits) -> Cuda | None:
    """The CUDA of an offer's driver, None where it does not say or is not held to it."""
    return None if offer.provider in limits.own else parse_cuda(offer.cuda_version)


def host_verdict(offer: Offer, limits: Limits) -> str:
    """Why nobody should rent this offer just now, whatever they need; empty when they may."""
    if limits.paused:
        paused = limits.paused.get((offer.provider, offer.server_id))
        if paused is not None:
            return _PAUSES[paused.startswith(BANNED)]
    if limits.paused_owners and offer.owner is not None:
        paused = limits.paused_owners.get((offer.provider, offer.owner))
        if paused is not None:
            return _OWNER_PAUSES[paused.startswith(BANNED)]
    if offer.provider in limits.own:
        return ""
    return _unreliable(offer, limits) or _too_weak(offer, limits)


def _unreliable(offer: Offer, limits: Limits) -> str:
    """What speaks against a marketplace's host as such."""
    if offer.reliability is not None and offer.reliability < limits.min_reliability:
        return f"reliability below {limits.min_reliability:g}"
    if offer.rating is not None and offer.rating < limits.min_rating:
        return f"rated below {limits.min_rating:g}"
    if offer.country is not None:
        country = offer.country.upper()
        if country in limits.exclude_countries or (limits.countries and country not in limits.countries):
            return "in an excluded country"
    if offer.max_hours is not None and offer.max_hours < limits.min_hours:
        return f"on offer for less than {limits.min_hours:g} h"
    return ""


def _too_weak(offer: Offer, limits: Limits) -> str:
    """What a marketplace's host lacks to train on."""
    if offer.ram_gb is not None and offer.ram_gb < limits.min_ram_gb:
        return f"less than {limits.min_ram_gb:g} GB of RAM"
    if offer.cpu_threads is not None and offer.cpu_threads < limits.min_threads_per_gpu * max(1, offer.gpu_count):
        return f"fewer than {limits.min_threads_per_gpu:g} CPU threads per GPU"
    if offer.disk_gb is not None and offer.disk_gb < limits.min_disk_gb:
        return f"less than {limits.min_disk_gb:g} GB of disk"
    if offer.net_down_mbps is not None and offer.net_down_mbps < limits.min_net_down_mbps:
        return f"downloads at less than {limits.min_net_down_mbps:g} Mbit/s"
    pcie = pcie_gb_per_sec(offer.pcie_gen, offer.pcie_width)
    if pcie is not None and pcie < limits.min_pcie_gb_per_sec:
        return f"PCIe slower than {limits.min_pcie_gb_per_sec:g} GB/s"
    cuda = None if limits.min_cuda is None else parse_cuda(offer.cuda_version)
    if cuda is not None and limits.min_cuda is not None and cuda < limits.min_cuda:
        return f"CUDA older than {cuda_text(limits.min_cuda)}"
    return ""


def pcie_gb_per_sec(gen: int | None, width: int | None) -> float | None:
    """GB/s one way of a slot of so many lanes of that generation; None where nobody says how many lanes it has."""
    if width is None or width <= 0:
        return None
    known = USUAL_PCIE_GEN if gen is None else min(max(gen, 1), max(PCIE_LANE_GB_PER_SEC))
    return PCIE_LANE_GB_PER_SEC[known] * width


def is_too_short(offer: Offer, ask: Ask, limits: Limits) -> bool:
    """Whether the host is on offer for less time than the job may need."""
    return offer.max_hours is not None and offer.max_hours < ask.hours and offer.provider not in limits.own


def too_short(ask: Ask) -> str:
    """The verdict on an offer that ends before a job of the group may."""
    return f"on offer for less than the job's {ask.hours:g} h"


def over_price(ask: Ask) -> str:
    """The verdict on an offer that only its price speaks against."""
    return f"over the price limit of {format_usd(ask.limit)}/h{' per GPU' if ask.model is not None else ''}"


def preference(history: History = NOTHING_KNOWN) -> Callable[[Offer], tuple[float, int, str, str]]:
    """By what offers that may be rented are put in order: the one whose work will cost least comes first; ties go to
    the lower server id so that a plan is reproducible."""
    return lambda offer: (expected_cost(offer, history), offer.terms.rate, offer.provider, offer.server_id)


def best_offer(offers: Sequence[Offer], history: History = NOTHING_KNOWN) -> Offer:
    """The offer whose work will cost least."""
    return min(offers, key=preference(history))
