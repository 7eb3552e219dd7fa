"""Text for people and lines for programs: tables on a terminal, tab-separated lines elsewhere, JSON when asked for.

Everything that comes from outside (names, errors, what machines say) is cleaned of control characters before it is
printed; in JSON they are escaped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import click

from gpuscale_tui.model.money import dollars, format_usd
from gpuscale_tui.model.plain import clean as clean  # noqa: PLC0414 - printed through here by every verb
from gpuscale_tui.model.plain import clean_lines as clean_lines  # noqa: PLC0414

R = TypeVar("R")

_LONGEST_PRETTY = 1_000
"""Rows up to which a terminal gets a table laid out by rich; beyond it that would be felt."""


def money(micros: int | None, places: int = 2) -> str:
    """`$1.25`, or nothing for None."""
    return "" if micros is None else format_usd(micros, places)


def usd(micros: int | None) -> float | None:
    """Micro-dollars as JSON has them."""
    return None if micros is None else dollars(micros)


def iso(at: int | None) -> str | None:
    """UTC milliseconds as ISO 8601, as JSON has them."""
    if at is None:
        return None
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(at: int | None) -> str:
    """UTC milliseconds as a person at this computer reads them: `2026-01-31 12:00:05 CET`."""
    return "" if at is None else f"{datetime.fromtimestamp(at / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def span(milliseconds: int) -> str:
    """A length of time in two units at most: `45s`, `12m`, `3h05m`, `2d04h`."""
    seconds = max(0, milliseconds) // 1000
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s" if seconds < 600 else f"{seconds // 60}m"
    if seconds < 86_400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 86_400}d{seconds % 86_400 // 3600:02d}h"


def size(count: int) -> str:
    """Bytes as people read them, in decimal units: `820 B`, `48.2 MB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.5 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def gpus(gpu_type: str | None, count: int) -> str:
    """`RTX 4090`, `2x RTX 4090`, or `no GPU`."""
    if gpu_type is None:
        return "no GPU"
    return gpu_type if count == 1 else f"{count}x {gpu_type}"


def plural(count: int, thing: str) -> str:
    """`1 job`, `3 jobs`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


@dataclass(frozen=True, slots=True)
class Column(Generic[R]):
    """One column: its title, what it shows of a row, and how it behaves on a terminal.

    `most` limits its width there. `fold` lets it have several lines a row; `rest` gives it what the others leave, on
    one line that is cut off.
    """

    title: str
    cell: Callable[[R], str]
    right: bool = False
    most: int | None = None
    fold: bool = False
    rest: bool = False


def on_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def print_table(columns: Sequence[Column[R]], rows: Sequence[R], nothing: str) -> None:
    """A table with a head line; to a program tab-separated. `nothing` is told on stderr when there are no rows."""
    if not rows:
        click.echo(nothing, err=True)
    elif on_terminal() and len(rows) <= _LONGEST_PRETTY:
        _pretty(columns, rows)
    else:
        lines = ["\t".join(column.title for column in columns)]
        lines += ["\t".join(clean(column.cell(row)) for column in columns) for row in rows]
        print_lines(lines)


def _pretty(columns: Sequence[Column[R]], rows: Sequence[R]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", expand=any(column.rest for column in columns))
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.fold,
            overflow="fold" if column.fold else "ellipsis",
            max_width=column.most,
            ratio=1 if column.rest else None,
        )
    for row in rows:
        table.add_row(*(Text(clean(column.cell(row))) for column in columns))
    Console(highlight=False, markup=False, emoji=False).print(table)


def print_lines(lines: Iterable[str]) -> None:
    """Lines on stdout, in one piece."""
    text = "\n".join(lines)
    if text:
        sys.stdout.write(text + "\n")


def print_json(value: object) -> None:
    """JSON in ASCII; an array has one row a line."""
    if isinstance(value, list):
        rows = ",\n".join(_dumps(row) for row in value)
        sys.stdout.write(f"[\n{rows}\n]\n" if rows else "[]\n")
    else:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(", ", ": "))


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Names and values under one another; what has no value is left out."""
    shown = [(name, clean(value)) for name, value in fields if value]
    width = max((len(name) for name, _ in shown), default=0)
    print_lines(f"{name:<{width}}  {value}" for name, value in shown)
