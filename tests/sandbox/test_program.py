"""The program: one line when ready, and nothing left behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest

from gpuscale_tui.sandbox.processes import Target, find

from .conftest import GPU_4090, ssh_port

SERVE = [sys.executable, "-m", "gpuscale_tui.sandbox", "serve", "--boot-seconds", "0", "--listing-lag", "0"]


@contextmanager
def program(*options: str, command: list[str] = SERVE) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The sandbox as a process of its own, and its one line."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, *options], stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


async def rent_and_detach(ready: dict[str, Any]) -> Target:
    """Rent a machine and leave detached work on it."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with httpx.AsyncClient(base_url=ready["url"], headers={"auth": ready["api_key"]}, timeout=60) as api:
        servers = [row for row in (await api.get("/marketplace")).json()["servers"] if isinstance(row["id"], int)]
        fitting = [
            row
            for row in servers
            if row["specs"]["gpu"] == GPU_4090 and row["price"]["on_demand"]["USD-Blockchain"] > 6
        ]
        body = {
            "renting_server": fitting[0]["id"],
            "type": "on-demand",
            "currency": "USD-Blockchain",
            "image": "cloreai/jupyter",
            "ports": {"22": "tcp"},
            "ssh_key": key.export_public_key().decode(),
        }
        assert (await api.post("/create_order", json=body)).json() == {"code": 0}
        while (row := (await api.get("/my_orders")).json()["orders"][0])["mon_container"] != 2:
            pass
    async with asyncssh.connect(
        "127.0.0.1", ssh_port(row), username="root", client_keys=[key], known_hosts=None, config=None
    ) as connection:
        result = await connection.run(
            "(setsid sleep 300 & env -i setsid sleep 300 &) >/dev/null 2>&1; pwd; echo $SANDBOX_MARK"
        )
    home, mark = str(result.stdout).split()
    target = Target(mark.partition(".")[0] + ".", Path(home).parent.parent)
    wait(lambda: len(find(target)) >= 2)
    return target


def all_gone(target: Target) -> bool:
    return not find(target) and not target.directory.exists()


async def test_one_line_and_a_clean_end_when_stdin_closes() -> None:
    with program() as (process, ready):
        assert ready.keys() == {"url", "api_key", "control_token", "control_url", "pid"}
        assert ready["pid"] == process.pid
        assert len(ready["api_key"]) == 32
        target = await rent_and_detach(ready)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        assert process.wait(60) == 0
        assert process.stdout.read() == "", "nothing more on stdout"
        assert all_gone(target), "all is gone before it exits"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_clean_end_on_signals(number: signal.Signals) -> None:
    with program() as (process, ready):
        target = await rent_and_detach(ready)
        process.send_signal(number)
        assert process.wait(60) == 0
        assert all_gone(target)


async def test_nothing_is_left_after_kill_9() -> None:
    with program() as (process, ready):
        target = await rent_and_detach(ready)
        process.kill()
        process.wait(60)
        wait(lambda: all_gone(target))


async def test_it_dies_with_a_killed_parent() -> None:
    """The parent holds the pipe to its stdin; kill -9 of the parent closes it."""
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)\n"
        "time.sleep(300)\n"
    )
    with program(command=[sys.executable, "-c", script, *SERVE]) as (parent, ready):
        target = await rent_and_detach(ready)
        parent.kill()
        parent.wait(60)
        wait(lambda: all_gone(target))
        wait(lambda: not _running(ready["pid"]))


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_options_reach_it(tmp_path: Path) -> None:
    root = tmp_path / "machines"
    with program("--root", str(root), "--api-key", "k" * 32, "--fault", "my_orders_500", "--seed", "3") as (_, ready):
        assert root.is_dir()
        reply = httpx.get(ready["url"] + "/my_orders", headers={"auth": "k" * 32}, timeout=60)
        assert reply.status_code == 500
    wait(lambda: not root.exists())


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpuscale_tui.sandbox", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL)


def test_list_faults() -> None:
    done = run("serve", "--list-faults")
    assert done.returncode == 0
    assert "create_500_after_success" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--fault", "nonsense"], "no fault 'nonsense'"),
        (["--boot-seconds", "4-2"], "first must not be above"),
        (["--faults", "/nowhere/faults.toml"], "/nowhere/faults.toml"),
    ],
)
def test_wrong_usage_exits_2_and_says_why(words: list[str], says: str) -> None:
    done = run("serve", *words)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_root_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    done = run("serve", "--root", str(tmp_path))
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert (tmp_path / "thesis.tex").exists()


def test_a_taken_port_is_said() -> None:
    with program() as (_, ready):
        done = run("serve", "--keep-running", "--port", ready["url"].split(":")[2].split("/")[0])
        assert done.returncode == 1
        assert "address already in use" in done.stderr
        assert "Traceback" not in done.stderr


def test_it_holds_nothing_of_its_parent_open() -> None:
    """The watchdog must not keep the parent's pipes open: a reader of stdout sees its end."""
    with program() as (process, _):
        os.kill(process.pid, signal.SIGKILL)
        assert process.stdout is not None
        assert process.stdout.read() == ""
