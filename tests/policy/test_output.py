"""Output: what lines of trainers say is read, and nothing is read from noise."""

from __future__ import annotations

import math
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.policy.output import OutputParser, Reading, classify
from gpuscale_tui.policy.output.reading import LONGEST_LINE, LONGEST_NAME, MOST_VALUES
from gpuscale_tui.policy.output.tracking import Tracker
from tests.policy.output_lines import SAYS, SILENT

FEWEST_LINES = 150


def read(line: str, before: str = "") -> Reading | None:
    parser = OutputParser()
    if before:
        parser.feed(before)
    return parser.feed(line)


def everything(reading: Reading) -> dict[str, float]:
    """All that a reading has, by name."""
    places = {"step": reading.step, "steps": reading.steps, "epoch": reading.epoch, "epochs": reading.epochs}
    return {**reading.values, **{name: value for name, value in places.items() if value is not None}}


@pytest.mark.parametrize(("before", "line", "wanted"), SAYS, ids=[line[:40] for _, line, _ in SAYS])
def test_what_a_line_says_is_read(before: str, line: str, wanted: dict[str, float]) -> None:
    """Each figure with its right meaning."""
    reading = read(line, before)
    assert reading is not None
    found = everything(reading)
    for name, value in wanted.items():
        assert name in found, f"{name} is missing in {found}"
        assert found[name] == pytest.approx(value, rel=1e-6, nan_ok=True)
    judged = {"loss", "val_loss", "accuracy", "val_accuracy", "lr", "epoch", "epochs"}
    assert set(found) & judged <= set(wanted), "more than the line says"


def test_noise_says_nothing() -> None:
    """Not one false value."""
    assert [(line, everything(found)) for line in SILENT if (found := read(line)) is not None] == []


def test_the_corpus_is_large_and_half_of_it_is_noise() -> None:
    """A few lines prove little."""
    assert len(SAYS) + len(SILENT) >= FEWEST_LINES
    assert len(SILENT) >= len(SAYS)


def test_a_parser_that_has_seen_everything_reads_as_a_fresh_one_does() -> None:
    """What came before changes no value of a line that stands by itself."""
    parser = OutputParser()
    for line in chain(SILENT, (line for _, line, _ in SAYS)):
        parser.feed(line)
    alone = [line for before, line, _ in SAYS if not before]
    for line in alone:
        late, fresh = parser.feed(line), read(line)
        assert late is not None
        assert fresh is not None
        assert late.values.keys() == fresh.values.keys()
    assert [line for line in SILENT if parser.feed(line) is not None] == []


@given(st.text(max_size=300) | st.lists(st.sampled_from([line for _, line, _ in SAYS] + list(SILENT))).map("".join))
def test_whatever_comes_is_taken(line: str) -> None:
    """No line breaks the parser, and what it finds is bounded."""
    reading = read(line)
    assert classify(line) in {"error", "warning", "metric", "epoch", ""}
    if reading is not None:
        assert len(reading.values) <= MOST_VALUES + 4
        assert all(0 < len(name) <= LONGEST_NAME and name.isprintable() for name in reading.values)
        assert reading.step is None or reading.step >= 0


@given(
    st.text(
        alphabet=st.characters(blacklist_characters="0123456789", blacklist_categories=("Nd", "Nl", "No")), max_size=200
    )
)
def test_without_digits_there_is_no_step(line: str) -> None:
    """Words alone are no figures."""
    reading = read(line)
    assert reading is None or (reading.step is None and reading.epoch is None)


@given(
    st.integers(0, 10**9),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(abs),
    st.sampled_from(("step {} loss {}", "iter {}: loss {}", "step={} loss={}", '{{"step": {}, "loss": {}}}')),
)
def test_numbers_come_through_as_they_are_printed(step: int, loss: float, layout: str) -> None:
    """Exponents, zeros and large values too."""
    reading = read(layout.format(step, repr(loss)))
    assert reading is not None
    assert (reading.step, reading.values["loss"]) == (step, loss)


@pytest.mark.parametrize(
    "unit", ["a", "a ", "1 ", "loss: ", "[1/", "%|", "{", '{"a":', "\x1b[", "1/1 [==", "a.b/", "epoch 1 "]
)
def test_a_line_of_any_length_is_cut(unit: str) -> None:
    """Of a hostile line only the beginning counts, and it comes to an end."""
    line = "loss 1 " + unit * 100_000
    assert read(line) == read(line[: 4 * LONGEST_LINE])
    assert classify(line) == classify(line[: 4 * LONGEST_LINE])


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Traceback (most recent call last):", "error"),
        ("RuntimeError: CUDA error: device-side assert triggered", "error"),
        ("[rank0] ERROR something broke", "error"),
        ("sh: 1: nvcc: command not found", "error"),
        ("/x.py:3: UserWarning: old thing", "warning"),
        ("2024-05-01 10:00:00 WARNING slow disk", "warning"),
        ("Epoch 3/10", "epoch"),
        ("step 3 loss 0.5", "metric"),
        ("step 3 error 0.5 loss 0.1", "metric"),
        ("0 errors, 0 warnings", ""),
        ("hello", ""),
    ],
)
def test_kinds_of_lines(line: str, kind: str) -> None:
    """For those who look through a log."""
    assert classify(line) == kind


# How far a job is.


def track(lines: list[str], every_ms: int = 2_000) -> Tracker:
    parser, tracker = OutputParser(), Tracker()
    for number, line in enumerate(lines):
        reading = parser.feed(line)
        if reading is not None:
            tracker.take(reading, number * every_ms)
    return tracker


def test_steps_of_the_whole_run() -> None:
    """Fraction, speed and time left from step and total."""
    known = track([f"epoch {1 + step // 20}/5 step {step}/100 loss 1.5" for step in range(0, 51, 10)]).known()
    assert known is not None
    assert (known.step, known.steps, known.fraction, known.loss) == (50, 100, 0.5, 1.5)
    assert known.speed == pytest.approx(5.0)
    assert known.eta_ms == pytest.approx(10_000, rel=0.01)


def test_the_last_epoch_may_be_short() -> None:
    """Steps of the whole run stay that when they fill the last epoch only half."""
    tracker = track([f"epoch {1 + step // 500}/6 step {step}/2800 loss 1.5" for step in range(25, 2801, 25)])
    assert tracker.run_step == 2800
    known = tracker.known()
    assert known is not None
    assert known.fraction == 1.0


def test_steps_of_an_epoch_that_are_named_steps() -> None:
    """`Epoch [1/5], Step [600/600]` cannot count the whole run, nor can steps that begin anew."""
    lines = [f"Epoch [{epoch}/5], Step [{step}/600], Loss: 0.5" for epoch in (1, 2) for step in (100, 300, 600)]
    known = track(lines).known()
    assert known is not None
    assert known.fraction == 0.4


def test_steps_of_each_epoch() -> None:
    """Keras and Lightning count anew in every epoch."""
    lines = [
        line
        for epoch in (1, 2)
        for line in (f"Epoch {epoch}/4", *(f"{step}/100 [==>..] - ETA: 1s - loss: 0.5" for step in (20, 60, 100)))
    ]
    tracker = track(lines)
    known = tracker.known()
    assert known is not None
    assert (known.epoch, known.step, known.fraction) == (2, 100, 0.5)
    assert tracker.run_step == 200


def test_the_first_epoch_may_be_called_zero() -> None:
    """As Lightning does."""
    bar = "Epoch {}:  50%|####| {}/100 [00:01<00:01, 50.00it/s, loss=0.5]"
    assert track([bar.format(0, 50), bar.format(1, 50)]).run_step == 150


def test_epochs_that_are_not_known_make_no_fraction() -> None:
    """A bar that begins anew is one of an epoch, of how many nobody says."""
    bar = " 50%|####| {}/100 [00:01<00:01, 50.00it/s, loss=0.5]"
    tracker = track([bar.format(50), bar.format(100), bar.format(1), bar.format(30)])
    known = tracker.known()
    assert known is not None
    assert (known.fraction, known.eta_ms, tracker.run_step) == (None, None, 130)


def test_other_bars_in_between_are_passed_over() -> None:
    """An evaluation's eight batches are not the training's steps."""
    train = " 10%|####| {}/1000 [00:01<00:01, 50.00it/s]"
    other = " 50%|####| 4/8 [00:00<00:00, 50.00it/s]"
    assert track([train.format(100), other, train.format(101), other]).run_step == 101
    assert track([train.format(100), "Evaluating: 50%|##| 4/8 [00:00<00:00, 9.00it/s]"]).run_step == 100


def test_a_pause_sways_neither_speed_nor_time_left() -> None:
    """Checkpoints and evaluations stop the steps for a while."""
    parser, tracker, at = OutputParser(), Tracker(), 0
    for step in range(0, 210, 10):
        at += 60_000 if step == 100 else 1_000
        reading = parser.feed(f"step {step}/1000 loss 0.5")
        assert reading is not None
        tracker.take(reading, at)
    known = tracker.known()
    assert known is not None
    assert known.speed is not None
    assert 5.0 <= known.speed <= 10.0


@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 50), st.integers(0, 10**7)), max_size=40
    )
)
def test_whatever_is_said_progress_stays_sane(said: list[tuple[int, int, int, int]]) -> None:
    """Fractions between 0 and 1, no negative times, no nan."""
    tracker = Tracker()
    for step, steps, epoch, at in said:
        tracker.take(Reading(step, steps or None, float(epoch), 10, {"loss": 1.0}), at)
        known = tracker.known()
        assert known is not None
        assert known.fraction is None or 0.0 <= known.fraction <= 1.0
        assert known.eta_ms is None or known.eta_ms >= 0
        assert known.speed is None or math.isfinite(known.speed)
