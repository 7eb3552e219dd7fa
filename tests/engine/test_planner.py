"""The planner's looks: at the market, each question once and nobody's never; at the store, one instant at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.engine import view
from gpuscale_tui.engine.context import Bells, Context, Control
from gpuscale_tui.engine.planner import QUESTIONS_ASKED, Planner, release_as_seen, see
from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Need, Offer, Survey
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.model.states import Cause, JobState, WorkerState
from gpuscale_tui.policy.scaling import plan
from gpuscale_tui.policy.world import PendingJob, Release, World
from gpuscale_tui.providers.base import ProviderFacts
from gpuscale_tui.store import market
from gpuscale_tui.store.aio import AsyncDatabase
from tests.store.support import Bench

NOW = 1_800_000_000_000


class CountingProvider:
    """A market of one machine of each model that counts what it is asked."""

    facts = ProviderFacts(
        name="here",
        elastic=True,
        has_spot=False,
        billing_unit_ms=1,
        listing_lag_ms=0,
        boots=True,
        recognised_by="nothing",
    )

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
        bells=Bells(()), control=Control(), connect=nothing, new_token=lambda: "token",
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
    found = world(*needs)
    markets = await planner(db, provider)._survey(found)
    assert len(provider.asked) == 1
    assert set(markets) == {need.key for need in needs} | {found.default_need.key}
    assert len({id(markets[need.key].offers) for need in needs}) == 1


async def test_what_is_remembered_is_judged_by_the_settings_own_need(db: AsyncDatabase) -> None:
    await planner(db, CountingProvider())._survey(world(Need("image", "RTX 4090", 1, 1)))
    (row,) = await db.read(market.offers, "RTX 4090")
    assert row.verdict == ""


async def test_many_groups_that_no_machine_serves_keep_nobody_from_being_looked_at(db: AsyncDatabase) -> None:
    hopeless = [Need(f"image{index}", "RTX 4099", 1, None) for index in range(3 * QUESTIONS_ASKED)]
    last = Need("image", "RTX 3090", 1, None)
    found = world(*hopeless, last)
    made = plan(replace(found, markets=await planner(db, CountingProvider())._survey(found)))
    assert [rent.need for rent in made.rents] == [last]
    assert "near it there are RTX 4090" in made.groups[hopeless[0].key].text


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "home" / "gpuscale.db")
    yield made
    made.db.close()


def give_back(bench: Bench, worker_id: int, seen: WorkerState) -> bool:
    return bench.write(release_as_seen, Release(worker_id, "idle"), seen, grace_ms=0, **bench.by)


def test_a_machine_that_was_given_a_job_since_the_plan_is_not_given_back(bench: Bench) -> None:
    worker = bench.idle()
    (job_id,) = bench.submit()
    bench.place(job_id, worker.id)
    assert not give_back(bench, worker.id, WorkerState.IDLE)
    assert bench.worker(worker.id).state == WorkerState.BUSY
    assert give_back(bench, worker.id, WorkerState.BUSY), "unless the plan knew of it, as for `scale down`"


def test_a_machine_as_the_plan_saw_it_is_given_back_once(bench: Bench) -> None:
    worker = bench.idle()
    assert give_back(bench, worker.id, WorkerState.IDLE)
    assert bench.worker(worker.id).state == WorkerState.RELEASING
    assert not give_back(bench, worker.id, WorkerState.IDLE)
    assert not give_back(bench, 99, WorkerState.IDLE)


def test_what_policy_sees_is_one_instant(bench: Bench) -> None:
    """A job that is put back while the planner reads is pending or running, never neither."""
    attempt = bench.placed()
    before = bench.read(see, 1)
    assert (len(before.waiting), before.running, len(before.attempts)) == (0, 1, 1)
    bench.end(attempt, Cause.PREEMPTED, JobState.PENDING)
    after = bench.read(see, 1)
    assert (len(after.waiting), after.running, len(after.attempts)) == (1, 0, 0)


async def test_the_planner_reads_it_in_one_snapshot(db: AsyncDatabase) -> None:
    reads: list[str] = []

    class Watched:
        async def read(self, query: Any, *rest: Any) -> Any:
            reads.append(query.__name__)
            return await db.read(query, *rest)

    made = planner(Watched(), CountingProvider())  # type: ignore[arg-type]
    standing = await made._look()
    assert reads.count("see") == 1
    assert not {"waiting", "count_by_state", "live", "live_attempts"} & set(reads)
    assert standing.world.pending == ()
