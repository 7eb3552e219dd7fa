"""How long one plan takes: 10,000 pending jobs, 1,000 workers, 2,000 offers (DESIGN section 16: at most 100 ms).

Every function returns rows `(what, measured, unit, peer name, peer value)`. The peer is the physical limit: a bare
loop, in the same run, that reads one attribute of every job, worker and offer once and sorts the jobs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter

from gpuscale_tui.model.gpus import KNOWN_GPUS
from gpuscale_tui.model.hosts import History, HostHistory, MarketHistory
from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Market, Need, Offer
from gpuscale_tui.model.settings import ScalerConfig
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.policy.placing import place
from gpuscale_tui.policy.scaling import plan
from gpuscale_tui.policy.world import Limits, Machine, MarketView, PendingJob, World

Row = tuple[str, float, str, str, float]
JOBS, MACHINES, OFFERS = 10_000, 1_000, 2_000
NOW = 1_800_000_000_000
ROUNDS = 15
PEER = "a bare loop over the same"
CENT = 10_000
STATES = (WorkerState.BUSY, WorkerState.BUSY, WorkerState.IDLE, WorkerState.BOOTING, WorkerState.ORDERING)


def rows() -> list[Row]:
    """Everything that this module measures."""
    return [*plans(), *hard_plans(), *placings()]


def plans() -> list[Row]:
    """One plan, the queue in one group, in 20 and in 1,000."""
    return [_measure(f"one plan, {_count(groups)}", world(groups)) for groups in (1, 20, 1_000)]


def hard_plans() -> list[Row]:
    """What is hardest: no offer fits anybody; the cap is reached; 40 groups that were each shown 2,000 offers of their
    own; 1,000 groups that wait for one model of GPU, each under a limit of its own."""
    dear = world(1_000)
    shown = world(40, models=1)
    own_copies = {
        key: replace(view, offers=(*view.offers[:-1], view.offers[-1])) for key, view in shown.markets.items()
    }
    return [
        _measure(
            "one plan, 1,000 groups, no offer fits", replace(dear, limits=replace(dear.limits, min_reliability=1))
        ),
        _measure("one plan, 1,000 groups, at the cap", replace(dear, cap=1)),
        _measure("one plan, 40 groups, 2,000 offers each", replace(shown, markets=own_copies)),
        _measure("one plan, 1,000 groups after one GPU model", world(1_000, models=1)),
        _measure("one plan, 20 groups, all known of every offer", well_known(world(20))),
        _measure("one plan, 1,000 groups, all known of every offer", well_known(world(1_000))),
    ]


def placings() -> list[Row]:
    """Placing the same queue on the idle ones of the same machines."""
    found = world(20)
    peer = _milliseconds(lambda: bare_loop(found))
    measured = _milliseconds(lambda: place(found.pending, found.machines, found.limits, found.now))
    return [("placing 10,000 jobs on 1,000 machines", measured, "ms", PEER, peer)]


def world(groups: int, models: int = 20) -> World:
    """A world of the promised size whose queue falls into so many groups, for so many models of GPU."""
    names = KNOWN_GPUS[: min(models, groups)]
    needs = [
        Need(
            f"image-{index // len(names)}", names[index % len(names)], 1, None if groups <= 20 else (40 + index) * CENT
        )
        for index in range(groups)
    ]
    offers = [_offer(index, names[index % len(names)]) for index in range(OFFERS)]
    views = {name: MarketView(tuple(offer for offer in offers if offer.gpu_type == name)) for name in names}
    return World(
        now=NOW,
        scaler=ScalerConfig(max_workers=5_000),
        cap=10**12,
        limits=Limits(50 * CENT, 0.8, frozenset({"KP"}), {("clore", "7"): "never came up"}),
        pending=tuple(PendingJob(id_, needs[id_ * 7 % groups], 1 + id_ % 10, NOW - id_ * 7919) for id_ in range(JOBS)),
        running=MACHINES * 2 // 5,
        machines=tuple(_machine(id_, needs[id_ % groups]) for id_ in range(MACHINES)),
        markets={need.key: views[need.gpu_type or ""] for need in needs},
    )


def well_known(found: World) -> World:
    """The same world with every filter in use, jobs that say how long they take, and a history of each host."""
    told = {id(view): _told(view) for view in found.markets.values()}
    hosts = {
        ("clore", str(index)): HostHistory(
            "clore", str(index), rentals=index % 9, setups=index % 7, setup_ms=index % 7 * 240_000, evictions=index % 3,
            no_starts=index % 2, held_ms=index % 50 * 3_600_000, lost_ms=index % 3 * 600_000,
        )
        for index in range(OFFERS)
    }  # fmt: skip
    markets = {("clore", str(way)): MarketHistory(10**9, 30, 10**8, 900, 3 * 10**8) for way in Market}
    return replace(
        found,
        limits=replace(
            found.limits, min_ram_gb=16, min_threads_per_gpu=2, min_disk_gb=20, min_pcie_gb_per_sec=3, min_hours=1,
            min_net_down_mbps=50, min_cuda=(11, 8), order_types={"clore": "auto"}, max_setup=10**6,
            paused_owners={("clore", "7"): "failed"},
        ),
        markets={key: told[id(view)] for key, view in found.markets.items()},
        pending=tuple(replace(job, max_runtime_sec=3_600.0 * (1 + job.id % 48)) for job in found.pending),
        history=History(hosts, markets),
    )  # fmt: skip


def _told(view: MarketView) -> MarketView:
    return replace(
        view,
        offers=tuple(
            replace(
                offer, ram_gb=30.0 + index % 40, cpu_threads=8 + index % 40, disk_gb=15.0 + index % 90, pcie_gen=4,
                pcie_width=8 + index % 2 * 8, net_down_mbps=40.0 + index % 900, cuda_version=f"12.{index % 9}",
                max_hours=24.0 * (1 + index % 30), owner=str(index % 200), market=list(Market)[index % 2],
            )
            for index, offer in enumerate(view.offers)
        ),
    )  # fmt: skip


def _machine(id_: int, need: Need) -> Machine:
    state = STATES[id_ % len(STATES)]
    image = None if id_ % 10 == 0 else need.image
    return Machine(
        id_, state, "clore", need.gpu_type, 1 + id_ % 2, image, Market.ON_DEMAND, (30 + id_ % 15) * CENT, need.key,
        NOW - 1_000 if state == WorkerState.IDLE else None,
    )  # fmt: skip


def _offer(index: int, gpu: str) -> Offer:
    return Offer(
        "clore", str(index), gpu, 1 + index % 4, Terms((35 + index % 40) * CENT, creation_fee=10 * CENT),
        reliability=0.7 + index % 30 / 100, country="DE",
    )  # fmt: skip


def bare_loop(found: World) -> int:
    """Read one attribute of everything once, and sort the jobs: no plan can do with less."""
    total = 0
    for job in sorted(found.pending, key=attrgetter("priority", "submitted_at", "id")):
        total += job.priority
    for machine in found.machines:
        total += machine.rate
    for view in {id(view): view for view in found.markets.values()}.values():
        for offer in view.offers:
            total += offer.terms.rate
    return total


def _measure(what: str, found: World) -> Row:
    peer = _milliseconds(lambda: bare_loop(found))
    return (what, _milliseconds(lambda: plan(found)), "ms", PEER, peer)


def _milliseconds(work: Callable[[], object]) -> float:
    """The fastest of some rounds: what else this computer does slows a round down, nothing speeds one up."""
    fastest = math.inf
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        fastest = min(fastest, time.perf_counter() - begun)
    return fastest * 1000


def _count(groups: int) -> str:
    return "1 group" if groups == 1 else f"{groups:,} groups"


if __name__ == "__main__":
    for what, measured, unit, peer, value in rows():
        print(f"{what:<45} {measured:8.1f} {unit}   {peer}: {value:.1f} {unit}")
