"""The pages of a job and of a machine, the list of machines and the timeline as pictures, in all their states."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.messages import EngineState

from .conftest import MakeApp, press, settle

SMALL, WIDE = (80, 24), (120, 40)
SnapCompare = Callable[..., bool]


def after(*keys: str, broken: bool = False) -> Callable[[Pilot[Any]], Any]:
    """What is done before the picture; `broken`: at the end the store can no longer be read."""

    async def run(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await press(pilot, *keys)
        if broken:
            app = pilot.app
            assert isinstance(app, GpuscaleApp)

            async def fail() -> None:
                raise sqlite3.OperationalError("disk I/O error")

            app.reader._look = fail  # type: ignore[method-assign,assignment]
            await app.reader.read()
            await pilot.pause()

    return run


@pytest.mark.parametrize(
    ("size", "keys"),
    [
        (WIDE, ("enter",)),
        (SMALL, ("enter", "v")),
        (SMALL, ("2", "j", "enter", "v")),
        (SMALL, ("2", "t")),
        (WIDE, ("2", "t", "plus")),
        (WIDE, ("2", "space", "j", "slash", *"rate<0.45")),
    ],
    ids=["job-all", "job-curves", "machine-curves", "fleet", "fleet-wide", "machines-filtered"],
)
def test_busy(
    snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, size: tuple[int, int], keys: tuple[str, ...]
) -> None:
    """In the middle of an afternoon."""
    assert snap_compare(make_app(busy_once), terminal_size=size, run_before=after(*keys))


@pytest.mark.parametrize(("name", "keys"), [("job", ("enter",)), ("fleet", ("2", "t"))])
def test_ascii(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, name: str, keys: tuple[str, ...]) -> None:
    """Where there is no UTF-8."""
    assert snap_compare(make_app(busy_once, utf8=False), terminal_size=WIDE, run_before=after(*keys))


def test_without_colour(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp) -> None:
    """Signs and words alone tell what is what."""
    assert snap_compare(make_app(busy_once, no_color=True), terminal_size=SMALL, run_before=after("2", "t"))


def test_an_empty_timeline(snap_compare: SnapCompare, tmp_path: Any, make_app: MakeApp) -> None:
    """Before the first machine."""
    home = Home(tmp_path / "home")
    home.ensure()
    assert snap_compare(make_app(home), terminal_size=SMALL, run_before=after("2", "t"))


def test_a_page_of_a_store_that_cannot_be_read(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp) -> None:
    """What was read stays, and it is said that it is old; no engine watches."""
    app = make_app(busy_once, engine=EngineState("none"))
    assert snap_compare(app, terminal_size=SMALL, run_before=after("enter", broken=True))
