"""Circuit breakers: what failed several times in a row is left alone for a while, longer each time, then tried once.

A breaker is a pure function of recent outcomes: `closed` lets everything through, `open` nothing until a time, and
`half open` one trial. A success closes it, a failure opens it again for twice as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

from gpuscale_tui.model.hosts import HostId, Outcome, OutcomeKind, OwnerId

MINUTE_MS = 60_000
DAY_MS = 86_400_000
MEMORY_MS = 7 * DAY_MS
"""Outcomes that are older count no more."""
OWN_HOST_PAUSE_MS = MINUTE_MS
EVICTION_WINDOW_MS = 60 * MINUTE_MS
SPOT_PAUSE_MS = 60 * MINUTE_MS

K = TypeVar("K")
Kinds = frozenset[OutcomeKind]
FAULTS: Kinds = frozenset(
    {OutcomeKind.REFUSED, OutcomeKind.NO_START, OutcomeKind.FAILED_TEST, OutcomeKind.LOST, OutcomeKind.EVICTED,
     OutcomeKind.JOB_FAULT}
)  # fmt: skip
"""What speaks against a host."""
HOST_GOOD: Kinds = frozenset({OutcomeKind.RETURNED})
"""That a machine comes up proves little of a host that loses it afterwards: only a rental in good order does."""
OWNER_FAULTS: Kinds = frozenset({OutcomeKind.NO_START, OutcomeKind.FAILED_TEST, OutcomeKind.LOST})
OWNER_GOOD: Kinds = frozenset({OutcomeKind.RETURNED})
IMAGE_FAULTS: Kinds = frozenset({OutcomeKind.NO_START})
IMAGE_GOOD: Kinds = frozenset({OutcomeKind.READY, OutcomeKind.FAILED_TEST})
"""A machine that failed its test had come up all the same."""


class Position(StrEnum):
    """How a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


@dataclass(frozen=True, slots=True)
class Rule:
    """When a breaker opens and for how long: after `failures` in a row, `first_ms`, doubled with each further one."""

    failures: int
    first_ms: int
    longest_ms: int = DAY_MS

    def pause_ms(self, streak: int) -> int:
        """How long it stays open after so many failures in a row; 0 where they are too few."""
        if streak < self.failures:
            return 0
        doublings = min(streak - self.failures, 30)
        return min(self.first_ms << doublings, self.longest_ms)


@dataclass(frozen=True, slots=True)
class Breaker:
    """Where a breaker stands. `until` (UTC ms) is when it becomes half open; `why` is what happened last."""

    position: Position
    streak: int = 0
    until: int = 0
    why: str = ""

    def at(self, now: int) -> Breaker:
        """The same breaker at a later time (UTC ms), when nothing new has happened."""
        if self.position == Position.CLOSED:
            return self
        return replace(self, position=Position.OPEN if now < self.until else Position.HALF_OPEN)

    def pause(self, *, trying: bool = False) -> str | None:
        """Why nothing is rented, None where something may: half open, one trial goes on at a time."""
        if self.position == Position.OPEN:
            return f"paused until {clock(self.until)}: {self.why}"
        if self.position == Position.HALF_OPEN and trying:
            return f"one machine is tried again first: {self.why}"
        return None


def clock(at: int) -> str:
    """`14:05 UTC`, with the day: a pause may last until tomorrow."""
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Blow:
    """One outcome as a breaker sees it. Of failures with the same `target` (not empty) in a row one counts.

    A `light` failure opens a breaker, or keeps it open anew, but does not make the pause longer.
    """

    at: int
    good: bool
    why: str = ""
    target: str = ""
    light: bool = False


def judge(blows: Iterable[Blow], rule: Rule, now: int) -> Breaker:
    """Where a breaker stands after these outcomes, oldest first, at `now` (UTC ms)."""
    streak, last, targets = 0, None, set[str]()
    for blow in blows:
        if now - blow.at > MEMORY_MS:
            continue
        if blow.good:
            streak, last, targets = 0, None, set()
            continue
        # As long as the breaker has not opened, the same target twice proves nothing of the others.
        opened = streak >= rule.failures
        if (opened and not blow.light) or (not opened and (not blow.target or blow.target not in targets)):
            streak += 1
        targets.add(blow.target)
        last = blow
    pause = rule.pause_ms(streak)
    if last is None or pause == 0:
        return Breaker(Position.CLOSED, streak)
    until = last.at + pause
    return Breaker(Position.OPEN if now < until else Position.HALF_OPEN, streak, until, last.why)


def host_breakers(outcomes: Iterable[Outcome], rules: Callable[[HostId], Rule], now: int) -> dict[HostId, Breaker]:
    """The breakers of all hosts that are not closed. Outcomes are oldest first."""
    blows: dict[HostId, list[Blow]] = {}
    for outcome in outcomes:
        if outcome.kind in FAULTS or outcome.kind in HOST_GOOD:
            # Somebody else was quicker: that says nothing of the host but that it is wanted.
            light = outcome.kind == OutcomeKind.REFUSED
            blow = Blow(outcome.at, outcome.kind in HOST_GOOD, outcome.detail, light=light)
            blows.setdefault(outcome.host, []).append(blow)
    return _not_closed({host: judge(found, rules(host), now) for host, found in blows.items()})


def owner_breakers(outcomes: Iterable[Outcome], rule: Rule, now: int) -> dict[OwnerId, Breaker]:
    """The same for owners: several of their hosts must have failed."""
    blows: dict[OwnerId, list[Blow]] = {}
    for outcome in outcomes:
        if outcome.owner is not None and (outcome.kind in OWNER_FAULTS or outcome.kind in OWNER_GOOD):
            blow = Blow(outcome.at, outcome.kind in OWNER_GOOD, outcome.detail, outcome.server_id)
            blows.setdefault((outcome.provider, outcome.owner), []).append(blow)
    return _not_closed({owner: judge(found, rule, now) for owner, found in blows.items()})


def image_breakers(outcomes: Iterable[Outcome], rule: Rule, now: int) -> dict[str, Breaker]:
    """The same for images: an image that came up on none of several hosts in a row."""
    blows: dict[str, list[Blow]] = {}
    for outcome in outcomes:
        if outcome.image is not None and (outcome.kind in IMAGE_FAULTS or outcome.kind in IMAGE_GOOD):
            target = f"{outcome.provider}/{outcome.server_id}"
            blow = Blow(outcome.at, outcome.kind in IMAGE_GOOD, outcome.detail, target)
            blows.setdefault(outcome.image, []).append(blow)
    return _not_closed({image: judge(found, rule, now) for image, found in blows.items()})


def _not_closed(breakers: Mapping[K, Breaker]) -> dict[K, Breaker]:
    return {key: breaker for key, breaker in breakers.items() if breaker.position != Position.CLOSED}


def spot_pauses(outcomes: Iterable[Outcome], evictions: int, now: int) -> dict[tuple[str, str], str]:
    """Ways of renting that `auto` leaves for a while: so many spot machines were taken away within one hour."""
    taken: dict[tuple[str, str], list[int]] = {}
    for outcome in outcomes:
        if outcome.kind == OutcomeKind.EVICTED and outcome.market == "spot":
            taken.setdefault((outcome.provider, outcome.market), []).append(outcome.at)
    paused = {}
    for key, times in taken.items():
        bursts = [last for first, last in _spans(times, evictions) if last - first <= EVICTION_WINDOW_MS]
        if bursts and now < bursts[-1] + SPOT_PAUSE_MS:
            until = clock(bursts[-1] + SPOT_PAUSE_MS)
            paused[key] = f"{evictions} spot machines were taken away within an hour; left alone until {until}"
    return paused


def _spans(times: list[int], count: int) -> list[tuple[int, int]]:
    ordered = sorted(times)
    return list(zip(ordered, ordered[count - 1 :], strict=False))


def job_hold_ms(machines: Iterable[tuple[HostId, bool]], rule: Rule) -> tuple[int, int]:
    """How many different machines in a row failed under a job, and how long (ms) the job pauses for that.

    `machines` are those of its attempts, first to last, and whether the attempt ended through a machine's fault.
    """
    streak: list[HostId] = []
    for host, failed in machines:
        if not failed:
            streak = []
        elif host not in streak:
            streak.append(host)
    return len(streak), rule.pause_ms(len(streak))
