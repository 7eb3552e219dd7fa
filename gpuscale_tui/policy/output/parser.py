"""Lines of a job's output, one after the other, read for what they say of its progress."""

from __future__ import annotations

import re
from dataclasses import replace

from gpuscale_tui.policy.output import bars, boosting, dicts, lines, tables
from gpuscale_tui.policy.output.reading import Reading, plain

_HINT = re.compile(
    r"loss|epoch|step|iter|acc|eval|valid|/it|it/s|it \[|━|%\||\btrl:|\btel:|train|learn|test|ppl|updat|reward|rate",
    re.IGNORECASE,
)
"""A line without any of these says nothing of training; most noise ends here."""
_DIGIT = re.compile(r"\d|\bnan\b|\binf\b", re.IGNORECASE)
_NOISE = re.compile(
    r"\s*(?:File \"|Traceback|at 0x|\w*(?:Error|Exception|Warning)\b[: ]|warnings\.warn|raise |import |from \S+ import"
    r"|def |pip |Requirement already|Collecting |Downloading |Installing |Successfully |Using cached|\+[-=+]+\+|\^+\s*$"
    r"|#include|(?:WARN(?:ING)?|ERROR|FATAL|CRITICAL)\b)|\[config\.py|.*[a-z_] \.{4,}|.*\bMiB /|.*://\S*$",
)
"""Lines that are about something else, whatever numbers stand in them."""
ROWS_AFTER = 400
"""A header of a table holds for so many lines."""


class OutputParser:
    """Reads one attempt's output line by line; remembers the header of a table and which epoch has begun."""

    def __init__(self) -> None:
        self._columns: tuple[str, ...] | None = None
        self._left = 0
        self._epoch: float | None = None
        self._epochs: int | None = None

    def feed(self, line: str) -> Reading | None:
        """What this line says, None where it is not about training. It may hold colours and carriage returns."""
        text = plain(line)
        if self._columns is not None:
            found = self._row(text)
            if found is not None:
                return found
        if not _HINT.search(text) or _NOISE.match(text):
            return None
        columns = tables.heads(text)
        if columns is not None:
            self._columns, self._left = columns, ROWS_AFTER
            return bars.read(text) if "%" in text else None
        return self._remember(_read(text)) if _DIGIT.search(text) else None

    def _row(self, text: str) -> Reading | None:
        """A row of the table whose header was seen, with what a bar at its end says."""
        self._left -= 1
        columns = self._columns
        if self._left <= 0 or columns is None:
            self._columns = None
            return None
        found = tables.row(text, columns)
        if found is not None and ("%" in text):
            beside = bars.read(text)
            if beside is not None:
                found = replace(found, step=beside.step, steps=beside.steps, scope="epoch",
                                values={**found.values, **beside.values})  # fmt: skip
        return found

    def _remember(self, reading: Reading | None) -> Reading | None:
        """Bars of Keras stand below a line that says which epoch it is."""
        if reading is None:
            return None
        if reading.epoch is not None:
            self._epoch, self._epochs = reading.epoch, reading.epochs or self._epochs
        elif reading.scope == "epoch" and self._epoch is not None:
            return replace(reading, epoch=self._epoch, epochs=self._epochs)
        return reading


def _read(text: str) -> Reading | None:
    found = lines.header(text) or bars.read(text) or dicts.read(text)
    if found is not None:
        return found
    if bars.is_bar(text) or text.lstrip().startswith(("{", "[{")):
        return None
    return boosting.read(text) or lines.read(text)
