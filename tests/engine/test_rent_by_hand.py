"""Renting just one offer: within every limit, once, at no more than was agreed to, and not long after it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gpuscale_tui.engine import commands
from gpuscale_tui.engine.by_hand import GIVE_UP_MS, Wanted, need_for
from gpuscale_tui.engine.context import Bells, Context, Control
from gpuscale_tui.engine.engine import SERVICES
from gpuscale_tui.engine.planner import Planner
from gpuscale_tui.engine.renter import Answers, Renter, intend_for
from gpuscale_tui.model.errors import Refused
from gpuscale_tui.model.hosts import Ban
from gpuscale_tui.model.offers import Need, Offer, Survey
from gpuscale_tui.model.settings import BudgetConfig, ScalerConfig, Settings
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.providers.base import ProviderError
from gpuscale_tui.store import engines, hosts, market, workers
from gpuscale_tui.store.aio import AsyncDatabase
from gpuscale_tui.store.engines import Limits
from gpuscale_tui.store.market import OfferRow
from gpuscale_tui.store.workers import CapReached
from tests.engine.test_safety import Pretended
from tests.policy.support import job, world
from tests.store.support import DOLLAR, Bench, intent, offer

SETTINGS = Settings(scaler=ScalerConfig(max_hourly_budget=2.0, max_workers=2, docker_image="standard"))


@dataclass
class Shop(Pretended):
    """A provider with offers."""

    offered: list[Offer] | ProviderError = field(default_factory=list)

    async def offers(self, need: Need) -> Survey:
        if isinstance(self.offered, ProviderError):
            raise self.offered
        return Survey(tuple(each for each in self.offered if need.gpu_type in {None, each.gpu_type}))


@dataclass
class Desk:
    """A planner that hears requests, and a renter that rents."""

    bench: Bench
    context: Context
    shop: Shop
    planner: Planner
    renter: Renter
    tasks: asyncio.TaskGroup

    def ask(self, server: str = "s1", *, despite_ban: bool = False, settings: Settings = SETTINGS) -> int:
        """What a user asks for who looks at the market as it was last read."""
        row = self.row(server)
        return self.bench.write(commands.rent, row, settings, despite_ban=despite_ban, user="ada", now=self.bench.now)

    def row(self, server: str) -> OfferRow:
        row = self.bench.read(market.offer_row, "clore", server, "on-demand")
        assert row is not None
        return row

    async def plan(self) -> None:
        """One look of the planner, with all that it begins."""
        await self.planner.tick()
        async with asyncio.timeout(60):
            while self.renter._busy:  # noqa: ASYNC110 - nothing tells the end of an order but this
                await asyncio.sleep(0)

    @property
    def live(self) -> list[Worker]:
        return self.bench.read(workers.live)

    @property
    def result(self) -> str | None:
        answer = self.bench.read(engines.newest, "rent")
        assert answer is not None
        return answer.result


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    bench = Bench(tmp_path / "store.db")
    shop, nothing = Shop(), None
    shop.offered = [offer(DOLLAR, server_id="s1", owner="o7"), offer(DOLLAR // 2, server_id="s2", gpu_type="H100")]
    bench.write(market.replace, "clore", None, [(each, "") for each in shop.offered], bench.now)
    async with await AsyncDatabase.open(bench.path) as db, asyncio.TaskGroup() as tasks:
        epoch = db.epoch = await db.write(engines.begin_epoch, 1, "test", Limits(2 * DOLLAR, 2), bench.now)
        tokens = iter(f"token{number}" for number in range(100))
        context = Context(
            home=nothing, settings=SETTINGS, db=db, logs=nothing, snapshots=nothing, providers={"clore": shop},
            epoch=epoch, base="", public_key="", now=lambda: bench.now, bells=Bells(SERVICES), control=Control(),
            connect=nothing, new_token=tokens.__next__,
        )  # type: ignore[arg-type,dict-item]  # fmt: skip
        renter = Renter(context, tasks)
        renter.listed["clore"] = frozenset()
        yield Desk(bench, context, shop, Planner(context, renter), renter, tasks)
    bench.db.close()


async def test_what_was_asked_for_is_rented_once(desk: Desk) -> None:
    desk.ask()
    for _ in range(3):
        await desk.plan()
    [worker] = desk.live
    assert (worker.server_id, worker.purpose, worker.reason) == ("s1", "hand", "asked for by hand by ada")
    assert worker.image == "standard"
    assert [each.offer.server_id for each in desk.shop.rented] == ["s1"]
    assert desk.result == "done"


async def test_a_request_that_is_answered_is_not_answered_again(desk: Desk) -> None:
    """Two engines, or two looks of one, that both saw the request open: one intent."""
    request = desk.ask()
    answers = Answers(request, only_this=True)
    first = desk.bench.write(intend_for, intent(DOLLAR // 2), answers, now=desk.bench.now, epoch=1)
    second = desk.bench.write(intend_for, intent(DOLLAR // 2), answers, now=desk.bench.now, epoch=1)
    assert isinstance(first, Worker)
    assert isinstance(second, CapReached)
    assert len(desk.live) == 1


async def test_an_engine_that_died_before_the_intent_leaves_the_request_to_the_next(desk: Desk) -> None:
    desk.ask()
    assert desk.live == []
    await desk.plan()
    assert len(desk.live) == 1


async def test_one_that_died_after_the_intent_leaves_it_nothing_to_do(desk: Desk) -> None:
    request = desk.ask()
    one = intent(DOLLAR, offer=offer(DOLLAR, server_id="s1"))
    desk.bench.write(intend_for, one, Answers(request, only_this=True), now=desk.bench.now, epoch=1)
    for _ in range(3):
        await desk.plan()
    assert len(desk.live) == 1
    assert desk.shop.rented == []


@pytest.mark.parametrize("limits", [Limits(DOLLAR // 2, 2), Limits(2 * DOLLAR, 0)])
async def test_the_limits_of_the_moment_hold_and_say_what_would_change_it(desk: Desk, limits: Limits) -> None:
    """The settings were lowered after it was asked for: the transaction of the intent refuses it, once."""
    desk.ask()
    desk.bench.db.connection.execute("UPDATE engine SET cap = ?, max_workers = ?", (limits.cap, limits.max_workers))
    await desk.plan()
    assert desk.live == []
    assert desk.result is not None
    assert desk.result.startswith("refused: ")
    assert "$0.50/h more" in desk.result or "max_workers is 0" in desk.result
    desk.bench.db.connection.execute("UPDATE engine SET cap = ?, max_workers = 9", (9 * DOLLAR,))
    await desk.plan()
    assert desk.live == [], "a refusal is final"


async def test_the_command_refuses_at_once_with_the_figure(desk: Desk) -> None:
    desk.bench.order(DOLLAR * 3 // 2)
    with pytest.raises(Refused, match=r"lacks \$0\.50/h for it: max_hourly_budget \$2\.50 would allow it"):
        desk.ask()
    desk.bench.order(1)
    with pytest.raises(Refused, match="max_workers is 2: 3 would allow it"):
        desk.ask()
    poor = replace(SETTINGS, budget=BudgetConfig(daily=0.01), scaler=ScalerConfig(max_workers=9))
    with pytest.raises(Refused, match="the budget leaves"):
        desk.ask("s2", settings=poor)


async def test_the_same_machine_is_not_asked_for_twice(desk: Desk) -> None:
    desk.ask()
    with pytest.raises(Refused, match="has been asked for already"):
        desk.ask()
    desk.bench.order(1, offer=offer(1, server_id="s2"))
    with pytest.raises(Refused, match="is w1 already"):
        desk.ask("s2")


async def test_a_ban_needs_a_word_of_its_own(desk: Desk) -> None:
    ban = Ban("host", "clore", "s1", desk.bench.now, None, "", "ada")
    desk.bench.write(hosts.ban, ban)
    with pytest.raises(Refused, match="banned"):
        desk.ask()
    desk.ask(despite_ban=True)
    await desk.plan()
    assert len(desk.live) == 1


async def test_a_ban_that_came_after_it_holds(desk: Desk) -> None:
    desk.ask()
    desk.bench.write(hosts.ban, Ban("owner", "clore", "o7", desk.bench.now, None, "", "ada"))
    await desk.plan()
    assert desk.live == []
    assert desk.result is not None
    assert "it is banned" in desk.result


async def test_more_than_was_agreed_to_is_never_paid(desk: Desk) -> None:
    desk.ask()
    desk.shop.offered = [offer(DOLLAR + 1, server_id="s1")]
    await desk.plan()
    assert desk.live == []
    assert desk.result == "refused: it costs $1.0001/h now, $1.00/h when it was asked for"


async def test_what_cannot_be_rented_yet_waits_a_while_and_no_longer(desk: Desk) -> None:
    desk.ask()
    desk.shop.offered = ProviderError("busy")
    await desk.plan()
    assert desk.result is None
    desk.bench.now += GIVE_UP_MS + 1
    desk.shop.offered = [offer(DOLLAR, server_id="s1")]
    await desk.plan()
    assert desk.live == []
    assert desk.result == "refused: it was asked for more than 5 min ago; busy"


async def test_an_engine_that_ends_rents_nothing(desk: Desk) -> None:
    desk.ask()
    desk.context.control.stop(at_once=False, now=desk.bench.now)
    await desk.plan()
    assert desk.live == []
    assert desk.result == "refused: the engine takes no new work"


async def test_a_request_of_nonsense_is_refused(desk: Desk) -> None:
    for about in ("", "[]", '["clore", "s1", "weekly", "RTX 4090", 1, 5, false]', "{", "null"):
        assert Wanted.read(about) is None
        desk.bench.write(engines.ask, "rent", 1, about=about, user="ada", now=desk.bench.now)
        await desk.plan()
        assert desk.result == "refused: it makes no sense"


def test_the_image_is_that_of_the_jobs_it_serves() -> None:
    mine = Need("mine", "RTX 4090", 1, 2 * DOLLAR)
    found = world([job(1, Need("other", "H100", 1, 9 * DOLLAR), priority=1), job(2, mine, priority=3)])
    assert need_for(offer(DOLLAR), found) == mine
    assert need_for(offer(3 * DOLLAR), found) == Need("mine", "RTX 4090", 1, None), "too dear for them: their image"
    assert need_for(offer(DOLLAR, gpu_type="A100", gpu_count=2), found) == Need("img", "A100", 2, None)
