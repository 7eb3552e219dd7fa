"""Forecasts: what each figure rests on, and what must hold whatever the figures are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.policy.forecast import (
    USUAL_BOOT,
    Batch,
    Duration,
    Means,
    Occupied,
    Past,
    Purse,
    Range,
    Running,
    cost_of,
    duration_of,
    forecast,
    past_of,
)

HOUR = 3_600_000
DOLLAR = 1_000_000
AN_HOUR = Duration(Range.exactly(HOUR), "so it is")
UNKNOWN = duration_of()


@st.composite
def ranges(draw: st.DrawFn, most: int = 100 * HOUR) -> Range:
    return Range(*sorted(draw(st.tuples(*[st.integers(0, most)] * 3))))


durations = ranges().map(lambda took: Duration(took, "drawn")) | st.just(UNKNOWN)
rates = st.none() | st.integers(0, 12 * DOLLAR)
batches = st.lists(st.builds(Batch, st.integers(0, 20_000), durations, rates, st.integers(0, 9)), max_size=6)
occupied = st.lists(st.builds(Occupied, durations, st.integers(0, 5 * DOLLAR)), max_size=6)
purses = st.lists(
    st.builds(Purse, st.just("the daily budget"), *[st.integers(0, 50 * DOLLAR)] * 2, *[st.integers(1, 24 * HOUR)] * 2),
    max_size=2,
).map(tuple)
means = st.builds(Means, st.integers(0, 40), st.integers(0, 30 * DOLLAR), ranges(HOUR), purses)


@given(batches, occupied, means)
@settings(max_examples=300, deadline=None)
def test_a_forecast_counts_every_job_once_and_is_in_order(
    waiting: list[Batch], running: list[Occupied], under: Means
) -> None:
    found = forecast(waiting, running, under)
    assert found.jobs == sum(batch.jobs for batch in waiting) + len(running)
    assert found.unknown >= 0
    assert found.unplaced >= 0
    assert found.counted >= 0
    if not found.counted:
        assert found.cost == Range(0, 0, 0)
        assert found.done_in == (None if found.jobs else Range(0, 0, 0))
    elif not under.purses:
        assert found.done_in is not None
    assert found.basis or not found.jobs


@given(batches, occupied, means, st.integers(0, 5), st.integers(1, 5_000))
@settings(max_examples=300, deadline=None)
def test_more_jobs_are_never_done_sooner_nor_cheaper(
    waiting: list[Batch], running: list[Occupied], under: Means, which: int, more: int
) -> None:
    if not waiting:
        return
    place = which % len(waiting)
    grown = [replace(each, jobs=each.jobs + more) if n == place else each for n, each in enumerate(waiting)]
    before, after = forecast(waiting, running, under), forecast(grown, running, under)
    assert before.cost.low <= after.cost.low
    assert before.cost.likely <= after.cost.likely
    assert before.cost.high <= after.cost.high
    if before.done_in and after.done_in:
        assert _no_later(before.done_in, after.done_in)


@given(batches, occupied, means, st.integers(1, 20))
@settings(max_examples=300, deadline=None)
def test_more_machines_are_never_done_later(
    waiting: list[Batch], running: list[Occupied], under: Means, more: int
) -> None:
    under = replace(under, max_workers=under.max_workers + 1, purses=())
    before = forecast(waiting, running, under)
    after = forecast(waiting, running, replace(under, max_workers=under.max_workers + more))
    assert before.unplaced == after.unplaced
    if before.done_in and after.done_in:
        assert _no_later(after.done_in, before.done_in)


def _no_later(one: Range, other: Range) -> bool:
    """A millisecond for the rounding."""
    return one.low <= other.low + 1 and one.likely <= other.likely + 1 and one.high <= other.high + 1


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=50))
def test_what_jobs_took_is_within_what_is_made_of_it(samples: list[int]) -> None:
    past = past_of(samples, "named x")
    assert past is not None
    assert past.count == len(samples)
    assert past.took.low <= past.took.likely <= past.took.high
    assert min(samples) <= past.took.likely <= max(samples)


@given(st.lists(ranges().map(lambda took: Past(3, took, "x")), max_size=2), st.none() | st.integers(0, 100 * HOUR),
       st.none() | st.builds(Running, st.integers(0, 100 * HOUR), st.none() | st.integers(0, HOUR * 100),
                             st.none() | st.floats(0, 1)))  # fmt: skip
@settings(deadline=None)
def test_a_job_never_takes_longer_than_it_may(past: list[Past], limit: int | None, running: Running | None) -> None:
    found = duration_of(past, limit, running)
    assert found.basis
    if found.took is not None and limit is not None:
        assert found.took.high <= max(0, limit - (running.elapsed_ms if running else 0))


def test_what_says_most_of_a_job_counts() -> None:
    few, many = Past(2, Range.exactly(10), "named a"), Past(40, Range.exactly(99), "of the project")
    own = duration_of([few, many], running=Running(600_000, eta_ms=300_000, fraction=0.5))
    assert own == Duration(Range(210_000, 300_000, 390_000), "its own progress")
    assert duration_of([many]).basis == "40 finished jobs of the project"
    assert duration_of([few, many]).took == Range.exactly(99)
    assert duration_of([few]).basis == "2 finished jobs named a"
    assert duration_of((), 60_000) == Duration(Range(0, 60_000, 60_000), "its max_runtime only, so at most")
    assert duration_of() == Duration(None, "nothing is known of jobs like it yet")


def test_a_running_job_without_progress_is_measured_by_others() -> None:
    past = [Past(5, Range(50 * 60_000, HOUR, 2 * HOUR), "named a")]
    assert duration_of(past, running=Running(30 * 60_000)).took == Range(20 * 60_000, 30 * 60_000, 90 * 60_000)
    late = duration_of(past, running=Running(4 * HOUR)).took
    assert late == Range(0, HOUR // 2, HOUR)


def test_an_even_queue_on_machines_that_are_up() -> None:
    under = Means(4, 10 * DOLLAR, USUAL_BOOT)
    found = forecast([Batch(8, AN_HOUR, DOLLAR, up=4)], [], under)
    assert found.done_in is not None
    assert (found.done_in.low, found.done_in.likely) == (2 * HOUR, 2 * HOUR)
    assert found.cost.likely == 8 * DOLLAR
    assert found.basis == ("8 jobs: so it is", "4 machines at once (max_workers 4, cap $10.00/h)")


def test_boots_come_on_top_and_rounds_do_not_come_out_even() -> None:
    found = forecast([Batch(5, AN_HOUR, DOLLAR)], [], Means(4, 10 * DOLLAR, Range.exactly(60_000)))
    assert found.done_in is not None
    assert found.done_in.likely == 2 * HOUR + 60_000
    assert found.cost.likely == 5 * DOLLAR + round(4 * DOLLAR / 60)


def test_the_cap_decides_how_many_machines_there_are() -> None:
    found = forecast([Batch(10, AN_HOUR, 3 * DOLLAR)], [], Means(8, 7 * DOLLAR, Range.exactly(0)))
    assert found.done_in == Range(5 * HOUR, 5 * HOUR, 5 * HOUR)
    too_dear = forecast([Batch(10, AN_HOUR, 8 * DOLLAR)], [], Means(8, 7 * DOLLAR))
    assert (too_dear.unplaced, too_dear.done_in) == (10, None)
    assert "10 jobs left out" in too_dear.basis[-1]


def test_nothing_is_made_up() -> None:
    found = forecast(
        [Batch(3, UNKNOWN, DOLLAR), Batch(2, AN_HOUR, None)], [Occupied(UNKNOWN, DOLLAR)], Means(4, DOLLAR)
    )
    assert (found.jobs, found.unknown, found.unplaced, found.done_in) == (6, 4, 2, None)
    assert forecast([], [], Means(1, 1)).done_in == Range(0, 0, 0)


@pytest.mark.parametrize(("left", "days"), [(4, 0), (2, 1), (0, 2)])
def test_a_daily_budget_holds_the_queue_up(left: int, days: int) -> None:
    purse = Purse("the daily budget", left * DOLLAR, 2 * DOLLAR, 10 * HOUR, 24 * HOUR)
    under = Means(4, 10 * DOLLAR, Range.exactly(0), (purse,))
    found = forecast([Batch(4, AN_HOUR, DOLLAR)], [], under)
    assert found.done_in is not None
    assert found.done_in.likely == (HOUR if days == 0 else (10 + 24 * (days - 1)) * HOUR)
    assert ("the daily budget holds it up" in found.basis) == (days > 0)
    never = replace(under, purses=(replace(purse, left=0, limit=0),))
    assert forecast([Batch(4, AN_HOUR, DOLLAR)], [], never).done_in is None


def test_what_an_hour_costs() -> None:
    assert cost_of(Range(0, HOUR, 2 * HOUR), DOLLAR) == Range(0, DOLLAR, 2 * DOLLAR)
