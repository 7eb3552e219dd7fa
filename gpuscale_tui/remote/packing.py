"""Many entries to a machine as one tar stream, which a thread packs while the event loop sends."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import tarfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gpuscale_tui.remote.channel import Channel
from gpuscale_tui.remote.errors import TransferError, Unreachable
from gpuscale_tui.remote.paths import shown
from gpuscale_tui.remote.tree import DIRECTORY, LINK, TreeFile

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

CHUNK = 256 * 1024


async def send_archive(channel: Channel, files: Sequence[TreeFile], sent: Callable[[int], None]) -> None:
    """Pack the entries into the stdin of a channel and end it; `sent` is told each number of bytes.

    Raises TransferError for what cannot be read or is not as said, Unreachable.
    """
    pipe = _Pipe(channel, sent)
    packing = asyncio.create_task(asyncio.to_thread(_pack, files, pipe))
    try:
        await asyncio.shield(packing)
    except Unreachable:
        if not (channel.closed and channel.exit_status):
            raise  # else the far side ended by itself: its status says why
    finally:
        if not packing.done():
            pipe.stop()
            channel.abort()
            await asyncio.wait([packing])  # the thread ends at its next write
            packing.exception()
    channel.write_eof()


class _Pipe(io.RawIOBase):
    """The file object that tarfile writes to, in its thread; each write waits until the channel took it."""

    def __init__(self, channel: Channel, sent: Callable[[int], None]) -> None:
        super().__init__()
        self._channel = channel
        self._sent = sent
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self._broken = False

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        taken = bytes(data)
        if not self._broken:  # tarfile writes once more when it cleans up after an error
            self._broken = True
            asyncio.run_coroutine_threadsafe(self._send(taken), self._loop).result()
            self._broken = False
        return len(taken)

    def stop(self) -> None:
        self._stopped = True

    async def _send(self, data: bytes) -> None:
        if self._stopped:
            raise TransferError("the upload was cancelled")
        await self._channel.feed(data)
        self._sent(len(data))


def _pack(files: Sequence[TreeFile], pipe: _Pipe) -> None:
    """Write the archive; runs in a thread. GNU format: every tar program reads its long names and large sizes."""
    with tarfile.open(
        fileobj=pipe, mode="w|", format=tarfile.GNU_FORMAT, bufsize=CHUNK, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for file in files:
            _add(archive, file)


def _add(archive: tarfile.TarFile, file: TreeFile) -> None:
    entry = tarfile.TarInfo(file.path)
    entry.mode = file.mode & 0o777
    if file.kind == LINK:
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, file.target, 0o777
        archive.addfile(entry)
    elif file.kind == DIRECTORY:
        entry.type, entry.mode = tarfile.DIRTYPE, entry.mode | 0o700  # what cannot be entered could not be filled
        archive.addfile(entry)
    else:
        _add_file(archive, file, entry)


def _add_file(archive: tarfile.TarFile, file: TreeFile, entry: tarfile.TarInfo) -> None:
    try:
        with os.fdopen(open_source(file), "rb") as stream:
            entry.size, entry.mtime = file.size, int(os.fstat(stream.fileno()).st_mtime)
            archive.addfile(entry, stream)
    except OSError as error:  # tarfile, too, raises OSError when a file is shorter than it was a moment ago
        raise unreadable(file, error) from error


def open_source(file: TreeFile) -> int:
    """A descriptor of a file to send. Raises TransferError when it is none or not of the size said, OSError."""
    path = file.source
    if path is None:
        raise TransferError(f"{shown(file.path)} has no content; leave it out")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size == file.size:
        return descriptor
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise TransferError(f"{shown(str(path))} is not a regular file; leave it out")
    raise TransferError(f"{shown(str(path))} has {status.st_size} bytes, not {file.size}; repeat when it stands still")


def unreadable(file: TreeFile, error: OSError) -> TransferError:
    """What to say of a file that could not be read."""
    return TransferError(
        f"{shown(str(file.source))} could not be sent: {error.strerror or error}; repeat when it stands still"
    )
