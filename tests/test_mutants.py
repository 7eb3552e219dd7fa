"""The table of mutants fits the code: each of its texts stands there once, each of its tests exists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts" / "mutants.py"


def test_the_table_of_mutants_fits_the_code() -> None:
    """`make mutants` plants them all; this keeps the table from rotting meanwhile."""
    told = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, timeout=120, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
