"""Textual's own DataTable and Log, for comparison: `python -m benchmarks.peer_app table ROWS | log LINES_A_SECOND`."""

from __future__ import annotations

import sys

from textual.app import App, ComposeResult
from textual.widgets import DataTable, Log

COLUMNS = ("ID", "STATE", "NAME", "PRI", "GPU", "ON", "TIME", "COST")
WRITES_A_SECOND = 4


class Table(DataTable[object]):
    """With the keys that ours has."""

    BINDINGS = [  # noqa: RUF012 - Textual declares it as it does
        ("j", "cursor_down"), ("k", "cursor_up"), ("g", "scroll_top"), ("G", "scroll_bottom"), ("ctrl+d", "page_down"),
        ("ctrl+u", "page_up"),
    ]  # fmt: skip


class PeerTable(App[None]):
    """A table that holds all its rows."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.animation_level = "none"
        self._rows = rows

    def compose(self) -> ComposeResult:
        """Only the table."""
        yield Table(cursor_type="row")

    def on_mount(self) -> None:
        """All rows at once, as its guide does it."""
        table = self.query_one(DataTable)
        table.add_columns(*COLUMNS)
        table.add_rows(
            (f"j{n}", "pending", f"lr-sweep-{n:06d}", 5, "RTX 4090", "-", "4m", "-") for n in range(self._rows)
        )


class PeerLog(App[None]):
    """A log that lines come to, written four times a second."""

    def __init__(self, lines_a_second: int) -> None:
        super().__init__()
        self.animation_level = "none"
        self._lines = lines_a_second // WRITES_A_SECOND
        self._step = 0

    def compose(self) -> ComposeResult:
        """Only the log."""
        yield Log(max_lines=10_000)

    def on_mount(self) -> None:
        """Lines from now on."""
        self.set_interval(1 / WRITES_A_SECOND, self._write)

    def _write(self) -> None:
        self._step += 1
        lines = [f"step {self._step * self._lines + n} loss 2.3145 lr 3e-4 12034 tok/s" for n in range(self._lines)]
        self.query_one(Log).write_lines(lines)


if __name__ == "__main__":
    kind, number = sys.argv[1], int(sys.argv[2])
    (PeerTable(number) if kind == "table" else PeerLog(number)).run()
