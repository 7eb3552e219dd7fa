"""What happens to workers: each function is one command, run inside one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from gpuscale_tui.model.budget import Budget
from gpuscale_tui.model.hosts import Examination, OutcomeKind
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.money import format_usd
from gpuscale_tui.model.offers import Need, Offer
from gpuscale_tui.model.states import (
    WORKER_TRANSITIONS,
    Cause,
    IllegalTransition,
    OrderOutcome,
    Purpose,
    WorkerState,
    check_transition,
)
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.store import budgets, events, hosts, rows, spans

LIVE = "state NOT IN ('released', 'lost')"


@dataclass(frozen=True, slots=True)
class CapReached:
    """An intent that was not written: the cap, a budget or the number of machines would have been exceeded."""

    reason: str


@dataclass(frozen=True, slots=True)
class Intent:
    """What is about to be rented, why, and under which limits: micro-dollars per hour, number of machines, and sums."""

    token: str
    offer: Offer
    need: Need
    reason: str
    known_orders: frozenset[str]
    cap: int
    max_workers: int
    purpose: Purpose = Purpose.QUEUE
    budget: Budget = field(default_factory=Budget)


def get(connection: sqlite3.Connection, worker_id: int) -> Worker | None:
    """One worker."""
    row = connection.execute("SELECT * FROM workers WHERE id = ?", (worker_id,)).fetchone()
    return rows.worker(row) if row else None


def live(connection: sqlite3.Connection) -> list[Worker]:
    """Every worker that may cost money, oldest first."""
    return [rows.worker(row) for row in connection.execute(f"SELECT * FROM workers WHERE {LIVE} ORDER BY id")]


def idle(connection: sqlite3.Connection) -> list[Worker]:
    """The workers that wait for a job and can be reached, oldest first."""
    found = connection.execute(
        f"SELECT * FROM workers WHERE {LIVE} AND state = 'idle' AND silent_since IS NULL ORDER BY id"
    )
    return [rows.worker(row) for row in found]


def committed_rate(connection: sqlite3.Connection) -> int:
    """Micro-dollars per hour, worst case, of everything that is not confirmed released."""
    return int(connection.execute(f"SELECT coalesce(sum(rate), 0) FROM workers WHERE {LIVE}").fetchone()[0])


def count_live(connection: sqlite3.Connection) -> int:
    """How many machines are not confirmed released."""
    return int(connection.execute(f"SELECT count(*) FROM workers WHERE {LIVE}").fetchone()[0])


def write_intent(connection: sqlite3.Connection, intent: Intent, *, now: int, epoch: int | None) -> Worker | CapReached:
    """Reserve the price of one more machine and note the intent to rent it, unless that would exceed a limit.

    The test and the reservation are one transaction: no two intents can both see room for one.
    """
    committed = committed_rate(connection)
    count = count_live(connection)
    if committed + intent.offer.rate > intent.cap:
        return CapReached(
            f"{format_usd(committed)}/h of the cap of {format_usd(intent.cap)}/h are committed; this machine would"
            f" need {format_usd(committed + intent.offer.rate - intent.cap)}/h more"
        )
    if count >= intent.max_workers:
        return CapReached(f"{count} machines are rented, max_workers is {intent.max_workers}")
    offer = intent.offer
    refusal = budgets.refusal(connection, intent.budget, offer.terms, now=now)
    if refusal is not None:
        return CapReached(refusal)
    worker_id = connection.execute(
        "INSERT INTO workers (provider, state, token, server_id, owner, gpu_type, gpu_count, image, market, rate,"
        " terms, quote, group_key, purpose, outcome, known_orders, created_at, reason, why)"
        " VALUES (?, 'ordering', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'in_flight', ?, ?, ?, ?) RETURNING id",
        (offer.provider, intent.token, offer.server_id, offer.owner, offer.gpu_type, offer.gpu_count,
         None if offer.any_image else intent.need.image, offer.market, offer.rate, rows.terms_json(offer.terms),
         offer.quote, intent.need.key, intent.purpose, json.dumps(sorted(intent.known_orders)), now, intent.reason,
         intent.reason),
    ).fetchall()[0][0]  # fmt: skip
    hosts.remember_offer(connection, worker_id, offer)
    events.append(
        connection, now, "worker", intent.reason, epoch=epoch, worker_id=worker_id, to_state=WorkerState.ORDERING
    )
    return _must(get(connection, worker_id))


def _must(worker: Worker | None) -> Worker:
    if worker is None:
        raise LookupError("the worker does not exist")
    return worker


def _move(
    connection: sqlite3.Connection,
    worker_id: int,
    to: WorkerState,
    *,
    now: int,
    epoch: int | None,
    cause: Cause | None = None,
    detail: str = "",
) -> Worker:
    """Change a worker's state and append the event; the caller sets the other columns. Raises IllegalTransition."""
    worker = _must(get(connection, worker_id))
    check_transition(WORKER_TRANSITIONS, worker.state, to)
    connection.execute("UPDATE workers SET state = ? WHERE id = ?", (to, worker_id))
    events.append(
        connection, now, "worker", detail, epoch=epoch, worker_id=worker_id, job_id=worker.job_id,
        attempt=worker.attempt, from_state=worker.state, to_state=to, cause=cause,
    )  # fmt: skip
    return worker


def record_outcome(
    connection: sqlite3.Connection, worker_id: int, outcome: OrderOutcome, detail: str, *, now: int, epoch: int | None
) -> None:
    """Note what came of the create call of a worker that is still `ordering`; its price stays reserved."""
    changed = connection.execute(
        "UPDATE workers SET outcome = ?, call_ended_at = ?, absences = 0, why = ?"
        " WHERE id = ? AND state = 'ordering' RETURNING id",
        (outcome, now, detail, worker_id),
    ).fetchall()
    if changed:
        events.append(connection, now, "worker", f"order {outcome}: {detail}", epoch=epoch, worker_id=worker_id)


@dataclass(frozen=True, slots=True)
class Adoption:
    """An order found in the provider's listing that is certainly the one that a worker asked for."""

    order_id: str
    held_from: int
    endpoint: Endpoint | None
    expires_at: int | None = None


def adopt(connection: sqlite3.Connection, worker_id: int, adoption: Adoption, *, now: int, epoch: int | None) -> None:
    """The order exists: from now on the worker boots and costs. One that is `releasing` already stays so."""
    detail = f"order {adoption.order_id} exists"
    going_back = _must(get(connection, worker_id)).state == WorkerState.RELEASING
    if going_back:
        events.append(connection, now, "worker", detail, epoch=epoch, worker_id=worker_id)
    else:
        _move(connection, worker_id, WorkerState.BOOTING, now=now, epoch=epoch, detail=detail)
        connection.execute("UPDATE workers SET why = 'boots' WHERE id = ?", (worker_id,))
    connection.execute(
        "UPDATE workers SET order_id = ?, held_from = ?, expires_at = ?, absences = 0, outcome = NULL WHERE id = ?",
        (adoption.order_id, adoption.held_from, adoption.expires_at, worker_id),
    )
    spans.begin(connection, worker_id, "rejected" if going_back else "setup", adoption.held_from)
    if adoption.endpoint is not None:
        set_endpoint(connection, worker_id, adoption.endpoint)


def refuse(
    connection: sqlite3.Connection, worker_id: int, detail: str, cause: Cause, *, now: int, epoch: int | None
) -> None:
    """It is certain that no order came of the intent: the reservation ends."""
    worker = _move(connection, worker_id, WorkerState.RELEASED, now=now, epoch=epoch, cause=cause, detail=detail)
    connection.execute(
        "UPDATE workers SET ended_at = ?, outcome = NULL, cause = ?, why = ? WHERE id = ?",
        (now, cause, detail, worker_id),
    )
    spans.finish(connection, worker_id, now)
    if cause == Cause.HOST_FAULT:
        hosts.note(connection, worker, OutcomeKind.REFUSED, detail, now=now)


def set_endpoint(connection: sqlite3.Connection, worker_id: int, endpoint: Endpoint) -> None:
    """Note where the worker is reached; a pinned host key is kept unless the endpoint brings one."""
    connection.execute(
        "UPDATE workers SET host = ?, port = ?, ssh_user = ?, key_file = ?, host_key = coalesce(?, host_key)"
        " WHERE id = ?",
        (endpoint.host, endpoint.port, endpoint.user, endpoint.key_file, endpoint.host_key, worker_id),
    )


def became_ready(
    connection: sqlite3.Connection,
    worker_id: int,
    host_key: str,
    *,
    examined: Examination | None = None,
    now: int,
    epoch: int | None,
) -> None:
    """SSH answers and the machine passed its test (`examined`): it takes work. IllegalTransition unless it boots."""
    worker = _must(get(connection, worker_id))
    if worker.state != WorkerState.BOOTING:  # a busy one may become idle too, but by the end of its attempt
        raise IllegalTransition(f"worker {worker_id} is {worker.state}: only one that boots becomes ready")
    _move(connection, worker_id, WorkerState.IDLE, now=now, epoch=epoch, detail="ready")
    connection.execute(
        "UPDATE workers SET host_key = ?, idle_since = ?, contact_at = ?, ready_at = ?, why = 'ready for work'"
        " WHERE id = ?",
        (host_key, now, now, now, worker_id),
    )
    spans.begin(connection, worker_id, "idle", now)
    hosts.note(connection, worker, OutcomeKind.READY, "", now=now, examined=examined)


def contacted(connection: sqlite3.Connection, worker_id: int, now: int) -> None:
    """SSH answered just now."""
    connection.execute("UPDATE workers SET contact_at = ? WHERE id = ?", (now, worker_id))


def begin_release(
    connection: sqlite3.Connection,
    worker_id: int,
    reason: str,
    *,
    cause: Cause | None = None,
    grace_ms: int = 0,
    outcome: OutcomeKind | None = None,
    examined: Examination | None = None,
    now: int,
    epoch: int | None,
) -> bool:
    """Decide to give a worker back; False when that is decided or done already.

    A job on it gets `grace_ms` to be saved and put back before the provider is asked.
    A worker that never became ready is booked as rejected. One whose order is not known yet is given back too: the
    reconciler finds the order first. A fault of its host counts in the host's history: as `outcome`, else by whether it
    had ever worked; `examined` is what a test found.
    """
    worker = _must(get(connection, worker_id))
    if worker.state in {WorkerState.RELEASING, WorkerState.RELEASED, WorkerState.LOST}:
        return False
    _move(connection, worker_id, WorkerState.RELEASING, now=now, epoch=epoch, cause=cause, detail=reason)
    connection.execute(
        "UPDATE workers SET why = ?, cause = ?, absences = 0, release_next_at = ?, idle_since = NULL WHERE id = ?",
        (reason, cause, now + (grace_ms if worker.job_id is not None else 0), worker_id),
    )
    if worker.state == WorkerState.BOOTING:
        spans.relabel(connection, worker_id, "rejected")
    if cause == Cause.HOST_FAULT:
        kind = outcome or (OutcomeKind.NO_START if worker.ready_at is None else OutcomeKind.LOST)
        hosts.note(connection, worker, kind, reason, now=now, examined=examined)
    return True


def release_asked(
    connection: sqlite3.Connection, worker_id: int, detail: str, next_at: int, *, now: int, epoch: int | None
) -> None:
    """Note one call to give the worker back and when to ask again unless it is confirmed gone by then."""
    connection.execute(
        "UPDATE workers SET release_asked = release_asked + 1, release_next_at = ?,"
        " asked_back_at = coalesce(asked_back_at, ?) WHERE id = ?",
        (next_at, now, worker_id),
    )
    events.append(connection, now, "worker", detail, epoch=epoch, worker_id=worker_id)


def seen(
    connection: sqlite3.Connection, worker_id: int, up_at: int | None = None, expires_at: int | None = None
) -> None:
    """A complete listing has this worker's order: with `up_at` as one that runs, and when it ends by itself."""
    connection.execute(
        "UPDATE workers SET absences = 0, up_at = coalesce(up_at, ?1), expires_at = coalesce(?2, expires_at)"
        " WHERE id = ?3 AND (absences > 0 OR (up_at IS NULL AND ?1 IS NOT NULL) OR expires_at <> ?2"
        " OR (expires_at IS NULL AND ?2 IS NOT NULL))",
        (up_at, expires_at, worker_id),
    )


def reprice(connection: sqlite3.Connection, worker_id: int, rate: int, *, now: int, epoch: int | None) -> None:
    """Its provider's price is worth another amount now (micro-dollars per hour): the limits count that from here on."""
    worker = _must(get(connection, worker_id))
    terms = replace(worker.terms, rate=rate)
    connection.execute("UPDATE workers SET rate = ?, terms = ? WHERE id = ?", (rate, rows.terms_json(terms), worker_id))
    detail = f"costs {format_usd(rate, 4)}/h now, after {format_usd(worker.rate, 4)}/h"
    events.append(connection, now, "worker", detail, epoch=epoch, worker_id=worker_id)


def expiring(connection: sqlite3.Connection) -> list[Worker]:
    """Workers in use whose rental ends by itself, the soonest first."""
    found = connection.execute(
        f"SELECT * FROM workers WHERE {LIVE} AND state <> 'releasing' AND expires_at IS NOT NULL ORDER BY expires_at"
    )
    return [rows.worker(row) for row in found]


def absent(connection: sqlite3.Connection, worker_id: int) -> int:
    """A complete listing lacks this worker's order; returns how many in a row have."""
    row = connection.execute(
        "UPDATE workers SET absences = absences + 1 WHERE id = ? RETURNING absences", (worker_id,)
    ).fetchall()
    return int(row[0][0])


def confirm_gone(
    connection: sqlite3.Connection, worker_id: int, detail: str, *, cause: Cause | None, now: int, epoch: int | None
) -> Worker:
    """The provider has confirmed that the machine is gone: `releasing` becomes `released`, everything else `lost`."""
    worker = _must(get(connection, worker_id))
    to = WorkerState.RELEASED if worker.state == WorkerState.RELEASING else WorkerState.LOST
    _move(connection, worker_id, to, now=now, epoch=epoch, cause=cause, detail=detail)
    connection.execute(
        "UPDATE workers SET ended_at = ?, idle_since = NULL, cause = coalesce(cause, ?), why = ? WHERE id = ?",
        (now, cause, detail, worker_id),
    )
    spans.finish(connection, worker_id, now)
    if worker.state == WorkerState.BOOTING:
        spans.relabel(connection, worker_id, "rejected")
    if worker.cause != Cause.HOST_FAULT and worker.held_from is not None:  # that was noted when it was given up
        hosts.note_end(connection, worker, detail, cause, now)
    return worker


def explain(connection: sqlite3.Connection, sentences: Iterable[tuple[int, str]]) -> None:
    """Set why each worker is still up; unchanged sentences cost nothing."""
    connection.executemany(
        "UPDATE workers SET why = ? WHERE id = ? AND why <> ?", [(why, worker, why) for worker, why in sentences]
    )


def ended_unbilled(connection: sqlite3.Connection, provider: str, since: int) -> list[tuple[int, str]]:
    """Workers (id, order id) that ended since then and whose cost is still our own estimate."""
    found = connection.execute(
        "SELECT id, order_id FROM workers WHERE provider = ? AND ended_at >= ? AND billed = 0"
        " AND order_id IS NOT NULL AND held_from IS NOT NULL",
        (provider, since),
    )
    return [(row["id"], row["order_id"]) for row in found]


def ended_holding(connection: sqlite3.Connection, provider: str, order_ids: Iterable[str]) -> list[Worker]:
    """Workers that count as ended although the provider lists their orders as alive."""
    wanted = list(order_ids)
    found = connection.execute(
        "SELECT workers.* FROM workers JOIN json_each(?) AS wanted ON workers.order_id = wanted.value"
        " WHERE provider = ? AND state IN ('released', 'lost')"
        " AND NOT EXISTS (SELECT 1 FROM workers AS newer WHERE newer.provider = workers.provider"
        " AND newer.order_id = workers.order_id AND newer.state NOT IN ('released', 'lost'))",
        (json.dumps(wanted), provider),
    )
    return [rows.worker(row) for row in found]


def ended_without_order(connection: sqlite3.Connection, provider: str, since: int) -> list[Worker]:
    """Workers that ended since then because no order was found to have come of their intent."""
    found = connection.execute(
        "SELECT * FROM workers WHERE provider = ? AND state = 'released' AND order_id IS NULL AND ended_at >= ?",
        (provider, since),
    )
    return [rows.worker(row) for row in found]


def order_appeared(
    connection: sqlite3.Connection, worker_id: int, order_id: str, held_from: int, *, now: int, epoch: int | None
) -> None:
    """An order came of an intent after all, when that had seemed impossible: note it, so that its bill is booked."""
    connection.execute(
        "UPDATE workers SET order_id = ?, held_from = ?, billed = 0 WHERE id = ?", (order_id, held_from, worker_id)
    )
    events.append(
        connection, now, "warning", f"order {order_id} appeared after all; it is given back", epoch=epoch,
        worker_id=worker_id,
    )  # fmt: skip


def still_costs(connection: sqlite3.Connection, worker_id: int, now: int) -> None:
    """An ended worker turns out to cost on: its books are open again until the provider's last word."""
    connection.execute("UPDATE workers SET billed = 0, ended_at = ? WHERE id = ?", (now, worker_id))
