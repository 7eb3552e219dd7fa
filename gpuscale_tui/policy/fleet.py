"""Machines found by what a job needs, without a look at every machine for every group of jobs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from gpuscale_tui.model.offers import Need
from gpuscale_tui.policy.matching import Ask, ask_of, gpu_model, mismatch
from gpuscale_tui.policy.world import Limits, Machine

_by_price = attrgetter("rate", "id")


@dataclass(slots=True)
class _Kind:
    """Machines that differ in price only, the cheapest first; those before `position` are taken."""

    like: Machine
    machines: list[Machine]
    rates: list[int]
    position: int = 0


class Fleet:
    """Machines that jobs can take, each once.

    `waiting` are the needs of all jobs that want one: a job without a GPU leaves the models that others wait for to
    them as long as another machine serves it.
    """

    def __init__(self, machines: Iterable[Machine], limits: Limits, waiting: Iterable[Need] = ()) -> None:
        self._limits = limits
        self._wanted = frozenset(gpu_model(need.gpu_type) for need in waiting if need.gpu_type is not None)
        kinds: dict[tuple[object, ...], list[Machine]] = {}
        for machine in machines:
            key = (
                machine.gpu_type, machine.gpu_count, machine.image, machine.provider, machine.market, machine.free,
            )  # fmt: skip
            kinds.setdefault(key, []).append(machine)
        self._shelves: dict[tuple[str | None, str | None], list[_Kind]] = {}
        """Kinds by GPU model (None: any) and image (None: those that run any)."""
        for members in kinds.values():
            members.sort(key=_by_price)
            kind = _Kind(members[0], members, [machine.rate for machine in members])
            self._shelves.setdefault((None, kind.like.image), []).append(kind)
            if kind.like.gpu_type is not None:
                self._shelves.setdefault((gpu_model(kind.like.gpu_type), kind.like.image), []).append(kind)

    def take(self, need: Need) -> Machine | None:
        """The best machine for a need that is not taken yet, taken now; None when no machine is left for it."""
        ask = ask_of(need, self._limits)
        heads = [
            kind
            for kind in self._kinds(need, ask)
            if kind.position < len(kind.rates) and kind.rates[kind.position] <= ask.ceiling
        ]
        if not heads:
            return None
        chosen = min(heads, key=lambda kind: self._preference(kind.machines[kind.position], ask))
        chosen.position += 1
        return chosen.machines[chosen.position - 1]

    def serving(self, need: Need) -> int:
        """How many machines, taken or not, serve a need."""
        ask = ask_of(need, self._limits)
        return sum(bisect_right(kind.rates, ask.ceiling) for kind in self._kinds(need, ask))

    def _kinds(self, need: Need, ask: Ask) -> Iterator[_Kind]:
        for image in (need.image, None):
            for kind in self._shelves.get((ask.model, image), ()):
                like = kind.like
                if not mismatch(like.gpu_type, like.gpu_count, like.provider, like.market, ask):
                    yield kind

    def _preference(self, machine: Machine, ask: Ask) -> tuple[bool, bool, int, int]:
        """Free ones first, then those that nobody waits for, then the cheapest."""
        spare = ask.model is None and machine.gpu_type is not None and gpu_model(machine.gpu_type) in self._wanted
        return (not machine.free, spare, machine.rate, machine.id)
