"""One simulated world: the real engine on real SQL, pretended marketplaces and machines, users, and faults.

`Universe(plan).run()` lives through a phase of faults and then a phase without; after that everything must have come
right. Two runs of one plan have the same history to the last byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpuscale_tui.engine import commands, view
from gpuscale_tui.engine import engine as engine_module
from gpuscale_tui.engine.context import Bells, Context, Control
from gpuscale_tui.model.errors import FieldError, GpuscaleError
from gpuscale_tui.model.hosts import Card
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.settings import (
    CheckpointConfig,
    CloreConfig,
    MachinesConfig,
    ProvidersConfig,
    ScalerConfig,
    Settings,
    SshConfig,
    SshHost,
)
from gpuscale_tui.providers.base import Provider
from gpuscale_tui.providers.ssh import SshProvider
from gpuscale_tui.remote.site import Site
from gpuscale_tui.store import engines, logs
from gpuscale_tui.store.checkpoints import SnapshotStore
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.engines import Limits
from gpuscale_tui.store.home import Home
from tests.sim import machines
from tests.sim.faults import QUIET, Faults
from tests.sim.invariants import Checker
from tests.sim.loop import Effect, Killed, VirtualLoop
from tests.sim.machines import Machine, Work
from tests.sim.market import Bazaar, BazaarPort, stock
from tests.sim.storage import Disk

EPOCH_MS = 1_800_000_000_000
HOUR = 3600.0
SPOILT = "spoilt"
"""A banner that makes the written settings wrong."""
IMAGE = "cloreai/jupyter:ubuntu24.04-v2"
GPUS = ("RTX 4090", "RTX 3090")


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One job of the users: when (seconds), what it does, how it is asked for."""

    at: float
    work: Work
    priority: int = 5
    gpu_type: str | None = "RTX 4090"
    max_runtime_sec: int | None = None
    retries: int | None = 10_000
    spec: dict[str, object] = field(default_factory=dict)

    @property
    def may_fail(self) -> bool:
        """Whether it may end as failed: by its own exit, its own time limit or its own few retries."""
        return self.work.code != 0 or self.max_runtime_sec is not None or self.retries != 10_000

    def job(self) -> JobSpec:
        return JobSpec(
            image=IMAGE, command=self.work.command, gpu_type=self.gpu_type, priority=self.priority,
            max_runtime_sec=self.max_runtime_sec, retries=self.retries, user="sim", **self.spec,  # type: ignore[arg-type]
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one run is made of. Times are seconds of the world."""

    seed: int | str
    hours: float = 24.0
    faults: Faults = QUIET
    settings: Settings = field(default_factory=Settings)
    jobs: tuple[JobPlan, ...] = ()
    markets: tuple[tuple[str, int, bool], ...] = (("clore", 12, False),)
    """Name, number of servers, whether its replies name orders."""
    bursts: int = 0
    shuffle: bool = False
    slowness: float = 1.0
    """By how much the engine's idle looks are rarer than in the product; what happens still wakes it at once."""
    user_acts: float = 0.0
    """Acts of users an hour beside submissions."""
    heal_hours: float = 12.0
    evict_every_sec: float = 0.0
    """So often one machine is taken away, beside what the faults say; 0 is never."""


def scaler(**changed: object) -> ScalerConfig:
    """Settings of a scaler for a simulated world."""
    return replace(
        ScalerConfig(poll_interval_sec=30.0, max_workers=6, max_hourly_budget=4.0, max_retries=10_000), **changed
    )  # type: ignore[arg-type]


def settings_of(scaler: ScalerConfig, *, hosts: int = 0) -> Settings:
    """Settings with the marketplace enabled, and some hosts of our own."""
    own = tuple(
        SshHost(
            name=f"own{number}", host=f"own{number}.example", gpu_type=GPUS[number % 2], gpu_count=1, price_per_hour=0.1
        )
        for number in range(hosts)
    )
    return Settings(
        scaler=scaler,
        providers=ProvidersConfig(clore=CloreConfig(enabled=True, order_type="auto"), ssh=SshConfig(own)),
        checkpoints=CheckpointConfig(interval_sec=300.0),
        machines=MachinesConfig(usage_interval_sec=1_800.0),
    )


@dataclass(slots=True)
class User:
    """Those who submit, cancel, retry, and change limits; each act is a command on the store, as the verbs do it."""

    universe: Universe
    submitted: dict[int, JobPlan] = field(default_factory=dict)
    retried: Counter[int] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(f"{self.universe.seed} user")

    def command(self, name: str, act: Callable[[Database], object]) -> None:
        """One command by the user's own connection; what is refused is refused."""
        universe = self.universe
        self.acts[name] += 1
        with Database(universe.home.database) as database:
            try:
                act(database)
            except GpuscaleError as error:
                universe.note("user", name, "refused", type(error).__name__)
            else:
                universe.note("user", name)
        if self.dice.random() >= universe.faults.doorbell_lost:
            universe.loop.ring()
        universe.checker.committed()

    def submit(self, plans: list[JobPlan]) -> None:
        universe = self.universe

        def act(database: Database) -> None:
            specs = [plan.job() for plan in plans]
            ids = database.write(commands.submit, universe.home, specs, now=universe.now())
            self.submitted.update(zip(ids, plans, strict=True))

        self.command("submit", act)

    def act(self) -> None:
        """Something that users do at any moment."""
        dice, universe = self.dice, self.universe
        jobs = list(self.submitted)
        job = dice.choice(jobs) if jobs else None
        now = universe.now()
        what = dice.choice(("cancel", "retry", "priority", "scale_up", "scale_down", "release", "release"))
        worker = dice.randint(1, max(1, universe.workers_made()))
        acts: dict[str, Callable[[Database], object]] = {
            "scale_up": lambda db: db.write(
                commands.scale_up, dice.randint(1, 3), universe.settings, user="sim", now=now
            ),
            "scale_down": lambda db: db.write(commands.scale_down, dice.randint(1, 2), user="sim", now=now),
            "release": lambda db: db.write(commands.release, worker, user="sim", now=now),
        }
        if job is not None:
            acts["cancel"] = lambda db: db.write(commands.cancel, [job], user="sim", now=now)
            acts["retry"] = lambda db: self._retry(db, job, now)
            acts["priority"] = lambda db: db.write(commands.set_priority, job, dice.randint(1, 10), user="sim", now=now)
        if what in acts:
            self.command(what, acts[what])

    def _retry(self, database: Database, job: int, now: int) -> None:
        for job_id, again in database.write(commands.retry, [job], user="sim", now=now):
            if again:
                self.retried[job_id] += 1
                self.universe.checker.saved.pop(job_id, None)


@dataclass(slots=True)
class Result:
    """What came of a run."""

    seed: int | str
    violations: list[str]
    digest: str
    hours: float
    counts: Counter[str]
    trace: list[str] | None = None


class Universe:
    """A world and the engines that live in it one after the other."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self.seed = plan.seed
        self.settings = plan.settings
        self.written: Settings | None = None
        """What a user has written into the settings since, to be read when the engine is asked to, or starts."""
        self.faults = plan.faults
        self.image = IMAGE
        self.loop = VirtualLoop(plan.seed, shuffle=plan.shuffle)
        self.dice = random.Random(f"{plan.seed} world")
        self.home = Home(directory / "home")
        self.home.ensure()
        self.machines: dict[str, Machine] = {}
        self.forgivable: set[str] = set()
        self.counts: Counter[str] = Counter()
        self._numbers = 0
        self._tokens = 0
        self._hash = hashlib.sha256()
        self.trace: list[str] | None = None
        self.checker = Checker(self)
        self.user = User(self)
        self.bazaars = [
            Bazaar(self, name, stock(random.Random(f"{plan.seed} stock {name}"), name, count, GPUS), named)
            for name, count, named in plan.markets
        ]
        for host in plan.settings.providers.ssh.hosts:
            card = Card(f"NVIDIA GeForce {host.gpu_type}", 24_564)
            self.machines[host.host] = Machine(self, host.host, host.name, cards=(card,), own=True)
        self.disk: Disk | None = None
        self.context: Context | None = None
        self._main: asyncio.Task[None] | None = None
        with Database(self.home.database) as database:
            database.connection.execute("INSERT INTO meta (key, value) VALUES ('installation', 'simulated')")
        logs.connect_logs(self.home.logs, readonly=False).close()
        self.checker.open()
        self.on_effect: Callable[[Effect], bool] | None = None
        self.loop.watch = self._watch

    # The world's own words.

    def now(self) -> int:
        """UTC milliseconds."""
        return EPOCH_MS + self.loop.now_ms()

    @property
    def cap(self) -> int:
        return view.cap(self.settings)

    def new_number(self) -> str:
        """Part of an address that nobody else has."""
        self._numbers += 1
        return f"{self._numbers // 250}.{self._numbers % 250}"

    def new_token(self) -> str:
        self._tokens += 1
        return hashlib.sha256(f"{self.seed} token {self._tokens}".encode()).hexdigest()[:32]

    def note(self, *words: object) -> None:
        """Append to the history of this world."""
        line = f"{self.loop.now_ms()} {' '.join(map(str, words))}"
        self._hash.update(line.encode() + b"\n")
        self.counts[str(words[1]) if len(words) > 1 else str(words[0])] += 1
        if self.trace is not None:
            self.trace.append(line)

    def digest(self) -> str:
        """A hash of all that happened, the audit log included."""
        whole = self._hash.copy()
        for row in self.checker.rows("SELECT * FROM events ORDER BY id"):
            whole.update(repr(tuple(row)).encode())
        return whole.hexdigest()

    def burn(self) -> int:
        """Micro-dollars an hour of everything that costs money now, or may at any moment."""
        rented = sum(order.terms.rate for bazaar in self.bazaars for order in bazaar.living())
        return rented + sum(json.loads(path.read_bytes())["rate"] for path in self.taken_hosts())

    def taken_hosts(self) -> list[Path]:
        """The notes of our own hosts that are taken."""
        return sorted((self.home.providers / "ssh").glob("*.json"))

    def workers_made(self) -> int:
        return int(self.checker.rows("SELECT coalesce(max(id), 0) FROM workers")[0][0])

    def output(self, job_id: int, attempt: int) -> bytes:
        with contextlib.closing(logs.connect_logs(self.home.logs, readonly=True)) as connection:
            return logs.read(connection, job_id, attempt, 0, 1 << 40)

    def snapshot_step(self, job_id: int, number: int) -> int | None:
        """The step that a stored snapshot holds, None when it is not on the disk any more."""
        path = self.home.checkpoints / f"j{job_id}" / str(number) / "files" / machines.STEP_FILE
        return int(path.read_bytes()) if path.exists() else None

    def _watch(self, effect: Effect) -> bool:
        if effect.after and effect.kind == "commit":
            self.checker.committed()
        return bool(self.checker.violations) or (self.on_effect is not None and self.on_effect(effect))

    # An engine's life.

    async def _connect(self, endpoint: Endpoint) -> Site:
        return await machines.connect(self, endpoint)

    def providers(self) -> dict[str, Provider]:
        """Fresh ports, as a new engine has them."""
        made: dict[str, Provider] = {bazaar.name: BazaarPort(bazaar) for bazaar in self.bazaars}
        hosts = self.settings.providers.ssh.hosts
        if hosts:
            made["ssh"] = SshProvider(hosts, self.home.providers / "ssh", now=self.now)
        return made

    def read(self) -> Settings:
        """The settings as they are written now, unless they are spoilt."""
        written = self.written or self.settings
        if written.ui.banner == SPOILT:
            raise FieldError("ui.banner", SPOILT, "another text")
        self.settings = written
        return written

    async def engine(self, *, exit_when_idle: bool = False) -> None:
        """One engine from its start to its end, as `engine.open_context` and `work` make it."""
        self._main = asyncio.current_task()
        with contextlib.suppress(FieldError):
            self.read()
        control = Control()
        self.disk = disk = Disk(self.loop, f"{self.seed} {self.loop.incarnation}", slow=self.faults.disk_slow)
        limits = Limits(view.cap(self.settings), self.settings.scaler.max_workers)
        async with disk.database(self.home.database) as db, disk.logs(self.home.logs) as stored_logs:
            await db.write(engines.installation)
            epoch = db.epoch = await db.write(engines.begin_epoch, 1, "sim", limits, self.now())
            self.context = context = Context(
                home=self.home,
                settings=self.settings,
                db=db,
                logs=stored_logs,
                snapshots=SnapshotStore(self.home.checkpoints),
                providers=self.providers(),
                epoch=epoch,
                base=".gpuscale/simulated",
                public_key="ssh-ed25519 ours",
                now=self.now,
                bells=Bells((*engine_module.SERVICES, "data")),
                control=control,
                connect=self._connect,
                new_token=self.new_token,
                sources=WorldSources(self),
            )
            try:
                await engine_module.work(context, exit_when_idle=exit_when_idle)
            finally:
                await db.write(engines.end_epoch, control.outcome or "detached", self.now(), epoch)

    def live(self, *, exit_when_idle: bool = False) -> str:
        """Run one engine; returns how it ended: killed, detached or stopped."""
        self.note("engine", "starts")
        try:
            self.loop.live(self.engine(exit_when_idle=exit_when_idle))
            how = "stopped"
        except Killed:
            how = "killed"
        except asyncio.CancelledError:
            how = "detached"
        finally:
            if self.disk is not None:
                self.disk.drop()
        self.note("engine", how)
        return how

    def detach(self) -> None:
        """Leave the engine's block: it ends in good order and leaves everything as it is."""
        if self._main is not None:
            self._main.cancel()

    def idle(self, seconds: float) -> None:
        """Let time pass without an engine."""

        async def wait() -> None:
            await asyncio.sleep(seconds)

        with contextlib.suppress(Killed):
            self.loop.live(wait())

    def close(self) -> None:
        """Leave nothing open."""
        self.checker.close()
        self.loop.close()


class WorldSources:
    """What is written in the world, as engines read it anew."""

    def __init__(self, universe: Universe) -> None:
        self._universe = universe

    def read(self) -> Settings:
        return self._universe.read()

    def prints(self, settings: Settings) -> dict[str, object]:
        ours = {"ssh": settings.providers.ssh.hosts} if settings.providers.ssh.hosts else {}
        return {bazaar.name: settings.scaler.lease_hours for bazaar in self._universe.bazaars} | ours

    def providers(self, settings: Settings) -> dict[str, Provider]:
        return self._universe.providers()
