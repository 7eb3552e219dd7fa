"""A list as a file of comma-separated values: what is shown, in the columns shown."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpuscale_tui.rights import make_directory, private_opener
from gpuscale_tui.tui.look import Look
from gpuscale_tui.tui.widgets.columns import Column

PORTION = 500
"""Rows that are asked for at once."""
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""A text that begins so would be carried out by a spreadsheet."""


def file_name(what: str, now: int) -> str:
    """`queue-20260314-150926.csv`, of the time in UTC."""
    return f"{what}-{datetime.fromtimestamp(now / 1000, UTC):%Y%m%d-%H%M%S}.csv"


async def write_csv(  # noqa: PLR0917 - a file, what it is made of, how it is told
    path: Path,
    columns: Sequence[Column[Any]],
    ids: Sequence[Hashable],
    rows_for: Callable[[Iterable[Hashable]], Awaitable[Sequence[Any]]],
    look: Look,
    now: int,
) -> int:
    """Write rows in the order of their ids, a portion at a time; how many there were. Raises OSError."""
    draft = path.with_name(f".{path.name}")
    await asyncio.to_thread(_begin, draft, [column.title.lower() or column.name for column in columns])
    count = 0
    for start in range(0, len(ids), PORTION):
        portion = ids[start : start + PORTION]
        found = {row.id: row for row in await rows_for(portion)}
        rows = [found[each] for each in portion if each in found]
        await asyncio.to_thread(_append, draft, columns, rows, look, now)
        count += len(rows)
    await asyncio.to_thread(draft.replace, path)
    return count


def _begin(path: Path, titles: Sequence[str]) -> None:
    make_directory(path.parent)
    with open(path, "w", encoding="utf-8", newline="", opener=private_opener) as file:
        csv.writer(file).writerow(titles)


def _append(path: Path, columns: Sequence[Column[Any]], rows: Sequence[Any], look: Look, now: int) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerows([_cell(column, row, look, now) for column in columns] for row in rows)
    with open(path, "a", encoding="utf-8", newline="", opener=private_opener) as file:
        file.write(text.getvalue())


def _cell(column: Column[Any], row: Any, look: Look, now: int) -> object:
    value = column.value(row, now) if column.value is not None else column.cell(row, look, now)[0]
    if value is None or value == "-":
        return ""
    if isinstance(value, str) and value.startswith(FORMULAS):
        return f"'{value}"
    return value
