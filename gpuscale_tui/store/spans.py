"""What each worker did when, and what that cost: the timeline of the fleet and the books, in one table.

A worker's cost is split over its spans in proportion to their time, without remainder (`model.money.split`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from gpuscale_tui.model.budget import day_start
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.money import Terms, format_usd, split
from gpuscale_tui.store import events, losses, notices
from gpuscale_tui.store.notices import NoticeKind

WORTH_SAYING = 10_000
"""A cent: a bill that differs by more from our own reckoning is told."""


def begin(
    connection: sqlite3.Connection,
    worker_id: int,
    kind: str,
    now: int,
    *,
    job_id: int | None = None,
    attempt: int | None = None,
) -> None:
    """End the worker's open span, if any, and begin the next one."""
    finish(connection, worker_id, now)
    connection.execute(
        "INSERT INTO spans (worker_id, kind, job_id, attempt, started_at) VALUES (?, ?, ?, ?, ?)",
        (worker_id, kind, job_id, attempt, now),
    )


def finish(connection: sqlite3.Connection, worker_id: int, now: int) -> None:
    """End the worker's open span."""
    connection.execute(
        "UPDATE spans SET ended_at = max(?, started_at) WHERE worker_id = ? AND ended_at IS NULL", (now, worker_id)
    )


def relabel(connection: sqlite3.Connection, worker_id: int, kind: str) -> None:
    """Book everything that no job held to another kind: a machine that was rejected was never set up."""
    connection.execute("UPDATE spans SET kind = ? WHERE worker_id = ? AND job_id IS NULL", (kind, worker_id))


def mark_lost(connection: sqlite3.Connection, job_id: int, attempt: int, saved_at: int | None) -> None:
    """Book the time of an attempt after its last snapshot as lost; without a snapshot all of it."""
    for row in connection.execute(
        "SELECT * FROM spans WHERE job_id = ? AND attempt = ? AND kind = 'job'", (job_id, attempt)
    ).fetchall():
        if saved_at is None or saved_at <= row["started_at"]:
            connection.execute("UPDATE spans SET kind = 'lost' WHERE id = ?", (row["id"],))
        elif row["ended_at"] is not None and saved_at < row["ended_at"]:
            _split_in_two(connection, row, saved_at)


def _split_in_two(connection: sqlite3.Connection, span: sqlite3.Row, at: int) -> None:
    """Leave a span its time until then and book the rest as lost; the cost goes with the time."""
    kept, lost = split(span["cost"], [at - span["started_at"], span["ended_at"] - at])
    connection.execute("UPDATE spans SET ended_at = ?, cost = ? WHERE id = ?", (at, kept, span["id"]))
    connection.execute(
        "INSERT INTO spans (worker_id, kind, job_id, attempt, started_at, ended_at, cost)"
        " VALUES (?, 'lost', ?, ?, ?, ?, ?)",
        (span["worker_id"], span["job_id"], span["attempt"], at, span["ended_at"], lost),
    )


def book(connection: sqlite3.Connection, worker_id: int, total: int, now: int, *, billed: bool) -> None:
    """Set what a worker has cost so far (micro-dollars) and split it over its spans and jobs.

    A machine that cost something though we never held it knowingly is booked as rejected.
    """
    row = connection.execute("SELECT cost, billed FROM workers WHERE id = ?", (worker_id,)).fetchone()
    if row["cost"] == total and bool(row["billed"]) == billed and total == 0:
        return
    connection.execute("UPDATE workers SET cost = ?, billed = ? WHERE id = ?", (total, int(billed), worker_id))
    if total != row["cost"]:
        connection.execute(
            "INSERT INTO ledger (at, worker_id, amount) VALUES (?, ?, ?)", (now, worker_id, total - row["cost"])
        )
    _split_over_spans(connection, worker_id, total, now)
    if billed:
        _compare(connection, worker_id, total, now)


def _compare(connection: sqlite3.Connection, worker_id: int, total: int, now: int) -> None:
    """Note what the provider's last word should have been by our own reckoning, and say where it is not.

    When exactly the machine went is not known: between our first asking it back (or the last that was heard of it) and
    the provider's word that it is gone. A bill within that is what we reckoned.
    """
    worker = connection.execute(
        "SELECT provider, terms, held_from, ended_at, coalesce(asked_back_at, contact_at, held_from) AS last_sign"
        " FROM workers WHERE id = ? AND ended_at IS NOT NULL AND held_from IS NOT NULL",
        (worker_id,),
    ).fetchone()
    if worker is None:
        return
    terms = Terms(**json.loads(worker["terms"]))
    least, most = (terms.charge(at - worker["held_from"]) for at in (worker["last_sign"], worker["ended_at"]))
    reckoned = min(max(total, min(least, most)), most)
    connection.execute("UPDATE workers SET reckoned = ? WHERE id = ?", (reckoned, worker_id))
    if abs(total - reckoned) > WORTH_SAYING:
        text = (
            f"{worker['provider']} charged {format_usd(total, 4)} for {worker_label(worker_id)}; by its price it should"
            f" have been {format_usd(reckoned, 4)}"
        )
        key = f"bill:{worker_id}:{total}"
        if notices.add(connection, now, NoticeKind.BILL, text, key=key, worker_id=worker_id):
            events.append(connection, now, "warning", text, worker_id=worker_id)


def _split_over_spans(connection: sqlite3.Connection, worker_id: int, total: int, now: int) -> None:
    spans = connection.execute(
        "SELECT id, kind, job_id, attempt, cost, max(0, coalesce(ended_at, ?) - started_at) AS held FROM spans"
        " WHERE worker_id = ? ORDER BY started_at, id",
        (now, worker_id),
    ).fetchall()
    if not spans and total == 0:
        return
    if not spans:
        begin(connection, worker_id, "rejected", now)
        finish(connection, worker_id, now)
        connection.execute("UPDATE spans SET cost = ? WHERE worker_id = ?", (total, worker_id))
        return
    shares = split(total, [span["held"] for span in spans])
    changed = [(share, span) for share, span in zip(shares, spans, strict=True) if share != span["cost"]]
    connection.executemany("UPDATE spans SET cost = ? WHERE id = ?", [(share, span["id"]) for share, span in changed])
    losses.follow_the_books(
        connection, {(span["job_id"], span["attempt"]) for _, span in changed if span["kind"] == "lost"}
    )
    grown: dict[int, int] = {}
    for share, span in changed:
        if span["job_id"] is not None:
            grown[span["job_id"]] = grown.get(span["job_id"], 0) + share - span["cost"]
    _sum_up(connection, grown, now)
    connection.executemany(
        "UPDATE jobs SET cost = (SELECT coalesce(sum(cost), 0) FROM spans WHERE job_id = jobs.id) WHERE id = ?",
        [(job_id,) for job_id in sorted(grown)],
    )


def _sum_up(connection: sqlite3.Connection, grown: Mapping[int, int], now: int) -> None:
    """Add what jobs have come to cost more (by id) to the day's sums of their projects and users."""
    for scope in ("project", "user"):
        connection.execute(
            f"INSERT INTO spent SELECT '{scope}', j.{scope}, ?, sum(g.value) FROM json_each(?) g"
            f" JOIN jobs j ON j.id = CAST(g.key AS INTEGER) WHERE j.{scope} IS NOT NULL GROUP BY 2 HAVING sum(g.value)"
            " ON CONFLICT DO UPDATE SET amount = amount + excluded.amount",
            (day_start(now), json.dumps(grown)),
        )
