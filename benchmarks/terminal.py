"""The real program on a pseudo terminal: what it writes, and when."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from benchmarks.common import clean_environ
from gpuscale_tui.store.home import Home

ROWS, COLUMNS = 40, 120
PATIENCE_SEC = 30.0


class Terminal:
    """A screen on 120 by 40. A context manager; what still runs at its end is killed.

    It shows a home, or, with `program`, what another module of Python shows.
    """

    def __init__(self, home: Home | None, program: Sequence[str] = ("-m", "gpuscale_tui")) -> None:
        self.begun = time.perf_counter()
        self.output = b""
        environ = {
            **clean_environ(), "TERM": "xterm-256color", "LANG": "C.UTF-8", "GPUSCALE_CONFIG": "/dev/null",
        }  # fmt: skip
        if home is not None:
            environ["GPUSCALE_HOME"] = str(home.path)
        environ.pop("NO_COLOR", None)
        self.pid, self._end = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
            os.execvpe(sys.executable, [sys.executable, *program], environ)  # noqa: S606 - no shell is meant

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._end)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._end, keys.encode())

    def read(self, within_sec: float) -> bytes:
        """What it writes next, empty when it writes nothing for so long."""
        ready, _, _ = select.select([self._end], [], [], within_sec)
        if not ready:
            return b""
        found = os.read(self._end, 65_536)
        self.output += found
        return found

    def wait_for(self, words: str, after: int = 0) -> float:
        """Seconds since its start until it has written some words, after so many bytes."""
        deadline = time.monotonic() + PATIENCE_SEC
        while words.encode() not in self.output[after:]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the screen has not shown {words!r} within {PATIENCE_SEC:g} s")
            self.read(0.1)
        return time.perf_counter() - self.begun

    def settle(self, quiet_sec: float = 0.4) -> None:
        """Until it has written nothing for a moment."""
        deadline = time.monotonic() + PATIENCE_SEC
        while self.read(quiet_sec) and time.monotonic() < deadline:
            pass

    def written_in(self, seconds: float) -> int:
        """How many bytes it writes in so long."""
        begin, deadline = len(self.output), time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.read(left)
        return len(self.output) - begin

    def effect_of(self, keys: str, words: str) -> float:
        """Seconds from pressing keys until some words are written because of them."""
        at, begin = len(self.output), time.perf_counter()
        self.type(keys)
        self.wait_for(words, at)
        return time.perf_counter() - begin

    def answer_to(self, keys: str) -> float:
        """Seconds from pressing keys to the first byte that comes of it."""
        begin = time.perf_counter()
        self.type(keys)
        if not self.read(PATIENCE_SEC):
            raise TimeoutError(f"the screen does not answer to {keys!r}")
        return time.perf_counter() - begin
