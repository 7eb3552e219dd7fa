"""nanoGPT to its end on machines that vanish: by the template, the queue and the autopilot, as a user runs it.

The tests with nanoGPT itself (`make nanogpt`) need a Python with PyTorch (GPUSCALE_TORCH_PYTHON), a repository that git
can clone (GPUSCALE_NANOGPT_URL, such as file:///srv/nanoGPT@master) and Shakespeare as a text file
(GPUSCALE_SHAKESPEARE). Without them a stand-in is trained that writes and prints as nanoGPT does and learns nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpuscale_tui.remote.keys import ensure_client_key
from gpuscale_tui.store.home import Home
from tests.e2e.training import (
    Move,
    Program,
    Source,
    destroy,
    judge,
    one_line,
    pickled_iter,
    stand_in,
    torch_iter,
    until,
)
from tests.marketplace import Sandbox, running_sandbox
from tests.sshd import SshdInfo, running_sshd, sshd_missing

NEEDED = ("GPUSCALE_TORCH_PYTHON", "GPUSCALE_NANOGPT_URL", "GPUSCALE_SHAKESPEARE")
REAL = all(os.environ.get(name) for name in NEEDED)
real = pytest.mark.skipif(not REAL, reason=f"nanoGPT itself: set {', '.join(NEEDED)}, as `make nanogpt` says")
COMMON = """\
[scaler]
gpu_type = "{gpu}"
max_workers = 2
max_hourly_budget = 5.0
max_price_per_gpu = 2.0
poll_interval_sec = 0.5
idle_timeout_sec = 1
scale_up_threshold = 1
lost_contact_sec = 3
lease_hours = {lease}
[checkpoints]
interval_sec = 1
settle_sec = {settle}
keep = 50
[machines]
min_free_disk_gb = 0.0
min_download_mbps = 0.0
"""
MARKET = """
[providers.clore]
enabled = true
base_url = "{url}"
order_type = "{order_type}"
request_interval_sec = 0.02
create_interval_sec = 0.1
"""
HOST = """
[[providers.ssh.hosts]]
name = "{name}"
host = "{host}"
port = {port}
user = "{user}"
price_per_hour = 0.40
"""


def real_source(place: Path, **more: int) -> Source:
    """nanoGPT itself, on one core: several threads wait for each other where the cores have other work."""
    python, url, text = (os.environ[name] for name in NEEDED)
    wrapper = one_line(place / "python", f'OMP_NUM_THREADS=1 exec {shlex.quote(python)} "$@"')
    return Source(url, Path(text), wrapper, 300.0, **more)


@dataclass
class Killer:
    """Takes the job's machine away twice, at moments drawn from a seed, each some while after a snapshot."""

    program: Program
    source: Source
    kill: Callable[[], object]
    seed: int
    at_most_sec: float

    def run(self) -> None:
        """Both times, and then the end."""
        dice = random.Random(self.seed)
        with self.program.autopilot() as engine:
            for number, share in ((1, dice.uniform(0.2, 0.45)), (2, dice.uniform(0.55, 0.85))):
                goal = int(share * self.source.steps)
                until(
                    lambda number=number, goal=goal: self._has_come(number, goal) or engine.poll() is not None,
                    self.source.patience_sec, self.program.story,
                )  # fmt: skip
                assert engine.poll() is None, self.program.story()
                time.sleep(dice.uniform(0, self.at_most_sec))
                self.kill()
            code = engine.wait(self.source.patience_sec)
        assert code == 0, self.program.story()

    def _has_come(self, attempt: int, goal: int) -> bool:
        """Whether this attempt has come so far, and has a snapshot of its own."""
        told = self.program.iters(attempt)
        return bool(told and told[-1][0] >= goal and any(each.attempt == attempt for each in self.program.snapshots()))


def told(title: str, seed: int, made: list[Move]) -> None:
    """The figures, for `pytest -s`."""
    print(f"\n{title} (seed {seed}):", *made, sep="\n  ")


def on_the_market(place: Path, source: Source, *, spot: bool, at_most_sec: float, settle: float, seed: int) -> Program:
    """Train on the sandbox's marketplace, whose machines are taken away."""
    with running_sandbox() as sandbox:
        kind = "spot" if spot else "on-demand"
        settings = COMMON.format(gpu="RTX 4090", settle=settle, lease=1) + MARKET.format(
            url=sandbox.url, order_type=kind
        )
        program = Program(place, settings, {"CLORE_API_KEY": sandbox.api_key})
        program.submit(source, "--gpu", "RTX 4090")
        Killer(program, source, lambda: _evict(sandbox), seed, at_most_sec).run()
        assert sandbox.live_orders() == []
        bill = sandbox.bill()["total_micro"]
    assert round(json.loads(program("costs", "--json"))["total"] * 1e6) == bill
    return program


def _evict(sandbox: Sandbox) -> None:
    for order in sandbox.live_orders():
        sandbox.evict(order["order"])


@pytest.mark.timeout(300)
def test_a_stand_in_goes_on_wherever_its_machines_are_taken_away(tmp_path: Path) -> None:
    """On the marketplace; one file that is overwritten in place all the time is never restored torn."""
    seed = random.randrange(1 << 30)
    source = stand_in(tmp_path, "75 135", steps=150, save_every=30)
    done = on_the_market(tmp_path, source, spot=True, at_most_sec=0.5, settle=0.3, seed=seed)
    made = judge(done, source, pickled_iter)
    assert len(made) == 2
    told("stand-in on the marketplace", seed, made)


@contextlib.contextmanager
def hosts(place: Path, count: int) -> Iterator[list[SshdInfo]]:
    """Machines of one's own: an sshd and a home for each."""
    home = Home(place / "home")
    home.ensure()
    key = ensure_client_key(home.client_key)
    with contextlib.ExitStack() as stack:
        made = []
        for number in range(count):
            root = place / f"host{number}"
            root.mkdir()
            made.append(stack.enter_context(running_sshd(root, clients_public_key=key)))
        yield made


def on_hosts(place: Path, source: Source, *, at_most_sec: float, settle: float, seed: int, count: int = 3) -> Program:
    """Train on hosts with OpenSSH, of which two are destroyed."""
    with hosts(place, count) as machines:
        blocks = [
            HOST.format(name=f"host{number}", host=each.host, port=each.port, user=each.user)
            for number, each in enumerate(machines)
        ]
        program = Program(
            place,
            COMMON.format(gpu="none", settle=settle, lease=0.006) + "".join(blocks),
            engine="tests.e2e.quick_lease",
        )
        program.submit(source)

        def kill() -> None:
            home = machines[int(program.machine().removeprefix("host"))].home
            assert destroy(home, home.parent / "pid") > 1

        Killer(program, source, kill, seed, at_most_sec).run()
    return program


@real
@pytest.mark.slow
@pytest.mark.openssh
@pytest.mark.timeout(900)
@pytest.mark.skipif(sshd_missing() is not None, reason=str(sshd_missing()))
def test_nanogpt_on_hosts_that_are_destroyed(tmp_path: Path) -> None:
    """Two of three hosts lose sshd, processes and disk; the training comes to its end on the third."""
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    source = real_source(tmp_path, steps=1200, save_every=100)
    done = on_hosts(tmp_path, source, at_most_sec=2.0, settle=0.5, seed=seed)
    made = judge(done, source, torch_iter(source.python))
    assert len(made) == 2
    told("nanoGPT on OpenSSH hosts", seed, made)


@real
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nanogpt_on_a_marketplace_that_evicts(tmp_path: Path) -> None:
    """Spot machines of the sandbox, taken away twice."""
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    source = real_source(tmp_path, steps=1200, save_every=100)
    done = on_the_market(tmp_path, source, spot=True, at_most_sec=2.0, settle=0.5, seed=seed)
    made = judge(done, source, torch_iter(source.python))
    assert len(made) == 2
    told("nanoGPT on the marketplace, spot", seed, made)
