"""What is known of the machines of others: what a test found on one, and what came of renting it before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gpuscale_tui.model.cuda import Cuda, cuda_text
from gpuscale_tui.model.gpus import canonical_gpu

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


def failures_in_words(known: HostHistory) -> str:
    """`2 never came up, 1 evicted`; empty for a host that never failed."""
    counted = (
        (known.refusals, "refused"),
        (known.no_starts, "never came up"),
        (known.failed_tests, "failed the test"),
        (known.losses, "lost"),
        (known.job_faults, "failed a job"),
        (known.evictions, "taken away"),
    )
    return ", ".join(f"{number} {what}" for number, what in counted if number)


def in_words(known: HostHistory) -> list[str]:
    """What is known of a host, in two or three lines."""
    setup = known.mean_setup_ms
    times = "once" if known.rentals == 1 else f"{known.rentals} times"
    first = [
        f"rented {times}" if known.rentals else "never held yet",
        f"held {_minutes(known.held_ms)} in all" if known.held_ms else "",
        f"ready after {_minutes(setup)} on average" if setup is not None else "",
    ]
    failed = failures_in_words(known)
    second = [
        f"of these {failed}" if failed else "no failure",
        f"{_minutes(known.lost_ms)} of work lost" if known.lost_ms else "",
        f"the last: {known.last_fault}" if known.last_fault else "",
    ]
    ratio = known.price_ratio
    third = [
        f"{known.down_mbps:.0f} Mbit/s from there over SSH" if known.down_mbps is not None else "",
        f"billed {ratio:.2f} of what was quoted" if ratio is not None else "",
    ]
    return [line for parts in (first, second, third) if (line := "; ".join(part for part in parts if part))]


def _minutes(milliseconds: int) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def examination_in_words(found: Examination) -> str:
    """What a test found, in one line."""
    parts = [
        cards_in_words(found.cards) if found.cards else "no GPU seen",
        f"driver {found.driver}" if found.driver else "",
        f"CUDA {cuda_text(found.cuda)}" if found.cuda else "",
        f"{found.free_disk_gb:.0f} GB of disk free" if found.free_disk_gb is not None else "",
        f"{found.down_mbps:.0f} Mbit/s down" if found.down_mbps is not None else "",
        f"{found.up_mbps:.0f} Mbit/s up" if found.up_mbps is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def cards_in_words(cards: tuple[Card, ...]) -> str:
    """`2x RTX 4090 and 1x RTX 3090`."""
    counted = Counter(canonical_gpu(card.name) or "an unnamed GPU" for card in cards)
    return " and ".join(f"{number}x {name}" for name, number in counted.items())
