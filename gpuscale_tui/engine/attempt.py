"""One attempt from its assignment to its end, resumable at every point: stage, run, save, end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from gpuscale_tui.engine import dispatch, fetching, staging
from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.dispatch import Assignment
from gpuscale_tui.engine.ending import AttemptEnd
from gpuscale_tui.engine.links import Links
from gpuscale_tui.engine.progress import ProgressWatch
from gpuscale_tui.engine.saver import Saver
from gpuscale_tui.engine.saving import SavingWatch
from gpuscale_tui.engine.staging import JobInputError
from gpuscale_tui.engine.stopping import Stopping, StopReason, beside, full_grace, how_hard, stop_reason
from gpuscale_tui.model.hosts import OutcomeKind
from gpuscale_tui.model.jobs import Attempt, Job, job_label, worker_label
from gpuscale_tui.model.states import AttemptState, Cause
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.remote.attempts import AttemptRef, Exit
from gpuscale_tui.remote.errors import (
    AttemptVanished,
    AuthRefused,
    HostKeyChanged,
    LaunchRefused,
    RemoteError,
    Unreachable,
)
from gpuscale_tui.remote.launch import Launch
from gpuscale_tui.remote.site import Site
from gpuscale_tui.store import budgets, events, jobs, workers
from gpuscale_tui.store.secrets import read_job_secrets

FIRST_RETRY_SEC = 0.5
LONGEST_RETRY_SEC = 20.0
KILLED = Exit(137, timed_out=False, output_size=0, killed=True)
"""How a command ended of which nothing more is known."""
MEGABYTE = 1_000_000
CUT = b"\n[the rest of this output is not kept: it is longer than logs.max_mb of the settings]\n"
Ended = Callable[[Attempt, tuple[Assignment, ...]], None]
"""Told once an attempt has ended, with those that were placed in the same moment."""


class AttemptRun:
    """Carries one attempt through. `ask_to_stop` may be called at any time."""

    def __init__(self, context: Context, links: Links, attempt: Attempt, ended: Ended) -> None:
        self._context = context
        self._links = links
        self._attempt = attempt
        self._ended = ended
        self._placed: Assignment | None = None
        self._output: int | None = None
        self._position = 0
        self._ref = AttemptRef(context.base, attempt.remote_name)
        self._saver = Saver(context, attempt, self._ref)
        self._saving = SavingWatch(context, attempt, self._saver)
        self._stopping = Stopping(context, attempt, self._ref)
        self._progress = ProgressWatch(
            context, attempt, self._ref, output=lambda: self._position, saved=lambda: self._saving.taken,
            stalled=self._put_back_stalled,
        )  # fmt: skip

    def ask_to_stop(self, reason: StopReason) -> None:
        """End the attempt before its time, after a save; the first reason counts."""
        self._stopping.ask(reason)

    def save_now(self) -> None:
        """Take a snapshot as soon as the command runs, and say what came of it."""
        self._saving.ask()

    async def run(self, placed: Assignment | None = None) -> None:
        """Go on from wherever the attempt stands until it has ended. An unreachable machine is tried for ever:
        whether it is gone is for its provider to say. `placed`: it was placed this instant and nothing was done yet."""
        self._placed = placed
        pause = FIRST_RETRY_SEC
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                return await self._proceed()
            except AttemptVanished as error:
                await self._save_what_is_left(KILLED)
                return await self._end(AttemptEnd(Cause.HOST_FAULT, error=f"the machine lost the command: {error}"))
            except (JobInputError, LaunchRefused) as error:
                return await self._end(AttemptEnd(Cause.USER_ERROR, error=str(error)))
            except (Unreachable, AuthRefused, HostKeyChanged) as error:
                await self._note(f"{job_label(self._attempt.job_id)}: no contact, tried again: {error}")
            except RemoteError as error:
                if await self._certainly_stopped():
                    return await self._end(AttemptEnd(Cause.HOST_FAULT, error=str(error)))
            if loop.time() - begun > LONGEST_RETRY_SEC:  # it went well for a while
                pause = FIRST_RETRY_SEC
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_RETRY_SEC)

    async def _certainly_stopped(self) -> bool:
        """Whether nothing of this attempt runs on its machine any more, or ever will: only then may it end."""
        worker = await self._context.db.read(workers.get, self._attempt.worker_id)
        if worker is None:
            return True
        try:
            site = await self._links.site(worker)
            found = await self._context.db.read(jobs.get, self._attempt.job_id)
            grace, stop_signal = await self._stopping.manner(None if found is None else found.spec)
            done = await site.stop(self._ref, grace_sec=grace, signal=stop_signal)
        except RemoteError as error:
            await self._note(f"{job_label(self._attempt.job_id)}: could not be stopped, tried again: {error}")
            return False
        if done.has_checkpoints or done.has_outputs:
            await self._save_what_is_left(done)
        return True

    async def _save_what_is_left(self, done: Exit) -> None:
        """Of an attempt that ends because something failed: whatever its machine still has is worth a try."""
        worker = await self._context.db.read(workers.get, self._attempt.worker_id)
        current = await self._context.db.read(
            jobs.get_attempt, self._attempt.job_id, self._attempt.number
        )  # fmt: skip
        if worker is None or current is None or current.started_at is None:
            return  # nothing was done yet
        try:
            site = await self._links.site(worker)
            await self._saving.save_last(site, done)
            await fetching.fetch(self._context, site, self._attempt, self._ref, told_of=done.has_outputs)
        except RemoteError as error:
            await self._warn(f"what it had left could not be saved: {error}")

    async def _note(self, why: str) -> None:
        await self._context.db.note(workers.explain, [(self._attempt.worker_id, why)])

    async def _proceed(self) -> None:
        context, new = self._context, self._placed
        found = new or await context.db.read(dispatch.find, self._attempt.job_id, self._attempt.number)
        self._placed = None
        if found is None or found.attempt.state == AttemptState.ENDED:
            return
        waits = found.attempt.state in {AttemptState.ASSIGNED, AttemptState.STAGING}
        if waits and self._stopping.reason is not None:
            await self._end_unstarted(self._stopping.reason)
            return
        site = await self._links.site(found.worker)
        if found.attempt.state == AttemptState.SAVING:
            done = await self._recall_exit(site)
        else:
            resumed_from = await (self._stage(site, found.job) if waits else self._resumed(site, found.attempt))
            if resumed_from is None and self._stopping.reason is not None:
                await self._end_unstarted(self._stopping.reason)
                return
            stored = 0 if new else await context.logs.size(self._attempt.job_id, self._attempt.number)
            done = await self._execute(site, found, resumed_from or "", stored)
        await self._finish(site, done, found)

    async def _end_unstarted(self, reason: StopReason) -> None:
        """It is asked to end before its command could start."""
        await self._end(AttemptEnd(reason.cause, error=reason.text, by_user=reason.by_user))

    async def _stage(self, site: Site, job: Job) -> str | None:
        """Bring what the job needs; returns the absolute remote path to resume from, empty at first. None when it is
        asked to end meanwhile: hours of data need not come first.

        That everything was brought is made durable: done again, it would overwrite what the running command writes.
        """
        context, attempt = self._context, self._attempt
        if not dispatch.is_staged(job):
            await context.db.note(dispatch.skip_staging, attempt, now=context.now(), epoch=context.epoch)
            return ""
        await context.db.note(
            jobs.advance_attempt, attempt, AttemptState.STAGING, now=context.now(), epoch=context.epoch
        )
        staged = await self._stopping.unless_asked(staging.stage(context, site, self._ref, job, self._saver))
        if staged is None:
            return None
        await context.db.write(
            jobs.advance_attempt, attempt, AttemptState.RUNNING, now=context.now(), epoch=context.epoch,
            detail=staged.detail,
        )  # fmt: skip
        return staged.resumed_from

    async def _resumed(self, site: Site, attempt: Attempt) -> str:
        """The same path for an attempt that an engine before this one has staged."""
        return "" if attempt.resumed_from is None else await site.checkpoint_path(self._ref)

    async def _execute(self, site: Site, found: Assignment, resumed_from: str, stored: int) -> Exit:
        """Start the command, or attach to it, and follow it to its end while its checkpoints are saved."""
        context, attempt, job = self._context, self._attempt, found.job
        self._position = stored

        launch = Launch(
            command=job.spec.command or "",
            argv=job.spec.argv,
            env=self._environment(job, found.worker, resumed_from),
            runtime_limit_sec=job.spec.max_runtime_sec,
            grace_sec=full_grace(context, job.spec),
            signal=job.spec.stop_signal,
        )
        try:
            done = await beside(
                site.execute(self._ref, launch, offset=stored, sink=self._keep),
                self._saving.watch(site),
                self._stopping.watch(site, job.spec),
                self._progress.watch(site),
            )
        except BaseException:
            await context.db.note(jobs.record_output, attempt.job_id, attempt.number, self._position)
            raise
        self._output = self._position  # stored together with the attempt's end
        return done

    async def _keep(self, data: bytes) -> None:
        """Store output; of one that is longer than `logs.max_mb` the beginning, with a mark where it was cut."""
        attempt, limit = self._attempt, int(self._context.settings.logs.max_mb * MEGABYTE)
        over = self._position + len(data) - limit
        if self._position > limit:
            self._position += len(data)
            return
        kept = data if over <= 0 else data[: len(data) - over] + CUT
        context = self._context
        position = await context.logs.append(attempt.job_id, attempt.number, self._position, kept, at=context.now())
        self._position = position if over <= 0 else self._position + len(data)
        context.bells.ring("reporter")
        if over > 0:
            await self._warn(f"its output is longer than {limit // MEGABYTE} MB (logs.max_mb): the rest is not kept")

    def _environment(self, job: Job, worker: Worker, resumed_from: str) -> Mapping[str, str]:
        secrets = read_job_secrets(self._context.home, job.id) if job.spec.secret_env else {}
        return {
            **job.spec.env,
            **secrets,
            "GPUSCALE_JOB_ID": job_label(job.id),
            "GPUSCALE_ATTEMPT": str(self._attempt.number),
            "GPUSCALE_WORKER_ID": worker_label(worker.id),
            "GPUSCALE_RESUME_FROM": resumed_from,
        }

    def _put_back_stalled(self, said: str) -> None:
        """A standstill may be the machine's fault as well as the job's: it goes on elsewhere, and that is counted."""
        self.ask_to_stop(StopReason(Cause.HOST_FAULT, f"it {said}; restart_stalled is set", by_user=False))

    async def _warn(self, text: str) -> None:
        attempt = self._attempt
        await self._context.warn(text, job_id=attempt.job_id, attempt=attempt.number, worker_id=attempt.worker_id)

    async def _recall_exit(self, site: Site) -> Exit:
        """How the command ended, asked of the machine again: the engine died between its end and ours."""
        found = await site.status(self._ref)
        if found.exit is None:
            raise AttemptVanished(f"{site.where}: how {self._ref.name} ended is not known any more")
        return found.exit

    async def _finish(self, site: Site, done: Exit, found: Assignment) -> None:
        """The last snapshot, then the end. A command that left no checkpoints has none to wait for."""
        context, saving = self._context, AttemptState.SAVING
        if done.has_checkpoints or done.has_outputs:
            await context.db.note(jobs.advance_attempt, self._attempt, saving, now=context.now(), epoch=context.epoch)
        if done.has_checkpoints:
            await self._saving.save_last(site, done)
        if done.has_outputs:
            await fetching.fetch(context, site, self._attempt, self._ref)
        await self._end(await self._judge(done, found.worker))

    async def _judge(self, done: Exit, worker: Worker) -> AttemptEnd:
        if done.timed_out:
            return AttemptEnd(Cause.TIMEOUT, done.code, "ran longer than its max_runtime" + how_hard(done))
        if done.lapsed:
            hours = self._context.settings.scaler.lease_hours
            error = f"the engine was silent for more than {hours:g} h (lease_hours): its machine saved and stopped it"
            error += how_hard(done)
            return AttemptEnd(Cause.OUR_FAULT, done.code, error)
        if done.stopped:
            reason = await self._why_stopped(worker)
            return AttemptEnd(reason.cause, done.code, reason.text + how_hard(done), by_user=reason.by_user)
        if done.code == 0:
            return AttemptEnd(Cause.FINISHED, 0)
        return AttemptEnd(Cause.USER_ERROR, done.code, f"the command exited with {done.code}")

    async def _why_stopped(self, worker: Worker) -> StopReason:
        """The reason that we were given, or the one that the engine before us must have had."""
        if self._stopping.reason is not None:
            return self._stopping.reason
        job = await self._context.db.read(jobs.get, self._attempt.job_id)
        current = await self._context.db.read(workers.get, worker.id)
        held = (await self._context.db.read(budgets.stopping)).get(self._attempt.job_id)
        before = StopReason(Cause.PREEMPTED, "stopped by the engine before this one")
        return stop_reason(job, current, held, self._context.now()) or before

    async def _end(self, end: AttemptEnd) -> None:
        context, attempt = self._context, self._attempt
        word = context.board.said_by(attempt.job_id, attempt.number)
        end = replace(end, step=None if word is None else word.step, all_saved=self._saving.all_saved)
        context.board.forget(attempt.job_id, attempt.number)
        if end.cause == Cause.HOST_FAULT and not end.by_user:
            await self._give_back(end)  # first: an idle machine would be given the next job
        terms = dispatch.terms(context.settings, self._links.open_workers())
        following = await context.db.write(
            dispatch.hand_over, attempt, replace(end, output_bytes=self._output),
            None if context.control.drain else terms, retries=context.settings.scaler.max_retries, now=context.now(),
            epoch=context.epoch,
        )  # fmt: skip
        self._ended(attempt, following)
        if not following:
            context.bells.ring("planner")
        if end.cause != Cause.FINISHED or self._stopping.reason is not None:
            context.bells.ring("placer", "releaser")

    async def _give_back(self, end: AttemptEnd) -> None:
        """A rented machine that failed a job takes no other; a host of our own may be tried again."""
        context, worker_id = self._context, self._attempt.worker_id
        worker = await context.db.read(workers.get, worker_id)
        provider = None if worker is None else context.providers.get(worker.provider)
        if provider is not None and provider.facts.boots:
            await context.db.write(
                workers.begin_release, worker_id, f"failed a job: {end.error}", cause=Cause.HOST_FAULT,
                outcome=OutcomeKind.JOB_FAULT, now=context.now(), epoch=context.epoch,
            )  # fmt: skip


async def note_failure(context: Context, attempt: Attempt, error: BaseException) -> None:
    """Our own fault: said in the audit log; the attempt is taken up again."""
    await context.db.write(
        events.append, context.now(), "warning", f"an error of ours: {error!r}; taken up again", epoch=context.epoch,
        job_id=attempt.job_id, attempt=attempt.number, worker_id=attempt.worker_id, cause=Cause.OUR_FAULT,
    )  # fmt: skip
