"""What is known of the machines of others: what a test found on one, and what came of renting it before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gpuscale_tui.model.cuda import Cuda

HostId = tuple[str, str]
"""Provider and the provider's own id of the server."""
OwnerId = tuple[str, str]
"""Provider and the account of the server's owner there."""


class OutcomeKind(StrEnum):
    """What came of renting a machine.

    `ready`: it came up and passed its test. `refused`: the order was refused because of this server. `no_start`: it
    never came up. `failed_test`: it came up and was not what had been offered. `lost`: it was given up after it had
    worked. `evicted`: it was taken away. `job_fault`: a job failed on it through no fault of its own. `returned`: it
    was given back in good order.
    """

    READY = "ready"
    REFUSED = "refused"
    NO_START = "no_start"
    FAILED_TEST = "failed_test"
    LOST = "lost"
    EVICTED = "evicted"
    JOB_FAULT = "job_fault"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One such outcome. `at` is UTC ms; `detail` says what happened, in words."""

    at: int
    kind: OutcomeKind
    provider: str
    server_id: str
    owner: str | None
    image: str | None
    market: str
    detail: str = ""

    @property
    def host(self) -> HostId:
        """Which server."""
        return (self.provider, self.server_id)


@dataclass(frozen=True, slots=True)
class HostHistory:
    """All that came of one server so far. Times are milliseconds, money micro-dollars, speeds Mbit/s over our SSH link.

    `setups` machines became ready there, in `setup_ms` altogether. `rentals` were really held; `lost_ms` is the work
    that evictions and losses threw away. `billed` is what its provider charged for rentals that had been `quoted` so
    much by the hour.
    """

    provider: str
    server_id: str
    owner: str | None = None
    rentals: int = 0
    setups: int = 0
    setup_ms: int = 0
    refusals: int = 0
    no_starts: int = 0
    failed_tests: int = 0
    losses: int = 0
    evictions: int = 0
    job_faults: int = 0
    held_ms: int = 0
    lost_ms: int = 0
    billed: int = 0
    quoted: int = 0
    down_mbps: float | None = None
    up_mbps: float | None = None
    last_at: int = 0
    last_fault_at: int | None = None
    last_fault: str = ""

    @property
    def host(self) -> HostId:
        """Which server."""
        return (self.provider, self.server_id)

    @property
    def faults(self) -> int:
        """How often it failed us, refusals and evictions aside."""
        return self.no_starts + self.failed_tests + self.losses + self.job_faults

    @property
    def mean_setup_ms(self) -> int | None:
        """How long it takes until it can be used, on average."""
        return self.setup_ms // self.setups if self.setups else None

    @property
    def price_ratio(self) -> float | None:
        """What was charged for each dollar that had been quoted."""
        return self.billed / self.quoted if self.quoted else None


@dataclass(frozen=True, slots=True)
class MarketHistory:
    """What one way of renting (provider and market) has brought so far; milliseconds."""

    held_ms: int = 0
    evictions: int = 0
    lost_ms: int = 0
    setups: int = 0
    setup_ms: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """What is known of all hosts and markets. Nothing is known of those that are not in it."""

    hosts: Mapping[HostId, HostHistory] = field(default_factory=dict)
    markets: Mapping[tuple[str, str], MarketHistory] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ban:
    """A user's word that a host (`scope` host, `key` its server id) or all hosts of an owner are not to be rented.

    `until` (UTC ms) None means for good.
    """

    scope: str
    provider: str
    key: str
    at: int
    until: int | None
    reason: str
    user: str


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU as a machine shows it; `memory_mb` is in MiB."""

    name: str
    memory_mb: int | None = None


@dataclass(frozen=True, slots=True)
class Examination:
    """What a test found on a machine; None is what it did not say.

    `cards` None: there is no nvidia-smi, or it does not work. `cuda` is the newest CUDA that its driver serves. Speeds
    are Mbit/s over our SSH link, `down` from the machine to us. `skew_ms` is its clock minus ours.
    """

    cards: tuple[Card, ...] | None = None
    driver: str | None = None
    cuda: Cuda | None = None
    free_disk_gb: float | None = None
    down_mbps: float | None = None
    up_mbps: float | None = None
    skew_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Promise:
    """What a machine was offered as. `memory_gb` is per GPU; `image_cuda` is what the image needs."""

    gpu_type: str | None
    gpu_count: int
    memory_gb: float | None = None
    cuda: Cuda | None = None
    image_cuda: Cuda | None = None
