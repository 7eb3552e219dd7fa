"""The core is free of the screen, and the screen is free of what is slow to import until it has been seen."""

from __future__ import annotations

import subprocess
import sys

import pytest


def modules_after(statement: str) -> set[str]:
    """The modules that are there after a statement, in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import gpuscale_tui.engine.engine, gpuscale_tui.engine.autopilot, gpuscale_tui.pipeline",
        "import gpuscale_tui.store.queries, gpuscale_tui.config, gpuscale_tui.policy.scaling",
        "import gpuscale_tui.cli.root, gpuscale_tui.cli.queue, gpuscale_tui.cli.submit",
    ],
)
def test_nothing_below_the_screen_imports_textual(statement: str) -> None:
    """So `--autopilot` and the verbs never pay for it."""
    assert not {name for name in modules_after(statement) if name.split(".")[0] == "textual"}


def test_the_first_frame_needs_neither_network_nor_ssh() -> None:
    """httpx, asyncssh and the engine's services are imported by the engine's thread, after the first frame."""
    heavy = {"httpx", "asyncssh", "cryptography", "gpuscale_tui.engine.engine", "gpuscale_tui.remote.connection"}
    unwanted = {"textual.widgets._markdown", "textual.widgets._text_area", "textual.widgets._data_table"}
    found = modules_after("import gpuscale_tui.tui.run, gpuscale_tui.tui.screens.queue")
    assert "textual.app" in found
    assert not found & (heavy | unwanted)
