"""Budgets: which are used up, what that holds back and stops, what is said of them, and what they leave for renting.

The limits on a day and a month are about everything: used up, all that costs money goes back. Those of a project, a
user and a job are about the jobs alone. A limit that was used up stays so until it is raised or its time begins anew:
the little that is left by stopping in time would only start the same work again and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gpuscale_tui.model.budget import DAY_MS, Scope, month_start
from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.model.money import format_usd
from gpuscale_tui.model.offers import Offer
from gpuscale_tui.policy.wording import usd_at_least
from gpuscale_tui.policy.world import Allowance, BudgetView, Reason

STEPS = (100, 80, 50)
"""Per cent of a limit at which something is said, the highest first."""
OVER_ALL = frozenset({Scope.DAY, Scope.MONTH})
CENT = 10_000


@dataclass(frozen=True, slots=True)
class UsedUp:
    """A limit that is used up, and the sentence that says what it holds back and what would change that."""

    allowance: Allowance
    reason: str


def used_up(view: BudgetView) -> tuple[UsedUp, ...]:
    """The limits that hold something back now: those whose sum, all that is committed counted, would be exceeded."""
    return tuple(
        UsedUp(each, explained(each))
        for each in view.allowances
        if each.scope != Scope.HOUR and (each.held or each.used > each.limit)
    )


def stops_everything(found: tuple[UsedUp, ...]) -> UsedUp | None:
    """The limit for which everything that costs money goes back, if any."""
    return next((each for each in found if each.allowance.scope in OVER_ALL), None)


def steps(view: BudgetView) -> Iterator[tuple[Allowance, int]]:
    """The highest step that each limit has reached, in per cent; limits below the first are left out."""
    for each in view.allowances:
        step = next((step for step in STEPS if each.limit and each.used * 100 >= step * each.limit), None)
        if step is not None:
            yield each, step


def said_at(allowance: Allowance, step: int) -> str:
    """What is said at a step."""
    if allowance.scope == Scope.HOUR:
        return f"{step} % of {titled(allowance)} are committed: {format_usd(allowance.used)}/h"
    return f"{step} % of {titled(allowance)} are used: {_parts(allowance)}"


def titled(allowance: Allowance) -> str:
    """`the daily budget of $20.00`, `the budget of project llm of $5.00 a month`."""
    limit = format_usd(allowance.limit)
    match allowance.scope:
        case Scope.HOUR:
            return f"the cap of {limit}/h"
        case Scope.DAY:
            return f"the daily budget of {limit}"
        case Scope.MONTH:
            return f"the monthly budget of {limit}"
        case Scope.JOB:
            return f"the budget of {job_label(int(allowance.name))} of {limit}"
        case _:
            return f"the budget of {allowance.scope} {allowance.name} of {limit} a month"


def explained(allowance: Allowance) -> str:
    """That a limit is used up, until when, and the figure that would change it."""
    setting = {
        Scope.DAY: "[budget] daily", Scope.MONTH: "[budget] monthly", Scope.JOB: "[budget] per_job",
        Scope.PROJECT: "[budget.projects]", Scope.USER: "[budget.users]",
    }[allowance.scope]  # fmt: skip
    enough = usd_at_least(-(-(max(allowance.used, allowance.limit) + 1) // CENT) * CENT)
    until = "" if allowance.scope == Scope.JOB else f" at {_utc(_ends(allowance))}, or"
    return f"{titled(allowance)} is used up ({_parts(allowance)}): it goes on{until} with {enough} or more in {setting}"


def _parts(allowance: Allowance) -> str:
    return f"{format_usd(allowance.spent)} spent, {format_usd(allowance.committed)} committed"


def _ends(allowance: Allowance) -> int:
    return allowance.begins + DAY_MS if allowance.scope == Scope.DAY else month_start(allowance.begins + 32 * DAY_MS)


def _utc(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def left(view: BudgetView | None) -> int | None:
    """Micro-dollars that renting may still commit, None where nothing limits it."""
    over_all = [] if view is None else [each for each in view.allowances if each.scope in OVER_ALL]
    if view is None or not over_all:
        return None
    return max(0, min(0 if each.held else each.limit - each.spent - view.promised for each in over_all))


def affordable_ones(offers: Sequence[Offer], view: BudgetView | None) -> Sequence[Offer]:
    """The offers whose first while fits into what is left; one that costs nothing always does."""
    room = left(view)
    if view is None or room is None:
        return offers
    return [offer for offer in offers if offer.terms.charge(view.first_ms) <= room]


def refusal(view: BudgetView, cheapest: Offer) -> Reason:
    """Why not even the cheapest machine is rented, with the limit that would change it."""
    over_all = [each for each in view.allowances if each.scope in OVER_ALL]
    tightest = min(over_all, key=lambda each: 0 if each.held else each.limit - each.spent - view.promised)
    if tightest.held:
        return Reason("budget", explained(tightest))
    first = cheapest.terms.charge(view.first_ms)
    enough = usd_at_least(tightest.spent + view.promised + first)
    setting = "daily" if tightest.scope == Scope.DAY else "monthly"
    return Reason(
        "budget",
        f"{titled(tightest)} leaves too little for a machine's first {view.first_ms // 60_000} min"
        f" ({format_usd(tightest.spent)} spent, {format_usd(view.promised)} committed): [budget] {setting} {enough}"
        f" would rent the next one, or wait until {_utc(_ends(tightest))}",
    )
