"""The processes of a crash campaign: the sandbox, the program, the verbs, and a look into what they left."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuscale_tui.store import events
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.events import Event
from gpuscale_tui.store.home import Home
from tests.marketplace import Sandbox, running_sandbox

PATIENCE_SEC = 150.0
"""How long anything may take that is certain to come."""
CAP_USD = 1.2
IMAGE = "cloreai/jupyter:ubuntu24.04-v2"
JOB = Path(__file__).with_name("job.py")
FOREIGN_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDVHIyQMZbV7Mi2Cc7GvXhSxWcsXbkRFwEGQXxW8mXsm"
CONFIG = """
[scaler]
gpu_type = "RTX 4090"
poll_interval_sec = 0.3
idle_timeout_sec = 0.3
max_workers = 4
max_hourly_budget = {cap}
scale_up_threshold = 1
shutdown_grace_sec = 20.0
[providers.clore]
enabled = true
base_url = "{url}"
request_interval_sec = 0.02
create_interval_sec = 0.1
[checkpoints]
interval_sec = 1
"""


@dataclass(frozen=True, slots=True)
class Submission:
    """One call of `gpuscale submit`: `count` jobs of `steps` steps. `told`: the verb printed their ids."""

    key: str
    count: int
    steps: int
    told: bool


@dataclass
class World:
    """A home, the sandbox it rents from, and a directory where the jobs count their work."""

    root: Path
    market: Sandbox
    foreign: int
    submissions: list[Submission] = field(default_factory=list)
    evicted: set[str] = field(default_factory=set)

    @property
    def home(self) -> Home:
        """The home."""
        return Home(self.root / "home")

    @property
    def counts(self) -> Path:
        """Where the jobs count."""
        return self.root / "counts"

    @property
    def environ(self) -> dict[str, str]:
        """What the program sees."""
        return {
            **os.environ, "CLORE_API_KEY": self.market.api_key, "GPUSCALE_HOME": str(self.home.path),
            "GPUSCALE_CONFIG": str(self.root / "config.toml"),
        }  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start the program; what it says goes to a file each."""
        log = (self.root / "program.log").open("ab")
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.crash.program", *words], env=self.environ, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if words[0] == "submit" else log, stderr=log,
            )  # fmt: skip

    def submit_words(self, key: str, count: int, steps: int, every: int, *, staged: bool) -> list[str]:
        """The words of a submission of `count` jobs."""
        env = {"CRASH_DIR": self.counts, "CRASH_NAME": key, "CRASH_STEPS": steps, "CRASH_EVERY": every}
        words = ["submit", "--image", IMAGE, "--sweep", "part=" + ",".join(map(str, range(count)))]
        for name, value in env.items():
            words += ["--env", f"{name}={value}"]
        if staged:
            words += ["--workdir", str(JOB.parent / "workdir")]
        return [*words, "--", sys.executable, "-S", "-E", str(JOB)]

    def alive(self) -> list[dict[str, Any]]:
        """Our own orders that still cost."""
        return [order for order in self.market.live_orders() if order["order"] != self.foreign]

    def open(self) -> Database:
        """The store, to look into."""
        return Database(self.home.database)


def until(probe: Callable[[], Any], seconds: float = PATIENCE_SEC, pause: float = 0.01) -> Any:
    """What the probe gives once it is true; None when that did not come in time."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        if time.monotonic() > deadline:
            return None
        time.sleep(pause)
    return found


def events_since(db: Database, last: int) -> Sequence[Event]:
    """What the engine has noted since then."""
    return db.read(events.after, last, 5_000)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, and wait until it is gone."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE_SEC)


def check_files(home: Home) -> list[str]:
    """What is wrong with the database files after a kill, as SQLite sees them."""
    wrong = []
    for path in (home.database, home.logs):
        if not path.exists():
            continue
        connection = sqlite3.connect(path)
        try:
            found = (
                connection.execute("PRAGMA integrity_check").fetchall()
                + connection.execute("PRAGMA foreign_key_check").fetchall()
            )
        finally:
            connection.close()
        wrong += [f"{path.name}: {row}" for row in found if row != ("ok",)]
    return wrong


def rent_foreign(market: Sandbox) -> int:
    """Rent a machine as somebody else on the same account would; returns its order id."""
    free = max(server["id"] for server in market.servers() if not server["rented"])
    body = {
        "renting_server": free, "type": "on-demand", "currency": "USD-Blockchain", "image": "ubuntu",
        "ports": {"22": "tcp"}, "ssh_key": FOREIGN_KEY,
    }  # fmt: skip
    request = urllib.request.Request(
        f"{market.url}/create_order", data=json.dumps(body).encode(),
        headers={"auth": market.api_key, "content-type": "application/json", "user-agent": "somebody else"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert json.load(reply) == {"code": 0}
    [order] = market.orders()
    return int(order["order"])


@contextmanager
def new_world(root: Path, seed: int) -> Iterator[World]:
    """A world with a foreign machine in it; its processes end with it."""
    with running_sandbox("--seed", str(seed), "--balance", "100000", "--boot-seconds", "0.1-0.5") as market:
        world = World(root, market, rent_foreign(market))
        world.home.ensure()
        world.counts.mkdir()
        (root / "config.toml").write_text(CONFIG.format(cap=CAP_USD, url=market.url))
        world.open().close()
        yield world
