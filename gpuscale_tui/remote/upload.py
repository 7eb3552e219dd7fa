"""Sends named files of a local directory to a machine as one tar stream."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import tarfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gpuscale_tui.remote.channel import Channel
from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import RemoteError, TransferError, Unreachable
from gpuscale_tui.remote.paths import check_directory, is_plain
from gpuscale_tui.remote.scripts import compact
from gpuscale_tui.remote.tree import DIRECTORY, FILE, LINK, TreeFile
from gpuscale_tui.remote.workdir import link_stays_inside

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

CHUNK = 256 * 1024
SETTLE_SEC = 300
"""How long the machine may take, once all was sent, to put the tree in its place."""
END_MARK = ".gpuscale-upload-complete"
"""The last file of the stream. Without it a stream cut between two files would pass for a whole one."""

# $2 the directory; stdin: the tar stream
PUT = compact(
    f"""
echo gpuscale:begin
umask 077
trap : PIPE
cd && mkdir -p "./$2" || exit 1
part=./$2.part.$$
mkdir "$part" || exit 1
if tar -xpof - -C "$part" && [ -e "$part/{END_MARK}" ]; then
  rm -f "$part/{END_MARK}"
  chmod 700 "$part"
  # should another whole upload have come between the two, ours lands inside it and goes
  rm -rf "./$2" && mv -f "$part" "./$2" && rm -rf "./$2/${{part##*/}}" && exit 0
fi
rm -rf "$part"
exit 1
"""
)


async def put_tree(
    machine: Machine,
    ref_dir: str,
    files: Sequence[TreeFile],
    *,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Upload `files` so that the directory `ref_dir` on the machine holds exactly them.

    `ref_dir` is relative to the remote home. The tree is unpacked beside it and moved into its place when it is
    whole; what was in `ref_dir` is replaced. After a failure repeat the call. Permission bits travel, set-id bits do
    not; symbolic links travel when they lead to a place in the same tree. `progress` is told the bytes sent so far.
    Raises TransferError for a file that cannot be sent or a machine that cannot take it, Unreachable.
    """
    check_directory(ref_dir)
    changed = asyncio.Event()
    command = machine.command(PUT, ref_dir)
    async with machine.channel(command, changed) as channel:
        pipe = _Pipe(machine, channel, changed, progress)
        packing = asyncio.create_task(asyncio.to_thread(_pack, tuple(files), pipe))
        try:
            await asyncio.shield(packing)
        finally:
            if not packing.done():
                pipe.stop()
                channel.abort()
                await asyncio.wait([packing])  # the thread ends at its next write
                packing.exception()
        channel.write_eof()
        await _wait_for_end(machine, channel, changed)


class _Pipe(io.RawIOBase):
    """The file object that tarfile writes to, in its thread; each write waits until the channel took it."""

    def __init__(
        self, machine: Machine, channel: Channel, changed: asyncio.Event, progress: Callable[[int], None] | None
    ) -> None:
        super().__init__()
        self._machine = machine
        self._channel = channel
        self._changed = changed
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._sent = 0
        self._stopped = False
        self._broken = False

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        sent = bytes(data)
        if not self._broken:  # tarfile writes once more when it cleans up after an error
            self._broken = True
            asyncio.run_coroutine_threadsafe(self._send(sent), self._loop).result()
            self._broken = False
        return len(sent)

    def stop(self) -> None:
        self._stopped = True

    async def _send(self, data: bytes) -> None:
        if self._stopped:
            raise TransferError("the upload was cancelled")
        if self._channel.closed:
            raise _ended(self._machine, self._channel)
        await self._channel.feed(data)
        self._sent += len(data)
        if self._progress is not None:
            self._progress(self._sent)


async def _wait_for_end(machine: Machine, channel: Channel, changed: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(SETTLE_SEC):
            while not channel.drained:
                changed.clear()
                channel.take()
                channel.controls.clear()
                if not channel.drained:
                    await changed.wait()
    except TimeoutError as error:
        raise Unreachable(f"{machine.where}: the upload was not confirmed within {SETTLE_SEC} s; repeat it") from error
    if channel.exit_status != 0:
        raise _ended(machine, channel)


def _ended(machine: Machine, channel: Channel) -> RemoteError:
    if channel.exit_status is None:
        return Unreachable(f"{machine.where}: the connection was lost during an upload; connect again and repeat it")
    said = channel.excerpt() or "it said nothing"
    return TransferError(f"{machine.where}: the machine could not unpack the upload ({said}); is its disk full?")


def _pack(files: Sequence[TreeFile], pipe: _Pipe) -> None:
    """Write the archive; runs in a thread. GNU format: every tar program reads its long names and large sizes."""
    with tarfile.open(
        fileobj=pipe, mode="w|", format=tarfile.GNU_FORMAT, bufsize=CHUNK, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for file in files:
            _add(archive, file)
        archive.addfile(_entry(END_MARK, 0o600, 0))


def _add(archive: tarfile.TarFile, file: TreeFile) -> None:
    if not is_plain(file.path):
        raise TransferError(f"{file.path!r} is not a path inside the directory to send")
    if file.kind == LINK:
        archive.addfile(_link(file.path, file.target))
        return
    if file.kind == DIRECTORY:
        entry = _entry(file.path, file.mode & 0o777, 0)
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
        return
    path = file.source
    if file.kind != FILE or path is None:
        raise TransferError(f"{file.path!r} is no file with content; leave it out")
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise TransferError(f"{path} is not a regular file; leave it out")
            if status.st_size != file.size:
                raise TransferError(f"{path} has {status.st_size} bytes, not {file.size}; repeat when it stands still")
            entry = _entry(file.path, file.mode & 0o777, status.st_size)
            entry.mtime = int(status.st_mtime)
            archive.addfile(entry, stream)
    except OSError as error:  # tarfile, too, raises OSError when a file is shorter than it was a moment ago
        raise TransferError(
            f"{path} could not be sent: {error.strerror or error}; repeat when it stands still"
        ) from error


def _link(name: str, target: str) -> tarfile.TarInfo:
    if not link_stays_inside(name, target):
        raise TransferError(f"{name} links to {target}, out of the directory to send; leave it out")
    entry = _entry(name, 0o777, 0)
    entry.type = tarfile.SYMTYPE
    entry.linkname = target
    return entry


def _entry(name: str, mode: int, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = mode, size
    return entry
