"""F23: money runs out, prices move."""

from __future__ import annotations

from tests.engine.conftest import WAIT, until
from tests.matrix.invariants import check
from tests.matrix.scene import LINES, Scene


def test_f23_a_wallet_that_is_empty(scene: Scene) -> None:
    """I2 I3 I8: the order is refused for want of money: nothing is rented, it is asked for again after a pause."""
    scene.market.fault(not_enough_balance=1)
    [job] = scene.submit()
    with scene.engine(max_workers=1) as engine:
        until(lambda: scene.seen("refused: "))
        assert not scene.live()
        scene.clock.ahead_ms += 20_000
        scene.ended(engine)
    assert len(scene.orders()) == 1
    check(scene, {job: "done"})


def test_f23_prices_that_double_in_mid_run(scene: Scene) -> None:
    """I2 I3 I8: what is rented goes on at its price; what would now cost too much, or break the cap, is not rented."""
    [first] = scene.submit(f"{WAIT} {LINES}")
    try:
        with scene.engine(max_hourly_budget=0.75) as engine:
            until(lambda: scene.state(first) == "running")
            scene.market.control("price", {"factor": 2})
            [second] = scene.submit()
            until(lambda: scene.calls("marketplace")[-1]["ms"] > scene.log("price")[0]["ms"])
            looks = len(scene.calls("marketplace")) + 3
            until(lambda: len(scene.calls("marketplace")) >= looks)
            assert len(scene.orders()) == 1, "nothing is rented at twice the price"
            scene.market.control("price", {"factor": 0.5})
            scene.rig.gate.touch()
            scene.ended(engine)
    finally:
        scene.rig.gate.touch()
    check(scene, {first: "done", second: "done"})
