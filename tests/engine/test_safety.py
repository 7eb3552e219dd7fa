"""The services that hold money, one look at a time, against a provider that says what a test lets it say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.engine import attempt as attempt_module
from gpuscale_tui.engine.attempt import AttemptRun
from gpuscale_tui.engine.audit import Found, Reaper
from gpuscale_tui.engine.context import Bells, Context, Control
from gpuscale_tui.engine.engine import SERVICES
from gpuscale_tui.engine.links import Links
from gpuscale_tui.engine.reconciler import CREATE_CALL_MS, Reconciler
from gpuscale_tui.engine.releaser import Releaser
from gpuscale_tui.engine.renter import Renter
from gpuscale_tui.model.jobs import Attempt
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.offers import Need, Rental
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.model.states import AttemptState, Cause, JobState, WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy.world import Rent
from gpuscale_tui.providers.base import (
    Accepted,
    Claim,
    ProviderError,
    ProviderFacts,
    RentOutcome,
    RentRefused,
    RentRequest,
    Unknown,
)
from gpuscale_tui.remote.attempts import Exit
from gpuscale_tui.remote.errors import AuthRefused, HostKeyChanged, RemoteError, Unreachable
from gpuscale_tui.store import books, jobs, workers
from gpuscale_tui.store.aio import AsyncDatabase, AsyncLogs
from gpuscale_tui.store.home import Home
from tests.store.support import DOLLAR, HOUR, Bench, offer

LAG_MS = 60_000
FACTS = ProviderFacts(
    name="clore", elastic=True, has_spot=False, billing_unit_ms=1, listing_lag_ms=LAG_MS, boots=True,
    recognised_by="token",
)  # fmt: skip
FOREIGN = Rental("foreign", "s-foreign", 0, up=True, rate=DOLLAR)


@dataclass
class Pretended:
    """A provider whose list and whose answers a test sets."""

    listing: list[Rental] | ProviderError = field(default_factory=list)
    outcome: RentOutcome = field(default_factory=Accepted)
    refuses_release: bool = False
    rented: list[RentRequest] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    facts: ProviderFacts = FACTS

    async def rentals(self) -> tuple[Rental, ...]:
        if isinstance(self.listing, ProviderError):
            raise self.listing
        return tuple(self.listing)

    async def rent(self, request: RentRequest) -> RentOutcome:
        self.rented.append(request)
        return self.outcome

    def recognises(self, claim: Claim, rental: Rental) -> bool:
        return rental.token == claim.token

    async def release(self, order_id: str) -> None:
        self.released.append(order_id)
        if self.refuses_release:
            raise ProviderError("try again later")


@dataclass
class Rig:
    """The services of one engine over one store, each looked at by hand."""

    bench: Bench
    provider: Pretended
    context: Context
    renter: Renter
    reconciler: Reconciler
    releaser: Releaser

    async def look(self, times: int = 1, *, apart_ms: int = 1_000) -> None:
        """Let the reconciler look, some time apart."""
        for _ in range(times):
            self.bench.now += apart_ms
            await self.reconciler.tick()

    def state(self, worker: Worker) -> WorkerState:
        return self.bench.worker(worker.id).state

    def rental(self, worker: Worker, **changes: Any) -> Rental:
        """The worker's order as its provider lists it."""
        worker = self.bench.worker(worker.id)
        listed = Rental(
            worker.order_id or f"late{worker.id}", worker.server_id, self.bench.now, up=True, token=worker.token,
            rate=worker.rate, endpoint=Endpoint("127.0.0.1", 22),
        )  # fmt: skip
        return replace(listed, **changes)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    bench = Bench(tmp_path / "store.db")
    provider, nothing = Pretended(), None
    async with await AsyncDatabase.open(bench.path) as db, asyncio.TaskGroup() as tasks:
        context = Context(
            home=nothing, settings=Settings(), db=db, logs=nothing, snapshots=nothing, providers={"clore": provider},
            epoch=None, base=".gpuscale/test", public_key="ssh-ed25519 AAAA", now=lambda: bench.now,
            bells=Bells(SERVICES), control=Control(), connect=nothing, new_token=lambda: "a new token",
        )  # type: ignore[arg-type,dict-item]  # fmt: skip
        renter = Renter(context, tasks)
        yield Rig(bench, provider, context, renter, Reconciler(context, renter), Releaser(context))
    bench.db.close()


async def test_a_listing_that_fails_is_no_empty_listing(rig: Rig) -> None:
    worker = rig.bench.idle()
    rig.provider.listing = ProviderError("down")
    await rig.look(10, apart_ms=LAG_MS)
    assert rig.state(worker) == WorkerState.IDLE


async def test_one_listing_without_it_says_nothing_two_that_are_no_old_ones_do(rig: Rig) -> None:
    """A list may be as old as the provider's lag: right after an order showed, any number may still lack it."""
    attempt = rig.bench.placed()
    worker = rig.bench.worker(attempt.worker_id)
    for _ in range(3):
        rig.provider.listing = []
        await rig.look()
        assert rig.state(worker) == WorkerState.BUSY
        rig.provider.listing = [rig.rental(worker)]
        await rig.look()
    rig.provider.listing = []
    await rig.look(20)
    assert rig.state(worker) == WorkerState.BUSY
    await rig.look(2, apart_ms=LAG_MS // 2)
    assert rig.state(worker) == WorkerState.BUSY
    await rig.look()
    assert rig.state(worker) == WorkerState.LOST


async def test_a_machine_that_is_gone_ends_its_attempt_and_its_job_waits_again(rig: Rig) -> None:
    """In one transaction: a job that is put back while its attempt lives would run twice, or never."""
    attempt = rig.bench.placed()
    await rig.look(3, apart_ms=LAG_MS)
    ended = rig.bench.read(jobs.get_attempt, attempt.job_id, attempt.number)
    job = rig.bench.read(jobs.get, attempt.job_id)
    assert ended is not None
    assert job is not None
    assert (ended.state, ended.cause) == (AttemptState.ENDED, Cause.PREEMPTED)
    assert job.state == JobState.PENDING


@pytest.mark.parametrize("outcome", [Unknown("HTTP 500"), Accepted()])
async def test_an_order_in_doubt_is_settled_by_three_listings_after_the_lag(rig: Rig, outcome: RentOutcome) -> None:
    rig.provider.outcome = outcome
    await rent(rig)
    [worker] = rig.bench.read(workers.live)
    await rig.look(20)
    assert rig.state(worker) == WorkerState.ORDERING
    assert rig.bench.read(workers.committed_rate) == worker.rate
    rig.bench.now += LAG_MS
    await rig.look(2)
    assert rig.state(worker) == WorkerState.ORDERING, "lists of before the lag say nothing, one may be wrong"
    await rig.look()
    assert rig.state(worker) == WorkerState.RELEASED
    assert len(rig.provider.rented) == 1, "a create call is never repeated to find out"


async def test_after_the_lag_a_single_listing_is_not_enough(rig: Rig) -> None:
    rig.provider.outcome = Unknown("HTTP 500")
    await rent(rig)
    [worker] = rig.bench.read(workers.live)
    rig.bench.now += 2 * LAG_MS
    await rig.look(2)
    assert rig.state(worker) == WorkerState.ORDERING
    await rig.look()
    assert rig.state(worker) == WorkerState.RELEASED


async def rent(rig: Rig) -> None:
    """Let the renter place one order."""
    rig.renter.listed["clore"] = frozenset({"foreign"})
    renting = rig.renter.begin(Rent(offer(), Need("img", "RTX 4090", 1, None), "a job waits"), None)
    assert renting is not None
    await renting


async def test_a_call_whose_engine_died_may_still_arrive(rig: Rig) -> None:
    """Nobody heard the answer: listings count only once the call must be over."""
    worker = rig.bench.order()
    await rig.look(20, apart_ms=CREATE_CALL_MS // 30)
    rig.provider.listing = [rig.rental(worker)]
    await rig.look()
    assert rig.state(worker) == WorkerState.BOOTING
    other = rig.bench.order()
    rig.bench.now += CREATE_CALL_MS + LAG_MS
    await rig.look(3)
    assert rig.state(other) == WorkerState.RELEASED


async def test_the_intent_is_durable_before_the_call(rig: Rig) -> None:
    """What is rented is known to the store, and counts against the cap, at the instant of the call."""
    seen: list[tuple[str, int]] = []

    async def watched(request: RentRequest) -> RentOutcome:
        committed = rig.bench.read(workers.committed_rate)
        seen.extend((worker.token, committed) for worker in rig.bench.read(workers.live))
        return Accepted()

    rig.provider.rent = watched  # type: ignore[method-assign]
    await rent(rig)
    assert seen == [("a new token", DOLLAR)]


async def test_a_refusal_ends_the_reservation(rig: Rig) -> None:
    rig.provider.outcome = RentRefused("taken", pause_server=True)
    await rent(rig)
    assert rig.bench.read(workers.committed_rate) == 0


async def test_only_our_own_order_is_taken_for_ours(rig: Rig) -> None:
    """An order of somebody else on the same server and at the same time is left alone, for ever."""
    worker = rig.bench.order()
    rig.provider.listing = [replace(FOREIGN, server_id=worker.server_id, created_at=rig.bench.now)]
    await rig.look(3)
    assert rig.state(worker) == WorkerState.ORDERING
    rig.bench.now += CREATE_CALL_MS + LAG_MS
    await rig.look(4)
    assert rig.state(worker) == WorkerState.RELEASED
    assert rig.provider.released == []
    rig.provider.listing = [*rig.provider.listing, rig.rental(worker)]
    await rig.look(apart_ms=60_000)
    assert rig.provider.released == [f"late{worker.id}"], "it appeared after all, and only it goes back"


async def test_giving_back_is_asked_for_again_for_ever_and_believed_by_listings_alone(rig: Rig) -> None:
    """The provider's yes is a word; its price counts and its books stay open until two lists lack it."""
    worker = rig.bench.idle()
    rig.bench.write(workers.begin_release, worker.id, "enough", **rig.bench.by)
    rig.provider.listing = [rig.rental(worker, billed=100)]
    for number in range(1, 13):
        rig.provider.refuses_release = number % 2 == 0
        rig.bench.now += HOUR
        await rig.releaser.tick()
        await rig.look()
        assert len(rig.provider.released) == number
        assert rig.state(worker) == WorkerState.RELEASING
        assert rig.bench.read(workers.committed_rate) == worker.rate
    rig.provider.listing = []
    await rig.look(2, apart_ms=LAG_MS)
    assert rig.state(worker) == WorkerState.RELEASING
    await rig.look()
    assert rig.state(worker) == WorkerState.RELEASED


async def test_the_last_bill_is_taken_over_after_the_end(rig: Rig) -> None:
    """Our own reckoning stands in for a bill that is not listed yet; it never counts as the provider's."""
    worker = rig.bench.idle()
    rig.bench.write(workers.begin_release, worker.id, "enough", **rig.bench.by)
    await rig.look(3, apart_ms=HOUR)
    assert rig.state(worker) == WorkerState.RELEASED
    assert rig.bench.worker(worker.id).cost == 3 * DOLLAR
    rig.provider.listing = [rig.rental(worker, ended=True, up=False, billed=1_234_567)]
    await rig.look()
    assert rig.bench.worker(worker.id).cost == 1_234_567
    assert rig.bench.read(books.charged, None) == 1_234_567


class PretendedSite:
    """A machine that answers as a test lets it: each answer is an exit or an error."""

    where, host_key, closed = "root@pretended:22", "ssh-ed25519 AAAA", False

    def __init__(self, rig: Rig, attempt: Attempt) -> None:
        self._rig = rig
        self._attempt = attempt
        self.executes: list[Exit | RemoteError] = []
        self.stops: list[Exit | RemoteError] = []
        self.states: list[AttemptState] = []

    async def execute(self, *_words: Any, **_more: Any) -> Exit:
        return self._answer(self.executes.pop(0))

    async def stop(self, *_words: Any, **_more: Any) -> Exit:
        return self._answer(self.stops.pop(0))

    def _answer(self, answer: Exit | RemoteError) -> Exit:
        found = self._rig.bench.read(jobs.get_attempt, self._attempt.job_id, self._attempt.number)
        assert found is not None
        self.states.append(found.state)
        if isinstance(answer, RemoteError):
            raise answer
        return answer


async def carry(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executes: list[Exit | RemoteError],
    stops: list[Exit | RemoteError],
) -> tuple[PretendedSite, Attempt]:  # fmt: skip
    """Carry one attempt to its end on a machine with these answers."""
    monkeypatch.setattr(attempt_module, "FIRST_RETRY_SEC", 0.001)
    placed = rig.bench.placed()
    site = PretendedSite(rig, placed)
    site.executes, site.stops = executes, stops

    async def connect(_endpoint: Endpoint) -> PretendedSite:
        return site

    async with await AsyncLogs.open(tmp_path / "logs.db") as logs:
        context = replace(rig.context, logs=logs, connect=connect)  # type: ignore[arg-type]
        run = AttemptRun(context, Links(context), placed, lambda *_: None)
        async with asyncio.timeout(100):
            await run.run()
    ended = rig.bench.read(jobs.get_attempt, placed.job_id, placed.number)
    assert ended is not None
    assert ended.state == AttemptState.ENDED
    return site, ended


async def test_silence_is_not_the_end_of_an_attempt(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a machine that cannot be reached is gone is for its provider to say; a changed key proves nothing."""
    silent = [Unreachable("no answer"), HostKeyChanged("another key"), AuthRefused("no"), Unreachable("no answer")]
    site, ended = await carry(rig, tmp_path, monkeypatch, [*silent, Exit(0, False, 0)], [])
    assert (ended.cause, ended.number) == (Cause.FINISHED, 1)
    assert AttemptState.ENDED not in site.states


async def test_an_attempt_ends_only_once_its_command_is_certainly_stopped(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put back while its command may still run, the job would run twice at once."""
    odd: list[Exit | RemoteError] = [RemoteError("nonsense") for _ in range(3)]
    refused: list[Exit | RemoteError] = [RemoteError("stuck"), Unreachable("no answer"), Exit(143, False, 0)]
    site, ended = await carry(rig, tmp_path, monkeypatch, odd, refused)
    assert ended.cause == Cause.HOST_FAULT
    assert site.stops == []
    assert AttemptState.ENDED not in site.states


async def test_reaping_believes_no_list_that_may_be_older_than_the_order(rig: Rig, tmp_path: Path) -> None:
    """Without an engine the same rule holds: a list as old as the provider's lag says nothing of a young order."""
    home = Home(tmp_path / "home")
    home.ensure()
    bench = Bench(home.database)
    worker = bench.boot()
    target = Found(
        provider="clore", kind="known", order_id=worker.order_id or "", server_id=worker.server_id, worker_id=worker.id,
        rate=worker.rate, cost=None, created_at=bench.now,
    )  # fmt: skip
    reaper = Reaper(
        home, {"clore": rig.provider}, now=lambda: bench.now, say=lambda _: None, look_sec=0.001, retries=1  # type: ignore[dict-item]
    )  # fmt: skip
    assert await reaper.reap([target], timeout_sec=0.2) == [target]
    assert bench.worker(worker.id).state == WorkerState.RELEASING
    bench.now += LAG_MS
    assert await reaper.reap([target], timeout_sec=60) == []
    assert bench.worker(worker.id).state == WorkerState.RELEASED
    bench.db.close()
