"""What lies in a directory on a machine."""

from __future__ import annotations

import asyncio
import re
import stat
from dataclasses import replace

from gpuscale_tui.remote.channel import Channel
from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import TransferError, Unreachable
from gpuscale_tui.remote.paths import check_directory, is_storable, shown
from gpuscale_tui.remote.scripts import compact
from gpuscale_tui.remote.tree import DIRECTORY, FILE, LINK, OTHER, RemoteFile, RemoteListing

LIST_SEC = 120
ENTRY_BYTES = 16 * 1024
"""One entry with its name and, for a link, its target; no system has longer ones."""
PIECE_BYTES = 32 * 1024
TRIES = 3
"""How often a directory is looked through whose links change in that moment."""
MOST_BYTES = 1 << 60
MOST_LEFT_OUT = 100
PERMISSIONS = 0o777
CLOCK = re.compile(rb"([0-9]{1,12})(?:\.([0-9]{1,9}))?")
MARK = b" .//."
"""Stands before each name and nowhere else: find is told to begin at `.//.`, and no name holds two slashes. So a name
may hold whatever it likes, even a newline and all that comes before a mark."""
FACTS = re.compile(
    rb"([0-9a-fA-F]{1,8}) ([0-9]{1,19}) ([0-9]{1,20}) (-?[0-9]{1,12}) (-?[0-9]{1,12}) "
    rb"([0-9:. +-]{0,60})\|([0-9:. +-]{0,60})"
)
FRACTION = re.compile(rb"\.([0-9]{1,9})")
COMPLAINT = re.compile(r"(?:\S*/)?(?:find|stat|readlink|busybox|sh): (.*)")
GONE = "No such file"
KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: LINK}

# For each argument, a link: its facts, its name, two slashes, where it leads, which is as long as its size says.
LINKS = compact(
    """
kind=$1 format=$2
shift 2
for link; do
  facts=$("stat" "$kind" "$format" "$link") || continue
  printf "%s %s//" "$facts" "$link"
  readlink "$link" || echo
done
"""
)

# $2 the directory, $3 LINKS. First line: the clock. Links come last; their absence and find's status say nothing.
LIST = compact(
    """
echo gpuscale:begin
LC_ALL=C
export LC_ALL
cd && cd "./$2" || exit 3
date +%s.%N
if stat -c %f . >/dev/null 2>&1; then kind=-c format="%f %s %i %Y %Z %y|%z"
elif stat -f %Xp . >/dev/null 2>&1; then kind=-f format="%Xp %z %i %m %c %Fm|%Fc"
else exit 4
fi
name=%n
[ "$kind" = -c ] || name=%N
find .//. ! -type l -exec stat "$kind" "$format $name" "{}" +
exec find .//. -type l -exec "$1" -c "$3" links "$kind" "$format" "{}" +
"""
)


async def list_tree(
    machine: Machine, remote_dir: str, *, max_entries: int = 100_000, timeout_sec: float = LIST_SEC
) -> RemoteListing:
    """Everything below `remote_dir` (relative to the remote home). Symbolic links are listed, not followed.

    Names may be of any bytes (no text: surrogate escapes). What cannot be listed is named in `left_out`. Raises
    TransferError when the directory is not there, holds more than `max_entries`, or the answer makes no sense;
    Unreachable.
    """
    check_directory(remote_dir)
    try:
        async with asyncio.timeout(timeout_sec):
            for _ in range(TRIES - 1):
                try:
                    return await _list(machine, remote_dir, max_entries)
                except _Garbled:
                    continue
            return await _list(machine, remote_dir, max_entries)
    except TimeoutError as error:
        raise Unreachable(f"{machine.where}: listing {remote_dir} took over {timeout_sec:g} s; try again") from error


class _Garbled(TransferError):
    """The answer makes no sense, as when a link changed between its size and its target."""


async def _list(machine: Machine, remote_dir: str, max_entries: int) -> RemoteListing:
    changed = asyncio.Event()
    answer = _Answer(f"{machine.where}: {remote_dir}", max_entries)
    async with machine.channel(machine.command(LIST, remote_dir, LINKS), changed) as channel:
        channel.write_eof()
        while not channel.drained:
            changed.clear()
            while data := channel.take():
                for start in range(0, len(data), PIECE_BYTES):
                    answer.feed(data[start : start + PIECE_BYTES])
                    await asyncio.sleep(0)  # others may go on: a large listing takes a while to be read
            channel.controls.clear()
            if not channel.drained and not changed.is_set():
                await changed.wait()
        _check_end(machine, remote_dir, channel)
        answer.finish()
        complaints = bytes(channel.noise).decode("utf-8", "replace").split("\n")
    if not answer.rooted:
        raise TransferError(
            f"{machine.where}: listing {remote_dir} gave nothing that we know ({channel.excerpt()}); try again"
        )
    return answer.listing(complaints)


def _check_end(machine: Machine, remote_dir: str, channel: Channel) -> None:
    if channel.exit_status is None:
        raise Unreachable(f"{machine.where}: the connection was lost while {remote_dir} was listed; connect again")
    if channel.exit_status == 3:
        raise TransferError(f"{machine.where}: there is no directory {remote_dir}")
    if channel.exit_status == 4:
        raise TransferError(f"{machine.where}: the machine has no stat program that we know")


class _Answer:
    """Takes the stream apart: facts, mark, name; then, of a link, two slashes and its target; a newline."""

    def __init__(self, what: str, max_entries: int) -> None:
        self.rooted = False
        """The directory itself was listed: proof that find and stat did their work. Their status says less: a file
        that is renamed while they look, as checkpoints are, makes it non-zero."""
        self._what = what
        self._max_entries = max_entries
        self._clock: int | None = None
        self._rest = b""
        self._files: dict[str, RemoteFile] = {}
        self._left_out: list[str] = []
        self._count = 0

    def feed(self, data: bytes) -> None:
        self._rest += data
        if self._clock is None and not self._take_clock():
            return
        start = 0
        # the last entry is whole only when the next one has begun, or at the end
        while (end := self._entry_end(start)) is not None:
            self._take(self._rest[start:end])
            start = end + 1
        self._rest = self._rest[start:]
        if len(self._rest) > ENTRY_BYTES + len(data):
            raise TransferError(f"{self._what} has endless names")

    def finish(self) -> None:
        if self._clock is not None and self._rest:
            self._take(self._rest.removesuffix(b"\n"))

    def listing(self, complaints: list[str]) -> RemoteListing:
        for line in complaints:
            found = COMPLAINT.fullmatch(line)
            if found is not None and GONE not in line:
                self._leave_out(found[1])
        files = (self._files[path] for path in sorted(self._files))
        return RemoteListing(files, clock=self._clock or 0, left_out=self._left_out)

    def _take_clock(self) -> bool:
        line, newline, rest = self._rest.partition(b"\n")
        if not newline:
            return False
        found = CLOCK.match(line)
        if found is None:
            raise TransferError(f"{self._what}: the machine's clock gives no number")
        self._clock = _milliseconds(found[1], found[2])
        self._rest = rest
        return True

    def _entry_end(self, start: int) -> int | None:
        """Where the entry that begins at `start` ends; None when that cannot be told yet."""
        mark = self._rest.find(MARK, start)
        if mark < 0:
            return None
        facts = FACTS.fullmatch(self._rest, start, mark)
        if facts is not None and KINDS.get(stat.S_IFMT(int(facts[1], 16))) == LINK:
            slashes = self._rest.find(b"//", mark + len(MARK))
            end = slashes + 2 + int(facts[2])
            return end if slashes >= 0 and end < len(self._rest) else None
        following = self._rest.find(MARK, mark + len(MARK))
        if following < 0:
            return None
        end = self._rest.rfind(b"\n", mark, following)
        if end < 0:
            raise _Garbled(f"{self._what}: the listing makes no sense; try again")
        return end

    def _take(self, entry: bytes) -> None:
        facts, mark, name = entry.partition(MARK)
        found = FACTS.fullmatch(facts)
        if not mark or found is None:
            raise _Garbled(f"{self._what}: the listing makes no sense ({shown(entry[:60])}); try again")
        self._count += 1
        if self._count > self._max_entries + 1:  # the directory itself is one
            raise TransferError(f"{self._what} has over {self._max_entries} entries")
        file = _read(found)
        if file.kind == LINK:
            name, _, target = name.partition(b"//")
            if len(target) != file.size:
                raise _Garbled(f"{self._what}: a link changed while it was listed; try again")
            file = replace(file, target=_text(target))
        if not name:
            self.rooted = True
        elif not name.startswith(b"/") or not is_storable(path := _text(name[1:])) or file.size > MOST_BYTES:
            self._leave_out(f"{shown(name[1:])}: no name that can be kept")
        else:
            self._files[path] = replace(file, path=path)

    def _leave_out(self, what: str) -> None:
        if len(self._left_out) < MOST_LEFT_OUT:
            self._left_out.append(shown(what))
        elif len(self._left_out) == MOST_LEFT_OUT:
            self._left_out.append("and more")


def _read(found: re.Match[bytes]) -> RemoteFile:
    bits, inode = int(found[1], 16), int(found[3])
    modified, changed = (_milliseconds(found[part], _fraction(found[part + 2])) for part in (4, 5))
    return RemoteFile(
        "", int(found[2]), modified, KINDS.get(stat.S_IFMT(bits), OTHER), bits & PERMISSIONS,
        f"{found[2].decode()} {inode} {found[6].decode()}|{found[7].decode()}", changed, "", inode,
    )  # fmt: skip


def _milliseconds(seconds: bytes, fraction: bytes | None) -> int:
    return int(seconds) * 1000 + int((fraction or b"0")[:3].ljust(3, b"0"))


def _fraction(text: bytes) -> bytes | None:
    found = FRACTION.search(text)
    return None if found is None else found[1]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
