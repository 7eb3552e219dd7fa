"""A small HTTP/1.1 server: h11 does the parsing, asyncio streams the bytes.

It knows nothing of marketplaces. A handler gets a whole request and returns a whole reply, or asks for the
connection to be reset instead of answered (that is one of the faults).
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import h11

READ_SIZE = 65536
MAX_BODY = 1 << 20
IDLE_SECONDS = 75.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read to its end. Header names are lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None when there is no body. Raises ValueError when it is not JSON."""
        return json.loads(self.body) if self.body else None


@dataclass(frozen=True, slots=True)
class Response:
    """One reply. With `reset` nothing is sent: the connection is cut with a TCP reset."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    reset: bool = False


Handler = Callable[[Request], Awaitable[Response]]


def json_response(status: int, content: Any) -> Response:
    """A JSON reply."""
    return Response(status, json.dumps(content).encode())


class _TooLarge(Exception):
    """A request body over MAX_BODY."""


class HttpServer:
    """Serves one handler on 127.0.0.1. An async context manager; leaving it cuts all connections."""

    def __init__(self, handler: Handler, port: int = 0) -> None:
        self._handler = handler
        self._wanted_port = port
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._wanted_port)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=5)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._one_exchange(connection, reader, writer):
                connection.start_next_cycle()
        except (ConnectionError, TimeoutError, h11.LocalProtocolError):
            pass  # the client went away, or stayed silent for too long: nobody is left to tell
        finally:
            writer.close()

    async def _one_exchange(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request. True when the connection can carry another one."""
        try:
            request = await _read_request(connection, reader)
        except (h11.RemoteProtocolError, _TooLarge):
            await _send(connection, writer, Response(400, b"bad request", "text/plain"))
            return False
        if request is None:
            return False
        response = await self._handler(request)
        if response.reset:
            _reset(writer)
            return False
        await _send(connection, writer, response)
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE


async def _next_event(connection: h11.Connection, reader: asyncio.StreamReader) -> Any:
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        async with asyncio.timeout(IDLE_SECONDS):
            connection.receive_data(await reader.read(READ_SIZE))


async def _read_request(connection: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
    """The next whole request, or None when the client closed the connection."""
    head = await _next_event(connection, reader)
    if not isinstance(head, h11.Request):
        return None
    body = bytearray()
    while isinstance(event := await _next_event(connection, reader), h11.Data):
        body += event.data
        if len(body) > MAX_BODY:
            raise _TooLarge
    if not isinstance(event, h11.EndOfMessage):
        return None
    target = urlsplit(head.target.decode("ascii", "replace"))
    headers = {name.decode("ascii", "replace"): value.decode("latin-1") for name, value in head.headers}
    return Request(head.method.decode("ascii"), target.path, dict(parse_qsl(target.query)), headers, bytes(body))


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, response: Response) -> None:
    headers = {"content-type": response.content_type, "content-length": str(len(response.body)), **response.headers}
    reason = HTTPStatus(response.status).phrase.encode()
    head = h11.Response(status_code=response.status, headers=list(headers.items()), reason=reason)
    for event in (head, h11.Data(data=response.body), h11.EndOfMessage()):
        writer.write(connection.send(event) or b"")
    async with asyncio.timeout(IDLE_SECONDS):
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Cut the connection so that the client sees "connection reset" and not a clean end."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
