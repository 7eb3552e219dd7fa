"""Giving back: asked for again and again, ever more slowly, until the provider confirms that the machine is gone."""

from __future__ import annotations

from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.money import format_usd
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.providers.base import ProviderError
from gpuscale_tui.store import workers

LOOK_SEC = 1.0
FIRST_RETRY_SEC = 5.0
LONGEST_RETRY_SEC = 300.0
LEASE_MARGIN_MS = 300_000
"""What the watchdog of a lease may take beyond its term: its looks, the grace and the end of what does not obey."""
WARN_AFTER = 3
"""Calls after which a machine that is still there is a matter for the user."""


class Releaser:
    """Calls the providers; the reconciler is who believes."""

    name = "releaser"

    def __init__(self, context: Context) -> None:
        self._context = context

    async def tick(self) -> float:
        """See `Service.tick`."""
        now = self._context.now()
        leaving = [
            worker
            for worker in await self._context.db.read(workers.live)
            if worker.state == WorkerState.RELEASING and worker.order_id is not None
        ]
        longest = max(LONGEST_RETRY_SEC, self._context.settings.scaler.shutdown_grace_sec) * 1000
        for worker in leaving:
            due = worker.release_next_at
            waits = due is not None and now < due <= now + longest  # later still: the clock was set back
            if not waits and not self._may_still_work(worker, now):
                await self._ask(worker, worker.order_id or "")
        if leaving:
            self._context.bells.ring("reconciler")
        return LOOK_SEC if leaving else self._context.settings.scaler.poll_interval_sec

    def _may_still_work(self, worker: Worker, now: int) -> bool:
        """Whether a job may run on a machine after it was given back, and so twice at once.

        A rented machine ends with its order. On a host of our own, giving it back ends nothing: the job must have ended
        first, or the lease on the host be over for certain since we last had contact.
        """
        provider = self._context.providers.get(worker.provider)
        if worker.job_id is None or provider is None or provider.facts.boots:
            return False
        lease_ms = round(self._context.settings.scaler.lease_hours * 3_600_000)
        last = worker.contact_at or worker.ready_at or worker.created_at
        return not lease_ms or now < last + lease_ms + LEASE_MARGIN_MS

    async def _ask(self, worker: Worker, order_id: str) -> None:
        context = self._context
        provider = context.providers.get(worker.provider)
        if provider is None:
            return
        try:
            await provider.release(order_id)
            detail = f"asked {worker.provider} to take order {order_id} back"
        except ProviderError as error:
            detail = f"giving order {order_id} back failed: {error}"
        pause = min(FIRST_RETRY_SEC * 2 ** min(worker.release_asked, 10), LONGEST_RETRY_SEC)
        next_at = context.now() + int(pause * 1000)
        await context.db.write(
            workers.release_asked, worker.id, detail, next_at, now=context.now(), epoch=context.epoch
        )
        if worker.release_asked + 1 >= WARN_AFTER:
            await context.warn(
                f"{worker_label(worker.id)} is still there after {worker.release_asked + 1} calls to give it back and"
                f" costs {format_usd(worker.rate)}/h ({format_usd(worker.cost)} so far): {detail}",
                worker_id=worker.id,
            )
