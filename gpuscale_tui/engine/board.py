"""What jobs and machines said last, between those who hear it and those who store it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpuscale_tui.store.progress import JobProgress, Usage


@dataclass(slots=True)
class Board:
    """News wait here until they are stored, all together. `steps` are by job: attempt and step of the whole run."""

    progress: dict[int, JobProgress] = field(default_factory=dict)
    usage: dict[int, Usage] = field(default_factory=dict)
    steps: dict[int, tuple[int, int]] = field(default_factory=dict)

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
