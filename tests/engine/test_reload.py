"""Settings read anew while the engine works: taken over whole or not at all, and the cap holds in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.config import load
from gpuscale_tui.config_write import change
from gpuscale_tui.engine import commands
from gpuscale_tui.engine.context import Bells, Context, Control
from gpuscale_tui.engine.engine import SERVICES, Engine
from gpuscale_tui.engine.keeper import Keeper
from gpuscale_tui.engine.reloader import differences
from gpuscale_tui.engine.renter import Renter
from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.model.settings import (
    CheckpointConfig,
    NotifyConfig,
    ScalerConfig,
    Settings,
)
from gpuscale_tui.policy.world import Rent
from gpuscale_tui.providers.base import RentOutcome, RentRequest
from gpuscale_tui.store import engines, workers
from gpuscale_tui.store.aio import AsyncDatabase
from gpuscale_tui.store.engines import Limits
from tests.engine.conftest import Rig, until
from tests.engine.test_safety import Pretended
from tests.store.support import DOLLAR, NEED, Bench, offer

HIGH = Settings(scaler=ScalerConfig(max_hourly_budget=2.0, max_workers=4))
LOW = replace(HIGH, scaler=replace(HIGH.scaler, max_hourly_budget=1.0, max_workers=2))


@dataclass
class Slow(Pretended):
    """A provider whose create call takes until the test lets it go on."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    async def rent(self, request: RentRequest) -> RentOutcome:
        self.asked.set()
        await self.answers.wait()
        return await super().rent(request)


@dataclass
class Written:
    """Settings that a test writes; `made_of` is what providers are made of."""

    settings: Settings | Exception
    made_of: dict[str, object] = field(default_factory=lambda: {"clore": "one account"})
    made: list[Any] = field(default_factory=list)

    def read(self) -> Settings:
        if isinstance(self.settings, Exception):
            raise self.settings
        return self.settings

    def prints(self, _settings: Settings) -> Mapping[str, object]:
        return dict(self.made_of)

    def providers(self, _settings: Settings) -> Mapping[str, Any]:
        self.made.append({name: Slow() for name in self.made_of})
        return dict(self.made[-1])


@dataclass
class Desk:
    """A keeper that hears requests, a renter that rents, and what is written for them."""

    bench: Bench
    context: Context
    written: Written
    provider: Slow
    renter: Renter
    keeper: Keeper

    async def reload(self) -> None:
        """What a user asks for, heard at once."""
        await self.context.db.write(commands.reload, user="ada", now=self.bench.now)
        await self.keeper.tick()

    def rent(self, server: str) -> asyncio.Task[None] | None:
        """An order that the plan of this moment wants."""
        chosen = offer(server_id=server)
        return self.renter.begin(Rent(chosen, NEED, "for the test"), None)

    def said(self, kind: str) -> list[str]:
        rows = self.bench.db.connection.execute("SELECT detail FROM events WHERE kind = ? ORDER BY id", (kind,))
        return [row["detail"] for row in rows]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    bench = Bench(tmp_path / "store.db")
    provider, written, nothing = Slow(), Written(HIGH), None
    async with await AsyncDatabase.open(bench.path) as db, asyncio.TaskGroup() as tasks:
        epoch = db.epoch = await db.write(engines.begin_epoch, 1, "test", Limits(2 * DOLLAR, 4), bench.now)
        context = Context(
            home=nothing, settings=HIGH, db=db, logs=nothing, snapshots=nothing, providers={"clore": provider},
            epoch=epoch, base="", public_key="", now=lambda: bench.now, bells=Bells(SERVICES), control=Control(),
            connect=nothing, new_token=iter("abcdefgh").__next__, sources=written,
        )  # type: ignore[arg-type,dict-item]  # fmt: skip
        renter = Renter(context, tasks)
        renter.listed["clore"] = frozenset()
        yield Desk(bench, context, written, provider, renter, Keeper(context, exit_when_idle=False))
        provider.answers.set()
    bench.db.close()


async def test_a_cap_that_is_lowered_while_a_machine_is_ordered_holds_for_the_next(desk: Desk) -> None:
    """Two machines fit under the old cap, one under the new one; the first is on order when it is lowered."""
    first = desk.rent("s1")
    async with asyncio.timeout(60):
        await desk.provider.asked.wait()
    desk.written.settings = LOW
    await desk.reload()
    row = desk.bench.read(engines.engine)
    assert row is not None
    assert (row.cap, row.max_workers) == (DOLLAR, 2), "what every screen shows"
    assert desk.context.settings is LOW
    desk.provider.answers.set()
    assert first is not None
    await first
    second = desk.rent("s2")
    assert second is not None
    await second
    assert [request.offer.server_id for request in desk.provider.rented] == ["s1"]
    assert desk.bench.read(workers.committed_rate) == DOLLAR


async def test_an_intent_that_was_on_its_way_meanwhile_keeps_to_the_lowered_cap(desk: Desk) -> None:
    """The order was planned and its limits were read before; its transaction comes after the new cap's."""
    desk.provider.answers.set()
    first = desk.rent("s1")
    assert first is not None
    await first
    epoch = desk.context.epoch
    lowered = asyncio.create_task(
        desk.context.db.write(engines.adopt, 0, Limits(DOLLAR, 4), "lower", now=1, epoch=epoch)
    )
    second = desk.rent("s2")  # its limits are read before the lowering is over, its transaction comes after it
    assert second is not None
    await asyncio.gather(lowered, second)
    assert len(desk.provider.rented) == 1
    assert desk.context.settings is HIGH, "nobody had told the renter"


async def test_settings_that_are_wrong_leave_the_old_ones_in_force_and_are_told(desk: Desk) -> None:
    """Whatever is wrong with them."""
    for wrong in (FieldError("scaler.max_workers", -1, "0 and up"), OSError("the disk is gone")):
        desk.written.settings = wrong
        await desk.reload()
        assert desk.context.settings is HIGH
        assert desk.said("warning")[-1] == f"the settings stay as they were: {wrong}"
    assert desk.bench.read(engines.open_requests) == []
    assert len(desk.said("warning")) == 2


async def test_what_has_changed_is_in_the_audit_log_without_secrets(desk: Desk) -> None:
    """Values of addresses are secrets; what only the next start takes up says so."""
    desk.written.settings = replace(
        LOW, notify=NotifyConfig(urls=("slack://TokenA/TokenB/TokenC",)), checkpoints=CheckpointConfig(dir="/data")
    )
    await desk.reload()
    said = desk.said("engine")[-1]
    assert "scaler.max_hourly_budget 2.0 -> 1.0; " in said
    assert 'checkpoints.dir not set -> "/data" (at the next start)' in said
    assert "slack://..." in said
    assert "TokenA" not in said
    assert list(differences(HIGH, HIGH)) == []


async def test_a_provider_that_is_switched_off_is_kept_for_what_is_rented_there(desk: Desk) -> None:
    """No more is rented there; what is there can still be listed and given back."""
    desk.written.made_of = {}
    await desk.reload()
    assert desk.context.providers == {"clore": desk.provider}
    assert desk.rent("s1") is None
    assert desk.renter.paused("clore") == "clore is switched off in the settings"
    desk.written.made_of = {"clore": "one account"}
    await desk.reload()
    assert desk.renter.paused("clore") is None


async def test_another_account_counts_once_nothing_is_rented_under_the_old_one(desk: Desk) -> None:
    """The new account's list would not have the old one's machines: they would seem to be gone."""
    desk.provider.answers.set()
    first = desk.rent("s1")
    assert first is not None
    await first
    desk.written.made_of = {"clore": "another account", "ssh": "two hosts"}
    await desk.reload()
    assert desk.context.providers["clore"] is desk.provider
    assert desk.context.providers["ssh"] is desk.written.made[-1]["ssh"], "what is new counts at once"
    assert "clore: its new settings count once no machine is rented there" in desk.said("warning")[-1]
    [worker] = desk.bench.read(workers.live)
    desk.bench.write(workers.refuse, worker.id, "none", None, now=desk.bench.now, epoch=None)
    await desk.reload()
    assert desk.context.providers["clore"] is desk.written.made[-1]["clore"]
    made = len(desk.written.made)
    await desk.reload()
    assert len(desk.written.made) == made, "the same again builds nothing"


async def test_an_engine_without_files_says_so(desk: Desk) -> None:
    """A program that made its settings itself has to change them itself."""
    desk.context.sources = None
    await desk.reload()
    assert "given its settings by the program" in desk.said("warning")[-1]


def test_a_running_engine_takes_a_changed_file_over(tmp_path: Path, market: Rig) -> None:
    """From the file to the machines: a provider is switched on, rents under the cap, and rents no more under a lower
    one, all without a restart."""
    config = tmp_path / "config.toml"
    clore = market.settings.providers.clore
    config.write_text("")
    change(config, market.environ, {
        "scaler.poll_interval_sec": 0.5, "scaler.idle_timeout_sec": 600.0, "scaler.scale_up_threshold": 1,
        "scaler.max_hourly_budget": 0.05, "machines.min_free_disk_gb": 0.0, "machines.min_download_mbps": 0.0,
    })  # fmt: skip

    def read() -> Settings:
        return load(config, market.environ).settings

    with Engine(market.home, read(), mode="test", environ=market.environ, read_again=read) as engine:
        [job] = market.submit("true")
        until(lambda: engines_row(market).heartbeat_at)
        assert not market.workers()
        change(config, market.environ, {
            "providers.clore.enabled": True, "providers.clore.base_url": clore.base_url,
            "providers.clore.request_interval_sec": clore.request_interval_sec,
            "providers.clore.create_interval_sec": clore.create_interval_sec, "scaler.max_hourly_budget": 2.0,
        })  # fmt: skip
        market.command(commands.reload)
        until(lambda: market.job(job).state == "done")
        assert engines_row(market).cap == 2 * DOLLAR
        change(config, market.environ, {"scaler.max_hourly_budget": 0.01, "scaler.min_workers": 1})
        market.command(commands.reload)
        until(lambda: market.workers()[0].state == "released")
        engine.stop(at_once=True)
        assert engine.wait(100)


def engines_row(rig: Rig) -> engines.EngineRow:
    row = rig.db.read(engines.engine)
    assert row is not None
    return row
