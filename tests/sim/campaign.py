"""Many worlds at once: `make sim SEEDS=1000`, or one of them again: `make sim SEED=17`.

A world that breaks an invariant is named with its seed; living through that seed again gives the same history to the
last byte, so it can be looked at for as long as it takes.
"""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial

from tests.sim.life import big_fleet, chaos, simulate
from tests.sim.world import Result

WORLDS_A_PROCESS = 25
"""What a killed engine leaves behind is never given back: a process that has seen many of them is replaced."""
TOLD_EVERY = 50


@dataclass(frozen=True, slots=True)
class Size:
    """How long each world lives with faults (hours), and by how much the engine's idle looks are rarer in it."""

    hours: float
    slowness: float


@dataclass(slots=True)
class Tally:
    """What a campaign came to."""

    worlds: int = 0
    hours: float = 0.0
    broken: int = 0
    counts: Counter[str] | None = None

    def add(self, result: Result) -> None:
        self.worlds += 1
        self.hours += result.hours
        self.broken += bool(result.violations)
        self.counts = (self.counts or Counter()) + result.counts


def live_one(size: Size, seed: int) -> Result:
    """One world, alone in what it prints and collects."""
    logging.disable(logging.CRITICAL)
    gc.disable()
    result = simulate(chaos(seed, hours=size.hours, slowness=size.slowness))
    gc.enable()
    return result


def campaign(seeds: range, size: Size, processes: int) -> Tally:
    """Live through all seeds; prints each broken world as it ends."""
    tally = Tally()
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, maxtasksperchild=WORLDS_A_PROCESS) as pool:
        for result in pool.imap_unordered(partial(live_one, size), seeds):
            tally.add(result)
            for violation in result.violations:
                print(f"seed {result.seed}: {violation}", flush=True)
            if tally.worlds % TOLD_EVERY == 0:
                print(f"{tally.worlds} of {len(seeds)} worlds, {tally.broken} broken", file=sys.stderr, flush=True)
    return tally


def show(seed: int, size: Size) -> int:
    """Live through one seed and print its history."""
    logging.disable(logging.CRITICAL)
    result = simulate(chaos(seed, hours=size.hours, slowness=size.slowness), trace=True)
    for line in result.trace or ():
        print(line)
    print(f"seed {seed}: {result.hours:.1f} simulated hours, history {result.digest}")
    for violation in result.violations:
        print(f"seed {seed}: {violation}")
    return 1 if result.violations else 0


def fleet(machines: int) -> int:
    """A day of many machines, one of which is taken away every ten minutes."""
    logging.disable(logging.CRITICAL)
    begun = time.monotonic()
    result = simulate(big_fleet(machines=machines))
    counts, wall = result.counts, time.monotonic() - begun
    print(
        f"{machines} machines, {result.hours:.1f} simulated hours in {wall:.0f} s: {counts['order']}"
        f" orders, {counts['evicted'] + counts['outbid']} taken away, {counts['effects']} effects;"
        f" {result.violations or 'nothing lost, books equal to the bill'}"
    )
    return 1 if result.violations else 0


def main() -> int:
    """The command line; exit code 1 when an invariant was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="one seed again, with its history")
    parser.add_argument("--hours", type=float, default=24.0, help="simulated hours with faults; those without follow")
    parser.add_argument("--slowness", type=float, default=120.0, help="by how much idle looks of the engine are rarer")
    parser.add_argument("--fleet", type=int, metavar="MACHINES", help="instead: a day of so many machines")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 2)
    asked = parser.parse_args()
    size = Size(asked.hours, asked.slowness)
    if asked.fleet is not None:
        return fleet(asked.fleet)
    if asked.seed is not None:
        return show(asked.seed, size)
    begun = time.monotonic()
    tally = campaign(range(asked.first, asked.first + asked.seeds), size, asked.processes)
    wall, counts = time.monotonic() - begun, tally.counts or Counter()
    print(
        f"{tally.worlds} worlds, {tally.hours:.0f} simulated hours in {wall:.0f} s on {asked.processes} processes"
        f" ({tally.hours * 3600 / wall:,.0f} times as fast as the clock): {counts['order']} orders,"
        f" {counts['kill']} engines killed, {counts['calls']} calls of marketplaces, {counts['effects']} effects;"
        f" {tally.broken} broke an invariant"
    )
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
