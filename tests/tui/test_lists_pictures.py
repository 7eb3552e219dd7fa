"""Queue and events as pictures: filtered, marked, wrong, empty, unreadable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home

from .conftest import MakeApp, press, settle, write
from .test_snapshots import SnapCompare, take

FILTERED = ("slash", *"!pending", "enter")


@pytest.mark.parametrize(
    ("size", "keys"),
    [
        ((80, 24), (*FILTERED, "space", "j", "space")),
        ((120, 40), (*FILTERED, "o", "o", "O", "A", "j", "space")),
        ((80, 24), ("slash", *"failed statu")),
        ((120, 40), ("C", "j", "space", "j", "J")),
        ((80, 24), ("7", "slash", *"cause:user", "enter")),
        ((80, 24), ("7", "slash", *"zzz")),
    ],
    ids=["marked", "sorted", "typing", "columns", "events", "no-event"],
)
def test_lists(
    snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, size: tuple[int, int], keys: tuple[str, ...]
) -> None:
    """What a filter, an order and marks look like."""
    take(snap_compare, make_app(busy_once), size, *keys)


def test_a_filter_that_cannot_be_read(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp) -> None:
    """The line says what is wrong, without colours and beyond ASCII too; the list is as it was."""
    app = make_app(busy_once, utf8=False, no_color=True)
    assert snap_compare(app, terminal_size=(80, 24), run_before=typing("statu:failed"))


def test_an_unreadable_store(snap_compare: SnapCompare, busy_home: Home, make_app: MakeApp) -> None:
    """What was read stays, with its age; the trouble is said."""

    async def run(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        with Database(busy_home.database) as db:
            db.connection.execute("ALTER TABLE jobs RENAME TO gone")
        await settle(pilot)
        await press(pilot, "j")

    assert snap_compare(make_app(busy_home), terminal_size=(80, 24), run_before=run)


def typing(text: str) -> Callable[[Pilot[Any]], Any]:
    """Type a filter in one go."""

    async def run(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await press(pilot, "slash")
        await write(pilot, text)

    return run
