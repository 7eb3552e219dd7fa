"""Hosts to measure on: OpenSSH's sshd on 127.0.0.1, a home whose settings name them, and the real program as engine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import clean_environ, wait_until
from gpuscale_tui.engine import commands, doorbell
from gpuscale_tui.engine.engine import utc_ms
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.remote.keys import ensure_client_key
from gpuscale_tui.store import demand, logs, queries
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from tests.sshd import SshdInfo, running_sshd, sshd_missing

SSH_OPTIONS = (
    "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
    "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
)  # fmt: skip
START_SEC = 60.0
PLAIN = JobSpec(image="none", argv=("true",), user="bench")


@dataclass(frozen=True, slots=True)
class Site:
    """Servers of our own, and the home and settings file of a gpuscale that works on them."""

    root: Path
    home: Home
    config: Path
    servers: tuple[SshdInfo, ...]
    db: Database

    @property
    def environ(self) -> dict[str, str]:
        """The environment for the program."""
        return {**clean_environ(), "GPUSCALE_HOME": str(self.home.path), "GPUSCALE_CONFIG": str(self.config)}

    def ssh(self, server: SshdInfo, *options: str) -> list[str]:
        """OpenSSH's client for one of the servers; a command follows."""
        return [
            "ssh", *SSH_OPTIONS, "-i", str(self.home.client_key), "-p", str(server.port), *options,
            f"{server.user}@{server.host}",
        ]  # fmt: skip

    def submit(self, specs: Sequence[JobSpec]) -> list[int]:
        """Submit jobs, as every way of submitting does, and wake the engine."""
        ids = self.db.write(commands.submit, self.home, specs, now=utc_ms())
        doorbell.ring(self.home)
        return ids

    def count(self, state: str) -> int:
        """How many jobs are in a state."""
        return self.db.read(demand.count_by_state, state)

    def workers(self, state: str) -> int:
        """How many machines are in a state."""
        return sum(worker.state == state for worker in self.db.read(queries.worker_rows))

    def output_sizes(self, job_ids: Sequence[int]) -> list[int]:
        """How many bytes of output are stored of the first attempt of each job."""
        with contextlib.closing(logs.connect_logs(self.home.logs, readonly=True)) as connection:
            return [logs.size(connection, job_id, 1) for job_id in job_ids]


def why_not() -> str | None:
    """Why nothing can be measured over SSH here, None when it can."""
    return sshd_missing()


@contextlib.contextmanager
def site(*, servers: int = 1, hosts: int = 1, scaler: str = "") -> Iterator[Site]:
    """So many servers, each under the names of its share of so many hosts; gone at the end with all that ran there."""
    with contextlib.ExitStack() as stack:
        root = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="gpuscale-bench-", ignore_cleanup_errors=True))
        )
        home = Home(root / "home")
        home.ensure()
        public = ensure_client_key(home.client_key)
        running: list[SshdInfo] = []
        for number in range(servers):
            place = root / f"server{number}"
            place.mkdir()
            stack.callback(_end_processes, place)
            running.append(
                stack.enter_context(running_sshd(place, clients_public_key=public, max_sessions=10 + 4 * hosts))
            )
        config = root / "config.toml"
        config.write_text(_config(running, hosts, scaler))
        yield Site(root, home, config, tuple(running), stack.enter_context(Database(home.database)))


def _config(servers: Sequence[SshdInfo], hosts: int, scaler: str) -> str:
    lines = [
        "[scaler]", 'gpu_type = "none"', "poll_interval_sec = 1", "scale_up_threshold = 1", f"max_workers = {hosts}",
        f"min_workers = {hosts}", "idle_timeout_sec = 600", scaler, "[checkpoints]", "interval_sec = 60",
    ]  # fmt: skip
    for number in range(hosts):
        server = servers[number % len(servers)]
        lines += [
            "[[providers.ssh.hosts]]", f'name = "host{number}"', f'host = "{server.host}"', f"port = {server.port}",
            f'user = "{server.user}"',
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _end_processes(place: Path) -> None:
    """End what still works in a directory of ours."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            cwd = Path(str((entry / "cwd").readlink()).removesuffix(" (deleted)"))
            if cwd.is_relative_to(place) and int(entry.name) != os.getpid():
                os.kill(int(entry.name), signal.SIGKILL)


@contextlib.contextmanager
def engine(place: Site, *, ready: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """The real program, headless, in a process of its own; waits until `ready` machines are idle. Killed at the end."""
    command = [sys.executable, "-m", "gpuscale_tui", "--autopilot"]
    with (place.root / "engine.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=place.environ, start_new_session=True
        )
    try:
        if ready is not None:
            wait_until(
                lambda: place.workers("idle") >= ready, within_sec=START_SEC + ready, what=f"{ready} idle machines"
            )
        yield process
    finally:
        process.kill()
        process.wait(20)
