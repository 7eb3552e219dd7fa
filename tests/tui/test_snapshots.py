"""Every screen as a picture, in two sizes, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from gpuscale_tui.model.settings import BudgetConfig
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.messages import EngineState

from .conftest import MakeApp, press, settle

SIZES = [(80, 24), (120, 40)]
SCREENS = {
    "queue": (),
    "workers": ("2",),
    "costs": ("3",),
    "logs": ("j", "l"),
    "checkpoints": ("5",),
    "market": ("6",),
    "events": ("7",),
    "job": ("G", "k", "k", "k", "k", "enter"),
    "worker": ("2", "j", "enter"),
    "form": ("j", "c"),
}
SnapCompare = Callable[..., bool]


def after(*keys: str) -> Callable[[Pilot[Any]], Any]:
    """What is done before the picture: read, press, read."""

    async def run(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await press(pilot, *keys)

    return run


def take(snap_compare: SnapCompare, app: GpuscaleApp, size: tuple[int, int], *keys: str) -> None:
    """Compare with the picture that was accepted."""
    assert snap_compare(app, terminal_size=size, run_before=after(*keys))


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x40"])
@pytest.mark.parametrize("name", SCREENS)
def test_screen(
    snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, name: str, size: tuple[int, int]
) -> None:
    """Every screen and page of a busy home."""
    take(snap_compare, make_app(busy_once), size, *SCREENS[name])


@pytest.mark.parametrize(
    ("name", "keys"),
    [("cancel", ("x",)), ("scale", ("s",)), ("stop", ("exclamation_mark",)),
     ("filter", ("slash", "f", "a", "i", "l", "e", "d")), ("release", ("2", "R"))],
)  # fmt: skip
def test_questions(
    snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, name: str, keys: tuple[str, ...]
) -> None:
    """What asks, and what is typed in."""
    take(snap_compare, make_app(busy_once), (80, 24), *keys)


@pytest.mark.parametrize("theme", ["gpuscale-light", "high-contrast", "colour-blind-safe", "ansi-16", "dusk"])
def test_themes(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, theme: str) -> None:
    """The queue in every other theme."""
    take(snap_compare, make_app(busy_once, theme=theme), (80, 24))


def test_an_empty_home(snap_compare: SnapCompare, tmp_path: Any, make_app: MakeApp) -> None:
    """The first thing that a new user sees teaches."""
    take(snap_compare, make_app(Home(tmp_path), engine=EngineState("none")), (80, 24))


def test_the_sandbox_says_so(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp) -> None:
    """The banner stands on every screen."""
    take(snap_compare, make_app(busy_once, banner="SANDBOX: no money is spent."), (80, 24), "2")


def test_ascii_signs(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp) -> None:
    """Without UTF-8 nothing but ASCII is drawn by us."""
    take(snap_compare, make_app(busy_once, utf8=False), (80, 24))


def test_a_silent_engine_over_the_cap(snap_compare: SnapCompare, busy_home: Home, make_app: MakeApp) -> None:
    """Stale and dear: both are said with a sign and a word."""
    with Database(busy_home.database) as db:
        db.connection.execute("UPDATE engine SET heartbeat_at = heartbeat_at - 90000, cap = 2600000")
    take(snap_compare, make_app(busy_home), (80, 24))


def test_a_narrow_terminal(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp) -> None:
    """60 columns are not refused."""
    take(snap_compare, make_app(busy_once), (60, 20))


def test_no_colour(
    snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR: bold, reverse and words only."""
    monkeypatch.setenv("NO_COLOR", "1")
    take(snap_compare, make_app(busy_once, no_color=True), (80, 24))


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x40"])
def test_budgets(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, size: tuple[int, int]) -> None:
    """The limits of money stand below the kinds of time: per cent, sums and words, the fullest first."""
    app = make_app(busy_once)
    limits = BudgetConfig(daily=20.0, monthly=40.0, per_job=30.0, projects={"vision": 2.0}, users={"ada": 1.0})
    app.settings = replace(app.settings, budget=limits)
    take(snap_compare, app, size, "3")
