"""The settings screen and the set-up as pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from gpuscale_tui.config_write import Files
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.widgets.change import ChangeValue
from gpuscale_tui.tui.widgets.confirm import Choice, Question
from tests.tui.conftest import MakeApp, drain, press, send, settle, write

SnapCompare = Callable[..., bool]
CONFIG = """\
[scaler]
max_hourly_budget = 4.0
max_workers = 8
[providers.clore]
enabled = true
[[providers.ssh.hosts]]
name = "lab1"
host = "192.0.2.17"
[notify]
urls = ["slack://TokenA/TokenB/TokenC"]
"""
CHANGED = {"scaler.max_hourly_budget": 3.5, "scaler.idle_timeout_sec": 300.0}
STATES: dict[str, tuple[str, ...]] = {
    "busy": ("8", *"jjjj"),
    "typing": ("8", *"jjjj", "enter", "type:x"),
    "themes": ("8", "type:/ui.theme", "enter", "enter", "down"),
    "filter": ("8", "type:/from:environment", "enter"),
    "nothing": ("8", "type:/nosuchthing", "enter"),
}


@pytest.fixture
def files() -> Files:
    """In the user's home directory, which is the test's own."""
    made = Files(None, {"GPUSCALE_CLORE_URL": "http://127.0.0.1:9/v1"})
    made.config.parent.mkdir(parents=True)
    made.config.write_text(CONFIG)
    made.change(CHANGED)
    return made


def after(*keys: str) -> Callable[[Pilot[Any]], Any]:
    """Read, press, read."""

    async def run(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        for key in keys:
            await (write(pilot, key[5:]) if key.startswith("type:") else press(pilot, key))

    return run


@pytest.mark.parametrize(
    ("state", "size"),
    [*((state, (80, 24)) for state in STATES), ("busy", (120, 40))],
    ids=[*STATES, "busy-120x40"],
)
def test_settings(  # noqa: PLR0917 - pytest names them
    snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, files: Files, state: str, size: tuple[int, int]
) -> None:
    """The list, a value being typed, a theme being chosen, a filter."""
    app = make_app(busy_once, files=files, user_config=files.config.parent)
    app.settings = files.read().settings
    assert snap_compare(app, terminal_size=size, run_before=after(*STATES[state]))


def test_files_that_are_wrong(snap_compare: SnapCompare, busy_once: Home, make_app: MakeApp, files: Files) -> None:
    """What is in force stays on the screen, and the first thing that is wrong above it."""
    app = make_app(busy_once, files=files, user_config=files.config.parent, no_color=True)
    app.settings = files.read().settings
    files.config.write_text("[scaler]\nmax_worker = 3\n")
    assert snap_compare(app, terminal_size=(80, 24), run_before=after("8"))


def test_the_set_up(snap_compare: SnapCompare, tmp_path: Any, make_app: MakeApp) -> None:
    """The first thing of all that a user sees."""
    take_guide(snap_compare, tmp_path, make_app, "")


def test_the_set_up_asks_for_a_key(snap_compare: SnapCompare, tmp_path: Any, make_app: MakeApp) -> None:
    """It is not shown."""
    take_guide(snap_compare, tmp_path, make_app, "c")


def take_guide(snap_compare: SnapCompare, tmp_path: Any, make_app: MakeApp, answer: str) -> None:
    app = make_app(Home(tmp_path / "empty"), files=Files(None, {}))
    app.settings = Settings()

    async def run(pilot: Pilot[Any]) -> None:
        await app.reader.read()
        while not (isinstance(app.screen, Question) and any(choice.has_focus for choice in app.screen.query(Choice))):
            await drain(app)
        if answer:
            send(app, answer)
            while not (isinstance(app.screen, ChangeValue) and app.screen.line.has_focus):
                await drain(app)
            for letter in "secret":
                send(app, letter)
            while app.screen.line.value != "secret":
                await drain(app)
        await drain(app)

    assert snap_compare(app, terminal_size=(80, 24), run_before=run)
