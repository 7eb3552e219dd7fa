"""What came of renting each machine: outcomes, appended in the transaction that makes them, and what follows of them.

Breakers, ranks and the list of hosts are all made from outcomes. Users' bans stand beside them.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict

from gpuscale_tui.model.cuda import image_cuda, parse_cuda
from gpuscale_tui.model.hosts import (
    Ban,
    Card,
    Examination,
    HostHistory,
    HostId,
    MarketHistory,
    Outcome,
    OutcomeKind,
    Promise,
)
from gpuscale_tui.model.offers import Offer
from gpuscale_tui.model.states import Cause
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.store import events

SETTLED_MS = 600_000
"""Rentals that were held for less say little about how a bill compares with the price: billing units outweigh it."""


def note(
    connection: sqlite3.Connection,
    worker: Worker,
    kind: OutcomeKind,
    detail: str,
    *,
    now: int,
    examined: Examination | None = None,
    stays: bool = False,
) -> None:
    """Append what came of a machine; `worker` as it stood before. One that `stays` is held on."""
    held = None if worker.held_from is None else max(0, now - worker.held_from)
    found = examined or Examination()
    connection.execute(
        "INSERT INTO outcomes (at, worker_id, provider, server_id, owner, image, market, kind, setup_ms, held_ms,"
        " lost_ms, down_mbps, up_mbps, examined, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (now, worker.id, worker.provider, worker.server_id, worker.owner, worker.image, worker.market, kind,
         held if kind == OutcomeKind.READY else None,
         None if stays or kind == OutcomeKind.READY else held,
         _unsaved_ms(connection, worker, now) if kind in {OutcomeKind.LOST, OutcomeKind.EVICTED} else None,
         found.down_mbps, found.up_mbps, None if examined is None else json.dumps(asdict(examined)), detail[:500]),
    )  # fmt: skip


def note_end(connection: sqlite3.Connection, worker: Worker, detail: str, cause: Cause | None, now: int) -> None:
    """What came of a machine whose end nobody had ordered, or that was given back in good order."""
    if cause == Cause.PREEMPTED:
        note(connection, worker, OutcomeKind.EVICTED, detail, now=now)
    elif cause == Cause.HOST_FAULT:
        kind = OutcomeKind.NO_START if worker.ready_at is None else OutcomeKind.LOST
        note(connection, worker, kind, detail, now=now)
    elif worker.ready_at is not None:
        note(connection, worker, OutcomeKind.RETURNED, "", now=now)


def _unsaved_ms(connection: sqlite3.Connection, worker: Worker, now: int) -> int:
    """How much work of the job on a machine stands in no snapshot."""
    row = connection.execute(
        "SELECT max(a.started_at, coalesce((SELECT max(at) FROM snapshots s WHERE s.job_id = a.job_id"
        " AND s.attempt = a.number), 0)) AS since FROM attempts a WHERE a.job_id = ? AND a.number = ?",
        (worker.job_id, worker.attempt),
    ).fetchone()
    return 0 if row is None or row["since"] is None else max(0, now - int(row["since"]))


def remember_offer(connection: sqlite3.Connection, worker_id: int, offer: Offer) -> None:
    """Keep what a machine was offered as, for its test."""
    promised = {"memory_gb": offer.gpu_memory_gb, "cuda": offer.cuda_version}
    connection.execute("UPDATE workers SET promised = ? WHERE id = ?", (json.dumps(promised), worker_id))


def promise(connection: sqlite3.Connection, worker: Worker) -> Promise:
    """What a machine was offered as."""
    row = connection.execute("SELECT promised FROM workers WHERE id = ?", (worker.id,)).fetchone()
    said = json.loads(row["promised"]) if row is not None and row["promised"] else {}
    return Promise(
        gpu_type=worker.gpu_type,
        gpu_count=worker.gpu_count,
        memory_gb=said.get("memory_gb"),
        cuda=parse_cuda(said.get("cuda")),
        image_cuda=None if worker.image is None else image_cuda(worker.image),
    )


def newest(connection: sqlite3.Connection) -> int:
    """Id of the newest outcome, 0 where there is none: as long as it stays the same, so does all that follows."""
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM outcomes").fetchone()[0])


def outcomes(connection: sqlite3.Connection, since: int) -> list[Outcome]:
    """What happened since then (UTC ms), oldest first."""
    found = connection.execute(
        "SELECT at, kind, provider, server_id, owner, image, market, detail FROM outcomes WHERE at >= ?"
        " ORDER BY at, id",
        (since,),
    )
    return [Outcome(row[0], OutcomeKind(row[1]), *row[2:]) for row in found]


_COUNTS = ", ".join(
    f"count(*) FILTER (WHERE kind = '{kind}') AS {name}"
    for kind, name in (
        ("ready", "setups"), ("refused", "refusals"), ("no_start", "no_starts"), ("failed_test", "failed_tests"),
        ("lost", "losses"), ("evicted", "evictions"), ("job_fault", "job_faults"),
    )
)  # fmt: skip
_HOSTS = f"""
    SELECT provider, server_id, max(owner) AS owner, {_COUNTS},
        count(DISTINCT worker_id) FILTER (WHERE kind <> 'refused') AS rentals,
        coalesce(sum(setup_ms), 0) AS setup_ms, coalesce(sum(held_ms), 0) AS held_ms,
        coalesce(sum(lost_ms), 0) AS lost_ms, avg(down_mbps) AS down_mbps, avg(up_mbps) AS up_mbps,
        max(at) AS last_at, max(at) FILTER (WHERE kind NOT IN ('ready', 'returned')) AS last_fault_at
    FROM outcomes WHERE at >= :since AND {{whose}} GROUP BY provider, server_id
"""
_BILLS = f"""
    SELECT provider, server_id, sum(cost) AS billed,
        sum(rate * (ended_at - held_from) / 3600000 + CASE WHEN ended_at - held_from >
            json_extract(terms, '$.creation_fee_after_ms') THEN json_extract(terms, '$.creation_fee') ELSE 0 END
        ) AS quoted
    FROM workers WHERE ended_at >= :since AND billed = 1 AND ended_at - held_from >= {SETTLED_MS}
        AND {{whose}} GROUP BY provider, server_id
"""


_FAULTS = """
    SELECT provider, server_id, detail, max(id) FROM outcomes WHERE kind NOT IN ('ready', 'returned')
        AND at >= :since AND {whose} GROUP BY provider, server_id
"""
"""SQLite takes the other columns from the row with the largest id: what each host failed with last."""
_ONE = "server_id = :server AND provider = :provider"


def histories(connection: sqlite3.Connection, since: int, host: HostId | None = None) -> list[HostHistory]:
    """What is known of every host (or one) since then (UTC ms), those with the newest outcome first."""
    provider, server = host or (None, None)
    wanted = {"since": since, "provider": provider, "server": server}
    rows, bills, faults = (
        [dict(row) for row in connection.execute(query.format(whose="1" if host is None else _ONE), wanted)]
        for query in (_HOSTS, _BILLS, _FAULTS)
    )
    billed = {(row["provider"], row["server_id"]): (row["billed"], row["quoted"]) for row in bills}
    last = {(row["provider"], row["server_id"]): row["detail"] for row in faults}
    for row in rows:
        key = (row["provider"], row["server_id"])
        row["billed"], row["quoted"] = billed.get(key, (0, 0))
        row["last_fault"] = last.get(key, "")
    return sorted((HostHistory(**row) for row in rows), key=lambda known: (-known.last_at, known.host))


def market_histories(connection: sqlite3.Connection, since: int) -> dict[tuple[str, str], MarketHistory]:
    """What each way of renting (provider, market) has brought since then (UTC ms)."""
    found = connection.execute(
        "SELECT provider, market, coalesce(sum(held_ms), 0) AS held_ms, coalesce(sum(lost_ms), 0) AS lost_ms,"
        " count(*) FILTER (WHERE kind = 'evicted') AS evictions, count(*) FILTER (WHERE kind = 'ready') AS setups,"
        " coalesce(sum(setup_ms), 0) AS setup_ms FROM outcomes WHERE at >= ? GROUP BY provider, market",
        (since,),
    )
    return {
        (row["provider"], row["market"]): MarketHistory(
            row["held_ms"], row["evictions"], row["lost_ms"], row["setups"], row["setup_ms"]
        )
        for row in found
    }


def examination_of(connection: sqlite3.Connection, worker_id: int) -> Examination | None:
    """What the test of one machine found, None where it was not tested."""
    row = connection.execute(
        "SELECT examined FROM outcomes WHERE worker_id = ? AND examined IS NOT NULL ORDER BY id DESC LIMIT 1",
        (worker_id,),
    ).fetchone()
    if row is None:
        return None
    said = json.loads(row["examined"])
    cards = None if said["cards"] is None else tuple(Card(**card) for card in said.pop("cards"))
    cuda = None if said["cuda"] is None else (said["cuda"][0], said["cuda"][1])
    return Examination(**{**said, "cards": cards, "cuda": cuda})


def bans(connection: sqlite3.Connection, now: int) -> list[Ban]:
    """The bans that hold now, newest first."""
    found = connection.execute("SELECT * FROM bans WHERE until IS NULL OR until > ? ORDER BY at DESC, key", (now,))
    return [Ban(**dict(row)) for row in found]


def ban(connection: sqlite3.Connection, order: Ban) -> None:
    """Ban a host or an owner; an earlier ban of the same is replaced."""
    connection.execute(
        "INSERT OR REPLACE INTO bans (scope, provider, key, at, until, reason, user) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (order.scope, order.provider, order.key, order.at, order.until, order.reason, order.user),
    )
    why = f": {order.reason}" if order.reason else ""
    if order.scope == "host":
        _say_on_the_market(connection, order.provider, order.key, f"banned by {order.user}{why}")
    events.append(
        connection, order.at, "request", f"{order.scope} {order.key} of {order.provider} banned by {order.user}{why}"
    )


def unban(connection: sqlite3.Connection, scope: str, provider: str, key: str, *, user: str, now: int) -> bool:
    """Lift a ban; False where there was none."""
    gone = connection.execute(
        "DELETE FROM bans WHERE scope = ? AND provider = ? AND key = ? RETURNING key", (scope, provider, key)
    ).fetchall()
    if gone:
        if scope == "host":
            _say_on_the_market(connection, provider, key, "no longer banned; judged at the next look")
        events.append(connection, now, "request", f"{scope} {key} of {provider} no longer banned, by {user}")
    return bool(gone)


def _say_on_the_market(connection: sqlite3.Connection, provider: str, server_id: str, verdict: str) -> None:
    """The last reading of the market says so at once; the next one is judged anew."""
    connection.execute(
        "UPDATE offers SET verdict = ? WHERE provider = ? AND server_id = ?", (verdict, provider, server_id)
    )


def providers_of(connection: sqlite3.Connection, scope: str, key: str) -> list[str]:
    """Providers that are known to have a server (or owner) of this id."""
    column = "owner" if scope == "owner" else "server_id"
    query = f"SELECT provider FROM outcomes WHERE {column} = ?1 UNION SELECT provider FROM bans WHERE key = ?1"
    if scope == "host":
        query += " UNION SELECT provider FROM offers WHERE server_id = ?1"
    query += f" UNION SELECT provider FROM workers WHERE {column} = ?1 ORDER BY 1"
    return [row[0] for row in connection.execute(query, (key,))]


def forgive_setup(connection: sqlite3.Connection, job_id: int, now: int) -> None:
    """A job has started, or its user wants another try: what setting up for its group cost until now is forgiven."""
    connection.execute(
        "INSERT INTO group_marks (group_key, at) SELECT group_key, ?1 FROM jobs WHERE id = ?2"
        " ON CONFLICT (group_key) DO UPDATE SET at = excluded.at",
        (now, job_id),
    )


def holds_back(connection: sqlite3.Connection, job_id: int) -> bool:
    """Whether the engine said last that setting up for a job's group has cost enough."""
    row = connection.execute(
        "SELECT 1 FROM jobs j JOIN group_reasons g ON g.group_key = j.group_key WHERE j.id = ? AND g.code = 'setup'",
        (job_id,),
    ).fetchone()
    return row is not None


def setup_spent(connection: sqlite3.Connection, since: int) -> dict[str, int]:
    """Micro-dollars by group of pending jobs that machines rented for it since then (UTC ms) cost without work.

    Only what was rented after the last job of the group started counts.
    """
    found = connection.execute(
        "SELECT w.group_key, sum(s.cost) FROM (SELECT DISTINCT group_key FROM jobs WHERE state = 'pending') p"
        " LEFT JOIN group_marks m ON m.group_key = p.group_key"
        " CROSS JOIN workers w ON w.group_key = p.group_key AND w.created_at > max(coalesce(m.at, 0), ?)"
        " CROSS JOIN spans s ON s.worker_id = w.id AND s.kind IN ('setup', 'rejected')"
        " GROUP BY w.group_key HAVING sum(s.cost) > 0",
        (since,),
    )
    return {row[0]: int(row[1]) for row in found}


def recent_machines(connection: sqlite3.Connection, job_id: int, limit: int = 50) -> list[tuple[HostId, str | None]]:
    """The machines of a job's newest attempts, first to last, and why each attempt ended."""
    found = connection.execute(
        "SELECT w.provider, w.server_id, a.cause FROM attempts a JOIN workers w ON w.id = a.worker_id"
        " WHERE a.job_id = ? AND a.state = 'ended' ORDER BY a.number DESC LIMIT ?",
        (job_id, limit),
    ).fetchall()
    return [((row["provider"], row["server_id"]), row["cause"]) for row in reversed(found)]
