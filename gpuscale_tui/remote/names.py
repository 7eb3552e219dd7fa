"""How names of files reach a script on a machine: one a line, whatever bytes they are of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
BATCH_NAMES = 500
BATCH_BYTES = 64 * 1024
"""Names of one request: they become arguments of one process."""
_ODD = re.compile(rb"[\x00-\x1f\x7f\\]")

_NAME = """
  case $name in
    (=*) set -- "$@" "./${name#=}";;
    (*) name=$(printf "%b." "${name#?}"); set -- "$@" "./${name%.}";;
  esac
"""
READ_NAME = f"""
set --
IFS= read -r name
{_NAME}
"""
"""Makes the first line of stdin, a name, the only argument, with ./ before it. More may follow: read takes no more."""
READ_NAMES = f"""
set --
while IFS= read -r name; do
  {_NAME}
done
"""
"""The same with each line of stdin. The dot keeps newlines at the end of a name."""


def lines(names: Iterable[str]) -> bytes:
    """The names for READ_NAMES: as they are after a `=`, else after a `%` in the escapes of printf's %b."""
    return b"".join(_line(name.encode("utf-8", "surrogateescape")) for name in names)


def is_simple(name: str) -> bool:
    """Whether a program may print the name on a line of its own without changing it."""
    return not _ODD.search(name.encode("utf-8", "surrogateescape"))


def _line(name: bytes) -> bytes:
    if not _ODD.search(name):
        return b"=%b\n" % name
    return b"%%%b\n" % _ODD.sub(lambda found: b"\\0%03o" % found[0][0], name)


def batches(items: Sequence[T], name: Callable[[T], str]) -> Iterator[list[T]]:
    """The items in groups whose names fit into one request."""
    batch: list[T] = []
    size = 0
    for item in items:
        if batch and (len(batch) >= BATCH_NAMES or size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(name(item).encode("utf-8", "surrogateescape"))
    if batch:
        yield batch
