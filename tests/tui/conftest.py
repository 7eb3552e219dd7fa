"""The screen over a real store, with a clock that stands still and a reader that is driven by hand."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from textual import events
from textual._context import visible_screen_stack
from textual.app import App
from textual.keys import _character_to_key, key_to_character
from textual.message_pump import MessagePump
from textual.pilot import Pilot
from textual.screen import Screen
from textual.strip import Strip

from gpuscale_tui.model.settings import CloreConfig, ProvidersConfig, ScalerConfig, Settings, UiConfig
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.app import READER, GpuscaleApp
from gpuscale_tui.tui.form.keeping import Drafts
from gpuscale_tui.tui.host import EngineHost
from gpuscale_tui.tui.kept import Kept
from gpuscale_tui.tui.messages import EngineState

ROOT = Path(__file__).resolve().parents[2]


class ShownHost(EngineHost):
    """An engine's host that says what a test wants, and starts nothing."""

    def __init__(self, state: EngineState) -> None:
        super().__init__(None)
        self.shown = state

    def state(self, _pid: int | None) -> EngineState:
        """What the test wants."""
        return self.shown


@pytest.fixture(scope="session")
def busy() -> ModuleType:
    """The script that writes a home in the middle of an afternoon."""
    spec = importlib.util.spec_from_file_location("busy_home", ROOT / "scripts" / "busy_home.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def busy_once(busy: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The busy home, written once; tests that change it use a copy."""
    home: Home = busy.make(tmp_path_factory.mktemp("busy") / "home")
    return home


@pytest.fixture
def busy_home(busy_once: Home, tmp_path: Path) -> Home:
    """A busy home of the test's own."""
    shutil.copytree(busy_once.path, tmp_path / "home")
    return Home(tmp_path / "home")


def settings(**ui: Any) -> Settings:
    """The settings that the busy home was made under."""
    return Settings(
        scaler=ScalerConfig(max_workers=8, max_hourly_budget=4.0, max_price_per_gpu=0.48),
        providers=ProvidersConfig(clore=CloreConfig(enabled=True)),
        ui=UiConfig(**ui),
    )


MakeApp = Callable[..., GpuscaleApp]


@pytest.fixture
def make_app(busy: ModuleType, tmp_path: Path) -> MakeApp:
    """Makes the application over a home, with a clock that stands still and nothing read unasked."""

    def make(home: Home, *, engine: EngineState | None = None, **options: Any) -> GpuscaleApp:
        ui = {name: options.pop(name) for name in ("theme", "keymap", "banner") if name in options}
        app = GpuscaleApp(
            home, settings(**ui), host=ShownHost(engine or EngineState("inside", 4121)), clock=lambda: busy.NOW,
            interval=None, zone=UTC, **options,
        )  # fmt: skip
        app.user = "ada"
        app.kept = Kept(tmp_path / "screen.json")  # the test's own: homes are shared
        app._drafts = Drafts(tmp_path / "drafts.json")
        notify = app.notify
        app.notify = lambda *words, **how: notify(*words, **{**how, "timeout": 3600})  # type: ignore[method-assign]
        return app

    return make


async def settle(pilot: Pilot[Any]) -> None:
    """Until what the screen wants has been read and shown, and looks the same twice."""
    app = pilot.app
    assert isinstance(app, GpuscaleApp)
    quiet, seen = 0, None
    for _ in range(24):
        await drain(app)
        handling = [worker for worker in app.workers if worker.group != READER and not worker.is_finished]
        if handling:
            await app.workers.wait_for_complete(handling)
        fresh, before, seen = await app.reader.read(), seen, shown(app)
        quiet = 0 if fresh or seen != before else quiet + 1
        if quiet == 2:
            break
    await drain(app)


async def until(pilot: Pilot[Any], true: Callable[[], bool]) -> None:
    """Wait until something is so that a thread or another process brings about."""
    async with asyncio.timeout(90):
        while not true():
            await settle(pilot)
            await asyncio.sleep(0.01)


async def drain(app: GpuscaleApp) -> None:
    """Until every message that is on its way has been handled, and the screen laid out anew."""
    for _ in range(3):
        for pump in (app, app.screen, *app.screen.walk_children()):
            await reached(pump, pump.call_later)
    await laid_out(app)


async def laid_out(app: GpuscaleApp) -> None:
    """Until the screen has been laid out and painted; one that comes meanwhile, by itself, is waited for instead."""
    done = asyncio.Event()
    screen: Screen[Any] | None = None
    async with asyncio.timeout(60):
        while not done.is_set():
            if app.screen is not screen:
                screen = app.screen
                if not screen.call_after_refresh(done.set):
                    return
            await asyncio.sleep(0)


async def reached(pump: MessagePump, call: Callable[[Callable[[], None]], bool]) -> None:
    """Until a queue has come to a call that is put at its end; a queue that closes meanwhile is not waited for."""
    done = asyncio.Event()
    if not call(done.set):
        return
    async with asyncio.timeout(60):
        while pump.is_running and not done.is_set():  # noqa: ASYNC110 - a queue that closes sets no event
            await asyncio.sleep(0)


async def press(pilot: Pilot[Any], *keys: str) -> None:
    """Press keys one by one, each with its effect shown."""
    for key in keys:
        send(pilot.app, key)
        await settle(pilot)


async def write(pilot: Pilot[Any], text: str) -> None:
    """Type a text in one burst, and see its effect at the end."""
    for letter in text:
        send(pilot.app, letter)
    await settle(pilot)


def send(app: App[Any], key: str) -> None:
    """One key, as a terminal sends it."""
    name = _character_to_key(key) if len(key) == 1 else key
    app.post_message(events.Key(name, key if len(key) == 1 else key_to_character(name)))


def painted(app: GpuscaleApp) -> list[Strip]:
    """The lines on the terminal. Textual keeps what is rendered: it is told what lies behind a question, as it tells
    itself, or the picture would have nothing there."""
    visible_screen_stack.set(app._background_screens)
    return app.screen._compositor.render_strips()


def shown(app: GpuscaleApp) -> list[str]:
    """The lines on the terminal, as text."""
    return ["".join(segment.text for segment in strip) for strip in painted(app)]
