"""What was done can be undone for some seconds; with --readonly nothing is done at all."""

from __future__ import annotations

import sqlite3

import pytest

from gpuscale_tui.model.jobs import Job
from gpuscale_tui.store import engines, jobs, queries
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.views import JobFilter
from gpuscale_tui.tui import many
from gpuscale_tui.tui.actions import ACTIONS
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.messages import EngineState
from gpuscale_tui.tui.undo import UNDO_MS, Undo, UndoStack
from gpuscale_tui.tui.widgets.confirm import TypedNumber

from .conftest import MakeApp, press, settle, shown, write


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


def job(home: Home, job_id: int) -> Job:
    """A job as it stands."""
    with Database(home.database, readonly=True) as db:
        found = db.read(jobs.get, job_id)
    assert found is not None
    return found


def asked(home: Home) -> list[engines.Request]:
    """What the engine is asked."""
    with Database(home.database, readonly=True) as db:
        return db.read(engines.open_requests)


def said(app: GpuscaleApp) -> str:
    """The last thing that was told."""
    return str(list(app._notifications)[-1].message)


async def test_cancelling_a_running_job_is_undone(busy_home: Home, make_app: MakeApp) -> None:
    """x y u: nothing was heard meanwhile, and the job goes on."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "x", "y")
        assert said(app) == "j11 is told to stop in 10 s. u undoes it."
        assert job(busy_home, 11).cancel_requested_at == app.now() + UNDO_MS
        await press(pilot, "u")
        assert said(app) == "j11 is as it was"
        assert job(busy_home, 11).cancel_requested_at is None
        await press(pilot, "u")
        assert job(busy_home, 11).cancel_requested_at is None


async def test_too_late_is_said(busy_home: Home, make_app: MakeApp) -> None:
    """The step is still open by the screen's clock, and the store knows better: the engine has heard it."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "x", "y")
        with Database(busy_home.database) as db:
            db.write(jobs.request_cancel, [11], app.now(), "bob")
        await press(pilot, "u")
        assert said(app) == "Too late for j11: being stopped already"


async def test_giving_a_machine_back_is_undone(busy_home: Home, make_app: MakeApp) -> None:
    """R y waits to be heard; u takes it back."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "2", "R", "y")
        (request,) = asked(busy_home)
        assert (request.kind, request.due_at) == ("release", app.now() + UNDO_MS)
        await press(pilot, "u")
        assert asked(busy_home) == []
        assert said(app) == "w1 stays"


async def test_scaling_down_is_undone(busy_home: Home, make_app: MakeApp) -> None:
    """s - waits to be heard; u takes it back."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "s", "-")
        (request,) = asked(busy_home)
        assert (request.kind, request.amount, request.due_at) == ("scale_down", 1, app.now() + UNDO_MS)
        await press(pilot, "u")
        assert asked(busy_home) == []


async def test_retry_and_priority_are_undone_in_turn(busy_home: Home, make_app: MakeApp) -> None:
    """The last step first."""
    app = make_app(busy_home)
    before = job(busy_home, 10), job(busy_home, 12)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await app.screen.do_list_filter()
        await write(pilot, "failed")
        await press(pilot, "enter", "r", "escape")
        assert job(busy_home, 10).state == "pending"
        await press(pilot, "slash")
        await write(pilot, "toke")
        await press(pilot, "enter", "plus")
        assert job(busy_home, 12).spec.priority == 4
        await press(pilot, "u")
        assert job(busy_home, 12) == before[1]
        await press(pilot, "u")
        assert job(busy_home, 10) == before[0]


async def test_many_are_cancelled_by_one_question_and_one_undo(busy_home: Home, make_app: MakeApp) -> None:
    """The question says how many, what they cost together and what stands in no snapshot; the marks go."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "space", "space", "space", "space", "space", "space")
        marked = app.screen.subject().marked
        assert len(marked) == 6
        states = {job_id: job(busy_home, job_id) for job_id in marked}
        running = [each.id for each in states.values() if each.state == "running"]
        assert 0 < len(running) < 6
        await press(pilot, "x")
        text = "\n".join(shown(app))
        assert "Cancel 6 jobs?" in text
        assert "together they have cost $" in text
        assert "in no snapshot" in text.replace("\n", " ") or "snapshot yet" in text
        await press(pilot, "y")
        assert not app.screen.subject().marked
        for job_id in marked:
            due = job(busy_home, job_id).cancel_requested_at
            assert due == (app.now() + UNDO_MS if job_id in running else None)
            assert job_id in running or job(busy_home, job_id).state == "cancelled"
        await press(pilot, "u")
        assert {job_id: job(busy_home, job_id) for job_id in marked} == states


async def test_a_large_number_has_to_be_typed(
    busy_home: Home, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another number does nothing, Escape leaves all as it is."""
    monkeypatch.setattr(many, "TYPED_ABOVE", 3)
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "A", "x")
        with Database(busy_home.database, readonly=True) as db:
            count = db.read(queries.count_jobs, JobFilter(states=("running", "pending")))
        assert f"Type {count} and Enter" in "\n".join(shown(app))
        await write(pilot, "7")
        await press(pilot, "enter")
        assert isinstance(app.screen, TypedNumber)
        await press(pilot, "escape")
        assert job(busy_home, 11).cancel_requested_at is None
        await press(pilot, "x")
        await write(pilot, str(count))
        await press(pilot, "enter")
        assert job(busy_home, 11).cancel_requested_at is not None
        with Database(busy_home.database, readonly=True) as db:
            assert db.read(queries.count_jobs, JobFilter(states=("pending",))) == 0


async def test_many_are_retried_and_get_a_priority(busy_home: Home, make_app: MakeApp) -> None:
    """What does not apply is left alone; the marks stay for the next step of a priority."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "slash")
        await write(pilot, "status:failed,cancelled")
        await press(pilot, "enter", "A", "r")
        assert "Retry 2 jobs?" in "\n".join(shown(app))
        await press(pilot, "y")
        assert said(app) == "j10 and j22 wait in the queue again. u undoes it."
        await press(pilot, "escape", "A", "p", "3")
        with Database(busy_home.database, readonly=True) as db:
            waiting = db.read(jobs.pending)
        assert {each.spec.priority for each in waiting} == {3}
        await press(pilot, "plus")
        with Database(busy_home.database, readonly=True) as db:
            assert {each.spec.priority for each in db.read(jobs.pending)} == {2}
        await press(pilot, "u")
        with Database(busy_home.database, readonly=True) as db:
            assert {each.spec.priority for each in db.read(jobs.pending)} == {3}
