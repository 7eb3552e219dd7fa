"""Two stores of snapshots as one: what is made now lies in the first, what was made before may lie in the second.

Numbers grow over both, so a number is in one of them alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from gpuscale_tui.store.archive import Begun, FileEntry, Progress, Report, Snapshot
from gpuscale_tui.store.checkpoints import SnapshotStore
from gpuscale_tui.store.s3_archive import S3Archive


@dataclass(frozen=True, slots=True)
class BothArchives:
    """Object storage, and the directory in which a home kept its snapshots before: an `Archive`."""

    objects: S3Archive
    directory: SnapshotStore

    def root_words(self) -> str:
        """See `Archive`."""
        return self.objects.root_words()

    def numbers(self, job_id: int) -> list[int]:
        """See `Archive`."""
        return sorted({*self.objects.numbers(job_id), *self.directory.numbers(job_id)}, reverse=True)

    def snapshots(self, job_id: int) -> list[Snapshot]:
        """See `Archive`."""
        found = [*self.objects.snapshots(job_id), *self.directory.snapshots(job_id)]
        return sorted(found, key=lambda snapshot: -snapshot.number)

    def find(self, job_id: int, number: int) -> Snapshot:
        """See `Archive`."""
        if number in self.directory.numbers(job_id):
            return self.directory.find(job_id, number)
        return self.objects.find(job_id, number)

    def newest_valid(self, job_id: int, report: Report | None = None, *, after: int = 0) -> Snapshot | None:
        """See `Archive`."""
        told: list[tuple[int, str]] = []
        parts = (self.objects, self.directory)
        found = [
            part.newest_valid(job_id, lambda number, why: told.append((number, why)), after=after) for part in parts
        ]
        ranked = [(snapshot.fault is None, snapshot.number, snapshot) for snapshot in found if snapshot is not None]
        best = max(ranked, key=lambda each: each[:2], default=None)
        chosen = None if best is None else best[2]
        for number, why in sorted(told, reverse=True):
            if report is not None and (chosen is None or number > chosen.number or number == chosen.number):
                report(number, why)
        return chosen

    def verify(self, snapshot: Snapshot, progress: Progress | None = None) -> str | None:
        """See `Archive`."""
        return self._of(snapshot).verify(snapshot, progress)

    def read(self, snapshot: Snapshot, entry: FileEntry, begun: Begun | None = None) -> Iterator[bytes]:
        """See `Archive`."""
        return self._of(snapshot).read(snapshot, entry, begun)

    def superfluous(
        self, job_id: int, keep: int, *, pinned: Collection[int] = (), trusted: int | None = None
    ) -> list[int]:
        """See `Archive`."""
        numbers = self.numbers(job_id)
        doomed = [number for number in numbers[max(1, keep) :] if number not in pinned]
        if not doomed:
            return []
        if trusted not in numbers:
            newest = self.newest_valid(job_id)
            trusted = None if newest is None else newest.number
        return [] if trusted is None else [number for number in doomed if number != trusted]

    def remove(self, job_id: int, number: int) -> None:
        """See `Archive`."""
        if number in self.directory.numbers(job_id):
            self.directory.remove(job_id, number)
        else:
            self.objects.remove(job_id, number)

    def usage(self, job_ids: Iterable[int]) -> dict[int, int]:
        """See `Archive`."""
        jobs = list(job_ids)
        here, there = self.directory.usage(jobs), self.objects.usage(jobs)
        return {job: here.get(job, 0) + there.get(job, 0) for job in jobs}

    def discard_drafts(self, job_id: int) -> None:
        """See `Archive`."""
        self.directory.discard_drafts(job_id)
        self.objects.discard_drafts(job_id)

    def _of(self, snapshot: Snapshot) -> S3Archive | SnapshotStore:
        return self.directory if snapshot.path.is_relative_to(self.directory.root) else self.objects
