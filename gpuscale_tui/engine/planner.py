"""Planning: read the store and the market, ask policy, carry out what it wants, write down why the rest waits."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gpuscale_tui.engine import budgets, view
from gpuscale_tui.engine.by_hand import ByHand
from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.hosts import Hosts
from gpuscale_tui.engine.renter import Answers, Renter
from gpuscale_tui.model.jobs import Attempt, job_label, worker_label
from gpuscale_tui.model.offers import Market, Need, Offer, Survey
from gpuscale_tui.model.states import Cause, JobState, WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy.demand import Group
from gpuscale_tui.policy.ranking import OfferId, Ranking, offer_id, rank
from gpuscale_tui.policy.scaling import group_jobs, plan
from gpuscale_tui.policy.world import BudgetView, MarketView, Plan, Release, World
from gpuscale_tui.providers.base import Provider, ProviderError
from gpuscale_tui.store import demand, engines, events, jobs, market, notices, snapshots, workers
from gpuscale_tui.store.demand import Waiting
from gpuscale_tui.store.engines import Request
from gpuscale_tui.store.market import Judgement, Reading
from gpuscale_tui.store.notices import NoticeKind
from gpuscale_tui.store.snapshots import Work

LOOK_SEC = 5.0
"""How often is planned while anything waits or is rented: times run out (idle, held, paused) without a bell."""
FRESH_MS = 100
"""How old what was seen may be when it is acted on."""
HOSTS_AT_ONCE = 20
"""Hosts of our own taken in one look, one plan each."""
TAKING_SEC = 5.0
QUESTIONS_ASKED = 40
"""Different questions put to the market in one round, those of the most urgent groups of jobs."""
Question = tuple[str | None, int, str | None, Market | None]


def question(need: Need) -> Question:
    """What providers are asked for a need: image and price are policy's to judge, so groups share the answer."""
    return (need.gpu_type, need.gpu_count, need.provider, need.market)


@dataclass(frozen=True, slots=True)
class Seen:
    """What stands in the store at one instant."""

    waiting: list[Waiting]
    running: int
    live: list[Worker]
    attempts: list[Attempt]
    at_stake: list[Work]
    requests: list[Request]


def see(connection: sqlite3.Connection, now: int) -> Seen:
    """One snapshot: a job that goes from running to pending between two reads would seem to be neither."""
    return Seen(
        waiting=demand.waiting(connection),
        running=demand.count_by_state(connection, JobState.RUNNING.value),
        live=workers.live(connection),
        attempts=jobs.live_attempts(connection),
        at_stake=snapshots.work_at_stake(connection),
        requests=engines.open_requests(connection, now),
    )


def release_as_seen(
    connection: sqlite3.Connection, release: Release, state: WorkerState, *, grace_ms: int, now: int, epoch: int | None
) -> bool:
    """Begin to give a worker back unless it has changed since the plan was made: it may have been given a job."""
    worker = workers.get(connection, release.worker_id)
    if worker is None or worker.state != state:
        return False
    begun = workers.begin_release(
        connection, release.worker_id, release.reason, cause=release.cause, grace_ms=grace_ms, now=now, epoch=epoch
    )
    if begun and release.cause == Cause.BUDGET:
        _say_aloud(connection, worker, release.reason, now=now, epoch=epoch)
    return begun


def _say_aloud(connection: sqlite3.Connection, worker: Worker, reason: str, *, now: int, epoch: int | None) -> None:
    """A lowered limit gives machines back that somebody may count on: told for each, and to the outside."""
    job = "" if worker.job_id is None else f"; {job_label(worker.job_id)} is saved and waits in the queue"
    text = f"{worker_label(worker.id)} goes back to keep to the limits: {reason}{job}"
    events.append(
        connection, now, "warning", text, epoch=epoch, worker_id=worker.id, job_id=worker.job_id, cause=Cause.BUDGET
    )
    notices.add(connection, now, NoticeKind.BUDGET, text, worker_id=worker.id, job_id=worker.job_id)


def _judgement(found: Ranking) -> Judgement:
    """What policy makes of an offer, as the store keeps it."""
    return Judgement(found.verdict, found.rank, found.expected, found.reason, found.serves)


@dataclass(frozen=True, slots=True)
class Standing:
    """The store's part of the world, and the requests that are still open."""

    world: World
    requests: tuple[Request, ...]

    def request(self, kind: str) -> Request | None:
        """The oldest open request of a kind."""
        return next((request for request in self.requests if request.kind == kind), None)


class Planner:
    """Rents and gives back, by the plan."""

    name = "planner"

    def __init__(self, context: Context, renter: Renter) -> None:
        self._context = context
        self._renter = renter
        self._hosts = Hosts(context)
        self._by_hand = ByHand(context, renter)
        self._at_work = False

    async def tick(self) -> float:
        """See `Service.tick`."""
        for _ in range(HOSTS_AT_ONCE):
            if not await self._plan_once():
                break
        poll = self._context.settings.scaler.poll_interval_sec
        return min(poll, LOOK_SEC) if self._at_work else poll

    async def _plan_once(self) -> bool:
        """Look, plan and act; True when a host of our own was taken: that is done at once, and others may follow."""
        standing = await self._look()
        self._at_work = bool(standing.world.pending or standing.world.machines or standing.requests)
        markets = await self._survey(standing.world)
        if self._context.now() - standing.world.now > FRESH_MS:  # the market's answers may have taken seconds
            standing = await self._look()
        await self._by_hand.carry_out(standing.request("rent"), standing.world)
        made = plan(replace(standing.world, markets=markets))
        await self._release(made.releases, standing)
        begun = self._rent(made, standing)
        await self._explain(made)
        if begun:
            await asyncio.wait(begun, timeout=TAKING_SEC)
        return bool(begun)

    async def _look(self) -> Standing:
        context, now = self._context, self._context.now()
        seen = await context.db.read(see, context.now())
        standing = await self._hosts.look(now, seen.live)
        own = frozenset(name for name, provider in context.providers.items() if not provider.facts.boots)
        world = World(
            now=now,
            scaler=context.settings.scaler,
            cap=view.cap(context.settings),
            limits=view.limits(context.settings, standing, own),
            pending=view.pending(seen.waiting),
            running=seen.running,
            machines=view.machines(seen.live, seen.attempts, seen.at_stake),
            default_need=view.default_need(context.settings),
            scale_up=sum(request.amount or 0 for request in seen.requests if request.kind == "scale_up"),
            scale_down=sum(request.amount or 0 for request in seen.requests if request.kind == "scale_down"),
            drain=context.control.drain,
            budget=await self._budget(now),
            history=standing.history,
            setup_spent=standing.setup_spent,
        )
        return Standing(world, tuple(seen.requests))

    async def _budget(self, now: int) -> BudgetView | None:
        """What the limits on everything leave for renting; None where there are none."""
        budget = view.budget(self._context.settings)
        return await self._context.db.read(budgets.look, budget, None, now) if budget.over_all else None

    async def _survey(self, world: World) -> dict[str, MarketView]:
        """The market's view for each group that lacks a machine, and for the settings' own GPU, by need."""
        if world.drain:
            return {}
        groups = group_jobs(world)
        needs = [group.need for group in groups if group.uncovered > 0]
        asked = dict(list({question(need): need for need in needs}.items())[:QUESTIONS_ASKED])
        if world.default_need is not None:
            needs.append(world.default_need)
            asked.setdefault(question(world.default_need), world.default_need)
        readings: dict[tuple[str, str | None], dict[OfferId, Offer]] = {}
        answers = {key: await self._market(need, readings) for key, need in asked.items()}
        markets = {need.key: answers[question(need)] for need in needs if question(need) in answers}
        wanting = [group for group in groups if group.uncovered > 0]
        await self._remember(readings, wanting, replace(world, markets=markets))
        return markets

    async def _market(self, need: Need, readings: dict[tuple[str, str | None], dict[OfferId, Offer]]) -> MarketView:
        """What all providers have for a need; what was read is added to the readings of this round."""
        offers: list[Offer] = []
        rejected: dict[str, int] = {}
        errors: list[str] = []
        nearest: list[str] = []
        for name, provider in self._context.providers.items():
            if need.provider not in {None, name}:
                continue
            paused = self._renter.paused(name)
            if paused is not None:
                errors.append(paused)
                continue
            survey = await self._ask(name, provider, need)
            if isinstance(survey, str):
                errors.append(survey)
                continue
            read = readings.setdefault((name, need.gpu_type), {})
            read.update((offer_id(offer), offer) for offer in survey.offers)
            offers += survey.offers
            nearest += survey.nearest
            for reason, count in survey.rejected.items():
                rejected[reason] = rejected.get(reason, 0) + count
        return MarketView(tuple(offers), rejected, tuple(errors), tuple(dict.fromkeys(nearest)))

    async def _ask(self, name: str, provider: Provider, need: Need) -> Survey | str:
        try:
            return await provider.offers(need)
        except ProviderError as error:
            return f"{name}: {error}"

    async def _remember(
        self,
        readings: Mapping[tuple[str, str | None], Mapping[OfferId, Offer]],
        groups: Sequence[Group],
        world: World,
    ) -> None:
        """Keep what was read, as it is ranked, for the screen, the form, guard rails and the history of prices."""
        if not readings:
            return
        ranked = rank(world, groups, (offer for read in readings.values() for offer in read.values()))
        kept = [
            Reading(name, gpu_type, tuple((offer, _judgement(ranked[key])) for key, offer in read.items()))
            for (name, gpu_type), read in readings.items()
        ]
        days = self._context.settings.machines.price_history_days
        await self._context.db.note(market.remember, kept, self._context.now(), days)

    async def _release(self, releases: tuple[Release, ...], standing: Standing) -> None:
        context = self._context
        grace = int(context.settings.scaler.shutdown_grace_sec * 1000)
        states = {machine.id: machine.state for machine in standing.world.machines}
        for release in releases:
            begun = await context.db.write(
                release_as_seen, release, states[release.worker_id], grace_ms=grace, now=context.now(),
                epoch=context.epoch,
            )  # fmt: skip
            request = standing.request("scale_down")
            if begun and request is not None and "scale down" in release.reason:
                await context.db.write(engines.fulfil_one, request.id, context.now())
        if releases:
            context.bells.ring("releaser", "runner")

    def _rent(self, made: Plan, standing: Standing) -> list[asyncio.Task[None]]:
        """Begin to rent; returns what takes a host of our own."""
        request = standing.request("scale_up")
        taking: list[asyncio.Task[None]] = []
        for rent in made.rents:
            by_hand = Answers(request.id) if request is not None and rent.purpose == "hand" else None
            begun = self._renter.begin(rent, by_hand)
            if begun is not None and not self._context.providers[rent.offer.provider].facts.boots:
                taking.append(begun)
        return taking

    async def _explain(self, made: Plan) -> None:
        reasons = {key: (reason.code, reason.text) for key, reason in made.groups.items()}
        context = self._context
        await context.db.note(engines.explain_groups, reasons, context.now())
        if made.workers:
            await context.db.note(workers.explain, list(made.workers.items()))
