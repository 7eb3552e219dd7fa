"""File-system calls that fail, or at which the program stops dead, one after another."""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CALLS = (
    "open",
    "write",
    "fsync",
    "mkdir",
    "rmdir",
    "unlink",
    "link",
    "symlink",
    "rename",
    "replace",
    "chmod",
    "scandir",
)


class Dead(BaseException):
    """The program does not go on from here: nothing may catch this, and nothing more reaches the disk."""


@dataclass
class Calls:
    """Counts the calls below `root`; the one with number `at` does not get through.

    With an `error` that call alone fails, with this number; without, the program is dead from then on.
    """

    root: Path
    at: int = 0
    error: int | None = None
    count: int = 0
    names: list[str] = field(default_factory=list)

    def meet(self, name: str, args: tuple[Any, ...]) -> None:
        """Count one call; raise where it is not to get through."""
        if not self._is_ours(args):
            return
        self.count += 1
        self.names.append(name)
        if self.error is not None and self.count == self.at:
            raise OSError(self.error, os.strerror(self.error), str(args[0]))
        if self.error is None and 0 < self.at <= self.count:
            raise Dead(f"{name} {args[0]}")

    def _is_ours(self, args: tuple[Any, ...]) -> bool:
        """By the name, or where a directory or file is given by its number, by what that is."""
        place = args[0] if args else "."
        if isinstance(place, int):
            try:
                place = Path(f"/proc/self/fd/{place}").readlink()
            except OSError:
                return False
        named = os.fsdecode(place)
        return not named.startswith("/") or named.startswith(str(self.root))


@contextmanager
def watched(root: Path, at: int = 0, error: int | None = None) -> Iterator[Calls]:
    """Within the block, calls on files below `root` are counted, and one does not get through."""
    calls = Calls(root, at, error)

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.meet(name, args)
            return None if name == "fsync" else real(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patched:
        for name in CALLS:
            patched.setattr(os, name, wrapped(name, getattr(os, name)))
        patched.setattr(io, "open", wrapped("open", io.open))
        patched.setattr(builtins, "open", wrapped("open", builtins.open))
        yield calls


def every_call(count: int, errors: tuple[int, ...] = (errno.EIO, errno.ENOSPC)) -> Iterator[tuple[int, int | None]]:
    """Each of so many calls, failing with one error or the other, and as the last of the program."""
    for at in range(1, count + 1):
        yield at, errors[at % len(errors)]
        yield at, None
