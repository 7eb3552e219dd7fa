"""One engine a home: an exclusive file lock, released by the kernel however the process ends."""

from __future__ import annotations

import fcntl
import os
from types import TracebackType
from typing import Self

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.store.home import Home, private_opener


class EngineRunning(GpuscaleError):
    """Another engine holds this home."""

    def __init__(self, home: Home, pid: int | None) -> None:
        super().__init__(
            f"an engine already runs for {home.path}"
            + (f" (pid {pid})" if pid else "")
            + ": end it with `gpuscale stop`, or open the screen with `gpuscale` to attach"
        )
        self.pid = pid


class EngineLock:
    """Held while an engine lives. A context manager."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock or raise EngineRunning at once."""
        self._home.ensure()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = private_opener(str(self._home.lock), flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise EngineRunning(self._home, _read_pid(self._home)) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def running_engine(home: Home) -> int | None:
    """Pid of the engine that holds this home now, None when there is none (0 when its pid cannot be read)."""
    try:
        descriptor = os.open(home.lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _read_pid(home) or 0
    finally:
        os.close(descriptor)
    return None


def _read_pid(home: Home) -> int | None:
    try:
        text = home.lock.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
