"""Lives drawn from seeds: faults, kills, stops and users first, then none, and everything must come right.

Each group of seeds lives in a process of its own, for what a killed engine leaves is never given back. A seed that
fails here is lived through again, with its history, by the command that the failure shows.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOURS, SLOWNESS = 1.5, 120.0
GROUPS, SEEDS = 4, 25


@pytest.mark.parametrize("group", range(GROUPS))
def test_whatever_happens_everything_comes_right(group: int) -> None:
    """I1 to I6 and I8 to I10 hold at every commit of every life, and at its end."""
    size = ["--hours", str(HOURS), "--slowness", str(SLOWNESS)]
    command = [sys.executable, "-m", "tests.sim.campaign", "--seeds", str(SEEDS), "--processes", "1", *size]
    first = group * SEEDS
    done = subprocess.run(
        [*command, "--first", str(first)], cwd=ROOT, capture_output=True, text=True, timeout=220
    )  # fmt: skip
    again = f"python -m tests.sim.campaign {' '.join(size)} --seed N"
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}\nlived through again by: {again}"
    assert f"{SEEDS} worlds" in done.stdout
