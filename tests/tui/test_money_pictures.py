"""Costs, market and an offer as pictures: empty, stale, unreadable, low and tall."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.messages import EngineState
from tests.tui.conftest import MakeApp
from tests.tui.test_snapshots import SnapCompare, take

LOW, TALL = (80, 24), (120, 40)


@pytest.mark.parametrize(
    ("name", "keys", "size"),
    [("rate", ("3", "v"), LOW), ("forecast", ("3", "v", "v"), LOW), ("offer", ("6", "enter"), LOW),
     ("offer-tall", ("6", "enter"), TALL), ("refused-offer", ("6", "G", "enter"), LOW)],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_views(  # noqa: PLR0917 - fixtures
    snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, name: str, keys: tuple[str, ...],
    size: tuple[int, int],
) -> None:  # fmt: skip
    """What the keys lead to in a busy home."""
    take(snap_compare, make_app(busy_once), size, *keys)


@pytest.mark.parametrize("key", ["3", "6"])
def test_empty(snap_compare: SnapCompare, make_app: MakeApp, tmp_path: Path, key: str) -> None:
    """Nothing was spent, nothing was read."""
    home = Home(tmp_path / "home")
    home.ensure()
    take(snap_compare, make_app(home, engine=EngineState("none")), LOW, key)


def test_a_stale_market(snap_compare: SnapCompare, busy_home: Home, make_app: MakeApp) -> None:
    """A reading of two hours ago says so."""
    with Database(busy_home.database) as db:
        db.write(lambda connection: connection.execute("UPDATE offers SET read_at = read_at - 7200000"))
    take(snap_compare, make_app(busy_home, engine=EngineState("none")), LOW, "6")
