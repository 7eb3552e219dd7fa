"""What the planner asks of the market: each question once, whoever waits; nobody's question is never asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.engine import view
from gpuscale_tui.engine.context import Bells, Context, Control
from gpuscale_tui.engine.planner import QUESTIONS_ASKED, Planner
from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Need, Offer, Survey
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.policy.scaling import plan
from gpuscale_tui.policy.world import PendingJob, World
from gpuscale_tui.store import market
from gpuscale_tui.store.aio import AsyncDatabase

NOW = 1_800_000_000_000


class CountingProvider:
    """A market of one machine of each model that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Need] = []

    async def offers(self, need: Need) -> Survey:
        self.asked.append(need)
        if need.gpu_type not in {"RTX 4090", "RTX 3090"}:
            return Survey(nearest=("RTX 4090",))
        return Survey((Offer("here", "1", need.gpu_type, 1, Terms(450_000)),))


class OpenRenter:
    """Rents from everybody."""

    def paused(self, name: str) -> str | None:
        return None


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[AsyncDatabase]:
    async with await AsyncDatabase.open(tmp_path / "store.db") as opened:
        yield opened


def planner(db: AsyncDatabase, provider: CountingProvider) -> Planner:
    nothing: Any = None
    context = Context(
        home=nothing, settings=Settings(), db=db, logs=nothing, snapshots=nothing,
        providers={"here": provider}, epoch=1, base="", public_key="", now=lambda: NOW,
        bells=Bells(()), control=Control(),
    )  # type: ignore[dict-item]  # fmt: skip
    return Planner(context, OpenRenter())  # type: ignore[arg-type]


def world(*needs: Need) -> World:
    settings = Settings()
    pending = tuple(PendingJob(id_, need, 5, NOW - 10_000 + id_) for id_, need in enumerate(needs, 1))
    return World(
        now=NOW, scaler=settings.scaler, cap=view.cap(settings), limits=view.limits(settings), pending=pending,
        default_need=view.default_need(settings),
    )  # fmt: skip


async def test_groups_that_differ_in_image_and_price_share_one_question(db: AsyncDatabase) -> None:
    provider = CountingProvider()
    needs = [Need(f"image{index}", "RTX 4090", 1, 400_000 + index) for index in range(300)]
    found = await planner(db, provider)._survey(world(*needs))
    assert len(provider.asked) == 1
    assert set(found.markets) == {need.key for need in needs} | {found.default_need.key}
    assert len({id(found.markets[need.key].offers) for need in needs}) == 1


async def test_what_is_remembered_is_judged_by_the_settings_own_need(db: AsyncDatabase) -> None:
    await planner(db, CountingProvider())._survey(world(Need("image", "RTX 4090", 1, 1)))
    (row,) = await db.read(market.offers, "RTX 4090")
    assert row.verdict == ""


async def test_many_groups_that_no_machine_serves_keep_nobody_from_being_looked_at(db: AsyncDatabase) -> None:
    hopeless = [Need(f"image{index}", "RTX 4099", 1, None) for index in range(3 * QUESTIONS_ASKED)]
    last = Need("image", "RTX 3090", 1, None)
    found = await planner(db, CountingProvider())._survey(world(*hopeless, last))
    made = plan(found)
    assert [rent.need for rent in made.rents] == [last]
    assert "near it there are RTX 4090" in made.groups[hopeless[0].key].text
