"""Reading values whose type nobody promises: numbers come as texts, keys are missing, anything may be null.

Each function returns None (or an empty container) for what it cannot read; none raises.
Clore API reference, section 10 items 2 and 5.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

LARGEST = 10**12
"""Nothing that Clore counts, prices or dates is larger; beyond it a number is an error or an attack."""

_INTEGER = re.compile(r"\s*-?[0-9]{1,13}\s*")
_DECIMAL = re.compile(r"\s*-?[0-9]{1,13}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?\s*")


def number(value: object) -> Decimal | None:
    """A finite number from a JSON number or a text that holds one; a float means its shortest decimal spelling."""
    match value:
        case bool():
            return None
        case int() if abs(value) <= LARGEST:
            return Decimal(value)
        case float() if math.isfinite(value) and abs(value) <= LARGEST:
            return Decimal(repr(value))
        case str() if _DECIMAL.fullmatch(value):
            found = Decimal(value.strip())
            return found if abs(found) <= LARGEST else None
        case _:
            return None


def positive(value: object) -> Decimal | None:
    """A number above zero. Zero means "not offered" in Clore's price lists."""
    found = number(value)
    return found if found is not None and found > 0 else None


def integer(value: object) -> int | None:
    """A whole number: 3, 3.0, "3"; not 3.5, not True."""
    match value:
        case bool():
            return None
        case int() if abs(value) <= LARGEST:
            return value
        case float() if value.is_integer() and abs(value) <= LARGEST:
            return int(value)
        case str() if _INTEGER.fullmatch(value):
            return int(value)
        case _:
            return None


def identifier(value: object) -> int | None:
    """The id of a server or an order: a whole number above zero."""
    found = integer(value)
    return found if found is not None and found > 0 else None


def flag(value: object) -> bool | None:
    """True and False, also as 0/1 and as words."""
    if isinstance(value, str):
        return {"true": True, "false": False, "1": True, "0": False}.get(value.strip().lower())
    if isinstance(value, int | float) and value in {0, 1}:
        return bool(value)
    return None


def small_float(value: object) -> float | None:
    """A non-negative measure such as gigabytes or megabits."""
    found = number(value)
    return float(found) if found is not None and found >= 0 else None


def text(value: object, limit: int = 128) -> str | None:
    """A text fit to be shown: control characters removed, cut to `limit`; None when nothing is left."""
    if not isinstance(value, str):
        return None
    shown = "".join(letter for letter in value[: 4 * limit] if letter.isprintable()).strip()
    return shown[:limit] or None


def mapping(value: object) -> Mapping[str, object]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def array(value: object) -> Sequence[object]:
    """The list, or an empty one."""
    return value if isinstance(value, list) else ()
