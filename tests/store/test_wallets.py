"""What is left to pay with: reckoned between two readings, and what it does not pay for."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.store import wallets
from gpuscale_tui.store.wallets import Wallet
from gpuscale_tui.tui.cost_lines import wallet_lines
from gpuscale_tui.tui.format import UNICODE
from gpuscale_tui.tui.look import Look
from tests.store.support import DOLLAR, HOUR, T0, Bench, offer


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "db")


def the_wallet(bench: Bench, now: int = T0) -> Wallet:
    (found,) = bench.read(wallets.wallets, now)
    return found


def test_what_is_left_shrinks_with_the_rate_until_it_is_read_again(bench: Bench) -> None:
    bench.worker_in(WorkerState.BUSY)  # a dollar an hour
    bench.write(wallets.record, "clore", "USD-Blockchain", 5 * DOLLAR, T0)
    assert (the_wallet(bench).left, the_wallet(bench).hours) == (5 * DOLLAR, 5.0)
    assert the_wallet(bench, T0 + HOUR).left == 4 * DOLLAR
    assert the_wallet(bench, T0 + 99 * HOUR).left == 0
    bench.write(wallets.record, "clore", "USD-Blockchain", 7 * DOLLAR, T0 + HOUR)
    assert the_wallet(bench, T0 + HOUR).left == 7 * DOLLAR


def test_nothing_rented_lasts_for_ever(bench: Bench) -> None:
    bench.write(wallets.record, "clore", "USD-Blockchain", 0, T0)
    assert the_wallet(bench).hours is None


def test_the_machines_of_other_providers_cost_another_wallet(bench: Bench) -> None:
    bench.worker_in(WorkerState.BUSY)
    bench.write(wallets.record, "elsewhere", "purse", DOLLAR, T0)
    assert the_wallet(bench).rate == 0


def test_a_wallet_that_is_used_no_more_is_forgotten(bench: Bench) -> None:
    bench.write(wallets.record, "clore", "USD-Blockchain", 0, T0)
    bench.write(wallets.forget_others, ["clore", "ssh"])
    assert the_wallet(bench).provider == "clore"
    bench.write(wallets.forget_others, [])
    assert bench.read(wallets.wallets, T0) == []


@pytest.mark.parametrize(
    ("left", "age_ms", "short"),
    [(1_999_999, 0, True), (2_000_000, 0, False), (0, wallets.STALE_MS, True), (0, wallets.STALE_MS + 1, False)],
)
def test_one_hour_of_it_and_of_what_is_rented_must_be_paid(bench: Bench, left: int, age_ms: int, short: bool) -> None:
    bench.worker_in(WorkerState.BUSY)
    bench.write(wallets.record, "clore", "USD-Blockchain", left, T0)
    why = bench.read(wallets.shortage, offer(), T0 + age_ms)
    assert (why is not None) == short
    assert why is None or "USD-Blockchain" in why


def test_an_unread_wallet_forbids_nothing(bench: Bench) -> None:
    assert bench.read(wallets.shortage, offer(), T0) is None


@given(
    st.integers(0, 10**12), st.integers(0, 10**9), st.integers(20, 200), st.text(max_size=40),
    st.none() | st.integers(0, 10),
)  # fmt: skip
def test_the_line_on_the_screen_fits_whatever_the_wallet_is_called(
    left: int, rate: int, width: int, name: str, low: int | None
) -> None:
    (line,) = wallet_lines((Wallet("clore", name, left, T0, left, rate, low),), Look({}, UNICODE), width)
    texts = [text for text, _ in line]
    assert "wallet" in texts[0]
    assert not any(unicodedata.category(letter) == "Cc" for text in texts for letter in text)
    assert ("  low" in texts) == (low is not None)
    assert width < 80 or sum(map(len, texts)) <= width
