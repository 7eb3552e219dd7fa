"""The set-up: it appears where nothing is there, ends in what works, and leaves nothing half-written anywhere."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from gpuscale_tui.config_write import Files
from gpuscale_tui.engine.doctor import Check
from gpuscale_tui.model.settings import Settings, SshHost
from gpuscale_tui.store import engines
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.screens import guide
from gpuscale_tui.tui.screens.base import BaseScreen
from gpuscale_tui.tui.widgets.change import ChangeValue
from gpuscale_tui.tui.widgets.confirm import Choice, Question
from tests.marketplace import running_sandbox
from tests.tui.conftest import MakeApp, drain, send, settle, shown

KEY = "a-very-secret-key-1234567890"


class Pretended:
    """Checks that say what a test wants."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.refuses = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def clore(self, settings: Settings, environ: Mapping[str, str]) -> Check:
        self.asked.append(environ.get("CLORE_API_KEY"))
        assert settings.providers.clore.enabled
        await self.answers.wait()
        if self.refuses:
            return Check("clore", "fail", f"the key {KEY} was refused", "make a new one")
        return Check("clore", "ok", "it takes the key")

    async def host(self, asked: SshHost) -> Check:
        self.asked.append(asked)
        return Check("host", "fail" if self.refuses else "ok", "it does not let us in" if self.refuses else "fine")

    async def our_key(self) -> str:
        return "ssh-ed25519 AAAA gpuscale"


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    made = Pretended()
    monkeypatch.setattr(guide, "real_checks", lambda _app: guide.Checks(made.clore, made.host, made.our_key))
    return made


Make = Callable[..., GpuscaleApp]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """No settings anywhere; the user's config directory is not even there."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Files(None, {})


@pytest.fixture
def make(tmp_path: Path, files: Files, make_app: MakeApp) -> Make:
    def made(home: Home | None = None, **options: Any) -> GpuscaleApp:
        if home is None:
            home = Home(tmp_path / "empty")
            home.ensure()
        app = make_app(home, files=options.pop("files", files), **options)
        app.settings = Settings()
        return app

    return made


async def until(pilot: Pilot[Any], probe: Callable[[], bool]) -> None:
    """Until something is so, and what it leads to is shown."""
    app = pilot.app
    assert isinstance(app, GpuscaleApp)
    async with asyncio.timeout(60):
        while not probe():
            await drain(app)
    await drain(app)


async def see(pilot: Pilot[Any], words: str) -> None:
    """Until these words are on the screen."""
    await until(pilot, lambda: any(words in line for line in shown(pilot.app)))  # type: ignore[arg-type]


async def line(pilot: Pilot[Any], words: str = "") -> ChangeValue:
    """The next line to type in, once it is there; with `words` one whose title has them."""

    def there() -> bool:
        screen = pilot.app.screen
        return isinstance(screen, ChangeValue) and screen.line.has_focus and words in screen._title

    await until(pilot, there)
    assert isinstance(pilot.app.screen, ChangeValue)
    return pilot.app.screen


async def fill(pilot: Pilot[Any], text: str, words: str = "") -> None:
    """Type instead of what stands in the line, and go on."""
    dialog = await line(pilot, words)
    dialog.line.value = text
    await until(pilot, lambda: dialog.line.value == text)
    send(pilot.app, "enter")
    await until(pilot, lambda: pilot.app.screen is not dialog)


async def pick(pilot: Pilot[Any], key: str, words: str) -> None:
    """Answer the question with these words in its title, once it is there."""

    def there() -> bool:
        screen = pilot.app.screen
        return (
            isinstance(screen, Question) and words in screen._title and any(c.has_focus for c in screen.query(Choice))
        )

    await until(pilot, there)
    before = pilot.app.screen
    send(pilot.app, key)
    await until(pilot, lambda: pilot.app.screen is not before)


async def begin(pilot: Pilot[Any], key: str) -> None:
    """The first question, answered."""
    assert isinstance(pilot.app, GpuscaleApp)
    await pilot.app.reader.read()
    await pick(pilot, key, "Welcome")


def written(files: Files) -> list[str]:
    folder = files.settings.parent
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def told(app: GpuscaleApp) -> str:
    return "\n".join(toast.message for toast in app._notifications)


def content_and_mode(path: Path) -> tuple[str, int]:
    return path.read_text(), stat.S_IMODE(path.stat().st_mode)


async def end(pilot: Pilot[Any]) -> None:
    """Until the set-up is over and everything of it done."""
    app = pilot.app
    assert isinstance(app, GpuscaleApp)
    await until(pilot, lambda: isinstance(app.screen, BaseScreen) and not busy(app))
    await settle(pilot)


def busy(app: GpuscaleApp) -> bool:
    return any(worker.group == "handlers" and not worker.is_finished for worker in app.workers)


async def test_it_appears_where_nothing_is_there(make: Make) -> None:
    """At the first start of all; it can be left at once."""
    app = make()
    async with app.run_test(size=(80, 24)) as pilot:
        await begin(pilot, "l")
        await end(pilot)
        assert guide.is_first_start(app)


@pytest.mark.parametrize("case", ["settings", "readonly", "jobs", "another program's settings"])
async def test_it_does_not_appear_otherwise(case: str, make: Make, files: Files, busy_home: Home) -> None:
    """Neither with settings, nor with --readonly, nor where jobs were run, nor where no files are known."""
    if case == "settings":
        files.change({"ui.banner": "x"})
    home = busy_home if case in {"jobs", "readonly"} else None
    options: dict[str, Any] = {"readonly": True} if case == "readonly" else {}
    app = make(home, files=None if case.startswith("another") else files, **options)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert not guide.is_first_start(app)
        assert isinstance(app.screen, BaseScreen)


async def test_a_marketplace_is_set_up_with_a_checked_key(make: Make, files: Files, checks: Pretended) -> None:
    """The key is typed hidden, asked about, and kept in a file of its own; the rest is in settings.toml."""
    app = make()
    async with app.run_test(size=(80, 24)) as pilot:
        await begin(pilot, "c")
        dialog = await line(pilot, "API key")
        dialog.line.value = KEY
        await drain(app)
        assert dialog.line.password
        assert not any(KEY in each for each in shown(app))
        await fill(pilot, KEY, "API key")
        await fill(pilot, "1.5", "cap")
        await fill(pilot, "RTX 3090", "GPU")
        await see(pilot, "at most $1.50 per hour")
        assert written(files) == [], "nothing before the last answer"
        await pick(pilot, "y", "right?")
        await end(pilot)
        assert checks.asked == [KEY]
        found = files.read().settings
        assert (found.scaler.max_hourly_budget, found.scaler.gpu_type) == (1.5, "RTX 3090")
        assert found.providers.clore.enabled
        path = Path(found.providers.clore.api_key_file or "")
        assert content_and_mode(path) == (f"{KEY}\n", 0o600)
        assert KEY not in files.settings.read_text()
        assert app.settings == found
        assert [each.kind for each in await app.reader.database.read(engines.open_requests)] == ["reload"]
        assert not guide.is_first_start(app)


async def test_a_key_that_is_refused_is_typed_again(make: Make, files: Files, checks: Pretended) -> None:
    """What is told of it does not repeat it; the set-up can be left then too."""
    checks.refuses = True
    app = make()
    async with app.run_test(size=(80, 24)) as pilot:
        await begin(pilot, "c")
        for then in ("t", "l"):
            await fill(pilot, KEY, "API key")
            await see(pilot, "was refused")
            assert not any(KEY in each for each in shown(app))
            await pick(pilot, then, "Clore.ai")
        await end(pilot)
        assert written(files) == []


STEPS = ((KEY, "API key"), ("1.5", "cap"), ("RTX 3090", "GPU"))


@pytest.mark.parametrize("steps", range(4))
async def test_it_can_be_left_at_any_point_with_nothing_written(
    steps: int, make: Make, files: Files, checks: Pretended
) -> None:
    """Escape after so many answers."""
    app = make()
    async with app.run_test(size=(80, 24)) as pilot:
        await begin(pilot, "c")
        for text, words in STEPS[:steps]:
            await fill(pilot, text, words)
        if steps < len(STEPS):
            await line(pilot, STEPS[steps][1])
        else:
            await see(pilot, "Is that right?")
        send(app, "escape")
        await end(pilot)
        assert written(files) == []
        assert app.settings == Settings()
        assert "Nothing was changed" in told(app)


async def test_a_check_that_takes_long_can_be_left(make: Make, files: Files, checks: Pretended) -> None:
    """The screen does not wait for the marketplace."""
    checks.answers.clear()
    app = make()
    async with app.run_test(size=(80, 24)) as pilot:
        await begin(pilot, "c")
        await fill(pilot, KEY, "API key")
        await pick(pilot, "l", "Asking")
        await end(pilot)
        assert written(files) == []


async def test_machines_of_ones_own_are_set_up(make: Make, files: Files, checks: Pretended) -> None:
    """Address, user, port, name, GPU; the line for authorized_keys is shown; a second one; all written at once."""
    app = make()
    async with app.run_test(size=(80, 24)) as pilot:
        await begin(pilot, "s")
        await fill(pilot, "gpu1.example.org", "host")
        await fill(pilot, "ada", "user")
        await fill(pilot, "2222", "port")
        assert (await line(pilot, "name")).line.value == "gpu1"
        await fill(pilot, "gpu1", "name")
        await fill(pilot, "RTX 4090", "gpu_type")
        await fill(pilot, "2", "gpu_count")
        await see(pilot, "ssh-ed25519")
        checks.refuses = True
        await pick(pilot, "c", "Our key")
        await see(pilot, "does not let us in")
        checks.refuses = False
        await pick(pilot, "c", "Our key")
        await pick(pilot, "a", "is noted")
        await fill(pilot, "192.0.2.7", "host")
        await fill(pilot, "root", "user")
        await fill(pilot, "22", "port")
        (await line(pilot, "name")).line.value = "gpu1"
        await see(pilot, "no other host has")
        await fill(pilot, "two", "name")
        await fill(pilot, "none", "gpu_type")
        await pick(pilot, "k", "Our key for two")
        await pick(pilot, "n", "is noted")
        assert written(files) == []
        await pick(pilot, "y", "right?")
        await end(pilot)
        assert files.read().settings.providers.ssh.hosts == (
            SshHost("gpu1", "gpu1.example.org", 2222, "ada", gpu_type="RTX 4090", gpu_count=2),
            SshHost("two", "192.0.2.7"),
        )


async def test_the_demonstration_is_left_to_the_command_line(make: Make) -> None:
    """The screen ends and says what is wanted."""
    app = make()
    async with app.run_test(size=(80, 24)) as pilot:
        await app.reader.read()
        await until(
            pilot, lambda: isinstance(app.screen, Question) and any(c.has_focus for c in app.screen.query(Choice))
        )
        send(app, "d")
        async with asyncio.timeout(60):
            while not app.wants_demo:  # noqa: ASYNC110 - the end of an application sets no event
                await asyncio.sleep(0)


async def test_it_comes_back_by_its_key(make: Make, files: Files) -> None:
    """Also with settings."""
    files.change({"ui.banner": "x"})
    app = make()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        send(app, "f2")
        await pick(pilot, "l", "Welcome")
        await end(pilot)
        assert "F2 comes back" in told(app)


async def test_the_real_check_asks_the_marketplace(make: Make, tmp_path: Path) -> None:
    """A pretend marketplace over a real socket takes its own key and no other."""
    with running_sandbox() as sandbox:
        app = make(files=Files(None, {"GPUSCALE_CLORE_URL": sandbox.url}))
        ask = guide.real_checks(app).clore
        enabled = Files(None, {"GPUSCALE_CLORE_URL": sandbox.url})
        settings = enabled.read().settings
        clore = settings.providers.clore
        asked = replace(settings, providers=replace(settings.providers, clore=replace(clore, enabled=True)))
        for key, state in ((sandbox.api_key, {"ok", "warn"}), ("wrong", {"fail"})):
            check = await ask(asked, {"GPUSCALE_CLORE_URL": sandbox.url, "CLORE_API_KEY": key})
            assert check.state in state, check
            assert key == "wrong" or key not in f"{check.found} {check.advice}"
