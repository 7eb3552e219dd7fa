"""Saving: a job's checkpoint directory fetched into snapshots while it runs, and put back before its next attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.jobs import Attempt, Job, StartFrom
from gpuscale_tui.remote.attempts import AttemptRef
from gpuscale_tui.remote.errors import TransferError
from gpuscale_tui.remote.site import Site
from gpuscale_tui.remote.transfer import FetchedFile, RemoteFile, TreeFile
from gpuscale_tui.store import jobs, snapshots
from gpuscale_tui.store.checkpoints import Draft, Snapshot, SnapshotError, SnapshotMeta, SnapshotStore, verify

MEGABYTE = 1_000_000
FETCH_TRIES = 3
FETCH_SEC = 3600.0


@dataclass(frozen=True, slots=True)
class Signature:
    """What the directory looked like: equal signatures mean that there is nothing new to save."""

    files: tuple[tuple[str, int, int], ...]


class Saver:
    """Saves one attempt's checkpoints."""

    def __init__(self, context: Context, attempt: Attempt, ref: AttemptRef) -> None:
        self._context = context
        self._attempt = attempt
        self._directory = f"{ref.directory}/checkpoints"
        self._saved: Signature | None = None
        self._lock = asyncio.Lock()

    async def restore(self, site: Site, job: Job) -> Snapshot | None:
        """Put the newest valid snapshot of the job, else the one that it starts from, into its checkpoint directory.

        Raises SnapshotError when the one that it is told to start from is not whole.
        """
        context, attempt = self._context, self._attempt
        broken: list[str] = []
        snapshot = await asyncio.to_thread(
            _choose, context.snapshots, job,
            lambda number, reason: broken.append(f"snapshot {number} is skipped: {reason}"),
        )  # fmt: skip
        for text in broken:
            await context.warn(text, job_id=attempt.job_id, attempt=attempt.number)
        if snapshot is None:
            return None
        await site.put_tree(self._directory, _tree(snapshot))
        source = StartFrom(snapshot.meta.job_id, snapshot.number)
        await context.db.write(jobs.record_resume, attempt, source, now=context.now(), epoch=context.epoch)
        self._saved = _signature(await site.list_tree(self._directory))
        return snapshot

    async def save(self, site: Site) -> bool:
        """Take a snapshot if the directory has changed since the last one; True when one was taken.

        Files that change while they are read are taken again. Raises Unreachable or TransferError.
        """
        async with self._lock:
            for _ in range(FETCH_TRIES):
                listed = await site.list_tree(self._directory)
                signature = _signature(listed)
                if not signature.files or signature == self._saved:
                    return False
                if await self._fetch(site, listed):
                    self._saved = signature
                    return True
            raise TransferError(f"{self._directory} changed during each of {FETCH_TRIES} tries to save it")

    async def _fetch(self, site: Site, listed: Sequence[RemoteFile]) -> bool:
        """Fetch all files into a draft and commit it; False when one of them changed meanwhile."""
        context, attempt = self._context, self._attempt
        known = await context.db.read(snapshots.last_number, attempt.job_id)
        draft = await asyncio.to_thread(context.snapshots.begin, attempt.job_id, after=known)
        try:
            fetched = await site.get_files(
                self._directory, [file for file in listed if file.kind == "file"], draft.path, parts=None,
                max_bytes=int(context.settings.checkpoints.max_mb * MEGABYTE), timeout_sec=FETCH_SEC,
            )  # fmt: skip
            if any(file.changed for file in fetched):
                return False
            await self._commit(draft, fetched)
            return True
        finally:
            await asyncio.to_thread(context.snapshots.discard, draft)

    async def _commit(self, draft: Draft, fetched: Sequence[FetchedFile]) -> None:
        """Files and manifest first, the row last: a snapshot that the store knows of exists."""
        context, attempt = self._context, self._attempt
        meta = SnapshotMeta(attempt.job_id, attempt.number, attempt.worker_id, context.now())
        modes = {file.path: file.mode for file in fetched}
        snapshot = await asyncio.to_thread(context.snapshots.commit, draft, modes, meta)
        await context.db.write(
            snapshots.record_snapshot, attempt.job_id, snapshot.number, attempt.number, len(snapshot.files),
            snapshot.size, now=context.now(), epoch=context.epoch,
            step=context.board.step_of(attempt.job_id, attempt.number),
        )  # fmt: skip
        keep = context.settings.checkpoints.keep
        old = await asyncio.to_thread(context.snapshots.superfluous, attempt.job_id, keep, trusted=snapshot.number)
        for number in old:
            if await context.db.write(
                snapshots.mark_pruned, attempt.job_id, number, now=context.now(), epoch=context.epoch
            ):
                await asyncio.to_thread(context.snapshots.remove, attempt.job_id, number)


def _choose(store: SnapshotStore, job: Job, report: Callable[[int, str], None]) -> Snapshot | None:
    start = job.spec.start_from
    found = store.newest_valid(job.id, report, after=job.start_after)
    if found is not None or start is None:
        return found
    chosen = store.find(start.job_id, start.snapshot)
    reason = verify(chosen)
    if reason is not None:
        raise SnapshotError(f"snapshot {start.label}: {reason}")
    return chosen


def _tree(snapshot: Snapshot) -> tuple[TreeFile, ...]:
    return tuple(
        TreeFile(
            entry.name, mode=entry.mode, size=entry.size, sha256=entry.sha256, source=snapshot.files_path / entry.name
        )
        for entry in snapshot.files
    )


def _signature(listed: Sequence[RemoteFile]) -> Signature:
    return Signature(tuple(sorted((file.path, file.size, file.mtime) for file in listed if file.kind == "file")))
