"""The settings screen: everything is listed, changed in place, checked, undone; files, engine and screen agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from gpuscale_tui.config_keys import keys_of
from gpuscale_tui.config_write import Files
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.store import engines
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.screens.settings import SettingsScreen
from gpuscale_tui.tui.setting_rows import ValueWrong, as_typed, choices_of, kind_of, typed
from gpuscale_tui.tui.widgets.change import ChangeValue, Pick
from tests.tui.conftest import MakeApp, press, settle, shown, write

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
KEYS = {key.dotted: key for key in keys_of(Settings)}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    config = tmp_path / "config" / "config.toml"
    config.parent.mkdir()
    config.write_text(CONFIG)
    return Files(config, {"GPUSCALE_CLORE_URL": "http://127.0.0.1:9/v1"})


Make = Callable[..., GpuscaleApp]


@pytest.fixture
def make(busy_home: Home, files: Files, make_app: MakeApp) -> Make:
    """The application over a busy home and settings in files of its own."""

    def made(**options: Any) -> GpuscaleApp:
        app = make_app(busy_home, files=files, user_config=files.config.parent, **options)
        app.settings = files.read().settings
        return app

    return made


async def go_to(pilot: Pilot[Any], dotted: str) -> SettingsScreen:
    """The settings screen with the cursor on one of them."""
    await press(pilot, "8")
    screen = pilot.app.screen
    assert isinstance(screen, SettingsScreen)
    place = next(at for at, row in enumerate(screen._arranged) if row.id == dotted)
    screen.table.move_to(place)
    await settle(pilot)
    assert screen.table.pointed is not None
    assert screen.table.pointed.id == dotted
    return screen


def told(app: GpuscaleApp) -> str:
    """What toasts say."""
    return "\n".join(toast.message for toast in app._notifications)


async def requests(app: GpuscaleApp) -> list[str]:
    return [request.kind for request in await app.reader.database.read(engines.open_requests)]


@pytest.mark.parametrize("dotted", sorted(KEYS))
def test_every_value_can_be_typed_as_it_is_shown_in_the_line(dotted: str) -> None:
    """What stands in the line when it opens means the present value."""
    key = KEYS[dotted]
    if kind_of(key) == "choice":
        assert any(value == key.default for _, value in choices_of(key))
        return
    value = typed(key, as_typed(key, key.default))
    found = tuple(value) if isinstance(value, list) else value
    assert found == key.default


@pytest.mark.parametrize(
    ("dotted", "text", "value"),
    [
        ("scaler.max_hourly_budget", "$2.50", 2.5), ("scaler.max_workers", "7", 7), ("budget.daily", "", None),
        ("providers.clore.exclude_countries", "CN, RU", ["CN", "RU"]),
        ("budget.projects", '"my lab" = 5, b = 2.5', {"my lab": 5, "b": 2.5}),
        ("notify.urls", "env:ONE file:/two,three", ["env:ONE", "file:/two,three"]),
    ],
)  # fmt: skip
def test_what_is_typed(dotted: str, text: str, value: object) -> None:
    assert typed(KEYS[dotted], text) == value


@pytest.mark.parametrize(
    ("dotted", "text", "words"),
    [
        ("scaler.max_workers", "many", "whole number"), ("scaler.max_workers", "1.5", "whole number"),
        ("scaler.max_hourly_budget", "-1", "from 0"), ("scaler.gpu_type", "", "GPU model"),
        ("budget.projects", "5", "name = value"), ("providers.clore.countries", "C\x1b", "each of it"),
        ("scaler.max_hourly_budget", "nan", "a number"),
    ],
)  # fmt: skip
def test_what_is_typed_wrongly_says_what_is_allowed(dotted: str, text: str, words: str) -> None:
    with pytest.raises(ValueWrong, match=words):
        typed(KEYS[dotted], text)


async def test_everything_is_listed_with_where_it_comes_from_and_no_secret(make: Make) -> None:
    """Each setting and each host's; the row under the cursor says all about itself."""
    app = make()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await go_to(pilot, "notify.urls")
        ids = {row.id for row in screen._arranged}
        assert ids >= KEYS.keys()
        assert "providers.ssh.hosts[1].host" in ids
        text = "\n".join(shown(app))
        assert "slack://..." in text
        assert "TokenA" not in text
        await go_to(pilot, "scaler.max_workers")
        said = "\n".join(shown(app)[-8:])
        assert "scaler.max_workers = 8   default 5" in said
        assert "Machines rented at the same time, at most." in said
        assert "Allowed: a whole number from 0 to 10,000" in said


async def test_a_number_is_typed_checked_at_each_letter_written_and_undone(make: Make, files: Files) -> None:
    """Into settings.toml, not into the user's file; the engine is told; the header shows the cap; u brings it back."""
    app = make()
    async with app.run_test(size=(100, 30)) as pilot:
        await go_to(pilot, "scaler.max_hourly_budget")
        await press(pilot, "enter")
        dialog = app.screen
        assert isinstance(dialog, ChangeValue)
        assert dialog.line.value == "4"
        await write(pilot, "x")
        assert any("allowed is a number" in line for line in shown(app))
        await press(pilot, "enter")
        assert app.screen is dialog, "what is wrong is not taken"
        await press(pilot, "backspace", "backspace", "3", "enter")
        assert files.read().settings.scaler.max_hourly_budget == 3.0
        assert files.config.read_text() == CONFIG
        assert app.settings.scaler.max_hourly_budget == 3.0
        assert app.reader._cap == 3_000_000
        assert "reload" in await requests(app)
        screen = app.screen
        assert isinstance(screen, SettingsScreen)
        assert screen.table.pointed is not None
        assert (screen.table.pointed.value, screen.table.pointed.source) == ("3", "settings.toml")
        await press(pilot, "u")
        assert files.read().settings.scaler.max_hourly_budget == 4.0
        assert app.settings.scaler.max_hourly_budget == 4.0
        assert (await requests(app)).count("reload") == 2


async def test_d_takes_a_setting_out_of_the_file_again(make: Make, files: Files) -> None:
    """What your own file says counts again; what does not stand in settings.toml stays as it is."""
    files.change({"scaler.max_workers": 9})
    app = make()
    async with app.run_test(size=(100, 30)) as pilot:
        await go_to(pilot, "scaler.max_workers")
        await press(pilot, "d")
        assert files.read().settings.scaler.max_workers == 8
        before = files.settings.read_bytes()
        await press(pilot, "d")
        assert files.settings.read_bytes() == before
        assert "does not stand in settings.toml" in told(app)
        await press(pilot, "u")
        assert files.read().settings.scaler.max_workers == 9


async def test_choices_are_picked_from_a_list(make: Make, files: Files) -> None:
    """True or false, and words."""
    app = make()
    async with app.run_test(size=(100, 30)) as pilot:
        await go_to(pilot, "providers.clore.order_type")
        await press(pilot, "enter")
        assert isinstance(app.screen, Pick)
        await press(pilot, "down", "down", "enter")
        assert files.read().settings.providers.clore.order_type == "auto"
        await go_to(pilot, "machines.test")
        await press(pilot, "enter", "2")
        assert files.read().settings.machines.test is False
        await press(pilot, "enter", "escape")
        assert files.read().settings.machines.test is False


async def test_values_that_are_wrong_only_together_are_refused(make: Make, files: Files) -> None:
    """The whole is checked before it is kept."""
    app = make()
    async with app.run_test(size=(100, 30)) as pilot:
        await go_to(pilot, "scaler.min_workers")
        await press(pilot, "enter", "backspace")
        await write(pilot, "9")
        await press(pilot, "enter")
        assert "at most max_workers" in told(app)
        assert not files.settings.exists()
        assert app.settings.scaler.min_workers == 0


async def test_what_the_environment_or_a_host_says_cannot_be_changed_here(make: Make, files: Files) -> None:
    """It says so, with the variable's name."""
    app = make()
    async with app.run_test(size=(100, 30)) as pilot:
        for dotted, words in (
            ("providers.clore.base_url", "GPUSCALE_CLORE_URL"),
            ("providers.ssh.hosts[1].name", "F2"),
        ):
            screen = await go_to(pilot, dotted)
            await press(pilot, "enter")
            assert app.screen is screen
            assert words in told(app)
        assert not files.settings.exists()


async def test_a_theme_is_shown_while_it_is_chosen(make: Make, files: Files) -> None:
    """Under the cursor at once; Esc goes back to the one before, Enter keeps it."""
    app = make()
    async with app.run_test(size=(100, 30)) as pilot:
        await go_to(pilot, "ui.theme")
        before = app.theme_file.name
        await press(pilot, "enter", "down")
        assert app.theme_file.name != before
        await press(pilot, "escape")
        assert app.theme_file.name == before
        await press(pilot, "enter", "down", "enter")
        assert app.theme_file.name == files.read().settings.ui.theme != before


async def test_keys_of_the_keymap_count_at_once_and_wrong_ones_are_refused(make: Make, files: Files) -> None:
    """Checked against the table of actions before anything is written."""
    app = make()
    async with app.run_test(size=(100, 30)) as pilot:
        await go_to(pilot, "ui.keymap")
        await press(pilot, "enter")
        await write(pilot, '"no.such" = "x"')
        await press(pilot, "enter")
        assert "there is no action" in told(app)
        assert not files.settings.exists()
        await press(pilot, "enter")
        await write(pilot, '"screen.queue" = "f9"')
        await press(pilot, "enter")
        await press(pilot, "f9")
        assert app.current_mode == "queue"


async def test_files_that_somebody_spoils_leave_the_settings_in_force(make: Make, files: Files) -> None:
    """What is wrong stands in the title; nothing else changes. Mended and read anew, they count."""
    app = make()
    async with app.run_test(size=(100, 30)) as pilot:
        await go_to(pilot, "scaler.max_workers")
        files.config.write_text("[scaler]\nmax_workers = -3\n")
        await settle(pilot)
        assert any("not taken over: config.toml: scaler.max_workers" in line for line in shown(app))
        await press(pilot, "R")
        assert app.settings.scaler.max_workers == 8
        files.config.write_text("[scaler]\nmax_workers = 3\n")
        await settle(pilot)
        assert any("R takes it over" in line for line in shown(app))
        await press(pilot, "R")
        assert app.settings.scaler.max_workers == 3
        assert not any("R takes it over" in line for line in shown(app))


async def test_the_filter_finds_by_table_source_and_meaning(make: Make) -> None:
    """In the language of all lists."""
    app = make()
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await go_to(pilot, "scaler.max_workers")
        for query, found in {
            "table:budget daily": "budget.daily", "from:environment": "providers.clore.base_url",
            "never exceeded": "scaler.max_hourly_budget",
        }.items():  # fmt: skip
            await press(pilot, "slash")
            await write(pilot, query)
            assert [row.id for row in screen._arranged] == [found]
            await press(pilot, "escape")


async def test_readonly_changes_nothing(make: Make, files: Files) -> None:
    """Enter and d are refused; reading the files anew for this screen is not."""
    app = make(readonly=True)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await go_to(pilot, "scaler.max_workers")
        await press(pilot, "enter", "d")
        assert app.screen is screen
        files.config.write_text("[scaler]\nmax_workers = 3\n")
        await press(pilot, "R")
        assert app.settings.scaler.max_workers == 3
        assert not files.settings.exists()
