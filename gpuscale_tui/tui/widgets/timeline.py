"""What happened when, as one line of cells: stretches of time told apart by sign, and their scale. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from gpuscale_tui.tui.look import Line, Look, Span
from gpuscale_tui.tui.widgets.axes import time_ticks

WORDS = {
    "job": "job", "setup": "set-up", "idle": "idle", "lost": "lost", "rejected": "rejected", "ordering": "ordered",
    "waiting": "waiting",
}  # fmt: skip
"""What a kind is called."""
ROLES = {
    "job": "state-running", "setup": "accent", "idle": "state-idle", "lost": "bad", "rejected": "bad",
    "ordering": "muted", "waiting": "muted",
}  # fmt: skip
_SIGNS = {"job": "━", "setup": "░", "idle": "╌", "lost": "╳", "rejected": "▒", "ordering": "·", "waiting": "·"}
_ASCII_SIGNS = {"job": "=", "setup": ":", "idle": "-", "lost": "x", "rejected": "%", "ordering": ".", "waiting": "."}
_SCARCE = {"lost": 3.0, "rejected": 3.0, "setup": 1.5}
"""What is looked for wins a cell that it shares, though it took less of its time."""
TICK_CELLS = 12


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time (UTC ms) with its kind and the word that stands in it where there is room."""

    kind: str
    start: int
    end: int
    label: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """Which time the cells of a line stand for."""

    start: int
    end: int
    width: int

    def cell(self, at: int) -> float:
        """Where a moment lies, in cells from the left."""
        return (at - self.start) / max(1, self.end - self.start) * self.width

    @property
    def cell_ms(self) -> float:
        """Time that one cell stands for."""
        return (self.end - self.start) / max(1, self.width)


def sign(kind: str, look: Look) -> Span:
    """The sign of a kind."""
    return (_ASCII_SIGNS if look.glyphs.ascii else _SIGNS).get(kind, "?"), ROLES.get(kind, "text")


def bar(stretches: Sequence[Stretch], scale: Scale, look: Look) -> list[Span]:
    """The line of some stretches: each cell shows what took most of its time; what is shorter than a cell has one."""
    owners = _owners(stretches, scale)
    spans: list[Span] = []
    place = 0
    while place < scale.width:
        owner, begin = owners[place], place
        while place < scale.width and owners[place] == owner:
            place += 1
        cells = place - begin
        spans.append((" " * cells, "text") if owner < 0 else _piece(stretches[owner], cells, look))
    return spans


def _owners(stretches: Sequence[Stretch], scale: Scale) -> list[int]:
    """For each cell the number of the stretch that it shows, or -1."""
    weights = [0.0] * scale.width
    owners = [-1] * scale.width
    for number, stretch in enumerate(stretches):
        begin, end = max(0.0, scale.cell(stretch.start)), min(float(scale.width), scale.cell(stretch.end))
        if scale.cell(stretch.end) < 0 or begin > scale.width:
            continue
        weight = _SCARCE.get(stretch.kind, 1.0)
        first = min(int(begin), scale.width - 1)
        for cell in range(first, max(first + 1, min(ceil(end), scale.width))):
            share = max(min(end, cell + 1) - max(begin, cell), 0.01) * weight
            if share > weights[cell] and (owners[cell] < 0 or share >= weights[cell]):
                weights[cell], owners[cell] = share, number
    return owners


def _piece(stretch: Stretch, cells: int, look: Look) -> Span:
    text, role = sign(stretch.kind, look)
    label = stretch.label if stretch.label and len(stretch.label) + 2 <= cells else ""
    begin = "[" if look.glyphs.ascii else "┝"
    if stretch.kind == "job" and cells > 1:
        return f"{begin}{label}{text * (cells - 1 - len(label))}", role
    return f"{label}{text * (cells - len(label))}", role


def axis(scale: Scale, look: Look) -> str:
    """Round moments above the cells that they lie in."""
    words = ""
    for at, word in time_ticks(scale.start, scale.end, max(1, scale.width // TICK_CELLS), look.zone):
        mark = ("|" if look.glyphs.ascii else "╷") + word
        place = int(scale.cell(int(at)))
        if len(words) < place + 1 and place + len(mark) <= scale.width:
            words += " " * (place - len(words)) + mark
    return words


def legend(kinds: Sequence[str], look: Look) -> Line:
    """What the signs mean."""
    spans: list[Span] = []
    for kind in kinds:
        text, role = sign(kind, look)
        spans += [(f" {text * 2}", role), (f" {WORDS[kind]} ", "muted")]
    return spans
