"""Reconciling: what the store says against what the providers list, at start and all the time.

"I cannot reach it" is never "it is gone": only a complete, successful listing says anything, and only two that lack an
order in a row (or the provider's own word that it has ended) say that a machine is gone.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpuscale_tui.engine import ending, view
from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.orphans import Orphans, claim_of
from gpuscale_tui.engine.renter import Renter
from gpuscale_tui.model.hosts import OutcomeKind
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.notices import NoticeKind
from gpuscale_tui.model.offers import Rental
from gpuscale_tui.model.states import Cause, WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.providers.base import Provider, ProviderError
from gpuscale_tui.store import liveness, spans, workers
from gpuscale_tui.store.workers import Adoption

CREATE_CALL_MS = 120_000
"""Longest time that a create call may still be on its way after the engine that made it died."""
LISTINGS_WITHOUT_ORDER = 3
"""Complete listings that must lack an order with unknown outcome before it is certain that none came of it."""
LISTINGS_WITHOUT_MACHINE = 2
LATE_BILL_MS = 3_600_000
"""How long after a machine's end its final bill is still looked for."""
OUTBID_GRACE_MS = 15_000
"""Should a machine that is taken from us still answer, its job may save for so long before the order goes back."""
PRICE_NOISE = 0.01
"""A price in coins moves with them: what is paid in dollars an hour counts anew once it has by more than this part."""
SOON_SEC = 2.0
AT_ONCE_SEC = 0.3


class Reconciler:
    """Adopts orders, notices machines that are gone, takes over the providers' bills."""

    name = "reconciler"

    def __init__(self, context: Context, renter: Renter) -> None:
        self._context = context
        self._renter = renter
        self._orphans = Orphans(context)
        self._errors: dict[str, str] = {}
        self._looked: dict[str, int] = {}
        self._began = context.now()
        self._missing: dict[int, int] = {}
        """When the first listing that lacks a worker's order was asked for (UTC ms), until one has it again."""

    async def tick(self) -> float:
        """See `Service.tick`."""
        context = self._context
        live = await context.db.read(workers.live)
        for name, provider in context.providers.items():
            ours = [worker for worker in live if worker.provider == name]
            if ours or not provider.facts.boots or self._due(name):
                await self._look(name, provider, ours)
        await self._complain_of_strangers(live)
        return self._next_look(live)

    def _due(self, name: str) -> bool:
        """A marketplace where nothing of ours is need not hear of it whenever a host of our own is in haste."""
        now = self._context.now()
        if 0 <= now - self._looked.get(name, 0) < SOON_SEC * 1000:
            return False
        self._looked[name] = now
        return True

    def _next_look(self, live: Sequence[Worker]) -> float:
        poll = self._context.settings.scaler.poll_interval_sec
        if not view.in_transition(live):
            return poll
        remote = any(self._boots(worker) for worker in live)
        return min(poll, SOON_SEC if remote else AT_ONCE_SEC)

    def _boots(self, worker: Worker) -> bool:
        provider = self._context.providers.get(worker.provider)
        return provider is not None and provider.facts.boots

    async def _look(self, name: str, provider: Provider, ours: Sequence[Worker]) -> None:
        context, asked_at = self._context, self._context.now()
        try:
            rentals = await provider.rentals()
        except ProviderError as error:
            await self._note_error(name, str(error))
            return
        await self._note_error(name, "")
        first = name not in self._renter.listed
        self._renter.listed[name] = frozenset(rental.order_id for rental in rentals)
        if first:
            context.bells.ring("planner")
        await self._settle_orders(provider, ours, rentals, asked_at)
        by_id = {rental.order_id: rental for rental in rentals}
        for worker in ours:
            if worker.order_id is not None:
                await self._compare(worker, provider, by_id.get(worker.order_id), asked_at)
        await self._late_bills(name, by_id)
        await self._orphans.give_back(name, provider, rentals, await context.db.read(workers.live))

    async def _note_error(self, name: str, error: str) -> None:
        """Tell once that a provider does not answer, and once that it does again."""
        if self._errors.get(name, "") == error:
            return
        self._errors[name] = error
        said = f"{name} does not answer: {error}; nothing is concluded from that" if error else f"{name} answers"
        await self._context.warn(said)

    async def _settle_orders(
        self, provider: Provider, ours: Sequence[Worker], rentals: Sequence[Rental], asked_at: int
    ) -> None:
        """Find the orders of workers that have none yet."""
        claimed = {worker.order_id for worker in ours}
        for worker in ours:
            if worker.order_id is not None or worker.id in self._renter.calling:
                continue
            free = [rental for rental in rentals if rental.order_id not in claimed]
            found = [rental for rental in free if provider.recognises(claim_of(worker), rental)]
            if found:
                chosen = min(found, key=lambda rental: (rental.created_at, rental.order_id))
                claimed.add(chosen.order_id)
                await self._adopt(worker, chosen)
            else:
                await self._order_absent(worker, provider, asked_at)

    async def _adopt(self, worker: Worker, rental: Rental) -> None:
        context = self._context
        endpoint = rental.endpoint if rental.up else None
        held_from = min(max(rental.created_at, worker.created_at), context.now())  # by our clock: theirs may differ
        adoption = Adoption(rental.order_id, held_from, endpoint, _end(rental, held_from))
        await context.db.write(workers.adopt, worker.id, adoption, now=context.now(), epoch=context.epoch)
        context.bells.ring("booter", "releaser", "planner")

    async def _order_absent(self, worker: Worker, provider: Provider, asked_at: int) -> None:
        """Count a listing that must show the order if there is one; enough of them settle it, one may be wrong."""
        context = self._context
        over = worker.call_ended_at
        if over is None:
            over = worker.created_at + CREATE_CALL_MS
        if worker.created_at > asked_at:  # ordered by an engine before this one, and the clock was set back since
            over = self._began + CREATE_CALL_MS
        if asked_at - over < provider.facts.listing_lag_ms:
            return
        absences = await context.db.write(workers.absent, worker.id)
        if absences < LISTINGS_WITHOUT_ORDER:
            return
        detail = f"no order came of it: {absences} complete listings lack it"
        if worker.state == WorkerState.RELEASING:
            await context.db.write(
                workers.confirm_gone, worker.id, detail, cause=None, now=context.now(), epoch=context.epoch
            )
        else:
            await context.db.write(
                workers.refuse, worker.id, detail, Cause.PROVIDER_FAULT, now=context.now(), epoch=context.epoch
            )
        context.bells.ring("planner")

    async def _compare(self, worker: Worker, provider: Provider, rental: Rental | None, asked_at: int) -> None:
        context = self._context
        if rental is None:
            await self._machine_absent(worker, provider, asked_at)
            return
        self._missing.pop(worker.id, None)
        if rental.ended:
            await self._gone(worker, f"{worker.provider} reports it as ended", rental.billed)
            return
        up_at = context.now() if rental.up else None
        await context.db.write(workers.seen, worker.id, up_at, _end(rental, worker.held_from))
        if rental.up == (worker.down_since is not None):
            await context.db.write(liveness.provider_says, worker.id, runs=rental.up, now=context.now())
        if rental.billed is not None:
            await context.db.write(spans.book, worker.id, rental.billed, context.now(), billed=True)
        if rental.rate is not None and abs(rental.rate - worker.rate) > worker.rate * PRICE_NOISE:
            await context.db.write(workers.reprice, worker.id, rental.rate, now=context.now(), epoch=context.epoch)
            context.bells.ring("planner")
        if rental.waiting:
            await self._waits(worker, rental)
        elif rental.up and worker.endpoint is None and rental.endpoint is not None:
            await context.db.write(workers.set_endpoint, worker.id, rental.endpoint)
            context.bells.ring("booter")

    async def _waits(self, worker: Worker, rental: Rental) -> None:
        """A spot order that is listed and holds no machine: it is not waited for long, and never taken up again.

        One that had its machine has lost it, and all that was on it. Either goes back, so that it does not begin to
        cost again when nobody looks.
        """
        context = self._context
        if worker.state == WorkerState.RELEASING:
            return
        had_it = worker.up_at is not None or worker.ready_at is not None or bool(rental.billed)
        if had_it:
            await self._outbid(worker)
            return
        patience = context.settings.scaler.spot_wait_sec
        waited = context.now() - (worker.held_from or worker.created_at)
        if waited <= patience * 1000:
            await context.db.note(workers.explain, [(worker.id, "waits: its bid does not hold the machine yet")])
            return
        reason = f"its bid did not get the machine within {patience:g} s (spot_wait_sec)"
        await context.db.write(
            workers.begin_release, worker.id, reason, cause=Cause.HOST_FAULT, outcome=OutcomeKind.REFUSED,
            now=context.now(), epoch=context.epoch,
        )  # fmt: skip
        context.bells.ring("releaser", "planner")

    async def _outbid(self, worker: Worker) -> None:
        context, label = self._context, worker_label(worker.id)
        reason = f"{worker.provider} took the machine from our bid; its order is given back"
        await context.db.write(
            workers.begin_release, worker.id, reason, cause=Cause.PREEMPTED, grace_ms=OUTBID_GRACE_MS,
            now=context.now(), epoch=context.epoch,
        )  # fmt: skip
        text = f"{label}: {reason}"
        await context.warn(text, worker_id=worker.id)
        await context.notify(NoticeKind.MACHINE_LOST, text, job_id=worker.job_id, worker_id=worker.id)
        context.bells.ring("releaser", "runner", "planner")

    async def _machine_absent(self, worker: Worker, provider: Provider, asked_at: int) -> None:
        """A listing may be as old as the provider's lag: those that could be from before the order showed count not."""
        since = self._missing.setdefault(worker.id, asked_at)
        if asked_at - since < provider.facts.listing_lag_ms:
            return
        absences = await self._context.db.write(workers.absent, worker.id)
        if absences >= LISTINGS_WITHOUT_MACHINE:
            self._missing.pop(worker.id, None)
            await self._gone(worker, f"{absences} complete listings of {worker.provider} lack it", None)

    async def _gone(self, worker: Worker, detail: str, billed: int | None) -> None:
        """The provider has confirmed it: close the books of this machine and put its job back."""
        context = self._context
        now = context.now()
        estimate = 0 if worker.held_from is None else worker.terms.charge(now - worker.held_from)
        total = max(worker.cost, estimate) if billed is None else billed
        taken = worker.state != WorkerState.RELEASING or worker.cause == Cause.PREEMPTED
        cause = Cause.PREEMPTED if taken else None
        told = None if worker.job_id is None else context.board.step_of(worker.job_id, worker.attempt or 0)
        await context.db.write(
            ending.machine_gone, worker.id, detail, cause, ending.Bill(total, billed is not None), step=told,
            retries=context.settings.scaler.max_retries, now=now, epoch=context.epoch,
        )  # fmt: skip
        if worker.state != WorkerState.RELEASING:
            await context.warn(f"{worker_label(worker.id)} is gone: {detail}", worker_id=worker.id)
        context.bells.ring("runner", "placer", "planner", "keeper")

    async def _late_bills(self, name: str, by_id: dict[str, Rental]) -> None:
        """Take over the final bill of machines whose end was seen before it."""
        context = self._context
        unbilled = await context.db.read(workers.ended_unbilled, name, context.now() - LATE_BILL_MS)
        for worker_id, order_id in unbilled:
            rental = by_id.get(order_id)
            if rental is not None and rental.ended and rental.billed is not None:
                await context.db.write(spans.book, worker_id, rental.billed, context.now(), billed=True)

    async def _complain_of_strangers(self, live: Sequence[Worker]) -> None:
        """Machines of a provider that is not enabled any more cost money and cannot be given back."""
        for worker in live:
            if worker.provider not in self._context.providers:
                await self._note_error(
                    worker.provider,
                    f"{worker_label(worker.id)} was rented there, but this provider is not in the settings: enable it"
                    f" so that the machine can be given back",
                )


def _end(rental: Rental, held_from: int | None) -> int | None:
    """When a rental ends by itself, by our clock: the provider's may be hours away from it."""
    if rental.expires_at is None or held_from is None:
        return rental.expires_at
    return rental.expires_at + held_from - rental.created_at
