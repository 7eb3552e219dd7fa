"""Workers: rented or owned machines, from the intent to rent one until the provider confirms that it is gone."""

from __future__ import annotations

from dataclasses import dataclass

from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Market
from gpuscale_tui.model.states import Cause, OrderOutcome, Purpose, WorkerState


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as it stands. Times are UTC ms, money is micro-dollars.

    `image` None means that it runs any job's command as it is. `outcome` says what is known of the create call while
    `ordering`. `absences` counts the complete listings in a row, since the call ended or since it was last seen, that
    lacked its order. `released_asked` counts the calls to give it back. `cost` is what it has cost so far, `billed`
    whether that is the provider's own figure. `up_at` is when its provider first said that it runs, `ready_at` when it
    was first usable over SSH, `expires_at` when its rental ends by itself (None: never, or not known).
    `silent_since`: since when SSH does not answer there, `down_since`: since when its provider says that it does not
    run; None where all is well or was never asked.
    """

    id: int
    provider: str
    state: WorkerState
    token: str
    order_id: str | None
    server_id: str
    owner: str | None
    gpu_type: str | None
    gpu_count: int
    image: str | None
    market: Market
    terms: Terms
    quote: str
    group_key: str
    purpose: Purpose
    endpoint: Endpoint | None
    outcome: OrderOutcome | None
    known_orders: frozenset[str]
    absences: int
    created_at: int
    call_ended_at: int | None
    held_from: int | None
    idle_since: int | None
    contact_at: int | None
    release_asked: int
    release_next_at: int | None
    ended_at: int | None
    job_id: int | None
    attempt: int | None
    cost: int
    billed: bool
    cause: Cause | None
    reason: str
    why: str
    up_at: int | None = None
    ready_at: int | None = None
    expires_at: int | None = None
    silent_since: int | None = None
    down_since: int | None = None

    @property
    def rate(self) -> int:
        """Micro-dollars per hour, fees included."""
        return self.terms.rate
