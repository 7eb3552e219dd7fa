"""What is above the limits, because a user lowered them while machines were rented."""

from __future__ import annotations

from collections.abc import Iterable

from gpuscale_tui.model.money import format_usd
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.policy.wording import count
from gpuscale_tui.policy.world import Machine

_LOSS = {WorkerState.IDLE: 0, WorkerState.BOOTING: 1, WorkerState.ORDERING: 2, WorkerState.BUSY: 3}
"""What giving a machine back loses, by its state: least first."""


def least_loss(machines: Iterable[Machine]) -> list[Machine]:
    """In the order in which they are best given back: those without a job first, the dearest of these first."""
    return sorted(machines, key=lambda machine: (_LOSS[machine.state], -machine.rate, machine.id))


def above_limits(machines: Iterable[Machine], cap: int, max_workers: int) -> dict[int, str]:
    """Machines without a job that must go back, and take no job any more, to come within the limits; with the reason.

    `cap` is micro-dollars per hour. What is being given back already is left out of the reckoning.
    """
    staying = [machine for machine in machines if not machine.leaving]
    number, rate = len(staying), sum(machine.rate for machine in staying)
    above: dict[int, str] = {}
    for machine in least_loss(machine for machine in staying if machine.state != WorkerState.BUSY):
        if number > max_workers:
            above[machine.id] = f"{count(number, 'machine')} rented, max_workers is {max_workers}"
        elif rate > cap and machine.rate:
            above[machine.id] = f"{format_usd(rate)}/h committed, the cap is {format_usd(cap)}/h"
        else:
            continue
        number, rate = number - 1, rate - machine.rate
    return above
