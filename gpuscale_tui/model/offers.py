"""What a provider would rent us, and what it says we have rented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.money import Terms


class Market(StrEnum):
    """How a machine is rented: `spot` may be taken away at any moment."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"


@dataclass(frozen=True, slots=True)
class Need:
    """What a job needs of a machine; jobs with equal needs form a group (DESIGN section 10).

    `gpu_type` None means that no GPU is needed. `max_price` is micro-dollars per hour and GPU (per machine without a
    GPU), fees included; None means the setting `max_price_per_gpu`. `provider` and `market` None mean any.
    """

    image: str
    gpu_type: str | None
    gpu_count: int
    max_price: int | None
    provider: str | None = None
    market: Market | None = None

    @property
    def key(self) -> str:
        """A stable text for this need: rows of one group carry it."""
        parts = (self.image, self.gpu_type, self.gpu_count, self.max_price, self.provider, self.market)
        return "|".join("-" if part is None else str(part) for part in parts)


@dataclass(frozen=True, slots=True)
class Offer:
    """One machine that a provider would rent us now.

    `gpu_type` is canonical (`model.gpus`), None for a machine without a GPU. `terms.rate` is USD micros per hour for
    the whole machine, fees included. `image` None means that the machine runs commands as it is, whatever the job's
    image. `quote` is the provider's own (JSON) note of what it was read from, handed back to it unread when renting.
    """

    provider: str
    server_id: str
    gpu_type: str | None
    gpu_count: int
    terms: Terms
    market: Market = Market.ON_DEMAND
    owner: str | None = None
    gpu_memory_gb: float | None = None
    cpu_threads: int | None = None
    ram_gb: float | None = None
    disk_gb: float | None = None
    net_down_mbps: float | None = None
    cuda_version: str | None = None
    country: str | None = None
    reliability: float | None = None
    rating: float | None = None
    max_hours: float | None = None
    pcie_gen: int | None = None
    pcie_width: int | None = None
    any_image: bool = False
    quote: str = "{}"

    @property
    def rate(self) -> int:
        """Micro-dollars per hour for the whole machine, fees included."""
        return self.terms.rate

    @property
    def rate_per_gpu(self) -> int:
        """Micro-dollars per hour and GPU, rounded up; per machine where there is no GPU."""
        return -(-self.terms.rate // max(1, self.gpu_count))


@dataclass(frozen=True, slots=True)
class Survey:
    """One look at a provider for one need: what could be rented, and what stood in the way of the rest.

    `rejected` counts the machines of the right GPU model (all machines, for a need without a GPU) that were left out,
    by reason in plain words, such as `"rented"` or `"1 GPU, not 2"`; the offers plus these are all there are.
    `nearest` names up to three GPU models that this provider has and whose names are near the wanted one, given only
    when it has none of the wanted model. `unreadable` counts rows of the provider's reply that made no sense.
    """

    offers: tuple[Offer, ...] = ()
    rejected: Mapping[str, int] = field(default_factory=dict)
    nearest: tuple[str, ...] = ()
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Rental:
    """One rental as the provider lists it.

    `up` is True once the provider says that the machine runs, which is not yet a machine that SSH can reach. `waiting`
    is True for a spot order that is listed but holds no machine just now: it costs nothing, and may begin to run, and
    to cost, at any moment.
    `billed` is what it has charged so far in micro-dollars, fees included, None when it does not say.
    `created_at` and `expires_at` are UTC ms. `ended` rentals cost nothing more. `token` (or the number `mark`, made
    from it) is ours, where the provider keeps such a thing.
    """

    order_id: str
    server_id: str
    created_at: int
    up: bool
    ended: bool = False
    endpoint: Endpoint | None = None
    image: str | None = None
    token: str | None = None
    mark: int | None = None
    rate: int | None = None
    billed: int | None = None
    expires_at: int | None = None
    waiting: bool = False
