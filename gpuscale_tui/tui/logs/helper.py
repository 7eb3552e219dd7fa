"""A process that runs the user's regular expressions, so that none of them can hold up the screen or the engine.

Some expressions take for ever on some lines, hold Python's global lock meanwhile and cannot be interrupted. Here the
kernel ends them: before each step the helper sets a timer of its own processor time (`ITIMER_VIRTUAL`), whose signal
ends the process; the screen then says that the expression was too slow, and the next question starts a new helper. It
ends with its standard input, so it never outlives the screen.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import IO

import msgspec

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.store.database import in_snapshot
from gpuscale_tui.store.logs import connect_logs
from gpuscale_tui.tui.logs.scan import Found, Reply, Request, Slice, Spans, Texts, run, spans

LIMIT_SEC = 1.0
"""Processor time that a step may take: 64 KiB of output, or the lines on the screen."""
_LENGTH = struct.Struct("!I")
LONGEST_PATTERN = 500


class SearchError(GpuscaleError, ValueError):
    """What was typed is no regular expression, or one that is too slow; the message says which."""


def compiled(text: str) -> tuple[str, int]:
    """What to look for: a regular expression and its flags; capital letters count only where there are some.

    Raises SearchError with the reason and the place.
    """
    flags = re.IGNORECASE if text == text.lower() else 0
    if len(text) > LONGEST_PATTERN:
        raise SearchError(f"longer than {LONGEST_PATTERN} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text, flags)
    except re.error as error:
        where = f" at character {error.pos + 1}" if error.pos is not None else ""
        raise SearchError(f"{error.msg}{where}") from error
    except (RecursionError, OverflowError) as error:
        raise SearchError("too deeply nested, or a number is too large") from error
    return text, flags


class Helper:
    """The helper process over one log file; it is started by the first question. Safe to use from any thread."""

    def __init__(self, path: Path, limit: float = LIMIT_SEC) -> None:
        self._path = path
        self._limit = limit
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    async def look(self, task: Slice) -> Found:
        """Carry out a slice. Raises SearchError where the expression is too slow, GpuscaleError where it fails."""
        reply = await asyncio.to_thread(self._exchange, task)
        assert isinstance(reply, Found)
        return reply

    async def spans(self, task: Texts) -> Spans:
        """Where the matches are in some texts. Raises as `look` does."""
        reply = await asyncio.to_thread(self._exchange, task)
        assert isinstance(reply, Spans)
        return reply

    async def close(self) -> None:
        """End the process; a step that it is at ends with it."""
        process = self._process
        if process is not None:
            process.kill()
            await asyncio.to_thread(self._reap)

    def _exchange(self, task: Request) -> Reply:
        with self._lock:
            if self._process is None:
                self._process = _start(self._path, self._limit)
            process = self._process
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                _send(process.stdin, msgspec.msgpack.encode(task))
                answer = _receive(process.stdout)
            except (OSError, EOFError):
                answer = b""
            if not answer:
                raise _ended(self._end(process))
            reply: Reply | str = msgspec.msgpack.decode(answer, type=Found | Spans | str)
            if isinstance(reply, str):
                raise GpuscaleError(reply)
            return reply

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        self._process = None
        process.kill()
        with contextlib.suppress(BrokenPipeError), process:  # what it was not told any more need not be told
            process.wait()
        return process.wait()

    def _reap(self) -> None:
        with self._lock:
            if self._process is not None:
                self._end(self._process)


def _ended(code: int) -> GpuscaleError:
    if code == -signal.SIGVTALRM:
        return SearchError("this expression takes too long here: it was stopped; try a simpler one")
    return GpuscaleError(f"the search ended early (exit {code})")


def _start(path: Path, limit: float) -> subprocess.Popen[bytes]:
    import gpuscale_tui

    root = str(Path(gpuscale_tui.__file__).resolve().parent.parent)
    code = f"import sys; sys.path.insert(0, {root!r}); from gpuscale_tui.tui.logs.helper import main; main()"
    command = [sys.executable, "-P", "-c", code, str(path), str(limit)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _send(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    body = pipe.read(_LENGTH.unpack(head)[0])
    if len(body) < _LENGTH.unpack(head)[0]:
        raise EOFError
    return body


def main() -> None:
    """The process: answers questions from its standard input until that ends."""
    path, limit = Path(sys.argv[1]), float(sys.argv[2])
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    os.nice(5)
    connection: sqlite3.Connection | None = None
    while True:
        try:
            task = msgspec.msgpack.decode(_receive(sys.stdin.buffer), type=Slice | Texts)
        except EOFError:
            return
        answer: Reply | str
        try:
            if isinstance(task, Slice):
                connection = connection or connect_logs(path, readonly=True)
                answer = in_snapshot(connection, run, task, lambda: _arm(limit))
            else:
                answer = spans(task, lambda: _arm(limit))
        except (GpuscaleError, sqlite3.Error, OSError) as error:
            answer = str(error)
        _arm(0)
        _send(sys.stdout.buffer, msgspec.msgpack.encode(answer))


def _arm(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
