"""Tables and logs of any length: only what is on screen is fetched, and only what changed is painted."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import jobs, logs, queries
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.cells import JOB_COLUMNS, WORKER_COLUMNS
from gpuscale_tui.tui.screens.logs import LogsScreen
from gpuscale_tui.tui.screens.queue import QueueScreen
from gpuscale_tui.tui.widgets.columns import GAP, LEAST, MARGIN, chosen, place

from .conftest import MakeApp, press, settle, shown

MANY = 100_000


@pytest.fixture(scope="session")
def crowded(tmp_path_factory: pytest.TempPathFactory, busy: ModuleType) -> Home:
    """A home with 100,000 jobs and a log of 200,000 lines."""
    home = Home(tmp_path_factory.mktemp("crowded"))
    home.ensure()
    with Database(home.database) as db:
        db.write(jobs.insert, [JobSpec(image="x", command="y", name="many")], busy.NOW)
        names = [row["name"] for row in db.connection.execute("PRAGMA table_info(jobs)") if row["name"] != "id"]
        columns = ", ".join(names)
        db.connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            f" INSERT INTO jobs (id, {columns}) SELECT i, {columns} FROM n, jobs WHERE jobs.id = 1",
            (MANY,),
        )
        db.connection.execute("UPDATE jobs SET attempt = 1 WHERE id = 1")
    connection = logs.connect_logs(home.logs)
    connection.execute("BEGIN")
    logs.append(connection, 1, 1, 0, b"".join(b"line %d\n" % number for number in range(200_000)))
    connection.execute("COMMIT")
    connection.close()
    return home


async def test_only_the_rows_on_screen_are_fetched(
    crowded: Home, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever one goes among 100,000 jobs, a reading is a screenful and one more above and below."""
    asked: list[int] = []
    original = queries.rows_of

    def counted(*args: object, **kwargs: object) -> object:
        rows = original(*args, **kwargs)  # type: ignore[arg-type]
        asked.append(len(rows))
        return rows

    monkeypatch.setattr(queries, "rows_of", counted)
    app = make_app(crowded)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert isinstance(app.screen, QueueScreen)
        page = app.screen.table.page
        await press(pilot, "G")
        assert "j100000" in "\n".join(shown(app))
        await press(pilot, "pageup", "g", "pagedown")
        assert app.screen.table.total == MANY
        assert asked
        assert max(asked) <= 3 * page
        assert len(asked) <= 12


async def test_a_refresh_without_a_change_paints_nothing(busy_once: Home, make_app: MakeApp) -> None:
    """Reading the same again, or a second that changes no age, leaves the terminal alone."""
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        painted: list[object] = []
        for widget in app.screen.query("*"):
            widget.refresh = lambda *regions, w=widget, **_: painted.append((w, regions))  # type: ignore[method-assign, assignment, misc]
        app.reader._seen = ()
        await app.reader.read()
        app.ticked(app.now())
        assert painted == []


async def test_one_changed_row_is_painted_alone(busy_home: Home, make_app: MakeApp) -> None:
    """A new priority repaints one line of the table."""
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert isinstance(app.screen, QueueScreen)
        painted: list[tuple[object, ...]] = []
        app.screen.table.refresh = lambda *regions, **_: painted.append(regions)  # type: ignore[method-assign, assignment]
        with Database(busy_home.database) as db:
            db.connection.execute("UPDATE jobs SET name = 'renamed' WHERE id = 21")
        await app.reader.read()
        assert len(painted) == 1
        (region,) = painted[0]
        assert region.height == 1  # type: ignore[attr-defined]


async def test_a_long_log_opens_at_its_end_and_jumps_anywhere(crowded: Home, make_app: MakeApp) -> None:
    """Only a few screens of lines are here at any time."""
    app = make_app(crowded)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.show_logs(1)
        await settle(pilot)
        screen = app.screen
        assert isinstance(screen, LogsScreen)
        assert "line 199999" in "\n".join(shown(app))
        await press(pilot, "g")
        assert shown(app)[3].strip(" \u258c") == "line 0"
        assert len(screen.output.items_here()) <= 3 * screen.output.page
        await press(pilot, "G")
        assert "following" in "\n".join(shown(app))


@given(st.integers(min_value=20, max_value=300))
def test_columns_fit_whatever_the_width(width: int) -> None:
    """None overlaps, none is cut while another could have been dropped, ids and states always stay."""
    for columns in (JOB_COLUMNS, WORKER_COLUMNS):
        placed = place(columns, width)
        titles = [each.column.title for each in placed]
        assert titles[:2] == ["ID", "STATE"]
        start = MARGIN
        for each in placed:
            assert each.start == start
            assert min(LEAST, each.column.width) <= each.width <= max(each.column.most, each.column.width)
            start += each.width + GAP
        if any(each.column.drop for each in placed):
            assert start - GAP <= width


def test_what_is_dropped_first_at_80_columns() -> None:
    """What matters for a decision stays."""
    assert [each.column.title for each in place(chosen(JOB_COLUMNS, ()), 80)] == [
        "ID", "STATE", "NAME", "ON", "TIME", "DONE", "COST",
    ]  # fmt: skip
    wide = [each.column.title for each in place(chosen(JOB_COLUMNS, ()), 160)]
    assert {"LEFT", "LOSS", "ENDED"} <= set(wide)


async def test_narrow_and_tiny_terminals_are_not_refused(busy_once: Home, make_app: MakeApp) -> None:
    """Columns go, nothing breaks."""
    for size in ((60, 20), (24, 8)):
        app: GpuscaleApp = make_app(busy_once)
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            await press(pilot, *"2346")
            assert len(shown(app)) == size[1]
