"""Short lives of the simulated world that together come by every call of the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpuscale_tui.engine import commands, rehearsal
from gpuscale_tui.model.errors import Refused
from gpuscale_tui.model.settings import BudgetConfig, CheckpointConfig, MachinesConfig
from gpuscale_tui.store import engines, jobs, market, undoing, wallets
from gpuscale_tui.store.database import Database
from tests.crash.stage import Fate, Stage
from tests.sim.faults import Faults
from tests.sim.machines import STEP_FILE, Work
from tests.sim.world import SPOILT, JobPlan, Plan, scaler, settings_of

Act = Callable[[Stage], None]
WORKDIR = Path(__file__).with_name("workdir")
TRAIN = Work(steps=6, step_sec=20.0, every=2)
SHORT = Work(steps=1, step_sec=15.0, every=50)
"""Leaves no checkpoint."""
LONG = Work(steps=20, step_sec=30.0, every=5)
EAGER = Work(steps=40, step_sec=10.0, every=1)
STUBBORN = Work(steps=20, step_sec=30.0, every=5, leaves=500.0)
LIMITS = scaler(
    max_workers=3, max_hourly_budget=1.5, idle_timeout_sec=30.0, scale_up_threshold=1, lost_contact_sec=120.0
)


@dataclass(frozen=True, slots=True)
class Breaking:
    """The engine is ended once at the first call of this kind from this function, before or after it."""

    function: str
    kind: str
    moment: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world, what users and fate do in it at which second, and where its engine breaks down by itself."""

    name: str
    plan: Plan
    acts: tuple[tuple[float, Act], ...]
    broken_at: tuple[Breaking, ...] = ()


def submit(*works: Work, spec: dict[str, object] | None = None) -> Act:
    """Users submit jobs."""
    more = spec or {}
    return lambda universe: universe.user.submit([JobPlan(0, work, spec=more) for work in works])


def command(name: str, act: Callable[[Database, Stage], object]) -> Act:
    """Users ask something of the engine."""
    return lambda universe: universe.user.command(name, lambda db: act(db, universe))


def stop(*, at_once: bool) -> Act:
    """`gpuscale stop`."""
    return command("stop", lambda db, u: db.write(commands.stop, at_once=at_once, user="sim", now=u.now()))


def cancel(job_id: int) -> Act:
    """`gpuscale cancel`."""
    return command("cancel", lambda db, u: db.write(commands.cancel, [job_id], user="sim", now=u.now()))


def release(state: str) -> Act:
    """`gpuscale release` of the oldest worker in a state."""

    def act(db: Database, universe: Stage) -> None:
        found = db.connection.execute("SELECT min(id) FROM workers WHERE state = ?", (state,)).fetchone()[0]
        if found is not None:
            db.write(commands.release, found, user="sim", now=universe.now())

    return command("release", act)


def cancel_later(job_id: int, wait_ms: int) -> Act:
    """`x` on the screen: the engine hears it later, if it was not taken back."""
    return command("cancel", lambda db, u: db.write(jobs.request_cancel, [job_id], u.now(), "sim", wait_ms))


def take_back(job_id: int) -> Act:
    """`u` on the screen, after `cancel_later`."""

    def act(db: Database, universe: Stage) -> None:
        now, due_at = universe.now(), db.read(jobs.get, job_id).cancel_requested_at  # type: ignore[union-attr]
        if due_at is not None:
            steps = db.read(undoing.before, [job_id])
            db.write(undoing.undo_cancel, steps, asked_at=0, due_at=due_at, user="sim", now=now)

    return command("undo", act)


def release_later(wait_ms: int) -> Act:
    """`R` on the screen, for the oldest busy machine."""

    def act(db: Database, universe: Stage) -> None:
        found = db.connection.execute("SELECT min(id) FROM workers WHERE state = 'busy'").fetchone()[0]
        if found is not None:
            db.write(commands.release, found, user="sim", now=universe.now(), wait_ms=wait_ms)

    return command("release", act)


def scale(amount: int) -> Act:
    """`gpuscale scale up` or `down`."""

    def act(db: Database, universe: Stage) -> None:
        if amount > 0:
            db.write(commands.scale_up, amount, universe.settings, user="sim", now=universe.now())
        else:
            db.write(commands.scale_down, -amount, user="sim", now=universe.now())

    return command("scale", act)


def rent_by_hand(db: Database, universe: Stage) -> None:
    """The offer that is ranked first, as the screen would ask for it."""
    found = [row for row in db.read(market.offers) if not row.verdict]
    with suppress(Refused):
        db.write(commands.rent, found[0], universe.settings, user="sim", now=universe.now())


def rent_nothing(db: Database, universe: Stage) -> None:
    """A request that names no offer: it is refused."""
    db.write(engines.ask, "rent", 1, about="nothing", user="sim", now=universe.now())


def rented_once(universe: Stage) -> None:
    """What was asked for once was rented once, whenever the engine died."""
    [row] = universe.checker.rows("SELECT count(*) AS count FROM workers WHERE purpose = 'hand'")
    if row["count"] > 1:
        universe.checker.fail("I1", f"one machine was asked for by hand and {row['count']} were rented")


def rehearse(job_id: int, *, elsewhere: bool = False) -> Act:
    """`gpuscale drill`."""

    def act(db: Database, universe: Stage) -> None:
        with suppress(Refused):  # it may have ended while the engine was down
            db.write(rehearsal.ask, job_id, elsewhere=elsewhere, user="sim", now=universe.now())

    return command("drill", act)


def moved_once(universe: Stage) -> None:
    """A rehearsal moves a job once, whenever the engine died."""
    moves = "SELECT job_id, count(*) AS count FROM events WHERE detail LIKE 'rehearsal of a move: it has%' GROUP BY 1"
    for row in universe.checker.rows(moves):
        if row["count"] > 1:
            universe.checker.fail("I4", f"j{row['job_id']} was moved {row['count']} times for one rehearsal")


def evict(universe: Stage) -> None:
    """The oldest machine of ours is taken away."""
    for order in universe.bazaars[0].living()[:1]:
        universe.bazaars[0].end(order, "evicted")


def each_machine(act: str, *words: float) -> Act:
    """Something befalls every machine that lives."""

    def befall(universe: Stage) -> None:
        for order in universe.bazaars[0].living():
            if order.machine is not None:
                getattr(order.machine, act)(*words)

    return befall


def fate(**changed: Any) -> Act:
    """From now on the world has this fate, and no other."""

    def act(universe: Stage) -> None:
        universe.fate = replace(Fate(), **changed)

    return act


def foreign(universe: Stage) -> None:
    """Somebody else rents on the same account."""
    universe.bazaars[0].someone_else()


def faults(**changed: float) -> Act:
    """From now on this goes wrong, and nothing else."""

    def act(universe: Stage) -> None:
        universe.faults = replace(Faults(), **changed)  # type: ignore[arg-type]

    return act


def spoil(universe: Stage) -> None:
    """The newest snapshot of every job has lost a file on the disk."""
    for job in sorted(universe.home.checkpoints.glob("j*")):
        numbers = sorted((path for path in job.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
        for path in numbers[-1:]:
            (path / "files" / STEP_FILE).unlink()


def block(universe: Stage) -> None:
    """Snapshots cannot be kept: a file is where their directory should be."""
    if universe.home.checkpoints.is_dir():
        universe.home.checkpoints.rmdir()
    universe.home.checkpoints.write_text("in the way")


def unblock(universe: Stage) -> None:
    """Snapshots can be kept again."""
    if universe.home.checkpoints.is_file():
        universe.home.checkpoints.unlink()


def failing_test(universe: Stage) -> None:
    """The machines that live now show no GPU."""
    for order in universe.bazaars[0].living():
        if order.machine is not None:
            order.machine.cards = ()


def forget_provider(universe: Stage) -> None:
    """A wallet at a provider that is not enabled any more."""
    with Database(universe.home.database) as db:
        db.write(wallets.record, "elsewhere", "USD", 1, universe.now())


def terminate(universe: Stage) -> None:
    """SIGTERM: save, give back, and end within the grace."""
    if universe.context is not None:
        universe.context.control.stop(at_once=True, now=universe.now())
        universe.loop.ring()


def down(seconds: float) -> Act:
    """The bastion is off for a while."""

    def act(universe: Stage) -> None:
        universe.down_sec = seconds
        universe.detach()

    return act


def spoil_secrets(universe: Stage) -> None:
    """The files with the values of secrets make no sense."""
    for path in universe.home.secrets.iterdir():
        path.write_text("{")


def mend_secrets(universe: Stage) -> None:
    """They do again."""
    for path in universe.home.secrets.iterdir():
        path.write_text('{"TOKEN": "x"}')


def when(probe: Callable[[Stage], bool], *acts: Act) -> Act:
    """As soon as something is so, looked at every other second for ten minutes."""

    def look(universe: Stage, left: int = 300) -> None:
        if probe(universe):
            for act in acts:
                act(universe)
        elif left:
            universe.loop.outside(2.0, lambda: look(universe, left - 1))

    return look


def saved(universe: Stage) -> bool:
    """Whether there is a snapshot of some job."""
    return bool(universe.checker.rows("SELECT 1 FROM snapshots LIMIT 1"))


def goes_on(universe: Stage) -> bool:
    """Whether a job runs that went on from a snapshot."""
    return bool(universe.checker.rows("SELECT 1 FROM attempts WHERE state = 'running' AND resumed_from IS NOT NULL"))


def die(universe: Stage) -> None:
    """The engine ends where it stands."""
    universe.loop.kill()


def write_settings(banner: str = "", **scaler_settings: Any) -> Act:
    """A user changes settings, and the engine is asked to read them anew."""

    def act(universe: Stage) -> None:
        before = universe.written or universe.settings
        scaled = replace(before.scaler, **scaler_settings)
        universe.written = replace(before, scaler=scaled, ui=replace(before.ui, banner=banner))
        universe.user.command("reload", lambda db: db.write(commands.reload, user="sim", now=universe.now()))

    return act


def spend_freely(universe: Stage) -> None:
    """The budget is lifted; that counts from the next start."""
    universe.settings = replace(universe.settings, budget=BudgetConfig())
    universe.detach()


def ask_save(job_id: int) -> Act:
    """`gpuscale checkpoints save`."""
    return command("save", lambda db, u: db.write(jobs.ask_save, job_id, user="sim", now=u.now()))


def plan(name: str, *, budget: BudgetConfig | None = None, quota_mb: float = 0.0, **limits: Any) -> Plan:
    """A world with one marketplace."""
    settings = settings_of(replace(LIMITS, **limits))
    clore = replace(settings.providers.clore, order_type="on-demand")
    return Plan(
        seed=name,
        settings=replace(
            settings, budget=budget or BudgetConfig(), providers=replace(settings.providers, clore=clore),
            checkpoints=CheckpointConfig(interval_sec=45.0, keep=1, quota_mb=quota_mb),
            machines=MachinesConfig(pause_minutes=1.0),
        ),
    )  # fmt: skip


def made(name: str, *acts: tuple[float, Act], broken_at: Sequence[Breaking] = (), **limits: Any) -> Scenario:
    """A scenario with its own world."""
    return Scenario(name, plan(name, **limits), acts, tuple(broken_at))


SECRET: dict[str, object] = {"secret_env": {"TOKEN": "x"}}
BRINGS: dict[str, object] = {"workdir": str(WORKDIR), "checkpoint_dir": "out"}
DATA: dict[str, object] = {"data": {"corpus": str(WORKDIR), "readme": str(WORKDIR / "README.txt")}}
LEAVES = Work(steps=2, step_sec=15.0, every=50, outputs=2)
"""Leaves outputs, one of them a link that is not fetched."""
ALL = (
    made("quiet", (0, foreign), (1, submit(TRAIN, TRAIN, SHORT, SHORT))),
    made("brings", (1, submit(TRAIN, spec=BRINGS)), (150, evict)),
    made("brings data", (1, submit(LEAVES, LEAVES, spec=DATA)), (500, submit(LEAVES, spec=DATA))),
    made(
        "moved", (0, foreign), (1, submit(TRAIN, TRAIN, TRAIN, SHORT)), (30, scale(1)), (120, evict),
        (170, release("busy")), (220, scale(-1)), (260, cancel(2)), (270, submit(SHORT)), (272, cancel(5)),
    ),
    made("cold link", (1, scale(1)), (180, each_machine("reset")), (181, submit(SHORT)), idle_timeout_sec=400.0),
    made("stopped", (1, submit(TRAIN, TRAIN, SHORT)), (130, stop(at_once=True)), (300, submit(SHORT))),
    made("drained", (1, submit(TRAIN, SHORT)), (150, stop(at_once=False)), (152, submit(SHORT))),
    made("lost reply", (0, faults(create_lost=1.0)), (1, submit(TRAIN)), (60, faults())),
    made("unseen", (0, faults(create_late=1.0)), (1, submit(SHORT, TRAIN)), (100, faults())),
    made("late", (0, fate(late_sec=330.0)), (1, submit(SHORT)), (30, fate()), (500, submit(SHORT))),
    made(
        "no order", (0, faults(create_500=1.0)), (1, submit(SHORT)), (20, release("ordering")), (60, faults()),
        (300, submit(SHORT)),
    ),
    made("refused", (0, faults(create_refused=1.0)), (1, submit(SHORT)), (90, faults())),
    made(
        "lists fail", (1, submit(TRAIN)), (60, faults(list_error=1.0, offers_error=1.0)), (100, submit(SHORT)),
        (200, faults(list_twice=1.0)), (260, faults()),
    ),
    made("stays", (1, submit(SHORT)), (60, faults(release_error=1.0)), (240, faults()), (241, submit(SHORT))),
    made(  # what is hidden from us costs on beside what replaces it: the cap has room for both
        "forgotten", (1, submit(LONG, LONG)), (200, fate(listed=False)), (440, fate()), (500, submit(SHORT)),
        max_hourly_budget=3.0,
    ),
    made("dearer", (0, fate(dearer=20_000)), (1, submit(SHORT))),
    made("hangs", (0, faults(boot_hangs=1.0)), (1, submit(SHORT)), (60, faults()), (700, submit(SHORT))),
    made("skewed", (0, fate(skew_ms=-3_600_000, dollars=-1.0)), (1, submit(SHORT)), (150, fate())),
    made(
        "held", (1, submit(TRAIN)), (110, faults(release_error=1.0)), (111, stop(at_once=True)), (300, faults()),
        (301, submit(SHORT)), shutdown_grace_sec=20.0,
    ),
    made("bare", (0, fate(bare=True)), (1, submit(SHORT)), (150, fate())),
    made("no GPU", (1, submit(SHORT)), (12, failing_test), (400, submit(SHORT))),
    made("torn", (1, submit(TRAIN)), (2, when(saved, evict, faults(fills=1.0))), (400, faults())),
    made("rotten", (1, submit(TRAIN)), (2, when(saved, spoil, evict)), (400, submit(SHORT))),
    made("in the way", (1, block), (2, submit(TRAIN)), (240, unblock)),
    made("restarts", (1, submit(TRAIN, SHORT)), (110, each_machine("restart")), (300, submit(SHORT))),
    made("parted", (1, submit(TRAIN)), (110, each_machine("part", 400.0)), (600, submit(SHORT))),
    made(
        "returns", (1, submit(LONG)), (200, each_machine("part", 150.0)), (450, submit(SHORT)), lost_contact_sec=400.0
    ),
    made(
        "stands still", (1, submit(Work(steps=2, step_sec=300.0, every=9))), (100, fate(still=True)), (320, fate()),
        stalled_minutes=2.0,
    ),
    made("dies", (1, submit(TRAIN)), (110, each_machine("die")), (500, submit(SHORT))),
    made("expires", (0, fate(ends_in_sec=200.0)), (1, submit(TRAIN, TRAIN)), (190, fate()), expiry_lead_sec=60.0),
    made("bids", (0, fate(outbid=True)), (1, submit(TRAIN)), (200, fate()), (300, fate(outbid=True)), (340, fate())),
    made(
        "poor", (0, forget_provider), (0, fate(dollars=0.6)), (1, submit(TRAIN, TRAIN)), (100, fate()),
        (400, submit(SHORT)),
    ),
    made(
        "budget", (1, submit(TRAIN, TRAIN, TRAIN, spec={"project": "poor"})), (300, spend_freely),
        budget=BudgetConfig(daily=50.0, monthly=90.0, per_job=5.0, projects={"poor": 0.03}),
    ),
    made("resumes", (1, submit(TRAIN, SHORT)), broken_at=[Breaking("AttemptRun", "log", "after")]),
    made("resumes twice", (1, submit(TRAIN)), (2, when(saved, evict)), (3, when(goes_on, die))),
    made("recalls", (1, submit(TRAIN)), broken_at=[Breaking("AttemptRun._finish", "commit", "after")]),
    made(
        "stops and breaks", (1, submit(TRAIN)), (110, stop(at_once=True)),
        broken_at=[Breaking("Stopping.watch", "ssh stop", "after")],
    ),
    made("terminated", (1, submit(TRAIN)), (110, faults(release_error=1.0)), (111, terminate), (300, faults()),
        shutdown_grace_sec=20.0,
    ),
    made("silent engine", (1, submit(TRAIN)), (90, down(400.0)), lease_hours=0.03),
    made("no secrets", (1, submit(SHORT, spec=SECRET)), (2, spoil_secrets), (150, mend_secrets)),
    made(
        "reads anew", (1, submit(LONG, LONG, LONG)), (40, write_settings(max_hourly_budget=0.3)),
        (200, write_settings(lease_hours=3.0)), (260, write_settings(banner=SPOILT)), (300, write_settings(banner="")),
    ),
    made(
        "takes back", (1, submit(LONG, LONG, TRAIN)), (150, cancel_later(3, 45_000)), (151, evict),
        (152, cancel_later(2, 30_000)), (160, take_back(2)), (170, release_later(60_000)),
        (175, cancel_later(1, 20_000)), (180, die),
    ),
    made(
        "by hand", (1, submit(SHORT)), (20, command("rent", rent_by_hand)), (60, command("rent", rent_nothing)),
        (200, submit(SHORT)), (400, rented_once),
    ),
    made("asks to save", (1, submit(LONG)), (200, ask_save(1)), (260, ask_save(1)), (261, evict)),
    made("full of snapshots", (1, submit(LONG)), (480, evict), quota_mb=0.000_1),
    made(  # it needs longer than its machine stays
        "hurries", (1, submit(STUBBORN, spec={"grace_sec": 600})), (200, cancel(1)), (211, release("busy")),
        (401, submit(SHORT)), shutdown_grace_sec=40.0,
    ),
    made(  # its machine waits for what it has left
        "is slow", (1, submit(EAGER)), (200, faults(op_slow_sec=6.0)), (201, release("busy")), (400, faults()),
        shutdown_grace_sec=30.0,
    ),
    made(
        "rehearses", (1, submit(LONG, spec={"rehearse": True})), (2, submit(TRAIN)), (150, rehearse(2, elsewhere=True)),
        (900, moved_once),
    ),
    made("odd replies", (0, fate(odd=True)), (30, fate()), (31, submit(SHORT))),
)  # fmt: skip
SCENARIOS = {scenario.name: scenario for scenario in ALL}
