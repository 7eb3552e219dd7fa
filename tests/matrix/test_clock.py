"""F19: the clock of this computer jumps, is wrong from the start, or stands still while the computer sleeps."""

from __future__ import annotations

import pytest

from gpuscale_tui.engine.steady import Steady
from tests.engine.conftest import WAIT, until
from tests.matrix.invariants import check
from tests.matrix.scene import LINES, LINES_OUT, Scene

HOUR = 3_600_000
JUMPS = {"an hour ahead": HOUR, "a day back": -24 * HOUR}


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS.keys())
def test_f19_a_clock_that_is_wrong_from_the_start(scene: Scene, jump: int) -> None:
    """I1 I2 I8 I10: our orders are recognised, machines get their time to come up, the bill is the marketplace's."""
    scene.clock.ahead_ms = jump
    [job] = scene.submit()
    scene.drain(max_workers=1)
    assert len(scene.orders()) == 1
    assert scene.rig.output(job) == LINES_OUT
    check(scene, {job: "done"})


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS.keys())
def test_f19_a_clock_that_jumps_in_mid_run(scene: Scene, jump: int) -> None:
    """I1 I2 I8 I10: neither a sleep of hours nor a clock set back loses a machine, a job or a heartbeat."""
    [job] = scene.submit(f"{WAIT} {LINES}")
    with scene.engine(max_workers=1) as engine:
        until(lambda: scene.state(job) == "running")
        scene.clock.ahead_ms += jump
        calls = len(scene.calls("my_orders"))
        until(lambda: len(scene.calls("my_orders")) >= calls + 3)
        assert scene.state(job) == "running"
        scene.rig.gate.touch()
        scene.ended(engine)
    assert scene.rig.job(job).attempt == 1
    check(scene, {job: "done"})


def test_f19_a_clock_that_was_set_back_between_two_engines(scene: Scene) -> None:
    """I1 I8 I10: what the first engine noted lies in the future of the second one, which goes on all the same."""
    scene.clock.ahead_ms = 24 * HOUR
    [job] = scene.submit(f"{WAIT} {LINES}")
    with scene.engine(max_workers=1):
        until(lambda: scene.state(job) == "running")
    scene.clock.ahead_ms = 0
    scene.rig.gate.touch()
    scene.drain(max_workers=1)
    assert scene.rig.job(job).attempt == 1
    check(scene, {job: "done"})


def test_f19_the_engines_clock_never_goes_back() -> None:
    """I10: it follows the wall forward, and goes on by the time that passes until a wall that was set back is there."""
    wall, passed = [1_000_000], [50.0]
    clock = Steady(lambda: wall[0], lambda: passed[0])

    def after(wall_ms: int, seconds: float) -> int:
        wall[0] += wall_ms
        passed[0] += seconds
        return clock()

    assert after(1_000, 1.0) == 1_001_000
    assert after(HOUR, 1.0) == 1_001_000 + HOUR, "a sleep, or a clock that was put right"
    assert after(-24 * HOUR, 2.0) == 1_003_000 + HOUR
    assert after(500, 0.5) == 1_003_500 + HOUR
    assert abs([after(0, 0.01) for _ in range(100)][-1] - 1_004_500 - HOUR) <= 1, "however often it is asked"
    assert after(26 * HOUR, 1.0) == wall[0], "the wall is there again"


def test_f19_a_rental_ends_by_the_time_that_passes_not_by_a_clock_that_is_ahead(scene: Scene) -> None:
    """I2 I8 I10: the machine may be kept for an hour; our clock is three hours ahead: it is worked on all the same."""
    scene.clock.ahead_ms = 3 * HOUR
    scene.market.fault(short_rental=3600)
    [job] = scene.submit(f"{WAIT} {LINES}")
    with scene.engine(max_workers=1) as engine:
        until(lambda: scene.state(job) == "running")
        looks = len(scene.calls("my_orders"))
        until(lambda: len(scene.calls("my_orders")) >= looks + 3)
        [worker] = scene.held()
        assert abs((worker.expires_at or 0) - scene.clock() - HOUR) < HOUR // 4
        scene.rig.gate.touch()
        scene.ended(engine)
    assert len(scene.orders()) == 1
    assert scene.rig.job(job).attempt == 1
    check(scene, {job: "done"})
