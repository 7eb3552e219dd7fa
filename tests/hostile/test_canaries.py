"""Secrets stay where they belong (invariant I7): a real run with canaries, then every place is searched for them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.store import jobs, logs, notices
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from tests.engine.test_notifier import Inbox, inbox
from tests.marketplace import Sandbox, running_sandbox
from tests.pseudo import Pty

JOB_SECRET = "CANARY-job-9f27c1-secret"
ADDRESS_SECRET = "CANARY-address-55ab07-secret"
PATIENCE_SEC = 100.0
VERBS = ("status --json", "show j1", "doctor", "notify test")
SETTINGS = """
[scaler]
poll_interval_sec = 0.5
idle_timeout_sec = 1
max_hourly_budget = 2.0
shutdown_grace_sec = 60

[providers.clore]
enabled = true
base_url = "{url}"
api_key_file = "{key}"
request_interval_sec = 0.02
create_interval_sec = 0.1

[checkpoints]
interval_sec = 1

[notify]
urls = ["{address}/", "{address}/refused"]
on = ["job_done", "job_failed", "machine_lost", "budget", "orphan", "breaker"]
min_interval_sec = 1
"""
JOB = """
[ "${#API_TOKEN}" = "$LENGTH" ] && echo the secret is here
pwd > "$CHECKPOINT_DIR/where"
until [ -e "$GATE" ]; do sleep 0.05; done
"""


def until(probe: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SEC
    while not (found := probe()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.03)
    return found


@dataclass
class Run:
    """A running autopilot, and what it must not tell."""

    home: Home
    config: Path
    gate: Path
    sandbox: Sandbox
    box: Inbox
    process: subprocess.Popen[bytes]
    said: Path

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "GPUSCALE_HOME": str(self.home.path), "GPUSCALE_CONFIG": str(self.config)}

    def verb(self, *arguments: str) -> bytes:
        command = [sys.executable, "-m", "gpuscale_tui", *arguments]
        done = subprocess.run(command, env=self.environ, capture_output=True, timeout=PATIENCE_SEC)
        return done.stdout + done.stderr

    def output(self) -> bytes:
        if not self.home.logs.exists():
            return b""
        with contextlib.closing(logs.connect_logs(self.home.logs, readonly=True)) as connection:
            return logs.read(connection, 1, 1, 0, 1 << 30)

    @property
    def canaries(self) -> dict[str, bytes]:
        found = {"API key": self.sandbox.api_key, "job's secret": JOB_SECRET, "address": ADDRESS_SECRET}
        return {name: value.encode() for name, value in found.items()}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """The real program without a screen, its machines from the sandbox; one job that waits, with a secret."""
    with running_sandbox() as sandbox, inbox() as box:
        key = tmp_path / "key"
        key.write_text(sandbox.api_key)
        key.chmod(0o600)
        config = tmp_path / "config.toml"
        address = f"json://someone:{ADDRESS_SECRET}@127.0.0.1:{box.port}"
        config.write_text(SETTINGS.format(url=sandbox.url, key=key, address=address))
        config.chmod(0o600)
        said = tmp_path / "said"
        home = Home(tmp_path / "home")
        begun = Run(home, config, tmp_path / "gate", sandbox, box, None, said)  # type: ignore[arg-type]
        secret = {**begun.environ, "API_TOKEN": JOB_SECRET}
        given = ["--secret", "API_TOKEN", "--env", f"LENGTH={len(JOB_SECRET)}", "--env", f"GATE={begun.gate}"]
        command = [sys.executable, "-m", "gpuscale_tui", "submit", *given, "--", "sh", "-c", JOB]
        subprocess.run(command, env=secret, check=True, capture_output=True, timeout=PATIENCE_SEC)
        autopilot = [sys.executable, "-m", "gpuscale_tui", "--autopilot", "--exit-when-idle"]
        with said.open("wb") as out:
            begun.process = subprocess.Popen(autopilot, env=begun.environ, stdout=out, stderr=out)
            try:
                yield begun
            finally:
                begun.gate.touch()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    begun.process.wait(20)
                begun.process.kill()
                begun.process.wait()


def processes() -> Iterator[tuple[int, bytes, bytes]]:
    """Every process that can be looked at: number, arguments, environment."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()


@contextlib.contextmanager
def watching() -> Iterator[set[tuple[int, bytes, bytes]]]:
    """Looks at all processes again and again, from a thread of its own."""
    seen: set[tuple[int, bytes, bytes]] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            seen.update(processes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def files_with(canary: bytes, *places: Path) -> list[str]:
    """The files below these places that have it in their bytes."""
    found = []
    for place in places:
        for path in place.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and not path.is_symlink() and canary in path.read_bytes():
                    found.append(path.name)
    return found


def test_secrets_canary_scan(run: Run) -> None:
    """API key, a job's secret and an address of notices, while jobs run, calls and messages fail, and afterwards."""
    with watching() as seen:
        until(lambda: b"the secret is here" in run.output())
        machine = until(lambda: checkpoint(run))
        run.sandbox.fault(http_500=3)
        tell(run.home)
        shown = screen(run)
        until(lambda: run.box.taken and run.box.refused)
    run.gate.touch()
    assert run.process.wait(PATIENCE_SEC) == 0, run.said.read_bytes()[-3000:]
    check_processes(run, seen)
    told = json.dumps([*run.box.refused, *run.box.taken]).encode()
    verbs = b"".join(run.verb(*words.split()) for words in VERBS)
    for name, canary in run.canaries.items():
        assert canary not in run.said.read_bytes(), f"{name} in what the engine printed"
        assert canary not in shown, f"{name} on the screen"
        assert canary not in verbs, f"{name} in what a verb printed"
        assert canary not in told, f"{name} in a message"
        assert canary not in run.output(), f"{name} in the log"
        kept = {"j1.json"} if name == "job's secret" else set()
        assert set(files_with(canary, run.home.path)) <= kept, f"{name} in the home"
        assert files_with(canary, machine) == [], f"{name} on the machine"


def checkpoint(run: Run) -> Path | None:
    """The machine's own directory, once the job has told it by its checkpoint."""
    for file in run.home.checkpoints.rglob("where"):
        inside = Path(file.read_text().strip())
        return inside.parents[inside.parts[::-1].index(".gpuscale")] if ".gpuscale" in inside.parts else inside
    return None


def tell(home: Home) -> None:
    """Something to send."""
    with Database(home.database) as store:
        store.write(notices.add, time.time_ns() // 1_000_000, notices.NoticeKind.BREAKER, "news", job_id=1)


def screen(run: Run) -> bytes:
    """What the screen shows of it, attached to the same home."""
    shown = Pty(["--home", str(run.home.path), "--config", str(run.config)], columns=160, lines=40)
    with contextlib.closing(shown):
        shown.wait_for(b"j1")
        for keys in (b"\r", b"2", b"7", b"1"):
            before = len(shown.output)
            shown.send(keys)
            until(lambda: shown.read(0.2) and len(shown.output) > before)  # noqa: B023
        os.kill(shown.pid, signal.SIGKILL)
        while shown.read(0.2):
            pass
        return shown.output


def check_processes(run: Run, seen: set[tuple[int, bytes, bytes]]) -> None:
    """No argument holds a secret, and no environment but the job's own."""
    job = {number for number, _, environ in seen if b"GPUSCALE_JOB_ID=j1\0" in environ}
    assert job, "the job was never seen"
    assert any(b"messenger" in arguments for _, arguments, _ in seen), "no message was ever seen on its way"
    for name, canary in run.canaries.items():
        for number, arguments, environ in seen:
            assert canary not in arguments, f"{name} in the arguments of {arguments!r:.200}"
            own = name == "job's secret" and number in job
            assert own or canary not in environ, f"{name} in the environment of {arguments!r:.200}"
    with Database(run.home.database, readonly=True) as store:
        job_row = store.read(jobs.get, 1)
    assert job_row is not None
    assert job_row.exit_code == 0
