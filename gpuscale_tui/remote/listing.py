"""What lies in a directory on a machine."""

from __future__ import annotations

import asyncio
import re
import stat
import time

from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import TransferError, Unreachable
from gpuscale_tui.remote.paths import check_directory, is_storable
from gpuscale_tui.remote.scripts import compact
from gpuscale_tui.remote.tree import RemoteFile, RemoteListing

LINE_BYTES = 8 * 1024
LIST_SEC = 120
MOST_BYTES = 1 << 60
RECORD = re.compile(rb"([0-9a-fA-F]{1,8}) ([0-9]{1,19}) (-?[0-9]{1,15}) \./(.*)", re.DOTALL)
ROOT = re.compile(rb"[0-9a-fA-F]{1,8} [0-9]{1,19} -?[0-9]{1,15} \.")
"""The directory itself, always there: proof that find and stat did their work. Their status says less: a file that is
renamed while they look, as checkpoints are, makes it non-zero."""
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}

# $2 the directory. A name with a newline, which could pass for another line, is counted by a "-" and not entered.
LIST = compact(
    """
echo gpuscale:begin
cd && cd "./$2" || exit 3
nl="
"
if stat -c %f . >/dev/null 2>&1; then kind=-c format="%f %s %Y %n"
elif stat -f %Xp . >/dev/null 2>&1; then kind=-f format="%Xp %z %m %N"
else exit 4
fi
exec find . "(" -name "*$nl*" -prune -exec echo - ";" ")" -o -exec stat "$kind" "$format" "{}" +
"""
)


async def list_tree(
    machine: Machine, remote_dir: str, *, max_entries: int = 100_000, timeout_sec: float = LIST_SEC
) -> RemoteListing:
    """Everything below `remote_dir` (relative to the remote home). Symbolic links are listed, not followed.

    Names with control characters or backslashes, of no valid text, or longer than 1024 are skipped and counted. Raises
    TransferError when the directory is not there, holds more than `max_entries`, or the answer makes no sense;
    Unreachable.
    """
    check_directory(remote_dir)
    try:
        async with asyncio.timeout(timeout_sec):
            return await _list(machine, remote_dir, max_entries)
    except TimeoutError as error:
        raise Unreachable(f"{machine.where}: listing {remote_dir} took over {timeout_sec:g} s; try again") from error


async def _list(machine: Machine, remote_dir: str, max_entries: int) -> RemoteListing:
    changed = asyncio.Event()
    files: dict[str, RemoteFile] = {}
    counted = skipped = 0
    rooted = False
    rest = b""
    async with machine.channel(machine.command(LIST, remote_dir), changed) as channel:
        channel.write_eof()
        while not channel.drained:
            changed.clear()
            *lines, rest = (rest + channel.take()).split(b"\n")
            for line in lines:
                if ROOT.fullmatch(line):
                    rooted = True
                    continue
                found = _read(line)
                counted += 1
                if found is None:
                    skipped += 1
                else:
                    files[found.path] = found
            if counted > max_entries or len(rest) > LINE_BYTES:
                raise TransferError(f"{machine.where}: {remote_dir} has over {max_entries} entries or endless names")
            channel.controls.clear()
            if not channel.drained and not changed.is_set():
                await changed.wait()
        status, said = channel.exit_status, channel.excerpt()
    _check_end(machine, remote_dir, status)
    if not rooted:
        raise TransferError(f"{machine.where}: listing {remote_dir} gave nothing that we know ({said}); try again")
    left_out = (f"{skipped} names of control characters, backslashes or no valid text",) if skipped else ()
    return RemoteListing((files[path] for path in sorted(files)), clock=int(time.time() * 1000), left_out=left_out)


def _check_end(machine: Machine, remote_dir: str, status: int | None) -> None:
    if status is None:
        raise Unreachable(f"{machine.where}: the connection was lost while {remote_dir} was listed; connect again")
    if status == 3:
        raise TransferError(f"{machine.where}: there is no directory {remote_dir}")
    if status == 4:
        raise TransferError(f"{machine.where}: the machine has no stat program that we know")


def _read(line: bytes) -> RemoteFile | None:
    match = RECORD.fullmatch(line)
    if match is None:
        return None
    mode, size, mtime, name = match.groups()
    path = name.decode("utf-8", "surrogateescape")
    if not is_storable(path) or int(size) > MOST_BYTES:
        return None
    bits, stamp = int(mode, 16), f"{size.decode()} {mtime.decode()}"
    return RemoteFile(
        path, int(size), int(mtime) * 1000, KINDS.get(stat.S_IFMT(bits), "other"), bits & 0o777, stamp,
        changed_at=int(mtime) * 1000,
    )  # fmt: skip
