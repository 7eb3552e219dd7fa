"""The simulated world itself: jobs run to their end in virtual time, and time costs nothing."""

from __future__ import annotations

from pathlib import Path

from tests.sim.machines import Work
from tests.sim.world import JobPlan, Plan, Universe, scaler, settings_of


def test_ten_jobs_run_to_their_end(tmp_path: Path) -> None:
    plan = Plan(seed=1, settings=settings_of(scaler()))
    universe = Universe(plan, tmp_path)
    universe.user.submit([JobPlan(0, Work(steps=6, step_sec=300)) for _ in range(10)])
    assert universe.live(exit_when_idle=True) == "stopped"
    assert universe.checker.violations == []
    universe.checker.jobs_kept()
    universe.checker.jobs_over()
    universe.checker.money_right()
    universe.checker.fleet_right()
    assert universe.checker.violations == []
    universe.close()
