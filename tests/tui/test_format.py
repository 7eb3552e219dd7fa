"""What stands in a cell: money, times, and texts from outside made harmless."""

from __future__ import annotations

import unicodedata
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gpuscale_tui.tui.format import ASCII, UNICODE, clean, cut, fit, meter, moment, size, span, usd, wait

MINUTE = 60_000


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;owned\x07title", "title"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jgone", "gone"),
        ("\x1b", ""),
        ("a\tb", "a    b"),
        ("a\x00b\x07c", "a\ufffdb\ufffdc"),
        ("abc\u202edcba", "abcdcba"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("[red]markup[/red] [/]", "[red]markup[/red] [/]"),
        ("line\u2028break\u2029", "line\ufffdbreak\ufffd"),
        ("\ue000private", "\ufffdprivate"),
        ("Zürich 東京", "Zürich 東京"),
    ],
)
def test_foreign_text_is_made_harmless(text: str, harmless: str) -> None:
    """Nothing that is shown can move the cursor, colour, reorder, or be taken for markup."""
    assert clean(text) == harmless


@given(st.text(max_size=200))
def test_no_control_character_survives(text: str) -> None:
    """Whatever comes in, only printable characters of known width come out, and cleaning twice changes nothing."""
    cleaned = clean(text)
    assert all(unicodedata.category(c)[0] != "C" for c in cleaned)
    assert clean(cleaned) == cleaned
    assert clean(text, ascii_only=True).isascii()


def test_piled_up_accents_are_cut() -> None:
    """A letter keeps two marks at most."""
    assert len(clean("a" + "\u0308" * 50)) <= 3


@given(st.text(max_size=60), st.integers(min_value=1, max_value=40))
def test_a_cell_has_exactly_its_width(text: str, width: int) -> None:
    """Wide and combining characters included."""
    assert cell_len(fit(clean(text), width)) == width
    assert cell_len(cut(clean(text), width)) <= width


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "$0.00"), (1, "<$0.001"), (4_000, "$0.004"), (12_000, "$0.01"), (1_250_000, "$1.25"),
     (12_345_678_900, "$12,345.68"), (-500_000, "-$0.50")],
)  # fmt: skip
def test_money(micros: int, text: str) -> None:
    """A little is never shown as nothing."""
    assert usd(micros) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(-5, "0s"), (59_999, "59s"), (MINUTE, "1m00s"), (10 * MINUTE, "10m"), (187 * MINUTE, "3h07m"),
     (1500 * MINUTE, "1d01h"), (200 * 1440 * MINUTE, "200d")],
)  # fmt: skip
def test_spans_of_time(milliseconds: int, text: str) -> None:
    """Never more than six cells."""
    assert span(milliseconds) == text


def test_waiting_is_told_to_the_minute() -> None:
    """Nothing changes within a minute."""
    assert [wait(ms) for ms in (0, 59_999, MINUTE, 9 * MINUTE + 59_000, 10 * MINUTE, 90 * MINUTE)] == [
        "<1m", "<1m", "1m", "9m", "10m", "1h30m",
    ]  # fmt: skip


@given(st.integers(min_value=0, max_value=999 * 86_400_000))
def test_spans_fit_their_column(milliseconds: int) -> None:
    """Up to 999 days."""
    assert len(span(milliseconds)) <= 6


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (820, "820 B"), (1_200_000, "1.2 MB"), (999_600, "1.0 MB"), (48_234_112, "48.2 MB"),
     (5_000_000_000_000, "5.0 TB")],
)  # fmt: skip
def test_sizes(count: int, text: str) -> None:
    """Decimal units."""
    assert size(count) == text


def test_moments_say_the_day_only_where_it_is_another() -> None:
    """Today a time, this year a day and a time, else a date."""
    now = 1_773_500_966_000
    assert moment(now - MINUTE, now, UTC) == "15:08:26"
    assert moment(now - 86_400_000, now, UTC) == "03-13 15:09"
    assert moment(now - 400 * 86_400_000, now, UTC) == "2025-02-07"


def test_a_bar_shows_a_little_as_something_and_never_overflows() -> None:
    """One part in a million is one cell; more than the whole is the whole."""
    assert len(meter(1, 1_000_000, 10, UNICODE)[0]) == 1
    assert meter(5, 2, 4, ASCII) == ("====", "")
    assert meter(0, 0, 4, ASCII) == ("", "----")


def test_every_sign_has_an_ascii_twin_of_one_cell() -> None:
    """States look the same length in both sets, and no two states of a kind share a sign with another meaning."""
    assert UNICODE.states.keys() == ASCII.states.keys()
    for glyphs in (UNICODE, ASCII):
        assert all(cell_len(sign) == 1 for sign in glyphs.states.values())
        jobs = [glyphs.states[state] for state in ("pending", "running", "done", "failed", "cancelled")]
        assert len(set(jobs)) == len(jobs)
    assert all(sign.isascii() for sign in ASCII.states.values())
