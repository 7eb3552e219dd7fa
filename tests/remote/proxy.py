"""A TCP proxy that cuts or freezes the connections through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Forwards to `target`. `cut` ends all connections; `cut_up` and `cut_down` end them after so many bytes more."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.up = 0
        self.down = 0
        self.cut_up: int | None = None
        self.cut_down: int | None = None
        self.each_down: Callable[[], int] | None = None
        """Gives each new connection the number of bytes after which it is cut."""
        self.frozen = False
        self.grain = 16 * 1024
        """The most bytes that are passed on at a time."""
        self.held = False
        """While set nothing passes, and nothing is lost: a network that is away and comes back."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """End every connection now, in both directions, as a lost network would once it is noticed."""
        for writer in self._writers:
            writer.transport.abort()
        self.cut_up = self.cut_down = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers |= {writer, there_writer}
        try:
            up = asyncio.create_task(self._copy(reader, there_writer, "up"))
            down = asyncio.create_task(self._copy(there_reader, writer, "down"))
            self._tasks |= {up, down}
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (writer, there_writer):
                self._writers.discard(each)
                each.transport.abort()
            await asyncio.gather(up, down, return_exceptions=True)
            self._tasks -= {task, up, down}

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, direction: str) -> None:
        own = self.each_down() if self.each_down is not None and direction == "down" else None
        with suppress(OSError):
            while data := await source.read(self.grain if own is None else max(1, min(own, self.grain))):
                if self.frozen:
                    continue
                while self.held:  # noqa: ASYNC110 - turned by another thread, which may set no event
                    await asyncio.sleep(0.02)
                if own is not None:
                    own -= len(data)
                    if own <= 0:
                        break
                limit: int | None = getattr(self, f"cut_{direction}")
                target.write(data if limit is None else data[: max(0, limit)])
                await target.drain()
                setattr(self, direction, getattr(self, direction) + len(data))
                if limit is not None:
                    setattr(self, f"cut_{direction}", limit - len(data))
                    if limit <= len(data):
                        self.cut()
        target.transport.abort()

    async def finish(self) -> None:
        """End everything."""
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def proxying(target: int) -> AsyncIterator[Proxy]:
    """A proxy before the port `target` on 127.0.0.1."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.finish()
        await server.wait_closed()
