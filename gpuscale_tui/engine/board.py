"""What jobs and machines said last, between those who hear it and those who store it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from gpuscale_tui.store.progress import JobProgress, Usage

KEPT = 48
"""So many of the last things that a job said are remembered, a few seconds apart."""
APART_MS = 2_000


@dataclass(frozen=True, slots=True)
class Word:
    """What a job's output said at a time (UTC ms), as far as it did."""

    at: int
    step: int | None = None
    epoch: float | None = None
    loss: float | None = None


@dataclass(slots=True)
class Heard:
    """The last words of an attempt, oldest first."""

    attempt: int
    words: deque[Word] = field(default_factory=lambda: deque(maxlen=KEPT))


@dataclass(slots=True)
class Board:
    """News wait here until they are stored, all together. `steps` are by job: attempt and step of the whole run.
    `heard`: what each job said last, by job. `first_steps`: the first step that an attempt told, until it is stored."""

    progress: dict[int, JobProgress] = field(default_factory=dict)
    usage: dict[int, Usage] = field(default_factory=dict)
    steps: dict[int, tuple[int, int]] = field(default_factory=dict)
    heard: dict[int, Heard] = field(default_factory=dict)
    first_steps: dict[tuple[int, int], int] = field(default_factory=dict)

    def take(self) -> tuple[list[JobProgress], list[Usage]]:
        """The news, which are none any more."""
        found = list(self.progress.values()), list(self.usage.values())
        self.progress.clear()
        self.usage.clear()
        return found

    def put_back(self, jobs: list[JobProgress], machines: list[Usage]) -> None:
        """They could not be stored: unless there are newer ones they are news again."""
        self.progress = {each.job_id: each for each in jobs} | self.progress
        self.usage = {each.worker_id: each for each in machines} | self.usage

    def step_of(self, job_id: int, attempt: int) -> int | None:
        """How far an attempt is by its own output; None where it does not say."""
        number, step = self.steps.get(job_id, (0, 0))
        return step if number == attempt else None

    def hear(self, job_id: int, attempt: int, word: Word) -> None:
        """Remember what an attempt said; of what comes in quick succession the last."""
        heard = self.heard.get(job_id)
        if heard is None or heard.attempt != attempt:
            heard = self.heard[job_id] = Heard(attempt)
        if heard.words:  # what it does not tell again stays as it was
            last = heard.words[-1]
            word = Word(
                word.at, last.step if word.step is None else word.step,
                last.epoch if word.epoch is None else word.epoch, last.loss if word.loss is None else word.loss,
            )  # fmt: skip
        if len(heard.words) > 1 and word.at - heard.words[-2].at < APART_MS:
            heard.words.pop()
        heard.words.append(word)

    def said_by(self, job_id: int, attempt: int, at: int | None = None) -> Word | None:
        """What an attempt had said until then (UTC ms), or last of all; None where it had said nothing."""
        heard = self.heard.get(job_id)
        if heard is None or heard.attempt != attempt:
            return None
        return next((word for word in reversed(heard.words) if at is None or word.at <= at), None)

    def forget(self, job_id: int, attempt: int) -> None:
        """The attempt has ended."""
        heard = self.heard.get(job_id)
        if heard is not None and heard.attempt == attempt:
            del self.heard[job_id]
