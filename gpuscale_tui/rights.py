"""Rights of the files that we make: their user's alone, or their group's where the home was shared on purpose.

A home is shared when its directory was made so by hand before its first use, or later by its owner: writable by its
group, and setgid, so that what is made in it belongs to that group too (`chgrp lab DIR; chmod 2770 DIR`). Everything
below then is 2770 and 0660: every member of the group can submit, see and cancel, and start the engine. Hence every
member can also read the secrets of jobs and use the machines' key: whoever starts the engine needs both. Nobody
outside the group can read anything. Any other home is private, 0700 and 0600, whatever the umask says.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

SHARED = stat.S_ISGID | stat.S_IWGRP


def is_shared(directory: Path) -> bool:
    """Whether what is made in this directory is its group's as well. Never where all the world may write."""
    try:
        mode = directory.stat().st_mode
    except OSError:
        return False
    return stat.S_IMODE(mode) & SHARED == SHARED and not mode & stat.S_IWOTH


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, with the rights that the nearest one there hands down. Raises OSError."""
    if path.is_dir():
        return
    if not path.parent.exists():
        make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    settle(path)


def settle(path: Path) -> None:
    """Give a file or directory of ours the rights that the directory which holds it hands down. Raises OSError.

    What another member made has them already, and only its owner could change them.
    """
    found = path.stat(follow_symlinks=False)
    if found.st_uid != os.geteuid() or stat.S_ISLNK(found.st_mode):
        return
    shared = is_shared(path.parent)
    wanted = (0o2770 if shared else 0o700) if stat.S_ISDIR(found.st_mode) else (0o660 if shared else 0o600)
    if stat.S_IMODE(found.st_mode) != wanted:
        path.chmod(wanted)


def private_opener(path: str, flags: int) -> int:
    """An opener for `open` that makes files 0600 whatever the umask, or 0660 where they are a group's."""
    descriptor = os.open(path, flags, 0o600)
    try:
        found = os.fstat(descriptor)
        new = found.st_size == 0 and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == 0o600
        if flags & os.O_CREAT and new and is_shared(Path(path).parent):
            os.fchmod(descriptor, 0o660)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def hand_down(directory: Path) -> None:
    """Settle everything below a directory that is ours: its owner has just made it a group's. Raises OSError."""
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            settle(Path(folder, name))
