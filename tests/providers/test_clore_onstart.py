"""The start script, run by a real shell: who was called on stays, who was not ends itself."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from gpuscale_tui.providers.clore import onstart
from gpuscale_tui.providers.clore.onstart import start_script


def run(script: str, home: Path) -> None:
    """Run it to its end: what it left in the background holds the pipe until it is done."""
    assert "exec ./.poweroff" in script, "without it this computer would be at stake"
    hook = home / ".poweroff"
    hook.write_text('#!/bin/sh\n: > "$HOME/off"\n')
    hook.chmod(0o700)
    environ = {"HOME": str(home), "PATH": os.defpath}
    subprocess.run(["/bin/sh", "-c", script], env=environ, check=True, timeout=60)


def seen(path: Path, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return path.exists()


def test_nobody_calls(tmp_path: Path) -> None:
    run(start_script(1), tmp_path)
    assert seen(tmp_path / "off")


def test_an_engine_has_been_there(tmp_path: Path) -> None:
    """The same script tells us when it has left: it is given a way to."""
    (tmp_path / ".gpuscale").mkdir()
    script = start_script(1).replace("called && exit 0", 'called && { : > "$HOME/left"; exit 0; }')
    run(script, tmp_path)
    assert seen(tmp_path / "left")
    assert not (tmp_path / "off").exists()


def test_without_a_lease_nothing_is_left_running() -> None:
    assert start_script(0) == onstart.NOTHING
    assert start_script(-1) == onstart.NOTHING


@pytest.mark.parametrize("seconds", [1, 59, 43_200])
def test_this_computer_itself_is_never_shut_down(seconds: int) -> None:
    """A machine on our own kernel has our boot id: everything beyond its own hook is behind that test."""
    script = start_script(seconds)
    guard = f'[ "$boot" = "{onstart.BOOT_ID.read_text().strip()}" ] && exit 0'
    assert guard in script
    assert script.rindex(guard) < script.index("poweroff\n  sleep 5") < script.index("kill -KILL -1")


def test_a_boot_id_that_is_no_such_thing_is_not_written_into_a_script(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    odd = tmp_path / "boot_id"
    odd.write_text('"; reboot; "')
    monkeypatch.setattr(onstart, "BOOT_ID", odd)
    assert "reboot" not in start_script(60).replace(str(odd), "")
