"""The frame on every screen: help, palette, typed commands, messages, the mouse, being put aside, a lost terminal."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from gpuscale_tui.engine import commands
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import handover
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui import typed
from gpuscale_tui.tui.actions import ACTIONS, SCREENS
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.messages import EngineState
from gpuscale_tui.tui.palette import Palette, score
from gpuscale_tui.tui.screens.help import Help
from gpuscale_tui.tui.screens.job import JobScreen
from gpuscale_tui.tui.screens.listing import ListScreen
from gpuscale_tui.tui.screens.logs import LogsScreen
from gpuscale_tui.tui.screens.told import MessagesPage
from gpuscale_tui.tui.screens.worker import WorkerScreen
from gpuscale_tui.tui.widgets.confirm import Notice, Question
from gpuscale_tui.tui.widgets.footer import Footer
from gpuscale_tui.tui.widgets.header import Tabs

from .conftest import MakeApp, press, settle, shown, write


def text(app: GpuscaleApp) -> str:
    """What is on the terminal."""
    return "\n".join(shown(app))


def said(app: GpuscaleApp) -> str:
    """The last message."""
    return app.told[-1].text if app.told else ""


async def test_help_lists_every_action_and_letters_narrow_it(busy_once: Home, make_app: MakeApp) -> None:
    """Made from the table, with the keys as they are now; a sign finds its key."""
    app = make_app(busy_once, keymap={"job.cancel": "D"})
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "question_mark")
        page = app.screen
        assert isinstance(page, Help)
        assert [row.id for row in page.table._items] == [row.id for row in page._rows]
        assert {row.id for row in page._rows} == {action.id for action in ACTIONS}
        await write(pilot, "canc")
        assert "Cancel the job, after asking" in text(app)
        assert page.table.pointed is not None
        assert (page.table.pointed.id, page.table.pointed.keys) == ("job.cancel", "D")
        await press(pilot, "escape")
        assert page.line.value == ""
        await write(pilot, "!")
        assert page.table.pointed.id == "spend.stop"
        await press(pilot, "escape", "escape")
        assert not isinstance(app.screen, Help)


async def test_help_carries_out_what_applies_and_says_why_not(busy_once: Home, make_app: MakeApp) -> None:
    """Enter on an entry; a job that runs can not be retried, and what is on another screen is said."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "f1")
        await write(pilot, "job.retry")
        assert "Not now: j11 is running" in text(app)
        await press(pilot, "enter")
        assert isinstance(app.screen, Help)
        assert said(app) == "J11 is running: only a finished job can be retried"
        await press(pilot, "escape")
        await write(pilot, "log.follow")
        await press(pilot, "enter")
        assert said(app) == "On the screen logs"
        await press(pilot, "escape")
        await write(pilot, "job.cancel")
        await press(pilot, "enter")
        assert isinstance(app.screen, Question)


async def test_why_says_the_whole_sentence(busy_once: Home, make_app: MakeApp) -> None:
    """w on a job and on a machine."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "w")
        assert isinstance(app.screen, Notice)
        assert "Why is j11" in text(app)
        await press(pilot, "escape", "2", "w")
        assert "It was rented because" in text(app)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("queue failed", typed.Command("filter", "queue", "failed")),
        (":queue status:failed gpu:4090", typed.Command("filter", "queue", "status:failed gpu:4090")),
        ("logs 42", typed.Command("logs", "42")),
        ("Logs j42", typed.Command("logs", "42")),
        ("job j7", typed.Command("job", "7")),
        ("worker w3", typed.Command("worker", "3")),
        ("theme dusk", typed.Command("theme", "dusk")),
        ("q", typed.Command("action", "quit")),
        ("market", typed.Command("screen", "market")),
        ("logs x", None),
        ("worker j3", None),
        ("q now", None),
        ("", None),
    ],
)
def test_typed_commands(line: str, command: typed.Command | None) -> None:
    """What is no whole command is none."""
    assert typed.parse(line) == command
    if command is not None and command.kind != "action":
        assert typed.read(command.id) == command


def test_what_is_typed_is_completed() -> None:
    """Commands, themes, fields of a filter."""
    fields = {"queue": ["cost", "state", "status"]}
    assert typed.completions(":th", ["dusk"], fields) == ["theme "]
    assert typed.completions("theme d", ["dusk", "ansi-16"], fields) == ["theme dusk"]
    assert typed.completions("queue gpu:4090 sta", [], fields) == ["queue gpu:4090 state:", "queue gpu:4090 status:"]
    assert typed.completions("queue status:", [], fields) == []


async def test_commands_are_typed_after_a_colon(busy_once: Home, make_app: MakeApp) -> None:
    """A filter, a job's output, a page, a theme; what does not exist is said; Tab completes."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)

        async def obey(line: str) -> None:
            await press(pilot, "colon")
            await write(pilot, line)
            await press(pilot, "enter")

        await obey("queue failed")
        screen = app.screen
        assert isinstance(screen, ListScreen)
        assert (screen.table.total, screen.typed) == (1, "failed")
        assert not isinstance(app.focused, type(screen.line))
        await obey("logs 4")
        assert isinstance(app.screen, LogsScreen)
        await obey("worker 4")
        assert isinstance(app.screen, WorkerScreen)
        await obey("job 999")
        assert said(app) == "There is no j999"
        await press(pilot, "colon")
        await write(pilot, "theme du")
        await press(pilot, "tab", "enter")
        assert app.theme == "dusk"
        await press(pilot, "T")
        assert app.theme != "dusk"


async def test_the_palette_has_what_was_chosen_last_first(busy_once: Home, make_app: MakeApp) -> None:
    """And says why something does not apply; a job is found by scattered letters of its name in the store."""
    app = make_app(busy_once)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await press(pilot, "ctrl+p")
        await write(pilot, "whisper")
        await press(pilot, "enter")
        assert isinstance(app.screen, JobScreen)
        await press(pilot, "escape", "ctrl+p")
        page = app.screen
        assert isinstance(page, Palette)
        assert page.table.pointed is not None
        assert page.table.pointed.id == "job:11"
        await write(pilot, "retry")
        assert page.table.pointed.id == "action:job.retry"
        assert page.table.pointed.off.startswith("j11 is running")
        await press(pilot, "escape")
        assert not isinstance(app.screen, Palette)


def test_letters_fit_better_at_the_beginning() -> None:
    """Beginning, beginning of a word, within, scattered, not at all."""
    assert [score("fi", label) for label in ("Filter", "A filter", "Refine", "Fork it", "Sort")] == [0, 1, 2, 3, None]


async def test_what_was_told_is_kept(busy_once: Home, make_app: MakeApp) -> None:
    """i shows it after the toast is gone, with its time."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "r", "i")
        assert isinstance(app.screen, MessagesPage)
        assert "J11 is running: only a finished job" in text(app)
        await press(pilot, "escape")
        for number in range(150):
            app.notify(f"message {number}")
        assert len(app.told) == 100
        assert said(app) == "message 149"


async def test_e_starts_an_engine_where_there_is_none(busy_once: Home, make_app: MakeApp) -> None:
    """And only there."""
    begun: list[bool] = []
    app = make_app(busy_once, engine=EngineState("none"))
    app.host.begin = lambda: begun.append(True)  # type: ignore[method-assign]
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        first = len(begun)
        await press(pilot, "E")
        assert len(begun) == first + 1
        app.host.shown = EngineState("inside", 1)  # type: ignore[attr-defined]
        await settle(pilot)
        await press(pilot, "E")
        assert len(begun) == first + 1
        assert said(app) == "An engine runs already"


class Engine:
    """An engine that only is."""

    alive = True
    failure = None


async def test_ctrl_z_hands_over_before_it_puts_the_screen_aside(
    busy_once: Home, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With machines rented by this window's engine it asks; without one it does not."""
    done: list[Any] = []
    app = make_app(busy_once)
    monkeypatch.setattr(app, "suspend_now", lambda: done.append("aside"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "ctrl+z")
        assert done == ["aside"]
        engine = Engine()
        app.host._engine = engine  # type: ignore[assignment]
        app.host.hand_over = lambda given: done.append(given) or 4242  # type: ignore[func-returns-value]
        await press(pilot, "ctrl+z")
        assert "nobody would watch over that" in text(app)
        await press(pilot, "enter")
        assert done == ["aside"]
        await press(pilot, "ctrl+z", "b")
        assert done == ["aside", engine, "aside"]
        assert said(app) == "The engine goes on in the background (pid 4242)"


async def test_a_terminal_that_cannot_put_aside_says_so(busy_once: Home, make_app: MakeApp) -> None:
    """As the one of these tests."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "ctrl+z")
        assert said(app) == "This terminal cannot put a program aside"


async def test_what_happened_since_the_terminal_was_lost_is_told_once(
    busy_home: Home, busy: ModuleType, make_app: MakeApp
) -> None:
    """From the events; a second start does not tell it again."""
    handover.note_lost(busy_home, busy.NOW - 60 * busy.MINUTE)
    for times in (1, 0):
        app = make_app(busy_home)
        async with app.run_test(size=(80, 24)) as pilot:
            await settle(pilot)
            told = [each.text for each in app.told if "terminal was lost" in each.text]
            assert len(told) == times
            if times:
                assert "at 14:09:26; the engine in the background went on: 3 jobs finished, 1 failed" in told[0]
                assert "now 4 run, 12 wait, 6 machines are rented" in told[0]


async def test_a_click_on_a_tab_a_key_and_a_row_does_what_the_key_does(busy_once: Home, make_app: MakeApp) -> None:
    """Tabs, the keys in the footer, rows, answers, entries of the palette and of the help."""
    app = make_app(busy_once)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)

        async def click(widget: Any, word: str, line: int) -> None:
            await pilot.click(
                widget, offset=(shown(app)[line].index(word) - widget.region.x + 1, line - widget.region.y)
            )
            await settle(pilot)

        for name, word in (("workers", "Work"), ("events", "Even"), ("queue", "Queu")):
            await click(app.screen.query_one(Tabs), word, 1)
            assert app.current_mode == name
        rows = shown(app)
        line = next(at for at, row in enumerate(rows) if "tokenizer" in row)
        await click(app.screen.table, "tokenizer", line)  # type: ignore[attr-defined]
        assert app.screen.job.name == "tokenizer"  # type: ignore[attr-defined]
        await click(app.screen.query_one(Footer), "x cancel", 29)
        assert isinstance(app.screen, Question)
        line = next(at for at, row in enumerate(shown(app)) if "no, leave it" in row)
        await pilot.click(offset=(shown(app)[line].index("no, leave it"), line))
        await settle(pilot)
        assert not isinstance(app.screen, Question)


@pytest.mark.parametrize("name", SCREENS)
async def test_help_and_palette_open_on_every_screen(busy_once: Home, make_app: MakeApp, name: str) -> None:
    """Also where an action lacks its subject."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await app.do(f"screen.{name}")
        await settle(pilot)
        await press(pilot, "f1")
        assert isinstance(app.screen, Help)
        await press(pilot, "escape", "ctrl+p")
        assert isinstance(app.screen, Palette)
        await press(pilot, "escape")


def test_after_a_lost_terminal_nothing_is_made_up(tmp_path: Any) -> None:
    """Jobs that ended before it do not count, and nothing is told where none was lost."""
    home = Home(tmp_path / "home")
    home.ensure()
    with Database(home.database) as db:
        db.write(commands.submit, home, [JobSpec(image="x", command="y")], now=1)
        assert db.write(handover.told_now, 5) is None
        handover.note_lost(home, 10)
        found = db.write(handover.told_now, 20)
        assert found == handover.Since(at=10, done=0, failed=0, spent=0, machines=0, pending=1, running=0)
        assert "0 jobs finished, $0.00 spent; now 0 run, 1 wait" in handover.words(replace(found, at=1), "then")
        assert db.write(handover.told_now, 30) is None
