"""The limiter on a virtual clock: spacing, priorities, pauses, bounded waits."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.providers.clore.limiter import LONGEST_PAUSE_SEC, Limiter, Priority

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Start = tuple[float, Priority]
ARRIVALS = st.lists(st.tuples(st.floats(0, 20, width=16), st.sampled_from(Priority)), min_size=1, max_size=30)


async def starts_of(limiter: Limiter, arrivals: list[tuple[float, Priority]], patience: float = 1e6) -> list[Start]:
    """When each of these calls started, in order."""
    starts: list[Start] = []

    async def call(arrival: float, priority: Priority) -> None:
        await asyncio.sleep(arrival)
        await limiter.turn(priority, patience)
        starts.append((asyncio.get_running_loop().time(), priority))

    async with asyncio.TaskGroup() as group:
        for arrival, priority in arrivals:
            group.create_task(call(arrival, priority))
    return starts


@given(arrivals=ARRIVALS, interval=st.floats(0, 3, width=16), create_interval=st.floats(0, 9, width=16))
@settings(max_examples=80, deadline=None)
def test_starts_are_spaced_and_nobody_is_forgotten(
    run_virtual: Run, arrivals: list[tuple[float, Priority]], interval: float, create_interval: float
) -> None:
    starts = run_virtual(starts_of(Limiter(interval, create_interval), arrivals))
    assert len(starts) == len(arrivals)
    _spaced([time for time, _ in starts], interval)
    _spaced([time for time, priority in starts if priority is Priority.CREATE], create_interval)


def _spaced(times: list[float], interval: float) -> None:
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(gap >= interval - 1e-6 for gap in gaps), gaps


@given(st.permutations([priority for priority in Priority for _ in range(3)]))
@settings(max_examples=40, deadline=None)
def test_who_waits_together_starts_by_priority(run_virtual: Run, order: list[Priority]) -> None:
    starts = run_virtual(starts_of(Limiter(1.0, 0.0), [(0.0, order[0]), *((0.5, each) for each in order[1:])]))
    waited = [priority for _, priority in starts[1:]]
    assert waited == sorted(waited)


def test_a_create_that_must_wait_longer_does_not_hold_up_others(run_virtual: Run) -> None:
    arrivals = [(0.0, Priority.CREATE), (0.1, Priority.CREATE), (0.2, Priority.MARKET)]
    starts = run_virtual(starts_of(Limiter(1.1, 5.5), arrivals))
    assert [priority for _, priority in starts] == [Priority.CREATE, Priority.MARKET, Priority.CREATE]
    assert starts[2][0] == pytest.approx(5.5)


def test_no_call_starts_before_retry_after_is_over(run_virtual: Run) -> None:
    async def scenario() -> list[Start]:
        limiter = Limiter(1.0, 5.0)
        limiter.refused(17.0)
        return await starts_of(limiter, [(0.0, Priority.CANCEL), (0.0, Priority.MARKET)])

    assert [time for time, _ in run_virtual(scenario())] == [pytest.approx(17.0), pytest.approx(18.0)]


def test_refusals_without_a_figure_pause_ever_longer_and_an_answer_ends_that(run_virtual: Run) -> None:
    async def pauses() -> list[float]:
        limiter, loop, found = Limiter(1.0, 5.0), asyncio.get_running_loop(), []
        for refusal in range(9):
            if refusal == 8:
                limiter.answered()
            limiter.refused(None)
            before = loop.time()
            await limiter.turn(Priority.ORDERS, 1e6)
            found.append(round(loop.time() - before, 6))
        return found

    assert run_virtual(pauses()) == [2, 4, 8, 16, 30, 30, 30, 30, 2]


def test_an_absurd_retry_after_does_not_stop_us_for_ever(run_virtual: Run) -> None:
    async def scenario() -> list[Start]:
        limiter = Limiter(1.0, 5.0)
        limiter.refused(10.0**9)
        return await starts_of(limiter, [(0.0, Priority.CANCEL)])

    assert run_virtual(scenario())[0][0] == pytest.approx(LONGEST_PAUSE_SEC)


def test_waiting_is_bounded_and_who_gave_up_takes_no_turn(run_virtual: Run) -> None:
    async def scenario() -> list[Start]:
        limiter = Limiter(10.0, 10.0)
        await limiter.turn(Priority.MARKET, 1.0)
        with pytest.raises(TimeoutError):
            await limiter.turn(Priority.CANCEL, 3.0)
        assert asyncio.get_running_loop().time() == pytest.approx(3.0)
        return await starts_of(limiter, [(0.0, Priority.MARKET)])

    assert run_virtual(scenario()) == [(pytest.approx(10.0), Priority.MARKET)]


def test_a_cancelled_waiter_takes_no_turn(run_virtual: Run) -> None:
    async def scenario() -> list[Start]:
        limiter = Limiter(10.0, 10.0)
        await limiter.turn(Priority.MARKET, 1.0)
        waiter = asyncio.create_task(limiter.turn(Priority.CANCEL, 100.0))
        await asyncio.sleep(1)
        waiter.cancel()
        return await starts_of(limiter, [(0.0, Priority.ORDERS)])

    assert run_virtual(scenario()) == [(pytest.approx(10.0), Priority.ORDERS)]
