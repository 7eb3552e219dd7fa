"""The demonstration, whole: six models trained on rented machines, one machine lost on the way, nothing left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT_SEC = 420


def processes_with(text: str) -> list[str]:
    """Command lines of living processes that contain a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        if text in line:
            found.append(line)
    return found


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_SEC + 30)
@pytest.mark.xdist_group("demo")
def test_the_demonstration(tmp_path: Path) -> None:
    """Six jobs done, one of them resumed on a second machine, our books equal to the bill, no order, no process."""
    places = tmp_path / "tmp"
    places.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "gpuscale_tui", "demo", "--autopilot"],
        capture_output=True, text=True, timeout=LIMIT_SEC, env={"PATH": os.environ["PATH"], "TMPDIR": str(places)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = done.stdout.splitlines()
    assert len([line for line in told if re.match(r"j[1-6] .*: done, ", line)]) == 6
    assert [line for line in told if "resumed on w" in line]
    assert [line for line in told if "marketplace's own bill" in line and "the same to the cent" in line]
    assert "0 orders left" in told
    assert list(places.iterdir()) == []
    assert processes_with(str(places)) == []
