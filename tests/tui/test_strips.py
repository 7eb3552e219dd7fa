"""Strips of time and the words at the top of a page: pure functions."""

from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from gpuscale_tui.store.progress import JobProgress, Usage
from gpuscale_tui.store.series import Point
from gpuscale_tui.tui import theme
from gpuscale_tui.tui.curves import Course, metric_plot, metric_series, use_series
from gpuscale_tui.tui.format import ASCII, UNICODE, Glyphs
from gpuscale_tui.tui.look import Line, Look, make
from gpuscale_tui.tui.machine_cells import clock
from gpuscale_tui.tui.outlook import most_of, speed_of, usage_words, wrapped
from gpuscale_tui.tui.widgets.timeline import ROLES, WORDS, Scale, Stretch, bar, legend, sign

MINUTE = 60_000


def look(glyphs: Glyphs = UNICODE) -> Look:
    """The default theme's look."""
    return make(theme.load("gpuscale-dark", theme.directories(None)), glyphs, UTC)


def words(line: Line) -> str:
    """The text of a line."""
    return "".join(text for text, _ in line)


def test_each_cell_shows_what_took_most_of_its_time() -> None:
    """Ten minutes in ten cells."""
    done = [Stretch("setup", 0, 2 * MINUTE), Stretch("job", 2 * MINUTE, 8 * MINUTE, "j1"), Stretch("idle", 8 * MINUTE,
            9 * MINUTE)]  # fmt: skip
    assert words(bar(done, Scale(0, 10 * MINUTE, 10), look())) == "░░┝j1━━━╌ "
    assert words(bar(done, Scale(0, 10 * MINUTE, 10), look(ASCII))) == "::[j1===- "


def test_what_is_shorter_than_a_cell_still_has_one() -> None:
    """A machine that was rejected after ten seconds is seen in three days, and so is a short loss beside a long job."""
    line = words(bar([Stretch("rejected", 5 * MINUTE, 5 * MINUTE + 10_000)], Scale(0, 1000 * MINUTE, 20), look()))
    assert line.count("▒") == 1
    both = [Stretch("job", 0, 95 * MINUTE), Stretch("lost", 95 * MINUTE, 98 * MINUTE)]
    assert "╳" in words(bar(both, Scale(0, 100 * MINUTE, 10), look()))


def test_what_lies_outside_is_not_shown() -> None:
    """Before and after the time of the line."""
    done = [Stretch("job", 0, MINUTE), Stretch("idle", 30 * MINUTE, 40 * MINUTE)]
    assert words(bar(done, Scale(10 * MINUTE, 20 * MINUTE, 10), look())) == " " * 10


@effort(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(WORDS)), st.integers(-100, 200), st.integers(0, 100)), max_size=12),
    st.integers(1, 60), st.integers(1, 100),
)  # fmt: skip
def test_a_strip_is_exactly_as_wide_as_its_place(done: list[tuple[str, int, int]], width: int, length: int) -> None:
    """Whatever happened."""
    stretches = [Stretch(kind, start, start + lasted, "j123456") for kind, start, lasted in done]
    assert len(words(bar(stretches, Scale(0, length, width), look()))) == width


def test_kinds_differ_by_sign_and_by_word() -> None:
    """Not by colour alone; in ASCII too."""
    for glyphs in (UNICODE, ASCII):
        signs = [sign(kind, look(glyphs))[0] for kind in ("job", "setup", "idle", "lost", "rejected")]
        assert len(set(signs)) == len(signs)
    assert words(legend(["job", "idle"], look())) == " ━━ job  ╌╌ idle "
    assert set(ROLES) == set(WORDS)


def test_a_curve_does_not_run_backwards() -> None:
    """An attempt that begins at an earlier step begins a new stretch."""
    points = [Point(1, 10, 3.0), Point(2, 20, 2.0), Point(3, 15, 2.5), Point(4, 25, 1.5)]
    series, time = metric_series("loss", points)
    assert not time
    assert [x for x, _ in series.points] == [10, 20, 15, 15, 25]
    assert series.points[2][1] != series.points[2][1]


def test_what_a_job_calls_its_metric_is_harmless() -> None:
    """Its output names it."""
    course = Course(("\x1b[2Jloss",), "\x1b[2Jloss", (Point(1, 1, 2.0), Point(2, 2, 1.0)))
    lines = [words(line) for line in metric_plot(course, 60, 12, look(), running=True)]
    assert not any("\x1b" in line for line in lines)
    assert " loss " in lines[0]
    assert all(len(line) <= 60 for line in lines)


def test_a_metric_without_steps_is_over_time() -> None:
    """Some scripts print no step."""
    series, time = metric_series("loss", [Point(1000, None, 3.0), Point(2000, None, 2.0)])
    assert time
    assert series.points == ((1000, 3.0), (2000, 2.0))


def test_a_machine_that_was_silent_has_a_gap_in_its_curve() -> None:
    """Ten minutes without a reading are not drawn as if something were known."""
    gpu, memory = use_series([Usage(1, 0, 50, 12_000, 24_000), Usage(1, 10 * MINUTE, 60, 12_000, 24_000)])
    assert len(gpu.points) == 3
    assert gpu.points[1][1] != gpu.points[1][1]
    assert memory.points[0][1] == 50
    assert use_series([Usage(1, 0, cpu_percent=30)])[0].name == "CPU %"


@pytest.mark.parametrize(
    ("speed", "said"),
    [(42.13, "42.1 steps/s"), (0.25, "4 s/step"), (0.0, ""), (None, ""), (float("inf"), ""), (float("nan"), "")],
)
def test_speed_in_words(speed: float | None, said: str) -> None:
    """Slow ones by the step."""
    assert speed_of(JobProgress(1, 1, 0, speed=speed)) == said


def test_what_a_job_may_cost_at_most() -> None:
    """By its max runtime at the present price, or the budget of a job, whichever is less."""
    assert most_of(100_000, 400_000, 3_600_000, 1_800_000, None) == (300_000, "its max runtime")
    assert most_of(100_000, 400_000, 3_600_000, 1_800_000, 250_000) == (250_000, "the budget of a job")
    assert most_of(100_000, 400_000, None, 0, None) == (None, "")


def test_use_in_as_many_words_as_there_is_room_for() -> None:
    """The GPU first; old readings say how old they are."""
    used = Usage(1, 0, 87, 18_200, 24_000, 71, 34, 12_100, 64_400, 90_000)
    assert usage_words(used, 1000).startswith("GPU 87 %  71 C  18.2 of 24.0 GB  CPU 34 %  memory 12.1 of 64.4 GB")
    assert usage_words(used, 1000, 16) == "GPU 87 %  71 C"
    assert usage_words(used, 600_000).startswith("10m ago:  GPU 87 %")
    assert usage_words(None, 0) == ""


@given(st.lists(st.text("ab ", max_size=12), max_size=8), st.integers(6, 40))
def test_wrapped_lines_keep_all_words(texts: list[str], width: int) -> None:
    """In order; none wider than the place unless a word alone is."""
    line = [(text, "text") for text in texts]
    rows = wrapped(line, width)
    assert "".join(words(line).split()) == "".join("".join(words(row).split()) for row in rows)
    assert all(len(words(row).rstrip()) <= max(width, 12) for row in rows)


@pytest.mark.parametrize(("ms", "said"), [(130_000, "2:10"), (9_000, "0:09"), (3_730_000, "1:02:10"), (-5, "0:00")])
def test_clocks(ms: int, said: str) -> None:
    """To compare one time with another."""
    assert clock(ms) == said
