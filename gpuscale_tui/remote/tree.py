"""What lies in a directory on a machine, what came from there, and what is to be there: plain data."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuscale_tui.remote.errors import TransferError

FILE, DIRECTORY, LINK, OTHER = "file", "directory", "link", "other"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One entry as it was when listed: `path` relative to the directory listed, `kind` one of file, directory, link,
    other (pipes, sockets, devices).

    `mtime` and `changed_at` (of content and of the entry itself) in UTC milliseconds by the machine's clock, as fine as
    its stat gives; `mode` its permission bits; `stamp` an opaque text of size, times and inode, equal as long as nobody
    has touched it; `target` where a link leads, as it stands there.
    """

    path: str
    size: int
    mtime: int
    kind: str
    mode: int = 0o600
    stamp: str = ""
    changed_at: int = 0
    target: str = ""
    inode: int = 0


class RemoteListing(tuple[RemoteFile, ...]):
    """The entries in order of path.

    `clock` is the machine's clock in UTC ms when it began to look; `left_out` says what could not be listed, each as
    a text to show.
    """

    clock: int
    left_out: tuple[str, ...]

    def __new__(cls, files: Iterable[RemoteFile], *, clock: int = 0, left_out: Iterable[str] = ()) -> RemoteListing:
        made = super().__new__(cls, files)
        made.clock = clock
        made.left_out = tuple(left_out)
        return made


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """One file that came: `path` relative to the directory asked, `mode` its permission bits on the machine.

    `changed`: somebody touched it since it was listed, so the content may be of no one moment.
    """

    path: str
    size: int
    sha256: str
    mode: int
    changed: bool = False


@dataclass(frozen=True, slots=True)
class TreeFile:
    """One entry that is to be in a directory on a machine: `kind` is file, directory or link.

    A file has `source`, where its content is here, and `size` bytes; `sha256`, where it is known, is checked there.
    A link has `target`, which must lead to a place in the same tree.
    """

    path: str
    kind: str = FILE
    mode: int = 0o600
    size: int = 0
    sha256: str = ""
    target: str = ""
    source: Path | None = None


def local_tree(root: Path, names: Sequence[str]) -> tuple[TreeFile, ...]:
    """The entries for files, directories and links of a local directory, as they are now. Blocking.

    Raises TransferError for what is not there, cannot be read or is none of these.
    """
    return tuple(_local(root, name) for name in names)


def _local(root: Path, name: str) -> TreeFile:
    path = root / name
    try:
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode) & 0o777
        if stat.S_ISLNK(status.st_mode):
            return TreeFile(name, LINK, 0o777, target=os.readlink(path))  # noqa: PTH115 - the text as it stands
    except (OSError, ValueError) as error:
        raise TransferError(f"{path} could not be sent: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(status.st_mode):
        return TreeFile(name, DIRECTORY, mode)
    if not stat.S_ISREG(status.st_mode):
        raise TransferError(f"{path} is not a regular file; leave it out")
    return TreeFile(name, FILE, mode, status.st_size, source=path)
