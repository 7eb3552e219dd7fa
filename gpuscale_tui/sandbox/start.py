"""What must be settled before a sandbox exists: are its options sound, where does it write, what marks it."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from gpuscale_tui.sandbox.clock import wall_clock
from gpuscale_tui.sandbox.faults import FaultBoard, load_file
from gpuscale_tui.sandbox.options import Options


class StartError(Exception):
    """The sandbox cannot start; the message says why."""


def new_mark() -> str:
    """A word that no other process on this computer carries."""
    return secrets.token_hex(8)


def new_root(options: Options) -> Path:
    """The directory for machines. Raises ValueError when a given one has something in it."""
    if options.root is None:
        return Path(tempfile.mkdtemp(prefix="gpuscale-sandbox-"))
    root = options.root.absolute()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise ValueError(f"{root} is not empty; the sandbox removes its directory at the end")
    return root


def check(options: Options) -> None:
    """Refuse wrong faults before anything starts. Raises ValueError or OSError that says what is wrong."""
    board = FaultBoard(wall_clock)
    for text in options.faults:
        board.set_text(text)
    if options.faults_file is not None:
        board.replace_source(load_file(options.faults_file), "file")
