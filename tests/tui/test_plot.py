"""Plots as text: what stands in them, in every size, and that nothing is drawn twice."""

from __future__ import annotations

from datetime import UTC
from math import inf, isfinite, nan, sin
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from gpuscale_tui.tui import theme
from gpuscale_tui.tui.format import ASCII, UNICODE, Glyphs
from gpuscale_tui.tui.look import Line, Look, make
from gpuscale_tui.tui.widgets import plot
from gpuscale_tui.tui.widgets.axes import compact, sparkline, ticks, time_ticks
from gpuscale_tui.tui.widgets.plot import Plot, Series, plot_lines

MINUTE = 60_000.0
LOSS = Series("loss", tuple((float(step), 1.3 + 3 / (1 + step / 20)) for step in range(0, 400, 2)))
VALIDATION = Series("val_loss", tuple((float(step), 1.5 + 3 / (1 + step / 20)) for step in range(0, 400, 40)))


def look(glyphs: Glyphs = UNICODE) -> Look:
    """The default theme's look."""
    return make(theme.load("gpuscale-dark", theme.directories(None)), glyphs, UTC)


def words(lines: list[Line]) -> list[str]:
    """The text of lines."""
    return ["".join(text for text, _ in line) for line in lines]


def test_two_series_differ_without_colour_and_the_legend_tells_their_last_values() -> None:
    """Another sign for each, in the legend too."""
    text = words(plot_lines([LOSS, VALIDATION], 72, 12, look()))
    assert text[0].startswith(" ⠤⠤ loss 1.44   •• val_loss 1.66")
    assert any("•" in line for line in text[1:])
    assert any(0x2800 < ord(letter) <= 0x28FF for line in text[1:] for letter in line)
    assert "1000" not in text[-1]
    assert "300" in text[-1]


def test_each_series_has_a_role_of_its_own() -> None:
    """So colour tells them apart where there is any."""
    roles = {role for line in plot_lines([LOSS, VALIDATION], 72, 12, look())[1:-2] for _, role in line}
    assert {"state-running", "accent"} <= roles


def test_ascii_signs_only() -> None:
    """Without UTF-8 nothing but ASCII is drawn."""
    lines = plot_lines([LOSS, VALIDATION], 72, 12, look(ASCII), cap=2.0)
    assert all(line.isascii() for line in words(lines))
    assert any("*" in line for line in words(lines)[1:])


def test_the_cap_is_a_line_with_its_name() -> None:
    """Even where no value comes near it."""
    rate = Series("rate", ((0.0, 0.0), (10 * MINUTE, 0.4), (30 * MINUTE, 0.9)), stairs=True)
    text = words(plot_lines([rate], 60, 10, look(), time=True, cap=4.0, floor=0.0))
    assert [line for line in text if "cap 4" in line and "╌╌" in line]
    assert text[-1].split()[:2] == ["00:00", "00:10"]


def test_a_value_that_is_no_number_is_a_gap() -> None:
    """No line is drawn across it."""
    holed = Series("x", tuple((float(i), nan if 40 < i < 60 else inf if i == 70 else 5.0) for i in range(100)))
    row = next(
        line for line in words(plot_lines([holed], 60, 8, look()))[1:] if "⠒" in line or "⠤" in line or "⠉" in line
    )
    assert " " * 8 in row.strip()


@pytest.mark.parametrize("points", [(), ((1.0, nan),), ((nan, 1.0),)])
def test_nothing_seen_yet_is_said(points: tuple[tuple[float, float], ...]) -> None:
    """An empty plot says why it is empty."""
    assert words(plot_lines([Series("loss", points)], 60, 10, look(), empty="no loss seen yet"))[1] == (
        " no loss seen yet"
    )


def test_one_point_is_a_dot_at_its_value() -> None:
    """The first step is seen as soon as it is there."""
    text = words(plot_lines([Series("loss", ((7.0, 3.2),))], 60, 10, look()))
    assert sum(0x2800 < ord(letter) <= 0x28FF for line in text[1:] for letter in line) == 1
    assert text[0] == " ⠤⠤ loss 3.2  "


@pytest.mark.parametrize("size", [(19, 4), (12, 1), (40, 2), (60, 4)])
def test_a_tiny_plot_is_a_line_of_blocks(size: tuple[int, int]) -> None:
    """The last value is still told."""
    text = words(plot_lines([LOSS], *size, look()))
    assert "▁" in text[0]
    assert text[0].endswith(" 1.44")


def _numbers() -> st.SearchStrategy[float]:
    return st.floats(-1e15, 1e15) | st.sampled_from([nan, inf, -inf, 0.0, 1e-9])


@effort(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(_numbers(), max_size=30), max_size=4), st.integers(0, 90), st.integers(0, 16), st.booleans(),
)  # fmt: skip
def test_any_input_fits_its_place(values: list[list[float]], width: int, height: int, ascii_only: bool) -> None:
    """Exactly as many lines as asked for, none too wide."""
    series = [Series(f"s{n}", tuple((float(x), y) for x, y in enumerate(ys))) for n, ys in enumerate(values)]
    lines = words(plot_lines(series, width, height, look(ASCII if ascii_only else UNICODE)))
    assert len(lines) == (height if width > 0 else 0)
    assert all(len(line) <= width for line in lines)


def test_what_was_drawn_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is written anew every second asks plotext only for what has changed."""
    drawn: list[object] = []
    canvas = plot._canvas

    def counted(*given: Any) -> Any:
        drawn.append(given)
        return canvas(*given)

    monkeypatch.setattr(plot, "_canvas", counted)
    own = Series("own", tuple((float(x), sin(x)) for x in range(50)))
    for _ in range(3):
        plot_lines([own], 61, 11, look())
    assert len(drawn) == 1
    plot_lines([Series("own", (*own.points, (50.0, 0.0)))], 61, 11, look())
    assert len(drawn) == 2


async def test_the_widget_paints_only_what_has_changed() -> None:
    """The same curves again write nothing."""

    class Alone(App[None]):
        look = look()

        def compose(self) -> ComposeResult:
            yield Plot()

    app: Any = Alone()
    async with app.run_test(size=(60, 20)) as pilot:
        widget = app.query_one(Plot)
        widget.show([LOSS])
        await pilot.pause()
        asked: list[object] = []
        widget.refresh = lambda *given, **_options: asked.append(given)
        widget.show([LOSS])
        assert not asked
        widget.show([VALIDATION])
        assert asked


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1.4449, "1.44"), (0.00123, "0.00123"), (9_999, "9999"), (12_500, "12.5k"), (3_100_000, "3.1M"),
     (1e30, "1e30"), (2e-7, "2e-7"), (-4.5, "-4.5")],
)  # fmt: skip
def test_numbers_in_few_cells(value: float, text: str) -> None:
    """What an axis and a legend say."""
    assert compact(value) == text


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 40))
def test_ticks_lie_within_the_range(least: float, length: float, rows: int) -> None:
    """At least two, in order, and not more than there is room for."""
    most = least + length
    if most <= least or length < abs(least) * 1e-6:
        return
    marks = ticks(least, most, rows)
    assert 2 <= len(marks) <= 8
    assert marks == sorted(set(marks))
    assert marks[0] >= least - length * 1e-6
    assert marks[-1] <= most + length * 1e-6


def test_moments_are_round() -> None:
    """Quarters of an hour, not 14:07:31."""
    assert [word for _, word in time_ticks(7 * MINUTE, 61 * MINUTE, 4, UTC)] == ["00:15", "00:30", "00:45", "01:00"]


def test_a_sparkline_leaves_out_what_is_not_known() -> None:
    """A gap is a blank."""
    line = sparkline([0, nan, 100], 10, ascii_only=False, top=100)
    assert line == "▁ █"
    assert isfinite(len(line))
