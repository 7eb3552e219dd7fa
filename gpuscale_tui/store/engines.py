"""The engine's own row, its epoch, and what users ask of it."""

from __future__ import annotations

import json
import secrets
import sqlite3
from dataclasses import dataclass

from gpuscale_tui.model.plain import clean
from gpuscale_tui.store import events


@dataclass(frozen=True, slots=True)
class EngineRow:
    """The engine of this home, running or last seen. `cap` is micro-dollars per hour."""

    epoch: int
    pid: int
    mode: str
    started_at: int
    heartbeat_at: int
    stopped_at: int | None
    cap: int
    max_workers: int
    note: str


@dataclass(frozen=True, slots=True)
class Request:
    """Something a user asks of the engine.

    stop, stop_now, scale_up or scale_down by `amount`, release of worker `amount`, rent of the offer that `about` names
    (JSON list of provider, server id, market), reload of the settings. It is not heard before `due_at` (UTC ms).
    """

    id: int
    at: int
    kind: str
    amount: int | None
    user: str
    about: str = ""
    due_at: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that an engine works under: micro-dollars per hour, number of machines."""

    cap: int
    max_workers: int


def installation(connection: sqlite3.Connection) -> str:
    """A short random name of this home, made at first use: directories on machines carry it."""
    connection.execute(
        "INSERT INTO meta (key, value) VALUES ('installation', ?) ON CONFLICT DO NOTHING", (secrets.token_hex(6),)
    )
    return str(connection.execute("SELECT value FROM meta WHERE key = 'installation'").fetchone()[0])


def known_installation(connection: sqlite3.Connection) -> str | None:
    """The same where it has been made already, for who only reads."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'installation'").fetchone()
    return None if row is None else str(row[0])


def begin_epoch(connection: sqlite3.Connection, pid: int, mode: str, limits: Limits, now: int) -> int:
    """Take the home over: from now on only this epoch may write as the engine."""
    epoch = int(
        connection.execute(
            "INSERT INTO engine (id, epoch, pid, mode, started_at, heartbeat_at, cap, max_workers)"
            " VALUES (1, 1, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1, pid = excluded.pid, mode = excluded.mode,"
            " started_at = excluded.started_at, heartbeat_at = excluded.heartbeat_at, stopped_at = NULL,"
            " cap = excluded.cap, max_workers = excluded.max_workers, note = '' RETURNING epoch",
            (pid, mode, now, now, limits.cap, limits.max_workers),
        ).fetchall()[0][0]
    )
    connection.execute(
        "UPDATE requests SET done_at = ?, result = 'the engine that it was meant for had stopped'"
        " WHERE done_at IS NULL AND kind IN ('stop', 'stop_now', 'reload')",
        (now,),
    )
    events.append(connection, now, "engine", f"started ({mode}, pid {pid})", epoch=epoch)
    return epoch


def heartbeat(connection: sqlite3.Connection, now: int, note: str) -> None:
    """The engine lives and this is what it does."""
    connection.execute("UPDATE engine SET heartbeat_at = ?, note = ?", (now, note))


def end_epoch(connection: sqlite3.Connection, note: str, now: int, epoch: int) -> None:
    """The engine has stopped in good order."""
    connection.execute("UPDATE engine SET stopped_at = ?, heartbeat_at = ?, note = ?", (now, now, note))
    events.append(connection, now, "engine", note, epoch=epoch)


def engine(connection: sqlite3.Connection) -> EngineRow | None:
    """The engine's row, None before the first start."""
    row = connection.execute(
        "SELECT epoch, pid, mode, started_at, heartbeat_at, stopped_at, cap, max_workers, note FROM engine"
    ).fetchone()
    return EngineRow(**dict(row)) if row else None


def limits(connection: sqlite3.Connection) -> Limits | None:
    """The limits that the engine in charge keeps to, None before the first start."""
    row = connection.execute("SELECT cap, max_workers FROM engine WHERE id = 1").fetchone()
    return None if row is None else Limits(row["cap"], row["max_workers"])


def adopt(connection: sqlite3.Connection, request_id: int, limits: Limits, words: str, *, now: int, epoch: int) -> None:
    """The settings were read anew: the engine's limits from now on, and what has changed in words."""
    connection.execute("UPDATE engine SET cap = ?, max_workers = ?", (limits.cap, limits.max_workers))
    close_request(connection, request_id, words, now)
    events.append(connection, now, "engine", f"settings read anew: {words}", epoch=epoch)


def ask(
    connection: sqlite3.Connection,
    kind: str,
    amount: int | None,
    *,
    about: str = "",
    user: str,
    now: int,
    wait_ms: int = 0,
) -> int:
    """Ask something of the engine, which does not hear it for `wait_ms`; returns the request's id."""
    request = connection.execute(
        "INSERT INTO requests (at, kind, amount, about, due_at, user) VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
        (now, kind, amount, about, now + wait_ms, user),
    ).fetchall()[0][0]
    words = " ".join(str(word) for word in (kind, amount, clean(about)[:200]) if word)
    events.append(connection, now, "request", f"{words} asked by {user}")
    return int(request)


def open_requests(connection: sqlite3.Connection, now: int | None = None) -> list[Request]:
    """What was asked and is not done, oldest first; with `now` only what is to be heard by then."""
    found = connection.execute(
        "SELECT id, at, kind, amount, user, about, due_at FROM requests"
        " WHERE done_at IS NULL AND (?1 IS NULL OR due_at <= ?1) ORDER BY id",
        (now,),
    )
    return [Request(**dict(row)) for row in found]


def take_back(connection: sqlite3.Connection, request_id: int, *, user: str, now: int) -> bool:
    """Take a request back before it was heard; False when it is too late."""
    taken = connection.execute(
        "UPDATE requests SET done_at = ?1, result = 'taken back' WHERE id = ?2 AND done_at IS NULL AND due_at > ?1",
        (now, request_id),
    ).rowcount
    if taken:
        events.append(connection, now, "request", f"request {request_id} taken back by {user}")
    return bool(taken)


def close_request(connection: sqlite3.Connection, request_id: int, result: str, now: int) -> None:
    """Say what came of a request."""
    connection.execute("UPDATE requests SET done_at = ?, result = ? WHERE id = ?", (now, result, request_id))


def is_open(connection: sqlite3.Connection, request_id: int) -> bool:
    """Whether a request waits to be carried out."""
    row = connection.execute("SELECT 1 FROM requests WHERE id = ? AND done_at IS NULL", (request_id,)).fetchone()
    return row is not None


def refuse(connection: sqlite3.Connection, request_id: int, why: str, now: int) -> None:
    """A request will not be carried out; one that is closed stays as it is."""
    closed = connection.execute(
        "UPDATE requests SET done_at = ?, result = ? WHERE id = ? AND done_at IS NULL RETURNING kind",
        (now, f"refused: {why}", request_id),
    ).fetchall()
    if closed:
        events.append(connection, now, "warning", f"the request to {closed[0]['kind']} is refused: {why}")


@dataclass(frozen=True, slots=True)
class Answer:
    """The newest request of a kind: what it was about, and what came of it; None while it is open."""

    at: int
    about: str
    done_at: int | None
    result: str | None


def newest(connection: sqlite3.Connection, kind: str) -> Answer | None:
    """The newest request of a kind and what came of it."""
    row = connection.execute(
        "SELECT at, about, done_at, result FROM requests WHERE kind = ? ORDER BY id DESC LIMIT 1", (kind,)
    ).fetchone()
    return None if row is None else Answer(**dict(row))


def fulfil_one(connection: sqlite3.Connection, request_id: int, now: int) -> None:
    """One of the machines that a request asks for is seen to; the last one closes the request."""
    connection.execute(
        "UPDATE requests SET amount = amount - 1, done_at = CASE WHEN amount <= 1 THEN ? END,"
        " result = CASE WHEN amount <= 1 THEN 'done' END WHERE id = ? AND done_at IS NULL",
        (now, request_id),
    )


def explain_groups(connection: sqlite3.Connection, reasons: dict[str, tuple[str, str]], now: int) -> None:
    """Set why the pending jobs of each group (by `Need.key`) wait: (code, sentence). Other groups' reasons go."""
    connection.execute(
        "DELETE FROM group_reasons WHERE group_key NOT IN (SELECT value FROM json_each(?))",
        (json.dumps(list(reasons)),),
    )
    connection.executemany(
        "INSERT INTO group_reasons (group_key, at, code, reason) VALUES (?, ?, ?, ?) ON CONFLICT (group_key)"
        " DO UPDATE SET at = excluded.at, code = excluded.code, reason = excluded.reason"
        " WHERE reason <> excluded.reason",
        [(key, now, code, reason) for key, (code, reason) in reasons.items()],
    )
