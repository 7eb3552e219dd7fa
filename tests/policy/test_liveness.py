"""Liveness, patience and progress: what is concluded from silence, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.policy.liveness import Liveness, in_words, liveness
from gpuscale_tui.policy.patience import (
    BOOT_CEILING_SEC,
    BOOT_FLOOR_SEC,
    SILENCE_STRETCH,
    Samples,
    boot_patience,
    most,
    silence_patience,
)
from gpuscale_tui.policy.progress import Progress, Sight, begin, is_stalled, look

TIMES = st.lists(st.floats(0.1, 5000), max_size=60)
ENDED = {WorkerState.RELEASED, WorkerState.LOST}
MINUTE = 60_000


@given(st.sampled_from(WorkerState), st.none() | st.integers(0, 10**13), st.none() | st.integers(0, 10**13))
def test_only_its_provider_makes_a_machine_gone(state: WorkerState, ready: int | None, silent: int | None) -> None:
    """However long it is silent: gone means that the provider has said so."""
    found = liveness(state, ready_at=ready, silent_since=silent)
    assert (found is Liveness.GONE) == (state in ENDED)
    if state not in ENDED:
        expected = None if ready is None else Liveness.ALIVE if silent is None else Liveness.UNREACHABLE
        assert found is expected


def test_the_words_for_liveness_name_the_signs() -> None:
    silent = 1_000_000
    now = silent + 95_000
    assert in_words(None, silent_since=None, down_since=None, now=now) == "not up yet"
    assert in_words(Liveness.ALIVE, silent_since=None, down_since=None, now=now) == "alive"
    assert in_words(Liveness.ALIVE, silent_since=None, down_since=5, now=now) == (
        "alive; its provider says that it does not run"
    )
    assert in_words(Liveness.UNREACHABLE, silent_since=silent, down_since=None, now=now) == (
        "unreachable for 95 s; its provider says that it runs"
    )
    assert in_words(Liveness.UNREACHABLE, silent_since=silent, down_since=silent, now=now).endswith("does not run")


@given(st.floats(5, 3600), TIMES, TIMES, TIMES)
def test_a_boot_never_gets_more_than_the_setting_nor_what_costs_a_fee(
    setting: float, provider: list[float], image: list[float], host: list[float]
) -> None:
    found = boot_patience(setting, [Samples("p", provider), Samples("i", image), Samples("h", host)])
    assert found.seconds <= min(setting, BOOT_CEILING_SEC)
    assert found.seconds >= min(setting, BOOT_FLOOR_SEC)
    assert found.why


def test_few_boots_change_little_and_many_change_much() -> None:
    """With no history it is the setting; with fifty quick boots it is near twice the slowest of them."""
    assert boot_patience(540, [Samples("on clore", [])]).seconds == 540
    one = boot_patience(540, [Samples("on clore", [60.0])])
    many = boot_patience(540, [Samples("on clore", [60.0] * 50)])
    assert 400 < one.seconds < 540
    assert 120 < many.seconds < 170
    assert many.why == "before, 50 on clore took up to 60 s"
    slow_host = boot_patience(540, [Samples("on clore", [60.0] * 50), Samples("on host 7", [200.0] * 20)])
    assert many.seconds < 300 < slow_host.seconds
    assert slow_host.why == "before, 50 on clore took up to 60 s, 20 on host 7 took up to 200 s"


def test_one_straggler_in_twenty_is_not_the_measure() -> None:
    assert most([1.0] * 19 + [500.0]) == 1.0
    assert most([1.0] * 18 + [500.0] * 2) == 500.0
    assert most([7.0]) == 7.0


@given(st.floats(1, 10_000), TIMES, TIMES)
def test_a_silence_is_never_borne_for_less_than_the_user_set(
    setting: float, provider: list[float], host: list[float]
) -> None:
    found = silence_patience(setting, [Samples("p", provider), Samples("h", host)], says_down=False)
    assert setting <= found.seconds <= setting * SILENCE_STRETCH
    assert silence_patience(setting, [Samples("p", provider)], says_down=True).seconds == setting


def test_hosts_that_came_back_late_are_waited_for() -> None:
    known = [Samples("on clore", [800.0] * 30)]
    assert silence_patience(900, known, says_down=False).seconds > 1400
    assert silence_patience(900, known, says_down=True).seconds == 900


def sights(*seen: tuple[int, int, int | None, int | None]) -> tuple[Progress, int]:
    """What is known after looks of (minute, output, CPU ms, GPU percent), and how many told nothing new in a row."""
    first, *rest = [Sight(minute * MINUTE, output, 0, cpu, gpu) for minute, output, cpu, gpu in seen]
    progress, looks = begin(first), 0
    for sight in rest:
        progress = look(progress, sight)
        looks = 0 if progress.alive_at == sight.at else looks + (sight.cpu_ms is not None)
    return progress, looks


@pytest.mark.parametrize(
    ("seen", "stalled"),
    [
        ([(0, 5, None, None), (15, 5, 100, 0), (30, 5, 100, 0)], True),
        ([(0, 5, None, None), (15, 5, 100, None), (30, 5, 110, None)], True),  # it only wakes up now and then
        ([(0, 5, None, None), (15, 5, 100, 0), (30, 6, 100, 0)], False),  # a byte of output
        ([(0, 5, None, None), (15, 5, 100, 0), (30, 5, 900_000, 0)], False),  # it computes quietly
        ([(0, 5, None, None), (15, 5, 100, 0), (30, 5, 100, 97)], False),  # the GPU is at work
        ([(0, 5, None, None), (15, 5, None, None), (30, 5, None, None), (45, 5, None, None)], False),  # cannot tell
        ([(0, 5, None, None), (30, 5, 100, 0)], False),  # one look says how much it has computed, not whether it does
        ([(0, 5, None, None), (15, 5, 9_000_000, 0), (30, 5, 100, 0)], False),  # a child came or went
    ],
)
def test_a_job_stands_still_when_nothing_moves(
    seen: list[tuple[int, int, int | None, int | None]], stalled: bool
) -> None:
    progress, looks = sights(*seen)
    assert is_stalled(progress, seen[-1][0] * MINUTE, 30 * MINUTE, looks) is stalled


def test_a_checkpoint_is_progress_and_zero_is_off() -> None:
    progress = begin(Sight(0, 5, 1))
    assert look(progress, Sight(MINUTE, 5, 2)).alive_at == MINUTE
    assert look(progress, Sight(MINUTE, 5, 1)).alive_at == 0
    assert not is_stalled(progress, 10**9, 0, 99)
