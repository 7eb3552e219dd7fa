"""One SSH session: a real process, its three streams carried byte by byte, its exit status at the end.

It behaves as OpenSSH's sshd does without a terminal (`terminals` has them): the channel stays open until the process
has ended and nobody holds its output any more; a client that goes away closes the pipes but kills nothing, so detached
work goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncssh

CHUNK = 65536
Process = asyncssh.SSHServerProcess[bytes]
GONE = (asyncssh.Error, OSError)
"""What the SSH side raises once the client has gone."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how a machine's processes run."""

    directory: Path
    env: Mapping[str, str]
    nice: int = 0

    def argv(self, command: str | None) -> list[str]:
        """The words to run: a command through the shell, or a shell that reads its standard input."""
        nice = ["nice", "-n", str(self.nice)] if self.nice else []
        return [*nice, "/bin/sh", *(["-c", command] if command is not None else [])]


async def run_session(process: Process, place: Place) -> None:
    """Run one exec or shell request to its end and report how it ended. Never raises because the client went away."""
    if process.subsystem is not None:
        process.exit(127)
        return
    ours, theirs = _pipes()
    try:
        child = await _spawn(process, place, theirs)
    except OSError:  # the machine went down while the request was on its way
        for fd in ours:
            os.close(fd)
        report(process, 255)
        return
    feeder = asyncio.create_task(_feed(process, ours[0], child.pid))
    pumps = asyncio.create_task(_pump_both(process, ours[1], ours[2]))
    gone = asyncio.create_task(process.wait_closed())
    try:
        await asyncio.wait({pumps, gone}, return_when=asyncio.FIRST_COMPLETED)
        pumps.cancel()  # does nothing unless the client went first: then the pipes are closed
        feeder.cancel()
        status = await child.wait()
    finally:
        for task in (feeder, pumps, gone):
            task.cancel()
    report(process, status)


def _pipes() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
    return (stdin[1], stdout[0], stderr[0]), (stdin[0], stdout[1], stderr[1])


async def _spawn(process: Process, place: Place, fds: tuple[int, int, int]) -> asyncio.subprocess.Process:
    """Start the child on its ends of the pipes, which are closed here in any case."""
    try:
        return await asyncio.create_subprocess_exec(
            *place.argv(process.command),
            stdin=fds[0],
            stdout=fds[1],
            stderr=fds[2],
            cwd=place.directory,
            env=dict(place.env),
            start_new_session=True,
        )
    finally:
        for fd in fds:
            os.close(fd)


async def _pump_both(process: Process, stdout: int, stderr: int) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_pump(stdout, process.stdout))
        group.create_task(_pump(stderr, process.stderr))


async def _pump(source: int, sink: asyncssh.SSHWriter[bytes]) -> None:
    """Carry a stream of the child to the client. When the client goes away the pipe is closed, as sshd does."""
    reader = asyncio.StreamReader(limit=CHUNK)
    pipe = os.fdopen(source, "rb", 0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        while data := await reader.read(CHUNK):
            sink.write(data)
            await sink.drain()
    except GONE:
        return
    finally:
        transport.close()


async def _feed(process: Process, sink: int, child: int) -> None:
    """Carry the client's input to the child, close it when the client says so, and deliver signals."""
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(sink, "wb", 0)
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), pipe
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    try:
        while (data := await _next_input(process, child)) != b"":
            writer.write(data)
            await writer.drain()
    except GONE:
        return  # the client has gone or the child reads no more: either way there is nothing left to carry
    finally:
        transport.close()


async def _next_input(process: Process, child: int) -> bytes:
    while True:
        try:
            return await process.stdin.read(CHUNK)
        except asyncssh.SignalReceived as request:
            _signal(child, request.signal)
        except (asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
            continue  # these mean something on a terminal only


def _signal(child: int, name: str) -> None:
    number = getattr(signal, f"SIG{name}", None)
    if number is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, number)


def report(process: Process, status: int) -> None:
    """Tell the client how it ended, if it is still there."""
    with contextlib.suppress(*GONE):
        if status >= 0:
            process.exit(status)
        else:
            process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
