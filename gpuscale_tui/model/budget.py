"""Budgets: what may be spent in a time or on a thing, and what a machine will cost before it can be given back.

Money is micro-dollars, time UTC ms. Days and months are those of the calendar in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from gpuscale_tui.model.money import Terms, parse_usd

if TYPE_CHECKING:
    from gpuscale_tui.model.settings import Settings  # a plain verb that shows sums reads no settings

DAY_MS = 86_400_000
FIRST_MS = 15 * 60_000
"""A machine is rented only where the budget has room for this much of it: it takes minutes until it works at all."""


class Scope(StrEnum):
    """What a limit of money is about."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    PROJECT = "project"
    USER = "user"
    JOB = "job"


def day_start(now: int) -> int:
    """Midnight UTC of the day of `now`."""
    return now - now % DAY_MS


def month_start(now: int) -> int:
    """Midnight UTC of the first day of the month of `now`."""
    first = datetime.fromtimestamp(now / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return int(first.timestamp() * 1000)


def begins(scope: Scope, now: int) -> int:
    """When the time that a limit is about began; 0 for a job, whose limit is for its whole life."""
    if scope == Scope.JOB:
        return 0
    return month_start(now) if scope in {Scope.MONTH, Scope.PROJECT, Scope.USER} else day_start(now)


@dataclass(frozen=True, slots=True)
class Reserve:
    """How long (ms) what is rented goes on costing after it was decided to give it back.

    `tick_ms`: between two looks of the engine, and as long again until the provider's listings agree. `grace_ms`: in
    which a job may save its work.
    """

    tick_ms: int
    grace_ms: int

    @property
    def staying_ms(self) -> int:
        """For a machine that nobody has decided to give back."""
        return 2 * self.tick_ms + self.grace_ms

    @property
    def first_ms(self) -> int:
        """For a machine that is not rented yet."""
        return max(FIRST_MS, self.staying_ms)


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits that are set: for a day, a month, one job in all, and a month of a project or a user."""

    daily: int | None = None
    monthly: int | None = None
    per_job: int | None = None
    projects: Mapping[str, int] = field(default_factory=dict)
    users: Mapping[str, int] = field(default_factory=dict)
    reserve: Reserve = field(default_factory=lambda: Reserve(30_000, 120_000))

    @property
    def over_all(self) -> tuple[tuple[Scope, int], ...]:
        """The limits on everything together."""
        both = ((Scope.DAY, self.daily), (Scope.MONTH, self.monthly))
        return tuple((scope, limit) for scope, limit in both if limit is not None)


def still_due(terms: Terms, held_from: int, cost: int, until: int, *, now: int) -> int:
    """What a machine will have cost by `until` beyond `cost`, which is booked already.

    Minimum charges and fees that fall due by then are counted. Where more is booked than the terms say by now, what
    comes after now is still due.
    """
    return max(0, terms.charge(until - held_from) - min(cost, terms.charge(now - held_from)))


def budget_of(settings: Settings) -> Budget:
    """The limits on sums, and how long what is rented goes on costing once it is given back."""
    wanted, scaler = settings.budget, settings.scaler
    return Budget(
        daily=None if wanted.daily is None else parse_usd(wanted.daily),
        monthly=None if wanted.monthly is None else parse_usd(wanted.monthly),
        per_job=None if wanted.per_job is None else parse_usd(wanted.per_job),
        projects={name: parse_usd(amount) for name, amount in wanted.projects.items()},
        users={name: parse_usd(amount) for name, amount in wanted.users.items()},
        reserve=Reserve(int(scaler.poll_interval_sec * 1000), int(scaler.shutdown_grace_sec * 1000)),
    )
