"""The real program on a pseudo terminal, and every byte that it writes there."""

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

PATIENCE_SEC = 90.0


class Pty:
    """`gpuscale ARGUMENTS` on a pseudo terminal."""

    def __init__(self, arguments: list[str], *, columns: int = 80, lines: int = 24, **environ: str) -> None:
        self.pid, self._end = pty.fork()
        if self.pid == 0:
            variables = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environ}
            for name in ("NO_COLOR", "COLUMNS", "LINES"):  # the terminal says itself how large it is
                variables.pop(name, None)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            os.execvpe(sys.executable, [sys.executable, "-m", "gpuscale_tui", *arguments], variables)
        self.output = b""
        self.code: int | None = None

    def read(self, seconds: float) -> bytes:
        """What it writes within some time, at least until something came."""
        ready, _, _ = select.select([self._end], [], [], seconds)
        if not ready:
            return b""
        try:
            part = os.read(self._end, 65_536)
        except OSError:
            part = b""
        self.output += part
        return part

    def wait_for(self, words: bytes, *, after: int = 0) -> None:
        """Until it has written some words, after so many bytes."""
        deadline = time.monotonic() + PATIENCE_SEC
        while words not in self.output[after:]:
            assert time.monotonic() < deadline, self.output[-2000:]
            self.read(0.2)

    def quiet_for(self, seconds: float) -> None:
        """Until it has written nothing for so long; one that writes again and again never is."""
        deadline = time.monotonic() + PATIENCE_SEC
        while self.read(seconds):
            assert time.monotonic() < deadline, self.output[-2000:]

    def send(self, keys: bytes) -> None:
        """Type."""
        os.write(self._end, keys)

    def over(self) -> bool:
        """Whether it has ended; then `code` is its exit code."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def ended(self, *, reading: bool = True) -> int:
        """Its exit code, once it has ended."""
        deadline = time.monotonic() + PATIENCE_SEC
        while not self.over():
            assert time.monotonic() < deadline, "it has not ended"
            if reading:
                self.read(0.05)
            else:
                time.sleep(0.05)
        assert self.code is not None
        return self.code

    def hang_up(self) -> None:
        """The line drops."""
        os.close(self._end)
        self._end = -1

    def close(self) -> None:
        """Leave nothing behind."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        if self._end >= 0:
            os.close(self._end)
