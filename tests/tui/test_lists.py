"""Filters, orders, columns, marks and export of the lists; the events."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest
from textual.screen import Screen

from gpuscale_tui.engine import commands
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import event_list, events, jobs
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.kept import Choice, Kept
from gpuscale_tui.tui.screens.events import EventsScreen
from gpuscale_tui.tui.screens.job import JobScreen
from gpuscale_tui.tui.screens.listing import ListScreen, Order
from gpuscale_tui.tui.screens.market import MarketScreen
from gpuscale_tui.tui.screens.worker import WorkerScreen
from gpuscale_tui.tui.widgets.choose import ChooseColumns
from gpuscale_tui.tui.widgets.suggest import completed

from .conftest import MakeApp, press, settle, shown, write
from .test_tables import MANY, crowded

__all__ = ["crowded"]


def listing(app: GpuscaleApp) -> ListScreen[Any, Any]:
    """The list, which must be shown."""
    assert isinstance(app.screen, ListScreen)
    return app.screen


def on(app: GpuscaleApp, kind: type[Screen[Any]]) -> bool:
    """Whether this screen is shown."""
    return isinstance(app.screen, kind)


def text(app: GpuscaleApp) -> str:
    """What is on the terminal."""
    return "\n".join(shown(app))


async def test_a_filter_asks_for_values(busy_once: Home, make_app: MakeApp) -> None:
    """Comparisons, several at once, and what is left is told in the title."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "slash")
        await write(pilot, "cost>0.2 !failed gpu:4090")
        await press(pilot, "enter")
        ids = {row.id for _, row in listing(app).table.items_here()}
        with Database(busy_once.database, readonly=True) as db:
            expected = db.connection.execute(
                "SELECT id FROM jobs WHERE cost > 200000 AND state <> 'failed' AND gpu_type LIKE '%4090%'"
            )
            assert ids == {row["id"] for row in expected}
        assert ids
        assert "match cost>0.2 !failed gpu:4090" in text(app)


async def test_a_filter_that_cannot_be_read_says_why_and_changes_nothing(busy_once: Home, make_app: MakeApp) -> None:
    """The list stays as it was while a value is typed; the line says what is wrong."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "slash")
        await write(pilot, "status:failed")
        assert listing(app).table.total == 1
        await write(pilot, " cost>")
        assert listing(app).table.total == 1
        assert "a value is missing, such as 1.50" in text(app)
        await write(pilot, "0")
        assert "a value is missing" not in text(app)


async def test_a_filter_is_completed_and_comes_again(busy_home: Home, make_app: MakeApp) -> None:
    """Tab completes a field or a state; up in an empty line gives the filters of the past, also of an earlier run."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "slash", *"stat", "tab", *"can", "tab")
        assert listing(app).typed == "status:cancelled"
        await press(pilot, "enter", "escape", "slash", *"pending", "enter", "escape")
    again = make_app(busy_home)
    async with again.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "slash", "up")
        assert listing(again).typed == "pending"
        await press(pilot, "up")
        assert listing(again).typed == "status:cancelled"
        await press(pilot, "down", "down")
        assert listing(again).typed == ""
        await press(pilot, "down")
        assert listing(again).table.cursor == 1


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("st", "status:"), ("status:fa", "status:failed"), ("!can", "!cancelled"), ("lr sta", "lr status:"),
        ("status:failed,ca", "status:failed,cancelled"), ("cos", "cost>"), ("", None), ("x ", None), ('"st', None),
        ("zzz", None), ("status:", None),
    ],
)  # fmt: skip
def test_completion(line: str, whole: str | None) -> None:
    """Fields, states, values; nothing where there is nothing to add."""
    from gpuscale_tui.store.job_list import JOB_FIELDS

    assert completed(line, JOB_FIELDS) == whole


async def test_order_and_columns_are_kept(busy_home: Home, make_app: MakeApp) -> None:
    """o, O and C are found again at the next start; d and Escape go back."""
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "o", "o", "O")
        assert "NAME ▼" in text(app)
        await press(pilot, "C")
        assert isinstance(app.screen, ChooseColumns)
        await press(pilot, "j", "space", "j", "J", "enter")
        titles = [column.title for column in listing(app).table.columns]
        assert titles[:4] == ["ID", "PRI", "NAME", "GPU"]
        assert "STATE" not in shown(app)[3]
    again = make_app(busy_home)
    async with again.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert [column.title for column in listing(again).table.columns] == titles
        assert listing(again).sort == Order("name", True)
        names = [row.name.lower() for _, row in listing(again).table.items_here()]
        assert names == sorted(names, reverse=True)
        await press(pilot, "escape", "C", "d")
        assert "STATE" in shown(again)[3]
        assert listing(again).sort == Order("queue")


async def test_marks_stay_on_their_rows(busy_home: Home, make_app: MakeApp) -> None:
    """space, V and A mark; order, filter and refresh change nothing; Escape takes marks, then filter, then order."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        order = [row.id for _, row in listing(app).table.items_here()]
        await press(pilot, "space", "j", "space", "k", "space")
        assert listing(app).marked == {order[0]}
        await press(pilot, "space", "j", "j", "V")
        chosen = {order[0], *order[3:7]}
        assert listing(app).marked == chosen
        assert "■ 5 marked" in text(app)
        assert sum("■" in line for line in shown(app)[4:]) == 5
        await press(pilot, "o", "O", "G", "slash", *"failed", "enter")
        with Database(busy_home.database) as db:
            db.write(commands.set_priority, 21, 1, user="bob", now=app.now())
        await settle(pilot)
        assert listing(app).marked == chosen
        assert listing(app).subject().marked == chosen
        await press(pilot, "A")
        assert len(listing(app).marked) == 6
        await press(pilot, "A")
        assert listing(app).marked == chosen
        await press(pilot, "escape")
        assert (listing(app).marked, listing(app).table.total) == (frozenset(), 1)
        await press(pilot, "escape")
        assert (listing(app).sort.key, listing(app).table.total) == ("id", 22)
        await press(pilot, "escape")
        assert listing(app).sort == Order("queue")


async def test_a_hundred_thousand_rows_are_marked_at_once(crowded: Home, make_app: MakeApp) -> None:
    """A marks ids, not rows: none is fetched for it."""
    app = make_app(crowded)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "A")
        assert len(listing(app).marked) == MANY
        assert f"{MANY:,} marked" in text(app)
        await press(pilot, "escape", "G", "space", "g", "V")
        assert len(listing(app).marked) == MANY


async def test_the_cursor_follows_its_job_out_of_the_window(tmp_path: Any, make_app: MakeApp) -> None:
    """A job that moves to the far end of the queue takes the cursor along; one that ends up elsewhere is not lost."""
    home = Home(tmp_path / "long")
    home.ensure()
    with Database(home.database) as db:
        db.write(jobs.insert, [JobSpec(image="x", command="y", name=f"job {n}") for n in range(500)], 0)
    app = make_app(home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "j", "j")
        with Database(home.database) as db:
            db.write(commands.set_priority, 3, 10, user="bob", now=app.now())
        await settle(pilot)
        row = listing(app).table.pointed
        assert row is not None
        assert (row.id, listing(app).table.cursor) == (3, 499)
        assert "j3 " in text(app)
        await press(pilot, "slash", *"name:7", "enter")
        assert listing(app).table.cursor == 0


async def test_export_writes_what_is_shown(busy_home: Home, make_app: MakeApp) -> None:
    """X writes the rows of the filter, or the marked ones, in the columns shown; no cell is a formula."""
    with Database(busy_home.database) as db:
        db.connection.execute("UPDATE jobs SET name = '=cmd()' WHERE id = 10")
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "slash", *"failed", "enter", "X")
        (path,) = (busy_home.path / "exports").iterdir()
        assert any(str(path) in note.message for note in app._notifications)
        (row,) = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
        assert (row["id"], row["state"], row["name"]) == ("j10", "failed", "'=cmd()")
        assert path.stat().st_mode & 0o777 == 0o600
        path.unlink()
        await press(pilot, "escape", "A", "X")
        (path,) = (busy_home.path / "exports").iterdir()
        assert len(path.read_text(encoding="utf-8").splitlines()) == 23


def test_what_was_chosen_is_kept_whole(tmp_path: Any) -> None:
    """A file that is damaged, foreign or too large is not used, and says why; a good one is read as written."""
    path = tmp_path / "screen.json"
    kept = Kept(path)
    choice = Choice("cost", True, ("id", "name"), ("failed",))
    kept.put("queue", choice)
    kept.save(kept.text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert Kept(path).of("queue") == choice
    for content in ("{", "[]", '{"queue": 1}', '{"queue": {"columns": [1]}}', '{"queue": {"sort": 1}}', "[" * 300_000):
        path.write_text(content)
        broken = Kept(path)
        assert broken.of("queue") == Choice()
        assert "screen.json is not used" in broken.warning
    path.write_text(json.dumps({"queue": {"sort": "of another time"}}))
    assert Kept(path).of("queue").sort == "of another time"


async def test_hostile_names_and_filters_are_harmless(busy_home: Home, make_app: MakeApp) -> None:
    """What looks like SQL, markup or escape sequences is a text, in names and in the filter."""
    hostile = "[red]'; DROP TABLE jobs; --\x1b]52;c;eA==\x07\u202e%"
    with Database(busy_home.database) as db:
        db.connection.execute("UPDATE jobs SET name = ? WHERE id = 11", (hostile,))
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "slash")
        await write(pilot, '"[red]\'; DROP TABLE jobs; --"')
        assert [row.id for _, row in listing(app).table.items_here()] == [11]
        assert "\x1b]52" not in text(app)
        with Database(busy_home.database, readonly=True) as db:
            assert db.connection.execute("SELECT count(*) FROM jobs").fetchone()[0] == 22


async def test_a_store_that_cannot_be_read_ends_no_action(busy_home: Home, make_app: MakeApp) -> None:
    """A, V and X say so and leave everything as it was."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "space")
        with Database(busy_home.database) as db:
            db.connection.execute("ALTER TABLE jobs RENAME TO gone")
        for key in ("A", "V", "X"):
            app.clear_notifications()
            await press(pilot, key)
            assert any("cannot be read" in note.message for note in app._notifications), key
        assert len(listing(app).marked) == 2


async def test_events_are_filtered_and_opened(busy_home: Home, make_app: MakeApp) -> None:
    """kind, job, machine, cause and text choose; Enter goes to the job, the machine, or the market for a host."""
    with Database(busy_home.database) as db:
        db.write(commands.ban, "host", "s9", provider="clore", user="bob", now=0)
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "7", "enter")
        assert on(app, MarketScreen)
        await press(pilot, "7", "slash")
        await write(pilot, "kind:job job:j10 cause:user_error")
        assert listing(app).table.total >= 1
        assert "because the command failed" in text(app)
        await press(pilot, "enter", "enter")
        assert on(app, JobScreen)
        await press(pilot, "escape", "escape", "slash")
        await write(pilot, "worker kind:worker on:w4")
        assert {row.worker_id for _, row in listing(app).table.items_here()} == {4}
        await press(pilot, "enter", "enter")
        assert on(app, WorkerScreen)
        await press(pilot, "escape", "C", "space", "enter", "X")
        (path,) = (busy_home.path / "exports").iterdir()
        assert "when" not in path.read_text(encoding="utf-8").splitlines()[0]
        await press(pilot, "escape")
        assert listing(app).table.total > 40


async def test_a_long_search_says_how_far_it_is(
    crowded: Home, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not found at once is looked for further back, slice by slice, and the title says how far."""
    for name in ("SMALLEST", "FIRST", "LARGEST"):
        monkeypatch.setattr(event_list, name, 10)
    titles: list[str] = []
    app = make_app(crowded)
    with Database(crowded.database) as db:
        for number in range(60):
            db.write(events.append, app.now() - 60_000, "engine", f"no {number}")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "7")
        screen = listing(app)
        assert isinstance(screen, EventsScreen)
        fed = screen.feed

        def feed(content: Any, output: object, now: int) -> None:
            fed(content, output, now)
            titles.append("".join(part for part, _ in screen.title_line()[1]))

        monkeypatch.setattr(screen, "feed", feed)
        await press(pilot, "slash")
        await write(pilot, '"no 3"')
        assert any(title.startswith("searched back to 15:08:26, more") for title in titles)
        for _ in range(20):
            if not screen._page.more:
                break
            await settle(pilot)
        assert screen.table.total == 11
