"""A market and machines on a virtual clock, worked by the policy alone: orders in flight, unknown outcomes, hosts that
never come up, machines that are lost, providers that are slow to take a machine back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random

from gpuscale_tui.model.offers import Need, Offer
from gpuscale_tui.model.settings import ScalerConfig
from gpuscale_tui.model.states import Cause, JobState, Purpose, WorkerState
from gpuscale_tui.policy.limits import above_limits
from gpuscale_tui.policy.outcomes import judge
from gpuscale_tui.policy.placing import place
from gpuscale_tui.policy.scaling import group_jobs, plan
from gpuscale_tui.policy.world import Limits, Machine, MarketView, PendingJob, Plan, World
from tests.policy.support import CENT, NEED, NOW

TICK_MS = 30_000
ORDERING, BOOTING, IDLE, BUSY, RELEASING = (
    WorkerState.ORDERING, WorkerState.BOOTING, WorkerState.IDLE, WorkerState.BUSY, WorkerState.RELEASING,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trouble:
    """Chances of each misfortune, and how many there are in all before luck holds."""

    refused: float = 0.0
    unknown: float = 0.0
    dud: float = 0.0
    lost: float = 0.0
    slow: int = 1
    in_all: int = 0


CALM = Trouble()
STORM = Trouble(refused=0.15, unknown=0.2, dud=0.15, lost=0.03, slow=6, in_all=60)


@dataclass(slots=True)
class Rented:
    """A machine, what becomes of it at `due`, and the job on it."""

    machine: Machine
    server: str
    due: int
    fate: str = ""
    job: PendingJob | None = None


@dataclass(slots=True)
class Simulation:
    """Ticks of 30 s; every tick checks what must hold at every instant."""

    scaler: ScalerConfig
    cap: int
    servers: tuple[Offer, ...]
    trouble: Trouble = CALM
    seed: int = 0
    limits: Limits = field(default_factory=lambda: Limits(50 * CENT))
    now: int = NOW
    pending: dict[int, PendingJob] = field(default_factory=dict)
    ticks_of: dict[int, int] = field(default_factory=dict)
    fleet: dict[int, Rented] = field(default_factory=dict)
    faults: Counter[int] = field(default_factory=Counter)
    done: list[int] = field(default_factory=list)
    rentals: int = 0
    misfortunes: int = 0
    highest: int = 0
    spent: int = 0
    scale_up: int = 0
    started: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._check_rises = True

    _random: Random = field(init=False)
    _check_rises: bool = field(init=False)

    def submit(self, number: int, need: Need = NEED, *, ticks: int = 4, priority: int = 5) -> list[int]:
        """Put jobs in the queue, each to run for so many ticks."""
        first = len(self.ticks_of) + 1
        ids = list(range(first, first + number))
        for id_ in ids:
            self.pending[id_] = PendingJob(id_, need, priority, self.now)
            self.ticks_of[id_] = ticks
        return ids

    @property
    def committed(self) -> int:
        """Micro-dollars per hour of everything not confirmed gone."""
        return sum(rented.machine.rate for rented in self.fleet.values())

    @property
    def running(self) -> int:
        """Jobs on machines."""
        return sum(rented.job is not None for rented in self.fleet.values())

    @property
    def over(self) -> bool:
        """Nothing pending, running or rented."""
        return not self.pending and not self.fleet

    def run(self, most: int) -> int:
        """Tick until everything is over; fails after `most` ticks. Returns how many it took."""
        for number in range(most):
            if self.over:
                return number
            self.tick()
        raise AssertionError(f"not over after {most} ticks: {self.describe()}")

    def describe(self) -> str:
        """What stands, for a failing test."""
        made = plan(self.world())
        states = Counter(rented.machine.state for rented in self.fleet.values())
        return f"pending {len(self.pending)}, machines {dict(states)}, {dict(made.groups)}, {made.workers}"

    def tick(self) -> Plan:
        """Let time pass, place, plan, act; check."""
        self.now += TICK_MS
        self.spent += sum(
            rented.machine.rate * TICK_MS // 3_600_000 for rented in self.fleet.values()
            if rented.machine.state != ORDERING
        )  # fmt: skip
        for id_ in list(self.fleet):
            if self.fleet[id_].due <= self.now:
                self._come_due(id_)
        self._place()
        made = plan(self.world())
        self._rent(made)
        for release in made.releases:
            self._give_back(release.worker_id)
        self._check()
        return made

    def world(self) -> World:
        """What the engine's planner would show policy: markets of groups that lack a machine."""
        found = World(
            now=self.now, scaler=self.scaler, cap=self.cap, limits=self.limits, pending=tuple(self.pending.values()),
            running=self.running, machines=tuple(rented.machine for rented in self.fleet.values()), default_need=NEED,
            scale_up=self.scale_up,
        )  # fmt: skip
        taken = {rented.server for rented in self.fleet.values()}
        shown = tuple(offer for offer in self.servers if offer.server_id not in taken or self._luck(0.02))
        view = MarketView(shown, {"rented": len(self.servers) - len(shown)} if len(shown) < len(self.servers) else {})
        keys = [group.need.key for group in group_jobs(found) if group.uncovered]
        return replace(found, markets=dict.fromkeys([*keys, NEED.key], view))

    def _luck(self, chance: float) -> bool:
        if self.misfortunes >= self.trouble.in_all or self._random.random() >= chance:
            return False
        self.misfortunes += 1
        return True

    def _rent(self, made: Plan) -> None:
        for rent in made.rents:
            self.rentals += 1
            assert self.committed + rent.offer.rate <= self.cap, "the plan exceeds the cap"
            assert len(self.fleet) < self.scaler.max_workers, "the plan exceeds max_workers"
            self.scale_up -= rent.purpose == Purpose.HAND
            doubly = any(rented.server == rent.offer.server_id for rented in self.fleet.values())
            if doubly or self._luck(self.trouble.refused):
                fate, wait = "refused", 1
            elif self._luck(self.trouble.unknown):
                fate, wait = self._random.choice(("refused", "accepted")), self._random.randint(4, 12)
            else:
                fate, wait = "accepted", 1
            machine = Machine(
                self.rentals, ORDERING, rent.offer.provider, rent.offer.gpu_type, rent.offer.gpu_count,
                None if rent.offer.any_image else rent.need.image, rent.offer.market, rent.offer.rate, rent.need.key,
                purpose=rent.purpose,
            )  # fmt: skip
            self.fleet[machine.id] = Rented(machine, rent.offer.server_id, self.now + wait * TICK_MS, fate)

    def _come_due(self, id_: int) -> None:
        rented = self.fleet[id_]
        if rented.machine.state == RELEASING or rented.fate == "refused":
            del self.fleet[id_]
        elif rented.machine.state == ORDERING:
            dud = self._luck(self.trouble.dud)
            self._turn(rented, BOOTING, "dud" if dud else "", self._random.randint(1, 10))
        elif rented.machine.state == BOOTING and rented.fate == "dud":
            self._give_back(id_)
        elif rented.machine.state == BOOTING:
            self._turn(rented, IDLE, "", None)
        elif rented.machine.state == BUSY and rented.job is not None:
            self._job_ends(id_, rented, rented.job)

    def _job_ends(self, id_: int, rented: Rented, job: PendingJob) -> None:
        rented.job = None
        if rented.fate == "lost":
            self._requeue(job)
            del self.fleet[id_]
            return
        self.done.append(job.id)
        self._turn(rented, IDLE, "", None)

    def _requeue(self, job: PendingJob, *, by_user: bool = False) -> None:
        cause = Cause.PREEMPTED if by_user else Cause.HOST_FAULT
        verdict = judge(cause, self.faults[job.id], 10_000, by_user=by_user)
        assert verdict.state == JobState.PENDING
        self.faults[job.id] += verdict.counted
        self.pending[job.id] = replace(job, not_before=self.now + verdict.pause_ms if verdict.pause_ms else None)

    def _turn(self, rented: Rented, state: WorkerState, fate: str, ticks: int | None) -> None:
        idle_since = self.now if state == IDLE else None
        busy_since = self.now if state == BUSY else None
        rented.machine = replace(rented.machine, state=state, idle_since=idle_since, busy_since=busy_since)
        rented.fate = fate
        rented.due = 2**62 if ticks is None else self.now + ticks * TICK_MS

    def _give_back(self, id_: int) -> None:
        rented = self.fleet[id_]
        assert rented.machine.state != RELEASING, "given back twice"
        if rented.job is not None:
            self._requeue(rented.job, by_user=True)
            rented.job = None
        self._turn(rented, RELEASING, "", self._random.randint(1, self.trouble.slow))

    def _place(self) -> None:
        machines = [rented.machine for rented in self.fleet.values()]
        above = above_limits(machines, self.cap, self.scaler.max_workers, self.now)
        idle = [machine for machine in machines if machine.state == IDLE and machine.id not in above]
        for chosen in place(self.pending.values(), idle, self.limits, self.now):
            job, rented = self.pending.pop(chosen.job_id), self.fleet[chosen.worker_id]
            assert rented.job is None
            assert rented.machine.state == IDLE
            lost = self._luck(self.trouble.lost)
            ticks = self.ticks_of[job.id]
            self._turn(rented, BUSY, "lost" if lost else "", self._random.randint(1, ticks) if lost else ticks)
            rented.job = job
            self.started.append(job.id)

    def _check(self) -> None:
        self.highest = max(self.highest, self.committed)
        if self._check_rises:
            assert self.committed <= self.cap
            assert len(self.fleet) <= self.scaler.max_workers
        jobs = [rented.job.id for rented in self.fleet.values() if rented.job] + list(self.pending) + self.done
        assert sorted(jobs) == list(range(1, len(self.ticks_of) + 1)), "every job is in one place only"

    def lower(self, scaler: ScalerConfig, cap: int) -> None:
        """Go on under lower limits, as after a start with other settings."""
        self.scaler, self.cap, self._check_rises = scaler, cap, False

    def keep_limits(self) -> None:
        """From now on the limits must hold at every instant again."""
        self._check()
        self._check_rises = True
        self._check()
