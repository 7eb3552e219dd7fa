"""What a machine sends to object storage and fetches from there by itself, held against what the service says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from gpuscale_tui.model.objects import PartSizes
from gpuscale_tui.remote.errors import TransferError
from gpuscale_tui.remote.object_upload import Fetching, Sending, Way
from gpuscale_tui.remote.site import Site
from gpuscale_tui.store.archive import FileEntry, SnapshotError
from gpuscale_tui.store.s3_archive import S3Archive
from gpuscale_tui.store.s3_bucket import Part, whole_sum
from gpuscale_tui.store.s3_client import Gone
from gpuscale_tui.store.s3_files import look_at, read_sums

T = TypeVar("T")
CHANNELS = 4
"""So many programs move files at once on one machine."""
IDLE_ROUNDS = 3
"""Rounds in which nothing more arrived, after which it is given up."""
PAUSE_SEC = 1.0
MISSING, REFUSED = 404, frozenset({401, 403})
CHANGED = frozenset({400})
"""What services answer when a body is not what its checksum says (BadDigest) or is cut off (IncompleteBody)."""


class CannotReach(Exception):
    """The machine gets no answer from the storage; somebody else must carry the bytes."""


class HasChanged(Exception):
    """A file on the machine is not what was hashed any more."""


@dataclass(slots=True)
class Carrier:
    """Moves one job's files between one directory of a machine and the storage; `beat` is called in each round.

    Raises Unreachable, TransferError and SnapshotError; CannotReach and HasChanged.
    """

    archive: S3Archive
    job_id: int
    site: Site
    directory: str
    way: Way
    beat: Callable[[], Awaitable[None]]
    sizes: PartSizes = field(default_factory=PartSizes)

    async def send(self, files: Sequence[FileEntry]) -> None:
        """Let the machine send contents that the storage lacks, until the service has each as it was hashed."""
        contents = list({entry.sha256: entry for entry in files}.values())
        small = {entry.sha256: entry for entry in contents if entry.size < self.sizes.parts_from}
        idle = 0
        while small:
            statuses = await self._send_whole(list(small.values()))
            arrived = await self._confirmed([small[sha256] for sha256, status in statuses.items() if status == 200])
            small = {sha256: entry for sha256, entry in small.items() if sha256 not in arrived}
            idle = await self._rest(idle, bool(arrived), [statuses[sha256] for sha256 in small])
        for entry in contents:
            if entry.size >= self.sizes.parts_from:
                await self._send_parts(entry)

    async def fetch(self, files: Sequence[FileEntry]) -> None:
        """Let the machine fetch files into places that are there, and compare every byte."""
        left = {entry.name: entry for entry in files if entry.size}
        have = dict.fromkeys(left, 0)
        idle = 0
        while left:
            statuses = await self._fetch_once(list(left.values()), have)
            hashes = await self.site.hashes(self.directory, list(left))
            sizes = {file.path: file.size for file in await self.site.list_tree(self.directory)}
            right = {name for name, entry in left.items() if hashes.get(name) == entry.sha256}
            moved = bool(right) or any(sizes.get(name, 0) > have[name] for name in left)
            left = {name: entry for name, entry in left.items() if name not in right}
            self._refuse_wrong(left, statuses, sizes, have)
            have = {name: _whole_blocks(sizes.get(name, 0), entry.size) for name, entry in left.items()}
            idle = await self._rest(idle, moved, [statuses[name] for name in left])

    # Parts.

    async def _rest(self, idle: int, moved: bool, statuses: Sequence[int]) -> int:
        """Count rounds in which nothing moved, and wait a little after each: what a service refuses in one moment it
        may take in the next."""
        await self.beat()
        if not statuses or moved:
            return 0
        if CHANGED.intersection(statuses):
            raise HasChanged
        if idle + 1 >= IDLE_ROUNDS:
            raise _given_up(self.site, self.archive, statuses)
        await asyncio.sleep(PAUSE_SEC * (idle + 1))
        return idle + 1

    async def _send_whole(self, files: Sequence[FileEntry]) -> dict[str, int]:
        """The status of each, by its hash."""

        def signed(group: Sequence[FileEntry]) -> list[Sending]:
            found = []
            for entry in group:
                address = self.archive.bucket.sign_put(self._key(entry), entry.size, entry.sha256)
                found.append(Sending(entry.name, entry.size, address.url, address.headers))
            return found

        async def send(group: Sequence[FileEntry]) -> dict[str, int]:
            asked = await self.archive.do(signed, group)
            statuses = await self.site.send_objects(self.directory, self.way, asked)
            return {entry.sha256: status for entry, status in zip(group, statuses, strict=True)}

        return _merged(await _at_once([send(group) for group in _shared_out(files)]))

    async def _confirmed(self, files: Sequence[FileEntry]) -> set[str]:
        """The hashes of the contents that the service has, by its own word; where it keeps no hashes, they are read."""
        found = await self.archive.do(look_at, self.archive, self.job_id, [entry.sha256 for entry in files])
        there = [entry for entry in files if entry.sha256 in found and found[entry.sha256].size == entry.size]
        unsure = [entry for entry in there if not found[entry.sha256].sha256]
        wrong = {entry.sha256 for entry in there if found[entry.sha256].sha256 not in {"", entry.sha256}}
        return {entry.sha256 for entry in there} - wrong - await self._misread(unsure)

    async def _misread(self, files: Sequence[FileEntry]) -> set[str]:
        """The hashes of contents that are not what they should be. The machine reads them back, else we do."""
        wrong = set()
        for group in _shared_out(files, most=1):
            if self.way == "curl":
                urls = await self.archive.do(lambda each=group: [self._address(entry) for entry in each])  # type: ignore[misc]
                read = await self.site.read_back(urls, sum(entry.size for entry in group))
            else:
                read = await self.archive.do(read_sums, self.archive, self.job_id, [entry.sha256 for entry in group])
            wrong |= {entry.sha256 for entry, sha256 in zip(group, read, strict=True) if sha256 != entry.sha256}
        return wrong

    def _address(self, entry: FileEntry) -> str:
        return self.archive.bucket.sign_get(self._key(entry)).url

    def _key(self, entry: FileEntry) -> str:
        return self.archive.key(self.job_id, entry.sha256)

    async def _send_parts(self, entry: FileEntry) -> None:
        """A large file: what has arrived of it before, in this run or another, is not sent again."""
        bucket, key, step = self.archive.bucket, self._key(entry), self.sizes.part_of(entry.size)
        sums = await self.site.part_sums(self.directory, entry.name, entry.size, step)
        if not sums:
            raise HasChanged
        wanted = [
            Part(number + 1, min(step, entry.size - number * step), "", sha256) for number, sha256 in enumerate(sums)
        ]
        idle = 0
        while True:
            try:
                upload = await self.archive.do(bucket.begin_parts, key)
                have = await self.archive.do(bucket.parts, key, upload)
            except Gone:  # somebody else has finished it or given it up in this moment
                idle = await self._rest(idle, moved=False, statuses=[500])
                continue
            left = [part for part in wanted if not _is_there(part, have.get(part.number))]
            if not left:
                await self.archive.do(bucket.finish_parts, key, upload, [have[part.number] for part in wanted])
                break
            statuses = await self._send_some(entry, upload, left, step)
            idle = await self._rest(idle, 200 in statuses, statuses)
        found = await self.archive.do(bucket.look, key)
        whole = found is not None and found.size == entry.size and found.sha256 in {"", whole_sum(sums)}
        if found is not None and whole and (found.sha256 or not await self._misread([entry])):
            return
        await self.archive.do(bucket.remove, [key])
        raise TransferError(f"{self.site.where}: {entry.name!r} did not arrive whole; it is sent again")

    async def _send_some(self, entry: FileEntry, upload: str, parts: Sequence[Part], step: int) -> list[int]:
        async def send(group: Sequence[Part]) -> list[int]:
            statuses: list[int] = []
            for part in group:
                address = await self.archive.do(self.archive.bucket.sign_part, self._key(entry), upload, part)
                one = Sending(
                    entry.name, part.size, address.url, address.headers, (part.number - 1) * step, whole=False
                )
                statuses += await self.site.send_objects(self.directory, self.way, [one])
                if not statuses[-1]:
                    break
                await self.beat()
            return [*statuses, *[0] * (len(group) - len(statuses))]

        return [
            status for statuses in await _at_once([send(group) for group in _shared_out(parts)]) for status in statuses
        ]

    async def _fetch_once(self, files: Sequence[FileEntry], have: Mapping[str, int]) -> dict[str, int]:
        """The status of each, by its name."""

        def signed(group: Sequence[FileEntry]) -> list[Fetching]:
            return [Fetching(entry.name, entry.size, self._address(entry), have[entry.name]) for entry in group]

        async def fetch(group: Sequence[FileEntry]) -> dict[str, int]:
            asked = await self.archive.do(signed, group)
            statuses = await self.site.fetch_objects(self.directory, self.way, asked)
            return {entry.name: status for entry, status in zip(group, statuses, strict=True)}

        return _merged(await _at_once([fetch(group) for group in _shared_out(files)]))

    def _refuse_wrong(
        self,
        left: Mapping[str, FileEntry],
        statuses: Mapping[str, int],
        sizes: Mapping[str, int],
        have: Mapping[str, int],
    ) -> None:
        """Raise SnapshotError for what is not there, and for what came in full, from its beginning, and is another."""
        for name, entry in left.items():
            if statuses[name] == MISSING:
                raise SnapshotError(f"{name!r} is missing")
            if statuses[name] == 200 and sizes.get(name) == entry.size and not have[name]:
                self.archive.distrust(self.job_id, entry.sha256)
                raise SnapshotError(f"{name!r} has changed since it was stored")


def _is_there(wanted: Part, found: Part | None) -> bool:
    return found is not None and found.size == wanted.size and found.sha256 in {"", wanted.sha256}


def _shared_out(items: Sequence[T], most: int = CHANNELS) -> list[list[T]]:
    """The items in so many groups, none empty."""
    return [list(items[start::most]) for start in range(min(most, len(items)))]


def _merged(found: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {name: status for each in found for name, status in each.items()}


async def _at_once(work: Sequence[Awaitable[T]]) -> list[T]:
    """All of it at once; where one fails, the others are ended and the first error counts."""

    async def one(each: Awaitable[T]) -> T:
        return await each

    try:
        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(one(each)) for each in work]
    except BaseExceptionGroup as group:
        raise _first(group) from None
    return [task.result() for task in made]


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _whole_blocks(size: int, full: int) -> int:
    """Where to go on with a file that was cut off; from the beginning where it is not that."""
    return size if size < full else 0


def _given_up(site: Site, archive: S3Archive, statuses: Sequence[int]) -> Exception:
    if not any(statuses):
        return CannotReach()
    if REFUSED.intersection(statuses):
        return TransferError(
            f"{site.where}: {archive.root_words()} refuses what the machine sends though its address was signed; may "
            "the key put and get objects there, and is this computer's clock right?"
        )
    worst = max(statuses)
    return TransferError(f"{site.where}: {archive.root_words()} answers the machine with status {worst}; try again")
