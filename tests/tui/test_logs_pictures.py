"""The Logs screen as pictures: searched, folded, timed, wrapped, saved, several attempts, other signs, trouble."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from textual.pilot import Pilot

from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.screens.logs import LogsScreen

from .conftest import MakeApp, press, settle, write
from .logs_home import JOB, rich_output
from .test_logs import until

SnapCompare = Callable[..., bool]
SMALL, LARGE = (80, 24), (120, 40)


def after(job: int, *keys: str) -> Callable[[Pilot[Any]], Any]:
    """What is done before the picture; a key that begins with `'` is a text to type."""

    async def run(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert isinstance(app, GpuscaleApp)
        await settle(pilot)
        app.show_logs(job)
        await settle(pilot)
        for key in keys:
            await (write(pilot, key[1:]) if key[0] == "'" else press(pilot, key))
        screen = app.base_screen
        assert isinstance(screen, LogsScreen)
        await until(pilot, lambda: looked_through(screen))

    return run


def looked_through(screen: LogsScreen) -> bool:
    """Whether nothing is under way any more, and the rail stands where there is room for it."""
    parts = screen.output.lineup.parts
    over = all(sweep is None or sweep.next(parts) is None for sweep in (screen.search, screen.index))
    marked = screen.search is None or not screen._unmarked()
    return over and marked and screen.index is not None and bool(screen.rail.size.width) == (screen.size.width >= 100)


PICTURES = {
    "search": (SMALL, JOB, ("slash", r"'loss 0\.03[0-2]", "enter", "N")),
    "filter-and-times": (LARGE, JOB, ("slash", "'warn|error", "enter", "ampersand", "t")),
    "folded": (SMALL, JOB, ("Z", "k", "enter")),
    "wrapped": (SMALL, JOB, ("slash", "'option_3", "enter", "z")),
    "attempts": (LARGE, 2, ("a", "k", "a", "j", "j")),
    "save": (SMALL, JOB, ("S",)),
    "wrong": (SMALL, JOB, ("slash", "'(loss")),
}


@pytest.mark.parametrize("name", PICTURES)
def test_logs(snap_compare: SnapCompare, busy_home: Home, busy: ModuleType, make_app: MakeApp, name: str) -> None:
    size, job, keys = PICTURES[name]
    rich_output(busy_home, busy.NOW)
    assert snap_compare(make_app(busy_home), terminal_size=size, run_before=after(job, *keys))


def test_logs_in_ascii(snap_compare: SnapCompare, busy_home: Home, busy: ModuleType, make_app: MakeApp) -> None:
    rich_output(busy_home, busy.NOW)
    app = make_app(busy_home, utf8=False)
    assert snap_compare(app, terminal_size=SMALL, run_before=after(JOB, "Z", "k", "enter", "V"))
