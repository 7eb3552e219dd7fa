"""What screens and verbs read: rows made for the eye, answered from the store alone (`queries.py` makes them)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.store.notices import Target
from gpuscale_tui.store.progress import JobProgress
from gpuscale_tui.store.wallets import Wallet

JobSort = Literal["queue", "id", "name", "state", "priority", "gpu", "cost", "submitted", "started", "finished"]
CostKey = Literal["project", "user", "gpu", "provider", "day", "job", "worker"]


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs: states (empty: all) and a text that id, name, project or GPU contain (any case)."""

    states: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as a table shows it. Times UTC ms, money micro-dollars. `why` is one sentence."""

    id: int
    name: str
    state: str
    attempt: int
    priority: int
    gpu_type: str | None
    gpu_count: int
    max_price: int | None
    project: str | None
    user: str
    worker_id: int | None
    order_id: str | None
    provider: str | None
    rate: int | None
    cost: int
    submitted_at: int
    started_at: int | None
    finished_at: int | None
    exit_code: int | None
    cause: str | None
    error: str | None
    cancelling: bool
    why: str
    progress: JobProgress | None = None
    """How far it is by its own output; only where that was asked for (`job_list`)."""
    rehearsal: str = ""
    """How far the rehearsal of its move is (`model.states.Rehearsal`)."""

    @property
    def label(self) -> str:
        """`j17`."""
        return job_label(self.id)


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker as a table shows it. Times UTC ms; `rate` micro-dollars per hour, fees included."""

    id: int
    provider: str
    state: str
    order_id: str | None
    server_id: str
    gpu_type: str | None
    gpu_count: int
    market: str
    rate: int
    job_id: int | None
    job_name: str | None
    ssh_host: str | None
    ssh_port: int | None
    cost: int
    billed: bool
    created_at: int
    held_from: int | None
    idle_since: int | None
    ended_at: int | None
    release_asked: int
    reason: str
    why: str
    ready_at: int | None = None
    contact_at: int | None = None
    silent_since: int | None = None
    down_since: int | None = None
    expires_at: int | None = None

    @property
    def label(self) -> str:
        """`w3`."""
        return worker_label(self.id)


@dataclass(frozen=True, slots=True)
class EngineView:
    """The engine as others see it. `running` is for the caller to fill in from the lock (see `engine.lock`)."""

    running: bool
    pid: int | None
    mode: str | None
    epoch: int | None
    heartbeat_at: int | None
    note: str


@dataclass(frozen=True, slots=True)
class Spend:
    """Money now: `used` (machines that exist) and `reserved` (orders not settled yet) in micro-dollars per hour,
    the cap likewise; `today` and `month` (UTC) in micro-dollars, fees included."""

    used: int
    reserved: int
    cap: int
    today: int
    month: int


@dataclass(frozen=True, slots=True)
class Status:
    """The one line of truth: engine, counts by state, spend."""

    engine: EngineView
    jobs: dict[str, int]
    workers: dict[str, int]
    spend: Spend
    deaf: tuple[Target, ...] = ()
    """Addresses that take no notices now."""
    wallets: tuple[Wallet, ...] = ()


@dataclass(frozen=True, slots=True)
class CostRow:
    """What one key (a project, a day, ...) has cost, in micro-dollars, and for how many jobs."""

    key: str
    jobs: int
    cost: int


@dataclass(frozen=True, slots=True)
class Costs:
    """The books: `total` is what the providers charged; the five kinds add up to it exactly. Micro-dollars.

    `differing` machines were billed otherwise than their price says, by `difference` in all (above 0: more).
    """

    total: int
    productive: int
    setup: int
    idle: int
    rejected: int
    lost: int
    rows: tuple[CostRow, ...] = field(default_factory=tuple)
    difference: int = 0
    differing: int = 0
