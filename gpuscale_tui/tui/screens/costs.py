"""Screen 3: where the money went. The parts add up to the whole, and the whole is what the providers charge."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from textual.widget import Widget

from gpuscale_tui.engine.budgets import look as look_at
from gpuscale_tui.model.budget import Budget, Scope, budget_of
from gpuscale_tui.model.jobs import parse_label
from gpuscale_tui.policy.world import Allowance
from gpuscale_tui.store import budgets, queries
from gpuscale_tui.store.books import DAY_MS, day_start, month_start
from gpuscale_tui.store.views import CostKey, Costs
from gpuscale_tui.store.wallets import Wallet, wallets
from gpuscale_tui.tui.format import clean, meter, plural, share, usd
from gpuscale_tui.tui.look import Line, Look, Span
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.widgets.columns import Column
from gpuscale_tui.tui.widgets.page_view import PageView
from gpuscale_tui.tui.widgets.rows_table import RowsTable
from gpuscale_tui.tui.widgets.title import Title

Period = Literal["today", "7 days", "this month", "all time"]
PERIODS: tuple[Period, ...] = get_args(Period)
KEYS: tuple[CostKey, ...] = get_args(CostKey)
LIMITS_SHOWN = 6
NO_LIMITS = Budget()
NAMED = 200
"""Rows whose jobs' names are looked up."""

KINDS = (
    ("productive", "good", "a job ran"),
    ("setup", "accent", "machines booted"),
    ("idle", "warn", "machines waited for work"),
    ("rejected", "warn", "machines never became ready"),
    ("lost", "bad", "work that no checkpoint kept"),
)
EMPTY = ((), (("Nothing was spent in this time.", "strong"),), (), (("t", "key"), (" shows another time.", "muted")))


@dataclass(frozen=True, slots=True)
class CostLine:
    """What one key has cost, and the whole that it is a part of. Micro-dollars."""

    id: str
    cost: int
    whole: int
    name: str = ""


def since_of(period: Period, now: int) -> int | None:
    """When a period began (UTC ms); None for all time."""
    begins = {"today": day_start(now), "7 days": now - 7 * DAY_MS, "this month": month_start(now)}
    return begins.get(period)


def _bar(row: CostLine, look: Look, _now: int) -> Span:
    return meter(row.cost, row.whole, 24, look.glyphs)[0], "title"


COLUMNS: tuple[Column[CostLine], ...] = (
    Column(
        "",
        "",
        20,
        lambda row, look, _now: (clean(f"{row.id} {row.name}".strip(), ascii_only=look.glyphs.ascii), "text"),
        grow=1,
        most=48,
    ),
    Column("", "COST", 10, lambda row, _look, _now: (usd(row.cost), "strong"), right=True),
    Column("", "PART", 6, lambda row, _look, _now: (share(row.cost, row.whole), "muted"), right=True),
    Column("", "", 24, _bar, drop=2),
)


@dataclass(frozen=True, slots=True)
class Books:
    """The costs, and the names of the jobs among their rows."""

    costs: Costs
    names: dict[str, str]
    wallets: tuple[Wallet, ...] = ()
    limits: tuple[Allowance, ...] = ()


def read_books(
    connection: sqlite3.Connection, moment: Moment, by: CostKey, period: Period, budget: Budget = NO_LIMITS
) -> Books:
    """The books of a time by a key; the dearest jobs with their names. `budget` is in force where no engine runs."""
    costs = queries.costs(connection, by, since_of(period, moment.now))
    names: dict[str, str] = {}
    for row in costs.rows[:NAMED] if by == "job" else ():
        number = parse_label(row.key, "j")
        job = queries.job_row(connection, number, engine_alive=moment.engine_alive) if number is not None else None
        if job is not None:
            names[row.key] = job.name
    if moment.engine_alive:
        budget = budgets.remembered(connection) or budget
    limits = worth_showing(look_at(connection, budget, None, moment.now).allowances)
    return Books(costs, names, tuple(wallets(connection, moment.now)), limits)


class CostsScreen(BaseScreen[Books]):
    """The kinds of time that were paid for, and who or what it was spent on."""

    NAME = "costs"
    TAB = "costs"
    BINDINGS = bindings_for("costs")

    def __init__(self) -> None:
        super().__init__()
        self.heading = Title()
        self.kinds = PageView(id="kinds")
        self.kinds.can_focus = False
        self.table: RowsTable[CostLine] = RowsTable(COLUMNS, id="costs", empty=EMPTY)
        self._by: CostKey = "job"
        self._period: Period = "today"

    def body(self) -> Iterable[Widget]:
        """Title, kinds, table."""
        return (self.heading, self.kinds, self.table)

    def on_mount(self) -> None:
        """The table has the keys."""
        self.set_focus(self.table)

    def wish(self) -> Wish:
        """The books of a time by a key."""
        by, period, budget = self._by, self._period, budget_of(self.gpuscale.settings)
        return Wish(self, (by, period), lambda connection, moment: read_books(connection, moment, by, period, budget))

    def feed(self, content: Books, output: object, now: int) -> None:  # noqa: ARG002 - this screen reads no output
        """Show the books."""
        look, costs = self.gpuscale.look, content.costs
        self.heading.tell([("costs ", "title"), (f"{self._period}", "strong"), (f", by {self._by}", "text")],
                          [(usd(costs.total), "strong"), (" in all", "muted")])  # fmt: skip
        limits = min(len(content.limits), LIMITS_SHOWN + 1) + 2 * bool(content.limits)
        self.kinds.styles.height = 1 + len(KINDS) + 1 + len(content.wallets) + limits + bool(costs.differing)
        self.kinds.write(lambda width: money_lines(content, look, width), now)
        rows = [
            CostLine(row.key, row.cost, costs.total, content.names.get(row.key, "")) for row in costs.rows if row.cost
        ]
        self.table.put(len(rows), 0, rows, now)

    def do_costs_by(self) -> None:
        """By the next key."""
        self._by = KEYS[(KEYS.index(self._by) + 1) % len(KEYS)]
        self._again()

    def do_costs_since(self) -> None:
        """Of the next time."""
        self._period = PERIODS[(PERIODS.index(self._period) + 1) % len(PERIODS)]
        self._again()

    def _again(self) -> None:
        self.table.restart()
        self.gpuscale.poke()

    def do_open(self) -> None:
        """The page of the job or machine under the cursor."""
        row = self.table.pointed
        if row is not None and row.id[1:].isdigit() and self._by in {"job", "worker"}:
            number = int(row.id[1:])
            (self.gpuscale.show_job if self._by == "job" else self.gpuscale.show_worker)(number)


def money_lines(books: Books, look: Look, width: int) -> list[Line]:
    """The kinds of time, bills that differ, what is left to pay with, and the limits."""
    return [
        *kind_lines(books.costs, look, width), *bill_lines(books.costs, look, width),
        *wallet_lines(books.wallets, look, width), *limit_lines(books.limits, look, width),
    ]  # fmt: skip


def bill_lines(costs: Costs, look: Look, width: int) -> list[Line]:
    """By how much the providers' bills differ from their prices, where they do."""
    if not costs.differing:
        return []
    more = "more" if costs.difference > 0 else "less"
    words = f"{more} charged than by the prices, for {plural(costs.differing, 'machine')}"
    return [[("  bills      ", "strong"), (f"{usd(abs(costs.difference)):>9} ", "warn"),
             (look.cut(f"{look.glyphs.warn} {words}", width - 24), "warn")]]  # fmt: skip


def limit_lines(found: tuple[Allowance, ...], look: Look, width: int) -> list[Line]:
    """How far each limit is used, in figures and as a bar: spent and committed of the limit."""
    lines: list[Line] = [[], [("  budgets: spent + committed of the limit", "muted")]] if found else []
    room = max(12, min(30, width - 62))
    for each in found[:LIMITS_SHOWN]:
        out = each.held or each.used > each.limit
        role = "bad" if out else "warn" if each.used * 5 >= each.limit * 4 else "good"
        name = look.cut(clean(f"{each.scope} {each.name}".strip(), ascii_only=look.glyphs.ascii), room)
        sums = f"{usd(each.spent)} + {usd(each.committed)} of {usd(each.limit)}"
        full, empty = meter(each.used, each.limit, max(4, min(24, width - room - 56)), look.glyphs)
        lines.append([
            (f"  {name:<{room}}", "strong"), (f" {share(each.used, each.limit):>6}  ", role), (full, role),
            (empty, "line"), (f"  {sums}", "text"), (f"  {look.glyphs.warn} used up" if out else "", "bad"),
        ])  # fmt: skip
    if len(found) > LIMITS_SHOWN:
        lines.append([(f"  {len(found) - LIMITS_SHOWN} more: gpuscale costs", "muted")])
    return lines


def worth_showing(found: Iterable[Allowance]) -> tuple[Allowance, ...]:
    """The limits, the one that is used most first; those of single jobs only where they begin to matter."""
    shown = [each for each in found if each.scope != Scope.JOB or each.held or each.used * 2 >= each.limit]
    return tuple(sorted(shown, key=lambda each: -each.used / max(1, each.limit)))


def wallet_lines(found: tuple[Wallet, ...], look: Look, width: int) -> list[Line]:
    """What is left to pay with: one line a provider, cut to the width."""
    lines: list[Line] = []
    for wallet in found:
        lasts = "" if wallet.hours is None else f"  {wallet.hours:.1f} h at {usd(wallet.rate)}/h"
        name = clean(f"{wallet.provider} {wallet.name}", ascii_only=look.glyphs.ascii)
        low = "  low" if wallet.low_since is not None else ""
        room = max(0, width - 25 - len(lasts) - len(low))
        lines.append([
            ("  wallet     ", "strong"), (f"{usd(wallet.left):>9} ", "text"), (lasts, "warn" if low else "muted"),
            (low, "bad"), (f"  {name[:room]}", "muted"),
        ])  # fmt: skip
    return lines


def kind_lines(costs: Costs, look: Look, width: int) -> list[Line]:
    """One line a kind of time, with its part of the whole as a bar."""
    bar = max(8, min(40, width - 62))
    lines: list[Line] = [[]]
    for kind, role, words in KINDS:
        amount = getattr(costs, kind)
        full, empty = meter(amount, costs.total, bar, look.glyphs)
        lines.append([
            (f"  {kind:<11}", "strong"), (f"{usd(amount):>9} ", "text"),
            (f"{share(amount, costs.total):>6}  ", "muted"), (full, role), (empty, "line"), (f"  {words}", "muted"),
        ])  # fmt: skip
    return lines
