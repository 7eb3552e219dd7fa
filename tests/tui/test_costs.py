"""The costs screen by its keys: books, rate, forecast, export."""

from __future__ import annotations

import asyncio
import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from gpuscale_tui.policy.forecast import Forecast, Range
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.rates import Rate
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.cost_lines import forecast_line, forecast_lines, rate_lines
from gpuscale_tui.tui.format import ASCII
from gpuscale_tui.tui.messages import EngineState
from gpuscale_tui.tui.screens.costs import CostsScreen
from tests.tui.conftest import MakeApp, press, settle, shown

HOUR = 3_600_000


def _text(app: GpuscaleApp) -> str:
    return "\n".join(shown(app))


async def _until(pilot: Pilot[Any], *words: str, gone: str = "") -> None:
    """Until the terminal shows all of these words, and not what is to be gone."""
    app = pilot.app
    assert isinstance(app, GpuscaleApp)
    for _ in range(200):
        text = _text(app)
        if all(word in text for word in words) and not (gone and gone in text):
            return
        await settle(pilot)
        await asyncio.sleep(0.01)
    raise AssertionError(f"{words} without {gone!r} in {_text(app)}")


def _toasts(app: GpuscaleApp) -> str:
    return "\n".join(note.message for note in app._notifications)


async def test_a_tall_terminal_shows_books_rate_and_forecast_at_once(busy_once: Home, make_app: MakeApp) -> None:
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "3")
        await _until(pilot, "productive", "highest $/h", "cap $4.00", "forecast", "jobs done in about", "j11 whisper")


async def test_a_low_terminal_shows_them_by_v(busy_once: Home, make_app: MakeApp) -> None:
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "3")
        await _until(pilot, "productive", "14 of 16 jobs in 1h42m (", gone="highest $/h")
        await press(pilot, "v")
        await _until(pilot, "highest $/h", gone="productive")
        await press(pilot, "v")
        await _until(pilot, "rests on", "max_workers 8, cap $4.00/h", gone="highest $/h")
        await press(pilot, "v")
        await _until(pilot, "productive", gone="rests on")
        await press(pilot, "v", "escape")
        await _until(pilot, "productive", gone="highest $/h")


async def test_b_and_t_go_through_keys_and_times(busy_once: Home, make_app: MakeApp) -> None:
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "3", "b")
        assert "today, by worker" in _text(app) or "today, by project" in _text(app)
        await press(pilot, "t")
        assert "7 days, by" in _text(app)
        screen = app.screen
        assert isinstance(screen, CostsScreen)
        for _ in range(6):
            await press(pilot, "b")
        assert "7 days, by job" in _text(app)
        await press(pilot, "enter")
        assert app.screen.NAME == "job"  # type: ignore[attr-defined]


async def test_the_rows_are_written_to_a_file_that_is_never_lost(
    busy_once: Home, make_app: MakeApp, tmp_path: Path
) -> None:
    """X asks where; a file that is there needs Enter twice; the sums are exact."""
    app = make_app(busy_once)
    path = tmp_path / "costs.csv"
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "3", "X")
        assert "costs-by-job-20260314-150926.csv" in _text(app)
        await _type_path(app, path)
        await press(pilot, "enter")
        assert "written to" in _toasts(app)
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert list(rows[0]) == ["job", "name", "jobs", "cost_usd", "part"]
        total = app.screen._books.costs.total  # type: ignore[attr-defined]
        assert sum(round(float(row["cost_usd"]) * 1e6) for row in rows) == total
        assert "whisper-small finetune de" in {row["name"] for row in rows}
        path.write_text("mine")
        await press(pilot, "X")
        await _type_path(app, path)
        await press(pilot, "enter")
        assert path.read_text() == "mine"
        assert "it is there already" in _text(app)
        await press(pilot, "enter")
        assert path.read_text().startswith("job,name")
        await press(pilot, "X", "escape")
        assert isinstance(app.screen, CostsScreen)


async def _type_path(app: GpuscaleApp, path: Path) -> None:
    """Put a path into the field, as typing it would."""
    app.screen.field.value = str(path)  # type: ignore[attr-defined]


async def test_a_path_that_cannot_be_written_is_told(busy_once: Home, make_app: MakeApp) -> None:
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "3", "X")
        await _type_path(app, Path("/nowhere/at/all.csv"))
        await press(pilot, "enter")
        assert "there is no directory /nowhere/at" in _text(app)


async def test_nothing_spent_yet(tmp_path: Path, make_app: MakeApp) -> None:
    home = Home(tmp_path / "home")
    home.ensure()
    app = make_app(home, engine=EngineState("none"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "3")
        await _until(
            pilot, "Nothing was spent in this time.", "nothing was rented in this time", "nothing waits or runs"
        )


async def test_forecasts_in_words(busy_once: Home, make_app: MakeApp) -> None:
    """What cannot be said is not said; what can has its range."""
    look = make_app(busy_once).look
    said = Forecast(10, 2, 1, Range(HOUR, 2 * HOUR, 5 * HOUR), Range(10**6, 2 * 10**6, 3 * 10**6), ("x", "y"))

    def line(found: Forecast) -> str:
        return "".join(text for text, _ in forecast_line(found, 100, look))

    assert "7 of 10 jobs done in about 2h00m (1h00m to 5h00m) for $2.00 more ($1.00 to $3.00)" in line(said)
    assert "nothing waits or runs" in line(Forecast(0))
    assert "nothing is known of them" in line(Forecast(3, 3))
    assert "never allow" in line(replace(said, done_in=None))
    page = ["".join(text for text, _ in row) for row in forecast_lines(said, look, 80, 0)]
    assert any("2 jobs of no known length" in row for row in page)
    assert sum("rests on" in row for row in page) == 1


async def test_the_rate_is_drawn_in_ascii_too(busy_once: Home, make_app: MakeApp) -> None:
    look = replace(make_app(busy_once).look, glyphs=ASCII)
    found = [Rate(at * HOUR, 10**6 * at, 10**6 * at) for at in range(10)]
    lines = ["".join(text for text, _ in row) for row in rate_lines(found, 4 * 10**6, look, 60, 11)]
    assert len(lines) == 11
    assert all(line.isascii() for line in lines)
    assert any("cap $4.00" in line for line in lines)
