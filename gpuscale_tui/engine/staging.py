"""Staging: what a job needs on its machine before its command can start."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.saver import Saver
from gpuscale_tui.model.jobs import Job
from gpuscale_tui.remote import transfer
from gpuscale_tui.remote.attempts import AttemptRef
from gpuscale_tui.remote.site import Site
from gpuscale_tui.store.checkpoints import SnapshotError

MEGABYTE = 1_000_000


class JobInputError(Exception):
    """Something the job itself brings (its working directory) is missing or too large: only its user can mend it."""


async def stage(context: Context, site: Site, ref: AttemptRef, job: Job, saver: Saver) -> str:
    """Upload the working directory and the newest snapshot; returns the absolute path to resume from, or "".

    Harmless to repeat. Raises JobInputError, and what `remote` raises.
    """
    await site.prepare(ref)
    if job.spec.workdir is not None:
        await _put_workdir(context, site, ref, Path(job.spec.workdir))
    try:
        snapshot = await saver.restore(site, job)
    except SnapshotError as error:
        raise JobInputError(f"it cannot begin with the snapshot that it is to start from: {error}") from error
    resumed_from = "" if snapshot is None else await site.checkpoint_path(ref)
    path = job.spec.checkpoint_dir
    if path is not None and not await site.link_checkpoints(ref, path):
        raise JobInputError(f"checkpoint_dir {path!r} exists in the working directory and is not empty")
    return resumed_from


async def _put_workdir(context: Context, site: Site, ref: AttemptRef, root: Path) -> None:
    limit = int(context.settings.scaler.workdir_max_mb * MEGABYTE)
    try:
        chosen = await asyncio.to_thread(transfer.select_workdir, root, max_bytes=limit)
    except (OSError, ValueError) as error:
        raise JobInputError(f"workdir {root}: {error}") from error
    files = await asyncio.to_thread(transfer.local_tree, root, chosen.files)
    await site.put_tree(f"{ref.directory}/work", files)
