"""The program as its users have it: over SSH, in a terminal of theirs, on a line that may drop at any moment."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from gpuscale_tui.engine.lock import running_engine
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.engines import engine
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.queries import job_rows
from gpuscale_tui.store.views import JobFilter
from tests.e2e.test_terminal import SETTINGS
from tests.engine.conftest import until
from tests.marketplace import Sandbox, running_sandbox
from tests.sshd import SshdInfo, running_sshd, sshd_missing
from tests.terminal import Terminal, terminal, tmux_missing

MISSING = sshd_missing() or tmux_missing()
pytestmark = [
    pytest.mark.tmux,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    pytest.mark.xdist_group("terminal"),
]


@dataclass(frozen=True, slots=True)
class Bastion:
    """A host that users reach by SSH, with the program and a marketplace on it."""

    sshd: SshdInfo
    key: Path
    place: Path
    sandbox: Sandbox

    @property
    def home(self) -> Home:
        """The data directory of the program there."""
        return Home(self.place / "home")

    def command(self, term: str) -> list[str]:
        """What a user types at home: `ssh -t bastion gpuscale`."""
        program = [sys.executable, "-m", "gpuscale_tui", "--home", str(self.home.path)]
        program += ["--config", str(self.place / "config.toml")]
        variables = ["env", f"CLORE_API_KEY={self.sandbox.api_key}", "LC_ALL=C.UTF-8", f"TERM={term}"]
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        place = ["-p", str(self.sshd.port), "-i", str(self.key), f"{self.sshd.user}@{self.sshd.host}"]
        inside = f"cd {shlex.quote(str(Path.cwd()))} && exec {shlex.join([*variables, *program])}"
        return ["ssh", "-F", "none", "-tt", *options, *place, inside]

    @contextmanager
    def session(self, term: str = "xterm-256color", *, width: int = 80, height: int = 24) -> Iterator[Terminal]:
        """A terminal at the user's side, with the connection in it."""
        side = self.place / f"side-{term}-{width}"
        side.mkdir(exist_ok=True)
        with terminal(side, self.command(term), {"TERM": "tmux-256color"}, width=width, height=height) as pane:
            yield pane


@pytest.fixture
def bastion(tmp_path: Path) -> Iterator[Bastion]:
    """OpenSSH's sshd and the sandbox's marketplace."""
    key = tmp_path / "key"
    made = asyncssh.generate_private_key("ssh-ed25519")
    key.touch(mode=0o600)
    key.write_bytes(made.export_private_key())
    public = made.export_public_key().decode()
    with running_sshd(tmp_path, clients_public_key=public) as sshd, running_sandbox() as sandbox:
        (tmp_path / "config.toml").write_text(SETTINGS.format(url=sandbox.url))
        yield Bastion(sshd, key, tmp_path, sandbox)


def test_a_dropped_connection_leaves_everything_going(bastion: Bastion) -> None:
    """The client is killed while a job runs: the job ends on its machine, and the next login shows it so."""
    gate = bastion.place / "go"
    with bastion.session() as pane:
        pane.wait_for("Nothing queued")
        pane.press("n")
        pane.wait_for("command")
        pane.type(f"until [ -e {gate} ]; do sleep 0.1; done; echo end")
        pane.press("C-s")
        pane.wait_for("● running")
        for pid in _clients(bastion):
            os.kill(pid, signal.SIGKILL)
        pane.wait_for("exit")
    with Database(bastion.home.database) as db:
        until(lambda: getattr(db.read(engine), "mode", "") == "autopilot")
        with bastion.session(width=120, height=40) as pane:
            pane.wait_for("headless")
            pane.wait_for("● running")
            gate.touch()
            pane.wait_for("done")
            pane.press("q")
            pane.wait_for("exit 0")
        (job,) = db.read(job_rows, JobFilter())
        assert (job.state, job.attempt) == ("done", 1)
    until(lambda: not bastion.sandbox.live_orders())
    until(lambda: running_engine(bastion.home) is None)


def _clients(bastion: Bastion) -> list[int]:
    """The ssh clients that are connected to this bastion."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it has just ended
            if words[0] == b"ssh" and str(bastion.sshd.port).encode() in words:
                found.append(int(entry.name))
    assert found
    return found


@pytest.mark.parametrize("term", ["screen-256color", "linux", "xterm"])
def test_other_terminals_show_and_answer(bastion: Bastion, term: str) -> None:
    """What a terminal calls itself changes its colours at most: the same screens, the same keys."""
    with bastion.session(term) as pane:
        pane.wait_for("Nothing queued")
        pane.press("3")
        pane.wait_for("Nothing was spent")
        pane.resize(120, 40)
        pane.press("2")
        pane.wait_for("No machine is rented")
        pane.press("q")
        pane.wait_for("exit 0")


def test_a_dumb_terminal_is_refused_with_a_hint(bastion: Bastion) -> None:
    """It could not show a screen: exit 2, and the verbs that work there."""
    with bastion.session("dumb") as pane:
        shown = pane.wait_for("exit 2")
        assert "gpuscale queue" in shown or "gpuscale status" in shown, shown
