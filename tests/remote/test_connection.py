"""Keys, host keys, refusals: each named for what it is."""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import asyncssh
import pytest

from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.remote.connection import connect
from gpuscale_tui.remote.errors import AuthRefused, HostKeyChanged, Unreachable
from gpuscale_tui.remote.keys import ensure_client_key
from tests.remote.conftest import Site


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "home" / "keys" / "id_ed25519"
    line = ensure_client_key(path)
    assert line.startswith("ssh-ed25519 AAAA")
    assert line.endswith(" gpuscale")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert ensure_client_key(path) == line
    assert [entry.name for entry in path.parent.iterdir()] == ["id_ed25519"]


async def test_two_programs_make_one_key(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "id"
    lines = await asyncio.gather(*(asyncio.to_thread(ensure_client_key, path) for _ in range(8)))
    assert len(set(lines)) == 1


def test_a_broken_key_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "id"
    path.write_text("not a key")
    with pytest.raises(AuthRefused, match=str(path)):
        ensure_client_key(path)
    assert path.read_text() == "not a key"


async def test_the_first_host_key_is_told_and_then_pinned(site: Site) -> None:
    first = await connect(
        Endpoint(site.endpoint.host, site.endpoint.port, site.endpoint.user), client_key=site.client_key
    )
    assert first.host_key.startswith("ssh-ed25519 AAAA")
    await first.close()
    pinned = Endpoint(site.endpoint.host, site.endpoint.port, site.endpoint.user, host_key=first.host_key)
    again = await connect(pinned, client_key=site.client_key)
    assert again.host_key == first.host_key
    assert not again.closed
    await again.close()
    await again.close()
    assert again.closed
    with pytest.raises(Unreachable):
        await again.run("true", label="probe")


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"])
async def test_another_host_key_is_refused(site: Site, kind: str) -> None:
    other = asyncssh.generate_private_key(kind).export_public_key("openssh").decode()
    endpoint = Endpoint(site.endpoint.host, site.endpoint.port, site.endpoint.user, host_key=other)
    with pytest.raises(HostKeyChanged, match="pinned"):
        await connect(endpoint, client_key=site.client_key)


async def test_a_strange_key_is_refused(site: Site, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    ensure_client_key(stranger)
    with pytest.raises(AuthRefused, match="authorized_keys"):
        await connect(site.endpoint, client_key=stranger)
    own = Endpoint(site.endpoint.host, site.endpoint.port, site.endpoint.user, key_file=str(site.client_key))
    machine = await connect(own, client_key=stranger)  # the host's own key file wins
    await machine.close()
    with pytest.raises(AuthRefused, match="missing"):
        await connect(site.endpoint, client_key=tmp_path / "missing")


async def test_nobody_home(client_key: Path) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Unreachable, match=f"root@127.0.0.1:{port}"):
        await connect(Endpoint("127.0.0.1", port), client_key=client_key)
    server.close()
    await server.wait_closed()
    with pytest.raises(Unreachable, match="check address and port"):
        await connect(Endpoint("127.0.0.1", port), client_key=client_key)
    with pytest.raises(Unreachable):
        await connect(Endpoint("no-such-host.invalid"), client_key=client_key)


async def test_a_banner_that_never_comes(client_key: Path) -> None:
    async with AsyncExitStack() as stack:
        writers: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda reader, writer: writers.append(writer), "127.0.0.1", 0)
        stack.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match=r"no answer within 0\.2 s"):
            await connect(Endpoint("127.0.0.1", port), client_key=client_key, timeout_sec=0.2)
        for writer in writers:
            writer.close()


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint("-oProxyCommand=x"),
        Endpoint(""),
        Endpoint("a b"),
        Endpoint("host\n"),
        Endpoint("$(id)"),
        Endpoint("a;b"),
        Endpoint("h", user="-x"),
        Endpoint("h", user=""),
        Endpoint("h", user="a b"),
        Endpoint("h", user="a;b"),
        Endpoint("h", port=0),
        Endpoint("h", port=65_536),
    ],
)
async def test_addresses_that_no_machine_has(client_key: Path, endpoint: Endpoint) -> None:
    with pytest.raises(ValueError, match=r"host|user|port"):
        await connect(endpoint, client_key=client_key)


async def test_no_agent_and_no_configuration_take_part(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = Path(os.environ["HOME"]) / ".ssh"
    ssh.mkdir()
    (ssh / "config").write_text("Host *\n  ProxyCommand false\n  Port 1\n")
    (ssh / "known_hosts").write_text(f"[{site.endpoint.host}]:{site.endpoint.port} ssh-ed25519 AAAA\n")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    machine = await site.connect()
    assert (await machine.run("echo $SSH_AUTH_SOCK", label="probe")).stdout == b"\n"


async def test_run(site: Site) -> None:
    machine = await site.connect()
    done = await machine.run("cat; echo problem >&2; pwd; exit 3", stdin=b"in\0put" * 100_000, label="probe")
    assert done.exit_status == 3
    assert done.stdout == b"in\0put" * 100_000 + f"{site.home}\n".encode()
    assert done.stderr == b"problem\n"
    many = await asyncio.gather(*(machine.run(f"echo {number}", label="probe") for number in range(20)))
    assert [int(each.stdout) for each in many] == list(range(20))
