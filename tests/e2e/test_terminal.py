"""The whole program in a real terminal, on the sandbox marketplace."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuscale_tui.engine.lock import running_engine
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.engines import engine
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.queries import job_rows
from gpuscale_tui.store.views import JobFilter
from tests.engine.conftest import until
from tests.marketplace import Sandbox, running_sandbox
from tests.terminal import Terminal, terminal, tmux_missing

pytestmark = [
    pytest.mark.tmux,
    pytest.mark.skipif(tmux_missing() is not None, reason=str(tmux_missing())),
    pytest.mark.xdist_group("terminal"),
]
SETTINGS = """
[scaler]
poll_interval_sec = 0.5
idle_timeout_sec = 3
max_hourly_budget = 2.0
shutdown_grace_sec = 20

[providers.clore]
enabled = true
base_url = "{url}"
request_interval_sec = 0.02
create_interval_sec = 0.1

[machines]
min_free_disk_gb = 0
min_download_mbps = 0

[ui]
banner = "SANDBOX: no money is spent."
"""


@contextmanager
def open_program(tmp_path: Path, sandbox: Sandbox, *, width: int = 80, height: int = 24) -> Iterator[Terminal]:
    """`gpuscale` in a terminal, its machines from the sandbox."""
    config = tmp_path / "config.toml"
    config.write_text(SETTINGS.format(url=sandbox.url))
    command = [sys.executable, "-m", "gpuscale_tui", "--home", str(tmp_path / "home"), "--config", str(config)]
    environ = {"CLORE_API_KEY": sandbox.api_key, "LC_ALL": "C.UTF-8", "TERM": "tmux-256color"}
    with terminal(tmp_path, command, environ, width=width, height=height) as pane:
        yield pane


def test_open_submit_by_the_form_watch_it_finish_quit(tmp_path: Path) -> None:
    """The first minutes of a new user, by keyboard alone."""
    with running_sandbox() as sandbox, open_program(tmp_path, sandbox) as pane:
        pane.wait_for("Nothing queued")
        pane.wait_for("no money is spent")
        pane.press("n")
        pane.wait_for("command")
        gate = tmp_path / "go"
        pane.type(f"echo begun $((6*7)); until [ -e {gate} ]; do sleep 0.1; done; echo over $((7*7))")
        pane.press("Tab")
        pane.type("first-job")
        pane.press("C-s")
        pane.wait_for("j1 in the queue")
        pane.wait_for("first-job")
        pane.wait_for("● running")
        pane.press("l")
        pane.wait_for("begun 42")
        gate.touch()
        pane.wait_for("over 49")
        pane.press("1")
        pane.wait_for("done")
        pane.wait_for(" 0 up")
        pane.press("q")
        pane.wait_for("exit 0")
        assert sandbox.live_orders() == []
    home = Home(tmp_path / "home")
    assert running_engine(home) is None
    with Database(home.database, readonly=True) as db:
        [job] = db.read(job_rows, JobFilter())
    assert (job.name, job.state, job.exit_code) == ("first-job", "done", 0)


def test_quitting_with_a_machine_rented_goes_on_in_the_background(tmp_path: Path) -> None:
    """The default answer: the screen goes, an engine without a terminal finishes the job and gives the machine back."""
    with running_sandbox() as sandbox, open_program(tmp_path, sandbox, width=120, height=40) as pane:
        pane.wait_for("Nothing queued")
        pane.press("n")
        pane.wait_for("command")
        gate = tmp_path / "go"
        pane.type(f"until [ -e {gate} ]; do sleep 0.1; done; echo end")
        pane.press("C-s")
        pane.wait_for("● running")
        pane.press("q")
        pane.wait_for("background")
        pane.press("Enter")
        pane.wait_for("exit 0")
        home = Home(tmp_path / "home")
        until(lambda: running_engine(home))
        gate.touch()
        with Database(home.database) as db:
            until(lambda: db.read(job_rows, JobFilter())[0].state == "done")
        until(lambda: not sandbox.live_orders())
        until(lambda: running_engine(home) is None)


def test_a_lost_terminal_hands_over_to_the_background(tmp_path: Path) -> None:
    """SIGHUP: jobs and guard rails go on without the screen."""
    with running_sandbox() as sandbox:
        with open_program(tmp_path, sandbox) as pane:
            pane.wait_for("Nothing queued")
            pane.press("n")
            pane.wait_for("command")
            gate = tmp_path / "go"
            pane.type(f"until [ -e {gate} ]; do sleep 0.1; done; echo end")
            pane.press("C-s")
            pane.wait_for("● running")
        home = Home(tmp_path / "home")
        with Database(home.database) as db:
            until(lambda: getattr(db.read(engine), "mode", "") == "autopilot")  # the one in the background
            gate.touch()
            until(lambda: db.read(job_rows, JobFilter())[0].state == "done")
            assert db.read(job_rows, JobFilter())[0].attempt == 1
        until(lambda: not sandbox.live_orders())
        until(lambda: running_engine(home) is None)


def test_a_pipe_is_refused_with_a_hint() -> None:
    """Without a terminal the screen would spin for ever."""
    import subprocess

    done = subprocess.run([sys.executable, "-m", "gpuscale_tui"], capture_output=True, text=True, timeout=90)
    assert done.returncode == 2
    assert "--autopilot" in done.stderr
