"""Errors that name the thing, the reason and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GpuscaleError(Exception):
    """Base of every error that is meant for a user's eyes."""


class FieldError(GpuscaleError, ValueError):
    """A value that is refused: `field` is its name, `found` what was given, `allowed` what would be right."""

    def __init__(self, field: str, found: object, allowed: str) -> None:
        super().__init__(f"{field}: found {found!r}; allowed is {allowed}")
        self.field = field
        self.found = found
        self.allowed = allowed


class Refused(GpuscaleError):
    """A guard rail says no: the cap, a limit, a state in which the action would do harm. Exit code 4."""


class NotFound(GpuscaleError, LookupError):
    """There is no such job or worker. Exit code 1."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'max_workers'?`, or nothing when no known name is near."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]!r}?" if matches else ""
