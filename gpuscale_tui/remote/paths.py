"""Path names that go to a machine or come from one."""

from __future__ import annotations

import re

from gpuscale_tui.remote.errors import TransferError

DIRECTORY = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._/-]{0,250}")
LONGEST_PATH = 1024
LONGEST_NAME = 255
UNKEPT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\\]")
"""Control characters, and the backslash, which GNU tar takes for an escape in the names that it is given."""


def check_directory(name: str) -> None:
    """ValueError unless `name` is a relative directory that needs no quoting and climbs nowhere."""
    if not DIRECTORY.fullmatch(name) or not is_plain(name):
        raise ValueError(f"remote directory {name!r}: relative to the home, of letters, digits, . _ - and /")


def is_plain(path: str) -> bool:
    """Whether a relative path names something below its directory: no empty part, no `.` or `..`, no NUL."""
    return "\0" not in path and all(part not in {"", ".", ".."} for part in path.split("/"))


def is_storable(path: str) -> bool:
    """Whether a path from a machine can be kept and shown: plain, valid text, no control characters, not endless."""
    if not is_plain(path) or UNKEPT.search(path):
        return False
    try:
        parts = path.encode("utf-8").split(b"/")
    except UnicodeEncodeError:
        return False
    return len(path) <= LONGEST_PATH and all(len(part) <= LONGEST_NAME for part in parts)


def check_storable(path: str) -> None:
    """TransferError unless `is_storable`."""
    if not is_storable(path):
        raise TransferError(f"the path {path[:100]!r} cannot be fetched: it is not a plain relative path of text")
