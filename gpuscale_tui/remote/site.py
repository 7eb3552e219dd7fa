"""A machine as the engine works it: one port for everything that is done there.

`OpenSite` does it over SSH. The engine knows no other way to a machine, so that it also runs on pretended ones.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gpuscale_tui.model.hosts import Examination
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.remote import attempts, cache, datasets, examination, lease, object_upload, pulse, transfer, usage
from gpuscale_tui.remote.attempts import AttemptRef, AttemptStatus, Exit, Sink
from gpuscale_tui.remote.cache import Sent
from gpuscale_tui.remote.connection import Machine, connect
from gpuscale_tui.remote.errors import RemoteError
from gpuscale_tui.remote.launch import Launch
from gpuscale_tui.remote.lease import Lease
from gpuscale_tui.remote.object_upload import Fetching, Sending, Way
from gpuscale_tui.remote.pulse import Pulse
from gpuscale_tui.remote.scripts import compact
from gpuscale_tui.remote.transfer import FetchedFile, RemoteFile, RemoteListing, TreeFile
from gpuscale_tui.remote.usage import MachineUsage

CONNECT_SEC = 15.0
PROBE = "uname -s && command -v sh tar tail mkdir mv >/dev/null && echo usable"

LINK = compact(
    """
echo gpuscale:begin
cd || exit
if [ -L "$2" ]; then exit 0; fi
mkdir -p -- "./${2%/*}" || exit
rmdir -- "./$2" 2>/dev/null
if [ -e "$2" ]; then exit 1; fi
ln -s -- "$HOME/$3" "./$2"
"""
)
"""$2 where the link is to be, $3 where it leads, both relative to the remote home."""


Progress = Callable[[int], None]
"""Is told how many bytes have gone or come so far."""


class Site(Protocol):
    """An open way to one machine. Every method is bounded in time and raises Unreachable or another RemoteError."""

    @property
    def where(self) -> str:
        """`user@host:port`, for messages."""
        ...

    @property
    def host_key(self) -> str:
        """The machine's public key as one OpenSSH line, to be pinned."""
        ...

    @property
    def closed(self) -> bool:
        """True once the way is gone, by whichever side."""
        ...

    async def is_usable(self) -> bool:
        """Whether the machine has the userland that the run protocol needs."""
        ...

    async def examine(self, base: str, now: Callable[[], int]) -> Examination:
        """See `examination.examine`."""
        ...

    async def prepare(self, ref: AttemptRef) -> None:
        """See `attempts.prepare`."""
        ...

    async def execute(self, ref: AttemptRef, launch: Launch, *, offset: int, sink: Sink) -> Exit:
        """See `attempts.execute`."""
        ...

    async def status(self, ref: AttemptRef) -> AttemptStatus:
        """See `attempts.status`."""
        ...

    async def stop(self, ref: AttemptRef, *, grace_sec: int, signal: str = "TERM") -> Exit:
        """See `attempts.stop`."""
        ...

    async def pulse(self, ref: AttemptRef) -> Pulse:
        """See `pulse.take`."""
        ...

    async def usage(self, base: str) -> MachineUsage:
        """See `usage.take`."""
        ...

    async def renew_lease(self, base: str, terms: Lease) -> bool:
        """See `lease.renew`."""
        ...

    async def list_ended(self, base: str) -> tuple[str, ...]:
        """See `attempts.list_ended`."""
        ...

    async def remove_many(self, refs: Sequence[AttemptRef]) -> tuple[AttemptRef, ...]:
        """See `attempts.remove_many`."""
        ...

    async def put_tree(self, directory: str, files: Sequence[TreeFile], *, progress: Progress | None = None) -> None:
        """See `transfer.put_tree`."""
        ...

    async def put_cached(
        self, base: str, directory: str, files: Sequence[TreeFile], *, progress: Progress | None = None
    ) -> Sent:
        """See `cache.put_cached`; `base` is our directory there."""
        ...

    async def make_room(self, base: str, digest: str, size: int, *, beside: Collection[str] = ()) -> bool:
        """See `datasets.make_room`."""
        ...

    async def give(self, ref: AttemptRef, shared: Mapping[str, str]) -> None:
        """See `datasets.give`."""
        ...

    async def list_tree(self, directory: str) -> RemoteListing:
        """See `transfer.list_tree`."""
        ...

    async def get_files(
        self,
        directory: str,
        files: Sequence[RemoteFile],
        target: Path,
        *,
        parts: Path | None,
        max_bytes: int,
        timeout_sec: float,
        progress: Progress | None = None,
    ) -> Sequence[FetchedFile]:
        """See `transfer.get_files`."""
        ...

    async def hashes(self, directory: str, paths: Sequence[str]) -> Mapping[str, str]:
        """See `transfer.hashes`."""
        ...

    async def tools(self) -> frozenset[str]:
        """Which helpful programs the machine has (`inspection.TOOLS`); asked once a connection."""
        ...

    async def send_objects(self, directory: str, way: Way, files: Sequence[Sending]) -> Sequence[int]:
        """See `object_upload.send`."""
        ...

    async def fetch_objects(self, directory: str, way: Way, files: Sequence[Fetching]) -> Sequence[int]:
        """See `object_upload.fetch`."""
        ...

    async def part_sums(self, directory: str, path: str, size: int, part_bytes: int) -> Sequence[str]:
        """See `object_upload.part_sums`."""
        ...

    async def read_back(self, urls: Sequence[str], size: int) -> Sequence[str]:
        """See `object_upload.read_back`."""
        ...

    async def set_modes(self, directory: str, modes: Mapping[str, int]) -> None:
        """See `object_upload.set_modes`."""
        ...

    async def checkpoint_path(self, ref: AttemptRef) -> str:
        """The attempt's checkpoint directory as an absolute path on the machine."""
        ...

    async def link_checkpoints(self, ref: AttemptRef, path: str) -> bool:
        """Let a command that writes checkpoints to `path` below its working directory write them into CHECKPOINT_DIR.

        False when there is something at that path already.
        """
        ...

    async def close(self) -> None:
        """Close the way; what runs detached on the machine goes on. Never raises."""
        ...


Connect = Callable[[Endpoint], Awaitable[Site]]
"""Opens a way to a machine. Raises Unreachable, AuthRefused or HostKeyChanged."""


class OpenSite:
    """A machine over SSH."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._tools: frozenset[str] | None = None

    @property
    def where(self) -> str:
        """See `Site`."""
        return self._machine.where

    @property
    def host_key(self) -> str:
        """See `Site`."""
        return self._machine.host_key

    @property
    def closed(self) -> bool:
        """See `Site`."""
        return self._machine.closed

    async def is_usable(self) -> bool:
        """See `Site`."""
        done = await self._machine.run(PROBE, timeout_sec=30, label="probe")
        return done.exit_status == 0 and b"usable" in done.stdout

    async def examine(self, base: str, now: Callable[[], int]) -> Examination:
        """See `Site`."""
        return await examination.examine(self._machine, base, now)

    async def prepare(self, ref: AttemptRef) -> None:
        """See `Site`."""
        await attempts.prepare(self._machine, ref)

    async def execute(self, ref: AttemptRef, launch: Launch, *, offset: int, sink: Sink) -> Exit:
        """See `Site`."""
        return await attempts.execute(self._machine, ref, launch, offset=offset, sink=sink)

    async def status(self, ref: AttemptRef) -> AttemptStatus:
        """See `Site`."""
        return await attempts.status(self._machine, ref)

    async def stop(self, ref: AttemptRef, *, grace_sec: int, signal: str = "TERM") -> Exit:
        """See `Site`."""
        return await attempts.stop(self._machine, ref, grace_sec=grace_sec, signal=signal)

    async def pulse(self, ref: AttemptRef) -> Pulse:
        """See `Site`."""
        return await pulse.take(self._machine, ref)

    async def usage(self, base: str) -> MachineUsage:
        """See `Site`."""
        return await usage.take(self._machine, base)

    async def renew_lease(self, base: str, terms: Lease) -> bool:
        """See `Site`."""
        return await lease.renew(self._machine, base, terms)

    async def list_ended(self, base: str) -> tuple[str, ...]:
        """See `Site`."""
        return await attempts.list_ended(self._machine, base)

    async def remove_many(self, refs: Sequence[AttemptRef]) -> tuple[AttemptRef, ...]:
        """See `Site`."""
        return await attempts.remove_many(self._machine, refs)

    async def put_tree(self, directory: str, files: Sequence[TreeFile], *, progress: Progress | None = None) -> None:
        """See `Site`."""
        await transfer.put_tree(self._machine, directory, files, progress=progress)

    async def put_cached(
        self, base: str, directory: str, files: Sequence[TreeFile], *, progress: Progress | None = None
    ) -> Sent:
        """See `Site`."""
        return await cache.put_cached(self._machine, f"{base}/cache", directory, files, progress=progress)

    async def make_room(self, base: str, digest: str, size: int, *, beside: Collection[str] = ()) -> bool:
        """See `Site`."""
        return await datasets.make_room(self._machine, base, digest, size, beside=beside)

    async def give(self, ref: AttemptRef, shared: Mapping[str, str]) -> None:
        """See `Site`."""
        await datasets.give(self._machine, ref, shared)

    async def list_tree(self, directory: str) -> RemoteListing:
        """See `Site`."""
        return await transfer.list_tree(self._machine, directory)

    async def get_files(
        self,
        directory: str,
        files: Sequence[RemoteFile],
        target: Path,
        *,
        parts: Path | None,
        max_bytes: int,
        timeout_sec: float,
        progress: Progress | None = None,
    ) -> Sequence[FetchedFile]:
        """See `Site`."""
        return await transfer.get_files(
            self._machine, directory, files, target,
            parts=parts, max_bytes=max_bytes, timeout_sec=timeout_sec, progress=progress,
        )  # fmt: skip

    async def hashes(self, directory: str, paths: Sequence[str]) -> Mapping[str, str]:
        """See `Site`."""
        return await transfer.hashes(self._machine, directory, paths)

    async def tools(self) -> frozenset[str]:
        """See `Site`."""
        if self._tools is None:
            self._tools = await transfer.tools(self._machine)
        return self._tools

    async def send_objects(self, directory: str, way: Way, files: Sequence[Sending]) -> Sequence[int]:
        """See `Site`."""
        return await object_upload.send(self._machine, directory, way, files)

    async def fetch_objects(self, directory: str, way: Way, files: Sequence[Fetching]) -> Sequence[int]:
        """See `Site`."""
        return await object_upload.fetch(self._machine, directory, way, files)

    async def part_sums(self, directory: str, path: str, size: int, part_bytes: int) -> Sequence[str]:
        """See `Site`."""
        return await object_upload.part_sums(self._machine, directory, path, size, part_bytes)

    async def read_back(self, urls: Sequence[str], size: int) -> Sequence[str]:
        """See `Site`."""
        return await object_upload.read_back(self._machine, urls, size)

    async def set_modes(self, directory: str, modes: Mapping[str, int]) -> None:
        """See `Site`."""
        await object_upload.set_modes(self._machine, directory, modes)

    async def checkpoint_path(self, ref: AttemptRef) -> str:
        """See `Site`."""
        done = await self._machine.run('printf %s "$HOME"', label="asking for the home directory")
        home = done.stdout.decode("utf-8", "surrogateescape")
        if done.exit_status != 0 or not home.startswith("/") or "\n" in home:
            raise RemoteError(f"{self.where}: its HOME is no absolute path")
        return f"{home}/{ref.directory}/checkpoints"

    async def link_checkpoints(self, ref: AttemptRef, path: str) -> bool:
        """See `Site`."""
        words = (f"{ref.directory}/work/{path}", f"{ref.directory}/checkpoints")
        done = await self._machine.run_command(
            self._machine.command(LINK, *words), stdin=b"", timeout_sec=30, label="linking the checkpoint directory"
        )
        return done.exit_status == 0

    async def close(self) -> None:
        """See `Site`."""
        await self._machine.close()


def over_ssh(client_key: Path) -> Connect:
    """Opens sites over SSH with this private key, where an endpoint names none of its own."""

    async def open_site(endpoint: Endpoint) -> Site:
        return OpenSite(await connect(endpoint, client_key=client_key, timeout_sec=CONNECT_SEC))

    return open_site
