"""What cannot be reached, and what stands still, is seen where one looks for it."""

from __future__ import annotations

from types import ModuleType

from gpuscale_tui.model.states import AttemptState
from gpuscale_tui.store import liveness, queries
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home

from .conftest import MakeApp, press, settle, shown


async def test_a_machine_out_of_reach_says_so_on_its_screen_and_on_its_page(
    busy_home: Home, busy: ModuleType, make_app: MakeApp
) -> None:
    with Database(busy_home.database) as db:
        [worker, *_] = [row for row in db.read(queries.worker_rows) if row.state == "busy"]
        db.write(liveness.fell_silent, worker.id, busy.NOW - 95_000)
        db.write(lambda connection: connection.execute("UPDATE workers SET ready_at = created_at"))
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "2")
        assert f"unreachable 1m35s, j{worker.job_id}" in "\n".join(shown(app))
        await press(pilot, "enter")
        assert "unreachable for 95 s; its provider says that it runs" in "\n".join(shown(app))


async def test_a_job_that_stands_still_says_so_on_its_page(
    busy_home: Home, busy: ModuleType, make_app: MakeApp
) -> None:
    with Database(busy_home.database) as db:
        jobs = [row for row in db.read(queries.job_rows) if row.state == "running"]
        running = [
            attempt for row in jobs for attempt in db.read(queries.attempts, row.id)
            if attempt.state == AttemptState.RUNNING
        ]  # fmt: skip
        first = next(each for each in running if each.job_id == jobs[0].id)
        assert db.write(liveness.stalled, first, "has stood still", now=busy.NOW - 60_000, epoch=None)
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "enter")
        assert "does nothing, noticed 1m00s ago" in "\n".join(shown(app))
