"""Handing over: an engine that goes on in the background, without a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gpuscale_tui.store.home import Home, private_opener


def start_background(home: Home, *, config: Path | None, exit_when_idle: bool) -> int:
    """Start `gpuscale --autopilot` in a session of its own, its output in the home's `engine.log`; returns its pid."""
    home.ensure()
    command = [sys.executable, "-m", "gpuscale_tui", "--autopilot", "--home", str(home.path)]
    if config is not None:
        command += ["--config", str(config)]
    if exit_when_idle:
        command.append("--exit-when-idle")
    with open(home.engine_log, "ab", opener=private_opener) as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
            env=os.environ.copy(),
        )  # fmt: skip
    return process.pid
