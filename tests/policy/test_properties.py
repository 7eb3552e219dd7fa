"""What holds in every world: no limit is passed, everything has one reason, every figure is true, order is nothing."""

from __future__ import annotations

import random as randomness
import re
from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from gpuscale_tui.model.offers import Need
from gpuscale_tui.model.states import Cause, Purpose, WorkerState
from gpuscale_tui.policy.fleet import Fleet
from gpuscale_tui.policy.matching import machine_serves, offer_verdict
from gpuscale_tui.policy.placing import place, queue_order
from gpuscale_tui.policy.scaling import group_jobs, plan
from gpuscale_tui.policy.world import Machine, PendingJob, World
from tests.policy.strategies import FLEETS, NEEDS, SEEDS, WORLDS, market
from tests.policy.support import LIMITS, NOW, later

UNHURRIED = [HealthCheck.filter_too_much, HealthCheck.too_slow]
MANY = settings(max_examples=800, deadline=None, suppress_health_check=UNHURRIED)
CODES = {
    "stopping", "renting", "next", "cap", "max_workers", "booting", "placing", "held", "looking", "provider_error",
    "no_offer", "short_queue", "busy",
}  # fmt: skip


@MANY
@given(WORLDS)
def test_no_rent_passes_a_limit_or_breaks_a_need(found: World) -> None:
    made = plan(found)
    assert len(made.rents) <= 1
    for rent in made.rents:
        event(f"rents for {rent.purpose}")
        assert not found.drain
        assert sum(machine.rate for machine in found.machines) + rent.offer.rate <= found.cap
        assert len(found.machines) < found.scaler.max_workers
        assert offer_verdict(rent.offer, rent.need, found.limits) == ""
        assert rent.offer in found.markets[rent.need.key].offers
        assert rent.reason
        if rent.purpose == Purpose.QUEUE:
            assert any(
                job.need == rent.need and (job.not_before is None or job.not_before <= found.now)
                for job in found.pending
            )


@MANY
@given(SEEDS, NEEDS)
def test_what_is_rented_for_a_need_serves_it(seed: int, need: Need) -> None:
    """Else one machine after the other would be rented, each of no use."""
    for offer in market(randomness.Random(seed), 12).offers:
        if offer_verdict(offer, need, LIMITS) == "":
            image = None if offer.any_image else need.image
            rented = Machine(
                1, WorkerState.ORDERING, offer.provider, offer.gpu_type, offer.gpu_count, image, offer.market,
                offer.rate, need.key,
            )  # fmt: skip
            assert machine_serves(rented, need, LIMITS)


@MANY
@given(WORLDS)
def test_every_group_and_every_idle_machine_has_exactly_one_reason(found: World) -> None:
    made = plan(found)
    assert set(made.groups) == {job.need.key for job in found.pending}
    idle = {machine.id for machine in found.machines if machine.state == WorkerState.IDLE}
    leaving = [release.worker_id for release in made.releases]
    assert len(set(leaving)) == len(leaving)
    assert set(made.workers) == idle - set(leaving)
    for reason in made.groups.values():
        event(reason.code)
        assert reason.code in CODES
        assert reason.text
        assert "None" not in reason.text
    assert all(made.workers.values())
    assert all(release.reason for release in made.releases)
    assert (made.rents and made.rents[0].purpose == Purpose.QUEUE) == any(
        reason.code == "renting" for reason in made.groups.values()
    ) or not made.rents


@MANY
@given(WORLDS)
def test_releases_are_live_never_busy_unasked_and_never_below_the_minimum(found: World) -> None:
    made = plan(found)
    by_id = {machine.id: machine for machine in found.machines}
    staying = {id_ for id_, machine in by_id.items() if machine.state != WorkerState.RELEASING}
    unasked = 0
    for release in made.releases:
        machine = by_id[release.worker_id]
        assert release.worker_id in staying
        if "by hand" not in release.reason and release.cause != Cause.BUDGET:
            assert machine.state != WorkerState.BUSY
        if release.reason.startswith(("idle", "nothing")):
            unasked += 1
    if unasked:
        assert len(staying) - len(made.releases) >= found.scaler.min_workers
    asked = sum("by hand" in release.reason for release in made.releases)
    assert asked == (0 if found.drain else min(found.scale_down, len(staying)))


@MANY
@given(WORLDS)
def test_after_the_releases_of_one_plan_the_limits_hold_and_not_one_more_went(found: World) -> None:
    """However far a user lowered them: what stays is within both; put back, any busy one would be beyond one."""
    assume(not found.drain and not found.scale_down)
    made = plan(found)
    gone = {release.worker_id: release for release in made.releases}
    staying = [each for each in found.machines if not each.leaving and each.id not in gone]
    rate = sum(each.rate for each in staying)
    assert rate <= found.cap or not any(each.rate for each in staying)
    assert len(staying) <= found.scaler.max_workers
    back = [each for each in found.machines if each.id in gone and gone[each.id].cause == Cause.BUDGET]
    number = len(staying) + len(gone) - len(back)
    others = sum(each.rate for each in found.machines if each.id in gone and gone[each.id].cause != Cause.BUDGET)
    for each in back:
        assert number + 1 > found.scaler.max_workers or rate + others + each.rate > found.cap


@MANY
@given(WORLDS)
def test_a_machine_that_a_job_takes_next_is_not_given_back(found: World) -> None:
    assume(not found.drain and not found.scale_down)
    assume(sum(machine.rate for machine in found.machines) <= found.cap)
    assume(len(found.machines) <= found.scaler.max_workers)
    made = plan(found)
    taken = {chosen.worker_id for chosen in place(found.pending, found.machines, found.limits, found.now)}
    assert taken.isdisjoint(release.worker_id for release in made.releases)
    assert all(made.workers[id_].endswith("next") for id_ in taken)


@MANY
@given(WORLDS, st.integers(0, 2**32))
def test_the_order_of_the_inputs_is_nothing(found: World, seed: int) -> None:
    random = randomness.Random(seed)
    markets = {
        key: replace(view, offers=tuple(random.sample(view.offers, len(view.offers))))
        for key, view in random.sample(list(found.markets.items()), len(found.markets))
    }
    shuffled = replace(
        found,
        pending=tuple(random.sample(found.pending, len(found.pending))),
        machines=tuple(random.sample(found.machines, len(found.machines))),
        markets=markets,
    )
    assert plan(shuffled) == plan(found)
    assert [group.key for group in group_jobs(shuffled)] == [group.key for group in group_jobs(found)]


@MANY
@given(WORLDS)
def test_a_limits_figure_is_enough_and_no_more(found: World) -> None:
    made = plan(found)
    for key, reason in made.groups.items():
        if reason.code not in {"cap", "max_workers"} or made.rents:
            continue
        workers = re.search(r"max_workers (\d+)", reason.text)
        money = re.search(r"\$([\d.,]+)/h more", reason.text)
        most = int(workers[1]) if workers else found.scaler.max_workers
        extra = round(float(money[1].replace(",", "")) * 1_000_000) if money else 0
        event(f"{bool(workers)} {bool(money)}")
        enough = replace(found, scaler=replace(found.scaler, max_workers=most), cap=found.cap + extra)
        rents = plan(enough).rents
        assert rents
        if not reason.text.endswith("first"):
            assert rents[0].need.key == key
        if workers:
            less = replace(enough, scaler=replace(enough.scaler, max_workers=most - 1))
            assert plan(less).rents == ()
        if money:
            less = replace(enough, cap=enough.cap - 100)
            assert all(rent.need.key != key for rent in plan(less).rents)


@MANY
@given(WORLDS)
def test_a_threshold_a_wait_and_a_hold_say_what_lifts_them(found: World) -> None:
    assume(not found.scale_up)
    made = plan(found)
    for key, reason in made.groups.items():
        mine = [job for job in found.pending if job.need.key == key]
        if reason.code == "short_queue" and not made.rents:
            threshold, waiting = map(int, re.search(r"when (\d+) jobs .* now (\d+)", reason.text).groups())
            assert 0 < waiting < threshold
            fresh = replace(mine[0], submitted_at=NOW, not_before=None)
            more = tuple(replace(fresh, id=1000 + n) for n in range(threshold - waiting))
            assert plan(replace(found, pending=found.pending + more)).groups[key].code != "short_queue"
            assert plan(replace(found, pending=found.pending + more[1:])).groups[key].code == "short_queue"
            if all(machine.busy_since for machine in found.machines if machine.may_serve):
                assert plan(later(found, 600)).groups[key].code != "short_queue"
        if reason.code == "held":
            seconds = int(re.search(r"goes on in (\d+) s", reason.text)[1])
            assert plan(later(found, seconds)).groups[key].code != "held"
            assert plan(later(found, seconds - 1)).groups[key].code == "held"


@MANY
@given(WORLDS)
def test_the_price_that_would_do_does(found: World) -> None:
    for group in group_jobs(found):
        text = plan(found).groups[group.key].text
        named = re.search(r"; a (\w+) of \$([\d.]+) instead of", text)
        if not named:
            continue
        enough = round(float(named[2]) * 1_000_000)
        view = found.markets[group.key]
        need: Need = group.need if named[1] == "max_price_per_gpu" else replace(group.need, max_price=enough)
        limits = found.limits if need is not group.need else replace(found.limits, default_price=enough)
        verdicts = [offer_verdict(offer, need, limits) for offer in view.offers]
        assert "" in verdicts


@MANY
@given(WORLDS)
def test_an_idle_machines_timeout_is_true(found: World) -> None:
    """With nothing on hold, which would change by the same time, it goes back when it is said to."""
    assume(all(job.not_before is None or job.not_before <= found.now for job in found.pending))
    made = plan(found)
    for machine in found.machines:
        if "goes back after" in made.workers.get(machine.id, "") and machine.idle_since is not None:
            due = machine.idle_since + round(found.scaler.idle_timeout_sec * 1000)
            assert due > found.now
            after = plan(replace(found, now=due, scale_up=0, scale_down=0))
            if any(reason.code == "renting" for reason in after.groups.values()):
                continue  # a short queue's patience ended meanwhile: this world is another one
            assert machine.id in {release.worker_id for release in after.releases}
            before = plan(replace(found, now=due - 1, scale_up=0, scale_down=0))
            assert machine.id not in {release.worker_id for release in before.releases}


@MANY
@given(WORLDS)
def test_supply_is_what_placing_would_use_and_counts_once(found: World) -> None:
    """The groups' figures against a plain walk through the queue, one machine after the other."""
    queue = sorted(found.pending, key=queue_order)
    ready = [job for job in queue if job.not_before is None or job.not_before <= found.now]
    idle, coming = ({m.id: m for m in found.machines if test(m)} for test in (lambda m: m.free, lambda m: m.on_its_way))
    wanted = {job.need.gpu_type for job in queue}
    uncovered: Counter[str] = Counter()
    on_the_way: Counter[str] = Counter()
    for job in ready:
        for pool in (idle, coming):
            able = [machine for machine in pool.values() if machine_serves(machine, job.need, found.limits)]
            if able:
                chosen = min(able, key=lambda machine: _choice(machine, job, wanted))
                del pool[chosen.id]
                on_the_way[job.need.key] += pool is coming
                break
        else:
            uncovered[job.need.key] += 1
    for group in group_jobs(found):
        assert group.uncovered == uncovered[group.key]
        assert group.coming == on_the_way[group.key]
        assert group.ready == sum(job.need.key == group.key for job in ready)
        assert group.servers == sum(
            machine.may_serve and machine_serves(machine, group.need, found.limits) for machine in found.machines
        )
        assert group.soon == sum(
            machine.may_serve
            and machine_serves(machine, group.need, found.limits)
            and (machine.busy_since is None or found.now - machine.busy_since < 600_000)
            for machine in found.machines
        )


def _choice(machine: Machine, job: PendingJob, wanted: set[str | None]) -> tuple[bool, int, int]:
    spare = job.need.gpu_type is None and machine.gpu_type in wanted - {None}
    return (spare, machine.rate, machine.id)


@settings(max_examples=200)
@given(FLEETS, st.lists(NEEDS, max_size=12))
def test_the_index_finds_what_a_look_at_each_machine_finds(fleet: tuple[Machine, ...], asked: list[Need]) -> None:
    index, left = Fleet(fleet, LIMITS), {machine.id: machine for machine in fleet}
    for need in asked:
        able = {id_ for id_, machine in left.items() if machine_serves(machine, need, LIMITS)}
        chosen = index.take(need)
        assert (chosen.id in able) if chosen else not able
        if chosen:
            del left[chosen.id]
        assert index.serving(need) == sum(machine_serves(machine, need, LIMITS) for machine in fleet)
