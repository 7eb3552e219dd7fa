"""Whole lives of a world: a phase of faults, a phase without, and then everything must have come right."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import gpuscale_tui.engine
from gpuscale_tui.engine import commands
from gpuscale_tui.model.offers import Market
from gpuscale_tui.model.states import LIVE_WORKER_STATES
from tests.sim.faults import Faults, drawn
from tests.sim.loop import Effect, Spinning, Stuck
from tests.sim.machines import Machine, Work
from tests.sim.world import HOUR, JobPlan, Plan, Result, Universe, scaler, settings_of

WEATHER_SEC = 300.0
"""How often the world draws what goes wrong next."""
LOOK_SEC = 120.0
BOOKS_SEC = 900.0
"""After everything has come to rest: time for the last bills."""
MEMORY = Path("/dev/shm")
PACED = ("LOOK_SEC", "RETRY_SEC", "DATA_LOOK_SEC", "SOON_SEC", "BEAT_MS")


@contextlib.contextmanager
def slowed(factor: float) -> Iterator[None]:
    """Let the engine's idle looks be rarer, so that a simulated day costs seconds; bells wake it at once as ever."""
    kept = []
    for info in pkgutil.iter_modules(gpuscale_tui.engine.__path__):
        if info.name in {"doctor", "autopilot", "background"}:
            continue
        module = importlib.import_module(f"gpuscale_tui.engine.{info.name}")
        for name in PACED:
            if (value := module.__dict__.get(name)) is not None:
                kept.append((module, name, value))
                setattr(module, name, type(value)(value * factor))
    try:
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)


@contextlib.contextmanager
def room() -> Iterator[Path]:
    """A directory of our own, in memory where there is such a place."""
    path = Path(tempfile.mkdtemp(prefix="gpuscale-sim-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Life:
    """Lets a world live and judges it."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.plan = universe.plan
        self.dice = random.Random(f"{universe.seed} life")
        self.over = self.plan.hours * HOUR
        self.healed = False
        self.quiet_since: float | None = None
        self._armed: Callable[[Effect], bool] | None = None
        universe.on_effect = self._on_effect

    def run(self) -> list[str]:
        """The whole life; returns the violations."""
        universe, checker = self.universe, self.universe.checker
        self._plan_ahead()
        try:
            while not checker.violations and universe.loop.time() < self.over:
                self._limits_change()
                universe.live()
                if not checker.violations and not self.healed:
                    universe.idle(self.dice.uniform(0.1, universe.faults.down_sec))
            self._heal()
            if not checker.violations:
                universe.live()
            self._judge()
        except (Spinning, Stuck) as error:
            checker.violations.append(f"I10 at {universe.loop.time():.3f} s: {error}")
        except Exception as error:  # noqa: BLE001 - an engine that dies by itself watches over nothing any more
            checker.violations.append(f"I10 at {universe.loop.time():.3f} s: the engine died: {innermost(error)!r}")
        return checker.violations

    # What is to come.

    def _plan_ahead(self) -> None:
        universe, outside = self.universe, self.universe.loop.outside
        together: dict[float, list[JobPlan]] = {}
        for job in self.plan.jobs:
            together.setdefault(job.at, []).append(job)
        for at, jobs in together.items():
            outside(at, lambda jobs=jobs: universe.user.submit(jobs))  # type: ignore[misc]
        outside(WEATHER_SEC, self._weather)
        if self.plan.evict_every_sec:
            outside(self.plan.evict_every_sec, self._evict_one)
        outside(self.over, self._heal)

    def _weather(self) -> None:
        """Draw what goes wrong within the next minutes."""
        if self.healed:
            return
        universe, faults, hours = self.universe, self.universe.faults, WEATHER_SEC / HOUR
        for bazaar in universe.bazaars:
            for order in bazaar.living():
                if self._hit(faults.evictions * hours):
                    self._soon(lambda b=bazaar, o=order: b.evict(o))  # type: ignore[misc]
            if self._hit(faults.bulk_evictions * hours):
                self._soon(bazaar.evict_all)
            if self._hit(faults.storm * hours):
                bazaar.storm_until = universe.loop.time() + self.dice.uniform(30, 900)
            if self._hit(faults.foreign * hours):
                self._soon(bazaar.someone_else)
        for machine in [each for each in universe.machines.values() if not each.ended and not each.dead]:
            self._machine_weather(machine, faults, hours)
        if self._hit(faults.kills * hours):
            self._soon(self._arm)
        if self._hit(faults.stops * hours):
            self._soon(self._stop)
        if self._hit(self.plan.user_acts * hours):
            self._soon(universe.user.act)
        universe.loop.outside(WEATHER_SEC, self._weather)

    def _evict_one(self) -> None:
        """One machine is taken away, and the next after the same time."""
        busy = [(bazaar, order) for bazaar in self.universe.bazaars for order in bazaar.living()]
        if busy and not self.healed:
            bazaar, order = self.dice.choice(busy)
            bazaar.evict(order)
        self.universe.loop.outside(self.plan.evict_every_sec, self._evict_one)

    def _machine_weather(self, machine: Machine, faults: Faults, hours: float) -> None:
        if self._hit(faults.deaths * hours):
            self._soon(machine.die)
        if self._hit(faults.partitions * hours):
            seconds = self.dice.choice((20, 120, 600, 1800))
            self._soon(lambda: machine.part(seconds))
        if self._hit(faults.resets * hours):
            self._soon(machine.reset)
        if self._hit(faults.vanishing * hours):
            self._soon(machine.restart)

    def _hit(self, chance: float) -> bool:
        return chance > 0 and self.dice.random() < chance

    def _soon(self, act: Callable[[], None]) -> None:
        def unless_healed() -> None:
            if not self.healed:
                act()

        self.universe.loop.outside(self.dice.uniform(0, WEATHER_SEC), unless_healed)

    # Ends of engines.

    def _arm(self) -> None:
        """Kill the engine at one of its next effects: any, or one at which it hurts."""
        kind = self.dice.choice(("", "", "commit", " create", " release", " list", "ssh start", "file", "log"))
        left = self.dice.randint(0, 60) if not kind else self.dice.randint(0, 2)
        after = self.dice.random() < 0.5

        def shoot(effect: Effect) -> bool:
            nonlocal left
            if effect.after != after or kind not in effect.kind:
                return False
            left -= 1
            return left < 0

        self._armed = shoot

    def _on_effect(self, effect: Effect) -> bool:
        if self._armed is not None and not self.healed and self._armed(effect):
            self._armed = None
            self.universe.note("life", "kill", effect.kind, effect.number, effect.after)
            return True
        return False

    def _stop(self) -> None:
        """An orderly end: by leaving the screen, or by a user's word."""
        universe, how = self.universe, self.dice.choice(("detach", "detach", "stop", "stop_now"))
        if how == "detach":
            universe.detach()
            return
        now = universe.now()
        universe.user.command(how, lambda db: db.write(commands.stop, at_once=how == "stop_now", user="sim", now=now))

    def _limits_change(self) -> None:
        """The user edits the settings while no engine runs."""
        universe = self.universe
        if self.dice.random() < 0.3 and not self.healed:
            base = self.plan.settings
            changed = replace(
                base.scaler,
                max_hourly_budget=round(base.scaler.max_hourly_budget * self.dice.uniform(0.2, 1.0), 2),
                max_workers=self.dice.randint(1, base.scaler.max_workers),
                min_workers=self.dice.choice((0, 0, 0, 1)),
            )
            universe.settings = replace(base, scaler=changed)
            universe.note("user", "limits", changed.max_hourly_budget, changed.max_workers, changed.min_workers)

    # Coming right.

    def _heal(self) -> None:
        """From now on nothing goes wrong any more; what is broken for good stays so."""
        universe = self.universe
        if self.healed:
            return
        self.healed = True
        universe.note("life", "healed")
        universe.faults = universe.faults.healed()
        for bazaar in universe.bazaars:
            bazaar.storm_until = -1.0
            bazaar.others_leave()
        for machine in universe.machines.values():
            machine.out_until = 0
            if machine.own:
                machine.dead = False
        # The user also lifts what waits for a user's word: the bound on set-up money.
        first = self.plan.settings
        universe.settings = replace(first, machines=replace(first.machines, max_setup_usd=1_000.0))
        universe.detach()  # the settings as they were at first count from the next start
        universe.loop.outside(LOOK_SEC, self._look)

    def _look(self) -> None:
        """End the engine once everything has come to rest, or when it has taken too long."""
        universe, now = self.universe, self.universe.loop.time()
        if now > self.over + self.plan.heal_hours * HOUR:
            universe.checker.fail(
                "I10", f"not at rest {self.plan.heal_hours:g} h after the last fault: {self._unrest()}"
            )
            return
        if self._unrest():
            self.quiet_since = None
        elif self.quiet_since is None:
            self.quiet_since = now
        elif now - self.quiet_since > BOOKS_SEC:
            at = universe.now()
            universe.user.command("stop", lambda db: db.write(commands.stop, at_once=False, user="sim", now=at))
            self.quiet_since = None  # an engine that was down just now does not hear it: then it is said once more
        universe.loop.outside(LOOK_SEC, self._look)

    def _unrest(self) -> str:
        """What is not as it should be, empty when all is."""
        universe, rows = self.universe, self.universe.checker.rows
        left = rows("SELECT state, count(*) FROM jobs WHERE state IN ('pending', 'running') GROUP BY 1")
        if left:
            return f"jobs {[tuple(row) for row in left]}"
        states = ", ".join(f"'{state}'" for state in sorted(LIVE_WORKER_STATES))
        fleet = rows(f"SELECT state, why FROM workers WHERE state IN ({states})")
        living = sum(len(bazaar.living()) for bazaar in universe.bazaars)
        wanted = universe.settings.scaler.min_workers
        living += len(universe.taken_hosts())
        if len(fleet) != living or living > wanted or any(row["state"] != "idle" for row in fleet):
            return f"workers {[tuple(row) for row in fleet]}, {living} orders live, {wanted} wanted"
        return ""

    def _judge(self) -> None:
        checker = self.universe.checker
        for judge in (
            checker.jobs_kept, checker.jobs_over, checker.money_right, checker.paced, checker.sound, self._nothing_left
        ):  # fmt: skip
            if not checker.violations:
                judge()

    def _nothing_left(self) -> None:
        if self.universe.burn():
            self.universe.checker.fail("I1", "the engine has stopped and something costs money on")


def innermost(error: BaseException) -> BaseException:
    """The first real error inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def simulate(plan: Plan, *, trace: bool = False) -> Result:
    """Live through a plan in a directory of its own."""
    with room() as directory, slowed(plan.slowness):
        universe = Universe(plan, directory)
        if trace:
            universe.trace = []
        violations = Life(universe).run()
        counts = universe.counts
        counts["effects"] = universe.loop.effects
        counts["calls"] = sum(bazaar.calls.total() for bazaar in universe.bazaars)
        result = Result(plan.seed, violations, universe.digest(), universe.loop.time() / HOUR, counts, universe.trace)
        universe.close()
    return result


def chaos(seed: int | str, *, hours: float = 24.0, slowness: float = 30.0, heal_hours: float = 24.0) -> Plan:
    """A world drawn from the seed."""
    dice = random.Random(f"{seed} plan")
    limits = scaler(
        max_workers=dice.randint(2, 8),
        max_hourly_budget=round(dice.uniform(1.0, 5.0), 2),
        poll_interval_sec=max(30.0, 4 * slowness),
        scale_up_threshold=dice.randint(1, 4),
        idle_timeout_sec=dice.choice((0.0, 120.0, 900.0)),
    )
    markets = [("clore", dice.randint(8, 16), False)]
    if dice.random() < 0.4:
        markets.append(("vault", dice.randint(4, 8), True))
    hosts = dice.choice((0, 0, 0, 1, 2))
    settings = settings_of(limits, hosts=hosts)
    return Plan(
        seed=seed, hours=hours, faults=drawn(dice), settings=settings, jobs=tuple(_jobs(dice, hours)),
        markets=tuple(markets), shuffle=dice.random() < 0.4, slowness=slowness, user_acts=dice.choice((0.0, 0.5, 3.0)),
        heal_hours=heal_hours,
    )  # fmt: skip


def big_fleet(*, machines: int = 200, hours: float = 24.0, evict_every_sec: float = 600.0) -> Plan:
    """Many machines at work for a day, one of which is taken away every ten minutes."""
    dice = random.Random("fleet")
    limits = scaler(
        max_workers=machines, max_hourly_budget=0.7 * machines, poll_interval_sec=600.0, scale_up_threshold=1
    )
    jobs = [
        JobPlan(at=0, work=Work(steps=dice.randint(4, 10), step_sec=1800, every=1), gpu_type=None)
        for _ in range(int(machines * hours / 4))
    ]
    return Plan(
        seed="fleet", hours=hours, settings=settings_of(limits), jobs=tuple(jobs), heal_hours=48.0,
        markets=(("clore", machines + machines // 4, False),), slowness=120.0, evict_every_sec=evict_every_sec,
    )  # fmt: skip


def _jobs(dice: random.Random, hours: float) -> Iterator[JobPlan]:
    """Some dozen jobs over the time of the faults, in bursts and alone."""
    for _ in range(dice.randint(2, 6)):
        at = dice.uniform(0, hours * HOUR * 0.8)
        many = dice.choice((1, 3, 10, 25))
        for _ in range(many):
            yield _job(dice, at)


def _job(dice: random.Random, at: float) -> JobPlan:
    work = Work(
        steps=dice.randint(3, 16), step_sec=float(dice.choice((20, 60, 240))), every=dice.randint(1, 5),
        code=1 if dice.random() < 0.05 else 0, leaves=dice.choice((0.0, 3.0, 60.0)),
    )  # fmt: skip
    gpu_type = dice.choice(("RTX 4090", "RTX 4090", "RTX 3090", None))
    return JobPlan(
        at=at, work=work, priority=dice.randint(1, 10), gpu_type=gpu_type,
        max_runtime_sec=dice.choice((None, None, None, 900)), retries=3 if dice.random() < 0.05 else 10_000,
        spec={"market": Market.SPOT} if dice.random() < 0.1 else {},
    )  # fmt: skip
