"""The rate over time: means and peaks of what was held, by steps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.model.states import Cause
from gpuscale_tui.store import rates, workers
from gpuscale_tui.store.rates import Rate
from tests.store.support import DOLLAR, HOUR, T0, Bench


def test_nothing_was_held(bench: Bench) -> None:
    assert bench.read(rates.rates, T0, T0 + HOUR, 2) == [Rate(T0, 0, 0), Rate(T0 + HOUR // 2, 0, 0)]
    assert bench.read(rates.rates, T0, T0, 2) == []
    assert bench.read(rates.first_use) is None


def test_what_was_held_counts_for_as_long_as_it_was(bench: Bench) -> None:
    one = bench.boot(DOLLAR)
    bench.now += HOUR
    bench.boot(2 * DOLLAR)
    bench.now += HOUR // 2
    bench.write(workers.confirm_gone, one.id, "taken", cause=Cause.PREEMPTED, **bench.by)
    found = bench.read(rates.rates, T0, T0 + 3 * HOUR, 3)
    assert found == [
        Rate(T0, DOLLAR, DOLLAR),
        Rate(T0 + HOUR, 5 * DOLLAR // 2, 3 * DOLLAR),
        Rate(T0 + 2 * HOUR, 2 * DOLLAR, 2 * DOLLAR),
    ]


def test_one_machine_after_another_is_never_two(bench: Bench) -> None:
    one = bench.boot(DOLLAR)
    bench.now += HOUR
    bench.write(workers.confirm_gone, one.id, "taken", cause=Cause.PREEMPTED, **bench.by)
    bench.boot(DOLLAR)
    found = bench.read(rates.rates, T0, T0 + 2 * HOUR, 1)
    assert found == [Rate(T0, DOLLAR, DOLLAR)]


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 99), st.integers(1, 9)), max_size=8), st.integers(1, 20))
def test_the_means_are_what_was_spent(held: list[tuple[int, int, int]], buckets: int) -> None:
    changes = sorted(
        change for at, length, rate in held for change in ((at, rate * 10**6), (min(at + length, 100), -rate * 10**6))
    )
    found = rates._steps(changes, 0, 100 * buckets, buckets * 10)
    assert sum(each.mean * 10 for each in found) == sum(
        rate * 10**6 * (min(at + length, 100) - at) for at, length, rate in held
    )
    assert all(each.mean <= each.peak for each in found)
