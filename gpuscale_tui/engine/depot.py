"""How snapshots travel between a machine and where they are kept: a port, so that the saver need not know which way.

`LocalDepot` carries them through this computer; another depot may let the machine itself send them elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from gpuscale_tui import rights
from gpuscale_tui.engine.context import Context
from gpuscale_tui.policy.completeness import SMALL_BYTES
from gpuscale_tui.remote.errors import TransferError
from gpuscale_tui.remote.site import Site
from gpuscale_tui.remote.transfer import FetchedFile, RemoteFile, RemoteListing, TreeFile
from gpuscale_tui.store import snapshots, soundness
from gpuscale_tui.store.archive import DIRECTORY, FILE, LINK, refused_name, settle_links
from gpuscale_tui.store.checkpoints import FileEntry, Snapshot, SnapshotMeta
from gpuscale_tui.store.drafts import Draft

MEGABYTE = 1_000_000
FETCH_SEC = 6 * 3600.0
LARGE_BYTES = 64 * MEGABYTE
"""Of files from this size on, what has arrived is kept for a later try."""
UNKNOWN_FORMAT = "it was written while the job was killed, and nothing in it tells whether it is whole"


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as the last snapshot of this attempt has it: while its `stamp` on the machine stays the same, its content
    is `entry` and need not be read again."""

    stamp: str
    entry: FileEntry


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a try to take a snapshot.

    `snapshot` is None when files were torn: then nothing was kept. `seen`: each file that is in it, by path, for the
    next one. `torn`: paths that their own format says are cut off, or that were `suspects` whose format nobody knows,
    each with the reason. `stored`: bytes that it added.
    """

    snapshot: Snapshot | None
    seen: Mapping[str, Seen] = field(default_factory=dict)
    torn: tuple[tuple[str, str], ...] = ()
    stored: int = 0


class Depot(Protocol):
    """Takes snapshots of a directory on a machine and puts them back."""

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
        """Make a snapshot of `files`, chosen of `listing`; None when one of them changed meanwhile.

        What is `known` and has the same stamp is not read again. `suspects` may be cut off: one is taken only when
        its format says that it is whole, or when it has no format that is known and is small (`SMALL_BYTES`).
        Raises Unreachable, TransferError, SnapshotError or OSError.
        """
        ...

    async def put_back(self, site: Site, directory: str, snapshot: Snapshot) -> None:
        """Let `directory` on the machine hold exactly the snapshot's files.

        Raises Unreachable, TransferError, SnapshotError or OSError.
        """
        ...


class LocalDepot:
    """Snapshots in a directory of this computer: their files come and go through it."""

    def __init__(self, context: Context) -> None:
        self._context = context

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
        store = self._context.snapshots
        before = await self._context.db.read(snapshots.last_number, meta.job_id)
        draft = await asyncio.to_thread(store.begin, meta.job_id, after=before)
        try:
            told = describe(files, directory, listing.left_out)
            fresh = await asyncio.to_thread(self._adopt, draft, told.files, known)
            fetched = await self._fetch(site, directory, draft, fresh, meta)
            if fetched is None or not await stands_still(site, directory, files):
                return None
            seen = _seen(told.files, fetched, known)
            torn = await asyncio.to_thread(_torn, draft, suspects, frozenset(seen))
            if torn:
                return Taken(None, torn=torn)
            tree = (*told.others, *(each.entry for each in seen.values()))
            left_out = (*meta.left_out, *told.left_out)
            snapshot = await asyncio.to_thread(store.commit, draft, tree, replace(meta, left_out=left_out))
            return Taken(snapshot, seen, stored=snapshot.stored or 0)
        finally:
            await asyncio.to_thread(store.discard, draft)

    async def put_back(self, site: Site, directory: str, snapshot: Snapshot) -> None:
        """See `Depot.put_back`."""
        await site.put_tree(directory, [tree_file(entry, snapshot.files_path) for entry in snapshot.files])

    def _adopt(self, draft: Draft, files: Sequence[RemoteFile], known: Mapping[str, Seen]) -> list[RemoteFile]:
        """Take over what is known and was not touched; returns what must be fetched."""
        store, fresh = self._context.snapshots, []
        for file in files:
            before = known.get(file.path)
            if before is None or before.stamp != file.stamp or not store.adopt(draft, as_now(before, file)):
                fresh.append(file)
        return fresh

    async def _fetch(
        self, site: Site, directory: str, draft: Draft, files: Sequence[RemoteFile], meta: SnapshotMeta
    ) -> dict[str, FetchedFile] | None:
        """Fetch files into a draft; None when one has changed or is gone."""
        context = self._context
        limit = int(context.settings.checkpoints.max_mb * MEGABYTE)
        size = sum(file.size for file in files)
        if size > limit:
            raise TransferError(
                f"{size // MEGABYTE} MB are to be fetched, above checkpoints.max_mb ({limit // MEGABYTE})"
            )
        if not files:
            return {}
        parts = None
        if any(file.size >= LARGE_BYTES for file in files):
            parts = await asyncio.to_thread(context.snapshots.parts, meta.job_id, meta.attempt)
        place = draft.shell / "fetched"
        found = await site.get_files(
            directory, files, place, parts=parts, max_bytes=limit, timeout_sec=FETCH_SEC
        )  # fmt: skip
        if len(found) < len(files) or any(file.changed for file in found):
            return None
        await asyncio.to_thread(_move, place, draft.path, [file.path for file in found])
        return {file.path: file for file in found}


def depot_of(context: Context) -> Depot:
    """The depot that the settings ask for."""
    if context.objects is None:
        return LocalDepot(context)
    from gpuscale_tui.engine.s3_depot import S3Depot
    from gpuscale_tui.store.both import BothArchives

    if isinstance(context.objects, BothArchives):
        return S3Depot(context, context.objects.objects)
    return LocalDepot(context)


@dataclass(frozen=True, slots=True)
class Described:
    """Entries of a directory as a snapshot has them: `files` still to be fetched or adopted, `others` (links and
    directories) as they will stand in the manifest, `left_out` with the reasons."""

    files: tuple[RemoteFile, ...]
    others: tuple[FileEntry, ...]
    left_out: tuple[str, ...]


def describe(files: Sequence[RemoteFile], directory: str, left_out: Sequence[str] = ()) -> Described:
    """Sort what was chosen on a machine: hostile names and links that lead out of `directory` are left out."""
    taken = [file for file in files if refused_name(file.path) is None]
    told = [*left_out, *(f"{file.path!r}: {refused_name(file.path)}" for file in files if refused_name(file.path))]
    links = {file.path: file.target for file in taken if file.kind == LINK}
    kept, refused = settle_links(links, base=_base(links.values(), directory))
    told += [f"the link {path!r}: {reason}" for path, reason in sorted(refused.items())]
    others = [FileEntry(path, 0, 0o777, "", LINK, target) for path, target in sorted(kept.items())]
    others += [FileEntry(file.path, 0, file.mode & 0o777, "", DIRECTORY) for file in taken if file.kind == DIRECTORY]
    return Described(tuple(file for file in taken if file.kind == FILE), tuple(others), tuple(told))


def _base(targets: Collection[str], directory: str) -> str:
    """The absolute path of the directory on its machine, as far as a link in it tells; what else it could be does not
    matter to links that are relative."""
    for target in targets:
        head, found, tail = target.partition(f"/{directory}")
        if target.startswith("/") and found and (not tail or tail.startswith("/")):
            return head + found
    return ""


def tree_file(entry: FileEntry, root: Path) -> TreeFile:
    """An entry of a snapshot as it is sent to a machine; its files are below `root`."""
    if entry.kind == FILE:
        return TreeFile(entry.name, FILE, entry.mode, entry.size, entry.sha256, source=root / entry.name)
    return TreeFile(entry.name, entry.kind, entry.mode, target=entry.target)


async def stands_still(site: Site, directory: str, files: Sequence[RemoteFile]) -> bool:
    """Whether everything of an earlier look is as it was then: so what was read since is of one moment."""
    now = {file.path: file for file in await site.list_tree(directory)}
    return all(file.path in now and _is_same(file, now[file.path]) for file in files)


def _is_same(old: RemoteFile, new: RemoteFile) -> bool:
    if old.kind != FILE or new.kind != FILE:
        return (old.kind, old.target) == (new.kind, new.target)
    if old.stamp or new.stamp:
        return old.stamp == new.stamp
    return (old.size, old.mtime) == (new.size, new.mtime)


def as_now(before: Seen, file: RemoteFile) -> FileEntry:
    """The entry of a file that was not touched since, with the permission bits that it has now."""
    return replace(before.entry, name=file.path, mode=file.mode & 0o777)


def _seen(
    files: Sequence[RemoteFile], fetched: Mapping[str, FetchedFile], known: Mapping[str, Seen]
) -> dict[str, Seen]:
    found = {}
    for file in files:
        come = fetched.get(file.path)
        entry = as_now(known[file.path], file) if come is None else (
            FileEntry(come.path, come.size, come.mode & 0o777, come.sha256)
        )  # fmt: skip
        found[file.path] = Seen(file.stamp, entry)
    return found


def _torn(draft: Draft, suspects: Collection[str], names: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Suspects that are cut off by their own format, or of which nobody can tell."""
    found = []
    for name in sorted(set(suspects) & set(names)):
        verdict = soundness.judge(draft.path, name, names)
        unknown = not verdict.format and not 0 < (draft.path / name).stat().st_size <= SMALL_BYTES
        if verdict.torn is not None or unknown:
            found.append((name, verdict.torn or UNKNOWN_FORMAT))
    return tuple(found)


def _move(source: Path, target: Path, names: Sequence[str]) -> None:
    for name in names:
        place = target / name
        if "/" in name:
            rights.make_directory(place.parent)
        (source / name).rename(place)
