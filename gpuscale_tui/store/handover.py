"""A terminal that was lost with an engine behind it: noted when it happens, told when the screen is opened again."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gpuscale_tui.model.money import format_usd
from gpuscale_tui.store import events
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home

LOST = "the terminal was lost; an engine in the background goes on"
_TOLD = "terminal lost, told"


@dataclass(frozen=True, slots=True)
class Since:
    """What has happened since the terminal was lost `at` (UTC ms). `spent` in micro-dollars."""

    at: int
    done: int
    failed: int
    spent: int
    machines: int
    pending: int
    running: int


def note_lost(home: Home, now: int) -> None:
    """Write down that the terminal was lost. Raises StoreError."""
    with Database(home.database) as db:
        db.write(lambda connection: events.append(connection, now, "engine", LOST))


def told_now(connection: sqlite3.Connection, now: int) -> Since | None:
    """What happened since the terminal was lost last, to be told once; None when that was told, or never was."""
    lost = connection.execute(
        "SELECT id, at FROM events WHERE id > (SELECT coalesce(max(id), 0) - 100000 FROM events)"
        " AND kind = 'engine' AND detail = ? ORDER BY id DESC LIMIT 1",
        (LOST,),
    ).fetchone()
    if lost is None:
        return None
    told = connection.execute("SELECT value FROM meta WHERE key = ?", (_TOLD,)).fetchone()
    if told is not None and int(told[0]) >= lost["id"]:
        return None
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
        (_TOLD, str(lost["id"])),
    )
    return _since(connection, int(lost["at"]), now)


def _since(connection: sqlite3.Connection, at: int, now: int) -> Since:
    def count(states: str, more: str = "", bound: tuple[int, ...] = ()) -> int:
        return int(connection.execute(f"SELECT count(*) FROM jobs WHERE state {states}{more}", bound).fetchone()[0])

    spent = connection.execute("SELECT coalesce(sum(amount), 0) FROM ledger WHERE at > ? AND at <= ?", (at, now))
    machines = connection.execute("SELECT count(*) FROM workers WHERE state NOT IN ('released', 'lost')")
    return Since(
        at=at,
        done=count("= 'done'", " AND finished_at > ?", (at,)),
        failed=count("= 'failed'", " AND finished_at > ?", (at,)),
        spent=int(spent.fetchone()[0]),
        machines=int(machines.fetchone()[0]),
        pending=count("= 'pending'"),
        running=count("= 'running'"),
    )


def words(since: Since, when: str) -> str:
    """One sentence; `when` is the time as the screen writes it."""
    ended = f"{since.done} job{'' if since.done == 1 else 's'} finished"
    ended += f", {since.failed} failed" if since.failed else ""
    now = f"now {since.running} run, {since.pending} wait, {since.machines} machines are rented"
    return (
        f"The terminal was lost at {when}; the engine in the background went on: {ended},"
        f" {format_usd(since.spent)} spent; {now}."
    )
