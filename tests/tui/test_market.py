"""The market and an offer's page by their keys: what they show, what they ask the engine for, what is refused."""

from __future__ import annotations

import csv
import json

from gpuscale_tui.engine.by_hand import Wanted
from gpuscale_tui.store import engines, hosts, market
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.messages import EngineState
from gpuscale_tui.tui.screens.form import FormScreen
from gpuscale_tui.tui.screens.market import STALE_MS, MarketScreen
from gpuscale_tui.tui.screens.offer import OfferScreen
from tests.tui.conftest import MakeApp, press, settle, shown, write


def _market(app: GpuscaleApp) -> MarketScreen:
    screen = app.screen
    assert isinstance(screen, MarketScreen)
    return screen


def _text(app: GpuscaleApp) -> str:
    return "\n".join(shown(app))


def _toasts(app: GpuscaleApp) -> str:
    return "\n".join(note.message for note in app._notifications)


async def test_offers_come_as_the_engine_ranks_them(busy_home: Home, make_app: MakeApp) -> None:
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "6")
        lines = list(_market(app)._page.lines)
        assert [line.offer.rank for line in lines[:3]] == [1, 2, 3]
        assert all(line.wanted is not None for line in lines[:3]), "first those that waiting jobs need"
        assert [bool(line.offer.verdict) for line in lines] == sorted(bool(line.offer.verdict) for line in lines)
        text = _text(app)
        assert "an hour of work: $" in text
        assert "of the last 7 days" in text
        assert "10x charlm" in text


async def test_the_filter_and_the_order(busy_home: Home, make_app: MakeApp) -> None:
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "6", "slash")
        await write(pilot, "gpu:4090 rent:yes")
        assert _market(app).table.total == 3
        await press(pilot, "enter", "escape")
        assert _market(app).table.total == 28
        await press(pilot, "o")
        assert _market(app).sort.key == "price"
        prices = [row.per_gpu for row in _market(app)._arranged]
        assert prices == sorted(prices)
        await press(pilot, "O")
        assert [row.per_gpu for row in _market(app)._arranged] == sorted(prices, reverse=True)


async def test_enter_opens_the_page_and_escape_leaves_it(busy_home: Home, make_app: MakeApp) -> None:
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "6", "enter")
        assert isinstance(app.screen, OfferScreen)
        text = _text(app)
        told = ("number 1 of what fits", "cheaper than", "left with it", "this one", "64 GB", "never rented by us")
        for words in (*told, "10 jobs such as charlm"):
            assert words in text, words
        await press(pilot, "escape")
        assert isinstance(app.screen, MarketScreen)


async def test_what_would_lift_a_verdict_is_said(busy_home: Home, make_app: MakeApp) -> None:
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "6", "G", "enter")
        text = _text(app)
        assert "not rented: over the price limit" in text
        assert "max_price_per_gpu, or the jobs' --max-price, of $" in text


async def test_an_offer_is_rented_by_hand_once(busy_home: Home, make_app: MakeApp) -> None:
    """R says what it costs an hour and what is left of the cap; the engine is asked for just this machine."""
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "6")
        offer = _market(app).offer
        assert offer is not None
        await press(pilot, "R")
        text = _text(app)
        assert "$0.47/h, fees included" in text
        assert "Of the cap of $4.00/h $1.43/h are left now, $0.96/h with it." in text
        assert "It would serve 10x charlm." in text
        await press(pilot, "n")
        assert _asked(busy_home) == []
        await press(pilot, "R", "y")
        [wanted] = _asked(busy_home)
        assert (wanted.server_id, wanted.rate, wanted.despite_ban) == (offer.server_id, offer.rate, False)
        await press(pilot, "R", "y")
        assert len(_asked(busy_home)) == 1
        assert "has been asked for already" in _toasts(app)


def _asked(home: Home) -> list[Wanted]:
    with Database(home.database) as db:
        found = [Wanted.read(request.about) for request in db.read(engines.open_requests) if request.kind == "rent"]
    assert None not in found
    return [wanted for wanted in found if wanted is not None]


async def test_what_the_cap_does_not_allow_is_refused_with_the_figure(busy_home: Home, make_app: MakeApp) -> None:
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "6", "G", "R")
        text = _text(app)
        assert "$1.97/h too little." in text
        assert "The engine would not rent it by itself: over the price limit" in text
        assert "No job that waits may use it" in text
        await press(pilot, "y")
        assert _asked(busy_home) == []
        assert "max_hourly_budget $" in _toasts(app)


async def test_the_answer_of_the_engine_is_told_once(busy_home: Home, make_app: MakeApp) -> None:
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "6", "R", "y")
        with Database(busy_home.database) as db:
            [request] = [each for each in db.read(engines.open_requests) if each.kind == "rent"]
            db.write(engines.refuse, request.id, "it costs $9.00/h now", app.now())
        await settle(pilot)
        assert _toasts(app).count("Not rented: refused: it costs $9.00/h now") == 1
        await press(pilot, "j", "enter")
        assert "refused: it costs" not in _text(app), "that was another one"
        await press(pilot, "escape", "k", "enter")
        assert "refused: it costs $9.00/h now" in _text(app)


async def test_a_ban_is_asked_about_twice_over(busy_home: Home, make_app: MakeApp) -> None:
    """b on the page bans; R then says so, and asks for it in spite of that; b lifts it."""
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "6", "enter", "b", "y")
        with Database(busy_home.database) as db:
            [ban] = db.read(hosts.bans, app.now())
        assert "banned by ada" in _text(app)
        assert "lift the ban" in _text(app)
        await press(pilot, "R")
        assert "although it is banned" in _text(app)
        await press(pilot, "y")
        [wanted] = _asked(busy_home)
        assert (wanted.server_id, wanted.despite_ban) == (ban.key, True)
        await press(pilot, "b", "y")
        with Database(busy_home.database) as db:
            assert db.read(hosts.bans, app.now()) == []


async def test_nothing_is_rented_without_an_engine(busy_home: Home, make_app: MakeApp) -> None:
    app = make_app(busy_home, engine=EngineState("none"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "6", "R")
        assert "E starts one" in _toasts(app)


async def test_a_job_on_this_gpu_and_the_servers_id(busy_home: Home, make_app: MakeApp) -> None:
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "6", "enter", "y")
        offer = app.screen.offer  # type: ignore[attr-defined]
        assert offer.server_id in _toasts(app)
        await press(pilot, "n")
        assert isinstance(app.screen, FormScreen)
        assert "RTX 4090" in _text(app)


async def test_an_offer_that_goes_away_is_told(busy_home: Home, make_app: MakeApp) -> None:
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "6", "enter")
        with Database(busy_home.database) as db:
            db.write(market.replace, "clore", "RTX 4090", [], app.now())
        await settle(pilot)
        assert "no longer on offer" in _text(app)
        await press(pilot, "R")
        assert "No offer is selected" in _toasts(app)


async def test_an_old_reading_is_called_stale(busy_home: Home, make_app: MakeApp) -> None:
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "6")
        assert "stale" not in _text(app)
        with Database(busy_home.database) as db:
            db.write(lambda connection: connection.execute("UPDATE offers SET read_at = read_at - ?", (2 * STALE_MS,)))
        await settle(pilot)
        assert "! stale: read 20m ago" in _text(app)


async def test_the_list_is_exported(busy_home: Home, make_app: MakeApp) -> None:
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "6", "X")
        [path] = (busy_home.path / "exports").glob("market*.csv")
        rows = list(csv.reader(path.read_text().splitlines()))
        assert len(rows) == 29
        assert json.dumps(rows[1][0]) == '"1"'
