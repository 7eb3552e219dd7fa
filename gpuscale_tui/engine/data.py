"""Data sets of jobs: looked through here, brought to a machine unless it has them, found there by name."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpuscale_tui.engine.telling import Telling, human
from gpuscale_tui.remote.attempts import AttemptRef
from gpuscale_tui.remote.datasets import data_directory
from gpuscale_tui.remote.errors import TransferError, Unreachable
from gpuscale_tui.remote.site import Site
from gpuscale_tui.remote.transfer import TreeFile, local_tree
from gpuscale_tui.remote.workdir import link_stays_inside
from gpuscale_tui.store import filehashes

MOST_FILES = 1_000_000
TRIES = 3
DIGEST_LETTERS = 40


class DataError(Exception):
    """A data set that is missing or cannot be read: only its job's user can mend that."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """One data set as it is on this host: `digest` is of names, kinds, modes and contents.

    `within` is what of it the job is led to: "" for a directory, the name of a single file. `left_out` are links that
    lead out of it, and what is no file.
    """

    name: str
    files: tuple[TreeFile, ...]
    digest: str
    within: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of content."""
        return sum(file.size for file in self.files)

    @property
    def path(self) -> str:
        """Where it is below the machine's directory of data sets."""
        return f"{self.digest}/{self.within}" if self.within else self.digest


def variable(name: str) -> str:
    """The variable by which a job finds the data set of this name."""
    return f"DATA_{name.upper()}"


async def bring(
    site: Site, ref: AttemptRef, paths: Mapping[str, str], memory: Path, telling: Telling
) -> tuple[list[str], list[str]]:
    """Have all data sets of a job on its machine, and the job find them. What was done, and what does not travel.

    Raises DataError, TransferError (no room there) and Unreachable.
    """
    done: list[str] = []
    found: dict[str, DataSet] = {}
    for name, path in paths.items():
        for left in reversed(range(TRIES)):
            telling.begin(f"data set {name}: reading")
            found[name] = await asyncio.to_thread(look, name, Path(path), memory, telling.reading)
            try:
                done.append(await _bring(site, ref, found[name], [each.digest for each in found.values()], telling))
            except Unreachable:
                raise
            except TransferError:  # perhaps it has changed since it was looked through
                if not left or await _same(found[name], Path(path), memory, telling):
                    raise
            else:
                break
    await site.give(ref, {variable(name): each.path for name, each in found.items()})
    return done, [f"data set {name}: {left}" for name, each in found.items() for left in each.left_out]


async def _same(known: DataSet, path: Path, memory: Path, telling: Telling) -> bool:
    return known == await asyncio.to_thread(look, known.name, path, memory, telling.reading)


async def _bring(site: Site, ref: AttemptRef, wanted: DataSet, beside: Sequence[str], telling: Telling) -> str:
    what = f"data set {wanted.name}"
    if await site.make_room(ref.base, wanted.digest, wanted.size, beside=beside):
        return f"{what} was there"
    telling.begin(what, wanted.size)
    await site.put_tree(f"{data_directory(ref.base)}/{wanted.digest}", wanted.files, progress=telling.moved)
    return f"{what}: {len(wanted.files)} files, {human(wanted.size)} sent"


def look(name: str, path: Path, memory: Path, told: Callable[[int], None]) -> DataSet:
    """A data set as it is now. Every byte that is not known is read: blocking. Raises DataError."""
    root = path.resolve()
    try:
        single = root.is_file()
        top = root.parent if single else root
        names = [root.name] if single else list(_walk(root, name))
        kept = [each for each in names if _travels(top, each)]
        files = local_tree(top, kept)
        hashes = filehashes.hashes(memory, [each.source for each in files if each.source is not None], told=told)
    except (OSError, TransferError) as error:
        raise DataError(f"data set {name} ({path}): {error}") from error
    files = tuple(replace(each, sha256=hashes[each.source]) if each.source else each for each in files)
    left_out = tuple(each for each in names if each not in set(kept)) if len(kept) < len(names) else ()
    return DataSet(name, files, _digest(files), root.name if single else "", left_out)


def _walk(root: Path, name: str) -> Iterator[str]:
    """Everything below a directory: directories, files, links, and what is neither."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not there any more")
    count = 0
    for place, directories, files in os.walk(root, onerror=_refuse):
        directories.sort()
        here = Path(place)
        links = [each for each in directories if (here / each).is_symlink()]
        for each in (*directories, *sorted(files)):
            count += 1
            if count > MOST_FILES:
                raise DataError(f"data set {name} ({root}) has more than {MOST_FILES:,} files: pack them into one")
            yield (here / each).relative_to(root).as_posix()
        directories[:] = [each for each in directories if each not in links]


def _refuse(error: OSError) -> None:
    raise error


def _travels(root: Path, name: str) -> bool:
    mode = (root / name).lstat().st_mode
    if stat.S_ISLNK(mode):
        return link_stays_inside(name, os.readlink(root / name))  # noqa: PTH115 - the text, not a Path
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _digest(files: Sequence[TreeFile]) -> str:
    whole = hashlib.sha256()
    for file in sorted(files, key=lambda each: os.fsencode(each.path)):
        mode = file.mode & 0o111 if file.source is not None else 0
        for part in (file.path, file.kind, f"{mode:o}", file.sha256 or file.target):
            whole.update(os.fsencode(part) + b"\0")
    return whole.hexdigest()[:DIGEST_LETTERS]
