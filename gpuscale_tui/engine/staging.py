"""Staging: what a job needs on its machine before its command can start."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.saver import Saver
from gpuscale_tui.model.jobs import Job
from gpuscale_tui.remote import attempts, transfer
from gpuscale_tui.remote.attempts import AttemptRef
from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import RemoteError

MEGABYTE = 1_000_000


class JobInputError(Exception):
    """Something the job itself brings (its working directory) is missing or too large: only its user can mend it."""


async def stage(context: Context, machine: Machine, ref: AttemptRef, job: Job, saver: Saver) -> str:
    """Upload the working directory and the newest snapshot; returns the absolute path to resume from, or "".

    Harmless to repeat. Raises JobInputError, and what `remote` raises.
    """
    await attempts.prepare(machine, ref)
    if job.spec.workdir is not None:
        await _put_workdir(context, machine, ref, Path(job.spec.workdir))
    snapshot = await saver.restore(machine)
    resumed_from = "" if snapshot is None else await checkpoint_path(machine, ref)
    if job.spec.checkpoint_dir is not None:
        await _link_checkpoints(machine, ref, job.spec.checkpoint_dir)
    return resumed_from


async def checkpoint_path(machine: Machine, ref: AttemptRef) -> str:
    """The attempt's checkpoint directory as an absolute path on its machine."""
    done = await machine.run('printf %s "$HOME"', label="asking for the home directory")
    home = done.stdout.decode("utf-8", "surrogateescape")
    if done.exit_status != 0 or not home.startswith("/") or "\n" in home:
        raise RemoteError(f"{machine.where}: its HOME is no absolute path")
    return f"{home}/{ref.directory}/checkpoints"


async def _put_workdir(context: Context, machine: Machine, ref: AttemptRef, root: Path) -> None:
    limit = int(context.settings.scaler.workdir_max_mb * MEGABYTE)
    try:
        chosen = await asyncio.to_thread(transfer.select_workdir, root, max_bytes=limit)
    except (OSError, ValueError) as error:
        raise JobInputError(f"workdir {root}: {error}") from error
    await transfer.put_tree(machine, f"{ref.directory}/work", root, chosen.files)


async def _link_checkpoints(machine: Machine, ref: AttemptRef, path: str) -> None:
    """Let a command that writes checkpoints to a place of its own write them into CHECKPOINT_DIR."""
    target = shlex.quote(f"{ref.directory}/work/{path}")
    script = (
        f'[ -L {target} ] || {{ mkdir -p -- "$(dirname -- {target})" && rmdir -- {target} 2>/dev/null;'
        f' ln -s -- "$HOME/{ref.directory}/checkpoints" {target}; }}'
    )
    done = await machine.run(script, label="linking the checkpoint directory")
    if done.exit_status != 0:
        raise JobInputError(f"checkpoint_dir {path!r} exists in the working directory and is not empty")
