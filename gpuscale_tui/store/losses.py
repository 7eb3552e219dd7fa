"""What an end before its time costs: the work of an attempt that stands in no sound snapshot."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gpuscale_tui.model.durations import spoken_duration
from gpuscale_tui.model.jobs import Attempt, Lost
from gpuscale_tui.model.money import HOUR_MS, format_usd
from gpuscale_tui.store import events

WORTH_SAYING_MS = 1_000


@dataclass(frozen=True, slots=True)
class Kept:
    """How far an attempt's work is kept: until `at` (UTC ms; None: nothing of it), and which step that was."""

    at: int | None = None
    step: int | None = None


def kept(connection: sqlite3.Connection, attempt: Attempt) -> Kept:
    """What the newest snapshot of an attempt in which no fault is known has of its work, else the one that it resumed
    from."""
    row = connection.execute(
        "SELECT coalesce(of_at, at) AS at, step FROM snapshots WHERE job_id = ? AND attempt = ? AND fault IS NULL"
        " ORDER BY number DESC LIMIT 1",
        (attempt.job_id, attempt.number),
    ).fetchone()
    if row is not None:
        return Kept(int(row["at"]), row["step"])
    return Kept(None, attempt.resumed_step if attempt.resumed_from is not None else 0)


def told_step(connection: sqlite3.Connection, attempt: Attempt) -> int | None:
    """The newest step that an attempt told, as far as that was stored."""
    row = connection.execute(
        "SELECT step FROM progress WHERE job_id = ? AND attempt = ?", (attempt.job_id, attempt.number)
    ).fetchone()
    return None if row is None else row["step"]


def measure(
    connection: sqlite3.Connection, attempt: Attempt, before: Kept, *, step: int | None, now: int
) -> Lost | None:
    """What is lost of an attempt that ends now, `before` being what is kept; None when that is nothing.

    `step` is the last that it told. Without a snapshot all of its time is lost, setting up too.
    """
    since = attempt.assigned_at if before.at is None else max(before.at, attempt.assigned_at)
    if since >= now:
        return None
    row = connection.execute("SELECT rate FROM workers WHERE id = ?", (attempt.worker_id,)).fetchone()
    rate = 0 if row is None else int(row["rate"])
    steps = None if step is None or before.step is None else max(0, step - before.step)
    return Lost(now - since, (now - since) * rate // HOUR_MS, steps)


def record(connection: sqlite3.Connection, attempt: Attempt, lost: Lost, *, now: int, epoch: int | None) -> None:
    """Note what an attempt's end cost, and say it where it is worth it."""
    connection.execute(
        "UPDATE attempts SET lost_ms = ?, lost_cost = ?, lost_steps = ? WHERE job_id = ? AND number = ?",
        (lost.ms, lost.cost, lost.steps, attempt.job_id, attempt.number),
    )
    if attempt.started_at is not None and (lost.ms >= WORTH_SAYING_MS or lost.steps):
        events.append(
            connection, now, "attempt", in_words(lost), epoch=epoch, job_id=attempt.job_id, attempt=attempt.number,
            worker_id=attempt.worker_id,
        )  # fmt: skip


def in_words(lost: Lost) -> str:
    """`lost 3 min 12 s of work, 140 steps, $0.02`."""
    parts = [f"lost {spoken_duration(lost.ms // 1000)} of work"]
    if lost.steps is not None:
        parts.append("1 step" if lost.steps == 1 else f"{lost.steps} steps")
    if lost.cost:
        parts.append(format_usd(lost.cost, 2 if lost.cost >= 10_000 else 4))
    return ", ".join(parts)


def follow_the_books(connection: sqlite3.Connection, attempts: set[tuple[int, int]]) -> None:
    """What lost time cost is what its spans cost: so that the sums agree whenever a machine is booked anew."""
    connection.executemany(
        "UPDATE attempts SET lost_cost = (SELECT coalesce(sum(cost), 0) FROM spans WHERE kind = 'lost'"
        " AND spans.job_id = attempts.job_id AND spans.attempt = attempts.number)"
        " WHERE job_id = ? AND number = ? AND lost_ms IS NOT NULL",
        sorted(attempts),
    )
