"""`make crash N=200`: the real program killed again and again, each time in another phase of its work.

Real processes, a real SQLite file, the sandbox over real HTTP and SSH, jobs that count their own work. Every kill is a
SIGKILL at a moment that a seeded generator chooses: some time after the store says that a phase has begun, or some time
after the start. After each kill the files and the orders are compared, now and then everything is let come to rest and
checked whole (`verdict`). Ends with exit code 1 at the first thing that is wrong, and keeps the files then.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from gpuscale_tui.store import demand, events, workers
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.events import Event
from tests.crash import verdict
from tests.crash.world import PATIENCE_SEC, Submission, World, events_since, kill, new_world, until

REST_AFTER = 25
"""Kills between two complete checks."""
TRIGGER_SEC = 6.0
"""How long a phase is waited for; then the kill comes all the same."""
EVICTIONS = 8
ENOUGH = 3
ENDS_OF_A_STOP = (0, 1, -signal.SIGTERM)
"""All given back, not all given back, and a SIGTERM that came before the program listened for one."""
WEATHER = 0.4
"""Share of kills before which the marketplace is told to misbehave once."""
FAULTS: tuple[tuple[str, float], ...] = (
    ("create_delayed", 0.8), ("create_500_after_success", 0), ("create_reply_lost", 0), ("create_500", 0),
    ("cancel_500", 0), ("cancel_500_but_works", 0), ("cancel_lingers", 1.5), ("my_orders_500", 0),
)  # fmt: skip


def _worker(state: str) -> Callable[[Event], bool]:
    return lambda event: event.kind == "worker" and event.to_state == state


def _attempt(state: str) -> Callable[[Event], bool]:
    return lambda event: event.kind == "attempt" and event.to_state == state


PHASES: Mapping[str, Callable[[Event], bool]] = MappingProxyType(
    {
        "rent": _worker("ordering"),
        "order": lambda event: event.kind == "worker" and event.detail.startswith("order accepted"),
        "boot": _worker("booting"),
        "ready": lambda event: event.kind == "worker" and event.from_state == "booting" and event.to_state == "idle",
        "place": lambda event: event.kind == "job" and event.to_state == "running",
        "stage": _attempt("staging"),
        "run": _attempt("running"),
        "save": lambda event: event.kind == "checkpoint" or "snapshot" in event.detail,
        "saving": _attempt("saving"),
        "finish": _attempt("ended"),
        "release": _worker("releasing"),
        "asked": lambda event: event.kind == "worker" and event.detail.startswith("asked"),
        "released": _worker("released"),
    }
)
"""What the store notes when a phase of the engine's work has begun."""
OTHERS = ("start", "any", "submit", "stop", "evict", "twice")
QUIET = frozenset({"release", "asked", "released"})
"""Phases that come once the queue has run dry."""


@dataclass
class Campaign:
    """Kills one program after another."""

    world: World
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    deck: list[str] = field(default_factory=list)

    def run(self, count: int) -> list[str]:
        """Kill `count` times; returns what is wrong, at once when something is."""
        rested = 0
        while rested < count:
            wrong = self._one(self._draw()) or verdict.after_a_kill(self.world)
            done = self.kills.total()
            if not wrong and (done >= min(count, rested + REST_AFTER)):
                wrong, rested = self.rest(), done
                print(f"{done} kills, all at rest and checked: {len(wrong)} violations", flush=True)
            if wrong:
                return wrong
        return []

    def rest(self) -> list[str]:
        """Let everything come to rest, then check it whole."""
        program = self.world.start("--autopilot", "--exit-when-idle")
        try:
            code = program.wait(PATIENCE_SEC)
        except subprocess.TimeoutExpired:
            kill(program)
            return [f"nothing came to rest within {PATIENCE_SEC:g} s", *verdict.at_rest(self.world)]
        return [f"the program ended with {code}"] * (code != 0) + verdict.at_rest(self.world)

    def _draw(self) -> str:
        """Phases like cards of a deck, so that all are met equally often."""
        if not self.deck:
            self.deck = [*PHASES, *OTHERS]
            self.rng.shuffle(self.deck)
        return self.deck.pop()

    def _one(self, phase: str) -> list[str]:
        if phase == "submit":
            self._submit(cut=True)
            return []
        with self.world.open() as db:
            if phase not in QUIET:
                self._feed(db)
            self._weather()
            last = db.read(events.latest_id)
            program = self.world.start("--autopilot")
            self._await_moment(db, phase, last, program)
        if program.poll() is not None and (phase != "stop" or program.poll() not in ENDS_OF_A_STOP):
            return [f"the program ended by itself with {program.returncode} in phase {phase}"]
        self.kills[phase] += program.poll() is None
        kill(program)
        return []

    def _weather(self) -> None:
        """Now and then the marketplace misbehaves once, so that kills meet calls whose outcome is in doubt."""
        if self.rng.random() < WEATHER:
            name, value = self.rng.choice(FAULTS)
            self.world.market.fault(**{name: {"value": value, "count": 1} if value else 1})
            self.faults[name] += 1

    def _feed(self, db: Database) -> None:
        """Let there be something to do."""
        pending, running = (db.read(demand.count_by_state, state) for state in ("pending", "running"))
        if pending == 0 or pending + running < ENOUGH:
            self._submit(cut=False)

    def _await_moment(self, db: Database, phase: str, last: int, program: subprocess.Popen[bytes]) -> None:
        rng = self.rng
        if phase in PHASES:
            self._await_phase(db, phase, last, program)
            time.sleep(rng.choice((0.0, rng.uniform(0, 0.02), rng.uniform(0, 0.1), rng.uniform(0, 0.6))))
        elif phase == "start":
            time.sleep(rng.uniform(0.1, 1.2))
        elif phase == "any":
            time.sleep(rng.uniform(0.5, 4.0))
        elif phase == "twice":
            time.sleep(rng.uniform(0.3, 1.0))
            kill(self.world.start("--autopilot"))  # refused by the lock, or killed on its way to it
            time.sleep(rng.uniform(0.0, 0.5))
        elif phase == "stop":
            self._await_phase(db, rng.choice(("run", "boot", "ready")), last, program)
            program.send_signal(signal.SIGTERM)
            time.sleep(rng.uniform(0, 0.5))
        elif phase == "evict":
            self._await_phase(db, "run", last, program)
            time.sleep(rng.uniform(0, 0.5))
            self._evict()
            time.sleep(rng.uniform(0, 2.5))

    def _await_phase(self, db: Database, phase: str, last: int, program: subprocess.Popen[bytes]) -> None:
        begun = PHASES[phase]
        found = until(
            lambda: program.poll() is not None or any(begun(event) for event in events_since(db, last)),
            TRIGGER_SEC,
            0.004,
        )
        if not found:
            self.missed[phase] += 1

    def _evict(self) -> None:
        """Take away a machine that a job runs on. Its job may then begin elsewhere while the old one is just ending."""
        with self.world.open() as db:
            busy = [
                worker for worker in db.read(workers.live) if worker.state == "busy" and worker.order_id is not None
            ]
        alive = {str(order["order"]) for order in self.world.alive()}
        chosen = [worker.order_id for worker in busy if worker.order_id in alive]
        if chosen and len(self.world.evicted) < EVICTIONS:
            self.world.evicted.add(chosen[0] or "")
            self.world.market.evict(int(chosen[0] or 0))

    def _submit(self, *, cut: bool) -> None:
        """Submit a handful of jobs; with `cut` the verb is killed at some moment of its short life."""
        rng, world = self.rng, self.world
        key, count = f"s{len(world.submissions)}", rng.randint(2, 4)
        steps, every = rng.choice(((4, 0), (12, 0), (40, 13), (60, 20)))
        verb = world.start(*world.submit_words(key, count, steps, every, staged=rng.random() < 0.3))
        if cut:
            time.sleep(rng.uniform(0.05, 0.6))
            verb.send_signal(signal.SIGKILL)
            self.kills["submit"] += 1
        out, _ = verb.communicate(timeout=PATIENCE_SEC)
        told = len(out.split()) == count and out.endswith(b"\n")
        assert told or cut, out
        world.submissions.append(Submission(key, count, steps, told))


def run_campaign(kills: int, seed: int, root: Path) -> list[str]:
    """A whole campaign in an empty directory; prints what it did and returns what is wrong."""
    begun = time.monotonic()
    print(
        f"seed {seed}: {kills} kills (again: python -m tests.crash.campaign --kills {kills} --seed {seed})", flush=True
    )
    with new_world(root, seed) as world:
        campaign = Campaign(world, random.Random(seed))
        wrong = campaign.run(kills)
        with world.open() as db:
            print(verdict.as_json(verdict.summary(db, world)))
    print("killed in: " + ", ".join(f"{phase} {number}" for phase, number in sorted(campaign.kills.items())))
    print("the marketplace misbehaved: " + ", ".join(f"{name} {number}" for name, number in campaign.faults.items()))
    print("phases that did not come in time: " + (", ".join(map(str, campaign.missed.items())) or "none"))
    print(f"{campaign.kills.total()} kills in {time.monotonic() - begun:.0f} s, {len(wrong)} violations")
    return wrong


def main() -> int:
    """Run the campaign that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how often (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="which moments (default: new ones)")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 31) if args.seed is None else args.seed
    root = Path(tempfile.mkdtemp(prefix="gpuscale-crash-"))
    wrong = run_campaign(args.kills, seed, root)
    if wrong:
        print("\n".join(["VIOLATIONS:", *wrong, f"everything is kept in {root}"]))
        return 1
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
