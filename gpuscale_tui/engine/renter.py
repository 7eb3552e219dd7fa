"""Renting: intent, act, outcome. A create call is made once; what came of it is for the reconciler to find out."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass, replace
from functools import partial

from gpuscale_tui.engine import view
from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.service import guarded
from gpuscale_tui.model.states import Cause, OrderOutcome
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy.world import Rent
from gpuscale_tui.providers.base import Accepted, RentRefused, RentRequest, Unknown
from gpuscale_tui.store import engines, wallets, workers
from gpuscale_tui.store.workers import CapReached, Intent

FIRST_PAUSE_SEC = 10.0
LONGEST_PAUSE_SEC = 600.0
SHORT_PAUSE_SEC = 60.0
"""How often is looked whether a wallet that was too empty can pay again."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A provider that refused, or cannot be paid, is not asked again before `until` (UTC ms)."""

    until: int
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Answers:
    """The request that a rental answers; `only_this`: it names just this offer, and no other will do."""

    request_id: int
    only_this: bool = False


@dataclass(frozen=True, slots=True)
class Short(CapReached):
    """An intent that was not written: what is left in the wallet does not pay for it."""


class Renter:
    """Places orders, one at a time with each provider."""

    def __init__(self, context: Context, tasks: asyncio.TaskGroup) -> None:
        self._context = context
        self._tasks = tasks
        self._pauses: dict[str, Pause] = {}
        self._busy: set[str] = set()
        self.calling: set[int] = set()
        """Workers whose create call this engine is making right now."""
        self.listed: dict[str, frozenset[str]] = {}
        """Order ids in each provider's last complete listing, kept by the reconciler."""

    def paused(self, provider: str) -> str | None:
        """Why nothing is rented from this provider just now."""
        if provider in self._context.switched_off:
            return f"{provider} is switched off in the settings"
        if provider not in self.listed:
            return f"{provider}: the list of our machines there has not been read yet"
        pause = self._pauses.get(provider)
        if pause is None or pause.until <= self._context.now():
            return None
        left = (pause.until - self._context.now()) // 1000
        return f"{provider} {pause.reason}; tried again in {left} s"

    def begin(self, rent: Rent, answers: Answers | None) -> asyncio.Task[None] | None:
        """Rent in the background, unless that provider is busy, not read yet or paused."""
        provider = rent.offer.provider
        if self.paused(provider) is not None or provider in self._busy or self._context.control.drain:
            return None
        self._busy.add(provider)
        renting = guarded(self._context, f"renting from {provider}", partial(self._rent, rent, answers))
        return self._tasks.create_task(renting, name=f"rent from {provider}")

    async def _rent(self, rent: Rent, answers: Answers | None) -> None:
        worker = None
        try:
            worker = await self._intend(rent, answers)
            if worker is not None:
                await self._order(rent, worker)
        finally:
            self._busy.discard(rent.offer.provider)
            if worker is not None:
                self.calling.discard(worker.id)
            self._context.bells.ring("planner", "reconciler", "wallet")

    async def _intend(self, rent: Rent, answers: Answers | None) -> Worker | None:
        """Write what is about to be done, if the cap still allows it."""
        context = self._context
        intent = Intent(
            token=context.new_token(),
            offer=rent.offer,
            need=rent.need,
            reason=rent.reason,
            known_orders=self.listed[rent.offer.provider],
            cap=view.cap(context.settings),
            max_workers=context.settings.scaler.max_workers,
            purpose=rent.purpose,
            budget=view.budget(context.settings),
        )
        written = await context.db.write(intend_for, intent, answers, now=context.now(), epoch=context.epoch)
        if isinstance(written, Short):
            until = context.now() + round(SHORT_PAUSE_SEC * 1000)
            self._pauses[rent.offer.provider] = Pause(until, FIRST_PAUSE_SEC, f"is not ordered from: {written.reason}")
        if isinstance(written, CapReached):
            return None
        self.calling.add(written.id)
        return written

    async def _order(self, rent: Rent, worker: Worker) -> None:
        context = self._context
        request = RentRequest(
            token=worker.token,
            offer=rent.offer,
            image=rent.need.image,
            public_key=context.public_key,
            max_rate=worker.rate,
            requested_at=worker.created_at,
        )
        outcome = await context.providers[rent.offer.provider].rent(request)
        await self._record(worker, outcome)

    async def _record(self, worker: Worker, outcome: Accepted | RentRefused | Unknown) -> None:
        context = self._context
        if isinstance(outcome, RentRefused):
            await self._refused(worker, outcome)
            return
        accepted = isinstance(outcome, Accepted)
        if accepted:
            self._pauses.pop(worker.provider, None)
        detail = "placed; waits to appear in the provider's list" if isinstance(outcome, Accepted) else outcome.reason
        state = OrderOutcome.ACCEPTED if accepted else OrderOutcome.UNKNOWN
        await context.db.write(workers.record_outcome, worker.id, state, detail, now=context.now(), epoch=context.epoch)

    async def _refused(self, worker: Worker, outcome: RentRefused) -> None:
        """It is certain that there is no order; leave the server or the provider alone for a while.

        Where only the price had moved nobody is left alone: the next look at the market has the new one.
        """
        context = self._context
        cause = Cause.HOST_FAULT if outcome.pause_server else Cause.PROVIDER_FAULT
        await context.db.write(
            workers.refuse, worker.id, f"refused: {outcome.reason}", cause, now=context.now(), epoch=context.epoch
        )
        if not outcome.pause_server and not outcome.moved:
            before = self._pauses.get(worker.provider)
            seconds = FIRST_PAUSE_SEC if before is None else min(before.seconds * 2, LONGEST_PAUSE_SEC)
            until = context.now() + int(seconds * 1000)
            self._pauses[worker.provider] = Pause(until, seconds, f"refused: {outcome.reason}")


def intend_for(
    connection: sqlite3.Connection, intent: Intent, answers: Answers | None, *, now: int, epoch: int
) -> Worker | CapReached:
    """The intent and the request that it answers, in one transaction. A request that is closed is not answered again;
    one for just this offer is refused where a limit stands against it, others wait.

    The limits are those of the engine's row where these are lower: settings that are read anew are written there, and
    an intent that was on its way meanwhile keeps to them too.
    """
    limits = engines.limits(connection)
    if limits is not None:
        intent = replace(
            intent, cap=min(intent.cap, limits.cap), max_workers=min(intent.max_workers, limits.max_workers)
        )
    if answers is not None and not engines.is_open(connection, answers.request_id):
        return CapReached("it was carried out, or taken back, in the meantime")
    short = wallets.shortage(connection, intent.offer, now)
    written = Short(short) if short is not None else workers.write_intent(connection, intent, now=now, epoch=epoch)
    if answers is not None and isinstance(written, Worker):
        engines.fulfil_one(connection, answers.request_id, now)
    elif answers is not None and answers.only_this and isinstance(written, CapReached):
        engines.refuse(connection, answers.request_id, written.reason, now)
    return written
