"""F3 to F10: the marketplace answers wrongly, late, twice or not at all; the real engine over real HTTP and SSH."""

from __future__ import annotations

import pytest

from tests.engine.conftest import WAIT, until
from tests.matrix.invariants import check, rented_but_unknown
from tests.matrix.scene import FOREIGN_KEY, LINES, LINES_OUT, Scene, order


@pytest.mark.parametrize("fault", ["create_500_after_success", "create_reply_lost"])
def test_f03_an_order_whose_answer_is_lost(scene: Scene, fault: str) -> None:
    """I1 I2 I8: the order exists and nobody said so: it is found in the list, not ordered again, and paid exactly."""
    scene.market.fault(**{fault: 1})
    [job] = scene.submit()
    scene.drain()
    assert len(scene.orders()) == 1
    assert scene.rig.output(job) == LINES_OUT
    check(scene, {job: "done"})


def test_f04_an_order_that_appears_after_an_error_is_ours(scene: Scene) -> None:
    """I1 I2: the create failed, the machine appears a second later: it is adopted, and none is ordered beside it."""
    scene.market.fault(create_500_then_appears={"value": 1.0, "count": 1})
    [job] = scene.submit()
    scene.drain(max_workers=1)
    assert len(scene.orders()) == 1
    check(scene, {job: "done"})


def test_f04_an_order_that_appears_after_we_gave_it_up_is_given_back(scene: Scene) -> None:
    """I1 I2: later than the provider ever said. Three lists lacked it, another machine does the work; it goes back."""
    scene.market.fault(create_500=1)
    [job] = scene.submit(f"{WAIT} {LINES}")
    with scene.engine(max_workers=1) as engine:
        until(lambda: scene.seen("order unknown"))
        body = {**scene.calls("create_order")[0]["body"], "env": {}, "command": "true", "ssh_key": FOREIGN_KEY}
        server = body["renting_server"]
        scene.market.control("price", {"server": server, "factor": 1.4})  # so that the next order is for another one
        scene.hurry(engine, 61)
        until(lambda: scene.state(job) == "running")
        order(scene.market, {name: value for name, value in body.items() if name != "required_price"})
        until(lambda: scene.seen("is listed and costs money"))
        scene.rig.gate.touch()
        scene.ended(engine)
    assert len(scene.orders()) == 2
    check(scene, {job: "done"}, lied=True)


def test_f05_a_create_is_never_sent_twice(scene: Scene) -> None:
    """I1 I2 I8: after an error nobody repeats the call: each create stands behind an intent of its own (`check`)."""
    scene.market.fault(create_500=2)
    [job] = scene.submit()
    with scene.engine(max_workers=1) as engine:
        for number in (1, 2):
            until(lambda number=number: len(scene.seen("order unknown")) >= number)
            scene.hurry(engine, 61)
            until(lambda number=number: len(scene.seen("no order came of it")) >= number)
        scene.ended(engine)
    assert len(scene.calls("create_order")) == 3
    assert len(scene.orders()) == 1
    check(scene, {job: "done"})


def asked(scene: Scene) -> int:
    """How often a machine was asked to go back; more than ever when none is left."""
    return min((worker.release_asked for worker in scene.held()), default=1 << 30)


def test_f06_giving_back_that_fails_in_every_way(scene: Scene) -> None:
    """I1 I2 I8: refused, garbled, cut off, done without a word: asked for until no list has it, billed to its end."""
    [job] = scene.submit()
    ways = ("html_body", "http_500", "connection_reset", "key_refused")
    scene.market.fault(**{way: {"count": 1, "path": "cancel_order"} for way in ways}, cancel_500=1, cancel_reply_lost=1)
    with scene.engine() as engine:
        for number in range(1, len(ways) + 3):
            until(lambda number=number: engine.wait(0) or len(scene.calls("cancel_order")) >= number)
            until(lambda number=number: engine.wait(0) or asked(scene) >= number or not scene.live())
            if scene.live():
                assert not rented_but_unknown(scene), "it stays ours until a list lacks it"
                scene.hurry(engine)
        scene.ended(engine)
    assert all(scene.struck(way) == 1 for way in (*ways, "cancel_500", "cancel_reply_lost"))
    assert scene.seen("calls to give it back and costs"), "the user was told"
    check(scene, {job: "done"})


def test_f06_an_order_that_lives_on_after_its_cancel(scene: Scene) -> None:
    """I1 I2 I8: "code 0" is no proof: it counts, and is billed, until it is gone from the list."""
    scene.market.fault(cancel_lingers={"value": 1.0, "count": 1})
    [job] = scene.submit()
    with scene.engine() as engine:
        until(lambda: scene.calls("cancel_order"))
        while not engine.wait(0.05):
            assert not rented_but_unknown(scene), "it was cancelled, it lives, and nobody counts it any more"
        scene.ended(engine)
    check(scene, {job: "done"})


def test_f07_lists_that_lie_once(scene: Scene) -> None:
    """I1 I2 I6: empty, with holes, in disorder, doubled, old: one such list changes nothing. Beside foreign orders."""
    jobs = scene.submit(f"{WAIT} {LINES}", 2)
    with scene.engine() as engine:
        until(lambda: [scene.state(job) for job in jobs] == ["running"] * 2)
        for fault in ("my_orders_empty", "my_orders_partial", "my_orders_doubled"):
            good = len(scene.calls("my_orders")) + 2
            until(lambda good=good: len(scene.calls("my_orders")) >= good)
            scene.market.fault(**{fault: 1})
            until(lambda fault=fault: scene.struck(fault))
        scene.market.fault(my_orders_stale={"value": 0.5, "count": 3})
        until(lambda: scene.struck("my_orders_stale") == 3)
        scene.rig.gate.touch()
        scene.ended(engine)
    assert len(scene.orders()) == 2
    assert {job.attempt for job in scene.rig.jobs()} == {1}
    check(scene, dict.fromkeys(jobs, "done"))


def test_f07_a_list_that_stays_empty_loses_no_machine(scene: Scene) -> None:
    """I1: the provider denies a living order again and again; when it shows once more it is ours, and given back."""
    [job] = scene.submit(f"{WAIT} {LINES}")
    with scene.engine(max_workers=1) as engine:
        until(lambda: scene.state(job) == "running")
        scene.market.fault(my_orders_empty=True)
        while not any(worker.state == "lost" for worker in scene.rig.workers()):
            lists = len(scene.calls("my_orders"))
            until(lambda lists=lists: len(scene.calls("my_orders")) > lists)
            scene.hurry(engine, 61)
        scene.market.control("faults", {"clear": ["my_orders_empty"]})
        until(lambda: scene.seen("is listed and costs money"))
        scene.rig.gate.touch()
        scene.ended(engine)
    check(scene, {job: "done"}, lied=True)


@pytest.mark.parametrize("storm", ["rate_limit_storm", "key_refused"])
def test_f08_a_provider_that_refuses_everything_for_a_while(scene: Scene, storm: str) -> None:
    """I2 I10: nothing is concluded, nothing rented, no call repeated without pause; then the work is done."""
    jobs = scene.submit(f"{WAIT} {LINES}", 2)
    with scene.engine() as engine:
        until(lambda: [scene.state(job) for job in jobs] == ["running"] * 2)
        calls = len(scene.calls())
        scene.market.fault(**{storm: {"count": 4}})
        until(lambda: scene.struck(storm) == 4)
        asked = scene.calls()[calls:]
        assert not rented_but_unknown(scene)
        scene.rig.gate.touch()
        scene.ended(engine)
    if storm == "rate_limit_storm":
        refused = [call["ms"] for call in asked if storm in call["faults"]]
        assert refused[-1] - refused[0] >= 1300, "each refusal makes the pause longer: 0.2, 0.4, 0.8 s at this pace"
    check(scene, dict.fromkeys(jobs, "done"))


@pytest.mark.parametrize("path", ["create_order", "m*"])
def test_f09_garbage_instead_of_answers(scene: Scene, path: str) -> None:
    """I1 I2 I10: HTML, nothing, 500: such an answer to a create leaves it in doubt, such a list proves nothing."""
    scene.market.fault(**{fault: {"count": 1, "path": path} for fault in ("html_body", "empty_body", "http_500")})
    [job] = scene.submit()
    doubts = 0
    with scene.engine(max_workers=1) as engine:
        while not engine.wait(0.05):
            if len(scene.seen("order unknown")) > doubts:
                doubts += 1
                scene.hurry(engine, 61)  # it keeps its room under the cap for as long as it might still appear
    assert engine.failure is None
    assert sum(scene.struck(fault) for fault in ("html_body", "empty_body", "http_500")) == 3
    assert doubts == (3 if path == "create_order" else 0)
    check(scene, {job: "done"})


def test_f10_what_changes_between_offer_and_order(scene: Scene) -> None:
    """I2 I3 I6 I8: the price rises, somebody was faster, the host goes offline: no more is paid than was said, and the
    work is done on another machine."""
    scene.market.fault(create_price_moved={"value": 1.4, "count": 1}, create_lost_race=1, server_offline=1)
    [job] = scene.submit()
    with scene.engine(max_workers=1) as engine:
        until(lambda: scene.seen("order unknown"))
        scene.hurry(engine, 61)
        scene.ended(engine)
    rates = {worker.order_id: worker.rate for worker in scene.rig.workers()}
    for line in scene.orders():
        assert line["price_per_day_micro"] * 105 // 2400 <= rates[str(line["order"])]
    check(scene, {job: "done"})
