"""Snapshots in object storage: the machine itself sends and fetches the bytes, this computer only signs and compares.

What the machine says of its files is held against the service's own word; this computer never has the bytes, unless the
machine has no program for it or gets no answer there. Then it carries them, and its user is told once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpuscale_tui import rights
from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.depot import (
    FETCH_SEC,
    LARGE_BYTES,
    MEGABYTE,
    UNKNOWN_FORMAT,
    Seen,
    Taken,
    as_now,
    describe,
    stands_still,
    tree_file,
)
from gpuscale_tui.engine.s3_carrier import CannotReach, Carrier, HasChanged
from gpuscale_tui.model.objects import PartSizes
from gpuscale_tui.remote.errors import TransferError
from gpuscale_tui.remote.object_upload import Way
from gpuscale_tui.remote.site import Site
from gpuscale_tui.remote.transfer import FetchedFile, RemoteFile, RemoteListing, TreeFile
from gpuscale_tui.store import snapshots
from gpuscale_tui.store.archive import FILE, FileEntry, Snapshot, SnapshotError, SnapshotMeta
from gpuscale_tui.store.s3_archive import Held, S3Archive
from gpuscale_tui.store.s3_client import Gone, ObjectStoreError
from gpuscale_tui.store.s3_files import fetch_file, store_file

HASHERS = frozenset({"sha256sum", "shasum", "openssl"})
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
CLAIM_SEC = 300.0
"""How often it is said that a snapshot is being put together still."""
OWNER_MAY_WRITE = 0o200


@dataclass(frozen=True, slots=True)
class _Work:
    """A snapshot that is being made: from where, of what, what the storage has already, under which number."""

    site: Site
    directory: str
    meta: SnapshotMeta
    held: Mapping[str, Held]
    number: int


@dataclass(slots=True)
class S3Depot:
    """A depot whose snapshots are in object storage. `told` are machines whose bytes go through this computer."""

    context: Context
    archive: S3Archive
    sizes: PartSizes = field(default_factory=PartSizes)
    told: set[str] = field(default_factory=set)

    async def take(  # noqa: PLR0917 - what, where from, where to
        self,
        site: Site,
        directory: str,
        listing: RemoteListing,
        files: Sequence[RemoteFile],
        meta: SnapshotMeta,
        known: Mapping[str, Seen],
        *,
        suspects: Collection[str] = (),
    ) -> Taken | None:
        """See `Depot.take`."""
        before = await self.context.db.read(snapshots.last_number, meta.job_id)
        number = await self.archive.do(self._begin, meta.job_id, before)
        try:
            held = await self.archive.do(self.archive.trusted, meta.job_id)
            told = describe(files, directory, listing.left_out)
            seen, fresh = _known(told.files, known, held)
            come = await self._bring(_Work(site, directory, meta, held, number), fresh)
            if come is None or not await stands_still(site, directory, files):
                return None
            seen |= {file.path: Seen(file.stamp, come[file.path]) for file in fresh}
            torn = await self.archive.do(self._torn, meta.job_id, seen, suspects)
            if torn:
                return Taken(None, torn=torn)
            tree = (*told.others, *(each.entry for each in seen.values()))
            new = {entry.name for entry in come.values() if entry.sha256 not in held}
            about = replace(meta, left_out=(*meta.left_out, *told.left_out))
            made = await self.archive.do(self.archive.commit, number, tree, about, fresh=new)
            return Taken(made, seen, stored=made.stored or 0)
        finally:
            with suppress(ObjectStoreError):  # else it lapses by itself
                await self.archive.do(self.archive.release, meta.job_id, number)

    async def put_back(self, site: Site, directory: str, snapshot: Snapshot) -> None:
        """See `Depot.put_back`. The machine compares every byte of what comes."""
        store = self.context.snapshots
        if snapshot.path.is_relative_to(store.root):
            await site.put_tree(directory, [tree_file(entry, snapshot.files_path) for entry in snapshot.files])
            return
        try:
            way = await self._way(site, snapshot.meta.job_id, snapshot.meta.attempt)
            if way is not None:
                try:
                    await self._put_directly(site, directory, snapshot, way)
                except CannotReach:
                    await self._tell(site, "gets no answer there", snapshot.meta.job_id, snapshot.meta.attempt)
                else:
                    return
            await self._put_through_here(site, directory, snapshot)
        except Gone as error:  # of the storage nothing else is wrong
            raise SnapshotError(str(error)) from error

    # Taking.

    def _begin(self, job_id: int, before: int) -> int:
        """Claim a number above all that the database and the directory know."""
        return self.archive.begin(job_id, after=max([before, *self.context.snapshots.numbers(job_id)]))

    async def _bring(self, work: _Work, files: Sequence[RemoteFile]) -> dict[str, FileEntry] | None:
        """Get the contents of files into the storage; None when one has changed or is gone."""
        limit, size = int(self.context.settings.checkpoints.max_mb * MEGABYTE), sum(file.size for file in files)
        if size > limit:
            raise TransferError(f"{size // MEGABYTE} MB are to be sent, above checkpoints.max_mb ({limit // MEGABYTE})")
        if not files:
            return {}
        site, meta = work.site, work.meta
        way = await self._way(site, meta.job_id, meta.attempt)
        if way is None:
            return await self._bring_through_here(work, files)
        hashes = await site.hashes(work.directory, [file.path for file in files])
        if len(hashes) < len(files):
            return None
        entries = {file.path: _entry(file, hashes[file.path]) for file in files}
        try:
            carrier = self._carrier(site, work.directory, way, meta.job_id, work.number)
            await carrier.send([entry for entry in entries.values() if _lacks(work.held, entry)])
        except HasChanged:
            return None
        except TransferError:  # a file of another size is refused like a wrong address
            if not await stands_still(site, work.directory, files):
                return None
            raise
        except CannotReach:
            await self._tell(site, "gets no answer there", meta.job_id, meta.attempt)
            return await self._bring_through_here(work, files)
        return entries

    async def _bring_through_here(self, work: _Work, files: Sequence[RemoteFile]) -> dict[str, FileEntry] | None:
        """Fetch files to this computer and send them on from here."""
        store, job_id = self.context.snapshots, work.meta.job_id
        parts, size = None, sum(file.size for file in files)
        if any(file.size >= LARGE_BYTES for file in files):
            parts = await asyncio.to_thread(store.parts, job_id, work.meta.attempt)
        async with self._scratch(job_id) as scratch:
            place = scratch / "fetched"
            found = await work.site.get_files(
                work.directory, files, place, parts=parts, max_bytes=size, timeout_sec=FETCH_SEC
            )
            if len(found) < len(files) or any(file.changed for file in found):
                return None
            entries = {file.path: _entry(file, file.sha256) for file in found}
            lacking = {entry.sha256: entry for entry in entries.values() if _lacks(work.held, entry)}
            for entry in lacking.values():
                await self.archive.do(store_file, self.archive, job_id, place / entry.name, entry, self.sizes)
            return entries

    def _torn(self, job_id: int, seen: Mapping[str, Seen], suspects: Collection[str]) -> tuple[tuple[str, str], ...]:
        """Suspects that are cut off by their own format, or of which nobody can tell. Blocking."""
        asked = [seen[name].entry for name in sorted(suspects) if name in seen]
        verdicts = self.archive.judge(job_id, asked, list(seen))
        return tuple(
            (name, verdict.torn or UNKNOWN_FORMAT)
            for name, verdict in verdicts.items()
            if verdict.torn is not None or not verdict.format
        )

    # Putting back.

    async def _put_directly(self, site: Site, directory: str, snapshot: Snapshot, way: Way) -> None:
        """The tree first, its files empty; then the machine fills them."""
        async with self._scratch(snapshot.meta.job_id) as scratch:
            empty = scratch / "empty"
            await asyncio.to_thread(empty.touch)
            await site.put_tree(directory, [_empty(entry, empty) for entry in snapshot.files])
        files = [entry for entry in snapshot.files if entry.kind == FILE]
        await self._carrier(site, directory, way, snapshot.meta.job_id, None).fetch(files)
        locked = {entry.name: entry.mode for entry in files if not entry.mode & OWNER_MAY_WRITE}
        if locked:
            await site.set_modes(directory, locked)

    async def _put_through_here(self, site: Site, directory: str, snapshot: Snapshot) -> None:
        async with self._scratch(snapshot.meta.job_id) as scratch:
            tree = []
            for number, entry in enumerate(snapshot.files):
                source = scratch / str(number)
                if entry.kind == FILE:
                    await self.archive.do(fetch_file, self.archive, snapshot, entry, source)
                tree.append(
                    TreeFile(
                        entry.name, entry.kind, entry.mode, entry.size, entry.sha256, entry.target,
                        source if entry.kind == FILE else None,
                    )
                )  # fmt: skip
            await site.put_tree(directory, tree)

    @asynccontextmanager
    async def _scratch(self, job_id: int) -> AsyncIterator[Path]:
        """A directory of ours beside the snapshots of this computer; should we die, it goes with what drafts leave."""
        store = self.context.snapshots
        draft = await asyncio.to_thread(store.begin, job_id)
        try:
            place = draft.shell / "carried"
            await asyncio.to_thread(rights.make_directory, place)
            yield place
        finally:
            await asyncio.to_thread(store.discard, draft)

    # Both.

    def _carrier(self, site: Site, directory: str, way: Way, job_id: int, number: int | None) -> Carrier:
        return Carrier(self.archive, job_id, site, directory, way, self._beat(job_id, number), self.sizes)

    def _beat(self, job_id: int, number: int | None) -> Callable[[], Awaitable[None]]:
        """Renews the claim of a snapshot that is being put together, every few minutes."""
        clock = asyncio.get_running_loop().time
        due = clock() + CLAIM_SEC

        async def beat() -> None:
            nonlocal due
            if number is not None and clock() >= due:
                due = clock() + CLAIM_SEC
                await self.archive.do(self.archive.claim, job_id, number)

        return beat

    async def _way(self, site: Site, job_id: int, attempt: int) -> Way | None:
        """How the machine sends and fetches; None when it cannot, which is told once."""
        if site.where in self.told:
            return None
        tools = await site.tools()
        way: Way | None = "curl" if "curl" in tools else "python3" if "python3" in tools else None
        if way is None or not HASHERS & tools:
            lacks = "has neither curl nor python3" if way is None else "has no program that computes SHA-256"
            await self._tell(site, lacks, job_id, attempt)
            return None
        return way

    async def _tell(self, site: Site, why: str, job_id: int, attempt: int) -> None:
        if site.where in self.told:
            return
        self.told.add(site.where)
        text = f"{site.where} {why}: snapshots go between it and {self.archive.root_words()} through this computer"
        await self.context.warn(text, job_id=job_id, attempt=attempt)


def _known(
    files: Sequence[RemoteFile], known: Mapping[str, Seen], held: Mapping[str, Held]
) -> tuple[dict[str, Seen], list[RemoteFile]]:
    """What is known, untouched and still stored; and the rest."""
    seen, fresh = {}, []
    for file in files:
        before = known.get(file.path)
        if before is not None and before.stamp == file.stamp and not _lacks(held, before.entry):
            seen[file.path] = Seen(file.stamp, as_now(before, file))
        else:
            fresh.append(file)
    return seen, fresh


def _entry(file: RemoteFile | FetchedFile, sha256: str) -> FileEntry:
    return FileEntry(file.path, file.size, file.mode & 0o777, sha256)


def _lacks(held: Mapping[str, Held], entry: FileEntry) -> bool:
    found = held.get(entry.sha256)
    return found is None or found.size != entry.size


def _empty(entry: FileEntry, empty: Path) -> TreeFile:
    """An entry as it is sent ahead of its content: it must be writable until that has come."""
    if entry.kind == FILE:
        return TreeFile(entry.name, FILE, entry.mode | OWNER_MAY_WRITE, 0, EMPTY_SHA256, source=empty)
    return TreeFile(entry.name, entry.kind, entry.mode, target=entry.target)
