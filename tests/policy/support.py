"""Small worlds to plan for: everything has a sensible default, a test names what it is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Market, Need, Offer
from gpuscale_tui.model.settings import ScalerConfig
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.policy.world import Limits, Machine, MarketView, PendingJob, World

NOW = 1_800_000_000_000
CENT = 10_000
DOLLAR = 1_000_000
NEED = Need("img", "RTX 4090", 1, None)
OTHER = Need("img", "H100", 1, 5 * DOLLAR)
LIMITS = Limits(default_price=50 * CENT)


def job(id_: int = 1, need: Need = NEED, *, priority: int = 5, age_sec: float = 60, held_sec: float = 0) -> PendingJob:
    """A job that was submitted `age_sec` ago and is held for another `held_sec`."""
    not_before = NOW + round(held_sec * 1000) if held_sec else None
    return PendingJob(id_, need, priority, NOW - round(age_sec * 1000), not_before)


def jobs(number: int, need: Need = NEED, first: int = 1, **more: Any) -> tuple[PendingJob, ...]:
    """Several jobs of one group, with ids from `first` on."""
    return tuple(job(id_, need, **more) for id_ in range(first, first + number))


def machine(
    id_: int = 1, state: WorkerState = WorkerState.IDLE, *, idle_sec: float = 0, busy_sec: float = 60, **more: Any
) -> Machine:
    """A machine that serves NEED, for 40 cents."""
    idle = NOW - round(idle_sec * 1000) if state == WorkerState.IDLE else None
    busy = NOW - round(busy_sec * 1000) if state == WorkerState.BUSY else None
    fields: dict[str, Any] = {
        "provider": "clore", "gpu_type": "RTX 4090", "gpu_count": 1, "image": "img", "market": Market.ON_DEMAND,
        "rate": 40 * CENT, "group_key": NEED.key, "idle_since": idle, "busy_since": busy,
    }  # fmt: skip
    return Machine(id=id_, state=state, **(fields | more))


def machines(number: int, state: WorkerState, first: int = 1, **more: Any) -> tuple[Machine, ...]:
    """Several alike, with ids from `first` on."""
    return tuple(machine(id_, state, **more) for id_ in range(first, first + number))


_servers = count(1)


def offer(rate: int = 40 * CENT, server: str | None = None, **more: Any) -> Offer:
    """An offer that serves NEED; `fee` is the fee for creating the order."""
    terms = Terms(rate, creation_fee=more.pop("fee", 0))
    fields: dict[str, Any] = {"provider": "clore", "gpu_type": "RTX 4090", "gpu_count": 1}
    return Offer(server_id=server or str(next(_servers)), terms=terms, **(fields | more))


def world(
    pending: Iterable[PendingJob] = (),
    machines: Iterable[Machine] = (),
    offers: Iterable[Offer] | None = None,
    *,
    markets: Mapping[Need, MarketView] | None = None,
    scaler: Mapping[str, Any] | None = None,
    cap: int = 10 * DOLLAR,
    running: int | None = None,
    **more: Any,
) -> World:
    """A world at NOW. `offers` are the market of NEED (one offer unless said), `markets` adds those of other needs."""
    fleet = tuple(machines)
    views = {NEED.key: MarketView((offer(server="1"),) if offers is None else tuple(offers))}
    views |= {need.key: view for need, view in (markets or {}).items()}
    busy = sum(machine.state == WorkerState.BUSY for machine in fleet)
    return World(
        now=NOW, scaler=ScalerConfig(**(scaler or {})), cap=cap, limits=more.pop("limits", LIMITS),
        pending=tuple(pending), running=busy if running is None else running, machines=fleet, markets=views,
        default_need=NEED, **more,
    )  # fmt: skip


def later(found: World, seconds: float) -> World:
    """The same world after some time."""
    return replace(found, now=found.now + round(seconds * 1000))


def with_scaler(found: World, **values: Any) -> World:
    """The same world under other settings."""
    return replace(found, scaler=replace(found.scaler, **values))
