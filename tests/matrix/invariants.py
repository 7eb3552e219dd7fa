"""The invariants I1 to I10 of a scene, checked against what the marketplace itself knows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from gpuscale_tui.remote.keys import ensure_client_key
from gpuscale_tui.store import logs, workers
from tests.matrix.scene import Scene

FEE = 105
"""On-demand orders cost five percent more than their price (Clore API reference, section 2.3)."""
LIVE = frozenset({"ordering", "booting", "idle", "busy", "releasing"})


def check(scene: Scene, states: Mapping[int, str], *, lied: bool = False) -> None:
    """Assert that all of them hold at rest. `states`: what every job must have become. `lied`: the marketplace denied
    an order of ours that lived, so that its price was missing in our sums for a moment."""
    wrong = [
        *known_rentals(scene), *cap_by_our_events(scene), *jobs_conserved(scene, states), *done_once(scene),
        *not_ours(scene), *secrets(scene), *ledger(scene), *converged(scene), *steps_go_on(scene),
    ]  # fmt: skip
    if not lied:
        wrong += cap_by_the_market(scene)
    assert wrong == [], "\n".join([*wrong, *map(str, scene.rig.events()[-60:])])


def known_rentals(scene: Scene) -> Iterator[str]:
    """I1: each order stands behind a worker of the store, and each create call behind an intent."""
    known = Counter(worker.order_id for worker in _workers(scene))
    for order in scene.orders():
        if known[str(order["order"])] != 1:
            yield f"I1: {known[str(order['order'])]} workers know order {order['order']}"
    key = ensure_client_key(scene.rig.home.client_key)
    calls = [call for call in scene.calls("create_order") if call["body"].get("ssh_key") == key]
    if len(calls) > len(_workers(scene)):
        yield f"I1: {len(calls)} create calls for {len(_workers(scene))} intents"


def cap_by_our_events(scene: Scene) -> Iterator[str]:
    """I2: what the store had committed at any time, by its own history."""
    live: dict[int, int] = {}
    rates = {worker.id: worker.rate for worker in _workers(scene)}
    for event in scene.rig.events():
        if event.kind != "worker" or event.worker_id is None or event.to_state is None:
            continue
        live[event.worker_id] = rates[event.worker_id] if event.to_state in LIVE else 0
        if sum(live.values()) > _cap(scene):
            yield f"I2: {sum(live.values())} micro-dollars per hour committed at event {event.id}"


def cap_by_the_market(scene: Scene) -> Iterator[str]:
    """I2: what the marketplace had rented to us at any time, fees included."""
    lines = scene.orders()
    for moment in sorted(line["created_ms"] for line in lines):
        held = [line for line in lines if line["created_ms"] <= moment < (line["ended_ms"] or 1 << 62)]
        rate = sum(line["price_per_day_micro"] for line in held) * FEE // 2400
        if rate > _cap(scene):
            yield f"I2: {rate} micro-dollars per hour were rented at {moment}"


def jobs_conserved(scene: Scene, states: Mapping[int, str]) -> Iterator[str]:
    """I4: what was submitted is there, once, in the state that it must have come to."""
    found = {job.id: job.state for job in scene.rig.jobs()}
    if found != dict(states):
        yield f"I4: jobs are {found}, not {dict(states)}: {[job.error for job in scene.rig.jobs()]}"


def done_once(scene: Scene) -> Iterator[str]:
    """I5: a job becomes done once, and no attempt's command is started twice."""
    done = Counter(event.job_id for event in scene.rig.events() if event.kind == "job" and event.to_state == "done")
    yield from (f"I5: j{job_id} became done {count} times" for job_id, count in done.items() if count != 1)
    begun = Counter(scene.ran.read_text().splitlines()) if scene.ran.exists() else Counter()
    yield from (f"I5: attempt {name!r} was started {count} times" for name, count in begun.items() if count != 1)


def not_ours(scene: Scene) -> Iterator[str]:
    """I6: no call changes anything that is not ours."""
    ours = {worker.order_id for worker in _workers(scene)} | scene.others  # the other one cancels its own
    for call in scene.calls("cancel_order"):
        if str(call["body"]["id"]) not in ours:
            yield f"I6: order {call['body']['id']} was cancelled and is none of ours"
    if scene.foreign not in {order["order"] for order in scene.market.live_orders()}:
        yield "I6: the foreign order has ended"


def secrets(scene: Scene) -> Iterator[str]:
    """I7: the account's key lies in no file of the home."""
    key = scene.market.api_key.encode()
    for path in scene.rig.home.path.rglob("*"):
        if path.is_file() and key in path.read_bytes():
            yield f"I7: the key is in {path.name}"


def ledger(scene: Scene) -> Iterator[str]:
    """I8: order by order and in all, what we booked is what the marketplace bills, and it is split without rest."""
    booked = {worker.order_id: worker.cost for worker in _workers(scene) if worker.order_id is not None}
    billed = {str(line["order"]): line["total_micro"] for line in scene.orders()}
    for order, total in billed.items():
        if booked.get(order) != total:
            yield f"I8: order {order} is billed {total} and booked {booked.get(order)}"
    costs = scene.rig.costs()
    if costs.total != sum(billed.values()):
        yield f"I8: {costs.total} booked in all, {sum(billed.values())} billed"
    if costs.productive + costs.setup + costs.idle + costs.rejected + costs.lost != costs.total:
        yield "I8: the kinds of cost do not add up"


def converged(scene: Scene) -> Iterator[str]:
    """I10: nothing is rented any more, by both books."""
    yield from (f"I10: order {order['order']} still lives" for order in scene.live())
    yield from (f"I10: w{worker.id} is {worker.state}" for worker in _workers(scene) if worker.state in LIVE)


def steps_go_on(scene: Scene) -> Iterator[str]:
    """I9: within an attempt no line is missing or there twice, and a later attempt begins where a snapshot stood."""
    for job in scene.rig.jobs():
        reached = 0
        for attempt in scene.rig.attempts(job.id):
            numbers = [
                int(found)
                for found in re.findall(rb"^(?:line|step) (\d+)$", _output(scene, job.id, attempt.number), re.M)
            ]
            if numbers != list(range(numbers[0], numbers[0] + len(numbers))) if numbers else False:
                yield f"I9: j{job.id} attempt {attempt.number} printed {numbers}"
            if numbers and numbers[0] > reached + 1:
                yield f"I9: j{job.id} attempt {attempt.number} begins with {numbers[0]}, {reached} was reached before"
            reached = max([reached, *numbers])


def rented_but_unknown(scene: Scene) -> list[int]:
    """I1 at any moment: orders that live while the store has no worker on their server."""
    orders = scene.live()  # first: what is ordered later is not looked at
    held = {worker.server_id for worker in scene.held()}
    return [order["order"] for order in orders if str(order["server"]) not in held]


def _output(scene: Scene, job_id: int, attempt: int) -> bytes:
    connection = logs.connect_logs(scene.rig.home.logs, readonly=True)
    try:
        return logs.read(connection, job_id, attempt, 0, 1 << 40)
    finally:
        connection.close()


def _workers(scene: Scene) -> list[workers.Worker]:
    found = (scene.rig.db.read(workers.get, row.id) for row in scene.rig.workers())
    return [worker for worker in found if worker is not None]


def _cap(scene: Scene) -> int:
    return round(scene.rig.settings.scaler.max_hourly_budget * 1_000_000)
