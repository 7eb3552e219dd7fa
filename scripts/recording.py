"""Record `gpuscale demo` as it runs: real program, real terminal, the sandbox's machines.

    python scripts/recording.py [DIRECTORY]

Writes demo.cast (asciicast version 2) and, where termtosvg is installed, demo.svg, an animated picture of it. Takes
some ninety seconds. Two runs are not alike: the program runs at its own pace, as it does for a user.
"""

from __future__ import annotations

import codecs
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.pseudo import Pty  # noqa: E402 - found in the checkout that this file lies in

COLUMNS, LINES = 110, 32
PATIENCE_SEC = 120.0
FRAME_MS = 250
"""Shortest time between two frames of the animated picture: it keeps the file small."""

SCENES: tuple[tuple[str, bytes, str, float], ...] = (
    ("six jobs wait, machines are rented", b"", "running", 3.0),
    ("the story of one job, its loss as it falls", b"j\r", "attempts over time", 9.0),
    ("its output", b"l", "loss", 4.0),
    ("the machines, and what they do", b"2", "DOES", 4.0),
    ("which did what when", b"t", "the machines did", 4.0),
    ("where the money goes, and when all is done", b"3", "productive", 4.0),
    ("the market as the engine ranks it", b"6", "VERDICT", 4.0),
    ("everything that happened", b"7", "WHAT", 3.0),
    ("only the jobs that run", b"1/", "filter", 0.5),
    ("", b"running\r", "match", 3.0),
    ("everything by name", b"\x1b\x10", "", 1.0),
    ("", b"costs", "", 2.5),
    ("", b"\x1b", "", 1.0),
    ("stop all spending", b"!", "Stop all spending", 4.0),
    ("", b"y", "$0.00/h", 5.0),
)
"""What is shown, the keys pressed for it, the words waited for, and seconds to look at it."""


@dataclass
class Recorder:
    """What the program wrote, and when: seconds since its start."""

    pty: Pty
    begun: float = field(default_factory=time.monotonic)
    events: list[tuple[float, str]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def look(self, seconds: float) -> None:
        """Record for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            part = self._decoder.decode(self.pty.read(left))
            if part:
                self.text += part
                self.events.append((time.monotonic() - self.begun, part))

    def wait_for(self, words: str) -> None:
        """Record until some words have come since the last keys."""
        deadline = time.monotonic() + PATIENCE_SEC
        while words not in self.text:
            if self.pty.over() or time.monotonic() > deadline:
                raise TimeoutError(f"the screen did not show {words!r}; it showed {self.text[-2000:]!r}")
            self.look(0.1)

    def press(self, keys: bytes) -> None:
        """Press keys one by one, as fingers do."""
        self.text = ""
        for key in keys:
            self.pty.send(bytes([key]))
            self.look(0.15)


def record() -> list[tuple[float, str]]:
    """Play the scenes; what was written."""
    pty = Pty(["demo"], columns=COLUMNS, lines=LINES, COLORTERM="truecolor")
    try:
        recorder = Recorder(pty)
        for title, keys, words, seconds in SCENES:
            if title:
                print(f"{time.monotonic() - recorder.begun:5.1f} s  {title}", flush=True)
            recorder.press(keys)
            recorder.wait_for(words)
            recorder.look(seconds)
        return recorder.events
    finally:
        pty.close()


def write_cast(path: Path, events: list[tuple[float, str]]) -> None:
    """The recording in asciicast version 2: a header, then one event a line."""
    header = {
        "version": 2,
        "width": COLUMNS,
        "height": LINES,
        "title": "gpuscale demo",
        "env": {"TERM": "xterm-256color"},
    }
    here = str(ROOT)
    shown = "~/gpuscale"[: len(here)].ljust(len(here))  # where this checkout lies is nobody's business
    lines = [json.dumps(header), *(json.dumps([round(at, 3), "o", part.replace(here, shown)]) for at, part in events)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Record, write the cast, and make the picture where that is possible."""
    directory = Path(arguments[0]) if arguments else ROOT / "screenshots"
    directory.mkdir(parents=True, exist_ok=True)
    cast = directory / "demo.cast"
    write_cast(cast, record())
    print(f"{cast}: {cast.stat().st_size / 1024:.0f} KiB")
    if find_spec("termtosvg") is None:
        print("termtosvg is not installed: no animated picture was made", file=sys.stderr)
        return 0
    picture = cast.with_suffix(".svg")
    command = [sys.executable, "-m", "termtosvg", "render", str(cast), str(picture), "-m", str(FRAME_MS), "-M", "4000"]
    subprocess.run([*command, "-t", "window_frame"], check=True)
    print(f"{picture}: {picture.stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
