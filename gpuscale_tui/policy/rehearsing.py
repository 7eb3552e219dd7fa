"""Whether a job that was moved on purpose went on where it was, judged by what its output told before and after."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpuscale_tui.model.durations import format_duration
from gpuscale_tui.model.money import HOUR_MS, format_usd
from gpuscale_tui.policy.output import OutputParser
from gpuscale_tui.policy.output.tracking import Tracker

LEARNT = 0.2
"""Only a loss that has fallen by more than this part of the first one says whether the weights came back."""
PATIENCE = 20
"""After so many further steps without a loss none is waited for."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One line of output: a step of the whole run (or an epoch), and the loss that stood there, if one did."""

    place: int
    loss: float | None


@dataclass(frozen=True, slots=True)
class Told:
    """What an attempt's output tells of where it is: steps of the whole run, and epochs."""

    steps: tuple[Mark, ...] = ()
    epochs: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found, in words."""

    ok: bool
    text: str


def told(lines: Iterable[str]) -> Told:
    """Read lines of output for steps, epochs and losses."""
    parser, tracker = OutputParser(), Tracker()
    steps, epochs = list[Mark](), list[Mark]()
    for number, line in enumerate(lines):
        reading = parser.feed(line)
        if reading is None:
            continue
        step, loss = tracker.take(reading, number), reading.values.get("loss")
        if step is not None and (reading.step is not None or loss is not None):
            steps.append(Mark(step, loss))
        if reading.epoch is not None and math.isfinite(reading.epoch):
            epochs.append(Mark(int(reading.epoch), loss))
    return Told(tuple(steps), tuple(epochs))


def comparable(before: Told, after: Told) -> tuple[str, Sequence[Mark], Sequence[Mark]]:
    """By what the two can be compared, `step` or `epoch`, with the marks of both; nothing where they tell nothing."""
    if before.steps:
        return "step", before.steps, after.steps
    return "epoch", before.epochs, after.epochs


def is_enough(before: Sequence[Mark], after: Sequence[Mark]) -> bool:
    """Whether what came after says enough to be compared: a place, and a loss where one was told before."""
    if not after:
        return False
    wants_loss = any(mark.loss is not None for mark in before)
    has_loss = any(mark.loss is not None for mark in after)
    return has_loss or not wants_loss or after[-1].place >= after[0].place + PATIENCE


def compare(unit: str, before: Sequence[Mark], after: Sequence[Mark], saved: int | None) -> Compared:
    """Compare the places and losses that were told before a move with those after it (each at least one). `saved` is
    what the output had told when the snapshot was taken: what its files hold may be a little older."""
    begun, went_on = before[0].place, after[0].place
    source = "its snapshot" if saved is None else f"the snapshot at {unit} {saved}"
    if went_on <= begun and before[-1].place > begun and (saved is None or saved > begun):
        said = f"it began at {unit} {went_on}, as it had before, and not from {source}"
        return Compared(False, f"{said}: does the command load CHECKPOINT_DIR when GPUSCALE_RESUME_FROM is set?")
    again = before[-1].place - went_on
    repeated = f", {again} {unit if again == 1 else unit + 's'} done again" if again > 0 else ""
    ok, losses = _losses(before, after, went_on)
    if saved is not None and went_on > saved + 1:  # output is read a little later than it is printed
        source = f"its snapshot, taken after {unit} {saved}"
    return Compared(ok, f"went on at {unit} {went_on} from {source}{losses}{repeated}")


def _losses(before: Sequence[Mark], after: Sequence[Mark], place: int) -> tuple[bool, str]:
    """Whether the loss after a resume is nearer to that before it than to the one at the start; the words for it."""
    told_before = [mark for mark in before if mark.loss is not None]
    earlier = [mark.loss for mark in told_before if mark.place <= place]
    new = next((mark.loss for mark in after if mark.loss is not None), None)
    if not earlier or earlier[-1] is None or earlier[0] is None or new is None:
        return True, ""
    first, old = earlier[0], earlier[-1]
    words = f", loss {new:.4g} after {old:.4g}"
    if math.isnan(new) and not math.isnan(old):
        return False, words
    fallen = first - old
    if fallen > LEARNT * abs(first) and new - old > fallen / 2:
        return False, f"{words}, near the {first:.4g} of its start: its count came back, its weights did not"
    return True, words


def lost_words(ms: int, rate: int) -> str:
    """`48s and $0.01 lost`: what a move took, on a machine at micro-dollars an hour."""
    cost = ms * rate // HOUR_MS
    money = "under $0.0001" if 0 < cost < 100 else format_usd(cost, 4 if 0 < cost < 10_000 else 2)
    return f"{format_duration(round(ms / 1000))} and {money} lost"
