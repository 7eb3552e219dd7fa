"""The frame in pictures. Help and palette show a few actions only: others come and go without new pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from gpuscale_tui.store.home import Home
from gpuscale_tui.tui import actions, many, palette
from gpuscale_tui.tui.messages import EngineState
from gpuscale_tui.tui.screens import help as help_page

from .conftest import MakeApp, press, settle, write

FEW = ("open", "job.cancel", "job.retry", "job.why", "worker.release", "list.filter", "move.down", "undo", "theme.next",
       "help", "quit", "log.follow")  # fmt: skip
SnapCompare = Callable[..., bool]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only some actions are listed."""
    chosen = tuple(action for action in actions.ACTIONS if action.id in FEW)
    monkeypatch.setattr(help_page, "ACTIONS", chosen)
    monkeypatch.setattr(palette, "ACTIONS", chosen)


def after(*keys: str, typed: str = "") -> Callable[[Pilot[Any]], Any]:
    """What is done before the picture."""

    async def run(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await press(pilot, *keys)
        if typed:
            await write(pilot, typed)

    return run


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
def test_help(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, size: tuple[int, int]) -> None:
    """What does not apply says why."""
    assert snap_compare(make_app(busy_once), terminal_size=size, run_before=after("question_mark"))


@pytest.mark.usefixtures("few")
def test_help_narrowed(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp) -> None:
    """In ASCII."""
    app = make_app(busy_once, utf8=False)
    assert snap_compare(app, terminal_size=(80, 24), run_before=after("question_mark", typed="retry"))


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("typed", ["", "re", "queue sta"], ids=["all", "letters", "command"])
def test_palette(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, typed: str) -> None:
    """Everything, what fits, and a command that goes on."""
    assert snap_compare(make_app(busy_once), terminal_size=(80, 24), run_before=after("ctrl+p", typed=typed))


def test_messages(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp) -> None:
    """The newest first, with signs and words."""
    app = make_app(busy_once)

    async def run(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        app.told.clear()
        await app.do("job.retry")
        app.notify("the disk is full", severity="error")
        app.clear_notifications()
        await press(pilot, "i")

    assert snap_compare(app, terminal_size=(80, 24), run_before=run)


def test_a_number_to_type(
    snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many jobs at once."""
    monkeypatch.setattr(many, "TYPED_ABOVE", 3)
    assert snap_compare(make_app(busy_once), terminal_size=(80, 24), run_before=after("A", "x"))


def test_what_can_be_undone(snap_compare: SnapCompare, busy_home: Home, make_app: MakeApp) -> None:
    """The toast, the state of the job, and the key in the footer."""
    assert snap_compare(make_app(busy_home), terminal_size=(80, 24), run_before=after("x", "y"))


def test_read_only_beside_a_headless_engine(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp) -> None:
    """What changes anything is dim."""
    app = make_app(busy_once, readonly=True, engine=EngineState("attached", 771))
    assert snap_compare(app, terminal_size=(120, 40), run_before=after("j"))
