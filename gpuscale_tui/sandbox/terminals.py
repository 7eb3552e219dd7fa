"""A session with a terminal: somebody's shell on a machine, as sshd gives one."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import struct
import termios

import asyncssh

from gpuscale_tui.sandbox.sessions import CHUNK, GONE, Place, Process, report

END_OF_FILE = b"\x04"
WRITABLE_SEC = 1.0
DRAIN_SEC = 2.0
"""How long the end of a shell waits for output of what it left behind on its terminal."""
# $1 a terminal, then the words. The first terminal that the leader of a new session opens becomes its own.
ON_TERMINAL = 'terminal=$1; shift; exec "$@" <>"$terminal" >&0 2>&1'


async def run_on_terminal(process: Process, place: Place) -> None:
    """Run one exec or shell request on a terminal of its own, to its end or until the client has gone: then it is
    hung up. Never raises because the client went away."""
    ours, theirs = os.openpty()
    try:
        _resize(ours, *process.term_size[:2])
        child = await _spawn(process, place, os.ttyname(theirs))
    except OSError:  # the machine went down while the request was on its way
        os.close(ours)
        os.close(theirs)
        report(process, 255)
        return
    shown = asyncio.create_task(_show(os.dup(ours), process))
    typed = asyncio.create_task(_type(ours, process))
    gone = asyncio.create_task(process.wait_closed())
    ended = asyncio.create_task(child.wait())
    try:
        await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
        os.close(theirs)  # held until now: a terminal that nobody has open yet would be over for its reader
        if ended.done():
            await asyncio.wait({shown}, timeout=DRAIN_SEC)
    finally:
        for task in (shown, typed, gone):
            task.cancel()
        await asyncio.gather(shown, typed, gone, return_exceptions=True)
    report(process, await ended)


async def _spawn(process: Process, place: Place, terminal: str) -> asyncio.subprocess.Process:
    words = place.argv(process.command) if process.command is not None else [*place.argv(None), "-i"]
    return await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", ON_TERMINAL, "terminal", terminal, *words,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        cwd=place.directory, env={**place.env, "TERM": process.term_type or "dumb"}, start_new_session=True,
    )  # fmt: skip


def _resize(terminal: int, columns: int, lines: int) -> None:
    with contextlib.suppress(OSError, struct.error):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def _write(terminal: int, data: bytes) -> None:
    """The terminal is open without blocking: whoever reads it shares that with us."""
    while data:
        try:
            data = data[os.write(terminal, data) :]
        except BlockingIOError:
            select.select([], [terminal], [], WRITABLE_SEC)


async def _show(terminal: int, process: Process) -> None:
    """Carry what is written on the terminal to the client, until nobody has it open any more."""
    reader = asyncio.StreamReader(limit=CHUNK)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(terminal, "rb", 0)
    )
    try:
        while data := await reader.read(CHUNK):
            process.stdout.write(data)
            await process.stdout.drain()
    except GONE:
        return
    finally:
        transport.close()


async def _type(terminal: int, process: Process) -> None:
    """Carry what the client types to the terminal, which is closed at the end."""
    try:
        while True:
            try:
                data = await process.stdin.read(CHUNK)
            except asyncssh.TerminalSizeChanged as change:
                _resize(terminal, change.width, change.height)
                continue
            except (asyncssh.BreakReceived, asyncssh.SignalReceived):
                continue
            await asyncio.to_thread(_write, terminal, data or END_OF_FILE)
            if not data:
                return
    except GONE:
        return
    finally:
        os.close(terminal)
