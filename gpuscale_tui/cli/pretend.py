"""The pretend marketplace as a process of its own: started, asked for its bill, ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from gpuscale_tui.model.errors import GpuscaleError

START_SEC = 30.0
END_SEC = 20.0
ASK_SEC = 10.0
LOSE_A_MACHINE = "evict_when_file=**/step-*.json,age=6,min_seconds=10"
"""The first machine that has held a checkpoint for six seconds is taken away: a job resumes on another one."""


@dataclass(slots=True)
class Marketplace:
    """A running sandbox. It keeps its machines below `root`, and removes `root` at its end.

    It ends when its stdin closes, hence with us, however we end. A context manager.
    """

    root: Path
    _process: subprocess.Popen[bytes] = field(init=False)
    _ready: dict[str, Any] = field(init=False)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gpuscale_tui.sandbox", "serve"),
                *("--root", str(self.root), "--nice", "10", "--fault", LOSE_A_MACHINE),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl+C reaches us only, and we end it in good order
        )
        try:
            self._ready = json.loads(self._first_line())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _first_line(self) -> bytes:
        """What it says once it is ready. Raises GpuscaleError."""
        assert self._process.stdout is not None
        deadline, line = time.monotonic() + START_SEC, b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise GpuscaleError(f"the sandbox did not start within {START_SEC:g} s")
            part = os.read(self._process.stdout.fileno(), 4096)
            if not part:
                raise GpuscaleError("the sandbox ended while it started; its own message stands above")
            line += part
        return line

    @property
    def url(self) -> str:
        """The address of its API."""
        return str(self._ready["url"])

    @property
    def api_key(self) -> str:
        """The key that its API takes."""
        return str(self._ready["api_key"])

    def bill(self) -> dict[str, Any]:
        """What it charged for everything, in its own reckoning. Raises GpuscaleError."""
        parts = urlsplit(str(self._ready["control_url"]))
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ASK_SEC)
        try:
            headers = {"x-sandbox-token": str(self._ready["control_token"]), "user-agent": "gpuscale-demo"}
            connection.request("GET", f"{parts.path}/bill", headers=headers)
            found: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise GpuscaleError(f"the sandbox does not tell its bill: {error}") from error
        finally:
            connection.close()
        return found

    def close(self) -> None:
        """End it, its machines and all that runs on them, and wait for that. Harmless to repeat."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            self._process.wait(END_SEC)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # its watchdog cleans up behind it
            self._process.wait(END_SEC)
