"""Crash at every await: each call of the engine on store, files, providers or machines, by name, and what follows.

`trace` lives through a scenario and notes each such call with the place in the engine that waits for it. `crash` lives
through it again up to one of these calls and abandons the engine there (no `finally` of it runs):

    before   the call is never made
    flying   the request is on its way and will arrive (calls that travel only)
    after    the call has taken place, and its result is never heard of

The next engine starts on a copy of the files as they were at that instant, in the same world. In the end everything
must have come right, by the judge of the simulation.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import gpuscale_tui.engine
from gpuscale_tui.store.home import Home
from tests.crash.scenarios import SCENARIOS, Breaking, Scenario
from tests.crash.stage import DOWN_SEC, Stage
from tests.sim.life import room, slowed
from tests.sim.loop import Effect, Spinning, Stuck
from tests.sim.world import HOUR

T = TypeVar("T")
ENGINE = str(Path(gpuscale_tui.engine.__file__).parent)
PASSED_THROUGH = frozenset({"context", "steady"})
"""Modules that only pass a call on: who asked for it is the place."""
PATIENCE_HOURS = 30.0
"""Time of the world after which everything must have come to rest."""
FLIGHT_SEC = 40.0
"""How long a request to a provider is still on its way after the crash; SSH ends with its connection."""
SLOWNESS = 10.0


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A place in the engine that waits for a call: `module.function:line`, and what is called there."""

    module: str
    function: str
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.module}.{self.function}:{self.line} {self.kind}"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a traced life. `number` counts from 1; `heard`: the engine still lived when it had taken place."""

    number: int
    point: Point
    travels: bool
    heard: bool = False

    @property
    def moments(self) -> tuple[str, ...]:
        """How the engine may be ended at this call."""
        return ("before", *(["flying"] if self.travels else []), *(["after"] if self.heard else []))


class NumberedKind(str):
    """The kind of an effect, which remembers the number of its call."""

    __slots__ = ("number",)
    number: int


def where_from() -> tuple[str, str, int]:
    """The innermost place in the engine from which this is called: module, function, line."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(ENGINE) and Path(code.co_filename).stem not in PASSED_THROUGH:
            return Path(code.co_filename).stem, code.co_qualname, frame.f_lineno
        frame = frame.f_back
    return "(start)", "open", 0


@dataclass
class Tracer:
    """Numbers the calls of a universe's engines, and ends the engine at one of them."""

    universe: Stage
    target: tuple[int, str] | None = None
    broken_at: list[Breaking] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    crashed: Point | None = None
    crashes: int = 0

    def __post_init__(self) -> None:
        self._effect = self.universe.loop.effect
        self.universe.loop.effect = self.effect  # type: ignore[method-assign]
        self.universe.on_effect = self._happened

    def effect(self, kind: str, act: Callable[[], T], *, travels: bool = False, **more: Any) -> asyncio.Future[T]:
        """Stands in for the loop's own."""
        call = Call(len(self.calls) + 1, Point(*where_from(), kind), travels)
        self.calls.append(call)
        numbered = NumberedKind(kind)
        numbered.number = call.number
        if self.target == (call.number, "before"):
            self.crash(call.point)
            return self.universe.loop.create_future()
        if self._breaks(call.point, "before"):
            self.abandon()
            return self.universe.loop.create_future()
        flying = self.target == (call.number, "flying")
        if flying and not kind.startswith("ssh"):
            more["delay"] = FLIGHT_SEC
        future = self._effect(numbered, act, travels=travels, **more)
        if flying:
            self.crash(call.point)
        return future

    def _happened(self, effect: Effect) -> bool:
        if not effect.after or not isinstance(effect.kind, NumberedKind):
            return False
        number = effect.kind.number
        point = self.calls[number - 1].point
        self.calls[number - 1] = replace(self.calls[number - 1], heard=True)
        if self.target == (effect.kind.number, "after"):
            self.crash(point)
        elif self._breaks(point, "after"):
            self.abandon()
        else:
            return False
        return True

    def _breaks(self, point: Point, moment: str) -> bool:
        """Whether the scenario itself ends the engine here; each such place counts once."""
        for each in self.broken_at:
            here = point.function.startswith(each.function) and each.kind in point.kind
            if here and each.moment == moment:
                self.broken_at.remove(each)
                return True
        return False

    def crash(self, point: Point) -> None:
        """End the engine where this test wants it."""
        self.crashed = point
        self.abandon()

    def abandon(self) -> None:
        """The process is gone; what the disk has at this instant is what the next one finds."""
        universe, old = self.universe, self.universe.home.path
        self.crashes += 1
        copy = old.with_name(f"after crash {self.crashes}")
        shutil.copytree(old, copy, ignore=shutil.ignore_patterns("*-shm", "*.sock"))
        universe.home = Home(copy)
        universe.checker.open()
        universe.loop.kill()


def live(scenario: Scenario, directory: Path, target: tuple[int, str] | None = None) -> Tracer:
    """Live through a scenario, restarting the engine whenever it ends while something is left to do."""
    universe = Stage(scenario.plan, directory)
    tracer = Tracer(universe, target, list(scenario.broken_at))
    for at, act in scenario.acts:
        universe.loop.outside(at, lambda act=act: act(universe))  # type: ignore[misc]
    last = max(at for at, _ in scenario.acts)
    checker = universe.checker
    universe.loop.outside(last + 1, universe.detach)  # the next engine ends by itself
    universe.loop.outside(
        last + PATIENCE_HOURS * HOUR,
        lambda: checker.fail("I10", f"not at rest {PATIENCE_HOURS:g} h after the last act"),
    )
    try:
        while not checker.violations:
            how = universe.live(exit_when_idle=universe.loop.time() > last)
            if how == "stopped" and universe.loop.time() > last and not universe.burn():
                break
            universe.idle(universe.down_sec)
            universe.down_sec = DOWN_SEC
        for judge in (checker.jobs_kept, checker.jobs_over, checker.money_right, checker.fleet_right, checker.sound):
            if not checker.violations:
                judge()
    except (Spinning, Stuck) as error:
        checker.violations.append(str(error))
    finally:
        universe.close()
    return tracer


def trace(scenario: Scenario) -> list[Call]:
    """Every call of a scenario that nothing interrupts. Raises AssertionError when it does not end well by itself."""
    with room() as directory, slowed(SLOWNESS):
        tracer = live(scenario, directory)
    assert not tracer.universe.checker.violations, (scenario.name, tracer.universe.checker.violations)
    return tracer.calls


@dataclass(frozen=True, slots=True)
class Crash:
    """Where to end the engine: a call of a scenario and the moment."""

    scenario: str
    number: int
    moment: str
    point: Point

    def __str__(self) -> str:
        return f"{self.point} {self.moment} ({self.scenario} {self.number})"


def crash(planned: Crash) -> list[str]:
    """Carry out one crash; returns what is wrong afterwards."""
    with room() as directory, slowed(SLOWNESS):
        tracer = live(SCENARIOS[planned.scenario], directory, (planned.number, planned.moment))
    if tracer.crashed != planned.point:
        return [f"{planned}: the life was another one, it was ended at {tracer.crashed}"]
    return [f"{planned}: {text}" for text in tracer.universe.checker.violations]


def all_calls() -> dict[str, list[Call]]:
    """Every call of every scenario, the shortest lives first."""
    traced = {scenario.name: trace(scenario) for scenario in SCENARIOS.values()}
    return dict(sorted(traced.items(), key=lambda each: len(each[1])))


def plan_crashes(most: int, traced: Mapping[str, Sequence[Call]], *, seed: int = 0) -> list[Crash]:
    """At most so many crashes: first every named point at every moment; then every call of a provider that is the first
    of its kind in a scenario; then further calls drawn from the seed."""
    firsts: list[Crash] = []
    dear: list[Crash] = []
    rest: list[Crash] = []
    seen: set[object] = set()
    for name, calls in traced.items():
        for call in calls:
            for moment in call.moments:
                new = Crash(name, call.number, moment, call.point)
                here, here_too = (call.point, moment), (name, call.point.kind, moment)
                dearer = call.travels and not call.point.kind.startswith("ssh") and here_too not in seen
                (firsts if here not in seen else dear if dearer else rest).append(new)
                seen |= {here, here_too}
    random.Random(seed).shuffle(rest)
    return (firsts + dear + rest)[:most]


def points_of(crashes: Sequence[Crash]) -> dict[Point, list[Crash]]:
    """The crashes by point."""
    found: dict[Point, list[Crash]] = {}
    for planned in crashes:
        found.setdefault(planned.point, []).append(planned)
    return dict(sorted(found.items()))


def run_all(crashes: Sequence[Crash], workers: int) -> Iterator[tuple[Crash, list[str]]]:
    """Carry out crashes on several cores."""
    with ProcessPoolExecutor(workers) as pool:
        yield from zip(crashes, pool.map(crash, crashes, chunksize=4), strict=True)


def main() -> int:
    """List the points, or crash at them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=int, metavar="N", help="crash N times, at every point first")
    parser.add_argument("--seed", type=int, default=0, help="which further calls (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (default: %(default)s)")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)  # scenarios in which our own code fails say so at length
    begun = time.monotonic()
    crashes = plan_crashes(args.run or 1 << 40, all_calls(), seed=args.seed)
    if args.run is None:
        for point, planned in points_of(crashes).items():
            moments = Counter(each.moment for each in planned)
            print(f"{point}: " + ", ".join(f"{moment} {number}" for moment, number in moments.items()))
        print(f"{len(points_of(crashes))} points, {len(crashes)} crashes possible")
        return 0
    violations = 0
    for number, (_, wrong) in enumerate(run_all(crashes, args.jobs), 1):
        violations += len(wrong)
        for text in wrong:
            print(text, flush=True)
        if number % 100 == 0 or number == len(crashes):
            print(f"{number} crashes in {time.monotonic() - begun:.0f} s: {violations} violations", flush=True)
    print(f"of {len(points_of(crashes))} points")
    return int(bool(violations))


if __name__ == "__main__":
    sys.exit(main())
