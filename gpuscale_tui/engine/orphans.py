"""Orphans: machines that are proved ours, cost money, and count as ended in the store. They are given back.

They come of listings that lied twice, and of orders that appeared later than the provider ever said they could.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.notices import NoticeKind
from gpuscale_tui.model.offers import Rental
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.providers.base import Claim, Provider, ProviderError
from gpuscale_tui.store import spans, workers

LATEST_ORDER_MS = 3_600_000
"""How long after an intent its order may still appear, against all that the provider says."""


def claim_of(worker: Worker) -> Claim:
    """What the store remembers of a worker's order."""
    return Claim(
        token=worker.token,
        server_id=worker.server_id,
        image=worker.image or "",
        requested_at=worker.created_at,
        known_orders=worker.known_orders,
    )


class Orphans:
    """Looks through one provider's listing for machines that the store has given up."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told: set[str] = set()

    async def give_back(self, name: str, provider: Provider, rentals: Sequence[Rental], live: Sequence[Worker]) -> None:
        """Give back every living rental that belongs to a worker of ours that counts as ended."""
        claimed = {worker.order_id for worker in live}
        strangers = {
            rental.order_id: rental for rental in rentals if not rental.ended and rental.order_id not in claimed
        }
        if not strangers:
            return
        await self._late_orders(name, provider, strangers)
        for worker in await self._context.db.read(workers.ended_holding, name, list(strangers)):
            await self._release(provider, worker, strangers[worker.order_id or ""])

    async def _late_orders(self, name: str, provider: Provider, strangers: dict[str, Rental]) -> None:
        context, now = self._context, self._context.now()
        for worker in await context.db.read(workers.ended_without_order, name, now - LATEST_ORDER_MS):
            for rental in strangers.values():
                if provider.recognises(claim_of(worker), rental):
                    await context.db.write(
                        workers.order_appeared, worker.id, rental.order_id, rental.created_at, now=now,
                        epoch=context.epoch,
                    )  # fmt: skip

    async def _release(self, provider: Provider, worker: Worker, rental: Rental) -> None:
        context, label = self._context, worker_label(worker.id)
        await context.db.write(workers.still_costs, worker.id, context.now())
        if rental.billed is not None:
            await context.db.write(spans.book, worker.id, rental.billed, context.now(), billed=False)
        outcome = "it is given back"
        try:
            await provider.release(rental.order_id)
        except ProviderError as error:
            outcome = f"giving it back failed and is tried again: {error}"
        text = f"{label} counted as gone, but its order {rental.order_id} is listed and costs money: {outcome}"
        if text not in self._told:
            self._told.add(text)
            await context.warn(text, worker_id=worker.id)
            await context.notify(NoticeKind.ORPHAN, text, worker_id=worker.id)
