"""Fetches files from a machine, believing nothing that comes: small ones as tar streams, large ones in parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpuscale_tui.remote.assembly import Assembly, clear_parts, in_parts
from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import TransferError, Unreachable
from gpuscale_tui.remote.listing import list_tree
from gpuscale_tui.remote.names import READ_NAMES, batches, lines
from gpuscale_tui.remote.parts import LargeFile, Moved
from gpuscale_tui.remote.paths import check_directory, check_storable, shown
from gpuscale_tui.remote.scripts import compact
from gpuscale_tui.remote.threads import in_thread
from gpuscale_tui.remote.tree import FetchedFile, RemoteFile
from gpuscale_tui.remote.untar import Untar

LARGE_BYTES = 64 * 1024 * 1024
NOISE_BYTES = 1024 * 1024
"""Room for a complaint of tar about each file of a batch."""

# $2 the directory; stdin: names, one a line. Bytes of an archive; errors of single files are seen by what is missing.
# GNU's tar would read escapes in the names that it is given.
GET = compact(
    f"""
echo gpuscale:begin
LC_ALL=C
export LC_ALL
cd && cd "./$2" || exit 3
{READ_NAMES}
case $(tar --version 2>/dev/null) in (*GNU*) raw=--no-unquote;; (*) raw=;; esac
exec tar $raw -cf - "$@"
"""
)


async def get_files(
    machine: Machine,
    remote_dir: str,
    files: Sequence[RemoteFile],
    target: Path,
    *,
    parts: Path | None = None,
    max_bytes: int,
    timeout_sec: float,
    progress: Callable[[int], None] | None = None,
) -> tuple[FetchedFile, ...]:
    """Fetch `files` of a listing of `remote_dir` into the local directory `target`, which must be empty or not exist.

    The result, in the order asked, has each file that came with its size, hash and whether it changed: whether, when
    all had come, its stamp was another than in the listing. So if none has, they are together as they were at one
    moment. What is gone or is no regular file any more is left out, or is `changed`. Files are written 0600,
    directories 0700; nothing is written outside `target` and `parts`, no link is ever made.

    What has come of large files is kept in the directory `parts` (on the file system of `target`) until they are
    whole, so that a later call goes on with it, also after a crash; what lies there of files not asked for is removed.
    `progress` is told the content bytes so far. Raises TransferError (more than `max_bytes`, a stream that is not as
    asked; throw `target` away), Unreachable, and OSError of the disk.
    """
    check_directory(remote_dir)
    for file in files:
        check_storable(file.path)
    wanted = tuple({file.path: file for file in files}.values())
    fetch = _Fetch(machine, remote_dir, target, parts, max_bytes, progress)
    await asyncio.to_thread(_make_empty, target)
    try:
        async with asyncio.timeout(timeout_sec):
            return await fetch.all(wanted)
    except TimeoutError as error:
        raise Unreachable(f"{machine.where}: fetching took over {timeout_sec:g} s; try again") from error


@dataclass(slots=True)
class _Fetch:
    """One call of `get_files`."""

    machine: Machine
    remote_dir: str
    target: Path
    parts: Path | None
    room: int
    progress: Callable[[int], None] | None
    received: int = 0
    done: dict[str, FetchedFile] = field(default_factory=dict)

    async def all(self, files: Sequence[RemoteFile]) -> tuple[FetchedFile, ...]:
        large = [file for file in files if file.size >= LARGE_BYTES]
        if self.parts is not None:
            await asyncio.to_thread(clear_parts, self.parts, [file.path for file in large])
        await self._get_small([file for file in files if file.size < LARGE_BYTES])
        for file in large:
            await self._get_large(file)
        if not self.done:
            return ()
        after = {file.path: file for file in await list_tree(self.machine, self.remote_dir)}
        return tuple(_judge(self.done[file.path], file, after) for file in files if file.path in self.done)

    def _arrived(self, size: int) -> None:
        self.received += size
        if self.progress is not None:
            self.progress(self.received)

    async def _get_small(self, files: Sequence[RemoteFile]) -> None:
        for batch in batches(files, lambda file: file.path):
            await self._get_batch(batch)

    async def _get_batch(self, batch: Sequence[RemoteFile]) -> None:
        names = [file.path for file in batch]
        untar = Untar(self.target, names, max_bytes=self.room)
        await _stream(self.machine, self.remote_dir, names, untar, self._arrived)
        self.room -= sum(file.size for file in untar.done.values())
        self.done |= untar.done

    async def _get_large(self, file: RemoteFile) -> None:
        if file.size > self.room:
            raise TransferError(f"{shown(file.path[:100])} does not fit: {file.size} bytes, room for {self.room}")
        self.room -= file.size
        with closing(await in_thread(self._assembly, file)) as assembly:
            try:
                await LargeFile(self.machine, self.remote_dir, file.path, assembly, self._arrived).fetch()
            except Moved:
                self.done[file.path] = FetchedFile(file.path, file.size, "", file.mode, changed=True)
                return
            digest = await in_thread(assembly.finish, self.target / file.path)
        self.done[file.path] = FetchedFile(file.path, file.size, digest, file.mode)

    def _assembly(self, file: RemoteFile) -> Assembly:
        place = self.target / file.path
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.parts is None:
            return Assembly(place, file.size)
        return in_parts(self.parts, file.path, file.size, file.stamp)


def _judge(file: FetchedFile, before: RemoteFile, after: dict[str, RemoteFile]) -> FetchedFile:
    """Unchanged means: the stamp that it had, at the end as in the listing, and as many bytes as that says."""
    now = after.get(file.path)
    steady = now is not None and now.stamp == before.stamp and now.kind == before.kind and file.size == before.size
    return file if steady else replace(file, changed=True)


async def _stream(
    machine: Machine, remote_dir: str, names: Sequence[str], untar: Untar, arrived: Callable[[int], None]
) -> None:
    changed = asyncio.Event()
    command = machine.command(GET, remote_dir)
    async with machine.channel(command, changed, noise_limit=NOISE_BYTES, bulk=True) as channel:
        await channel.feed(lines(names))
        channel.write_eof()
        with closing(untar):
            while not channel.drained:
                changed.clear()
                while data := channel.take():
                    before = untar.received
                    await in_thread(untar.feed, data)
                    arrived(untar.received - before)
                channel.controls.clear()
                if not channel.drained and not changed.is_set():
                    await channel.wait_for_more()
        status, said = channel.exit_status, channel.excerpt()
    if status is None:
        raise Unreachable(f"{machine.where}: the connection was lost while files were fetched; connect again")
    if status == 3:
        raise TransferError(f"{machine.where}: there is no directory {remote_dir}")
    if not untar.finished:
        raise TransferError(f"{machine.where}: the archive ended too soon ({said or f'status {status}'}); try again")


def _make_empty(target: Path) -> None:
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise TransferError(f"{target} is not empty; fetch into a new directory")
