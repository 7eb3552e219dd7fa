"""`costs`: where the money went."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click

from gpuscale_tui.cli import shapes
from gpuscale_tui.cli.common import config_option, engine_alive, home_option, json_option, now_ms, read, verb
from gpuscale_tui.cli.formatting import (
    Column,
    money,
    on_terminal,
    plural,
    print_fields,
    print_json,
    print_lines,
    print_table,
)
from gpuscale_tui.model.durations import parse_duration
from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.store import queries
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.views import CostKey, CostRow, Costs

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


class Since(click.ParamType[int]):
    """A point in time: a duration that ends now, or a date or time (UTC unless it names a zone)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """UTC milliseconds. Fails for what is neither, and for the future."""
        if isinstance(value, int):
            return value
        try:
            at = _date(value) if _DATE.match(value) else now_ms() - 1000 * parse_duration(value)
        except (ValueError, FieldError):
            self.fail(f"{value!r} is neither a duration such as 7d or 12h nor a date such as 2026-01-31", param, ctx)
        if at > now_ms():
            self.fail(f"{value!r} has not come yet", param, ctx)
        return max(0, at)


def _date(text: str) -> int:
    at = datetime.fromisoformat(text)
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


@verb(example="gpuscale costs --by project --since 7d\ngpuscale costs --by day --since 2026-01-01 --json")
@click.option(
    "--by", type=click.Choice(get_args(CostKey)), default="project", show_default=True, help="What to sum by."
)
@click.option("--since", type=Since(), metavar="TIME", help="Only from then on: 7d, 12h, 2026-01-31.")
@json_option
@home_option
@config_option
def costs(by: CostKey, since: int | None, as_json: bool, home: Home, config: Path | None) -> None:
    """Tell what was spent, and on what.

    Jobs, setting up, idling, machines that failed, work that was lost.
    The sum is what the providers charge, fees included. Budgets are told beside it.
    """
    from gpuscale_tui.cli import limits

    books: Costs = read(home, queries.costs, by, since)
    set_limits = limits.allowances(home, config, None, engine=engine_alive(home))
    if as_json:
        print_json({**shapes.costs(books), "budgets": [limits.shape(each) for each in set_limits]})
        return
    if on_terminal() or not books.rows:
        print_fields([*_summary(books), *(("budget", limits.line(each)) for each in set_limits)])
        print_lines([""] if books.rows else [])
    print_table(_columns(by, books.rows), books.rows, "nothing was spent")


def _summary(books: Costs) -> list[tuple[str, str]]:
    return [
        ("total", money(books.total, 4)),
        ("jobs", money(books.productive, 4)),
        ("set-up", money(books.setup, 4)),
        ("idle", money(books.idle, 4)),
        ("rejected", money(books.rejected, 4)),
        ("lost", money(books.lost, 4)),
        *([("bills", _difference(books))] if books.differing else []),
    ]


def _difference(books: Costs) -> str:
    """What the providers charged beyond, or below, our own reckoning."""
    more = "more" if books.difference > 0 else "less"
    return (
        f"{money(abs(books.difference), 4)} {more} than by the prices, for {plural(books.differing, 'machine')}:"
        " `gpuscale costs --by worker` and the events name them"
    )


def _columns(by: str, rows: Sequence[CostRow]) -> list[Column[CostRow]]:
    columns: list[Column[CostRow]] = [Column(by.upper(), lambda row: row.key)]
    if any(row.jobs for row in rows):
        columns.append(Column("JOBS", lambda row: str(row.jobs), right=True))
    return [*columns, Column("COST", lambda row: money(row.cost, 4), right=True)]
