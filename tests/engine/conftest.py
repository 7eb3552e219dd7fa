"""An engine on the sandbox marketplace or on OpenSSH hosts, and what a test asks of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.engine import commands, doorbell
from gpuscale_tui.engine.engine import Engine, utc_ms
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.model.settings import (
    CheckpointConfig,
    CloreConfig,
    MachinesConfig,
    ProvidersConfig,
    ScalerConfig,
    Settings,
    SshConfig,
    SshHost,
)
from gpuscale_tui.remote.keys import ensure_client_key
from gpuscale_tui.store import events, jobs, logs, queries
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.events import Event
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.views import JobFilter, JobRow, WorkerRow
from tests.marketplace import Sandbox, running_sandbox
from tests.sshd import running_sshd, sshd_missing

PATIENCE_SEC = 100.0
"""How long anything may take that is certain to come: machines stall, and a test is no stop-watch."""
IMAGE = "cloreai/jupyter:ubuntu24.04-v2"
WAIT = 'until [ -e "$GATE" ]; do sleep 0.05; done;'
"""A job that begins with this goes on once the test touches `rig.gate`, and not before."""
SCALER = ScalerConfig(
    poll_interval_sec=0.5, idle_timeout_sec=1, max_workers=3, max_hourly_budget=2.0, scale_up_threshold=1,
    shutdown_grace_sec=60,
)  # fmt: skip
UNHURRIED = MachinesConfig(min_free_disk_gb=0.0, min_download_mbps=0.0)
"""A computer that is slow just now, or nearly full, is no bad machine to test on."""


def until(probe: Callable[[], Any], seconds: float = PATIENCE_SEC) -> Any:
    """Wait until the probe gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (result := probe()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.03)
    return result


@dataclass
class Clock:
    """The wall clock plus what a test adds."""

    ahead_ms: int = 0

    def __call__(self) -> int:
        return utc_ms() + self.ahead_ms


def morning() -> Clock:
    """A clock at the next six o'clock UTC: hours can pass on it and it is still the same day, and the same month."""
    day = 86_400_000
    return Clock((6 * day // 24 - utc_ms()) % day)


@dataclass
class Rig:
    """A home with its settings, and the store to look into."""

    home: Home
    settings: Settings
    environ: dict[str, str]
    db: Database
    sandbox: Sandbox | None = None

    @property
    def market(self) -> Sandbox:
        assert self.sandbox is not None
        return self.sandbox

    def engine(self, *, exit_when_idle: bool = False, now: Callable[[], int] = utc_ms, **scaler: Any) -> Engine:
        settings = replace(self.settings, scaler=replace(self.settings.scaler, **scaler))
        return Engine(self.home, settings, mode="test", environ=self.environ, exit_when_idle=exit_when_idle, now=now)

    def patience(self, seconds: float) -> None:
        """How long a machine may take to come up."""
        clore = replace(self.settings.providers.clore, deploy_timeout_sec=seconds)
        self.settings = replace(self.settings, providers=replace(self.settings.providers, clore=clore))

    def drain(self, seconds: float = PATIENCE_SEC, **scaler: Any) -> None:
        """Run an engine until nothing is pending, running or rented."""
        with self.engine(exit_when_idle=True, **scaler) as engine:
            ended = engine.wait(seconds)
            assert engine.failure is None
            assert ended, "\n".join(map(str, self.events()[-40:]))

    @property
    def gate(self) -> Path:
        """A file that jobs can wait for: see WAIT."""
        return self.home.path.parent / "gate"

    def submit(self, command: str, count: int = 1, **spec: Any) -> list[int]:
        spec.setdefault("gpu_type", "RTX 4090" if self.sandbox else None)
        env = {"GATE": str(self.gate), **spec.pop("env", {})}
        specs = [JobSpec(image=IMAGE, command=command, env=env, **spec)] * count
        ids = self.db.write(commands.submit, self.home, specs, now=utc_ms())
        doorbell.ring(self.home)
        return ids

    def command(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = self.db.write(function, *args, user="tester", now=utc_ms(), **kwargs)
        doorbell.ring(self.home)
        return result

    def job(self, job_id: int) -> JobRow:
        row = self.db.read(queries.job_row, job_id)
        assert row is not None
        return row

    def jobs(self) -> list[JobRow]:
        return self.db.read(queries.job_rows, JobFilter(), limit=1000)

    def workers(self) -> list[WorkerRow]:
        return self.db.read(queries.worker_rows, ended=True)

    def events(self) -> list[Event]:
        return self.db.read(events.after, 0, 100_000)

    def output(self, job_id: int, attempt: int = 1) -> bytes:
        connection = logs.connect_logs(self.home.logs, readonly=True)
        try:
            return logs.read(connection, job_id, attempt, 0, 1 << 40)
        finally:
            connection.close()

    def attempts(self, job_id: int) -> list[Any]:
        return [
            attempt
            for number in range(1, 50)
            if (attempt := self.db.read(jobs.get_attempt, job_id, number)) is not None
        ]

    def costs(self) -> Any:
        return self.db.read(queries.costs, "worker", None)


def make_rig(tmp_path: Path, settings: Settings, environ: dict[str, str], sandbox: Sandbox | None) -> Rig:
    home = Home(tmp_path / "home")
    home.ensure()
    return Rig(home, settings, environ, Database(home.database), sandbox)


@contextmanager
def marketplace_rig(tmp_path: Path, *options: str) -> Iterator[Rig]:
    """A home whose machines come from a sandbox with these options."""
    with running_sandbox(*options) as sandbox:
        clore = CloreConfig(
            enabled=True, base_url=sandbox.url, request_interval_sec=0.02, create_interval_sec=0.1,
        )  # fmt: skip
        settings = Settings(
            scaler=SCALER,
            providers=ProvidersConfig(clore=clore),
            checkpoints=CheckpointConfig(interval_sec=1),
            machines=UNHURRIED,
        )
        rig = make_rig(tmp_path, settings, {**os.environ, "CLORE_API_KEY": sandbox.api_key}, sandbox)
        try:
            yield rig
        finally:
            rig.db.close()


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Rig]:
    """A home whose machines come from a well-behaved sandbox."""
    with marketplace_rig(tmp_path) as rig:
        yield rig


@contextmanager
def hosts_rig(tmp_path: Path, count: int = 2) -> Iterator[Rig]:
    """A home with hosts of its own: OpenSSH's sshd, `count` times."""
    home = Home(tmp_path / "home")
    home.ensure()
    with running_sshd(tmp_path, clients_public_key=ensure_client_key(home.client_key)) as sshd:
        hosts = tuple(
            SshHost(name=f"host{number}", host=sshd.host, port=sshd.port, user=sshd.user) for number in range(count)
        )
        settings = Settings(
            scaler=replace(SCALER, gpu_type="none"),
            providers=ProvidersConfig(ssh=SshConfig(hosts=hosts)),
            checkpoints=CheckpointConfig(interval_sec=1),
            machines=UNHURRIED,
        )
        rig = make_rig(tmp_path, settings, dict(os.environ), None)
        try:
            yield rig
        finally:
            rig.db.close()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Rig]:
    """A home with two hosts of its own, worked by OpenSSH's sshd."""
    reason = sshd_missing()
    if reason is not None:
        pytest.skip(reason)
    with hosts_rig(tmp_path) as rig:
        yield rig
