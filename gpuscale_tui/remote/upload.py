"""Makes a directory on a machine hold exactly a tree of ours: put together beside it, checked, moved into place."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import RemoteError, TransferError, Unreachable
from gpuscale_tui.remote.inspection import hashes
from gpuscale_tui.remote.listing import list_tree
from gpuscale_tui.remote.packing import send_archive
from gpuscale_tui.remote.paths import check_directory, is_storable, shown
from gpuscale_tui.remote.scripts import compact
from gpuscale_tui.remote.sending import SETTLE_SEC, LargeSending, settled
from gpuscale_tui.remote.tree import DIRECTORY, FILE, LINK, RemoteFile, TreeFile
from gpuscale_tui.remote.workdir import link_stays_inside

LARGE_BYTES = 64 * 1024 * 1024
MOST_ENTRIES = 1_000_000

_GO = """
echo gpuscale:begin
LC_ALL=C
export LC_ALL
umask 077
cd || exit 1
part=./$2.part.$3
clear_away() {
  if [ -e "$1" ] || [ -L "$1" ]; then rm -rf "$1" 2>/dev/null || { chmod -R u+rwx "$1"; rm -rf "$1"; }; fi
}
"""

# $2 the directory, $3 the mark of the tree. Says whether something of the same tree is there; of others nothing stays.
BEGIN = compact(
    _GO
    + """
for other in "./$2".part.*; do
  [ "$other" = "$part" ] || clear_away "$other"
done
if [ -d "$part" ]; then echo again; else mkdir -p "$part" && echo new || exit 1; fi
"""
)

# $2 the directory, $3 the mark; stdin: a tar stream
PUT = compact(
    _GO
    + """
trap : PIPE
cd "$part" && exec tar -xpof -
"""
)

# $2 the directory, $3 the mark. Should another whole upload have come meanwhile, ours lands inside it and goes.
FINISH = compact(
    _GO
    + """
chmod 700 "$part" && clear_away "./$2" && mv -f "$part" "./$2" || exit 1
clear_away "./$2/${part##*/}"
"""
)

# $2 the directory, $3 the mark
DISCARD = compact(_GO + 'clear_away "$part"')


async def put_tree(
    machine: Machine,
    ref_dir: str,
    files: Sequence[TreeFile],
    *,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Upload `files` so that the directory `ref_dir` on the machine holds exactly them.

    `ref_dir` is relative to the remote home. The tree is put together beside it and moved into its place when it is
    whole: sizes and links are compared, and hashes where they are known and the machine has a program for them. What
    was in `ref_dir` is replaced. After a failure repeat the call: what arrived is not sent again. Permission bits
    travel, set-id bits do not, and the owner may always enter a directory; links must lead to a place in the tree.
    `progress` is told the bytes sent so far, with those that were there already. Raises TransferError for a tree that
    cannot be sent or a machine that cannot take it (of which nothing stays there then), Unreachable.
    """
    check_directory(ref_dir)
    _check(files)
    put = _Put(machine, ref_dir, _mark(files), progress)
    try:
        await put.all(files)
    except Unreachable:
        raise
    except TransferError:
        with suppress(RemoteError):  # the first fault is the one to tell; the next upload clears away, too
            await put.run(DISCARD, "clearing away")
        raise


@dataclass(slots=True)
class _Put:
    """One call of `put_tree`."""

    machine: Machine
    ref_dir: str
    mark: str
    progress: Callable[[int], None] | None
    sent: int = 0

    @property
    def part_dir(self) -> str:
        return f"{self.ref_dir}.part.{self.mark}"

    async def all(self, files: Sequence[TreeFile]) -> None:
        there = await self._begin()
        small = [file for file in files if not _is_large(file)]
        lacking = [file for file in small if not _has(there, file)]
        self._told(sum(file.size for file in small) - sum(file.size for file in lacking))
        if lacking:
            await self._send_small(lacking)
        for file in files:
            if _is_large(file):
                held = there.get(file.path)
                await LargeSending(self.machine, self.part_dir, file, self._told).send(held.size if held else 0)
        await self._compare(files)
        await self.run(FINISH, "putting the upload into its place")

    async def run(self, script: str, label: str) -> bytes:
        command = self.machine.command(script, self.ref_dir, self.mark)
        done = await self.machine.run_command(command, stdin=b"", timeout_sec=SETTLE_SEC, label=label)
        if done.exit_status != 0:
            said = shown(done.stderr[:200].decode("utf-8", "replace").strip()) or "it said nothing"
            raise TransferError(f"{self.machine.where}: {label} failed ({said}); is its disk full?")
        return done.stdout

    def _told(self, size: int) -> None:
        self.sent += size
        if self.progress is not None and size:
            self.progress(self.sent)

    async def _begin(self) -> Mapping[str, RemoteFile]:
        """What is there of this tree from before."""
        if (await self.run(BEGIN, "making room for the upload")).strip() != b"again":
            return {}
        return {file.path: file for file in await list_tree(self.machine, self.part_dir, max_entries=MOST_ENTRIES)}

    async def _send_small(self, files: Sequence[TreeFile]) -> None:
        changed = asyncio.Event()
        command = self.machine.command(PUT, self.ref_dir, self.mark)
        async with self.machine.channel(command, changed) as channel:
            await send_archive(channel, files, self._told)
            await settled(self.machine, channel)

    async def _compare(self, files: Sequence[TreeFile]) -> None:
        """The machine must have what was sent, and nothing but. Large files were hashed when they were sent."""
        listed = await list_tree(self.machine, self.part_dir, max_entries=MOST_ENTRIES)
        found = {file.path: file for file in listed}
        wrong = [file.path for file in files if not _same(found.get(file.path), file)]
        known = {path for file in files for path in (file.path, *_parents(file.path))}
        wrong += [path for path in found if path not in known]
        if not wrong:
            sums = {file.path: file.sha256 for file in files if file.sha256 and not _is_large(file)}
            theirs = await hashes(self.machine, self.part_dir, tuple(sums)) if sums else {}
            wrong = [path for path in sums if path in theirs and theirs[path] != sums[path]]
        if wrong:
            raise TransferError(
                f"{self.machine.where}: {shown(wrong[0])} is not there as it was sent ({len(wrong)} such); repeat it"
            )


def _is_large(file: TreeFile) -> bool:
    return file.kind == FILE and file.size >= LARGE_BYTES


def _same(found: RemoteFile | None, file: TreeFile) -> bool:
    if found is None or found.kind != file.kind:
        return False
    if file.kind == LINK:
        return found.target == file.target
    return file.kind == DIRECTORY or found.size == file.size


def _has(there: Mapping[str, RemoteFile], file: TreeFile) -> bool:
    """Whether it has arrived before: tar sets a file's time when it has written it whole."""
    found = there.get(file.path)
    if found is None or file.kind != FILE or file.source is None:
        return False
    try:
        modified = int(file.source.stat().st_mtime) * 1000
    except OSError:
        return False
    return _same(found, file) and found.mtime == modified and found.mode == file.mode & 0o777


def _mark(files: Iterable[TreeFile]) -> str:
    """The same for the same tree, so that a repeated upload finds what arrived."""
    facts = [(file.path, file.kind, file.mode, file.size, file.sha256, file.target) for file in files]
    text = json.dumps(sorted(facts))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:24]


def _check(files: Sequence[TreeFile]) -> None:
    kinds = {file.path: file.kind for file in files}
    if len(kinds) != len(files):
        raise TransferError("the tree to send has a name twice")
    for file in files:
        if not is_storable(file.path):
            raise TransferError(f"{shown(file.path[:100])!r} is not a path inside the directory to send")
        if file.kind not in {FILE, DIRECTORY, LINK}:
            raise TransferError(f"{shown(file.path)} is no file, directory or link; leave it out")
        if file.kind == LINK and not (link_stays_inside(file.path, file.target) and "\0" not in file.target):
            raise TransferError(
                f"{shown(file.path)} links to {shown(file.target)}, out of the directory to send; leave it out"
            )
        if any(kinds.get(parent, DIRECTORY) != DIRECTORY for parent in _parents(file.path)):
            raise TransferError(f"{shown(file.path)} lies in something that is no directory")


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]
