"""Screen 3: where the money went, what is paid now, and what the queue will still cost.

The parts add up to the whole, and the whole is what the providers charge.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from textual.widget import Widget

from gpuscale_tui.engine import outlook
from gpuscale_tui.engine.budgets import look as look_at
from gpuscale_tui.model.budget import Budget, budget_of
from gpuscale_tui.model.jobs import parse_label
from gpuscale_tui.model.money import parse_usd
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.policy.forecast import Forecast
from gpuscale_tui.policy.world import Allowance
from gpuscale_tui.store import budgets, engines, queries
from gpuscale_tui.store.books import DAY_MS, day_start, month_start
from gpuscale_tui.store.rates import Rate, first_use, rates
from gpuscale_tui.store.views import CostKey, Costs
from gpuscale_tui.store.wallets import Wallet, wallets
from gpuscale_tui.tui.cost_lines import (
    KINDS,
    LIMITS_SHOWN,
    bill_lines,
    forecast_line,
    forecast_lines,
    kind_lines,
    limit_lines,
    rate_lines,
    wallet_lines,
    worth_showing,
)
from gpuscale_tui.tui.format import clean, meter, plural, share, usd
from gpuscale_tui.tui.look import Line, Look, Span
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.widgets.columns import Column
from gpuscale_tui.tui.widgets.page_view import PageView
from gpuscale_tui.tui.widgets.panel import Panel
from gpuscale_tui.tui.widgets.rows_table import RowsTable
from gpuscale_tui.tui.widgets.title import Title

Period = Literal["today", "7 days", "this month", "all time"]
PERIODS: tuple[Period, ...] = get_args(Period)
KEYS: tuple[CostKey, ...] = get_args(CostKey)
View = Literal["books", "rate", "forecast"]
VIEWS: tuple[View, ...] = get_args(View)
NO_LIMITS = Budget()
NAMED = 200
"""Rows whose jobs' names are looked up."""
TALL = 34
"""Lines of a terminal that has room for the books, the plot and the forecast at once."""
PLOT_ROWS = 11
KINDS_LEAST = len(KINDS) + 2
AROUND = 10
"""Lines that header, tabs, title, footer and the first rows of the table take."""
FORECAST_MS = 3_000
"""A forecast is made anew so often at most: with a long queue it takes some 30 ms of a thread."""
EMPTY = ((), (("Nothing was spent in this time.", "strong"),), (), (("t", "key"), (" shows another time.", "muted")))


@dataclass(frozen=True, slots=True)
class CostLine:
    """What one key has cost, and the whole that it is a part of. Micro-dollars."""

    id: str
    cost: int
    whole: int
    name: str = ""
    jobs: int = 0


def since_of(period: Period, now: int) -> int | None:
    """When a period began (UTC ms); None for all time."""
    begins = {"today": day_start(now), "7 days": now - 7 * DAY_MS, "this month": month_start(now)}
    return begins.get(period)


def _bar(row: CostLine, look: Look, _now: int) -> Span:
    return meter(row.cost, row.whole, 24, look.glyphs)[0], "title"


def _key(row: CostLine, look: Look, _now: int) -> Span:
    return clean(f"{row.id} {row.name}".strip(), ascii_only=look.glyphs.ascii), "text"


COLUMNS: tuple[Column[CostLine], ...] = (
    Column("", "", 20, _key, grow=1, most=48),
    Column("", "COST", 10, lambda row, _look, _now: (usd(row.cost), "strong"), right=True),
    Column("", "PART", 6, lambda row, _look, _now: (share(row.cost, row.whole), "muted"), right=True),
    Column("", "JOBS", 6, lambda row, _look, _now: (f"{row.jobs:,}" if row.jobs else "-", "muted"), right=True, drop=1),
    Column("", "", 24, _bar, drop=2),
)


@dataclass(frozen=True, slots=True)
class Books:
    """The costs, the names of the jobs among their rows, the rate over the same time and the forecast."""

    costs: Costs
    names: dict[str, str]
    wallets: tuple[Wallet, ...] = ()
    limits: tuple[Allowance, ...] = ()
    rates: tuple[Rate, ...] = ()
    cap: int = 0
    forecast: Forecast = Forecast(0)  # noqa: RUF009 - frozen


class Forecaster:
    """The forecast, kept for a moment. Used by one thread at a time: the reader's."""

    def __init__(self) -> None:
        self._at: int | None = None
        self._found = Forecast(0)

    def look(self, connection: sqlite3.Connection, budget: Budget, cap: int, max_workers: int, now: int) -> Forecast:
        """What is to be expected of the queue; `cap` is micro-dollars per hour."""
        if self._at is None or not 0 <= now - self._at < FORECAST_MS:
            self._found, self._at = outlook.of_queue(connection, budget, cap, max_workers, now), now
        return self._found


def read_books(
    connection: sqlite3.Connection,
    moment: Moment,
    by: CostKey,
    period: Period,
    settings: Settings,
    *,
    forecaster: Forecaster,
) -> Books:
    """The books of a time by a key; the dearest jobs with their names. The settings count where no engine runs."""
    since, now = since_of(period, moment.now), moment.now
    costs = queries.costs(connection, by, since)
    budget, cap = budget_of(settings), parse_usd(settings.scaler.max_hourly_budget)
    most = settings.scaler.max_workers
    engine = engines.limits(connection) if moment.engine_alive else None
    if engine is not None:
        budget, cap, most = budgets.remembered(connection) or budget, engine.cap, engine.max_workers
    began = max(since or 0, first_use(connection) or now)
    return Books(
        costs,
        names_of(connection, [row.key for row in costs.rows[:NAMED]]) if by == "job" else {},
        tuple(wallets(connection, now)),
        worth_showing(look_at(connection, budget, None, now).allowances),
        tuple(rates(connection, began if since is None else since, now)),
        cap,
        forecaster.look(connection, budget, cap, most, now),
    )


def names_of(connection: sqlite3.Connection, keys: Iterable[str]) -> dict[str, str]:
    """The names of jobs by their labels; what is no job has none."""
    numbers = {key: number for key in keys if (number := parse_label(key, "j")) is not None}
    found = {}
    for key, number in numbers.items():
        row = connection.execute("SELECT name FROM jobs WHERE id = ?", (number,)).fetchone()
        if row is not None:
            found[key] = row["name"]
    return found


class CostsScreen(BaseScreen[Books]):
    """The kinds of time that were paid for, who or what it was spent on, the rate against the cap, the forecast.

    A tall terminal shows all of it; in a low one `v` goes from the books to the rate and the forecast.
    """

    NAME = "costs"
    TAB = "costs"
    BINDINGS = bindings_for("costs")

    def __init__(self) -> None:
        super().__init__()
        self.heading = Title()
        self.kinds = PageView(id="kinds")
        self.kinds.can_focus = False
        self.rate = Panel(id="rate")
        self.table: RowsTable[CostLine] = RowsTable(COLUMNS, id="costs", empty=EMPTY)
        self._by: CostKey = "job"
        self._period: Period = "today"
        self._view: View = "books"
        self._books: Books | None = None
        self._forecaster = Forecaster()

    def body(self) -> Iterable[Widget]:
        """Title, kinds, rate, table."""
        return (self.heading, self.kinds, self.rate, self.table)

    def on_mount(self) -> None:
        """The table has the keys."""
        self.set_focus(self.table)

    def wish(self) -> Wish:
        """The books of a time by a key."""
        by, period, settings, forecaster = self._by, self._period, self.gpuscale.settings, self._forecaster
        return Wish(
            self,
            (by, period),
            lambda connection, moment: read_books(connection, moment, by, period, settings, forecaster=forecaster),
        )

    def feed(self, content: Books, output: object, now: int) -> None:  # noqa: ARG002 - this screen reads no output
        """Show the books."""
        self._books = content
        costs = content.costs
        rows = [
            CostLine(row.key, row.cost, costs.total, content.names.get(row.key, ""), row.jobs)
            for row in costs.rows
            if row.cost
        ]
        self.table.put(len(rows), 0, rows, now)
        self._show(now)

    def on_resize(self) -> None:
        """There may be room for more, or for less."""
        self._show(self.gpuscale.now())

    def _show(self, now: int) -> None:
        """Lay out what is shown, and write it."""
        books, look = self._books, self.gpuscale.look
        if books is None:
            return
        view, tall = self._view, self.size.height >= TALL
        shown = f"{self._period}, by {self._by}" if view == "books" else f"{self._period}, {view}"
        self.heading.tell([("costs ", "title"), (shown, "strong")],
                          [(usd(books.costs.total), "strong"), (" in all", "muted")])  # fmt: skip
        self.table.display = view == "books"
        self.rate.display = view == "rate" or (tall and view == "books")
        self.rate.styles.height = "1fr" if view == "rate" else PLOT_ROWS
        self.kinds.display = True
        if view == "books":
            room = self.size.height - (PLOT_ROWS if tall else 0) - AROUND
            self.kinds.styles.height = max(KINDS_LEAST, min(len(self._money(books, look, 80)), room))
            self.kinds.write(lambda width: self._money(books, look, width), now)
        elif view == "rate":
            self.kinds.styles.height = 2
            self.kinds.write(lambda width: [[], forecast_line(books.forecast, width, look)], now)
        else:
            self.kinds.styles.height = "1fr"
            self.kinds.write(lambda width: forecast_lines(books.forecast, look, width, self.gpuscale.now()), now)
        self.rate.write(lambda width, height: rate_lines(books.rates, books.cap, look, width, height))

    def _money(self, books: Books, look: Look, width: int) -> list[Line]:
        """The kinds of time, the forecast, bills that differ, what is left to pay with, the limits."""
        return [
            *kind_lines(books.costs, look, width), forecast_line(books.forecast, width, look),
            *bill_lines(books.costs, look, width), *wallet_lines(books.wallets, look, width),
            *limit_lines(books.limits, look, width), [],
        ]  # fmt: skip

    def do_costs_by(self) -> None:
        """By the next key."""
        self._view = "books"
        self._by = KEYS[(KEYS.index(self._by) + 1) % len(KEYS)]
        self._again()

    def do_costs_since(self) -> None:
        """Of the next time."""
        self._period = PERIODS[(PERIODS.index(self._period) + 1) % len(PERIODS)]
        self._again()

    def do_costs_view(self) -> None:
        """The books, the rate over time, the forecast."""
        self._view = VIEWS[(VIEWS.index(self._view) + 1) % len(VIEWS)]
        self._show(self.gpuscale.now())

    def _again(self) -> None:
        self.table.restart()
        self.gpuscale.poke()

    def do_back(self) -> None:
        """Back to the books."""
        if self._view != "books":
            self._view = "books"
            self._show(self.gpuscale.now())

    def do_open(self) -> None:
        """The page of the job or machine under the cursor."""
        row = self.table.pointed
        if row is not None and row.id[1:].isdigit() and self._by in {"job", "worker"}:
            number = int(row.id[1:])
            (self.gpuscale.show_job if self._by == "job" else self.gpuscale.show_worker)(number)

    def do_costs_export(self) -> None:
        """Write the rows to a file, after asking where."""
        from gpuscale_tui.tui.cost_export import CsvQuestion
        from gpuscale_tui.tui.export import file_name

        books = self._books
        if books is None:
            return
        now = self.gpuscale.now()
        name = file_name(f"costs-by-{self._by}", now)
        rows = plural(sum(1 for _ in books.costs.rows), "row")
        question = CsvQuestion(name, f"{rows}: {self._period}, by {self._by}")
        by, period = self._by, self._period
        app = self.gpuscale
        app.push_screen(question, lambda found: app.spawn(self._write(found[0], by, period)) if found else None)

    async def _write(self, path: Path, by: CostKey, period: Period) -> None:
        """The exact rows as they are now, all of them."""
        from gpuscale_tui.tui.cost_export import read_rows, write_rows

        app = self.gpuscale
        try:
            rows = await app.reader.database.read(read_rows, by, since_of(period, app.now()))
            await asyncio.to_thread(write_rows, path, by, rows)
        except (OSError, sqlite3.Error) as error:
            app.notify(f"Not written: {error}", severity="error", timeout=8, markup=False)
            return
        app.notify(f"{plural(len(rows), 'row')} written to {path}", timeout=8, markup=False)


__all__ = ["COLUMNS", "KEYS", "KINDS", "LIMITS_SHOWN", "PERIODS", "Books", "CostLine", "CostsScreen", "read_books"]
