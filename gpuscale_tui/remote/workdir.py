"""Which files of a local directory go along with a job: what git would track, else all but the usual ballast."""

from __future__ import annotations

import fnmatch
import os
import stat
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GIT_SEC = 60
MOST_FILES = 200_000
BIGGEST_SHOWN = 5
IGNORED_DIRECTORIES = frozenset(
    (
        *(".git", ".hg", ".svn", "__pycache__", ".venv", "venv", "node_modules", ".tox", ".nox", ".eggs"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints", ".idea", ".gradle"),
    )
)
IGNORED_FILES = ("*.pyc", "*.pyo", ".DS_Store", "*.swp", "*~", ".coverage")
VIRTUAL_ENVIRONMENT_MARK = "pyvenv.cfg"


class WorkdirError(ValueError):
    """A directory that cannot be sent along; the message names it, the reason and the way out."""


class WorkdirTooLarge(WorkdirError):
    """The selected files are more than the limit; the message names the biggest entries."""


@dataclass(frozen=True, slots=True)
class Workdir:
    """The selection: paths relative to the directory with `/` between names, sorted.

    `left_out` names symbolic links that point out of the directory, and files that are no files (sockets, pipes):
    they do not travel, and the user should be told.
    """

    files: tuple[str, ...]
    total_bytes: int
    left_out: tuple[str, ...] = ()


def select_workdir(root: Path, *, max_bytes: int) -> Workdir:
    """Choose the files of `root` that go to the machine. Reads names and sizes only; blocking.

    In a git work tree: tracked files and untracked ones that git does not ignore, as they are now. Elsewhere, or when
    git ignores the whole directory: everything but version control data, caches, virtual environments and the like.
    Raises WorkdirTooLarge beyond `max_bytes` or 200,000 files, WorkdirError for what cannot be read.
    """
    if not root.is_dir():
        raise WorkdirError(f"{root} is {'not a directory' if root.exists() else 'not there'}; name a directory")
    names = _git_files(root) or _walk(root, "")
    sizes: dict[str, int] = {}
    left_out: list[str] = []
    for name in names:
        size = _size(root, name)
        if size is None:
            left_out.append(name)
        elif size >= 0:
            sizes[name] = size
        if len(sizes) > MOST_FILES:
            raise WorkdirTooLarge(f"{root} has more than {MOST_FILES} files; {_biggest(sizes)}; {_WAY_OUT}")
    total = sum(sizes.values())
    if total > max_bytes:
        raise WorkdirTooLarge(
            f"{root} has {_human(total)} to send, the limit is {_human(max_bytes)}; {_biggest(sizes)}; {_WAY_OUT}"
        )
    return Workdir(tuple(sorted(sizes)), total, tuple(sorted(left_out)))


_WAY_OUT = "list what is not needed in .gitignore, choose a smaller directory or raise the limit"


def link_stays_inside(name: str, target: str) -> bool:
    """Whether a symbolic link `name` (relative to its tree) with this target leads to a place in the same tree."""
    if target.startswith("/"):
        return False
    landing = os.path.normpath(os.path.join(os.path.dirname(name), target))  # noqa: PTH118, PTH120 - text, not files
    return landing != ".." and not landing.startswith("../")


def _size(root: Path, name: str) -> int | None:
    """Bytes of a file or link; None when it does not travel; -1 when it is gone since git noted it."""
    path = root / name
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return 0 if link_stays_inside(name, os.readlink(path)) else None  # noqa: PTH115 - text, not a Path
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise WorkdirError(f"{path} cannot be read: {error.strerror}; change its permissions or ignore it") from error
    if not stat.S_ISREG(status.st_mode):
        return None
    if not os.access(path, os.R_OK):
        raise WorkdirError(f"{path} cannot be read: permission denied; change its permissions or ignore it")
    return status.st_size


def _git_files(root: Path) -> list[str]:
    """What git would track in `root`; empty when there is no git, no work tree, or nothing of it here."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ("git", "-c", "core.fsmonitor=false", "ls-files", "-z", "-co", "--exclude-standard")
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=GIT_SEC,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode != 0:
        return []
    names = [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
    found: list[str] = []
    for name in dict.fromkeys(names):  # an unmerged file is listed once for each side
        place = root / name
        if place.is_dir() and not place.is_symlink():  # a submodule, or a repository inside this one
            found += _walk(root, name.rstrip("/"))
        else:
            found.append(name)
    return found


def _walk(root: Path, below: str) -> Iterator[str]:
    for place, directories, files in os.walk(root / below, onerror=_refuse):
        here = Path(place)
        links = [name for name in directories if (here / name).is_symlink()]
        directories[:] = sorted(name for name in directories if name not in links and not _is_ballast(here / name))
        for name in sorted((*files, *links)):
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in IGNORED_FILES):
                yield (here / name).relative_to(root).as_posix()


def _is_ballast(directory: Path) -> bool:
    return (
        directory.name in IGNORED_DIRECTORIES
        or directory.name.endswith(".egg-info")
        or (directory / VIRTUAL_ENVIRONMENT_MARK).exists()
    )


def _refuse(error: OSError) -> None:
    raise WorkdirError(f"{error.filename} cannot be read: {error.strerror}; change its permissions or ignore it")


def _biggest(sizes: dict[str, int]) -> str:
    entries: Counter[str] = Counter()
    for name, size in sizes.items():
        first, slash, _ = name.partition("/")
        entries[first + slash] += size
    return "biggest: " + ", ".join(f"{name} {_human(size)}" for name, size in entries.most_common(BIGGEST_SHOWN))


def _human(size: int) -> str:
    amount = float(size)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
