"""Random needs, queues, fleets, markets and worlds, small enough that things collide.

They are drawn from a seed and a size: much faster than draw by draw, and hypothesis still finds the smallest size.
"""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Market, Need, Offer
from gpuscale_tui.model.settings import ScalerConfig
from gpuscale_tui.model.states import Purpose, WorkerState
from gpuscale_tui.policy.world import Limits, Machine, MarketView, PendingJob, World
from tests.policy.support import CENT, DOLLAR, NEED, NOW

GPUS = ("RTX 4090", "RTX 4090", "RTX 4090", "RTX 3080 Ti", "RTX 3080", "RTX 4090 Laptop GPU", None)
IMAGES = ("img", "img", "img2")
RATES = (0, 1, 5, 10, 20, 30, 33, 40, 49, 50, 51, 80, 150, 300)
AGES_MS = (0, 1, 1000, 300_000, 599_999, 600_000, 9_000_000)
HOLDS_MS = (*(None,) * 9, -1, 0, 1, 60_000, 300_000)
STATES = (
    WorkerState.BUSY, WorkerState.BUSY, WorkerState.IDLE, WorkerState.IDLE, WorkerState.BOOTING, WorkerState.ORDERING,
    WorkerState.RELEASING,
)  # fmt: skip


def need(random: Random) -> Need:
    """A need: one of few."""
    gpu = random.choice(GPUS)
    return Need(
        random.choice(IMAGES),
        gpu,
        0 if gpu is None else random.choice((1, 1, 1, 2)),
        random.choice((None, None, 30 * CENT, DOLLAR)),
        random.choice((*(None,) * 6, "clore", "ssh")),
        random.choice((*(None,) * 6, *Market)),
    )


def queue(random: Random, most: int) -> tuple[PendingJob, ...]:
    """Pending jobs with ids from 1 on."""
    kinds = [need(random) for _ in range(random.randint(1, 3))]
    priorities = random.choice(((5,), (1, 5, 10)))
    found = []
    for id_ in range(1, random.randint(0, most) + 1):
        hold = random.choice(HOLDS_MS)
        submitted = NOW - random.choice(AGES_MS)
        not_before = None if hold is None else NOW + hold
        found.append(PendingJob(id_, random.choice(kinds), random.choice(priorities), submitted, not_before))
    return tuple(found)


def fleet(random: Random, most: int) -> tuple[Machine, ...]:
    """Machines with ids from 1 on, in every live state."""
    return tuple(_machine(random, id_) for id_ in range(1, random.randint(0, most) + 1))


def _machine(random: Random, id_: int) -> Machine:
    gpu, state = random.choice(GPUS), random.choice(STATES)
    return Machine(
        id=id_,
        state=state,
        provider=random.choice(("clore", "clore", "ssh")),
        gpu_type=gpu,
        gpu_count=0 if gpu is None else random.choice((1, 1, 2, 4)),
        image=random.choice((None, *IMAGES)),
        market=random.choice((Market.ON_DEMAND, Market.ON_DEMAND, Market.SPOT)),
        rate=random.choice(RATES) * CENT,
        group_key="x",
        idle_since=NOW - random.choice((0, 1000, 119_999, 120_000, 500_000)) if state == WorkerState.IDLE else None,
        busy_since=NOW - random.choice(AGES_MS) if state == WorkerState.BUSY and random.random() < 0.9 else None,
        taking_work=random.random() < 0.9,
        purpose=random.choice(list(Purpose)),
    )


def market(random: Random, most: int) -> MarketView:
    """What one group was shown."""
    shown = tuple(_offer(random, f"s{server}") for server in range(random.randint(0, most)))
    rejected = random.choice(({}, {"rented": 3}, {"rented": 1, "1 GPU, not 2": 1}))
    return MarketView(shown, rejected, random.choice(((), (), ("clore: time-out",))))


def _offer(random: Random, server: str) -> Offer:
    gpu = random.choice(GPUS)
    return Offer(
        random.choice(("clore", "clore", "ssh")),
        server,
        gpu,
        0 if gpu is None else random.choice((1, 1, 2, 4)),
        Terms(random.choice(RATES) * CENT + random.choice((0, 0, 1, 777)), creation_fee=random.choice((0, 10 * CENT))),
        random.choice((Market.ON_DEMAND, Market.ON_DEMAND, Market.SPOT)),
        reliability=random.choice((None, 0.0, 0.5, 0.9, 1.0)),
        country=random.choice((None, "DE", "KP")),
    )


def world(seed: int, size: int) -> World:
    """A world of all that, under random settings and requests."""
    random = Random(seed)
    pending, machines = queue(random, size), fleet(random, min(size, 8))
    keys = sorted({job.need.key for job in pending} | {NEED.key})
    shared = market(random, size)
    views = {key: random.choice((shared, market(random, size))) for key in keys if random.random() < 0.9}
    committed = sum(machine.rate for machine in machines)
    return World(
        now=NOW,
        scaler=ScalerConfig(
            min_workers=random.choice((0, 0, 0, 1, 3)),
            max_workers=max(0, len(machines) + random.choice((-1, 0, 0, 1, 3, 3, 3))),
            scale_up_threshold=random.randint(1, 5),
            scale_down_threshold=random.choice((0, 1, 1, 1, 2, 4)),
            idle_timeout_sec=random.choice((0.0, 90.0, 120.0)),
        ),
        cap=max(0, committed + random.choice((-50, 0, 1, 20, 40, 100, 1000, 1000)) * CENT),
        limits=Limits(
            random.choice((30 * CENT, 50 * CENT, 2 * DOLLAR)),
            random.choice((0.0, 0.0, 0.8)),
            frozenset(random.choice(((), ("KP",)))),
            random.choice(({}, {("clore", "s0"): "refused"})),
        ),
        pending=pending,
        running=sum(machine.state == WorkerState.BUSY for machine in machines),
        machines=machines,
        markets=views,
        default_need=NEED,
        scale_up=random.choice((0, 0, 0, 0, 1)),
        scale_down=random.choice((0, 0, 0, 0, 1, 2)),
        drain=random.random() < 0.05,
    )


SEEDS, SIZES = st.integers(0, 2**32 - 1), st.integers(0, 14)
QUEUES = st.builds(lambda seed, size: queue(Random(seed), size), SEEDS, SIZES)
FLEETS = st.builds(lambda seed, size: fleet(Random(seed), size), SEEDS, SIZES)
NEEDS = st.builds(lambda seed: need(Random(seed)), SEEDS)
WORLDS = st.builds(world, SEEDS, SIZES)
