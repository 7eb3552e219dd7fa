"""The command line: verbs that read the store and act through the engine's commands, without network or waiting."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command line and end the process with its exit code."""
    from gpuscale_tui.cli.root import root

    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # names may hold letters that this terminal's encoding lacks
            reconfigure(errors="replace")
    root.main(prog_name="gpuscale")
