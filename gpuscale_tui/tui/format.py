"""How money, ages, sizes, states and foreign text look in a cell of the terminal. Pure functions, no Textual."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from rich.cells import cell_len, set_cell_size

from gpuscale_tui.model.money import format_usd

MAX_CLEANED = 4_000
"""Characters of a foreign text that are looked at: no cell and no line is ever wider."""

_MARKS_IN_A_ROW = 2
_FORMAT_CHARACTERS = re.compile(
    "[\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[@-Z\\-_]?"
)


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The signs that stand beside words; no state is told by colour alone."""

    states: dict[str, str]
    bar: str
    track: str
    cursor: str
    ellipsis: str
    rising: str
    falling: str
    dot: str
    arrow: str
    rule: str
    branch: str
    warn: str
    ascii: bool
    mark: str


UNICODE = Glyphs(
    states={
        "pending": "○", "running": "●", "done": "✓", "failed": "✗", "cancelled": "–",
        "ordering": "·", "booting": "◐", "idle": "○", "busy": "●", "releasing": "→", "released": "–", "lost": "✗",
        "assigned": "·", "staging": "◐", "saving": "◐", "ended": "–", "stopping": "→",
    },
    bar="━", track="─", cursor="▌", ellipsis="…", rising="▲", falling="▼", dot="·", arrow="→", rule="─",
    branch="│", warn="!", ascii=False, mark="■",
)  # fmt: skip
ASCII = Glyphs(
    states={
        "pending": "o", "running": "*", "done": "+", "failed": "x", "cancelled": "-",
        "ordering": ".", "booting": "~", "idle": "o", "busy": "*", "releasing": ">", "released": "-", "lost": "x",
        "assigned": ".", "staging": "~", "saving": "~", "ended": "-", "stopping": ">",
    },
    bar="=", track="-", cursor=">", ellipsis="~", rising="^", falling="v", dot="-", arrow=">", rule="-",
    branch="|", warn="!", ascii=True, mark="#",
)  # fmt: skip


def clean(text: str, *, ascii_only: bool = False, most: int = MAX_CLEANED) -> str:
    """A text from outside as one harmless line: it can neither move the cursor, nor colour, nor reorder, nor grow.

    Escape sequences go altogether; tabs become blanks, other control characters (C0, C1), unassigned and private
    characters the sign for an unknown one; invisible and direction-changing characters go. At most `most`
    characters are kept.
    """
    text = text[:most]
    if text.isascii() and text.isprintable():
        return text
    text = _FORMAT_CHARACTERS.sub("", _ESCAPES.sub("", text).replace("\t", "    "))
    text = "".join(_harmless(text))
    return text.encode("ascii", "replace").decode() if ascii_only else text


def _harmless(text: str) -> list[str]:
    kept: list[str] = []
    marks = 0
    for character in unicodedata.normalize("NFC", text):
        category = unicodedata.category(character)
        marks = marks + 1 if category in {"Mn", "Me", "Mc"} else 0
        if category == "Cf" or marks > _MARKS_IN_A_ROW:
            continue
        kept.append("\ufffd" if category[0] == "C" or category in {"Zl", "Zp"} else character)
    return kept


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """The text, or its beginning with an ellipsis, in at most `width` cells."""
    if len(text) <= width and text.isascii():
        return text
    if cell_len(text) <= width:
        return text
    if width <= 0:
        return ""
    return set_cell_size(text, width - 1).rstrip() + ellipsis


def fit(text: str, width: int, *, right: bool = False, ellipsis: str = "…") -> str:
    """The text in exactly `width` cells, cut or padded."""
    short = cut(text, width, ellipsis)
    padding = " " * (width - cell_len(short))
    return padding + short if right else short + padding


def usd(micros: int) -> str:
    """`$1.25`; amounts under a cent with more digits, so that a little is never shown as nothing."""
    if 0 < abs(micros) < 1_000:
        return "<$0.001"
    return format_usd(micros, 3 if abs(micros) < 10_000 and micros else 2)


def rate(micros: int) -> str:
    """`$0.31/h`."""
    return f"{usd(micros)}/h"


def span(milliseconds: int) -> str:
    """A length of time in at most six cells: `42s`, `4m12s`, `42m`, `3h07m`, `2d04h`, `120d`."""
    seconds = max(0, milliseconds) // 1000
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if seconds < 60:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60:02d}s"
    if hours < 1:
        return f"{minutes}m"
    if days < 1:
        return f"{hours}h{minutes % 60:02d}m"
    return f"{days}d{hours % 24:02d}h" if days < 100 else f"{days}d"


def wait(milliseconds: int) -> str:
    """A length of time to the minute: a queue of waiting jobs is painted once a minute, not every second."""
    return span(milliseconds // 60_000 * 60_000).removesuffix("00s") if milliseconds >= 60_000 else "<1m"


def size(count: int) -> str:
    """`820 B`, `1.2 MB`: decimal units."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.5 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def moment(at: int, now: int, zone: tzinfo | None = None) -> str:
    """When something was: `12:03:04` today, else `03-14 12:03`, else `2024-03-14`. `zone` None means local time."""
    when, today = (datetime.fromtimestamp(value / 1000, UTC).astimezone(zone) for value in (at, now))
    if when.date() == today.date():
        return f"{when:%H:%M:%S}"
    return f"{when:%m-%d %H:%M}" if when.year == today.year else f"{when:%Y-%m-%d}"


def share(part: int, whole: int) -> str:
    """`37 %`; nothing of nothing is `0 %`."""
    return f"{round(100 * part / whole) if whole else 0} %"


def meter(part: int, whole: int, width: int, glyphs: Glyphs) -> tuple[str, str]:
    """A bar in `width` cells as its full and its empty part; something never looks like nothing."""
    filled = min(width, round(width * part / whole)) if whole > 0 else (width if part > 0 else 0)
    filled = max(filled, 1) if part > 0 else filled
    return glyphs.bar * filled, glyphs.track * (width - filled)


def plural(count: int, one: str, many: str = "") -> str:
    """`1 job`, `2 jobs`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def gpus(gpu_type: str | None, count: int) -> str:
    """`RTX 4090`, `2x RTX 4090`, or `no GPU`."""
    if gpu_type is None:
        return "no GPU"
    return gpu_type if count == 1 else f"{count}x {gpu_type}"
