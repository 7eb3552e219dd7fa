"""Durations as people type them (`90m`, `1h30m`, `2d`) and as seconds."""

from __future__ import annotations

import re
from decimal import Decimal

from gpuscale_tui.model.errors import FieldError

UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
ALLOWED = "a duration such as 45s, 90m, 2h, 1h30m or 3d"

_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([wdhms])")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_PLAIN = re.compile(r"[0-9]{1,12}")


def parse_duration(text: str, field: str = "duration") -> int:
    """Whole seconds of `45s`, `90m`, `1.5h`, `1h30m`, `2d`; a bare number is seconds. Case and blanks do not matter.

    Raises FieldError, in the name of `field`, for anything else and for less than a second.
    """
    compact = "".join(text.split()).lower()
    if _PLAIN.fullmatch(compact):
        seconds = Decimal(compact)
    elif _WHOLE.fullmatch(compact):
        seconds = sum((Decimal(number) * UNITS[unit] for number, unit in _PART.findall(compact)), Decimal(0))
    else:
        raise FieldError(field, text, ALLOWED)
    if seconds < 1:
        raise FieldError(field, text, f"{ALLOWED}, at least one second")
    return int(seconds)


def format_duration(seconds: int) -> str:
    """The shortest text that `parse_duration` reads back as the same: `1h30m`, `2d`, `45s`."""
    parts = []
    for unit, size in UNITS.items():
        if unit == "w":
            continue
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def spoken_duration(seconds: int) -> str:
    """As it is said, in its two largest units: `3 min 12 s`, `2 h 5 min`, `4 d 1 h`, `45 s`."""
    found: list[str] = []
    for word, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count or found:
            found.append(f"{count} {word}" if count else "")
    return " ".join(part for part in found[:2] if part) or "0 s"
