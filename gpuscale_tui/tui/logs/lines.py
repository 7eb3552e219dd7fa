"""A line of output as it is shown: harmless text, the worker's colours as roles of ours, what kind of line it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpuscale_tui.store.logs import LONGEST_LINE
from gpuscale_tui.tui.format import clean

_COLOURS = re.compile(r"\x1b\[([0-9;]{0,40})m")
_ROLES = {
    31: "bad", 91: "bad", 32: "good", 92: "good", 33: "warn", 93: "warn", 34: "accent", 94: "accent", 36: "accent",
    96: "accent", 35: "title", 95: "title", 30: "muted", 90: "muted", 1: "strong", 2: "muted",
}  # fmt: skip
"""Codes of "select graphic rendition" (ECMA-48, 8.3.117) that have a role here; the others are left out."""

Paint = tuple[tuple[int, int, str], ...]
"""Parts of a text that have a role: where they begin and end, and which."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A line as it is shown; `text` is harmless, and has no line end."""

    text: str
    paint: Paint = ()


def shown(line: bytes, *, raw: bool = False) -> Shown:
    """A line as a terminal would be left with it: what follows the last carriage return, colours as roles.

    With `raw` all of it, each control character as it is written by hand: `^M`, `^[`.
    """
    if raw:
        return Shown(_spelled(line[:LONGEST_LINE]))
    if b"\r" in line:
        line = line.rstrip(b"\r").rpartition(b"\r")[2]
    text = line[:LONGEST_LINE].decode("utf-8", "replace")
    if "\x1b" not in text:
        return Shown(clean(text, most=LONGEST_LINE))
    return _painted(text)


def _painted(text: str) -> Shown:
    pieces: list[str] = []
    paint: list[tuple[int, int, str]] = []
    length, role, end = 0, "", 0
    for match in [*_COLOURS.finditer(text), None]:
        piece = clean(text[end : match.start() if match else len(text)], most=LONGEST_LINE)
        if piece and role:
            paint.append((length, length + len(piece), role))
        pieces.append(piece)
        length += len(piece)
        if match:
            role, end = _role(match.group(1), role), match.end()
    return Shown("".join(pieces), tuple(paint))


def _role(codes: str, before: str) -> str:
    """The role after a sequence; 38 and 48 take the rest of it (colours by number), which has no role."""
    role = before
    for code in codes.split(";"):
        number = int(code or 0)
        if number in {38, 48}:
            break
        if number in {0, 22, 39}:
            role = ""
        found = _ROLES.get(number)
        if found and not (found == "strong" and role):
            role = found
    return role


def _spelled(line: bytes) -> str:
    text = line.decode("utf-8", "replace")
    if text.isprintable():
        return clean(text, most=LONGEST_LINE)
    spelled = re.sub(
        "[\x00-\x1f\x7f]", lambda found: "    " if found[0] == "\t" else "^" + chr(ord(found[0]) ^ 64), text
    )
    return clean(spelled, most=2 * LONGEST_LINE)[:LONGEST_LINE]
