"""Rehearsing a move: after a job's first snapshot it is stopped on purpose, and what comes after is compared."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

from gpuscale_tui.model.jobs import Attempt, job_label, worker_label
from gpuscale_tui.model.states import FINAL_JOB_STATES, AttemptState, Cause, JobState, Rehearsal
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy import rehearsing
from gpuscale_tui.policy.rehearsing import Compared, Told
from gpuscale_tui.store import logs, rehearsals
from gpuscale_tui.store.rehearsals import Sight

if TYPE_CHECKING:
    from gpuscale_tui.engine.context import Context  # verbs ask without an engine

LOOK_SEC = 10.0
RETRY_SEC = 2.0
"""So often a job is looked at that has no snapshot yet."""
SOON_SEC = 0.5
"""So often a job that is being moved."""
HEAD_BYTES = 64 * 1024
TAIL_BYTES = 256 * 1024
"""So much of the begin and the end of an attempt's output is read for what it tells."""
SETTLED_MS = 60_000
"""A job whose output tells no step has gone on when it has run for so long, or has a new snapshot."""


def ask(connection: sqlite3.Connection, job_id: int, *, elsewhere: bool = False, user: str, now: int) -> Rehearsal:
    """Want a job to be moved once on purpose, after its first snapshot; returns how far its rehearsal is.

    Harmless to repeat. `elsewhere`: its machine goes back for it, so that it needs another. A command as in
    `engine.commands`. Raises NotFound, and Refused for a job that is over or is being cancelled.
    """
    return rehearsals.ask(connection, job_id, elsewhere=elsewhere, user=user, now=now)


def forecast(connection: sqlite3.Connection, job_id: int, *, elsewhere: bool, now: int) -> str:
    """What a rehearsal of this job will mean and about what it costs, in a sentence."""
    sight = rehearsals.look_at(connection, job_id)
    label = job_label(job_id)
    if sight is None or sight.latest is None or sight.now_on is None or sight.latest.ended_at is not None:
        return f"{label} will be stopped once after its first snapshot, and goes on from that"
    when = "now, after a last save," if sight.saved is not None else "after its first snapshot"
    where = "another machine: its own is given back" if elsewhere else "another machine where one is idle, else its own"
    begun = sight.latest.started_at or now
    staging_ms = begun - sight.latest.assigned_at
    again_ms = now - (begun if sight.saved is None else sight.saved.at)
    took = rehearsing.lost_words(staging_ms + again_ms, sight.now_on.rate)
    known = f": about {took}, most of it work since its last snapshot" if sight.saved is not None else ""
    return f"{label} is stopped {when} and goes on from its snapshot on {where}{known}"


class Rehearser:
    """Carries rehearsals on from state to state; each may be the last of this engine."""

    name = "rehearser"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[tuple[int, int], tuple[int, Told]] = {}
        """How much output of an attempt was read, and what it told."""

    async def tick(self) -> float:
        """See `Service.tick`."""
        found = await self._context.db.read(rehearsals.under_way)
        for sight in found:
            await self._advance(sight)
        if not found:
            self._known.clear()
            return LOOK_SEC
        return RETRY_SEC if all(sight.job.rehearsal == Rehearsal.WANTED for sight in found) else SOON_SEC

    async def last_look(self) -> None:
        """What can be said by now is stored, before the engine ends."""
        await self.tick()

    async def _advance(self, sight: Sight) -> None:
        job, latest = sight.job, sight.latest
        if sight.moved is None or latest is None or latest.number == sight.moved.number:
            if job.state in FINAL_JOB_STATES:
                how = "was cancelled" if job.state == JobState.CANCELLED else "ended"
                await self._conclude(sight, Rehearsal.NONE, f"not rehearsed: it {how} before it could be moved")
            elif job.rehearsal == Rehearsal.WANTED and latest is not None and latest.state == AttemptState.RUNNING:
                await self._move(sight)
        elif latest.state in {AttemptState.RUNNING, AttemptState.SAVING, AttemptState.ENDED}:
            await self._judge(sight, sight.moved, latest)

    async def _move(self, sight: Sight) -> None:
        context = self._context
        if sight.saved is None or context.control.drain:
            return
        grace_ms = int(context.settings.scaler.shutdown_grace_sec * 1000)
        if await context.db.write(rehearsals.move, sight, grace_ms=grace_ms, now=context.now(), epoch=context.epoch):
            context.bells.ring("runner", "releaser", "planner")

    async def _judge(self, sight: Sight, moved: Attempt, latest: Attempt) -> None:
        context = self._context
        if sight.job.rehearsal == Rehearsal.MOVING:
            await context.db.write(rehearsals.resumed, latest, now=context.now(), epoch=context.epoch)
        if latest.resumed_from is None:
            text = "its new attempt was given nothing to resume from (GPUSCALE_RESUME_FROM was empty)"
            await self._conclude(sight, Rehearsal.FAILED, f"resume failed: {text}")
            return
        found = self._judged(sight, latest, await self._told(moved), await self._told(latest))
        if found is not None and found.ok:
            await self._conclude(sight, Rehearsal.VERIFIED, f"resume verified: {found.text}{_what_it_took(sight)}")
        elif found is not None:
            await self._conclude(sight, Rehearsal.FAILED, f"resume failed: {found.text}")
        elif sight.job.state == JobState.CANCELLED:
            await self._conclude(sight, Rehearsal.NONE, "not rehearsed: it was cancelled before it could be compared")

    def _judged(self, sight: Sight, latest: Attempt, before: Told, after: Told) -> Compared | None:
        """The verdict; None while it is too early for one, or where a cancelled job told too little."""
        over = sight.job.state in FINAL_JOB_STATES and latest.state == AttemptState.ENDED
        unit, old, new = rehearsing.comparable(before, after)
        if old and (rehearsing.is_enough(old, new) or (new and over)):
            saved = sight.source
            place = None if saved is None else saved.step if unit == "step" else _whole(saved.epoch)
            return rehearsing.compare(unit, old, new, place)
        if over and latest.cause != Cause.CANCELLED:
            return _ended(latest)
        if old or latest.started_at is None or latest.state != AttemptState.RUNNING:
            return None
        settled = self._context.now() - latest.started_at >= SETTLED_MS
        words = "its files came back; its output tells no step to compare"
        return Compared(True, words) if settled or sight.saved is not None else None

    async def _told(self, attempt: Attempt) -> Told:
        """What the begin and the end of an attempt's output tell."""
        key = attempt.job_id, attempt.number
        size, ends = await self._context.logs.query(_ends, *key, self._known.get(key, (-1, None))[0])
        if ends is not None:
            self._known[key] = size, await asyncio.to_thread(_read, ends)
        return self._known[key][1]

    async def _conclude(self, sight: Sight, verdict: Rehearsal, detail: str) -> None:
        context = self._context
        await context.db.write(
            rehearsals.conclude, sight, verdict, detail, now=context.now(), epoch=context.epoch
        )  # fmt: skip


def _ends(connection: sqlite3.Connection, job_id: int, number: int, known: int) -> tuple[int, bytes | None]:
    """How much output an attempt has, and its begin and its end; None where no more is there than was `known`."""
    size = logs.size(connection, job_id, number)
    if size == known:
        return size, None
    head = logs.read(connection, job_id, number, 0, min(size, HEAD_BYTES))
    if size <= HEAD_BYTES:
        return size, head
    tail = logs.read(connection, job_id, number, max(HEAD_BYTES, size - TAIL_BYTES), size)
    return size, head.rpartition(b"\n")[0] + b"\n" + tail.partition(b"\n")[2]


def _read(data: bytes) -> Told:
    return rehearsing.told(data.decode("utf-8", "replace").replace("\r", "\n").split("\n")[:-1])


def _whole(epoch: float | None) -> int | None:
    return None if epoch is None else int(epoch)


def _ended(latest: Attempt) -> Compared:
    """The verdict on a new attempt that has ended without telling where it began."""
    if latest.cause == Cause.FINISHED:
        return Compared(True, "its files came back and it finished; it told no step to compare")
    return Compared(False, f"its new attempt ended ({latest.cause}, exit code {latest.exit_code}) and told no step")


def _what_it_took(sight: Sight) -> str:
    """Time without work and work that was done again, in words; and where it went on."""
    moved, latest, worker = sight.moved, sight.latest, sight.now_on
    if moved is None or latest is None or worker is None:
        return ""
    begun, stopped = latest.started_at or latest.assigned_at, moved.ended_at or latest.assigned_at
    lost_ms = max(0, begun - stopped) + (0 if moved.lost is None else moved.lost.ms)
    return f", {rehearsing.lost_words(lost_ms, worker.rate)}; {_where(sight.left, worker)}"


def _where(left: Worker | None, worker: Worker) -> str:
    label = worker_label(worker.id)
    if left is None or (left.provider, left.server_id) != (worker.provider, worker.server_id):
        return f"on another machine, {label}"
    return f"on its own machine {label}" if left.id == worker.id else f"on the same host, rented anew as {label}"
