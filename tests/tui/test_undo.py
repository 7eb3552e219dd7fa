"""What was done can be undone for some seconds; with --readonly nothing is done at all."""

from __future__ import annotations

import sqlite3

import pytest

from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.actions import ACTIONS
from gpuscale_tui.tui.messages import EngineState
from gpuscale_tui.tui.undo import UNDO_MS, Undo, UndoStack

from .conftest import MakeApp, press, settle, shown


async def nothing() -> None:
    """Undoes nothing."""


def test_the_last_step_is_undone_first_and_only_while_it_is_open() -> None:
    """Each step is given once."""
    steps = UndoStack()
    first, second, third = (Undo(name, nothing, until) for name, until in (("a", 30), ("b", 10), ("c", 20)))
    for step in (first, second, third):
        steps.push(step)
    assert steps.top(5) is third
    assert steps.take(15) is third
    assert steps.take(15) is first, "b can not be undone any more"
    assert steps.take(15) is None


async def test_u_undoes_what_was_offered_last_while_it_can(busy_once: Home, make_app: MakeApp) -> None:
    """The footer shows the key as long; too late is said."""
    app = make_app(busy_once)
    done: list[str] = []

    async def undo() -> None:
        done.append("undone")

    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "u undo" not in shown(app)[-1]
        app.offer_undo("w3 is asked to go back", undo)
        await press(pilot, "2")
        assert "u undo" in shown(app)[-1]
        await press(pilot, "u")
        assert done == ["undone"]
        assert "u undo" not in shown(app)[-1]
        app.offer_undo("w4 is asked to go back", undo)
        before = app.now()
        app.now = lambda: before + UNDO_MS
        await press(pilot, "u")
        assert done == ["undone"]
        assert "There is nothing to undo, or it is too late" in [note.message for note in app._notifications]


@pytest.mark.parametrize("action", [action for action in ACTIONS if action.changes and "queue" in action.where])
async def test_read_only_refuses_what_changes_and_says_so(busy_once: Home, make_app: MakeApp, action: object) -> None:
    """Neither a question nor a command; the header says it on every screen."""
    app = make_app(busy_once, readonly=True, engine=EngineState("attached", 77))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "read-only" in shown(app)[0]
        await app.do(action.id)  # type: ignore[attr-defined]
        await settle(pilot)
        assert [note.message for note in app._notifications] == ["Read-only: started with --readonly"]
        assert len(app.screen_stack) == 1


async def test_read_only_opens_the_store_for_reading_alone(busy_once: Home, make_app: MakeApp) -> None:
    """Even what forgot to ask is refused."""
    app = make_app(busy_once, readonly=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)

        def change(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM group_reasons")

        assert await app.command(change) is None
        with pytest.raises((RuntimeError, sqlite3.Error)):
            await app.reader.database.write(change)
    with Database(busy_once.database, readonly=True) as db:
        assert db.read(lambda connection: connection.execute("SELECT count(*) FROM group_reasons").fetchone()[0])
