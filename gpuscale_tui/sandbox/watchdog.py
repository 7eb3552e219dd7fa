"""A small child process that outlives a killed sandbox just long enough to clean up after it.

It waits on a pipe whose other end only the sandbox holds. When that end closes, however the sandbox came to its end,
it ends all processes that carry the sandbox's mark, removes its directory and exits. It has a session of its own, so
no signal to the sandbox's group reaches it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from typing import Never

from gpuscale_tui.sandbox.processes import Target, end


@dataclass(frozen=True, slots=True)
class Watchdog:
    """The child, and our end of its pipe."""

    pid: int
    pipe: int

    def release(self) -> None:
        """Tell it that we are done, and wait until it has gone. Blocks for as long as a last sweep takes."""
        os.close(self.pipe)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def start_watchdog(target: Target) -> Watchdog:
    """Fork the watchdog. Call it before any thread or event loop exists."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _watch(read_end, write_end, target)
    os.close(read_end)
    return Watchdog(pid, write_end)


def _watch(read_end: int, write_end: int, target: Target) -> Never:
    """The child's life. Never returns into the program that forked it."""
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(write_end)
        silence = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(silence, fd)
        while os.read(read_end, 1):
            pass
        end(target)
    finally:
        os._exit(0)
