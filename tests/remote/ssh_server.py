"""An SSH server inside the test process that runs a shell of our choice in a home of its own, as sshd would."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncssh

CHUNK = 64 * 1024


class ShellServer:
    """Runs `shell -c COMMAND` for each exec request.

    Like sshd it only closes the pipes when a channel goes; with `kill_on_close` it kills the session's process group
    too, as some container hosts do. `prelude` is what the login shell does before the command.
    """

    def __init__(self, shell: str, home: Path) -> None:
        self.shell = shell
        self.home = home
        self.kill_on_close = False
        self.prelude = ""
        self.path = os.environ["PATH"]
        self.commands: list[str] = []
        self._children: list[asyncio.subprocess.Process] = []

    async def handle(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Serve one exec request to its end."""
        command = process.command or ""
        self.commands.append(command)
        ours, theirs = zip(*(os.pipe()[::step] for step in (-1, 1, 1)), strict=True)
        child = await asyncio.create_subprocess_exec(
            *(self.shell, "-c", self.prelude + command),
            stdin=theirs[0],
            stdout=theirs[1],
            stderr=theirs[2],
            env={"HOME": str(self.home), "PATH": self.path, "LANG": "C.UTF-8"},
            cwd=self.home,
            start_new_session=True,
        )
        self._children.append(child)
        for descriptor in theirs:
            os.close(descriptor)
        await self._pump(process, child, ours)

    async def _pump(
        self, process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process, ours: tuple[int, ...]
    ) -> None:
        feeding = asyncio.create_task(_feed(process.stdin, ours[0]))
        draining = [
            asyncio.create_task(_drain(ours[1], process.stdout)),
            asyncio.create_task(_drain(ours[2], process.stderr)),
        ]
        gone = asyncio.create_task(process.channel.wait_closed())
        ended = asyncio.gather(child.wait(), *draining, return_exceptions=True)
        try:
            await asyncio.wait([gone, ended], return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                code = child.returncode or 0
                process.exit(code if code >= 0 else 128 - code)
        finally:
            for task in (feeding, *draining, gone, ended):
                task.cancel()
            await asyncio.gather(feeding, *draining, gone, ended, return_exceptions=True)
            if self.kill_on_close and child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)

    async def finish(self) -> None:
        """End what is left of the sessions' own shells, so that nothing outlives the test."""
        for child in self._children:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    child.kill()
                await child.wait()


async def _feed(source: asyncssh.SSHReader[bytes], descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(descriptor, "wb", buffering=0)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, pipe)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    try:
        with suppress(OSError, asyncssh.Error):
            while data := await source.read(CHUNK):
                writer.write(data)
                await writer.drain()
            transport.close()  # flushes first
            await writer.wait_closed()
    finally:
        if not transport.is_closing():  # asyncio's pipes break when closed twice
            transport.abort()


async def _drain(descriptor: int, target: asyncssh.SSHWriter[bytes]) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        with suppress(OSError, asyncssh.Error):
            while data := await reader.read(CHUNK):
                target.write(data)
                await target.drain()
    finally:
        transport.close()


class _OneKey(asyncssh.SSHServer):
    def __init__(self, public_key: str | None) -> None:
        self._key = None if public_key is None else asyncssh.import_public_key(public_key)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return self._key is not None and key.public_data == self._key.public_data


Handler = Callable[[asyncssh.SSHServerProcess[bytes]], object]


@asynccontextmanager
async def listening(handler: Handler, *, public_key: str | None, host_key: asyncssh.SSHKey) -> AsyncIterator[int]:
    """A server on 127.0.0.1 that hands each exec request to `handler`; its port."""
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=lambda: _OneKey(public_key),
        server_host_keys=[host_key],
        process_factory=handler,
        encoding=None,
        allow_scp=False,
    )
    try:
        yield server.get_port()
    finally:
        server.close()
        await server.wait_closed()
