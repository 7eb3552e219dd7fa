"""Progress: a job that has said and done nothing for long is reported, and put back where the user wants that."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.durations import format_duration
from gpuscale_tui.model.jobs import Attempt, job_label
from gpuscale_tui.model.notices import NoticeKind
from gpuscale_tui.policy.progress import Progress, Sight, begin, is_stalled, look
from gpuscale_tui.remote.attempts import AttemptRef
from gpuscale_tui.remote.errors import RemoteError
from gpuscale_tui.remote.pulse import Pulse
from gpuscale_tui.remote.site import Site
from gpuscale_tui.store import liveness

LONGEST_PAUSE_SEC = 60.0
QUESTIONS = 10
"""So often a silent job is looked at within the time that it may stand still."""


class ProgressWatch:
    """Watches one attempt. `output` and `saved` tell how many bytes it wrote and how many snapshots it left so far;
    `stalled` is told, in words, when it has stood still for too long.

    What prints needs no question: the machine is asked only about a job that was silent for half the time.
    """

    def __init__(
        self,
        context: Context,
        attempt: Attempt,
        ref: AttemptRef,
        *,
        output: Callable[[], int],
        saved: Callable[[], int],
        stalled: Callable[[str], None],
    ) -> None:
        self._context = context
        self._attempt = attempt
        self._ref = ref
        self._output = output
        self._saved = saved
        self._stalled = stalled
        self._reported = attempt.stalled_at is not None
        self._clock = asyncio.get_running_loop().time

    @property
    def _limit_sec(self) -> float:
        return self._context.settings.scaler.stalled_minutes * 60

    async def watch(self, site: Site) -> None:
        """Look again and again, until cancelled. A new connection begins anew: silence of the line is none of the
        job's."""
        progress, looks = begin(self._sight(None)), 0
        while True:
            if not self._limit_sec:  # switched off; that may change
                await asyncio.sleep(LONGEST_PAUSE_SEC)
                progress, looks = begin(self._sight(None)), 0
                continue
            asks = self._is_quiet(progress)
            await asyncio.sleep(min(LONGEST_PAUSE_SEC, self._limit_sec / (QUESTIONS if asks else 4)))
            pulse = await self._ask(site) if self._is_quiet(progress) else None
            sight = self._sight(pulse)
            progress = look(progress, sight)
            looks = 0 if progress.alive_at == sight.at else looks + (sight.cpu_ms is not None)
            if is_stalled(progress, sight.at, int(self._limit_sec * 1000), looks):
                await self._report()
            elif self._reported and progress.alive_at == sight.at:
                await self._revoke()

    def _is_quiet(self, progress: Progress) -> bool:
        return self._clock() * 1000 - progress.alive_at >= self._limit_sec * 500

    def _sight(self, pulse: Pulse | None) -> Sight:
        at = int(self._clock() * 1000)
        if pulse is None:
            return Sight(at, self._output(), self._saved())
        return Sight(at, self._output(), self._saved(), pulse.cpu_ms, pulse.gpu_percent)

    async def _ask(self, site: Site) -> Pulse | None:
        """The machine's answer; who cannot be asked is not judged."""
        with contextlib.suppress(RemoteError):
            return await site.pulse(self._ref)
        return None

    async def _report(self) -> None:
        context, attempt = self._context, self._attempt
        said = (
            f"has stood still for {format_duration(round(self._limit_sec))}: no output, no new checkpoint, no CPU time,"
            " no GPU use (stalled_minutes)"
        )
        if not self._reported:
            self._reported = True
            if await context.db.write(liveness.stalled, attempt, said, now=context.now(), epoch=context.epoch):
                label = job_label(attempt.job_id)
                await context.notify(
                    NoticeKind.STALLED, f"{label} {said}", key=f"stalled:{label}.{attempt.number}",
                    job_id=attempt.job_id, worker_id=attempt.worker_id,
                )  # fmt: skip
        if context.settings.scaler.restart_stalled:
            self._stalled(said)

    async def _revoke(self) -> None:
        self._reported = False
        context = self._context
        await context.db.write(liveness.goes_on, self._attempt, now=context.now(), epoch=context.epoch)
