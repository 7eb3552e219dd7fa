"""How far a job is, from the readings of its output one after the other: fraction done, speed, time left.

Trainers count in their own ways: steps of the whole run or of each epoch, from zero or from one, with a bar for
training and others in between. What cannot be told stays unknown.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from gpuscale_tui.policy.output.reading import Reading

SAMPLES = 24
"""The speed is the median over so many samples: a pause for a checkpoint or a burst does not sway it."""
SPREAD = 5
"""Slopes are taken over a fifth of them: long enough to be exact, short enough that a pause spoils only a few."""
SAMPLES_APART_MS = 1_000
LEAST_SPAN_MS = 3_000
SIDE_BAR_MS = 600_000
"""A bar with a smaller total than the training's is another one's for so long."""
LONGEST_ETA_MS = 10 * 365 * 86_400_000
SLACK = 0.02


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a job's progress; None where nothing is. See `store.progress.JobProgress`."""

    at: int
    step: int | None
    steps: int | None
    epoch: float | None
    epochs: int | None
    fraction: float | None
    loss: float | None
    speed: float | None
    eta_ms: int | None


class Tracker:
    """Takes in the readings of one attempt. `run_step` is the newest step counted over the whole run, `first_step` the
    first that was told."""

    def __init__(self) -> None:
        self.run_step: int | None = None
        self.first_step: int | None = None
        self._at: int | None = None
        self._step: int | None = None
        self._steps: int | None = None
        self._stepped_at = 0
        self._epoch: float | None = None
        self._epochs: int | None = None
        self._first_epoch = 1.0
        self._by_epoch = False
        self._passes = 0
        self._loss: float | None = None
        self._told: float | None = None
        self._samples: deque[tuple[int, int, float | None]] = deque(maxlen=SAMPLES)

    def take(self, reading: Reading, at: int) -> int | None:
        """Take in one reading of time `at` (UTC ms); returns the step of the whole run that it belongs to, if known."""
        if reading.phase == "eval" or self._is_side(reading, at):
            return self.run_step
        self._at = at
        self._loss = reading.values.get("loss", self._loss)
        self._told = reading.values.get("it_per_s", self._told)
        self._take_epoch(reading)
        if reading.steps is not None and reading.step is None:
            self._steps = reading.steps
        if reading.step is not None:
            self._take_step(reading, reading.step, at)
        self._sample(at)
        return self.run_step

    def known(self) -> Known | None:
        """All that is known now; None before anything was said."""
        if self._at is None:
            return None
        fraction, (speed, growth) = self._fraction(), self._slopes()
        speed = speed if speed is not None else self._told
        return Known(
            self._at, self._step, self._steps, self._epoch, self._epochs, fraction, self._loss,
            speed if speed is None or math.isfinite(speed) else None, self._eta(fraction, growth, speed),
        )  # fmt: skip

    def _is_side(self, reading: Reading, at: int) -> bool:
        """Whether it is a bar of something else beside the training: smaller, without a loss, in between."""
        if reading.kind != "progress" or reading.steps is None or self._steps is None or reading.scope == "run":
            return False
        return reading.steps < self._steps and at - self._stepped_at < SIDE_BAR_MS

    def _take_epoch(self, reading: Reading) -> None:
        self._epochs = reading.epochs or self._epochs
        if reading.epoch is None or not math.isfinite(reading.epoch):
            return
        if reading.epoch < 1 and reading.epoch == int(reading.epoch):
            self._first_epoch = 0.0
        if self._epoch is not None and reading.epoch != self._epoch and reading.scope == "epoch":
            self._by_epoch = True
        self._epoch = reading.epoch

    def _take_step(self, reading: Reading, step: int, at: int) -> None:
        before, same = self._step, reading.steps is None or reading.steps == self._steps
        if reading.steps is not None:
            self._steps = reading.steps
        elif self._steps is not None and step > self._steps:
            self._steps = None  # that total was another count's
        if reading.scope == "epoch" or self._is_beyond_epoch(step):
            self._by_epoch = True
        elif before is not None and step < before / 2 and same and self._steps is not None:
            self._by_epoch = True  # it began anew
            self._passes += self._epoch is None
        self._step, self._stepped_at = step, at
        self.run_step = self._over_run(step)
        if self.first_step is None:
            self.first_step = self.run_step

    def _is_beyond_epoch(self, step: int) -> bool:
        """Whether the step cannot be one of the whole run, given which epoch of how many it is. The last epoch may be
        a short one."""
        if not self._epochs or not self._steps or self._epoch is None or self._epoch != int(self._epoch):
            return False
        done, index, slack = step / self._steps, self._index(), SLACK + 1 / self._steps
        return not (index / self._epochs - slack <= done <= (index + 1) / max(1, self._epochs - 1) + slack)

    def _index(self) -> float:
        """How many epochs are over."""
        return 0.0 if self._epoch is None else max(0.0, self._epoch - self._first_epoch)

    def _over_run(self, step: int) -> int:
        if not self._by_epoch or not self._steps:
            return step
        return int(self._index() if self._epoch is not None else self._passes) * self._steps + step

    def _fraction(self) -> float | None:
        within = self._step / self._steps if self._step is not None and self._steps else None
        if self._by_epoch:
            if not self._epochs or self._epoch is None:
                return None
            found = (int(self._index()) + (within or 0.0)) / self._epochs
        elif within is not None:
            found = within
        elif self._epochs and self._epoch is not None:
            whole = self._epoch == int(self._epoch) and self._first_epoch == 1.0
            found = (self._epoch - 1 if whole else self._epoch) / self._epochs
        else:
            return None
        return min(1.0, max(0.0, found))

    def _sample(self, at: int) -> None:
        if self.run_step is None:
            return
        if self._samples and (self.run_step < self._samples[-1][1] or at < self._samples[-1][0]):
            self._samples.clear()
        if not self._samples or at - self._samples[-1][0] >= SAMPLES_APART_MS:
            self._samples.append((at, self.run_step, self._fraction()))

    def _slopes(self) -> tuple[float | None, float | None]:
        """Steps and shares of the whole per second."""
        found = list(self._samples)
        if len(found) < 3 or found[-1][0] - found[0][0] < LEAST_SPAN_MS:
            return None, None
        speed = _slope([(at, float(step)) for at, step, _ in found])
        return speed, _slope([(at, share) for at, _, share in found if share is not None])

    def _eta(self, fraction: float | None, growth: float | None, speed: float | None) -> int | None:
        if fraction is None:
            return None
        if fraction >= 1.0:
            return 0
        if growth is None and speed and self._steps and not self._by_epoch:
            growth = speed / self._steps
        if not growth or not math.isfinite(growth) or growth <= 0:
            return None
        left = (1.0 - fraction) / growth * 1000
        return int(left) if left < LONGEST_ETA_MS else None


def _slope(samples: Sequence[tuple[int, float]]) -> float | None:
    """The median of slopes between samples, per second."""
    stride = max(1, len(samples) // SPREAD)
    slopes = [
        (later - earlier) / (until - since) * 1000
        for (since, earlier), (until, later) in zip(samples, samples[stride:], strict=False)
        if until > since
    ]
    return median(slopes) if slopes else None
