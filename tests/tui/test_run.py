"""The whole screen in a terminal of its own: how it ends, whatever ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuscale_tui.engine import commands
from gpuscale_tui.engine.lock import running_engine
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import engines
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.run import is_utf8
from tests.pseudo import PATIENCE_SEC, Pty


class Terminal(Pty):
    """The screen on a pseudo terminal of 80 by 24."""

    def __init__(self, home: Home, *options: str, **environ: str) -> None:
        super().__init__(["--home", str(home.path), *options], **environ)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path / "home")


@pytest.fixture
def terminal(home: Home) -> Iterator[Terminal]:
    """The screen, with its engine inside; there are settings, so that nobody asks for any."""
    config = home.path.parent / "config.toml"
    config.write_text("")
    opened = Terminal(home, GPUSCALE_CONFIG=str(config))
    try:
        opened.wait_for(b"inside")
        yield opened
    finally:
        opened.close()
        end_background(home)


def end_background(home: Home) -> None:
    """End an engine that goes on in the background, and wait until it has."""
    pid = running_engine(home)
    if not pid:
        return
    with Database(home.database) as store:
        store.write(commands.stop, at_once=True, user="test", now=time.time_ns() // 1_000_000)
    deadline = time.monotonic() + PATIENCE_SEC
    while running_engine(home) is not None:
        assert time.monotonic() < deadline
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)


def engine_row(home: Home) -> engines.EngineRow:
    """The engine's row, which is there after a start."""
    with Database(home.database, readonly=True) as store:
        row = store.read(engines.engine)
    assert row is not None
    return row


def test_it_quits_by_key_and_gives_the_home_free(home: Home, terminal: Terminal) -> None:
    """q with nothing rented and nothing queued ends all of it; the terminal is put back as it was."""
    terminal.send(b"q")
    assert terminal.ended() == 0
    assert running_engine(home) is None
    assert engine_row(home).stopped_at is not None
    assert b"\x1b[?1049l" in terminal.output


def test_nothing_is_written_while_nothing_changes(home: Home, terminal: Terminal) -> None:
    """A quiet screen costs a slow line nothing."""
    assert engine_row(home).mode == "screen"
    terminal.quiet_for(2.5)


def test_termination_ends_it_in_order(home: Home, terminal: Terminal) -> None:
    """SIGTERM: the screen goes, the engine gives everything back and ends, the exit code is 0."""
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.ended() == 0
    assert running_engine(home) is None
    assert engine_row(home).stopped_at is not None


def test_a_lost_terminal_hands_over_to_the_background(home: Home, terminal: Terminal) -> None:
    """SIGHUP with a job in the queue: another process holds the home, and the job is still there."""
    with Database(home.database) as store:
        store.write(commands.submit, home, [JobSpec(image="x", command="y")], now=1)
    terminal.hang_up()
    assert terminal.ended(reading=False) == 0
    deadline = time.monotonic() + PATIENCE_SEC
    while running_engine(home) in {None, terminal.pid}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    while engine_row(home).mode != "autopilot":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_terminal_that_does_not_read_holds_nothing_up(home: Home, terminal: Terminal) -> None:
    """The screen hangs in its writing, and SIGTERM still ends the engine and the process."""
    for _ in range(400):
        terminal.send(b"1234567T")
    time.sleep(1.0)
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.ended(reading=False) == 0
    assert running_engine(home) is None
    assert engine_row(home).stopped_at is not None


def test_a_wrong_theme_is_refused_before_anything_is_shown(home: Home, tmp_path: Path) -> None:
    """With the name that is near, and no alternate screen."""
    config = tmp_path / "config.toml"
    config.write_text('[ui]\ntheme = "gpuscale-drak"\n')
    terminal = Terminal(home, GPUSCALE_CONFIG=str(config))
    try:
        assert terminal.ended() != 0
        assert b"did you mean 'gpuscale-dark'" in terminal.output
        assert b"\x1b[?1049h" not in terminal.output
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"LANG": "de_DE.UTF-8"}, True),
        ({"LANG": "C.utf8"}, True),
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, False),
        ({"LC_CTYPE": "en_US.ISO-8859-1"}, False),
        ({"LC_ALL": "", "LANG": "en_US.UTF-8"}, True),
    ],
)
def test_whether_the_terminal_knows_utf8(environ: dict[str, str], expected: bool) -> None:
    """As the locale says, the most special variable first."""
    assert is_utf8(environ) is expected


def test_ctrl_z_puts_the_screen_aside_and_fg_brings_it_back(home: Home, terminal: Terminal) -> None:
    """With nothing rented: the terminal is given back, the process stops, and going on paints everything anew."""
    before = len(terminal.output)
    terminal.send(b"\x1a")
    terminal.wait_for(b"\x1b[?1049l", after=before)
    deadline = time.monotonic() + PATIENCE_SEC
    while process_state(terminal.pid) != "T":
        assert time.monotonic() < deadline
        terminal.read(0.05)
    stopped = len(terminal.output)
    os.kill(terminal.pid, signal.SIGCONT)
    terminal.wait_for(b"\x1b[?1049h", after=stopped)
    terminal.wait_for(b"Queue", after=stopped)
    terminal.send(b"q")
    assert terminal.ended() == 0


def test_read_only_neither_starts_an_engine_nor_makes_a_home(home: Home) -> None:
    """Over a home that is there it shows it; over none it says so and ends."""
    for there in (False, True):
        if there:
            home.ensure()
            with Database(home.database) as store:
                store.write(commands.submit, home, [JobSpec(image="x", command="y", name="looked at")], now=1)
        terminal = Terminal(home, "--readonly")
        try:
            if there:
                terminal.wait_for(b"looked at")
                assert b"read-only" in terminal.output
                assert running_engine(home) is None
                terminal.send(b"q")
            assert terminal.ended() == (0 if there else 1)
            assert home.database.exists() is there
        finally:
            terminal.close()


def process_state(pid: int) -> str:
    """As the system calls it: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def test_a_lost_terminal_is_told_of_at_the_next_start(home: Home, terminal: Terminal) -> None:
    """By a screen that attaches to the engine in the background, in words and from the events."""
    with Database(home.database) as store:
        store.write(commands.submit, home, [JobSpec(image="x", command="y")], now=1)
    terminal.hang_up()
    assert terminal.ended(reading=False) == 0
    deadline = time.monotonic() + PATIENCE_SEC
    while engine_row(home).mode != "autopilot":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    again = Terminal(home)
    try:
        again.wait_for(b"terminal was lost")
        again.wait_for(b"background")
    finally:
        again.close()
