"""How far the limits of money are used, as verbs show it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuscale_tui.cli.common import load_settings, now_ms, read
from gpuscale_tui.cli.formatting import clean, iso, money, usd
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.store.home import Home

if TYPE_CHECKING:
    from gpuscale_tui.model.budget import Budget
    from gpuscale_tui.policy.world import Allowance


def allowances(home: Home, config: Path | None, cap: int | None, *, engine: bool) -> tuple[Allowance, ...]:
    """Every limit that is set: those of the engine that runs, else the settings'; none where they cannot be read.

    `cap` is micro-dollars per hour, None where it is not known.
    """
    return read(home, _look, None if engine else _of_settings(config), cap)


def _of_settings(config: Path | None) -> Budget | None:
    from gpuscale_tui.model.budget import budget_of

    try:
        return budget_of(load_settings(config).settings)
    except GpuscaleError:  # told by whoever asks for the cap
        return None


def _look(connection: sqlite3.Connection, budget: Budget | None, cap: int | None) -> tuple[Allowance, ...]:
    from gpuscale_tui.engine.budgets import look
    from gpuscale_tui.model.budget import Budget
    from gpuscale_tui.store import budgets

    return look(connection, budget or budgets.remembered(connection) or Budget(), cap, now_ms()).allowances


def shape(each: Allowance) -> dict[str, Any]:
    """One limit as JSON has it. Of the cap, `limit` and `committed` are dollars per hour."""
    return {
        "scope": each.scope.value,
        "name": each.name or None,
        "limit": usd(each.limit),
        "spent": usd(each.spent),
        "committed": usd(each.committed),
        "percent": percent(each),
        "used_up": each.held,
        "since": iso(each.begins or None),
    }


def percent(each: Allowance) -> float | None:
    """How much of the limit is used, in per cent; None for a limit of nothing."""
    return round(100 * each.used / each.limit, 1) if each.limit else None


def line(each: Allowance) -> str:
    """One limit for a person: `day: $3.20 spent and $0.10 committed of $20.00 (16 %)`."""
    hour = "/h" if each.scope == "hour" else ""
    of = f"{money(each.committed)}{hour} committed of {money(each.limit)}{hour}"
    of = of if hour else f"{money(each.spent)} spent and {of}"
    share = percent(each)
    part = f" ({share:.0f} %)" if share is not None else ""
    return f"{clean(f'{each.scope} {each.name}').strip()}: {of}{part}{': used up' if each.held else ''}"
