"""The screen in a real pseudo terminal: its first paint, what it writes by itself, how soon it answers to a key."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import store
from benchmarks.cli_start import process
from benchmarks.common import Options, Outcome, in_turns, median, percentile
from benchmarks.recovery import BEAT_SEC
from benchmarks.store import T0, training_output
from benchmarks.terminal import Terminal
from gpuscale_tui.engine.lock import EngineLock
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import engines, jobs, logs, queries
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.views import JobRow

JOBS, WAITING = 100_000, 10_000
PAINTS = 7
SETTLED_SEC = 2.0
IDLE_SEC = 5.0
STALL_SEC = 8.0
LINES_A_SECOND = 500
KEYS = "jjjjjjjjkkkjjjGgGkkkk"
"""Rows, and both ends of the queue."""
PAGES = "\x15\x15\x15\x04"
BETWEEN_SEC = 0.12


def rows(options: Options) -> Iterator[Outcome]:
    """With 100,000 jobs, 10,000 of which wait, and the engine inside; then attached, to a store after a busy year."""
    with tempfile.TemporaryDirectory(prefix="gpuscale-bench-") as place:
        home = Home(Path(place) / "large")
        home.ensure()
        with Database(home.database) as db:
            ids = db.write(jobs.insert, [JobSpec(image="none", command="true")] * JOBS, T0)
            db.write(jobs.request_cancel, ids[WAITING:], T0, "bench")
            first = db.read(queries.job_rows, limit=1)[0]
        yield from _paints(home, first, options)
        with Terminal(home) as terminal:
            terminal.wait_for(first.name)
            terminal.settle(SETTLED_SEC)
            yield (f"bytes written while idle for {IDLE_SEC:g} s", float(terminal.written_in(IDLE_SEC)), "", "", None)
            yield from _keys(terminal, "", options)
        yield from _attached(Home(Path(place) / "year"), options)
        yield _stalled(Home(Path(place) / "small"))


def _attached(home: Home, options: Options) -> Iterator[Outcome]:
    """The engine runs elsewhere (its lock and its row say so), and a job of 232,500 prints."""
    home.ensure()
    store.fill(home.database)
    with EngineLock(home), Database(home.database) as db:
        db.write(engines.begin_epoch, os.getpid(), "autopilot", engines.Limits(10**7, 5), T0)
        first = db.read(queries.job_rows, limit=1)[0]
        with Terminal(home) as terminal:
            terminal.wait_for(first.name)
            terminal.settle()
            yield from _while_logging(home, first, terminal, options)


def _paints(home: Home, first: JobRow, options: Options) -> Iterator[Outcome]:
    def paint() -> float:
        with Terminal(home) as terminal:
            return terminal.wait_for(first.name)

    paint()
    bare, painted = in_turns(options.runs(PAINTS), [process(["-c", "import textual.app"]), paint])
    yield (
        "first paint with its first job, from exec",
        1000 * median(painted),
        "ms",
        "python -c 'import textual.app'",
        1000 * median(bare),
    )


def key_times(terminal: Terminal, keys: str) -> list[float]:
    """Seconds from each key to the first byte of its effect."""
    times: list[float] = []
    for key in keys:
        times.append(terminal.answer_to(key))
        deadline = time.monotonic() + BETWEEN_SEC
        while (left := deadline - time.monotonic()) > 0:
            terminal.read(left)
    return times


def _keys(terminal: Terminal, beside: str, options: Options) -> Iterator[Outcome]:
    times = key_times(terminal, (KEYS + PAGES) * options.runs(4))
    yield (f"key to the first byte of its effect, p50{beside}", 1000 * median(times), "ms", "", None)
    yield (f"key to the first byte of its effect, p95{beside}", 1000 * percentile(times, 95), "ms", "", None)


def _while_logging(home: Home, first: JobRow, terminal: Terminal, options: Options) -> Iterator[Outcome]:
    """The same while a job prints, and what following its output makes the terminal carry."""
    ending = threading.Event()
    printing = threading.Thread(target=_print_lines, args=(home, first.id, ending))
    printing.start()
    try:
        yield from _keys(terminal, f", with {LINES_A_SECOND} log lines/s", options)
        terminal.type("gl")
        terminal.wait_for("tok/s")
        terminal.type("f")
        terminal.settle(0.05)
        written = terminal.written_in(IDLE_SEC) / 1024 / IDLE_SEC
        yield (f"written while a log of {LINES_A_SECOND} lines/s is followed", written, "KiB/s", "", None)
    finally:
        ending.set()
        printing.join()


def _print_lines(home: Home, job_id: int, ending: threading.Event) -> None:
    """Store the output of a job that prints steadily, twenty times a second."""
    piece = training_output(LINES_A_SECOND // 20)
    position = 0
    with contextlib.closing(logs.connect_logs(home.logs)) as connection:
        while not ending.wait(0.05):
            position = logs.append(connection, job_id, 1, position, piece)


def _stalled(home: Home) -> Outcome:
    """The engine inside a screen whose terminal reads nothing any more."""
    home.ensure()
    with Terminal(home) as terminal:
        terminal.wait_for("inside")
        terminal.settle()
        gaps: list[float] = []
        last = None
        deadline = time.monotonic() + STALL_SEC
        with Database(home.database) as db:
            while time.monotonic() < deadline:
                terminal.type("1234567")  # each paints a whole screen into a pipe that is full
                row = db.read(engines.engine)
                if row is not None and row.heartbeat_at != last:
                    if last is not None:
                        gaps.append((row.heartbeat_at - last) / 1000)
                    last = row.heartbeat_at
                time.sleep(0.02)
    late = max(abs(gap - BEAT_SEC) for gap in gaps) if gaps else STALL_SEC
    return ("jitter of the engine's heartbeat, terminal stalled", 1000 * late, "ms", "", None)
