"""Outputs: what a command left in OUTPUT_DIR is fetched into the home before its attempt ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuscale_tui import rights
from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.telling import human
from gpuscale_tui.model.jobs import Attempt, job_label
from gpuscale_tui.remote.attempts import AttemptRef
from gpuscale_tui.remote.errors import RemoteError, Unreachable
from gpuscale_tui.remote.site import Site
from gpuscale_tui.remote.transfer import FetchedFile, RemoteFile, RemoteListing
from gpuscale_tui.remote.workdir import link_stays_inside
from gpuscale_tui.store import output_files
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.output_files import OutputRow

MEGABYTE = 1_000_000
FETCH_SEC = 3600.0
TRIES = 3
NAMED = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a listing is fetched; `reasons` say what is not, and why."""

    files: tuple[RemoteFile, ...]
    others: tuple[RemoteFile, ...]
    reasons: tuple[str, ...]


def place_of(home: Home, job_id: int, attempt: int) -> Path:
    """Where the outputs of an attempt are once they were fetched."""
    return home.outputs / job_label(job_id) / str(attempt)


async def fetch(context: Context, site: Site, attempt: Attempt, ref: AttemptRef, *, told_of: bool = True) -> None:
    """Fetch everything that the settings allow and note what came; what did not come is warned of.

    Unless the machine has `told_of` outputs, there may be none, which is not worth a word. Harmless to repeat. Raises
    Unreachable: then nothing is noted, and it is to be tried again.
    """
    error = ""
    for _ in range(TRIES):
        try:
            row = await _fetch(context, site, attempt, ref)
        except Unreachable:
            raise
        except RemoteError as failure:
            if not told_of:
                return
            error = f"the outputs could not be fetched: {failure}"
        except OSError as failure:
            error = f"the outputs could not be stored here: {failure}"
            break
        else:
            if told_of or row.files or row.error:
                await _note(context, row)
            return
    await _note(context, OutputRow(attempt.job_id, attempt.number, context.now(), 0, 0, error))


async def _note(context: Context, row: OutputRow) -> None:
    await context.db.write(output_files.record, row)
    if row.error is not None:
        await context.warn(row.error, job_id=row.job_id, attempt=row.attempt)


async def _fetch(context: Context, site: Site, attempt: Attempt, ref: AttemptRef) -> OutputRow:
    limit = int(context.settings.checkpoints.outputs_max_mb * MEGABYTE)
    directory, place = f"{ref.directory}/outputs", place_of(context.home, attempt.job_id, attempt.number)
    chosen = choose(await site.list_tree(directory), limit)
    draft, parts = place.with_name(f".{place.name}"), place.with_name(f".{place.name}.parts")
    await asyncio.to_thread(_clear, draft)
    fetched = await site.get_files(directory, chosen.files, draft, parts=parts, max_bytes=limit, timeout_sec=FETCH_SEC)
    lost = await asyncio.to_thread(_settle, draft, place, fetched, chosen)
    await asyncio.to_thread(shutil.rmtree, parts, ignore_errors=True)
    reasons = [*chosen.reasons, *lost]
    return OutputRow(
        attempt.job_id, attempt.number, context.now(), len(fetched), sum(file.size for file in fetched),
        f"not everything of OUTPUT_DIR was fetched: {'; '.join(reasons)}" if reasons else None,
    )  # fmt: skip


def choose(listing: RemoteListing, limit: int) -> Choice:
    """The smallest files first, as many as the limit allows; links that stay inside, and directories."""
    files: list[RemoteFile] = []
    over: list[RemoteFile] = []
    total = 0
    for file in sorted((each for each in listing if each.kind == "file"), key=lambda each: (each.size, each.path)):
        total += file.size
        (files if total <= limit else over).append(file)
    others = [each for each in listing if each.kind in {"link", "directory"}]
    leading = [each for each in others if each.kind == "link" and not _stays(each)]
    odd = [each for each in listing if each.kind not in {"file", "link", "directory"}]
    reasons = list(listing.left_out)
    if over:
        size = human(sum(file.size for file in over))
        reasons.append(f"{len(over)} files ({size}) beyond {human(limit)} (outputs_max_mb), such as {_named(over)}")
    if leading:
        reasons.append(f"{len(leading)} links that lead out, such as {_named(leading)}")
    if odd:
        reasons.append(f"{len(odd)} that are no files, such as {_named(odd)}")
    return Choice(
        tuple(sorted(files, key=lambda each: each.path)), tuple(each for each in others if each not in leading),
        tuple(reasons),
    )  # fmt: skip


def _stays(link: RemoteFile) -> bool:
    """Whether a link leads to a place inside, also over other links: it climbs at its beginning or nowhere."""
    parts = link.target.split("/")
    climbs = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    return ".." not in parts[climbs:] and link_stays_inside(link.path, link.target)


def _named(files: Sequence[RemoteFile]) -> str:
    return ", ".join(repr(file.path)[:80] for file in files[:NAMED])


def _clear(draft: Path) -> None:
    rights.make_directory(draft.parent)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(draft)


def _settle(draft: Path, place: Path, fetched: Sequence[FetchedFile], chosen: Choice) -> list[str]:
    """Make the tree whole and give it its name; what could not be made, in words."""
    lost: list[str] = []
    for file in fetched:
        (draft / file.path).chmod(0o600 | file.mode & 0o111)
    came = {file.path for file in fetched}
    gone = [file for file in chosen.files if file.path not in came]
    if gone:
        lost.append(f"{len(gone)} files that were removed meanwhile, such as {_named(gone)}")
    changed = sum(file.changed for file in fetched)
    if changed:
        lost.append(f"{changed} files were still written to while they were fetched")
    for each in chosen.others:
        try:
            _make(draft, each)
        except OSError as error:
            lost.append(f"{each.path[:80]!r}: {error.strerror}")
    _sync(draft, [draft / file.path for file in fetched])
    if place.exists():
        shutil.rmtree(place)
    draft.rename(place)
    _sync(place.parent, ())
    return lost


def _sync(directory: Path, files: Iterable[Path]) -> None:
    """To the disk: the machine forgets them soon."""
    for path in (*files, directory):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _make(draft: Path, entry: RemoteFile) -> None:
    """A directory or a link. Nothing is made through a link: the tree has none but those made here, after all files."""
    target = draft / entry.path
    for parent in target.relative_to(draft).parents:
        if (draft / parent).is_symlink():
            return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if entry.kind == "directory":
        target.mkdir(mode=0o700, exist_ok=True)
    else:
        os.symlink(entry.target, target)  # noqa: PTH211 - the text as it stood there
