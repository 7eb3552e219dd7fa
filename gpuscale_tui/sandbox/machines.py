"""One rented machine: an SSH server on a port of its own, and a directory in which its processes live.

The port is taken when the order is made and answers only once the machine is up, as a relay's does (Clore API
reference, `shared/reference/clore-api.md`, section 3.4). Ending a machine cuts its connections, ends every process
that it ever started and removes its directory.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from gpuscale_tui.sandbox.files import MachineFiles
from gpuscale_tui.sandbox.processes import MARK_VARIABLE, Target, remove_tree, sweep
from gpuscale_tui.sandbox.sessions import Place, Process, run_session
from gpuscale_tui.sandbox.smi import Cards, install
from gpuscale_tui.sandbox.terminals import run_on_terminal

POWEROFF = ".poweroff"
OFF_MARK = ".powered-off"
POWEROFF_SCRIPT = f"""#!/bin/sh
# A container ends with its first process. This one has none of its own: it asks the sandbox to end it.
: > "$HOME/{OFF_MARK}"
"""
LOGIN_SECONDS = 60
OWN_ADDRESSES = ("localhost", "127.0.0.1", "::1")
CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What a machine is made from. `mark` is unique to this machine and found again in all its processes.

    `shows` is what its nvidia-smi prints.
    """

    mark: str
    directory: Path
    env: Mapping[str, str]
    ssh_key: str
    ssh_password: str
    command: str
    gpu: str
    cards: int
    shows: Cards
    nice: int = 0

    @property
    def programs(self) -> Path:
        """The folder of its own programs."""
        return self.directory / ".sandbox"

    def place(self) -> Place:
        """Where its processes run: its own directory as home, its own environment and nothing of ours but PATH."""
        folders = (str(self.programs), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))
        path = os.pathsep.join(folders)
        env = {
            "PATH": path,
            "LANG": "C.UTF-8",
            "HOME": str(self.directory),
            "TMPDIR": str(self.directory / "tmp"),
            "USER": "root",
            "LOGNAME": "root",
            "SHELL": "/bin/sh",
            "SANDBOX_GPU": self.gpu,
            "SANDBOX_GPU_COUNT": str(self.cards),
            "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(self.cards))),
            **self.env,
            MARK_VARIABLE: self.mark,
        }
        return Place(self.directory, env, self.nice)


@dataclass(slots=True)
class Machine:
    """A machine's life: reserved (has a port), up, stopped."""

    spec: MachineSpec
    port: int = 0
    up: bool = False
    stopped: bool = False
    connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)
    host_key: asyncssh.SSHKey = field(default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519"))
    _socket: socket.socket | None = None
    _acceptor: asyncssh.SSHAcceptor | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def reserve(self) -> None:
        """Take a port on loopback, the same one again if it had one. Connections are refused until it listens."""
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", self.port))
        self.port = int(self._socket.getsockname()[1])

    async def start(self, *, listen: bool = True) -> None:
        """Come up: directory, SSH server (unless it is to refuse), then the order's start command."""
        await asyncio.to_thread(_make_directory, self.spec)
        if listen:
            await self._listen()
        self.up = True
        if self.spec.command:
            await self._start_command()

    def wants_off(self) -> bool:
        """Whether something on it has shut it down. Looks at the disk."""
        return self.up and (self.spec.directory / OFF_MARK).exists()

    async def stop(self) -> bool:
        """Go down for good. False when a process would not die. Repeating it is harmless."""
        self.shut()
        target = Target(self.spec.mark, self.spec.directory)
        swept = await asyncio.to_thread(sweep, target)
        if await self.sessions_end():  # one of them may just have been starting its process when we looked
            swept = await asyncio.to_thread(sweep, target)
        await asyncio.to_thread(remove_tree, self.spec.directory)
        return swept

    def shut(self) -> None:
        """Let nobody in any more and cut all connections."""
        self.up, self.stopped = False, True
        if self._acceptor is not None:
            self._acceptor.close()
        elif self._socket is not None:
            self._socket.close()
        self.drop_connections()

    async def sessions_end(self) -> bool:
        """Wait (at most five seconds) until all sessions have ended. Whether there were any."""
        if not self._tasks:
            return False
        await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        return True

    def unplug(self) -> None:
        """Lose the network: connections are cut and the port is dead. Processes go on."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        self.drop_connections()
        self.up = False

    async def plug_in(self) -> None:
        """Have the network again, on the same port and with the same host key."""
        if not self.stopped:
            self.reserve()
            await self._listen()
            self.up = True

    def drop_connections(self) -> int:
        """Cut all SSH connections; processes go on. Returns how many there were."""
        connections = list(self.connections)
        for connection in connections:
            connection.abort()
        return len(connections)

    async def _listen(self) -> None:
        assert self._socket is not None
        spec = self.spec
        self._acceptor = await asyncssh.listen(
            sock=self._socket,
            server_factory=lambda: _Door(self),
            server_host_keys=[self.host_key],
            process_factory=self._session,
            sftp_factory=lambda channel: MachineFiles(channel, spec.directory),
            allow_scp=True,
            line_editor=False,
            agent_forwarding=False,
            encoding=None,
            login_timeout=LOGIN_SECONDS,
        )

    def _session(self, process: Process) -> None:
        """Sessions belong to the machine and not to their connection: detached work outlives it."""
        if self.stopped:
            process.exit(255)
        else:
            run = run_session if process.term_type is None else run_on_terminal
            self._own(run(process, self.spec.place()))

    async def _start_command(self) -> None:
        """Run the order's start script as the platform does: a file, run once the machine is up."""
        script = self.spec.directory / "onstart.sh"
        await asyncio.to_thread(script.write_text, self.spec.command)
        place = self.spec.place()
        with (self.spec.directory / "onstart.log").open("wb") as log:
            child = await asyncio.create_subprocess_exec(
                *_interpreter(self.spec.command),
                script,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=place.directory,
                env=dict(place.env),
                start_new_session=True,
            )
        self._own(child.wait())

    def _own(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _make_directory(spec: MachineSpec) -> None:
    spec.directory.mkdir(mode=0o700, parents=True)
    (spec.directory / "tmp").mkdir(mode=0o700)
    install(spec.shows, spec.programs)
    poweroff = spec.directory / POWEROFF
    poweroff.write_text(POWEROFF_SCRIPT)
    poweroff.chmod(0o700)


def _interpreter(script: str) -> list[str]:
    """The words of a script's first line that say what runs it; the shell when there are none, or nothing such here."""
    first = script.partition("\n")[0]
    words = first.removeprefix("#!").split(None, 1) if first.startswith("#!") else []
    return words if words and Path(words[0]).exists() else ["/bin/sh"]


class _Door(asyncssh.SSHServer):
    """Who may come in: root, with the order's key (or its password, if it has one)."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._keys = _public_keys(machine.spec.ssh_key)
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._machine.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._connection is not None:
            self._machine.connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002
        return True

    def public_key_auth_supported(self) -> bool:
        return bool(self._keys)

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == "root" and key.public_data in self._keys

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:  # noqa: ARG002
        """Whether a client may have a port of the machine forwarded: one of its own, as every sshd lets it."""
        return dest_host in OWN_ADDRESSES

    def password_auth_supported(self) -> bool:
        return bool(self._machine.spec.ssh_password)

    def validate_password(self, username: str, password: str) -> bool:
        return username == "root" and password == self._machine.spec.ssh_password


def _public_keys(text: str) -> set[bytes]:
    """The keys of an authorized_keys text; lines that hold none open nothing."""
    keys = set()
    for line in text.splitlines():
        try:
            keys.add(asyncssh.import_public_key(line).public_data)
        except asyncssh.KeyImportError:
            continue
    return keys
