"""What the measurements share: rows and notes, medians, an environment in which Python starts as it does for a user."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Row = tuple[str, float, str, str, float | None]
"""What was measured, its value and unit, and the name and value of a peer or limit (None where there is none)."""
Outcome = Row | str
"""A figure, or a sentence about one that could not be measured here."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured: `live` jobs that are killed or watched, all of it `quick` for a first look."""

    live: int = 100
    quick: bool = False

    def runs(self, count: int) -> int:
        """How often something is measured."""
        return max(1, count // 4) if self.quick else count


def clean_environ() -> dict[str, str]:
    """The environment of a user whose Python keeps compiled modules; nothing of this run's settings."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GPUSCALE_")}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return environ


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def in_turns(count: int, actions: Sequence[Callable[[], float]]) -> list[list[float]]:
    """So many values of each action, taken in turns: what else this computer does slows all alike."""
    values: list[list[float]] = [[] for _ in actions]
    for _ in range(count):
        for kept, action in zip(values, actions, strict=True):
            kept.append(action())
    return values


def median(values: Iterable[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def wait_until(done: Callable[[], object], *, within_sec: float, what: str, look_sec: float = 0.01) -> None:
    """Wait for a condition; TimeoutError when it does not come true in time."""
    deadline = time.monotonic() + within_sec
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} took longer than {within_sec:g} s")
        time.sleep(look_sec)


@contextmanager
def processor_time(pid: int) -> Iterator[Callable[[], float]]:
    """Seconds of processor time that a process has used since the start of the block."""
    begin = _used(pid)
    yield lambda: _used(pid) - begin


def _used(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> dict[str, float]:
    """`VmRSS` (now) and `VmHWM` (at most so far) of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    found = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM")))
    return {name: int(value.split()[0]) / 1024 for name, value in found.items()}
