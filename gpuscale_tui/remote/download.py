"""Fetches named files from a machine as tar streams, believing nothing that comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import TransferError, Unreachable
from gpuscale_tui.remote.paths import check_directory, check_storable
from gpuscale_tui.remote.scripts import compact
from gpuscale_tui.remote.tree import FetchedFile, RemoteFile
from gpuscale_tui.remote.untar import Untar

BATCH_FILES = 500
BATCH_BYTES = 64 * 1024
"""Names of one request; they become arguments of one tar process."""
STALL_SEC = 60
NOISE_BYTES = 1024 * 1024
"""Room for a complaint of tar about each file of a batch."""

_NAMES = """
echo gpuscale:begin
cd && cd "./$2" || exit 3
set --
while IFS= read -r name; do set -- "$@" "./$name"; done
"""

# $2 the directory; stdin: names, one a line. Bytes of an archive; errors of single files are seen by what is missing.
GET = compact(_NAMES + 'exec tar -cf - "$@"')

# The same; a line a file that is there: times to the finest that stat knows, then the name.
STAMP = compact(
    _NAMES
    + """
if stat -c %f . >/dev/null 2>&1; then exec stat -c "%s %y %z %i %n" "$@"; fi
exec stat -f "%z %Fm %Fc %i %N" "$@"
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
    """Fetch `files` (relative to `remote_dir`) into the local directory `target`, which must be empty or not exist.

    The result, in the order asked, has each file that came with its size, hash and whether it changed meanwhile;
    what is gone or is no regular file any more is left out. Files are written 0600, directories 0700; nothing is
    written outside `target`, no link is ever made. `progress` is told the content bytes so far. Raises TransferError
    (more than `max_bytes`, a stream that is not as asked; throw `target` away), Unreachable, and OSError of the disk.
    """
    check_directory(remote_dir)
    del parts  # comes with the parts of large files
    names = tuple(file.path for file in files)
    for name in names:
        check_storable(name)
    await asyncio.to_thread(_make_empty, target)
    try:
        async with asyncio.timeout(timeout_sec):
            return await _get_all(machine, remote_dir, names, target, max_bytes=max_bytes, progress=progress)
    except TimeoutError as error:
        raise Unreachable(f"{machine.where}: fetching took over {timeout_sec:g} s; try again") from error


async def _get_all(
    machine: Machine,
    remote_dir: str,
    files: Sequence[str],
    target: Path,
    *,
    max_bytes: int,
    progress: Callable[[int], None] | None,
) -> tuple[FetchedFile, ...]:
    fetched: list[FetchedFile] = []
    received = 0
    for batch in _batches(dict.fromkeys(files)):
        before = await _stamps(machine, remote_dir, batch)
        untar = Untar(target, batch, max_bytes=max_bytes - received)
        await _stream(machine, remote_dir, batch, untar, partial(_tell, progress, received))
        received += sum(file.size for file in untar.done.values())
        after = await _stamps(machine, remote_dir, batch)
        for name in batch:
            if name in untar.done:
                fetched.append(_judge(untar.done[name], before.get(name), after.get(name)))
    return tuple(fetched)


def _tell(progress: Callable[[int], None] | None, before: int, size: int) -> None:
    if progress is not None:
        progress(before + size)


def _judge(file: FetchedFile, before: bytes | None, after: bytes | None) -> FetchedFile:
    """Unchanged means: the same stamp before and after, and as many bytes as it says."""
    steady = before is not None and before == after and before.split(b" ", 1)[0] == b"%d" % file.size
    return file if steady else replace(file, changed=True)


def _batches(names: Sequence[str] | dict[str, None]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for name in names:
        if batch and (len(batch) >= BATCH_FILES or size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += len(name.encode())
    if batch:
        yield batch


def _lines(names: Sequence[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode("utf-8")


async def _stamps(machine: Machine, remote_dir: str, names: Sequence[str]) -> dict[str, bytes]:
    done = await machine.run_command(
        machine.command(STAMP, remote_dir), stdin=_lines(names), timeout_sec=STALL_SEC, label="looking at files"
    )
    found = {}
    for line in done.stdout.split(b"\n"):
        stamp, mark, name = line.partition(b" ./")
        if mark:
            found[name.decode("utf-8", "replace")] = stamp
    return found


async def _stream(
    machine: Machine, remote_dir: str, names: Sequence[str], untar: Untar, progress: Callable[[int], None]
) -> None:
    changed = asyncio.Event()
    command = machine.command(GET, remote_dir)
    async with machine.channel(command, changed, noise_limit=NOISE_BYTES) as channel:
        await channel.feed(_lines(names))
        channel.write_eof()
        try:
            while not channel.drained:
                changed.clear()
                while data := channel.take():
                    await asyncio.to_thread(untar.feed, data)
                    progress(untar.received)
                channel.controls.clear()
                if not channel.drained and not changed.is_set():
                    await _wait(machine, changed)
        finally:
            untar.close()
        status, said = channel.exit_status, channel.excerpt()
    if status is None:
        raise Unreachable(f"{machine.where}: the connection was lost while files were fetched; connect again")
    if status == 3:
        raise TransferError(f"{machine.where}: there is no directory {remote_dir}")
    if not untar.finished:
        raise TransferError(f"{machine.where}: the archive ended too soon ({said or f'status {status}'}); try again")


async def _wait(machine: Machine, changed: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(STALL_SEC):
            await changed.wait()
    except TimeoutError as error:
        raise Unreachable(f"{machine.where}: nothing came for {STALL_SEC} s; connect again") from error


def _make_empty(target: Path) -> None:
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise TransferError(f"{target} is not empty; fetch into a new directory")
