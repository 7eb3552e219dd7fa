"""The header's one line: always true, at every width, the most important last to go."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest

from gpuscale_tui.store import queries, wallets
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.views import Status
from gpuscale_tui.tui import theme as themes
from gpuscale_tui.tui.format import ASCII, UNICODE
from gpuscale_tui.tui.look import Look, first_that_fits, make, width_of
from gpuscale_tui.tui.messages import EngineState, Snapshot
from gpuscale_tui.tui.widgets.truth import STALE_AFTER_MS, Facts, variants

from .conftest import MakeApp, drain, settle, shown

THEME = themes.load("gpuscale-dark", themes.directories(None))
LOOK = make(THEME, UNICODE, None)
INSIDE = EngineState("inside", 4121)


@pytest.fixture(scope="module")
def status(busy: ModuleType, busy_once: Home) -> Status:
    """Four jobs run, and the balance lasts for twelve hours."""
    with Database(busy_once.database, readonly=True) as db:
        found: Status = db.read(queries.status, busy.NOW, 4_000_000)
    wallet = wallets.Wallet("clore", "CLORE-Blockchain", 31_000_000, busy.NOW, 31_000_000, 2_570_000)
    return replace(found, wallets=(wallet,))


def line(facts: Facts, width: int, look: Look = LOOK) -> str:
    """The text in so many columns."""
    return "".join(text for text, _ in first_that_fits(variants(facts, look, width), width))


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (200, ["engine inside", "$2.12 used + $0.45 reserved of $4.00/h", "today $1.75", "month $1.75",
               "balance 12h left", "4 running", "12 pending", "4 done", "1 failed", "6 machines"]),
        (160, ["inside", "$2.12+0.45 of $4.00/h", "month $1.75", "balance 12h left", "4 done", "6 machines"]),
        (140, ["inside", "$2.12+0.45 of $4.00/h", "today $1.75", "balance 12h left", "4 running", "6 machines"]),
        (120, ["inside", "$2.12+0.45 of $4.00/h", "month $1.75", "balance 12h left", "●4 ○12 ✓4 ✗1 6 up"]),
        (100, ["inside", "$2.12+0.45 of $4.00/h", "today $1.75", "balance 12h left", "●4 ○12 ✓4 ✗1 6 up"]),
        (90, ["gpuscale", "inside", "$2.12+0.45 of $4.00/h", "today $1.75", "12h left", "●4 ○12 ✓4 ✗1 6 up"]),
        (80, ["inside", "$2.12+0.45 of $4.00/h", "today $1.75", "12h left", "●4 ○12 ✓4 ✗1 6 up"]),
        (70, ["●", "$2.12+0.45 of $4.00/h", "today $1.75", "12h left", "●4 ○12 ✗1 6 up"]),
        (60, ["●", "$2.12+0.45 of $4.00/h", "$1.75", "12h left", "●4 ○12 ✗1"]),
        (40, ["●", "$2.12+0.45 of $4.00/h", "$1.75"]),
    ],
)  # fmt: skip
def test_each_width_has_what_matters_most(status: Status, busy: ModuleType, width: int, said: list[str]) -> None:
    facts = Facts(Snapshot(busy.NOW, status, INSIDE), busy.NOW)
    text = line(facts, width)
    assert width_of([(text, "text")]) == width
    for words in said:
        assert words in text


def test_no_width_lacks_the_money_and_only_what_is_less_important_goes(status: Status, busy: ModuleType) -> None:
    """Column by column: what is there in a narrow one is there in a wider one too, in some form."""
    facts = Facts(Snapshot(busy.NOW, status, INSIDE), busy.NOW)
    for width in range(36, 220):
        text = line(facts, width)
        assert "$2.12" in text
        assert "$4.00/h" in text
        assert width_of([(text, "text")]) == width


@pytest.mark.parametrize(
    ("engine", "mode", "words"),
    [
        (EngineState("attached", 77), "screen", "attached 77"),
        (EngineState("attached", 77), "autopilot", "headless 77"),
        (EngineState("starting"), None, "starting"),
        (EngineState("none"), None, "no engine"),
    ],
)
def test_where_the_engine_runs(
    status: Status, busy: ModuleType, engine: EngineState, mode: str | None, words: str
) -> None:
    shown_status = replace(status, engine=replace(status.engine, mode=mode))
    facts = Facts(Snapshot(busy.NOW, shown_status, engine), busy.NOW)
    for width in (200, 120, 80):
        assert words in line(facts, width)


def test_a_silent_engine_old_data_and_a_low_balance_have_a_sign_and_words(status: Status, busy: ModuleType) -> None:
    """Down to 60 columns, in ASCII too."""
    look = make(THEME, ASCII, None)
    late = busy.NOW + 90_000
    silent = Facts(Snapshot(busy.NOW, status, INSIDE), late, age_ms=STALE_AFTER_MS + 2_000, readonly=True)
    low = replace(status, wallets=(replace(status.wallets[0], left=5_000_000),))
    for width in (200, 120, 80, 60):
        text = line(silent, width, look)
        assert text.isascii()
        assert "silent 1m32s" in text
        assert "data 12s old" in text
        assert "read-only" in text
        assert "! 1.9h left" in line(Facts(Snapshot(busy.NOW, low, INSIDE), busy.NOW), max(70, width), look)
    unreadable = Facts(Snapshot(busy.NOW - 95_000, status, INSIDE, error="disk I/O error"), busy.NOW)
    assert "! store unreadable, data 1m35s old" in line(unreadable, 120, look)
    assert "! data 1m35s old" in line(unreadable, 60, look)


def test_nothing_is_said_of_a_balance_that_nothing_is_paid_from(status: Status, busy: ModuleType) -> None:
    idle = replace(status, wallets=(replace(status.wallets[0], rate=0),))
    assert "left" not in line(Facts(Snapshot(busy.NOW, idle, INSIDE), busy.NOW), 200)


async def test_the_screen_says_that_nothing_is_read_any_more(busy_once: Home, make_app: MakeApp) -> None:
    """The reader hangs: the clock goes on, and the header says so without it."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "old" not in shown(app)[0]
        before = app.now()
        app.now = lambda: before + 15_000
        app._watch()
        await drain(app)
        assert "data 15s old" in shown(app)[0]
