"""Costs as a file of comma-separated values: the exact rows, with all that is known of them."""

from __future__ import annotations

import csv
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Vertical

from gpuscale_tui.model.jobs import parse_label
from gpuscale_tui.rights import private_opener
from gpuscale_tui.store import queries
from gpuscale_tui.store.views import CostKey
from gpuscale_tui.tui.export import FORMULAS
from gpuscale_tui.tui.logs.save import SaveQuestion
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.widgets.confirm import Lines


class CsvQuestion(SaveQuestion):
    """Where to write the rows: as for a log, without a choice between exact and cleaned."""

    def compose(self) -> ComposeResult:
        """A title, the path, and what Enter will do."""
        with Vertical(id="box"):
            yield Lines([[("Write the costs as CSV", "title"), (f"  {self._total}", "muted")]])
            yield self.field
            yield self.words

    def _tell(self, problem: str) -> None:
        first: Line = (
            [(f"{self._me.look.glyphs.warn} {problem}", "bad")] if problem else [("Enter writes all rows", "text")]
        )
        keys: Line = [("Tab", "key"), (" completes  ", "muted"), ("Esc", "key"), (" leaves", "muted")]
        self.words.change([first, keys])


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the books: what cost how much (micro-dollars), the part of the whole, and for how many jobs."""

    key: str
    name: str
    jobs: int
    cost: int
    part: float


def read_rows(connection: sqlite3.Connection, by: CostKey, since: int | None) -> list[Row]:
    """All rows of the books by a key since then (UTC ms), with the names of all jobs."""
    costs = queries.costs(connection, by, since)
    names = {}
    if by == "job":
        numbers = [(row.key, parse_label(row.key, "j")) for row in costs.rows]
        names = {
            key: found["name"]
            for key, number in numbers
            if number is not None
            and (found := connection.execute("SELECT name FROM jobs WHERE id = ?", (number,)).fetchone()) is not None
        }
    whole = costs.total or 1
    return [Row(row.key, names.get(row.key, ""), row.jobs, row.cost, row.cost / whole) for row in costs.rows]


def write_rows(path: Path, by: str, rows: Sequence[Row]) -> None:
    """Write them, the whole file or none of it. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open(draft, "w", encoding="utf-8", newline="", opener=private_opener) as file:
        writer = csv.writer(file)
        writer.writerow([by, "name", "jobs", "cost_usd", "part"])
        for row in rows:
            writer.writerow([_safe(row.key), _safe(row.name), row.jobs, f"{row.cost / 1e6:.6f}", f"{row.part:.6f}"])
    draft.replace(path)


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULAS) else text
