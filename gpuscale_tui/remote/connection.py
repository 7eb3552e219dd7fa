"""One multiplexed SSH connection to a machine: authenticated by a key, host key pinned, every wait bounded."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.remote.channel import NOISE_BYTES, Channel
from gpuscale_tui.remote.errors import AuthRefused, HostKeyChanged, NoSession, RemoteError, Unreachable
from gpuscale_tui.remote.launch import quote

HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]{0,252}")
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\$?")
CHANNEL_OPEN_SEC = 20
KEEPALIVES_MISSED = 3
UPLOAD_CHUNK = 256 * 1024
RUN_OUTPUT_BYTES = 1024 * 1024
WINDOW = 2 * 1024 * 1024
BULK_WINDOW = 2 * 1024 * 1024
"""What a machine may send on a channel before we say that there is room again: at 100 ms there and back this bounds
what one channel brings to 20 MB/s, hence several channels; all of it may have to be held here when a disk is slow."""
BULK_BYTES = 2 * 1024 * 1024
BULK_NOTIFY_BYTES = 1024 * 1024
"""Each hand-over to a thread costs two switches of Python's lock, up to 5 ms each, so few are made; more at once would
leave the processor's cache (measured: 4 MB at once is half as fast)."""
# Plain keys only: a host certificate would be checked against authorities that we do not have.
HOST_KEY_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
# AES-GCM first: with the processor's help it is the fastest of asyncssh's ciphers by a fifth.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
)


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command on the machine ended. Both outputs come from the machine and are untrusted."""

    exit_status: int
    stdout: bytes
    stderr: bytes


class _KeyCheck(asyncssh.SSHClient):
    """Accepts the pinned host key, or the first one when none is pinned yet, and remembers what it saw."""

    def __init__(self, pinned: asyncssh.SSHKey | None) -> None:
        self.pinned = pinned
        self.seen: asyncssh.SSHKey | None = None
        self.refused = False

    def validate_host_public_key(self, _host: str, _addr: str, _port: int, key: asyncssh.SSHKey) -> bool:
        self.seen = key
        self.refused = self.pinned is not None and key.public_data != self.pinned.public_data
        return not self.refused


class Machine:
    """An open connection. Made by `connect`; several commands may run on it at once."""

    def __init__(self, where: str, connection: asyncssh.SSHClientConnection, host_key: str, shell: str) -> None:
        self.where = where
        """`user@host:port`, for messages."""
        self.host_key = host_key
        """The machine's public key as one OpenSSH line, for the caller to pin."""
        self.shell = shell
        self._connection = connection

    @property
    def closed(self) -> bool:
        """True once the connection is gone, by whichever side."""
        return self._connection.is_closed()

    async def run(
        self,
        script: str,
        *,
        stdin: bytes = b"",
        timeout_sec: float = 30,
        label: str,
        max_output: int = RUN_OUTPUT_BYTES,
    ) -> Completed:
        """Run a POSIX shell script that is ours, in the home directory, and wait for its end.

        Raises Unreachable when it did not end within `timeout_sec` or the connection broke; RemoteError when it
        printed more than `max_output` bytes on either output. A non-zero status is the caller's to judge.
        """
        command = self.command(f"echo gpuscale:begin\ncd || exit\n{script}")
        return await self.run_command(command, stdin=stdin, timeout_sec=timeout_sec, label=label, max_output=max_output)

    async def run_command(
        self, command: str, *, stdin: bytes, timeout_sec: float, label: str, max_output: int = RUN_OUTPUT_BYTES
    ) -> Completed:
        """The same for a text made by `command`, whose script begins with the line that marks our output."""
        try:
            async with asyncio.timeout(timeout_sec):
                return await self._run(command, stdin, max_output)
        except TimeoutError as error:
            raise Unreachable(f"{self.where}: {label} gave no end within {timeout_sec:g} s; try again") from error
        except Unreachable as error:
            raise Unreachable(f"{error} ({label})") from error

    async def _run(self, command: str, stdin: bytes, max_output: int) -> Completed:
        changed = asyncio.Event()
        parts: list[bytes] = []
        size = 0
        async with self.channel(command, changed, noise_limit=max_output) as channel:
            for start in range(0, len(stdin), UPLOAD_CHUNK):
                await channel.feed(stdin[start : start + UPLOAD_CHUNK])
            channel.write_eof()
            while not channel.drained:
                changed.clear()
                while data := channel.take():
                    parts.append(data)
                    size += len(data)
                    if size > max_output:
                        raise RemoteError(f"{self.where}: more than {max_output} bytes of output; given up")
                channel.controls.clear()
                if not channel.drained:
                    await changed.wait()
            channel.take()
            if channel.exit_status is None:
                raise Unreachable(f"{self.where}: the connection was lost; connect again")
            return Completed(channel.exit_status, b"".join(parts), bytes(channel.noise))

    def command(self, script: str, *arguments: str) -> str:
        """The text for the machine's login shell that runs `script` in a POSIX shell, with $1 the shell's path."""
        words = ("-c", script, "gpuscale", self.shell, *arguments)
        return f"exec {self.shell} " + " ".join(quote(word) for word in words)

    @asynccontextmanager
    async def channel(
        self, command: str, changed: asyncio.Event, *, noise_limit: int = NOISE_BYTES, bulk: bool = False
    ) -> AsyncIterator[Channel]:
        """A channel that runs `command`; closed at the end of the block. Raises Unreachable.

        A `bulk` one takes much at a time and tells of it rarely: wait on `changed` with a bound, then look at `held`.
        """
        channel = await self._open(command, changed, noise_limit, bulk)
        try:
            yield channel
        finally:
            channel.abort()

    async def _open(self, command: str, changed: asyncio.Event, noise_limit: int, bulk: bool) -> Channel:
        def factory() -> Channel:
            if not bulk:
                return Channel(self.where, changed, noise_limit=noise_limit)
            return Channel(
                self.where, changed, noise_limit=noise_limit, buffer_bytes=BULK_BYTES, notify_bytes=BULK_NOTIFY_BYTES
            )

        window = BULK_WINDOW if bulk else WINDOW
        try:
            async with asyncio.timeout(CHANNEL_OPEN_SEC):
                _, channel = await self._connection.create_session(factory, command, encoding=None, window=window)
        except TimeoutError as error:
            self._connection.abort()  # a half-open link: nothing else on this connection would be answered either
            raise Unreachable(f"{self.where}: no answer within {CHANNEL_OPEN_SEC} s; connect again") from error
        except asyncssh.ChannelOpenError as error:
            raise NoSession(
                f"{self.where}: the server opens no more sessions ({error.reason}); try again (MaxSessions there?)"
            ) from error
        except (asyncssh.Error, OSError) as error:
            raise Unreachable(f"{self.where}: the connection is gone ({_reason(error)}); connect again") from error
        assert isinstance(channel, Channel)
        return channel

    async def close(self, *, timeout_sec: float = 5) -> None:
        """Close the connection; what runs detached on the machine goes on. Harmless to repeat, never raises."""
        self._connection.close()
        try:
            async with asyncio.timeout(timeout_sec):
                await self._connection.wait_closed()
        except (TimeoutError, asyncssh.Error, OSError):
            self._connection.abort()


async def connect(
    endpoint: Endpoint,
    *,
    client_key: Path,
    timeout_sec: float = 20,
    keepalive_sec: float = 15,
    shell: str = "/bin/sh",
) -> Machine:
    """Connect with our key (or `endpoint.key_file`) and check the host key.

    No agent, no configuration or known-hosts file, no password takes part. With `endpoint.host_key` any other key is
    refused with HostKeyChanged; without, the first is accepted and found in `machine.host_key`. A link that stays
    silent for three `keepalive_sec` counts as lost. `shell` is a POSIX shell on the machine. Raises Unreachable,
    AuthRefused, HostKeyChanged, and ValueError for an address that no machine could have.
    """
    where = check_endpoint(endpoint)
    key = await asyncio.to_thread(_read_key, where, endpoint.key_file or client_key)
    check = _KeyCheck(_pinned_key(where, endpoint.host_key))
    connection = await _dial(
        endpoint, where, key=key, check=check, timeout_sec=timeout_sec, keepalive_sec=keepalive_sec
    )
    seen = check.seen or check.pinned
    assert seen is not None
    seen.set_comment(None)
    return Machine(where, connection, seen.export_public_key("openssh").decode("ascii").strip(), shell)


def check_endpoint(endpoint: Endpoint) -> str:
    """`user@host:port` for messages. ValueError unless host, port and user follow the grammar of such names."""
    if not HOST.fullmatch(endpoint.host):
        raise ValueError(f"host {endpoint.host!r}: a host name or an IP address is needed")
    if not USER.fullmatch(endpoint.user):
        raise ValueError(f"user {endpoint.user!r}: letters, digits, _ . - only, not beginning with a digit or -")
    if not 1 <= endpoint.port <= 65_535:
        raise ValueError(f"port {endpoint.port}: 1 to 65535")
    return f"{endpoint.user}@{endpoint.host}:{endpoint.port}"


def _read_key(where: str, file: str | Path) -> asyncssh.SSHKey:
    path = Path(file).expanduser()
    try:
        return asyncssh.read_private_key(path)
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise AuthRefused(f"{where}: the private key {path} cannot be used ({error}); set another key file") from error


def _pinned_key(where: str, line: str | None) -> asyncssh.SSHKey | None:
    if line is None:
        return None
    try:
        return asyncssh.import_public_key(line)
    except asyncssh.KeyImportError as error:
        raise HostKeyChanged(f"{where}: the pinned host key is not readable ({error}); pin it anew") from error


def _key_algorithms(pinned: asyncssh.SSHKey | None) -> tuple[str, ...]:
    """The pinned kind first, so that a server with several keys shows that one; the others, to see a change as such."""
    own = () if pinned is None else tuple(name.decode("ascii") for name in pinned.sig_algorithms)
    return tuple(dict.fromkeys((*own, *HOST_KEY_ALGORITHMS)))


async def _dial(
    endpoint: Endpoint, where: str, *, key: asyncssh.SSHKey, check: _KeyCheck, timeout_sec: float, keepalive_sec: float
) -> asyncssh.SSHClientConnection:
    factory: Callable[[], asyncssh.SSHClient] = lambda: check  # noqa: E731
    try:
        async with asyncio.timeout(timeout_sec):
            return await asyncssh.connect(
                endpoint.host,
                endpoint.port,
                username=endpoint.user,
                client_factory=factory,
                client_keys=[key],
                known_hosts=([], [], []),
                server_host_key_algs=_key_algorithms(check.pinned),
                encryption_algs=CIPHERS,
                preferred_auth="publickey",
                agent_path=None,
                config=None,
                password=None,
                gss_host=None,
                gss_kex=False,
                gss_auth=False,
                x509_trusted_certs=None,
                compression_algs=("none",),
                login_timeout=timeout_sec,
                keepalive_interval=keepalive_sec,
                keepalive_count_max=KEEPALIVES_MISSED,
            )
    except (asyncssh.Error, OSError) as error:  # TimeoutError is an OSError
        raise _explain(where, error, check, timeout_sec) from error


def _explain(where: str, error: Exception, check: _KeyCheck, timeout_sec: float) -> RemoteError:
    if check.refused:
        return HostKeyChanged(
            f"{where} shows another host key than the one pinned at first contact: another machine answers there, or "
            "someone sits in between. Give the machine back, or forget the pinned key if you know why it changed"
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return AuthRefused(f"{where} refuses our key ({error.reason}); add the public key to its authorized_keys")
    if isinstance(error, TimeoutError):
        return Unreachable(f"{where}: no answer within {timeout_sec:g} s; the machine may still be starting")
    return Unreachable(f"{where}: cannot connect ({_reason(error)}); check address and port, then try again")


def _reason(error: Exception) -> str:
    if isinstance(error, asyncssh.Error):
        return error.reason or type(error).__name__
    return str(error) or type(error).__name__
