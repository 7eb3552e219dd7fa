"""The form, its helpers and the checkpoints as pictures: empty, in trouble, without UTF-8, in the sizes that matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from gpuscale_tui.model.settings import BudgetConfig
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.messages import EngineState

from .conftest import MakeApp, press, settle, write

SnapCompare = Callable[..., bool]


def typed(*steps: str) -> Callable[[Pilot[Any]], Any]:
    """Press keys; what begins with `=` is written."""

    async def run(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        for step in steps:
            if step.startswith("=") and len(step) > 1:
                await write(pilot, step[1:])
            else:
                await press(pilot, step)

    return run


def take(snap_compare: SnapCompare, app: GpuscaleApp, size: tuple[int, int], *steps: str) -> None:
    """Compare with the picture that was accepted."""
    assert snap_compare(app, terminal_size=size, run_before=typed(*steps))


SWEEP = ("n", "=python t.py --lr {lr} --seed {seed}", "tab", "=charlm", "tab", "=lr=1e-3,5e-4 seed=1..3")


def test_the_form_with_a_limit_that_does_not_allow_it(
    snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp
) -> None:
    """Fields that are wrong, and what a day's budget says."""
    app = make_app(busy_once)
    app.settings = replace(app.settings, budget=BudgetConfig(daily=3.0))
    take(snap_compare, app, (120, 40), *SWEEP)


def test_the_form_without_utf8_and_market(snap_compare: SnapCompare, tmp_path: Path, make_app: MakeApp) -> None:
    """Nothing known yet, errors shown, ASCII."""
    app = make_app(Home(tmp_path / "empty"), engine=EngineState("none"), utf8=False)
    app.home.ensure()
    take(snap_compare, app, (80, 24), "n", "tab", "tab", "=lr", "ctrl+s")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
def test_a_branch(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, size: tuple[int, int]) -> None:
    """Each change as it was and is."""
    steps = ("slash", "=whisper", "enter", "B", "= --lr 2", "tab", "tab", "tab", "tab", "tab", "=5")
    take(snap_compare, make_app(busy_once), size, *steps)


def test_the_sweep_editor(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp) -> None:
    """Rows, jobs, commands."""
    take(snap_compare, make_app(busy_once), (80, 24), *SWEEP, "ctrl+w")


def test_templates(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp) -> None:
    """Past jobs, each kind once."""
    take(snap_compare, make_app(busy_once), (80, 24), "n", "ctrl+t", "down")


def test_the_directory_picker(
    snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would be uploaded, what stays."""
    for name in ("charlm/data", "charlm/.venv", "charlm/src", "vision"):
        (tmp_path / "work" / name).mkdir(parents=True)
    (tmp_path / "work" / "charlm" / "train.py").write_text("x" * 4_200)
    monkeypatch.chdir(tmp_path)
    steps = ("n", *["tab"] * 9, "=work/", "ctrl+o", "right")
    take(snap_compare, make_app(busy_once), (80, 24), *steps)


def test_no_checkpoint_yet(snap_compare: SnapCompare, tmp_path: Path, make_app: MakeApp) -> None:
    """The empty screen teaches."""
    take(snap_compare, make_app(Home(tmp_path / "empty"), engine=EngineState("none")), (80, 24), "5")


def test_checkpoints_of_an_engine_that_is_silent(snap_compare: SnapCompare, busy_home: Home, make_app: MakeApp) -> None:
    """Marked rows, a filter, a job that starts from one; the age of the data on top; without UTF-8."""
    with Database(busy_home.database) as db:
        db.connection.execute("UPDATE engine SET heartbeat_at = heartbeat_at - 90000")
        db.connection.execute("UPDATE jobs SET start_job = 2, start_snapshot = 2 WHERE id = 22")
        db.connection.execute("UPDATE jobs SET state = 'pending' WHERE id = 22")
    app = make_app(busy_home, utf8=False)
    take(snap_compare, app, (80, 24), "5", "slash", "=step>0", "enter", "space", "space")


def test_checkpoints_of_a_store_that_cannot_be_read(
    snap_compare: SnapCompare, busy_home: Home, make_app: MakeApp
) -> None:
    """What was read before stays, and the trouble is said."""
    app = make_app(busy_home)

    async def run(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await press(pilot, "5")
        with Database(busy_home.database) as db:
            db.connection.execute("ALTER TABLE snapshots RENAME TO gone")
        await app.reader.read()
        await settle(pilot)

    assert snap_compare(app, terminal_size=(80, 24), run_before=run)
