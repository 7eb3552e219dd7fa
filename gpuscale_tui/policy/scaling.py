"""When to rent and when to give back: the behaviour table of DESIGN section 10 as one pure function."""

from __future__ import annotations

from gpuscale_tui.policy.demand import Group, group_jobs, match
from gpuscale_tui.policy.explaining import explain
from gpuscale_tui.policy.releasing import idle_reasons, releases
from gpuscale_tui.policy.renting import decide
from gpuscale_tui.policy.stock import Markets
from gpuscale_tui.policy.world import Plan, World

__all__ = ["Group", "group_jobs", "plan"]

_WITHOUT_A_WAY = frozenset({"cap", "max_workers", "no_offer", "budget"})
"""Reasons of jobs that another machine stands in the way of, or may: it fills a limit, or is what they are after."""


def plan(world: World) -> Plan:
    """What to rent and give back now, and why everything else stays as it is.

    At most one machine is rented by one plan: the next plan sees it as supply. Every group of pending jobs and every
    idle machine gets exactly one reason: in `groups`, in `workers` or with its release.
    """
    demand, markets = match(world), Markets(world)
    decision = decide(world, demand.groups, markets)
    reasons = {
        group.key: decision.reasons.get(group.key) or explain(world, group, markets, decision.waiting)
        for group in demand.groups
    }
    short_of_room = any(reason.code in _WITHOUT_A_WAY for reason in reasons.values())
    leaving = releases(world, demand, short_of_room=short_of_room)
    workers = idle_reasons(world, demand, leaving, short_of_room=short_of_room)
    return Plan((decision.rent,) if decision.rent else (), leaving, reasons, workers)
