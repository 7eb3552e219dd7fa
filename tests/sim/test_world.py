"""The simulated world itself: jobs run to their end in virtual time, time costs nothing, and a seed is one history."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.life import slowed
from tests.sim.machines import Work
from tests.sim.world import JobPlan, Plan, Universe, scaler, settings_of

ROOT = Path(__file__).parents[2]


def test_ten_jobs_run_to_their_end(tmp_path: Path) -> None:
    plan = Plan(seed=1, settings=settings_of(scaler()))
    universe = Universe(plan, tmp_path)
    universe.user.submit([JobPlan(0, Work(steps=6, step_sec=300)) for _ in range(10)])
    with slowed(10.0):
        assert universe.live(exit_when_idle=True) == "stopped"
    checker = universe.checker
    for judge in (checker.jobs_kept, checker.jobs_over, checker.money_right, checker.fleet_right):
        judge()
    assert checker.violations == []
    assert universe.loop.time() > 1800
    universe.close()


def history(seed: int, hash_seed: str) -> str:
    """The hash of one world's history, as another process sees it."""
    command = [sys.executable, "-m", "tests.sim.campaign", "--seed", str(seed), "--hours", "2", "--slowness", "120"]
    environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("seed", [3, 11])
def test_a_seed_is_one_history_whatever_the_order_of_sets(seed: int) -> None:
    assert history(seed, "1") == history(seed, "2")
