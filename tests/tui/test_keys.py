"""What the keys do, on the real application over a real store."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from textual.pilot import Pilot

from gpuscale_tui.engine import commands
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import engines, hosts, jobs, queries
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.host import Leaving
from gpuscale_tui.tui.messages import EngineState
from gpuscale_tui.tui.palette import Palette
from gpuscale_tui.tui.screens.form import FormScreen
from gpuscale_tui.tui.screens.job import JobScreen
from gpuscale_tui.tui.screens.logs import LogsScreen
from gpuscale_tui.tui.screens.queue import QueueScreen
from gpuscale_tui.tui.screens.spending import SpendingScreen
from gpuscale_tui.tui.screens.worker import WorkerScreen
from gpuscale_tui.tui.undo import UNDO_MS
from gpuscale_tui.tui.widgets.confirm import Question

from .conftest import MakeApp, press, settle, shown, write


def text(app: GpuscaleApp) -> str:
    """What is on the terminal."""
    return "\n".join(shown(app))


def queue(app: GpuscaleApp) -> QueueScreen:
    """The queue, which must be shown."""
    assert isinstance(app.screen, QueueScreen)
    return app.screen


def pointed(app: GpuscaleApp) -> int:
    """The job under the cursor."""
    row = queue(app).table.pointed
    assert row is not None
    return row.id


async def test_the_cursor_moves_by_letters_and_arrows(busy_once: Home, make_app: MakeApp) -> None:
    """j k, arrows, g G, pages."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        places = []
        for key in ("j", "down", "k", "up", "G", "k", "g", "ctrl+d", "pageup", "end", "home", "ctrl+f"):
            await press(pilot, key)
            places.append(queue(app).table.cursor)
        assert places == [1, 2, 1, 0, 21, 20, 0, 16, 0, 21, 0, 16]


async def test_digits_show_screens_and_enter_opens_pages(busy_once: Home, make_app: MakeApp) -> None:
    """1 to 7, Enter, Escape; a digit on a page leaves it."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for digit, word in zip(
            "1234567", ("NAME", "DOES", "productive", "following", "unsaved now", "VERDICT", "WHAT"), strict=True
        ):
            await press(pilot, digit)
            assert word in text(app), digit
        await press(pilot, "2", "enter")
        assert isinstance(app.screen, WorkerScreen)
        assert "rented because" in text(app)
        await press(pilot, "1", "enter")
        assert isinstance(app.screen, JobScreen)
        assert "whisper-small" in text(app)
        await press(pilot, "escape")
        assert isinstance(app.screen, QueueScreen)
        await press(pilot, "enter", "1")
        assert isinstance(app.screen, QueueScreen)


async def test_the_cursor_stays_on_its_job_when_rows_move(busy_home: Home, make_app: MakeApp) -> None:
    """A job that is put above the one under the cursor does not push the cursor to another."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "down", "down", "down", "down", "down")
        chosen, place = pointed(app), queue(app).table.cursor
        with Database(busy_home.database) as db:
            db.write(commands.set_priority, 21, 1, user="bob", now=app.now())
        await settle(pilot)
        assert pointed(app) == chosen
        assert queue(app).table.cursor == place + 1


async def test_a_filter_has_its_effect_at_once_and_escape_clears_it(busy_once: Home, make_app: MakeApp) -> None:
    """Words choose by text, state words by state; Enter keeps the filter and gives the keys back."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "slash")
        await write(pilot, "done lr=1e-3")
        assert queue(app).table.total == 3
        await press(pilot, "enter", "j")
        assert queue(app).table.cursor == 1
        assert "done lr=1e-3" in text(app)
        await press(pilot, "escape")
        assert queue(app).table.total == 22
        await press(pilot, "slash")
        await write(pilot, "zzz")
        assert "No job matches the filter" in text(app)


async def test_sorting(busy_once: Home, make_app: MakeApp) -> None:
    """o takes the next column, O turns round, a click on a title sorts by it."""
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "o", "O")
        assert "ID ▼" in text(app)
        assert pointed(app) == 22
        title = shown(app)[3].index("COST")
        await pilot.click(queue(app).table, offset=(title, 0))
        await settle(pilot)
        assert "COST ▲" in text(app)


async def test_cancel_asks_first_and_no_is_the_answer_that_enter_gives(busy_home: Home, make_app: MakeApp) -> None:
    """x, Enter leaves the job alone; x, y cancels it, and says what it costs."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "x")
        assert "cost $0.32 so far" in text(app)
        await press(pilot, "enter")
        assert isinstance(app.screen, QueueScreen)
        assert not queue(app).job or not queue(app).job.cancelling  # type: ignore[union-attr]
        await press(pilot, "x", "y")
        with Database(busy_home.database, readonly=True) as db:
            job = db.read(jobs.get, 11)
        assert job is not None
        assert job.cancel_requested_at == app.now() + UNDO_MS
        assert "stopping" in text(app)


async def test_what_does_not_apply_says_why(busy_once: Home, make_app: MakeApp) -> None:
    """r on a running job changes nothing and gives the reason."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "r")
        assert [note.message for note in app._notifications] == ["J11 is running: only a finished job can be retried"]


async def test_retry_and_priority(busy_home: Home, make_app: MakeApp) -> None:
    """r puts a failed job back; + and p change the place of a waiting one."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "slash")
        await write(pilot, "failed")
        await press(pilot, "enter", "r", "escape")
        await press(pilot, "slash")
        await write(pilot, "toke")
        await press(pilot, "enter", "plus")
        with Database(busy_home.database, readonly=True) as db:
            failed, waiting = db.read(jobs.get, 10), db.read(jobs.get, 12)
        assert failed is not None
        assert failed.state == "pending"
        assert waiting is not None
        assert waiting.spec.priority == 4
        await press(pilot, "p", "9")
        with Database(busy_home.database, readonly=True) as db:
            assert db.read(jobs.get, 12).spec.priority == 9  # type: ignore[union-attr]


async def test_giving_a_machine_back_says_what_becomes_of_its_job(busy_home: Home, make_app: MakeApp) -> None:
    """R, y asks the engine."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "2", "R")
        assert "j4 runs on it" in text(app)
        await press(pilot, "y")
        with Database(busy_home.database, readonly=True) as db:
            (request,) = db.read(engines.open_requests)
        assert (request.kind, request.amount, request.user) == ("release", 1, "ada")


async def test_a_host_is_banned_and_unbanned_on_the_market(busy_home: Home, make_app: MakeApp) -> None:
    """b asks and bans the host under the cursor, b again lifts it; each says at once what the market makes of it."""
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "6", "b")
        assert "Ban server " in text(app)
        await press(pilot, "n")
        with Database(busy_home.database, readonly=True) as db:
            assert db.read(hosts.bans, 0) == []
        await press(pilot, "b", "y")
        with Database(busy_home.database, readonly=True) as db:
            (held,) = db.read(hosts.bans, 0)
        assert (held.scope, held.provider, held.user, held.until) == ("host", "clore", "ada", None)
        assert "banned by ada" in text(app)
        await write(pilot, "/")
        await write(pilot, "banned")
        await press(pilot, "enter", "b", "y")
        with Database(busy_home.database, readonly=True) as db:
            assert db.read(hosts.bans, 0) == []


async def test_scaling_keeps_to_the_limits(busy_home: Home, make_app: MakeApp) -> None:
    """Only as many more as limit and cap allow are offered."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "s")
        assert "2 more" in text(app)
        assert "3 more" not in text(app)
        await press(pilot, "2")
        with Database(busy_home.database, readonly=True) as db:
            (request,) = db.read(engines.open_requests)
        assert (request.kind, request.amount) == ("scale_up", 2)


async def test_stop_all_spending_stays_until_nothing_is_spent(busy_home: Home, make_app: MakeApp) -> None:
    """!, y asks the engine to stop at once, and the page shows the dollars that still run."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "exclamation_mark")
        assert "$2.57/h" in text(app)
        await press(pilot, "y")
        assert isinstance(app.screen, SpendingScreen)
        with Database(busy_home.database) as db:
            assert [request.kind for request in db.read(engines.open_requests)] == ["stop_now"]
            db.connection.execute("UPDATE workers SET state = 'released', ended_at = created_at WHERE ended_at IS NULL")
        await settle(pilot)
        assert "$0.00/h" in text(app)
        assert "nothing is rented any more" in text(app)


async def test_quitting_asks_only_while_this_window_has_the_engine(busy_once: Home, make_app: MakeApp) -> None:
    """Attached to another engine, leaving is just leaving."""
    app = make_app(busy_once, engine=EngineState("attached", 99))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("q")
        await pilot.pause()
    assert app.return_value is Leaving.BACKGROUND


class StandIn:
    """An engine that lives, for the question at the end."""

    alive = True


@pytest.mark.parametrize(
    ("keys", "left"),
    [(["enter"], Leaving.BACKGROUND), (["f"], Leaving.FINISH), (["down", "down", "enter"], Leaving.RELEASE),
     (["r"], Leaving.RELEASE), (["escape"], None), (["c"], None)],
)  # fmt: skip
async def test_quitting_with_machines_rented(
    busy_once: Home, make_app: MakeApp, keys: Iterable[str], left: Leaving | None
) -> None:
    """Keep going, finish, release, or stay."""
    app = make_app(busy_once)
    app.host._engine = StandIn()  # type: ignore[assignment]
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "q")
        assert isinstance(app.screen, Question)
        assert "6 machines are rented for $2.57/h" in text(app)
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        if left is None:
            assert isinstance(app.screen, QueueScreen)
    assert app.return_value is left


async def find_in_palette(pilot: Pilot[object], typed: str) -> None:
    """Open the palette, type, take the first."""
    await press(pilot, "ctrl+p")
    await write(pilot, typed)
    await press(pilot, "enter")


async def test_the_palette_finds_actions_jobs_machines_and_themes(busy_once: Home, make_app: MakeApp) -> None:
    """A few letters are enough."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await find_in_palette(pilot, "whi")
        assert isinstance(app.screen, JobScreen)
        await press(pilot, "escape")
        await find_in_palette(pilot, "w4")
        assert isinstance(app.screen, WorkerScreen)
        await press(pilot, "escape")
        await find_in_palette(pilot, "gpuscale-l")
        assert app.theme == "gpuscale-light"
        await find_in_palette(pilot, "market")
        assert "VERDICT" in text(app)
        await press(pilot, "colon")
        assert isinstance(app.screen, Palette)


async def test_logs_open_at_the_end_and_stop_following_on_the_way_up(busy_home: Home, make_app: MakeApp) -> None:
    """k ends following, new lines are counted, f goes back to the end."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "j", "l")
        assert isinstance(app.screen, LogsScreen)
        assert "step   4200" in text(app)
        assert "following" in text(app)
        await press(pilot, "k")
        from gpuscale_tui.store import logs

        connection = logs.connect_logs(busy_home.logs)
        logs.append(connection, 4, 1, logs.size(connection, 4, 1), b"one\ntwo\nthree\n")
        connection.close()
        await settle(pilot)
        assert "3 new lines" in text(app)
        assert "three" not in text(app)
        await press(pilot, "f")
        assert "three" in text(app)
        assert "following" in text(app)


async def test_search_marks_and_goes_round(busy_once: Home, make_app: MakeApp) -> None:
    """/ finds the nearest above, n and N go on, Esc clears."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "j", "l")
        screen = app.screen
        assert isinstance(screen, LogsScreen)
        await press(pilot, "slash")
        await write(pilot, "saved")
        await press(pilot, "enter")
        first = screen.output.hit
        await press(pilot, "N")
        assert screen.output.hit is not None
        assert first is not None
        assert screen.output.hit < first
        await press(pilot, "n")
        assert screen.output.hit == first
        await press(pilot, "n")
        assert screen.output.hit < first
        await press(pilot, "slash")
        await write(pilot, "48")
        await press(pilot, "enter")
        assert screen.output.hit is not None
        await press(pilot, "escape")
        assert screen.search is None


async def test_attempts_and_neighbours_in_the_logs(busy_once: Home, make_app: MakeApp) -> None:
    """a shows the attempt before, ] the next job."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "slash")
        await write(pilot, "done batch=32")
        await press(pilot, "enter", "l")
        assert "attempt 2 of 2" in text(app)
        await press(pilot, "a")
        assert "attempt 1 of 2" in text(app)
        await press(pilot, "right_square_bracket")
        assert "j14" in shown(app)[2]


async def test_copy_goes_to_the_terminals_clipboard(busy_once: Home, make_app: MakeApp) -> None:
    """By OSC 52: the id of what the cursor is on."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "y")
        assert app.clipboard == "j11"


async def test_a_store_that_cannot_be_read_is_said_and_the_old_data_stays(busy_home: Home, make_app: MakeApp) -> None:
    """An error state, not a crash."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        with Database(busy_home.database) as db:
            db.connection.execute("ALTER TABLE jobs RENAME TO gone")
        await settle(pilot)
        assert "store unreadable" in text(app)
        assert "whisper-small" in text(app)


async def test_a_silent_engine_is_said(busy_home: Home, make_app: MakeApp) -> None:
    """The heartbeat is old although the lock is held."""
    with Database(busy_home.database) as db:
        db.connection.execute("UPDATE engine SET heartbeat_at = heartbeat_at - 45000")
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "! engine silent 47s" in text(app)


async def test_an_empty_home_teaches(tmp_path: object, make_app: MakeApp) -> None:
    """Each empty screen says what to do."""
    home = Home(tmp_path)  # type: ignore[arg-type]
    app = make_app(home, engine=EngineState("none"))
    words = {"1": "Nothing queued", "2": "nothing is spent", "3": "Nothing was spent", "4": "No job yet",
             "5": "$CHECKPOINT_DIR", "6": "No market has been read"}  # fmt: skip
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for digit, expected in words.items():
            await press(pilot, digit)
            assert expected in text(app), digit


async def test_clone_fills_the_form(busy_once: Home, make_app: MakeApp) -> None:
    """c opens the form with the job's values."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "j", "c")
        screen = app.screen
        assert isinstance(screen, FormScreen)
        values = {each.about.name: each.value for each in screen.fields}
        assert values["command"] == "python train.py --lr {lr} --batch {batch} --out $CHECKPOINT_DIR"
        assert values["sweep"] == "lr=5e-4 batch=16"
        assert values["env"] == "WANDB_MODE=offline"
        assert values["max_runtime"] == "2h"


async def test_the_job_page_of_a_job_that_vanishes_closes(busy_home: Home, make_app: MakeApp) -> None:
    """A page over nothing goes away by itself."""
    app = make_app(busy_home)
    with Database(busy_home.database) as db:
        (new,) = db.write(commands.submit, busy_home, [JobSpec(image="x", command="y")], now=app.now())
        assert db.read(queries.job_row, new) is not None
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.show_job(10_000)
        await settle(pilot)
        assert isinstance(app.screen, QueueScreen)


async def test_an_engine_that_cannot_start_says_why_on_every_screen(busy_once: Home, make_app: MakeApp) -> None:
    """The reason stays in view, beside what the settings want to be said."""
    state = EngineState("none", note="the engine did not start: CLORE_API_KEY is not set")
    app = make_app(busy_once, engine=state, banner="SANDBOX")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for digit in "12":
            await press(pilot, digit)
            assert "SANDBOX  ! the engine did not start: CLORE_API_KEY is not set" in shown(app)[1]
        app.host.shown = EngineState("inside", 1)  # type: ignore[attr-defined]
        await settle(pilot)
        assert shown(app)[1].strip() == "SANDBOX"
