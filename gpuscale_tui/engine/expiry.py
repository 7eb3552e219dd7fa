"""Rentals that end by themselves: before one does, its job is saved and moved, and an idle machine goes back."""

from __future__ import annotations

from datetime import UTC, datetime

from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.store import workers

LOOK_SEC = 15.0
LARGEST_PART = 4
"""A rental too short for the whole lead is used for all but this part of it."""


class Expiry:
    """Gives machines back before their provider takes them."""

    name = "expiry"

    def __init__(self, context: Context) -> None:
        self._context = context

    async def tick(self) -> float:
        """See `Service.tick`."""
        context = self._context
        lead_ms = round(context.settings.scaler.expiry_lead_sec * 1000)
        soonest = LOOK_SEC
        for worker in await context.db.read(workers.expiring):
            left_ms = leaves_at(worker, lead_ms) - context.now()
            if left_ms <= 0:
                await self._give_back(worker)
            else:
                soonest = min(soonest, left_ms / 1000)
        return soonest

    async def _give_back(self, worker: Worker) -> None:
        """Like a release by its user: the job on it is saved and put back, and that counts as nobody's fault."""
        context, now = self._context, self._context.now()
        assert worker.expires_at is not None, "the query gives only those that end"
        grace_ms = round(context.settings.scaler.shutdown_grace_sec * 1000)
        ends = datetime.fromtimestamp(worker.expires_at / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
        moved = "; its job is saved and goes on elsewhere" if worker.job_id is not None else ""
        reason = f"its rental ends at {ends} (expiry_lead_sec){moved}"
        begun = await context.db.write(
            workers.begin_release, worker.id, reason, grace_ms=max(0, min(grace_ms, worker.expires_at - now)), now=now,
            epoch=context.epoch,
        )  # fmt: skip
        if begun:
            await context.warn(f"{worker_label(worker.id)}: {reason}", worker_id=worker.id)
            context.bells.ring("releaser", "runner", "planner")


def leaves_at(worker: Worker, lead_ms: int) -> int:
    """When (UTC ms) a worker whose rental ends by itself is given back."""
    assert worker.expires_at is not None, "asked only of those that end"
    whole = worker.expires_at - (worker.held_from or worker.created_at)
    return worker.expires_at - min(lead_ms, max(0, whole) // LARGEST_PART)
