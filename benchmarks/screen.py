"""The screen through a real terminal line: first paint, answers to keys, and what it writes while nothing happens."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import store
from benchmarks.common import Options, Outcome, clean_environ, median, percentile
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import jobs
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home

JOBS = 100_000
PAINTS = 9
KEYS = 60
SIZE = (40, 120)
SHOWN = b"Queue"
QUIET_SEC = 0.15
IDLE_SEC = 5.0
PATIENCE_SEC = 30.0


@dataclass(slots=True)
class Line:
    """The program at the other end of a pseudo terminal."""

    pid: int
    descriptor: int

    def read(self, within_sec: float) -> bytes:
        """What it writes next, nothing when it stays silent for so long."""
        ready, _, _ = select.select([self.descriptor], [], [], within_sec)
        return os.read(self.descriptor, 1 << 16) if ready else b""

    def until_silent(self, quiet_sec: float = QUIET_SEC) -> int:
        """Read on until nothing came for so long; how many bytes came."""
        count = 0
        while data := self.read(quiet_sec):
            count += len(data)
        return count

    def until_shown(self, text: bytes) -> None:
        """Read on until it has written a text."""
        seen, deadline = b"", time.monotonic() + PATIENCE_SEC
        while text not in seen:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the screen did not show {text!r} within {PATIENCE_SEC:g} s")
            seen += self.read(1.0)


@contextlib.contextmanager
def opened(home: Home) -> Iterator[Line]:
    """`gpuscale` in a terminal of its own; it is ended at the end of the block."""
    words = [sys.executable, "-m", "gpuscale_tui", "--home", str(home.path), "--config", "/dev/null"]
    environ = {**clean_environ(), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    pid, descriptor = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
        os.execve(words[0], words, environ)  # noqa: S606 - no shell is meant
    try:
        yield Line(pid, descriptor)
    finally:
        os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(OSError):
            while os.read(descriptor, 1 << 16):
                pass
        os.waitpid(pid, 0)
        os.close(descriptor)


def rows(options: Options) -> Iterator[Outcome]:
    """On a store of 100,000 jobs, the engine inside, 120x40."""
    with tempfile.TemporaryDirectory(prefix="gpuscale-bench-") as place:
        home = Home(Path(place) / "home")
        home.ensure()
        with contextlib.closing(Database(home.database)) as db:
            db.write(jobs.insert, [JobSpec(image="none", command="true")] * JOBS, store.T0)
        paints = [first_paint(home) for _ in range(options.runs(PAINTS) + 1)][1:]
        yield ("first paint, from exec, 100,000 jobs", median(paints) * 1000, "ms", "fastest run", min(paints) * 1000)
        with opened(home) as line:
            line.until_shown(SHOWN)
            line.until_silent(3.0)
            idle = sum(len(line.read(1.0)) for _ in range(round(IDLE_SEC)))
            yield (f"bytes written while idle for {IDLE_SEC:g} s", idle, "", "", None)
            answers = [answer(line, b"j") for _ in range(options.runs(KEYS))]
            yield ("key to the first byte of its effect, p50", median(answers) * 1000, "ms", "", None)
            slowest = percentile(answers, 95) * 1000
            yield ("key to the first byte of its effect, p95", slowest, "ms", "median", median(answers) * 1000)


def first_paint(home: Home) -> float:
    """Seconds from the start of the process to the first frame."""
    begin = time.perf_counter()
    with opened(home) as line:
        line.until_shown(SHOWN)
        return time.perf_counter() - begin


def answer(line: Line, key: bytes) -> float:
    """Seconds from a key to the first byte that it changes on the screen."""
    line.until_silent()
    begin = time.perf_counter()
    os.write(line.descriptor, key)
    if not line.read(PATIENCE_SEC):
        raise TimeoutError(f"no answer to the key {key!r}")
    return time.perf_counter() - begin
