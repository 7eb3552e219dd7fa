"""The view of the world that policy decides on, and the plan that it makes of it: data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpuscale_tui.model.budget import FIRST_MS, Scope
from gpuscale_tui.model.cuda import Cuda
from gpuscale_tui.model.hosts import History, HostId, OwnerId
from gpuscale_tui.model.offers import Need, Offer
from gpuscale_tui.model.states import Cause, Purpose, WorkerState

if TYPE_CHECKING:
    from gpuscale_tui.model.settings import ScalerConfig  # verbs that show budgets read no settings

_ON_ITS_WAY = frozenset({WorkerState.ORDERING, WorkerState.BOOTING})
_HERE = frozenset({WorkerState.IDLE, WorkerState.BUSY})


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A job that waits. `not_before` (UTC ms) holds it after a fault; `max_runtime_sec` is its own limit."""

    id: int
    need: Need
    priority: int
    submitted_at: int
    not_before: int | None = None
    max_runtime_sec: float | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """A worker as policy sees it. `rate` is micro-dollars per hour; `image` None runs any job as it is.

    `taking_work` is False for an idle or busy machine that cannot be reached just now. `idle_since` and `busy_since`
    (UTC ms) are when it became idle and when it was given its present job; `unsaved_since` is when that job's work was
    last saved, None while it never was. `priority` is that job's.
    """

    id: int
    state: WorkerState
    provider: str
    gpu_type: str | None
    gpu_count: int
    image: str | None
    market: str
    rate: int
    group_key: str
    idle_since: int | None = None
    busy_since: int | None = None
    taking_work: bool = True
    purpose: Purpose = Purpose.QUEUE
    unsaved_since: int | None = None
    priority: int = 0

    @property
    def on_its_way(self) -> bool:
        """Ordered or booting: supply that is not here yet."""
        return self.state in _ON_ITS_WAY

    @property
    def leaving(self) -> bool:
        """Being given back: it costs money and counts against the limits until its provider confirms the end."""
        return self.state == WorkerState.RELEASING

    @property
    def free(self) -> bool:
        """Takes a job at once."""
        return self.state == WorkerState.IDLE and self.taking_work

    @property
    def may_serve(self) -> bool:
        """Takes jobs now or later; one that cannot be reached promises nothing."""
        return self.on_its_way or (self.taking_work and self.state in _HERE)


@dataclass(frozen=True, slots=True)
class MarketView:
    """What one group of jobs could be given: offers, why other machines could not be, and errors of providers.

    `nearest` names GPU models that are on the market and whose names are near one that is not. Groups that were shown
    the same offers do best to share one tuple: it is judged once.
    """

    offers: tuple[Offer, ...] = ()
    rejected: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What offers must satisfy beside a job's own need.

    `default_price` is micro-dollars per hour and GPU. `countries` (empty: all) and `exclude_countries` are two letters
    in either case. The least figures are about a marketplace's hosts: hosts of the providers in `own` are ours, and an
    offer that does not say a figure is not held to it. `order_types` says of a provider whether it rents `on-demand`,
    `spot` or `auto` where a job does not.

    What is `paused` says why, or by whom it is banned: servers, owners, images, and ways of renting (provider and
    market) that `auto` leaves. `max_setup` is micro-dollars that setting up may cost a group, 0 for any.
    """

    default_price: int
    min_reliability: float = 0.0
    exclude_countries: frozenset[str] = frozenset()
    paused: Mapping[HostId, str] = field(default_factory=dict)
    countries: frozenset[str] = frozenset()
    min_rating: float = 0.0
    min_ram_gb: float = 0.0
    min_threads_per_gpu: float = 0.0
    min_disk_gb: float = 0.0
    min_pcie_gb_per_sec: float = 0.0
    min_net_down_mbps: float = 0.0
    min_cuda: Cuda | None = None
    min_hours: float = 0.0
    order_types: Mapping[str, str] = field(default_factory=dict)
    own: frozenset[str] = frozenset({"ssh"})
    paused_owners: Mapping[OwnerId, str] = field(default_factory=dict)
    paused_images: Mapping[str, str] = field(default_factory=dict)
    paused_markets: Mapping[tuple[str, str], str] = field(default_factory=dict)
    max_setup: int = 0

    def __post_init__(self) -> None:
        for name in ("exclude_countries", "countries"):
            folded = frozenset(country.upper() for country in getattr(self, name))
            object.__setattr__(self, name, folded)


@dataclass(frozen=True, slots=True)
class Allowance:
    """One limit of money (micro-dollars) and how far it is used: `spent` is booked since `begins` (UTC ms), and
    `committed` is what all that is rented for it will cost before it can be given back. `name` is the project, the user
    or the job's id. `held`: it was used up in this time, and has not been raised since.

    The cap is one too, of scope `hour`: then `committed` and `limit` are micro-dollars per hour.
    """

    scope: Scope
    name: str
    limit: int
    spent: int
    committed: int
    begins: int
    held: bool = False

    @property
    def used(self) -> int:
        """Spent and committed."""
        return self.spent + self.committed


@dataclass(frozen=True, slots=True)
class BudgetView:
    """The limits of money. `promised` is what everything rented will cost at least, a new machine's first `first_ms`
    among it: what renting goes by."""

    allowances: tuple[Allowance, ...] = ()
    promised: int = 0
    first_ms: int = FIRST_MS


@dataclass(frozen=True, slots=True)
class World:
    """Everything that a plan is made from. `cap` is micro-dollars per hour, `now` UTC ms.

    `running` counts jobs, `scale_up` and `scale_down` the machines that users asked for by hand and have not got yet.
    `drain` takes no new work. `machines` are all that may cost money, those being given back too. `markets` has a view
    for the key of each group of pending jobs that was surveyed, and for `default_need`. `history` is what hosts did
    before, `setup_spent` the micro-dollars that each group spent on setting up since a job of it last started.
    """

    now: int
    scaler: ScalerConfig
    cap: int
    limits: Limits
    pending: tuple[PendingJob, ...] = ()
    running: int = 0
    machines: tuple[Machine, ...] = ()
    markets: Mapping[str, MarketView] = field(default_factory=dict)
    default_need: Need | None = None
    scale_up: int = 0
    scale_down: int = 0
    drain: bool = False
    history: History = field(default_factory=History)
    setup_spent: Mapping[str, int] = field(default_factory=dict)
    budget: BudgetView | None = None


@dataclass(frozen=True, slots=True)
class Rent:
    """Rent this offer for this group."""

    offer: Offer
    need: Need
    reason: str
    purpose: Purpose = Purpose.QUEUE


@dataclass(frozen=True, slots=True)
class Release:
    """Give this worker back. `cause` is `budget` where the money is the reason, None for what a user wants."""

    worker_id: int
    reason: str
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Run this job on this idle worker."""

    job_id: int
    worker_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reason:
    """The one decisive reason why something is not done, with the smallest change that would lift it."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions, and for what is not done the reason: by group of pending jobs and by worker."""

    rents: tuple[Rent, ...] = ()
    releases: tuple[Release, ...] = ()
    groups: Mapping[str, Reason] = field(default_factory=dict)
    workers: Mapping[int, str] = field(default_factory=dict)
