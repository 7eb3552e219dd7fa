"""One scene of the fault matrix: a home of its own on a sandbox that several scenes share, and what it is judged by."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gpuscale_tui.engine.engine import Engine
from gpuscale_tui.model.settings import CheckpointConfig, CloreConfig, ProvidersConfig, ScalerConfig, Settings
from gpuscale_tui.store import workers
from gpuscale_tui.store.events import Event
from tests.engine.conftest import PATIENCE_SEC, UNHURRIED, Clock, Rig, make_rig
from tests.marketplace import Sandbox

FOREIGN_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDVHIyQMZbV7Mi2Cc7GvXhSxWcsXbkRFwEGQXxW8mXsm"
CAP_USD = 1.5
SCALER = ScalerConfig(
    poll_interval_sec=0.2, idle_timeout_sec=0.2, max_workers=2, max_hourly_budget=CAP_USD, scale_up_threshold=1,
    shutdown_grace_sec=60, max_retries=20,
)  # fmt: skip
NOTE = 'echo "$GPUSCALE_JOB_ID $GPUSCALE_ATTEMPT" >> "$RAN";'
"""Each attempt that really begins leaves a line behind."""
LINES = f"{NOTE} i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo line $i; done;"
LINES_OUT = b"".join(b"line %d\n" % number for number in range(1, 21))
STEPS = (
    f'{NOTE} n=$(cat "$CHECKPOINT_DIR/step" 2>/dev/null || echo 0); echo "from $n";'
    ' while [ "$n" -lt 6 ]; do n=$((n+1)); echo "step $n"; echo "$n" > "$CHECKPOINT_DIR/.t";'
    ' mv "$CHECKPOINT_DIR/.t" "$CHECKPOINT_DIR/step"; {} done'
)
"""Six steps with a checkpoint each; what a scene wants done after each of them goes into the braces."""


@dataclass
class Scene:
    """What a test of the matrix works with. `before`: orders that were there first; `foreign`: one that is not ours."""

    rig: Rig
    foreign: int
    before: set[int]
    clock: Clock = field(default_factory=Clock)
    first: int = 0
    """How many entries the marketplace's log had when the scene began."""
    others: frozenset[str | None] = frozenset()
    """Orders of another home at the same time."""

    @property
    def market(self) -> Sandbox:
        """The marketplace."""
        return self.rig.market

    @property
    def ran(self) -> Path:
        """Where attempts that begin leave a line."""
        return self.rig.home.path.parent / "ran"

    def submit(self, command: str = LINES, count: int = 1, **spec: Any) -> list[int]:
        """Jobs of this scene."""
        spec["env"] = {"RAN": str(self.ran), **spec.pop("env", {})}
        return self.rig.submit(command, count, **spec)

    def engine(self, **options: Any) -> Engine:
        """The engine on this scene's clock; it ends by itself once nothing is left to do."""
        return self.rig.engine(**{"exit_when_idle": True, "now": self.clock, **options})

    def drain(self, **scaler: Any) -> None:
        """Run an engine until nothing is pending, running or rented."""
        with self.engine(**scaler) as engine:
            self.ended(engine)

    def ended(self, engine: Engine) -> None:
        """Wait for the engine's end, which must be an orderly one."""
        assert engine.wait(PATIENCE_SEC), "\n".join(map(str, self.rig.events()[-40:]))
        assert engine.failure is None

    def hurry(self, engine: Engine, by_sec: float = 400.0) -> None:
        """Let the engine's clock jump, so that what it would try again later is tried now."""
        assert engine.alive
        self.clock.ahead_ms += int(by_sec * 1000)

    def orders(self) -> list[dict[str, Any]]:
        """The orders of this scene, as the marketplace bills them."""
        return [line for line in self.market.bill()["orders"] if line["order"] not in self.before]

    def live(self) -> list[dict[str, Any]]:
        """Those that still cost."""
        return [line for line in self.orders() if line["ended_ms"] is None]

    def calls(self, path: str = "") -> list[dict[str, Any]]:
        """The API calls of this scene."""
        return [entry for entry in self.log("call") if path in entry["path"]]

    def log(self, what: str) -> list[dict[str, Any]]:
        """What the marketplace noted since the scene began."""
        return [entry for entry in self.market.log()[self.first :] if entry["what"] == what]

    def struck(self, fault: str) -> int:
        """How often a fault has struck by now."""
        return int(self.market.faults()[fault]["struck"])

    def seen(self, words: str) -> list[Event]:
        """The events that say so."""
        return [event for event in self.rig.events() if words in event.detail]

    def state(self, job_id: int) -> str:
        """A job's state."""
        return self.rig.job(job_id).state

    def held(self) -> list[Any]:
        """The workers that may cost money, by the store."""
        return self.rig.db.read(workers.live)


@contextmanager
def new_scene(tmp_path: Path, sandbox: Sandbox, foreign: int) -> Iterator[Scene]:
    """A home on that sandbox; faults are off before and after."""
    sandbox.control("faults", {"clear": True})
    clore = CloreConfig(
        enabled=True, base_url=sandbox.url, request_interval_sec=0.02, create_interval_sec=0.05, order_type="on-demand"
    )
    settings = Settings(
        scaler=SCALER,
        providers=ProvidersConfig(clore=clore),
        checkpoints=CheckpointConfig(interval_sec=1),
        machines=UNHURRIED,
    )
    rig = make_rig(tmp_path, settings, {**os.environ, "CLORE_API_KEY": sandbox.api_key}, sandbox)
    before = {order["order"] for order in sandbox.orders()}
    try:
        yield Scene(rig, foreign, before, first=len(sandbox.log()))
    finally:
        rig.db.close()
        sandbox.control("faults", {"clear": True})


def checkpoints_every(rig: Rig, seconds: float) -> None:
    """Save so often."""
    rig.settings = replace(rig.settings, checkpoints=replace(rig.settings.checkpoints, interval_sec=seconds))


def rent_as_somebody_else(sandbox: Sandbox) -> int:
    """An order on the same account that is none of ours; its id."""
    free = [each["id"] for each in sandbox.servers() if not each["rented"]]
    body = {
        "renting_server": max(free), "type": "on-demand", "currency": "USD-Blockchain", "image": "ubuntu",
        "ports": {"22": "tcp"}, "ssh_key": FOREIGN_KEY,
    }  # fmt: skip
    return order(sandbox, body)


def order(sandbox: Sandbox, body: dict[str, Any]) -> int:
    """Place an order by hand; its id."""
    request = urllib.request.Request(
        f"{sandbox.url}/create_order", data=json.dumps(body).encode(),
        headers={"auth": sandbox.api_key, "content-type": "application/json", "user-agent": "somebody else"},
    )  # fmt: skip
    known = {each["order"] for each in sandbox.orders()}
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert json.load(reply) == {"code": 0}
    [new] = [each["order"] for each in sandbox.orders() if each["order"] not in known]
    return int(new)
