"""What is above the limits, because a user lowered them while machines were rented."""

from __future__ import annotations

from collections.abc import Iterable

from gpuscale_tui.model.money import format_usd
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.policy.wording import count
from gpuscale_tui.policy.world import Machine

_LOSS = {WorkerState.IDLE: 0, WorkerState.BOOTING: 1, WorkerState.ORDERING: 2, WorkerState.BUSY: 3}
"""What giving a machine back loses, by its state: least first."""


def least_loss(machines: Iterable[Machine], now: int) -> list[Machine]:
    """In the order in which they are best given back, `now` being UTC ms.

    Those without a job first, the dearest of these first; then those whose job has the least unsaved work (its time
    times the machine's price), the least urgent job first.
    """
    return sorted(machines, key=lambda machine: _loss(machine, now))


def _loss(machine: Machine, now: int) -> tuple[int, int, int, int, int]:
    since = machine.unsaved_since if machine.unsaved_since is not None else machine.busy_since
    unsaved = 0 if since is None or machine.state != WorkerState.BUSY else max(0, now - since) * machine.rate
    return (_LOSS[machine.state], unsaved, -machine.priority, -machine.rate, machine.id)


def above_limits(machines: Iterable[Machine], cap: int, max_workers: int, now: int) -> dict[int, str]:
    """Machines that must go back, and take no job any more, to come within the limits; with the reason.

    `cap` is micro-dollars per hour. What is being given back already is left out of the reckoning. Busy ones go last;
    one whose going turns out not to be needed, because a dearer one must go in any case, stays.
    """
    staying = [machine for machine in machines if not machine.leaving]
    number, rate = len(staying), sum(machine.rate for machine in staying)
    above: dict[int, str] = {}
    gone: list[Machine] = []
    for machine in least_loss(staying, now):
        if number > max_workers:
            above[machine.id] = f"{count(number, 'machine')} rented, max_workers is {max_workers}"
        elif rate > cap and machine.rate:
            above[machine.id] = f"{format_usd(rate)}/h committed, the cap is {format_usd(cap)}/h"
        else:
            continue
        gone.append(machine)
        number, rate = number - 1, rate - machine.rate
    for machine in reversed(gone):
        if number < max_workers and rate + machine.rate <= cap:
            del above[machine.id]
            number, rate = number + 1, rate + machine.rate
    return above
