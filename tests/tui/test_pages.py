"""The pages of a job and of a machine, the list of machines, the timeline: what they show, and what their keys do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest
from textual.pilot import Pilot

from gpuscale_tui.model.settings import BudgetConfig
from gpuscale_tui.store import liveness, progress, workers
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.progress import JobProgress, Usage
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.screens.base import BaseScreen
from gpuscale_tui.tui.screens.fleet import FleetScreen
from gpuscale_tui.tui.screens.job import JobScreen
from gpuscale_tui.tui.screens.worker import WorkerScreen
from gpuscale_tui.tui.screens.workers import WorkersScreen

from .conftest import MakeApp, press, settle, shown, write

WIDE, SMALL = (120, 40), (80, 24)


def text(app: GpuscaleApp) -> str:
    """What is on the terminal."""
    return "\n".join(shown(app))


async def seen(pilot: Pilot[Any], words: str) -> None:
    """Wait until it is on the terminal: a page that has come to have more lines is laid out in steps."""
    app = pilot.app
    assert isinstance(app, GpuscaleApp)
    for _ in range(1000):
        if words in text(app):
            return
        await settle(pilot)
    raise AssertionError(f"{words!r} is not in\n{text(app)}")


K = TypeVar("K")


def at(app: GpuscaleApp, kind: type[K]) -> K:
    """The screen that is shown, which must be of this kind."""
    screen: object = app.screen
    assert isinstance(screen, kind)
    return screen


def ids(app: GpuscaleApp) -> list[int]:
    """The machines on screen."""
    return [row.id for _, row in at(app, WorkersScreen).table.items_here()]


def timeline_at(app: GpuscaleApp) -> int:
    """The machine that the timeline's cursor is on."""
    row = at(app, FleetScreen).worker
    assert row is not None
    return row.id


def page_of(app: GpuscaleApp) -> int:
    """The machine whose page is shown."""
    row = at(app, WorkerScreen).worker
    assert row is not None
    return row.id


async def test_a_running_job_tells_how_far_it_is_and_what_it_costs(busy_once: Home, make_app: MakeApp) -> None:
    """Progress, ETA, cost so far and to come, unsaved work, curves, its attempts over time, its output: all at once."""
    app = make_app(busy_once)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "enter")
        for words in (
            "40 %  step 2,400 of 6,000  epoch 3 of 6  loss 1.62", "1.04 s/step; done in about", "$0.32 so far",
            "to come ($", "by its own progress", "3m00s of work, $0.02; saved 3m00s ago", "attempts over time",
            "● running 41m", "m: next of 3", "w5 GPU 96 %", "GPU memory % 95.4", "step   2400  loss 1.6225",
        ):  # fmt: skip
            await seen(pilot, words)


async def test_the_scroll_bar_stands_where_the_output_does(busy_once: Home, make_app: MakeApp) -> None:
    """At the end, though the bar comes after the lines."""
    app = make_app(busy_once)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "enter")
        output = at(app, JobScreen).output
        assert output.scroll_y == output.max_scroll_y > 0
        assert output.vertical_scrollbar.position == output.scroll_y


async def test_v_shows_one_part_after_the_other(busy_once: Home, make_app: MakeApp) -> None:
    """In a small terminal each part has the page to itself; a larger one begins with all of them."""
    app = make_app(busy_once)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await press(pilot, "enter")
        seen = []
        for _ in range(4):
            page = text(app)
            seen.append((at(app, JobScreen).part, "story, newest" in page, "⠤⠤ loss 1.62" in page, "it/s" in page))
            await press(pilot, "v")
        assert seen[0] == ("story", True, False, False)
        assert seen[1][:2] == ("curves", False)
        assert seen[2][0] == "output"
        assert seen[2][3]
        assert seen[3] == seen[0]
        await pilot.resize_terminal(*WIDE)
        await settle(pilot)
        await press(pilot, "v", "v")
        assert at(app, JobScreen).part == "all"
        assert "story, newest" in text(app)
        assert "following" in text(app)


async def test_a_click_on_a_part_shows_it(busy_once: Home, make_app: MakeApp) -> None:
    """The mouse does what `v` does."""
    app = make_app(busy_once)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await press(pilot, "enter")
        line = next(number for number, words in enumerate(shown(app)) if "[story]" in words)
        await pilot.click(offset=(shown(app)[line].index("output") + 1, line))
        await settle(pilot)
        assert at(app, JobScreen).part == "output"


async def test_m_plots_the_next_metric(busy_once: Home, make_app: MakeApp) -> None:
    """It goes round; where the curves are not shown they come."""
    app = make_app(busy_once)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await press(pilot, "enter")
        names = []
        for _ in range(3):
            await press(pilot, "m")
            names.append(at(app, JobScreen)._course.name)
            assert f" {names[-1]} " in text(app)
        assert names[-1] == "loss"
        assert len(set(names)) == 3


async def test_a_job_without_metrics_says_so(busy_once: Home, make_app: MakeApp) -> None:
    """And what is empty says why it is empty."""
    app = make_app(busy_once)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "j", "j", "j", "j", "j", "enter")
        page = text(app)
        assert "no loss seen yet" in page
        assert "it has had no machine yet" in page
        assert "attempts over time" not in page
        await press(pilot, "m")
        assert [note.message for note in app._notifications] == ["Its output has no metrics yet."]


async def test_a_lost_attempt_and_its_snapshots_stand_in_the_strip(busy_once: Home, make_app: MakeApp) -> None:
    """Two attempts on two machines, one of them lost."""
    app = make_app(busy_once)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await press(pilot, "G", "k", "k", "k", "k", "enter")
        lines = shown(app)
        assert any(line.startswith("  2 w4") and "┝━" in line and "✓ finished 28m" in line for line in lines)
        assert any(line.startswith("  1 w2") and "╳●" in line and "✗ preempted 33m" in line for line in lines)
        assert any("━━ job" in line and "╳╳ lost" in line and "● snapshot" in line for line in lines)


async def test_the_budget_of_a_job_is_its_limit(busy_once: Home, make_app: MakeApp) -> None:
    """Where it is lower than what its max runtime could cost."""
    app = make_app(busy_once)
    app.settings = replace(app.settings, budget=BudgetConfig(per_job=0.9))
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "enter")
        await seen(pilot, "at most $0.90")


async def test_a_job_that_falls_silent_is_told_to_be_quiet(busy_home: Home, make_app: MakeApp) -> None:
    """A figure of ten minutes ago is not passed off as now's; a loss that is no number is shown as that."""
    app = make_app(busy_home)
    with Database(busy_home.database) as db:
        old = JobProgress(11, 1, app.now() - 600_000, 10, 100, fraction=0.1, loss=float("nan"), speed=2.0, eta_ms=1000)
        db.write(progress.record, [old], [])
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "enter")
        for words in ("has said nothing of it for 10m", "should be done by now", "loss nan"):
            await seen(pilot, words)


async def test_the_list_of_machines_is_filtered_by_what_they_do(busy_once: Home, make_app: MakeApp) -> None:
    """State, GPU, price, use; Escape leaves the filter; what cannot be read is said."""
    app = make_app(busy_once)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "2")
        for query, found in (
            ("state:busy rate>0.42", [4, 5]), ("use<20", [6]), ("gpu:4090 temp>80", [5]), ("booting", [7]),
            ("state:lost", [2]), ("name~whisper", [5]), ("job:j4", [1]), ("memory>90", [5]), ("up>1h", [1]),
        ):  # fmt: skip
            await press(pilot, "slash")
            await write(pilot, query)
            assert ids(app) == found, query
            await press(pilot, "escape")
            assert len(ids(app)) == 6
        await press(pilot, "slash")
        await write(pilot, "stat:idle")
        assert "stat" in text(app)
        assert len(ids(app)) == 6


async def test_machines_are_sorted_and_the_cursor_stays_on_its_machine(busy_once: Home, make_app: MakeApp) -> None:
    """o goes through the columns, O turns round; a click on a title sorts by that one."""
    app = make_app(busy_once)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "2", "o", "o", "o", "o", "O")
        assert at(app, WorkersScreen).sort.key == "use"
        assert ids(app)[:4] == [5, 1, 4, 6]
        head = next(number for number, line in enumerate(shown(app)) if "GPU MEM" in line)
        await pilot.click(offset=(shown(app)[head].index("TEMP"), head))
        await settle(pilot)
        assert ids(app)[:4] == [6, 4, 1, 5]


async def test_marked_machines_are_what_is_meant(busy_once: Home, make_app: MakeApp) -> None:
    """Space marks, A marks all that the filter shows; the subject has them."""
    app = make_app(busy_once)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "2", "space", "space")
        screen = at(app, WorkersScreen)
        assert screen.subject().workers == {1, 4}
        assert "2 marked" in text(app)
        await press(pilot, "escape", "slash")
        await write(pilot, "rate<0.42")
        await press(pilot, "enter", "A")
        assert screen.subject().workers == {1, 6}


async def test_how_long_such_machines_take_to_boot(busy_home: Home, make_app: MakeApp) -> None:
    """The middle of what is known of the host, else of the image; late is told apart."""
    app = make_app(busy_home)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "2")
        assert "boots 1:48 of about 2:36" in text(app)


async def test_old_readings_are_not_shown_as_of_now(busy_home: Home, make_app: MakeApp) -> None:
    """A machine that has said nothing for long says nothing in the list."""
    app = make_app(busy_home)
    with Database(busy_home.database) as db:
        db.write(progress.record, [], [Usage(4, app.now() - 600_000, 88, 17_000, 24_000, 66)])
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "2")
        line = next(line for line in shown(app) if " w4 " in line)
        assert "%" not in line.split("RTX")[1]
        assert "GB" not in line


async def test_machines_that_are_gone_and_unreachable_ones(busy_home: Home, make_app: MakeApp) -> None:
    """a shows the ones that are gone; one that does not answer says that first."""
    app = make_app(busy_home)
    with Database(busy_home.database) as db:
        db.write(liveness.fell_silent, 4, app.now() - 90_000)
        db.write(workers.begin_release, 5, "by hand", now=app.now(), epoch=None)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "2", "a")
        assert ids(app) == [1, 4, 5, 6, 7, 8, 3, 2]
        assert "unreachable 1m30s, j5" in text(app)
        assert "goes back, asked 0 times" in text(app)
        assert "gone since" in text(app)


async def test_the_timeline_of_the_fleet(busy_once: Home, make_app: MakeApp) -> None:
    """t opens it at the machine; signs, words and sums; Enter opens the machine's page."""
    app = make_app(busy_once)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "2", "j", "t")
        for words in ("4 hours  11:", "┝j2━", "j2╳╳", "░░ set-up 15m $0.10", "of it not for jobs"):
            await seen(pilot, words)
        page = text(app)
        assert "20 % of it not for jobs" in page or "19 % of it not for jobs" in page
        assert timeline_at(app) == 4
        await press(pilot, "enter")
        assert page_of(app) == 4


async def test_the_timeline_shows_any_time(busy_once: Home, make_app: MakeApp) -> None:
    """+ and - change its length, left and right move it, f goes to now."""
    app = make_app(busy_once)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "2", "t")
        seen = []
        for key in ("+", "+", "-", "-", "-", "-", "+", "+", "+", "left", "left", "right", "f"):
            await press(pilot, "plus" if key == "+" else "minus" if key == "-" else key)
            line = next(line for line in shown(app) if "what the machines did" in line)
            seen.append((key, *line.split("what the machines did")[1].split("  ")[1:4:1]))
        lengths = [entry[1].strip() for entry in seen]
        assert lengths[:9] == [
            "1 hour", "10 minutes", "1 hour", "4 hours", "24 hours", "3 days", "24 hours", "4 hours", "1 hour",
        ]  # fmt: skip
        times = [entry[2].strip().split(" ")[0] for entry in seen[8:]]
        assert times[0] == times[4]
        assert times[2] < times[1] < times[0]
        assert times[3] == times[1]


async def test_a_time_without_machines_says_so(busy_once: Home, make_app: MakeApp) -> None:
    """Long before the first was rented."""
    app = make_app(busy_once)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await press(pilot, "2", "t", "plus", "left", "left", "left", "left")
        assert "No machine was there in this time" in text(app)
        assert "not up to now" in text(app)


@pytest.mark.parametrize("size", [WIDE, SMALL])
async def test_the_page_of_a_machine(busy_once: Home, make_app: MakeApp, size: tuple[int, int]) -> None:
    """What it does, uses and did; v shows the curves; t the timeline, at this machine."""
    app = make_app(busy_once)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await press(pilot, "2", "j", "enter")
        for words in ("j5 32 % charlm", "GPU 86 %  65 C  17.4 of 24.0 GB", "what it did", "┝j2━", "job 45m $0.34"):
            await seen(pilot, words)
        while at(app, WorkerScreen).part != "curves":
            await press(pilot, "v")
        assert "GPU memory % 72.5" in text(app)
        await press(pilot, "t")
        assert timeline_at(app) == 4
        await press(pilot, "escape")
        assert page_of(app) == 4


async def test_nothing_is_painted_while_nothing_changes(
    busy_once: Home, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second that goes by with the clock standing still asks for no line to be painted again."""
    app = make_app(busy_once)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        for keys in (("enter",), ("escape", "2", "enter"), ("escape", "t")):
            await press(pilot, *keys)
            asked: list[object] = []
            count = partial(_count, asked)
            for widget in app.screen.query("*"):
                monkeypatch.setattr(widget, "refresh", count)
            at(app, BaseScreen).ticked(app.now())
            assert not asked, keys


def _count(asked: list[object], *given: object, **_options: object) -> None:
    asked.append(given)
