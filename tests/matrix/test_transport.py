"""F8, F9, F13 below the engine: names that do not resolve, TLS that is none, bodies that explode, links that crawl."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Need, Offer
from gpuscale_tui.providers.base import ProviderError, RentRefused, RentRequest, Unknown
from gpuscale_tui.providers.clore.api import CloreApi
from gpuscale_tui.providers.clore.limiter import Limiter
from gpuscale_tui.providers.clore.provider import CloreProvider
from gpuscale_tui.remote import connection
from gpuscale_tui.remote.attempts import AttemptRef, Exit, execute
from gpuscale_tui.remote.connection import connect
from gpuscale_tui.remote.errors import Unreachable
from gpuscale_tui.remote.keys import ensure_client_key
from gpuscale_tui.remote.launch import Launch
from tests.remote.conftest import Log, in_process
from tests.remote.proxy import proxying

NEED = Need("cloreai/jupyter:ubuntu24.04-v2", "RTX 4090", 1, None)
QUOTE = '{"price": "6", "currency": "USD-Blockchain", "usd": "6"}'
OFFER = Offer("clore", "77", "RTX 4090", 1, Terms(300_000), quote=QUOTE)
REQUEST = RentRequest("token", OFFER, NEED.image, "ssh-ed25519 AAAA x", 300_000, 0)
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[int]:
    """Something that listens on 127.0.0.1; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer(reader, writer)
            await writer.drain()
            await reader.read()
        except OSError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def provider_at(url: str, deadline_sec: float = 30.0) -> AsyncIterator[CloreProvider]:
    """The provider, without waiting between calls."""
    provider = CloreProvider(CloreApi("k" * 32, url, Limiter(0, 0), deadline_sec=deadline_sec))
    try:
        yield provider
    finally:
        await provider.aclose()


async def nothing_is_concluded(provider: CloreProvider, outcome: type) -> None:
    """Reads raise, a create is judged, a release raises: never a crash, never an empty list."""
    with pytest.raises(ProviderError):
        await provider.rentals()
    with pytest.raises(ProviderError):
        await provider.offers(NEED)
    with pytest.raises(ProviderError):
        await provider.release("7")
    assert isinstance(await provider.rent(REQUEST), outcome)


async def test_f08_a_name_that_does_not_resolve() -> None:
    """I2 I10: nothing was sent: no order, and that is certain."""
    async with provider_at("https://no-such-host.invalid/v1") as provider:
        await nothing_is_concluded(provider, RentRefused)


async def test_f08_tls_that_is_none() -> None:
    """I2 I10: the handshake fails before a byte of the call is sent."""

    def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async with listening(plain) as port, provider_at(f"https://127.0.0.1:{port}/v1") as provider:
        await nothing_is_concluded(provider, RentRefused)


async def test_f08_an_answer_that_never_comes() -> None:
    """I2 I10: each call ends at its deadline; whether there is an order nobody knows."""
    async with (
        listening(lambda reader, writer: None) as port,
        provider_at(f"http://127.0.0.1:{port}/v1", deadline_sec=0.2) as provider,
    ):
        await nothing_is_concluded(provider, Unknown)


async def test_f09_a_body_that_explodes() -> None:
    """I2 I10: a hundred megabytes in a hundred kilobytes are given up at the limit, not unpacked first."""
    bomb = gzip.compress(b" " * 100_000_000, 1)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    async with (
        listening(lambda reader, writer: writer.write(head + bomb)) as port,
        provider_at(f"http://127.0.0.1:{port}/v1") as provider,
    ):
        with pytest.raises(ProviderError, match="larger than"):
            await provider.rentals()
        assert isinstance(await provider.rent(REQUEST), Unknown)


@pytest.fixture(scope="module")
def client_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our private key."""
    path = tmp_path_factory.mktemp("keys") / "client" / "id_ed25519"
    ensure_client_key(path)
    return path


async def test_f13_a_link_of_one_byte_at_a_time(tmp_path: Path, client_key: Path) -> None:
    """I4 I5 I9: everything arrives in single bytes, both ways: slow, and exact."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    async with (
        in_process("dash", tmp_path, client_key=client_key, host_key=host_key) as site,
        proxying(site.endpoint.port) as proxy,
    ):
        proxy.grain = 1
        machine = await site.connect(port=proxy.port)
        log = Log()
        launch = Launch(command="echo run >> ../ran; echo one; echo two; exit 3")
        ended = await execute(machine, AttemptRef(".g", "j1"), launch, offset=0, sink=log)
        assert (ended, bytes(log.data)) == (Exit(3, False, 8), b"one\ntwo\n")
        assert (site.home / ".g" / "j1" / "ran").read_text() == "run\n"
        await machine.close()


async def test_f13_a_channel_that_never_opens(client_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I4 I10: the login works, the channel hangs: it is given up, and the connection counts as lost."""
    monkeypatch.setattr(connection, "CHANNEL_OPEN_SEC", 0.3)

    class Silent(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

        def session_requested(self) -> object:
            return asyncio.get_running_loop().create_future()  # never answered

    host_key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen("127.0.0.1", 0, server_factory=Silent, server_host_keys=[host_key])
    machine = await connect(Endpoint("127.0.0.1", server.get_port()), client_key=client_key)
    with pytest.raises(Unreachable):
        await machine.run("true", label="probe")
    await machine.close()
    server.close()
    await server.wait_closed()
