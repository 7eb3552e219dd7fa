"""Large files to a machine: in parts, over several channels at once; what is there already is not sent again."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence

from gpuscale_tui.remote.channel import Channel
from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.crew import Crew, worst
from gpuscale_tui.remote.errors import TransferError, Unreachable
from gpuscale_tui.remote.inspection import HASH, HASH_SEC, SUM
from gpuscale_tui.remote.names import READ_NAME, READ_NAMES, lines
from gpuscale_tui.remote.packing import open_source, unreadable
from gpuscale_tui.remote.paths import shown
from gpuscale_tui.remote.scripts import compact
from gpuscale_tui.remote.threads import in_thread
from gpuscale_tui.remote.tree import TreeFile

GRAIN = 1024 * 1024
"""What dd counts in; every part begins at a multiple of it."""
PART_BYTES = 32 * GRAIN
CHANNELS = 3
READ_BYTES = 1024 * 1024
SETTLE_SEC = 300
"""How long the machine may take, once all was sent, to write it."""
MOST_SAID = 1024

# $2 the directory, $3 GRAINs to skip; stdin: the name, then the content. Its directory is made if need be.
PART = compact(
    f"""
echo gpuscale:begin
LC_ALL=C
export LC_ALL
umask 077
trap : PIPE
cd && cd "./$2" || exit 3
skip=$3
{READ_NAME}
case $1 in (./*/*) mkdir -p "${{1%/*}}" || exit 1;; esac
exec dd of="$1" bs={GRAIN} seek="$skip" conv=notrunc
"""
)

# $2 the directory, $3 GRAINs in a part, $4 how many parts; stdin: the name. One line a part: its hash, or nothing.
PART_SUMS = compact(
    f"""
echo gpuscale:begin
cd && cd "./$2" || exit 3
{SUM}
grains=$3 parts=$4 part=0
{READ_NAMES}
chmod u+rw "$1"
while [ "$part" -lt "$parts" ]; do
  hash=$(dd if="$1" bs={GRAIN} skip="$((part*grains))" count="$grains" 2>/dev/null | sum)
  echo "${{hash%% *}}"
  part=$((part+1))
done
"""
)

# $2 the directory, $3 the mode; stdin: the name, then a line `SKIP COUNT` in GRAINs for each part that is there, in
# order. Hashes the file while it is still being sent; then its mode is set, and its hash told where there is a tool.
HASH_ALONG = compact(
    f"""
echo gpuscale:begin
cd && cd "./$2" || exit 3
{SUM}
mode=$3
{READ_NAME}
hash=$(
  while read -r skip count; do dd if="$1" bs={GRAIN} skip="$skip" count="$count" 2>/dev/null; done | sum
)
chmod "$mode" "$1" || exit 1
echo "${{hash%% *}}"
"""
)


class LargeSending:
    """One large file on its way into a directory on the machine."""

    def __init__(self, machine: Machine, remote_dir: str, file: TreeFile, sent: Callable[[int], None]) -> None:
        self._machine, self._remote_dir, self._file = machine, remote_dir, file
        self._sent = sent
        self._there: set[int] = set()
        self._more = asyncio.Event()
        self._hashing = asyncio.Event()
        self._source = -1

    async def send(self, there: int) -> None:
        """Send what lacks of it, then let the machine hash it; `there` is how large what it has of it is.

        Raises TransferError (a disk that is full, a file that changes here, a hash that is another), Unreachable.
        """
        file = self._file
        try:
            self._source = await in_thread(open_source, file)
        except OSError as error:
            raise unreadable(file, error) from error
        try:
            async with asyncio.TaskGroup() as tasks:
                own = tasks.create_task(self._own_hash())
                theirs = tasks.create_task(self._hash_there())
                tasks.create_task(self._send_parts(there))
        except BaseExceptionGroup as group:
            raise worst(group) from group
        finally:
            os.close(self._source)
        if HASH.fullmatch(theirs.result()) and theirs.result() != own.result():
            raise TransferError(
                f"{self._machine.where}: {shown(file.path)} has another SHA-256 there than it should; repeat it"
            )

    async def _send_parts(self, there: int) -> None:
        held = await self._held(there) if there else frozenset()
        self._there |= held
        self._more.set()
        starts = range(0, self._file.size, PART_BYTES)
        lacking = [start for start in starts if start not in held]
        self._sent(sum(min(PART_BYTES, self._file.size - start) for start in held))
        await self._hashing.wait()  # for its session the server must have room; opening one is bounded
        await Crew(lacking, self._bring, size=CHANNELS).run()

    async def _bring(self, start: int) -> None:
        await self._send_part(start)
        self._there.add(start)
        self._more.set()

    async def _send_part(self, start: int) -> None:
        changed = asyncio.Event()
        command = self._machine.command(PART, self._remote_dir, str(start // GRAIN))
        async with self._machine.channel(command, changed) as channel:
            await channel.feed(lines([self._file.path]))
            position, end = start, min(start + PART_BYTES, self._file.size)
            while position < end and not channel.closed:
                data = await in_thread(self._read, position, min(READ_BYTES, end - position))
                await feed(channel, data)
                position += len(data)
                self._sent(len(data))
            channel.write_eof()
            await settled(self._machine, channel)

    def _read(self, position: int, size: int) -> bytes:
        try:
            data = os.pread(self._source, size, position)
        except OSError as error:
            raise unreadable(self._file, error) from error
        if not data:
            raise TransferError(f"{shown(str(self._file.source))} became shorter; repeat when it stands still")
        return data

    async def _held(self, there: int) -> frozenset[int]:
        """Where the parts begin that the machine has: it says their hashes, which are compared with ours."""
        size = self._file.size
        if there > size:
            return frozenset()
        words = (str(PART_BYTES // GRAIN), str(-(-there // PART_BYTES)))
        said = await self._ask(PART_SUMS, words, "hashing what has arrived")
        held = set()
        for start, theirs in zip(range(0, there, PART_BYTES), said, strict=False):
            if theirs == await in_thread(self._part_hash, start, min(PART_BYTES, size - start)):
                held.add(start)
        return frozenset(held)

    def _part_hash(self, start: int, size: int) -> str:
        made = hashlib.sha256()
        self._hash_part(made, start, size)
        return made.hexdigest()

    def _hash_part(self, made: hashlib._Hash, start: int, size: int) -> None:
        for position in range(start, start + size, READ_BYTES):
            made.update(self._read(position, min(READ_BYTES, start + size - position)))

    async def _own_hash(self) -> str:
        if self._file.sha256:
            return self._file.sha256
        made, size = hashlib.sha256(), self._file.size
        for start in range(0, size, PART_BYTES):
            await in_thread(self._hash_part, made, start, min(PART_BYTES, size - start))
        return made.hexdigest()

    async def _hash_there(self) -> str:
        """What the machine says that the hash is, which it computes on the way; "" when it has no tool."""
        size, changed = self._file.size, asyncio.Event()
        command = self._machine.command(HASH_ALONG, self._remote_dir, f"{self._file.mode & 0o777:o}")
        async with self._machine.channel(command, changed) as channel:
            self._hashing.set()
            await channel.feed(lines([self._file.path]))
            for start in range(0, size, PART_BYTES):
                while start not in self._there:
                    self._more.clear()
                    await self._more.wait()  # those that send have bounds, and the first to fail ends this one
                count = -(-min(PART_BYTES, size - start) // GRAIN)
                channel.write(b"%d %d\n" % (start // GRAIN, count))
            channel.write_eof()
            said = await settled(self._machine, channel, HASH_SEC)
        return said.decode("ascii", "replace").strip()

    async def _ask(self, script: str, words: Sequence[str], label: str) -> list[str]:
        command = self._machine.command(script, self._remote_dir, *words)
        done = await self._machine.run_command(
            command, stdin=lines([self._file.path]), timeout_sec=HASH_SEC, label=label
        )
        if done.exit_status != 0:
            said = done.stderr[:200].decode("utf-8", "replace").strip()
            raise TransferError(f"{self._machine.where}: {label} failed ({shown(said)}); repeat it")
        return done.stdout.decode("ascii", "replace").split("\n")


async def feed(channel: Channel, data: bytes) -> None:
    """Send; when the far side has ended by itself meanwhile, its status will say why."""
    try:
        await channel.feed(data)
    except Unreachable:
        if channel.exit_status is None:
            raise


async def settled(machine: Machine, channel: Channel, timeout_sec: float = SETTLE_SEC) -> bytes:
    """Wait for the end of a command that took data; what it printed. TransferError when it failed, Unreachable."""
    said = b""
    try:
        async with asyncio.timeout(timeout_sec):
            while not channel.drained:
                channel.changed.clear()
                said = (said + channel.take())[:MOST_SAID]
                channel.controls.clear()
                if not channel.drained:
                    await channel.changed.wait()
    except TimeoutError as error:
        raise Unreachable(f"{machine.where}: the upload was not confirmed in {timeout_sec:g} s; repeat it") from error
    if channel.exit_status is None:
        raise Unreachable(f"{machine.where}: the connection was lost during an upload; connect again and repeat it")
    if channel.exit_status != 0:
        why = shown(channel.excerpt()) or "it said nothing"
        raise TransferError(f"{machine.where}: the machine could not take the upload ({why}); is its disk full?")
    return said
