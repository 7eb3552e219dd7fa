"""Staging: what a job needs on its machine before its command can start."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpuscale_tui.engine import code, data
from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.saver import Saver
from gpuscale_tui.engine.telling import Telling, human, telling
from gpuscale_tui.model.jobs import GitSource, Job
from gpuscale_tui.remote import transfer
from gpuscale_tui.remote.attempts import AttemptRef
from gpuscale_tui.remote.errors import TransferError, Unreachable
from gpuscale_tui.remote.site import Site
from gpuscale_tui.remote.transfer import TreeFile
from gpuscale_tui.store import filehashes, jobs
from gpuscale_tui.store.checkpoints import SnapshotError

MEGABYTE = 1_000_000
TRIES = 3
"""How often a tree that changes while it is read or sent is tried."""
NAMED = 5


class JobInputError(Exception):
    """Something the job itself brings (its working directory) is missing or too large: only its user can mend it."""


@dataclass(frozen=True, slots=True)
class Staged:
    """`resumed_from` is the absolute path there to resume from, or ""; `detail` says what was brought, in words."""

    resumed_from: str
    detail: str


async def stage(context: Context, site: Site, ref: AttemptRef, job: Job, saver: Saver) -> Staged:
    """Bring the working directory or code, the data sets and the newest snapshot.

    Harmless to repeat. Raises JobInputError, and what `remote` raises.
    """
    await site.prepare(ref)
    async with telling(context, job) as said:
        bringer = _Bringer(context, site, ref, job, said)
        done = await bringer.all()
        said.begin("putting its checkpoints back")
        try:
            snapshot = await saver.restore(site, job)
        except SnapshotError as error:
            raise JobInputError(f"it cannot begin with the snapshot that it is to start from: {error}") from error
    resumed_from = "" if snapshot is None else await site.checkpoint_path(ref)
    path = job.spec.checkpoint_dir
    if path is not None and not await site.link_checkpoints(ref, path):
        raise JobInputError(f"checkpoint_dir {path!r} exists in the working directory and is not empty")
    return Staged(resumed_from, "; ".join(done))


@dataclass(frozen=True, slots=True)
class _Bringer:
    """Brings what one job names to one machine."""

    context: Context
    site: Site
    ref: AttemptRef
    job: Job
    said: Telling

    async def all(self) -> list[str]:
        """Working directory, code and data; what was brought, in words. Raises JobInputError."""
        spec, done = self.job.spec, []
        if spec.workdir is not None:
            done.append(await self._workdir(Path(spec.workdir)))
        if spec.git is not None:
            done.append(await self._code(spec.git))
        if spec.data:
            try:
                memory = self.context.home.hashes
                sets, staying = await data.bring(self.site, self.ref, spec.data, memory, self.said)
            except data.DataError as error:
                raise JobInputError(str(error)) from error
            await self._warn_of(staying)
            done += sets
        return done

    async def _workdir(self, root: Path) -> str:
        self.said.begin("working directory: reading")
        try:
            chosen = await asyncio.to_thread(transfer.select_workdir, root, max_bytes=self._limit)
        except (OSError, ValueError) as error:
            raise JobInputError(f"workdir {root}: {error}") from error
        return f"working directory: {await self._put(root, chosen.files)}"

    async def _code(self, source: GitSource) -> str:
        """Code by git, at the commit that the job's first attempt had found; that is stored before it is used."""
        context, job = self.context, self.job
        self.said.begin("fetching its code")
        try:
            found = await code.fetch(
                context.home.code, source, job.git_commit, attempt=f"{job.id}-{job.attempt}", told=self.said.said
            )
        except code.CodeError as error:
            raise JobInputError(f"git: {error}") from error
        if job.git_commit is None:
            await context.db.write(jobs.fix_commit, job.id, found.commit, now=context.now(), epoch=context.epoch)
        await self._warn_of(found.left_out)
        size = sum((found.root / name).lstat().st_size for name in found.names)
        if size > self._limit:
            raise JobInputError(
                f"git: {source.label} has {human(size)}, the limit is {human(self._limit)} (workdir_max_mb): bring"
                " large files as --data, or raise the limit"
            )
        return f"code at commit {found.commit[:12]}: {await self._put(found.root, found.names)}"

    @property
    def _limit(self) -> int:
        return int(self.context.settings.scaler.workdir_max_mb * MEGABYTE)

    async def _put(self, root: Path, names: Sequence[str]) -> str:
        """Have the files of a directory in the attempt's working directory; what was sent, in words."""
        for left in reversed(range(TRIES)):
            try:
                files = await asyncio.to_thread(_hashed, root, names, self.context.home.hashes, self.said)
            except (OSError, TransferError) as error:
                if not left:
                    raise JobInputError(f"{root} cannot be read, or changes all the time: {error}") from error
                continue
            self.said.begin("sending its files")
            try:
                place = f"{self.ref.directory}/work"
                sent = await self.site.put_cached(self.ref.base, place, files, progress=self.said.moved)
            except Unreachable:
                raise
            except TransferError:  # perhaps a file has changed since it was hashed
                if not left:
                    raise
            else:
                count = sum(file.source is not None for file in files)
                return f"{count} files, {sent.files or 'none'} of them sent, {human(sent.bytes)}"
        raise AssertionError("the last try returns or raises")

    async def _warn_of(self, left_out: Sequence[str]) -> None:
        if left_out:
            more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
            text = f"stays here and does not travel: {', '.join(left_out[:NAMED])}{more}"
            await self.context.warn(text, job_id=self.job.id, attempt=self.job.attempt)


def _hashed(root: Path, names: Sequence[str], memory: Path, said: Telling) -> list[TreeFile]:
    files = transfer.local_tree(root, names)
    sources = [file.source for file in files if file.source is not None]
    hashes = filehashes.hashes(memory, sources, told=said.reading)
    return [replace(file, sha256=hashes[file.source]) if file.source is not None else file for file in files]
