"""Large files from a machine: in parts, over several channels at once, each going on where it was cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gpuscale_tui.remote.assembly import Assembly
from gpuscale_tui.remote.channel import Channel
from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.crew import Crew, worst
from gpuscale_tui.remote.errors import TransferError, Unreachable
from gpuscale_tui.remote.extents import Extent, covered, missing, reach
from gpuscale_tui.remote.names import READ_NAMES, lines
from gpuscale_tui.remote.paths import shown
from gpuscale_tui.remote.scripts import compact
from gpuscale_tui.remote.threads import in_thread

GRAIN = 1024 * 1024
"""What dd counts in: a part begins at a multiple of it."""
PART_BYTES = 64 * GRAIN
"""One command on the machine. The cost of starting it, some 5 ms there, should not be felt."""
CHANNELS = 3
HASH_AHEAD_BYTES = 32 * GRAIN

# $2 the directory, $3 how many GRAINs to skip, $4 how many to send; stdin: the name. 5 when it is no file any more.
PART = compact(
    f"""
echo gpuscale:begin
LC_ALL=C
export LC_ALL
cd && cd "./$2" || exit 3
skip=$3 count=$4
{READ_NAMES}
if [ -f "$1" ] && [ ! -h "$1" ]; then exec dd if="$1" bs={GRAIN} skip="$skip" count="$count" 2>/dev/null; fi
exit 5
"""
)


class Moved(Exception):
    """The file is not what it was when it was listed: gone, shorter or longer."""


class LargeFile:
    """One fetch of one large file into an assembly."""

    def __init__(
        self, machine: Machine, remote_dir: str, path: str, assembly: Assembly, arrived: Callable[[int], None]
    ) -> None:
        """`arrived` is told of each number of bytes that has come."""
        self._machine, self._remote_dir, self._path = machine, remote_dir, path
        self._assembly = assembly
        self._arrived = arrived
        self._more = asyncio.Event()
        self._parts = missing(assembly.arrived, assembly.size, grain=GRAIN, longest=PART_BYTES)

    async def fetch(self) -> None:
        """Bring what lacks. Raises Moved, TransferError, Unreachable, OSError; what has arrived is kept anyway."""
        self._arrived(covered(self._assembly.arrived))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hash())
                tasks.create_task(Crew(self._parts, self._bring, size=CHANNELS).run())
        except BaseExceptionGroup as group:
            raise worst(group) from group

    async def _bring(self, part: Extent) -> None:
        start, end = part
        changed = asyncio.Event()
        words = (str(start // GRAIN), str(-(-(end - start) // GRAIN)))
        command = self._machine.command(PART, self._remote_dir, *words)
        async with self._machine.channel(command, changed, bulk=True) as channel:
            await channel.feed(lines([self._path]))
            channel.write_eof()
            position = start
            while not channel.drained:
                position = await self._keep(channel, position, end)
                if not channel.drained:
                    await channel.wait_for_more()
            status = channel.exit_status
        if status is None:
            raise Unreachable(f"{self._machine.where}: the connection was lost while files were fetched; connect again")
        if status == 3:
            raise TransferError(f"{self._machine.where}: there is no directory {self._remote_dir}")
        if position < end:
            raise Moved(f"{shown(self._path)} is shorter than it was")

    async def _keep(self, channel: Channel, position: int, end: int) -> int:
        """Write what waits; where the next bytes go."""
        channel.changed.clear()
        channel.controls.clear()
        pieces = channel.take_pieces()
        if not pieces:
            return position
        after = position + sum(map(len, pieces))
        if after > -(-end // GRAIN) * GRAIN:
            raise TransferError(f"{self._machine.where}: more of {shown(self._path)} came than was asked for")
        if after > end:  # what dd counts in goes beyond the end that the file had
            raise Moved(f"{shown(self._path)} is longer than it was")
        await in_thread(self._assembly.write, position, pieces)
        self._assembly.note(position, after)
        self._arrived(after - position)
        self._more.set()
        return after

    async def _hash(self) -> None:
        assembly = self._assembly
        while assembly.hashed < assembly.size:
            self._more.clear()
            end = min(reach(assembly.arrived, assembly.hashed), assembly.hashed + HASH_AHEAD_BYTES)
            if end > assembly.hashed:
                await in_thread(assembly.hash_to, end)
            else:
                await self._more.wait()  # the workers' waits are bounded, and the first to fail ends this one
