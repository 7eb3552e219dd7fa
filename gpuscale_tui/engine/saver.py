"""Saving: a job's checkpoint directory fetched into snapshots while it runs, and put back before its next attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.depot import Seen, Taken, depot_of
from gpuscale_tui.engine.room import RoomMaker
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.jobs import Attempt, Job, StartFrom, job_label
from gpuscale_tui.policy.completeness import Listing, complete, is_stream
from gpuscale_tui.policy.markers import touched
from gpuscale_tui.policy.picking import Pick, Reasons, pick, pick_at_end, without_torn, worth_waiting
from gpuscale_tui.policy.saving import named_step
from gpuscale_tui.remote.attempts import AttemptRef, Exit
from gpuscale_tui.remote.errors import TransferError, Unreachable
from gpuscale_tui.remote.site import Site
from gpuscale_tui.remote.transfer import RemoteFile, RemoteListing
from gpuscale_tui.store import jobs, snapshots
from gpuscale_tui.store.archive import Archive, Gone
from gpuscale_tui.store.checkpoints import FileEntry, Snapshot, SnapshotError, SnapshotMeta, SnapshotStore
from gpuscale_tui.store.snapshots import About

LAST = "last"
FETCH_TRIES = 3
PATIENCE_SEC = 60.0
"""So long is waited, with one look after the other, for files that are being written."""
SHORTEST_PAUSE_SEC, LONGEST_PAUSE_SEC = 0.2, 5.0
Signature = tuple[tuple[str, str, str], ...]


class Unsettled(GpuscaleError):
    """Nothing could be saved now: files that are stored already are being overwritten."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A look at the directory and what is taken of it."""

    listing: RemoteListing
    at: int
    picked: Pick[RemoteFile]

    @property
    def signature(self) -> Signature:
        """Equal signatures mean that there is nothing new to save."""
        return _signature(self.picked.files)

    @property
    def has_files(self) -> bool:
        """Whether there is anything to save at all."""
        return any(file.kind == "file" for file in self.picked.files)


class Saver:
    """Saves one attempt's checkpoints."""

    def __init__(self, context: Context, attempt: Attempt, ref: AttemptRef) -> None:
        self._context = context
        self._attempt = attempt
        self._directory = f"{ref.directory}/checkpoints"
        self._depot = depot_of(context)
        self._room = RoomMaker(context, attempt)
        self._saved: Signature | None = None
        self._seen: dict[str, Seen] = {}
        self._recalled = False
        self._before: Listing[RemoteFile] | None = None
        self._given_up: dict[str, str] = {}
        self._job_name: str | None = None
        self._lock = asyncio.Lock()
        self._clock = asyncio.get_running_loop().time

    async def restore(self, site: Site, job: Job) -> Snapshot | None:
        """Put the newest valid snapshot of the job, else the one that it starts from, into its checkpoint directory.

        Raises SnapshotError when the one that it is told to start from is not whole.
        """
        context, attempt = self._context, self._attempt
        tried: set[int] = set()
        snapshot = None
        while True:
            try:
                snapshot = await self._choose(job)
                if snapshot is None:
                    return None
                await self._depot.put_back(site, self._directory, snapshot)
                break
            except SnapshotError as error:  # only reading it told that it is broken: the one before it may be whole
                if isinstance(error, OSError):
                    raise Unreachable(f"the snapshots cannot be reached: {error}") from error
                if snapshot is None or snapshot.number in tried:
                    raise
                tried.add(snapshot.number)
        source = StartFrom(snapshot.meta.job_id, snapshot.number)
        await context.db.write(jobs.record_resume, attempt, source, now=context.now(), epoch=context.epoch)
        listing = await site.list_tree(self._directory)
        self._saved, self._recalled = _signature(listing), True
        self._seen = _known(listing, snapshot.files, {file.name: file.sha256 for file in snapshot.files})
        return snapshot

    async def _choose(self, job: Job) -> Snapshot | None:
        """The snapshot to go on from; why others are not taken is told."""
        context, attempt = self._context, self._attempt
        told: list[str] = []
        place = "dir" if context.objects is None else "s3"
        kept = [row for row in await context.db.read(snapshots.kept, job.id) if row.place == place]
        snapshot = await asyncio.to_thread(
            _choose, context.archive, job, lambda number, reason: told.append(_skipped(number, reason)),
            expected=sum(row.attempt > job.start_after for row in kept),
        )  # fmt: skip
        if snapshot is not None and snapshot.fault is not None:
            told.append(f"snapshot {snapshot.number} is used though {snapshot.fault}: there is none without a fault")
        for text in told:
            await context.warn(text, job_id=attempt.job_id, attempt=attempt.number)
        return snapshot

    async def save(self, site: Site, kind: str = "interval", *, ended: Exit | None = None) -> bool:
        """Take a snapshot if the directory has changed since the last one; True when one was taken.

        Files that are being written are waited for; see `policy.picking` for what is done without them. `ended`: how
        the command ended, after which nothing is written any more. Raises Unreachable, TransferError, SnapshotError,
        OSError, and Unsettled.
        """
        async with self._lock:
            for _ in range(FETCH_TRIES):
                sight = await (self._look(site) if ended is None else self._look_at_end(site, ended))
                if sight.picked.blocked:
                    raise Unsettled(_in_words(sight.picked.blocked))
                await self._recall(site, sight)
                if not sight.has_files or sight.signature == self._saved:
                    return False
                if kind == "interval" and self._has_grown_logs_only(sight):
                    return False
                if await self._take(site, sight, kind):
                    return True
            raise TransferError(f"{self._directory} changed during each of {FETCH_TRIES} tries to save it")

    def _has_grown_logs_only(self, sight: Sight) -> bool:
        """Logs that lie beside make no new state: snapshots that differ in them alone would drive the others out."""
        state = {(file.path, file.stamp) for file in _state(sight.picked.files)}
        before = {(path, seen.stamp) for path, seen in self._seen.items() if not is_stream(path)}
        return bool(before) and state == before

    async def _look(self, site: Site) -> Sight:
        """Look until nothing is being written, or for so long that it must do."""
        settle = self._context.settings.checkpoints.settle_sec
        pause = min(max(settle, SHORTEST_PAUSE_SEC), LONGEST_PAUSE_SEC)
        until = self._clock() + PATIENCE_SEC
        while True:
            listing = await site.list_tree(self._directory)
            now = Listing(listing.clock, listing)
            choice = complete(now, self._before, settle_ms=round(settle * 1000), ended=False)
            self._before = now
            waiting = dict(choice.waiting)
            self._given_up = {path: reason for path, reason in self._given_up.items() if path in waiting}
            if not worth_waiting(choice, self._given_up):
                break
            if self._clock() >= until:
                self._given_up = {path: reason for path, reason in waiting.items() if path not in self._seen}
                break
            await asyncio.sleep(pause)
        return Sight(listing, self._context.now(), pick(choice, self._seen))

    async def _look_at_end(self, site: Site, ended: Exit) -> Sight:
        settle_ms = round(self._context.settings.checkpoints.settle_sec * 1000)
        listing = await site.list_tree(self._directory)
        known = {path: seen.stamp for path, seen in self._seen.items()}
        found = pick_at_end(
            Listing(listing.clock, listing), known, settle_ms=settle_ms, killed=was_cut_off(ended)
        )  # fmt: skip
        return Sight(listing, self._context.now(), found)

    async def _recall(self, site: Site, sight: Sight) -> None:
        """After a restart of the engine: what the newest snapshot of this job has already is not fetched again."""
        if self._recalled or not sight.has_files:
            return
        attempt = self._attempt
        newest = await asyncio.to_thread(_newest, self._context.archive, attempt.job_id)
        self._recalled = True
        if newest is None:
            return
        sizes = {entry.name: entry.size for entry in newest.files if entry.kind == "file"}
        asked = [file.path for file in sight.picked.files if file.kind == "file" and sizes.get(file.path) == file.size]
        hashes = await site.hashes(self._directory, asked) if asked else {}
        self._seen = _known(sight.listing, newest.files, hashes)
        here = {file.path for file in sight.picked.files if file.kind == "file"}
        if newest.meta.attempt == attempt.number and here == set(self._seen) == set(sizes):
            self._saved = sight.signature

    async def _take(self, site: Site, sight: Sight, kind: str) -> bool:
        """Take what was seen; False when it changed meanwhile."""
        began = self._clock()
        if self._job_name is None:
            job = await self._context.db.read(jobs.get, self._attempt.job_id)
            self._job_name = "" if job is None else job.spec.name
        about, meta = self._describe(sight, kind)
        picked: Pick[RemoteFile] = sight.picked
        wanted = sum(file.size for file in picked.files if file.kind == "file" and not self._is_known(file))
        after = await self._room.make(wanted)
        while True:
            left_out = tuple(f"{path}: {reason}" for path, reason in picked.left_out)
            taken = await self._depot.take(
                site, self._directory, sight.listing, picked.files, replace(meta, left_out=left_out), self._seen,
                suspects=picked.suspects,
            )  # fmt: skip
            if taken is None:
                return False
            if taken.snapshot is not None:
                break
            if kind != LAST:
                return False  # it is being written: that may be over at the next look
            picked = without_torn(picked, taken.torn, self._seen)
            await self._tell_torn(taken.torn, blocked=bool(picked.blocked))
            if picked.blocked or not any(file.kind == "file" for file in picked.files):
                return True
        await self._record(taken.snapshot, taken, replace(about, took_ms=round((self._clock() - began) * 1000)))
        self._saved, self._seen = sight.signature, dict(taken.seen)
        if taken.snapshot.fault is None:  # else the one before is still the last that the job can go on from
            await self._room.remove(after)
        return True

    def _describe(self, sight: Sight, kind: str) -> tuple[About, SnapshotMeta]:
        """What is known of the state that is taken: the job's words at the time when its newest file was written."""
        attempt = self._attempt
        state = _state(sight.picked.files)
        fresh = [file for file in state if not self._is_known(file)] or state
        age = max(0, sight.listing.clock - max((touched(file) for file in fresh), default=sight.listing.clock))
        of_at = sight.at - age
        word = self._context.board.said_by(attempt.job_id, attempt.number, of_at)
        step = named_step([file.path for file in fresh])
        if step is None and word is not None:
            step = word.step
        epoch, loss = (None, None) if word is None else (word.epoch, word.loss)
        meta = SnapshotMeta(
            attempt.job_id, attempt.number, attempt.worker_id, sight.at, step, epoch, loss, kind,
            job_name=self._job_name or "",
        )  # fmt: skip
        return About(sight.at, kind, step, epoch, loss, of_at=of_at), meta

    def _is_known(self, file: RemoteFile) -> bool:
        seen = self._seen.get(file.path)
        return seen is not None and seen.stamp == file.stamp

    async def _tell_torn(self, torn: Reasons, *, blocked: bool) -> None:
        attempt = self._attempt
        end = "its last snapshot stays the one before" if blocked else "the last snapshot goes without it"
        await self._context.warn(
            f"{_in_words(torn)}; {end}", job_id=attempt.job_id, attempt=attempt.number, worker_id=attempt.worker_id
        )

    async def _record(self, snapshot: Snapshot, taken: Taken, about: About) -> None:
        """Files and manifest first, the row last: a snapshot that the store knows of exists."""
        context, attempt = self._context, self._attempt
        place = "dir" if context.objects is None else "s3"
        about = replace(about, stored=taken.stored, fault=snapshot.fault, place=place)
        await context.db.write(
            snapshots.record_snapshot, attempt.job_id, snapshot.number, attempt.number, len(snapshot.files),
            snapshot.size, now=context.now(), epoch=context.epoch, about=about,
        )  # fmt: skip
        for text in snapshot.remarks:
            await context.warn(text, job_id=attempt.job_id, attempt=attempt.number)
        await self._prune(snapshot)

    async def _prune(self, snapshot: Snapshot) -> None:
        context, job_id = self._context, self._attempt.job_id
        pinned = await context.db.read(snapshots.pinned, job_id)
        trusted = snapshot.number if snapshot.fault is None else None
        old = await asyncio.to_thread(
            context.archive.superfluous, job_id, context.settings.checkpoints.keep, pinned=pinned, trusted=trusted
        )
        await self._room.remove((job_id, number) for number in old)


def was_cut_off(ended: Exit) -> bool:
    """Whether a command may have ended in the middle of a write: killed, or by a signal that it did not catch."""
    return ended.killed or ended.code > 128


def _choose(
    archive: Archive, job: Job, report: Callable[[int, str], None], *, expected: int = 0
) -> Snapshot | None:  # fmt: skip
    """`expected` is how many the database knows: where not one is there, the job does not silently begin anew."""
    start = job.spec.start_from
    found = archive.newest_valid(job.id, report, after=job.start_after)
    if found is None and expected and not archive.numbers(job.id):
        raise Gone(
            f"{archive.root_words()} has none of the {expected} that {job_label(job.id)} should have there; is it"
            f" mounted? To begin anew, forget them: `gpuscale checkpoints prune`"
        )
    if found is not None or start is None:
        return found
    chosen = archive.find(start.job_id, start.snapshot)
    # what comes from object storage is compared when it is put back: it is not read here as well
    reason = archive.verify(chosen) if isinstance(archive, SnapshotStore) else None
    if reason is not None:
        raise SnapshotError(f"snapshot {start.label}: {reason}")
    return chosen


def _newest(archive: Archive, job_id: int) -> Snapshot | None:
    for number in archive.numbers(job_id):
        try:
            return archive.find(job_id, number)
        except SnapshotError:  # the one before it may serve; who resumes from it is told
            continue
    return None


def _known(listing: RemoteListing, entries: Sequence[FileEntry], hashes: Mapping[str, str]) -> dict[str, Seen]:
    """The files of a look of which a snapshot has the content; `hashes` are those on the machine, by path."""
    stored = {entry.name: entry for entry in entries if entry.kind == "file"}
    found = {}
    for file in listing:
        entry = stored.get(file.path)
        if entry is not None and file.stamp and file.size == entry.size and hashes.get(file.path) == entry.sha256:
            found[file.path] = Seen(file.stamp, entry)
    return found


def _skipped(number: int, reason: str) -> str:
    return f"snapshot {number} is skipped: {reason}"


def _in_words(reasons: Reasons) -> str:
    first = "; ".join(f"{path!r}: {reason}" for path, reason in reasons[:3])
    return first if len(reasons) <= 3 else f"{first}; and {len(reasons) - 3} more"


def _state(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """The files that a job would go on from: not its logs, unless it has nothing else."""
    found = [file for file in files if file.kind == "file"]
    return [file for file in found if not is_stream(file.path)] or found


def _signature(files: Sequence[RemoteFile]) -> Signature:
    return tuple(
        sorted((file.path, file.kind, _mark(file)) for file in files if file.kind in {"file", "directory", "link"})
    )


def _mark(file: RemoteFile) -> str:
    if file.kind == "file":
        return file.stamp or f"{file.size} {file.mtime}"
    return file.target
