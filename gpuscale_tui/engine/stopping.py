"""Ending an attempt before its time: why, by which signal, and how long its command has for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.jobs import Attempt, Job, JobSpec, job_label
from gpuscale_tui.model.states import Cause, WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.remote.attempts import AttemptRef, Exit
from gpuscale_tui.remote.errors import Unreachable
from gpuscale_tui.remote.site import Site
from gpuscale_tui.store import workers

SHARE_OF_GRACE = 0.75
"""Of the time until a machine goes back, a job's command may use so much to save and end; the rest is for fetching."""
HURRY_LOOK_SEC = 2.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StopReason:
    """Why a running attempt is asked to end before its time."""

    cause: Cause
    text: str
    by_user: bool = True


async def beside(main: Coroutine[None, None, T], *helpers: Coroutine[None, None, None]) -> T:
    """Run `main` with helpers that end with it. A helper's own failure is raised once `main` has ended."""
    tasks = [asyncio.create_task(helper) for helper in helpers]
    try:
        result = await main
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, Exception):
            raise outcome
    return result


class Stopping:
    """Ends one attempt's command when it is asked to; the first reason counts."""

    def __init__(self, context: Context, attempt: Attempt, ref: AttemptRef) -> None:
        self._context = context
        self._attempt = attempt
        self._ref = ref
        self._stop: asyncio.Future[StopReason] = asyncio.get_running_loop().create_future()

    def ask(self, reason: StopReason) -> None:
        """The attempt is to end before its time."""
        if not self._stop.done():
            self._stop.set_result(reason)

    @property
    def reason(self) -> StopReason | None:
        """Why it was asked to end, None while it was not."""
        return self._stop.result() if self._stop.done() else None

    async def unless_asked(self, work: Coroutine[None, None, T]) -> T | None:
        """What `work` brings; None when the attempt was asked to end first: then that is cancelled."""
        task = asyncio.create_task(work)
        try:
            either: set[asyncio.Future[Any]] = {task, self._stop}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def watch(self, site: Site, spec: JobSpec) -> None:
        """Wait for a reason, then tell the command to save and end, and kill it after its grace."""
        reason = await asyncio.shield(self._stop)
        why = f"{job_label(self._attempt.job_id)} is saved and stopped: {reason.text}"
        await self._context.db.note(workers.explain, [(self._attempt.worker_id, why)])
        grace, stop_signal = await self.manner(spec)
        if grace < full_grace(self._context, spec):
            attempt, full = self._attempt, full_grace(self._context, spec)
            await self._context.warn(
                f"it has {grace} s of its {full} s to save and end: its machine goes back sooner",
                job_id=attempt.job_id, attempt=attempt.number, worker_id=attempt.worker_id,
            )  # fmt: skip
        with contextlib.suppress(Unreachable):
            await beside(
                site.stop(self._ref, grace_sec=grace, signal=stop_signal), self._hurry(site, spec, grace)
            )  # fmt: skip

    async def _hurry(self, site: Site, spec: JobSpec, grace: int) -> None:
        """A machine that must go back sooner than was known leaves its job less time: told to it as soon as known."""
        clock = asyncio.get_running_loop().time
        end = clock() + grace
        while True:
            await asyncio.sleep(HURRY_LOOK_SEC)
            left, stop_signal = await self.manner(spec)
            if left < full_grace(self._context, spec) and clock() + left < end - HURRY_LOOK_SEC:
                end = clock() + left
                await site.stop(self._ref, grace_sec=left, signal=stop_signal)

    async def manner(self, spec: JobSpec | None) -> tuple[int, str]:
        """Seconds that the command has to save and end, and the signal that tells it to: not longer than its machine
        stays."""
        context = self._context
        full = context.settings.checkpoints.grace_sec if spec is None else full_grace(self._context, spec)
        worker = await context.db.read(workers.get, self._attempt.worker_id)
        ends = []
        if worker is not None and worker.state == WorkerState.RELEASING and worker.release_next_at is not None:
            ends.append(worker.release_next_at)
        control, shutdown_ms = context.control, context.settings.scaler.shutdown_grace_sec * 1000
        if control.at_once and control.at_once_since is not None:
            ends.append(control.at_once_since + round(shutdown_ms / 2))
        left = [max(1, int((end - context.now()) / 1000 * SHARE_OF_GRACE)) for end in ends]
        return min([full, *left]), "TERM" if spec is None else spec.stop_signal


def full_grace(context: Context, spec: JobSpec) -> int:
    """Seconds that a job has to save and end when nothing hurries it."""
    return context.settings.checkpoints.grace_sec if spec.grace_sec is None else spec.grace_sec


def how_hard(done: Exit) -> str:
    """Said of a command that did not end by itself when it was told to."""
    return "; it did not end when it was told to, and was killed" if done.killed else ""


def stop_reason(job: Job | None, worker: Worker | None, held: str | None, now: int) -> StopReason | None:
    """Why the store says that an attempt must end before its time, None when it need not.

    `held`: the limit of money that is used up for this job. A cancellation that can still be taken back is no reason.
    """
    if job is not None and job.cancel_requested_at is not None and job.cancel_requested_at <= now:
        return StopReason(Cause.CANCELLED, "cancelled by its user")
    if job is not None and job.is_moved:
        return StopReason(Cause.PREEMPTED, "moved on purpose, to rehearse that it resumes")
    if worker is not None and worker.state == WorkerState.RELEASING:
        by_user = worker.cause is None
        cause = Cause.PREEMPTED if by_user else worker.cause or Cause.HOST_FAULT
        return StopReason(cause, f"its machine goes back: {worker.why}", by_user=by_user)
    return None if held is None else StopReason(Cause.BUDGET, held, by_user=False)
