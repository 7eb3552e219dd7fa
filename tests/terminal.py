"""The real program in a real terminal: tmux on a socket of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE_SEC = 90.0
"""How long anything may take that is certain to come: machines stall, and a test is no stop-watch."""


def tmux_missing() -> str | None:
    """Why no terminal can be had here, None when it can."""
    return None if shutil.which("tmux") else "tmux is not installed (apt-get install tmux)"


@dataclass(frozen=True, slots=True)
class Terminal:
    """One pane."""

    socket: Path

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", str(self.socket), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_SEC).stdout

    def screen(self) -> str:
        """What the pane shows."""
        return self._tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        """Send keys by tmux's names."""
        self._tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        """Send a text as it is."""
        self._tmux("send-keys", "-l", text)

    def wait_for(self, text: str, seconds: float = PATIENCE_SEC) -> str:
        """Wait until the pane shows a text; returns all it shows then."""
        deadline = time.monotonic() + seconds
        while text not in (shown := self.screen()):
            assert time.monotonic() < deadline, f"{text!r} did not appear:\n{shown}"
            time.sleep(0.05)
        return shown

    def resize(self, width: int, height: int) -> None:
        """Change the terminal's size."""
        self._tmux("resize-window", "-x", str(width), "-y", str(height))


@contextmanager
def terminal(
    tmp_path: Path, command: list[str], environ: Mapping[str, str], *, width: int = 80, height: int = 24
) -> Iterator[Terminal]:
    """Run a command in a terminal of this size; when it ends the pane says `exit N`."""
    socket = tmp_path / "tmux"
    pane = Terminal(socket)
    line = f"{shlex.join(command)}; echo exit $?; exec sleep 1000"
    start = ["tmux", "-S", str(socket), "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height)]
    subprocess.run([*start, "sh", "-c", line], check=True, env={**os.environ, **environ}, timeout=PATIENCE_SEC)
    try:
        yield pane
    finally:
        subprocess.run(["tmux", "-S", str(socket), "kill-server"], check=False, timeout=PATIENCE_SEC)
