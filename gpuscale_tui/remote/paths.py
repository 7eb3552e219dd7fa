"""Path names that go to a machine or come from one."""

from __future__ import annotations

import re

from gpuscale_tui.remote.errors import TransferError

DIRECTORY = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._/-]{0,250}")
LONGEST_PATH = 3072
"""Bytes; Linux takes 4096 with what stands before."""
LONGEST_NAME = 255
UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal may obey, what breaks or turns a line, and what is no text."""


def check_directory(name: str) -> None:
    """ValueError unless `name` is a relative directory that needs no quoting and climbs nowhere."""
    if not DIRECTORY.fullmatch(name) or not is_plain(name):
        raise ValueError(f"remote directory {name!r}: relative to the home, of letters, digits, . _ - and /")


def is_plain(path: str) -> bool:
    """Whether a relative path names something below its directory: no empty part, no `.` or `..`, no NUL."""
    return "\0" not in path and all(part not in {"", ".", ".."} for part in path.split("/"))


def is_storable(path: str) -> bool:
    """Whether a path from a machine can be kept: plain, each part no longer than file systems allow, not endless.

    Its bytes may be any others; bytes that are no UTF-8 stand in it as surrogate escapes.
    """
    if not is_plain(path):
        return False
    try:
        parts = path.encode("utf-8", "surrogateescape").split(b"/")
    except UnicodeEncodeError:
        return False
    return sum(len(part) + 1 for part in parts) <= LONGEST_PATH and all(len(part) <= LONGEST_NAME for part in parts)


def check_storable(path: str) -> None:
    """TransferError unless `is_storable`."""
    if not is_storable(path):
        raise TransferError(f"the path {shown(path[:100])} cannot be fetched: it is not a plain relative path")


def shown(name: str | bytes) -> str:
    """A name or text from a machine as it may stand in a message: one line, nothing that a terminal would obey."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    return UNSHOWN.sub(lambda found: repr(found[0])[1:-1], text)
