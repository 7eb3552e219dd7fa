"""Durations: what is read, what is refused, and that what is printed is read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.model.durations import format_duration, parse_duration
from gpuscale_tui.model.errors import FieldError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("90m", 5400), ("2h", 7200), ("1.5h", 5400), ("1h30m", 5400), ("2d", 172_800), ("1w", 604_800),
     ("3600", 3600), (" 2 H ", 7200), ("1h 30m 5s", 5405)],
)  # fmt: skip
def test_durations_are_read(text: str, seconds: int) -> None:
    """Units may be joined, fractions are allowed, a bare number is seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "2x", "-1h", "0s", "0.1s", "1h30", "1e3s", "٣h", "2h\x00", "nan"])
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    """The error carries the caller's field name and an example."""
    with pytest.raises(FieldError, match="90m") as refused:
        parse_duration(text, "max_runtime")
    assert refused.value.field == "max_runtime"


@given(st.integers(min_value=1, max_value=10**9))
def test_what_is_printed_is_read_back(seconds: int) -> None:
    """format_duration and parse_duration are inverse to each other."""
    assert parse_duration(format_duration(seconds)) == seconds
