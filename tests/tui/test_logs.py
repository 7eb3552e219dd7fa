"""The keys of the Logs screen, each with what it shows."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from textual.pilot import Pilot

from gpuscale_tui.model.states import Cause, JobState
from gpuscale_tui.store import jobs, logs
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.logs import taking
from gpuscale_tui.tui.screens.logs import LogsScreen
from gpuscale_tui.tui.widgets.log_view import Stream

from .conftest import MakeApp, painted, press, settle, shown, write
from .logs_home import JOB, append, rich_output

WITHIN_SEC = 60.0


@asynccontextmanager
async def watching(app: GpuscaleApp, job: int = JOB, size: tuple[int, int] = (96, 30)) -> AsyncIterator[Pilot[Any]]:
    """The output of a job on the screen."""
    notify = app.notify
    app.notify = lambda words, **how: (told(app).append(words), notify(words, **how))[1]  # type: ignore[method-assign]
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        app.show_logs(job)
        await settle(pilot)
        yield pilot


def told(app: GpuscaleApp) -> list[str]:
    """What the screen has told in passing."""
    return app.__dict__.setdefault("_told_in_tests", [])


def screen_of(app: GpuscaleApp) -> LogsScreen:
    """The screen that is shown."""
    assert isinstance(app.screen, LogsScreen)
    return app.screen


def text(app: GpuscaleApp) -> str:
    """All that is shown."""
    return "\n".join(shown(app))


def cursor_line(app: GpuscaleApp) -> str:
    """The line that the cursor is on."""
    return next(line for line in shown(app)[3:] if "\u258c" in line).partition("\u258c")[2].strip()


async def until(pilot: Pilot[Any], true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(WITHIN_SEC):
        while not true():
            await settle(pilot)
            await asyncio.sleep(0.01)


async def search(pilot: Pilot[Any], words: str) -> None:
    """Search for something, and wait until all was looked through."""
    await press(pilot, "slash")
    await write(pilot, words)
    await press(pilot, "enter")
    screen = screen_of(pilot.app)  # type: ignore[arg-type]
    await until(pilot, lambda: screen.search is None or screen.search.next(screen.output.lineup.parts) is None)


@pytest.fixture
def rich(busy_home: Home, busy: ModuleType) -> Home:
    """A home where one job has printed everything that a job can print."""
    rich_output(busy_home, busy.NOW)
    return busy_home


async def test_a_search_tells_how_many_and_which_one(rich: Home, make_app: MakeApp) -> None:
    """n and N go round, with the count; matches are marked; Esc clears."""
    app = make_app(rich)
    async with watching(app) as pilot:
        await search(pilot, r"loss 0\.03[0-2]\d")
        await until(pilot, lambda: "match 9 of 9" in text(app))
        assert cursor_line(app).startswith("step  100")
        await press(pilot, "N")
        await until(pilot, lambda: "match 8 of 9" in text(app))
        await press(pilot, "n", "n")
        await until(pilot, lambda: "match 1 of 9" in text(app))
        assert cursor_line(app).startswith("step   92")
        styles = [s.style for strip in painted(app) for s in strip if "loss 0.03" in s.text]
        assert any(style is not None and style.reverse for style in styles)
        await press(pilot, "escape")
        assert "match 1" not in text(app)


async def test_each_letter_moves_to_the_nearest_match_and_escape_goes_back(rich: Home, make_app: MakeApp) -> None:
    app = make_app(rich)
    async with watching(app) as pilot:
        await press(pilot, "slash")
        await write(pilot, "WARN")
        await until(pilot, lambda: screen_of(app).output.hit is not None)
        assert "WARNING gradient norm" in cursor_line(app)
        await press(pilot, "escape")
        await until(pilot, lambda: "following" in text(app))


async def test_a_wrong_expression_is_told_and_an_endless_one_is_stopped(rich: Home, make_app: MakeApp) -> None:
    """Neither hurts; the next search works."""
    append(rich, b"a" * 64 + b"\n")
    app = make_app(rich)
    async with watching(app) as pilot:
        await press(pilot, "slash")
        await write(pilot, "(loss")
        await until(pilot, lambda: "no regular expression: missing )" in text(app))
        await press(pilot, "escape")
        screen_of(app).helper._limit = 0.2
        await search(pilot, "(a+)+b$")
        await until(pilot, lambda: "takes too long" in text(app))
        await press(pilot, "escape")
        await search(pilot, "Epoch 2/3")
        await until(pilot, lambda: "match 1 of 1" in text(app))


async def test_only_matching_lines_with_their_numbers_and_new_ones_come(rich: Home, make_app: MakeApp) -> None:
    app = make_app(rich)
    async with watching(app) as pilot:
        await search(pilot, "Epoch")
        await press(pilot, "ampersand")
        rows = [line for line in shown(app) if "poch" in line]
        assert any(line.strip(" \u258c\u2502").startswith("248 Epoch 1/3") for line in rows)
        assert "step   40" not in text(app)
        append(rich, b"Epoch 4/3\nstep 101\n")
        await until(pilot, lambda: "Epoch 4/3" in text(app))
        assert "step 101" not in text(app)
        await press(pilot, "ampersand", "f")
        await until(pilot, lambda: "step 101" in text(app))


async def test_a_filter_without_a_search_asks_for_one(rich: Home, make_app: MakeApp) -> None:
    app = make_app(rich)
    async with watching(app) as pilot:
        await press(pilot, "ampersand")
        await write(pilot, "warn")
        await press(pilot, "enter")
        await until(pilot, lambda: "UserWarning" in text(app) and "step" not in "".join(shown(app)[3:-3]))
        await press(pilot, "escape")
        assert screen_of(app).mode == "all"


async def test_errors_are_counted_and_jumped_to(rich: Home, make_app: MakeApp) -> None:
    """e goes to the last one, N to the one before; the margin has signs."""
    app = make_app(rich)
    async with watching(app) as pilot:
        await until(pilot, lambda: "2 err" in text(app))
        assert "4 warn" in text(app)
        assert any(line.lstrip(" \u2502").startswith("\u2717Traceback") for line in shown(app))
        await press(pilot, "e")
        assert cursor_line(app).startswith("RuntimeError")
        await press(pilot, "N")
        assert cursor_line(app).startswith("Traceback")
        await press(pilot, "e")
        assert cursor_line(app).startswith("RuntimeError")


async def test_metrics_are_jumped_to(rich: Home, make_app: MakeApp) -> None:
    app = make_app(rich)
    async with watching(app) as pilot:
        await press(pilot, "M")
        assert cursor_line(app).startswith("step  100")
        await press(pilot, "N")
        assert cursor_line(app).startswith("step   99")
        await press(pilot, "M")
        assert cursor_line(app).startswith("step  100")


async def test_epochs_fold_and_unfold(rich: Home, make_app: MakeApp) -> None:
    """A section is one row with its last metrics; Enter opens it and closes it again."""
    app = make_app(rich)
    async with watching(app) as pilot:
        await until(pilot, lambda: screen_of(app).index is not None and "err" in text(app))
        await press(pilot, "Z")
        await until(pilot, lambda: "\u25b8 epoch 3" in text(app))
        assert "step   99" not in text(app)
        await press(pilot, "k", "enter")
        await until(pilot, lambda: "\u25be epoch 2" in text(app))
        assert "step   51" in text(app)
        await press(pilot, "j", "j", "enter")
        await until(pilot, lambda: "\u25be epoch 2" not in text(app))
        await press(pilot, "Z")
        await until(pilot, lambda: "step   51" in text(app))


async def test_output_without_epochs_says_so(busy_home: Home, make_app: MakeApp) -> None:
    append(busy_home, b"nothing\n", job=5, attempt=2)
    app = make_app(busy_home)
    with Database(busy_home.database) as db:
        db.connection.execute("UPDATE jobs SET attempt = 2 WHERE id = 5")
    async with watching(app, 5) as pilot:
        await until(pilot, lambda: screen_of(app).index is not None)
        await settle(pilot)
        await press(pilot, "Z")
        assert "No epochs in this output" in told(app)


async def test_times_of_day_and_since_the_attempt_began(rich: Home, make_app: MakeApp) -> None:
    app = make_app(rich)
    async with watching(app) as pilot:
        await press(pilot, "t")
        await until(pilot, lambda: "15:09:20 RuntimeError" in text(app))
        await press(pilot, "t")
        await until(pilot, lambda: "+41m RuntimeError" in text(app))
        await press(pilot, "t")
        assert "41m RuntimeError" not in text(app)


async def test_long_lines_wrap_and_move_sideways(rich: Home, make_app: MakeApp) -> None:
    app = make_app(rich)
    async with watching(app, size=(80, 24)) as pilot:
        await search(pilot, "config:")
        assert "option_39" not in text(app)
        await press(pilot, "z")
        await until(pilot, lambda: "option_39=1521" in text(app))
        assert "config: option_0=0" in text(app)
        await press(pilot, "z", "right")
        assert "config" not in text(app).partition("match 1")[0]
        await press(pilot, "left")
        assert "config: option_0=0" in text(app)


async def test_wrapped_the_end_is_in_view_and_a_line_longer_than_the_page_is_gone_through(
    busy_home: Home, make_app: MakeApp
) -> None:
    """Row by row through the long line, then on to the line after it."""
    append(busy_home, b"".join(b"%04d " % number for number in range(800)) + b"\nlast\n")
    app = make_app(busy_home)
    async with watching(app, size=(80, 24)) as pilot:
        await press(pilot, "z")
        assert "last" in shown(app)[-2]
        assert "0799" in text(app)
        await press(pilot, "k")
        await until(pilot, lambda: "0000" in text(app))
        assert "0799" not in text(app)
        for _ in range(60):
            if "0799" in text(app):
                break
            await press(pilot, "j")
        assert "0799" in text(app)
        assert "0000" not in text(app)
        await press(pilot, "j")
        await until(pilot, lambda: "following" in text(app))


async def test_raw_shows_each_state_of_a_progress_bar(rich: Home, make_app: MakeApp) -> None:
    app = make_app(rich)
    async with watching(app) as pilot:
        await search(pilot, "loading")
        assert "loading: 100%" in cursor_line(app)
        assert "10%" not in text(app)
        await press(pilot, "v")
        await until(pilot, lambda: "loading:  10%|#^Mloading:  60%" in text(app))
        await press(pilot, "v")
        assert "^M" not in text(app)


async def test_attempts_one_by_one_and_all_as_one(busy_home: Home, make_app: MakeApp) -> None:
    """The rule says machine, time and cause; the reader stays at the line."""
    app = make_app(busy_home)
    async with watching(app, 2) as pilot:
        await until(pilot, lambda: "attempt 2 of 2" in text(app))
        await press(pilot, "a")
        await until(pilot, lambda: "attempt 1 of 2" in text(app))
        await press(pilot, "k", "a")
        await until(pilot, lambda: "all 2 attempts" in text(app))
        assert "attempt 1 line" in text(app)
        await press(pilot, "j", "j")
        assert "attempt 2 \u00b7 w4 RTX 4090 \u00b7 28m \u00b7 finished" in text(app)
        await press(pilot, "g")
        assert "attempt 1 \u00b7 w2 RTX 4090 \u00b7 33m \u00b7 preempted" in text(app)
        await press(pilot, "a")
        await until(pilot, lambda: "attempt 2 of 2" in text(app))


def move_on(home: Home, busy: ModuleType) -> None:
    """The job loses its machine and begins on another one."""
    with Database(home.database) as db:
        writer = busy.Writer(
            home, db, epoch=db.read(lambda c: c.execute("SELECT max(epoch) FROM engine").fetchone()[0])
        )
        attempt = jobs.get_attempt(db.connection, JOB, 1)
        assert attempt is not None
        writer.running[JOB] = attempt
        writer.end(JOB, 0, cause=Cause.PREEMPTED, state=JobState.PENDING, code=None, error="gone")
        worker = db.connection.execute("SELECT worker_id FROM attempts WHERE job_id = ?", (JOB,)).fetchone()[0]
        writer.start(JOB, worker, 0)
    append(home, b"second attempt speaks\n", attempt=2)


async def test_following_goes_over_to_the_next_attempt(busy_home: Home, busy: ModuleType, make_app: MakeApp) -> None:
    app = make_app(busy_home)
    async with watching(app) as pilot:
        move_on(busy_home, busy)
        await until(pilot, lambda: "second attempt speaks" in text(app))
        await until(pilot, lambda: "attempt 2 of 2" in text(app))


async def test_who_reads_is_not_torn_away_when_the_job_moves(
    busy_home: Home, busy: ModuleType, make_app: MakeApp
) -> None:
    app = make_app(busy_home)
    async with watching(app) as pilot:
        await press(pilot, "k")
        move_on(busy_home, busy)
        await until(pilot, lambda: "attempt 1 of 2" in text(app))
        await press(pilot, "f")
        await until(pilot, lambda: "second attempt speaks" in text(app))


async def test_neighbours_by_brackets(busy_home: Home, make_app: MakeApp) -> None:
    app = make_app(busy_home)
    async with watching(app) as pilot:
        await press(pilot, "right_square_bracket")
        assert screen_of(app).output.stream == Stream(4, 1)
        await press(pilot, "left_square_bracket")
        assert screen_of(app).output.stream == Stream(JOB, 1)


async def test_a_line_or_a_range_is_copied_cleaned(rich: Home, make_app: MakeApp) -> None:
    """No sequence of the worker's reaches the clipboard; a range that is too long is cut, and that is said."""
    app = make_app(rich)
    copied: list[str] = []
    app.copy_to_clipboard = copied.append  # type: ignore[method-assign,assignment]
    async with watching(app) as pilot:
        await press(pilot, "e", "y")
        assert copied == ["RuntimeError: CUDA out of memory"]
        await press(pilot, "V", "k", "k", "y")
        assert copied[1].splitlines() == [
            "Traceback (most recent call last):", '  File "train.py", line 88, in <module>',
            "RuntimeError: CUDA out of memory",
        ]  # fmt: skip
        assert any("Copied 3 lines" in words for words in told(app))
        append(rich, b"".join(b"%060d\n" % number for number in range(2_000)))
        await press(pilot, "f", "V", "g", "y")
        assert any("cut at 48.0 kB" in words for words in told(app))
        assert len(base64.b64encode(copied[2].encode())) < 74_994
        await press(pilot, "V", "escape")
        assert screen_of(app).output.range_from is None


async def save_as(pilot: Pilot[Any], path: Path, *keys: str) -> None:
    """Press S, type a path, and the keys."""
    await press(pilot, "S", *["backspace"] * len("j11-1.log"))
    await write(pilot, str(path))
    await press(pilot, *keys)


async def test_the_exact_bytes_are_saved_and_nothing_is_replaced_unasked(
    rich: Home, make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "SLICE", 1000)
    app = make_app(rich)
    target = tmp_path / "out.log"
    connection = logs.connect_logs(rich.logs, readonly=True)
    data = logs.read(connection, JOB, 1, 0, 1 << 30)
    connection.close()
    async with watching(app) as pilot:
        await save_as(pilot, target, "enter")
        await until(pilot, lambda: any(words.startswith("Saved") for words in told(app)))
        assert target.read_bytes() == data
        assert target.stat().st_mode & 0o777 == 0o600
        target.write_bytes(b"precious")
        await save_as(pilot, target, "enter")
        await until(pilot, lambda: "it is there already" in text(app))
        assert target.read_bytes() == b"precious"
        await press(pilot, "escape")
        await save_as(pilot, target, "ctrl+t", "enter", "enter")
        await until(pilot, lambda: target.read_bytes() != b"precious")
        saved = target.read_text()
        assert "\x1b" not in saved
        assert "loading: 100%|##########\n" in saved
        assert saved.count("\n") == data.count(b"\n")
    assert not any(name.endswith(".part") for name in await asyncio.to_thread(os.listdir, tmp_path))


async def test_a_path_is_completed_and_a_wrong_one_refused(rich: Home, make_app: MakeApp, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    app = make_app(rich)
    async with watching(app) as pilot:
        await save_as(pilot, tmp_path / "res", "tab")
        await write(pilot, "none/x")
        await press(pilot, "enter")
        await until(pilot, lambda: "there is no directory" in text(app))
        await press(pilot, "escape")
        assert isinstance(app.screen, LogsScreen)
