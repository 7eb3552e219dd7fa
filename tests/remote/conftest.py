"""Machines to test on: OpenSSH's sshd, and a server of our own with each of three shells."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import pytest

from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.remote.attempts import AttemptRef, Exit, execute
from gpuscale_tui.remote.connection import Machine, connect
from gpuscale_tui.remote.keys import ensure_client_key
from gpuscale_tui.remote.launch import Launch
from tests.remote.ssh_server import ShellServer, listening
from tests.sshd import SshdInfo, running_sshd, sshd_missing

PATIENCE_SEC = 90
# What must wait for real seconds runs on the two machines that differ most: one server and userland, or the other.
SLOW_SITES = [pytest.param("openssh", marks=pytest.mark.openssh), "busybox"]
SHELLS = {"dash": "/bin/dash", "bash": "/bin/bash", "busybox": "/usr/bin/busybox"}


@dataclass(slots=True)
class Site:
    """One machine under test: where it is, and its home as seen from this side."""

    endpoint: Endpoint
    client_key: Path
    shell: str
    home: Path
    server: ShellServer | None = None
    machines: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def connect(self, *, port: int | None = None, keepalive_sec: float = 15) -> Machine:
        """A new connection, through a proxy's `port` if given; closed at the end of the test."""
        endpoint = self.endpoint if port is None else Endpoint(self.endpoint.host, port, self.endpoint.user)
        more = {"keepalive_sec": keepalive_sec, "timeout_sec": PATIENCE_SEC}
        machine = await connect(endpoint, client_key=self.client_key, shell=self.shell, **more)
        self.machines.push_async_callback(machine.close)
        return machine

    def path(self, ref: AttemptRef) -> Path:
        """The attempt's directory on this side."""
        return self.home / ref.directory

    def living(self, ref: AttemptRef) -> list[int]:
        """Processes that work somewhere in the attempt's directory: runner, command, watchdog, followers."""
        return processes_under(self.path(ref))


class Log:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def __call__(self, data: bytes) -> None:
        self.data += data


def processes_under(place: Path) -> list[int]:
    """Pids of the processes whose working directory lies in `place`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            cwd = str((entry / "cwd").readlink()).removesuffix(" (deleted)")
            if Path(cwd).is_relative_to(place):
                found.append(int(entry.name))
    return found


async def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait for a condition that another process makes true."""
    deadline = time.monotonic() + PATIENCE_SEC
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_SEC} s for {what}"
        await asyncio.sleep(0.01)


async def run(machine: Machine, ref: AttemptRef, launch: Launch) -> tuple[Exit, bytes]:
    """Execute from the start; how it ended and what it wrote."""
    log = Log()
    ended = await execute(machine, ref, launch, offset=0, sink=log)
    assert ended.output_size == len(log.data)
    return ended, bytes(log.data)


@pytest.fixture(scope="session")
def client_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our private key."""
    path = tmp_path_factory.mktemp("keys") / "client" / "id_ed25519"
    ensure_client_key(path)
    return path


@pytest.fixture(scope="session")
def host_key() -> asyncssh.SSHKey:
    """The host key of the in-process servers."""
    return asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory, client_key: Path) -> Iterator[SshdInfo]:
    """OpenSSH's server, started once."""
    if reason := sshd_missing():
        pytest.skip(reason)
    with running_sshd(tmp_path_factory.mktemp("openssh"), clients_public_key=ensure_client_key(client_key)) as info:
        yield info


def shell_link(kind: str, place: Path) -> str:
    """The shell `kind` under the name sh: bash and busybox behave as a POSIX shell because of that name."""
    if not Path(SHELLS[kind]).exists():
        pytest.skip(f"{SHELLS[kind]} is not installed")
    place.mkdir(parents=True)
    link = place / "sh"
    link.symlink_to(SHELLS[kind])
    return str(link)


@pytest.fixture(scope="session")
def busybox_tools(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory with nothing but busybox's programs: the whole userland of a small container image."""
    place = tmp_path_factory.mktemp("busybox")
    if not Path(SHELLS["busybox"]).exists():
        return str(place)
    listed = subprocess.run([SHELLS["busybox"], "--list"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        (place / name).symlink_to(SHELLS["busybox"])
    return str(place)


@pytest.fixture(
    params=[pytest.param("openssh", marks=pytest.mark.openssh), "dash", "bash", "busybox"],
)
async def site(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    client_key: Path,
    host_key: asyncssh.SSHKey,
    busybox_tools: str,
) -> AsyncIterator[Site]:
    """Each kind of machine in turn."""
    if request.param == "openssh":
        info: SshdInfo = request.getfixturevalue("sshd")
        async with AsyncExitStack() as machines:
            endpoint = Endpoint(info.host, info.port, info.user, info.host_key)
            yield Site(endpoint, client_key, "/bin/sh", info.home, machines=machines)
        clear(info.home)
        return
    async with in_process(
        request.param, tmp_path, client_key=client_key, host_key=host_key, tools=busybox_tools
    ) as made:
        yield made


@pytest.fixture
async def dash_site(tmp_path: Path, client_key: Path, host_key: asyncssh.SSHKey) -> AsyncIterator[Site]:
    """One machine, for what does not depend on the shell."""
    async with in_process("dash", tmp_path, client_key=client_key, host_key=host_key) as made:
        yield made


class in_process:  # noqa: N801 - reads as a function
    """A Site served inside this process; its server's switches are free to turn."""

    def __init__(
        self, kind: str, tmp_path: Path, *, client_key: Path, host_key: asyncssh.SSHKey, tools: str = ""
    ) -> None:
        self._kind, self._tmp_path, self._client_key, self._host_key = kind, tmp_path, client_key, host_key
        self._tools = tools
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Site:
        home = self._tmp_path / "home"
        home.mkdir()
        shell = shell_link(self._kind, self._tmp_path / "shell")
        server = ShellServer(shell, home)
        if self._kind == "busybox":
            server.path = self._tools
        self._stack.callback(clear, home)
        self._stack.push_async_callback(server.finish)
        public = ensure_client_key(self._client_key)
        port = await self._stack.enter_async_context(
            listening(server.handle, public_key=public, host_key=self._host_key)
        )
        machines = await self._stack.enter_async_context(AsyncExitStack())
        return Site(Endpoint("127.0.0.1", port, "tester"), self._client_key, shell, home, server, machines)

    async def __aexit__(self, *details: object) -> None:
        await self._stack.aclose()


def clear(home: Path) -> None:
    """Nothing of a test is left running or lying in the home."""
    for pid in processes_under(home):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for entry in home.iterdir():
        shutil.rmtree(entry, ignore_errors=True)
