"""What is to be expected: how long a job takes, when the queue is done and for how much, always with a range and with
what it rests on in words.

All figures are estimates of the same simple kind. A job takes as long as its own progress says, else as long as
finished jobs like it took, else at most its max_runtime; where there is nothing, that is said and nothing is made up.
The queue is worked off by as many machines as max_workers and the cap allow for each kind of job: no sooner than all of
the work spread evenly over them, no later than one kind after the other on machines that are rented anew for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil

from gpuscale_tui.model.money import HOUR_MS, format_usd
from gpuscale_tui.policy.wording import count

ENOUGH = 3
"""Finished jobs that say more together than a larger number of less similar ones."""
SURE = 0.05
"""How far off an ETA is at the end of a job; at its beginning it may be off by half."""


@dataclass(frozen=True, slots=True)
class Range:
    """An amount (milliseconds or micro-dollars) that is not known exactly: 0 <= low <= likely <= high."""

    low: int
    likely: int
    high: int

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.likely <= self.high:
            raise ValueError(f"{self.low}, {self.likely}, {self.high} is no range")

    @classmethod
    def exactly(cls, amount: int) -> Range:
        """A range of one amount."""
        return cls(amount, amount, amount)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def times(self, factor: float) -> Range:
        """So many of it."""
        return Range(*(round(amount * factor) for amount in (self.low, self.likely, self.high)))


NOTHING = Range(0, 0, 0)
USUAL_BOOT = Range(60_000, 240_000, 600_000)
"""How long a machine takes to take work where we have not seen any do so."""


@dataclass(frozen=True, slots=True)
class Past:
    """How long finished jobs took (ms): `count` of them that were `like` this one, in words."""

    count: int
    took: Range
    like: str


@dataclass(frozen=True, slots=True)
class Duration:
    """How long a job takes, or goes on (ms): None where nothing is known. `basis` says what it rests on."""

    took: Range | None
    basis: str


@dataclass(frozen=True, slots=True)
class Running:
    """What is known of a job that runs: for how long it has, its own ETA and which part is done, where it says so."""

    elapsed_ms: int
    eta_ms: int | None = None
    fraction: float | None = None


def past_of(samples: Iterable[int], like: str) -> Past | None:
    """Sum up how long jobs took: the middle of them, and a range that few samples make wider; None without any."""
    took = sorted(sample for sample in samples if sample > 0)
    if not took:
        return None
    doubt = 1 + 1 / len(took)
    likely = _quantile(took, 0.5)
    low, high = round(_quantile(took, 0.1) / doubt), round(_quantile(took, 0.9) * doubt)
    return Past(len(took), Range(min(low, likely), likely, max(high, likely)), like)


def _quantile(ordered: Sequence[int], part: float) -> int:
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return round(ordered[below] + (ordered[above] - ordered[below]) * (place - below))


def duration_of(
    past: Sequence[Past] = (), max_runtime_ms: int | None = None, running: Running | None = None
) -> Duration:
    """How long a job takes from its start; how long it goes on, for one that runs.

    `past` is from the most alike to the least: the first with ENOUGH jobs counts, else the first of all.
    """
    limit = None if max_runtime_ms is None else max(0, max_runtime_ms - (running.elapsed_ms if running else 0))
    own = None if running is None else _by_progress(running)
    if own is not None:
        return Duration(_at_most(own, limit), "its own progress")
    chosen = next((each for each in past if each.count >= ENOUGH), next(iter(past), None))
    if chosen is not None:
        took = chosen.took if running is None else _rest(chosen.took, running.elapsed_ms)
        return Duration(_at_most(took, limit), f"{count(chosen.count, 'finished job')} {chosen.like}")
    if limit is not None:
        return Duration(Range(0, limit, limit), "its max_runtime only, so at most")
    return Duration(None, "nothing is known of jobs like it yet")


def _by_progress(running: Running) -> Range | None:
    part = running.fraction
    left = running.eta_ms
    if left is None and part is not None and 0 < part <= 1:
        left = round(running.elapsed_ms * (1 - part) / part)
    if left is None or left < 0:
        return None
    doubt = SURE + (1 - min(max(part or 0.0, 0.0), 1.0)) / 2
    return Range(round(left * (1 - doubt)), left, round(left * (1 + doubt)))


def _rest(took: Range, elapsed: int) -> Range:
    """What is left of such a job after so long; one that takes longer than all others goes on for a while."""
    high = max(took.high - elapsed, elapsed // 4)
    likely = took.likely - elapsed if took.likely > elapsed else high // 2
    likely = min(likely, high)
    return Range(min(max(0, took.low - elapsed), likely), likely, high)


def _at_most(took: Range, limit: int | None) -> Range:
    return took if limit is None else Range(min(took.low, limit), min(took.likely, limit), min(took.high, limit))


def cost_of(took: Range, rate: int) -> Range:
    """What so long on a machine costs; `rate` is micro-dollars per hour."""
    return took.times(rate / HOUR_MS)


@dataclass(frozen=True, slots=True)
class Batch:
    """Waiting jobs of one kind. `rate` (micro-dollars per hour) is what a machine for them costs now, None where no
    offer is known; `up` machines that serve them are here or on their way."""

    jobs: int
    duration: Duration
    rate: int | None
    up: int = 0


@dataclass(frozen=True, slots=True)
class Occupied:
    """A running job: how long it goes on, and what its machine costs (micro-dollars per hour)."""

    left: Duration
    rate: int


@dataclass(frozen=True, slots=True)
class Purse:
    """What a limit on sums leaves: `left` micro-dollars now, and `limit` more `until_ms` from now and every
    `period_ms` after that. `name` is how it is called, such as `the daily budget`."""

    name: str
    left: int
    limit: int
    until_ms: int
    period_ms: int

    def earliest(self, cost: int) -> int:
        """When (ms from now) so much may have been spent; -1 for never."""
        if cost <= self.left:
            return 0
        if self.limit <= 0:
            return -1
        return self.until_ms + (ceil((cost - self.left) / self.limit) - 1) * self.period_ms


@dataclass(frozen=True, slots=True)
class Means:
    """What the queue may use: machines at once, micro-dollars per hour, sums; and how long a machine takes to be up."""

    max_workers: int
    cap: int
    boot: Range = USUAL_BOOT
    purses: tuple[Purse, ...] = ()


@dataclass(frozen=True, slots=True)
class Forecast:
    """When (ms from now) all jobs that anything is known of are done, and what is still to be spent on them.

    `done_in` is None where nothing is known of any, or where it would never be. Of `jobs` open ones, `unknown` have no
    known length and `unplaced` no machine that could take them: neither is in the figures. `basis` are sentences.
    """

    jobs: int
    unknown: int = 0
    unplaced: int = 0
    done_in: Range | None = None
    cost: Range = NOTHING
    basis: tuple[str, ...] = field(default=())

    @property
    def counted(self) -> int:
        """The jobs that the figures are about."""
        return self.jobs - self.unknown - self.unplaced


@dataclass(frozen=True, slots=True)
class _Kind:
    """Waiting jobs that can be reckoned with."""

    jobs: int
    took: Range
    rate: int
    most: int
    up: int


def machines_for(rate: int, means: Means) -> int:
    """How many machines at that rate (micro-dollars per hour) max_workers and the cap allow at once."""
    return means.max_workers if rate <= 0 else min(means.max_workers, means.cap // rate)


def forecast(batches: Sequence[Batch], running: Sequence[Occupied], means: Means) -> Forecast:
    """When the queue is done and for how much."""
    jobs = sum(batch.jobs for batch in batches) + len(running)
    waiting = [batch for batch in batches if batch.jobs > 0]
    placed = [batch for batch in waiting if batch.rate is not None and machines_for(batch.rate, means) > 0]
    kinds = [
        _Kind(batch.jobs, batch.duration.took, batch.rate, machines_for(batch.rate, means), batch.up)
        for batch in placed
        if batch.duration.took is not None and batch.rate is not None
    ]
    busy = [(each.left.took, each.rate) for each in running if each.left.took is not None]
    unplaced = sum(batch.jobs for batch in waiting) - sum(batch.jobs for batch in placed)
    known = sum(kind.jobs for kind in kinds) + len(busy)
    unknown = jobs - unplaced - known
    basis = _basis(batches, running, means, kinds)
    if not known:
        return Forecast(jobs, unknown, unplaced, Range(0, 0, 0) if not jobs else None, basis=basis)
    cost = _cost(kinds, busy, means.boot)
    time = _time(kinds, [left for left, _ in busy], means)
    slowed = _within(means.purses, time, cost)
    if slowed != time:
        names = " and ".join(purse.name for purse in means.purses if purse.earliest(cost.likely))
        basis = (*basis, f"{names or 'a budget'} holds it up" if slowed else f"{names} never allows all of it")
    return Forecast(jobs, unknown, unplaced, slowed, cost, basis)


def _time(kinds: Sequence[_Kind], busy: Sequence[Range], means: Means) -> Range:
    """Low: all work spread evenly. Likely: the same, and the rounds of one kind that do not come out even. High: one
    kind after the other, each on machines that are rented anew. Machines that are up need no boot."""
    slots = max(means.max_workers, len(busy))

    def spread(at: Callable[[Range], int], most: Callable[[_Kind], int]) -> tuple[float, float]:
        works = [kind.jobs * at(kind.took) / most(kind) for kind in kinds]
        ends = [ceil(kind.jobs / most(kind)) * at(kind.took) for kind in kinds]
        rest = sum(map(at, busy)) / slots if slots else 0.0
        tails = [end - work for end, work in zip(ends, works, strict=True)] + [max(map(at, busy), default=0) - rest]
        return sum(works) + rest, max(tails)

    def best(at: Callable[[Range], int], *, tails: bool) -> float:
        ways = [(at(means.boot) if kinds else 0, _allowed)]
        if all(kind.up > 0 for kind in kinds):
            ways.append((0, _up_now))
        found = []
        for boot, most in ways:
            work, tail = spread(at, most)
            longest = max([at(kind.took) for kind in kinds] + [at(left) for left in busy], default=0)
            found.append(boot + (work + tail if tails else max(work, longest)))
        return min(found)

    low, likely = best(_low, tails=False), best(_likely, tails=True)
    high: float = sum(ceil(kind.jobs / kind.most) * kind.took.high + means.boot.high for kind in kinds)
    high += max((left.high for left in busy), default=0)
    high = max(high, sum(left.high for left in busy) / slots if slots else 0)
    return _ordered(low, likely, high)


def _allowed(kind: _Kind) -> int:
    return kind.most


def _up_now(kind: _Kind) -> int:
    return min(kind.up, kind.most)


def _low(amount: Range) -> int:
    return amount.low


def _likely(amount: Range) -> int:
    return amount.likely


def _ordered(low: float, likely: float, high: float) -> Range:
    """Rounded; what rounding alone has put out of order is put right."""
    whole = round(low), round(likely), round(high)
    return Range(min(whole), max(min(whole), min(whole[1], whole[2])), max(whole))


def _cost(kinds: Sequence[_Kind], busy: Sequence[tuple[Range, int]], boot: Range) -> Range:
    """The hours of all jobs, and for each machine more its boot: none at best, for every kind anew at worst."""
    total = NOTHING
    for left, rate in busy:
        total += cost_of(left, rate)
    for kind in kinds:
        total += cost_of(kind.took, kind.rate).times(kind.jobs)
        new = min(kind.jobs, kind.most)
        fresh = max(0, new - kind.up)
        starts = (0, fresh * boot.likely, new * boot.high)
        total += Range(*(round(ms * kind.rate / HOUR_MS) for ms in starts))
    return total


def _within(purses: Iterable[Purse], time: Range, cost: Range) -> Range | None:
    """The time, later where a budget does not allow the sum any sooner; None where one never does."""
    found = [time.low, time.likely, time.high]
    for purse in purses:
        waits = [purse.earliest(amount) for amount in (cost.low, cost.likely, cost.high)]
        if waits[1] < 0:
            return None
        found = [max(at, wait if wait >= 0 else found[2]) for at, wait in zip(found, waits, strict=True)]
    return Range(found[0], max(found[:2]), max(found))


def _basis(
    batches: Sequence[Batch], running: Sequence[Occupied], means: Means, kinds: Sequence[_Kind]
) -> tuple[str, ...]:
    """What it rests on, the weightiest first."""
    told: dict[str, int] = {}
    for batch in batches:
        told[batch.duration.basis] = told.get(batch.duration.basis, 0) + batch.jobs
    for each in running:
        told[each.left.basis] = told.get(each.left.basis, 0) + 1
    heavy = sorted(((words, jobs) for words, jobs in told.items() if jobs), key=lambda item: (-item[1], item[0]))
    sentences = [f"{count(jobs, 'job')}: {words}" for words, jobs in heavy[:3]]
    if len(heavy) > 3:
        sentences.append(f"{count(sum(jobs for _, jobs in heavy[3:]), 'job')} by other such figures")
    if kinds:
        most = [kind.most for kind in kinds]
        machines = str(max(most)) if min(most) == max(most) else f"{min(most)} to {max(most)}"
        sentences.append(
            f"{machines} machine{'' if machines == '1' else 's'} at once (max_workers {means.max_workers},"
            f" cap {format_usd(means.cap)}/h)"
        )
    dear = sum(batch.jobs for batch in batches if batch.rate is not None and not machines_for(batch.rate, means))
    unread = sum(batch.jobs for batch in batches if batch.rate is None)
    if dear:
        sentences.append(f"{count(dear, 'job')} left out: one machine costs more than the cap, or max_workers is 0")
    if unread:
        sentences.append(f"{count(unread, 'job')} left out: no offer is known that could take them")
    return tuple(sentences)
