"""Faults that lives under the simulation brought to light, each as the shortest story that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuscale_tui.engine import service
from gpuscale_tui.engine.context import Bells
from tests.sim.faults import Faults
from tests.sim.life import slowed
from tests.sim.loop import VirtualLoop
from tests.sim.machines import Work
from tests.sim.world import HOUR, JobPlan, Plan, Universe, scaler, settings_of

JOBS = tuple(JobPlan(at=0, work=Work(steps=4, step_sec=30)) for _ in range(6))


def story(universe: Universe, *, slowness: float = 1.0) -> None:
    """Let an engine work through the plan's jobs in a world with its faults, and judge what came of it."""
    universe.user.submit(list(universe.plan.jobs))
    with slowed(slowness):
        ended = universe.live(exit_when_idle=True)
    checker = universe.checker
    if ended == "stopped":
        for judge in (checker.jobs_kept, checker.jobs_over, checker.money_right, checker.fleet_right):
            judge()
    assert checker.violations == []
    assert ended == "stopped"
    universe.close()


def test_old_lists_after_a_new_one_do_not_make_a_machine_lost(tmp_path: Path) -> None:
    """Found by seed 1: the list showed an order, then twice its state of before; the order counted as gone and cost on,
    beside the cap."""
    plan = Plan(seed="old lists", faults=Faults(list_stale=0.9), settings=settings_of(scaler()), jobs=JOBS)
    story(Universe(plan, tmp_path))


def test_one_empty_list_does_not_settle_an_order_in_doubt(tmp_path: Path) -> None:
    """Found by seed 6: lists of the first minute lacked the order, as they may, and the first one after it was empty
    against the truth: the order counted as never made."""
    faults = Faults(create_late=0.9, list_empty=0.3)
    plan = Plan(seed="empty lists 6", faults=faults, settings=settings_of(scaler()), jobs=JOBS)
    story(Universe(plan, tmp_path), slowness=30.0)


def test_a_service_that_fails_for_a_day_does_not_end_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by seed 12: the pause after the 1024th failure was a number too large, and that ended the engine."""
    loop = VirtualLoop()
    asked: list[float] = []

    class Failing:
        name = "failing"

        async def tick(self) -> float:
            asked.append(loop.time())
            raise ValueError("again")

    class Told:
        bells = Bells(("failing",))

        async def warn(self, detail: str) -> None:
            """Nobody is told."""

    monkeypatch.setattr(service.LOGGER, "error", lambda *_words, **_more: None)

    async def watch() -> None:
        async with service.asyncio.timeout(30 * HOUR):
            await service.serve(Told(), Failing())  # type: ignore[arg-type]

    with pytest.raises(TimeoutError):
        loop.live(watch())
    assert len(asked) > 1500
    loop.close()


def test_a_silent_host_of_our_own_is_not_given_back_while_its_job_runs(tmp_path: Path) -> None:
    """Found by seed 2004: out of reach for half an hour it was freed, its job ran elsewhere and there at once."""
    settings = settings_of(scaler(idle_timeout_sec=0.0), hosts=1)
    jobs = (JobPlan(at=0, work=Work(steps=20, step_sec=240)),)
    universe = Universe(Plan(seed="silent", settings=settings, jobs=jobs, markets=(("clore", 4, False),)), tmp_path)
    own = universe.machines["own0.example"]
    universe.loop.outside(600, lambda: own.part(2400))
    story(universe, slowness=20.0)
