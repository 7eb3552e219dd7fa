"""`ssh` and `forward`: OpenSSH's client and server, with nothing of the user's own settings."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import socketserver
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest

from gpuscale_tui.engine import reach
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.states import AttemptState, Cause, JobState
from gpuscale_tui.remote.keys import ensure_client_key
from gpuscale_tui.store import engines, workers
from tests.cli.conftest import PATIENCE_SEC, Cli
from tests.pseudo import Pty
from tests.sshd import SshdInfo, running_sshd, sshd_missing
from tests.store.support import Bench

pytestmark = pytest.mark.openssh


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key of ours that the server knows."""
    path = tmp_path_factory.mktemp("keys") / "id_ed25519"
    ensure_client_key(path)
    return path


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[SshdInfo]:
    """OpenSSH's server, started once."""
    if reason := sshd_missing():
        pytest.skip(reason)
    if shutil.which("ssh") is None:
        pytest.skip("OpenSSH's client is not installed")
    with running_sshd(tmp_path_factory.mktemp("openssh"), clients_public_key=ensure_client_key(keys)) as info:
        yield info


@pytest.fixture
def running(cli: Cli, bench: Bench, keys: Path, sshd: SshdInfo) -> str:
    """A job that runs on the server; its label."""
    return place(cli, bench, keys, sshd, host_key=sshd.host_key)


def place(cli: Cli, bench: Bench, keys: Path, sshd: SshdInfo, *, host_key: str) -> str:
    shutil.copy(keys, cli.home.client_key)
    worker = bench.boot()
    bench.write(workers.set_endpoint, worker.id, Endpoint(sshd.host, sshd.port, sshd.user))
    bench.write(workers.became_ready, worker.id, host_key, **bench.by)
    (job_id,) = bench.submit()
    attempt = bench.advance(bench.place(job_id, worker.id), AttemptState.STAGING, AttemptState.RUNNING)
    base = reach.base_of(bench.write(engines.installation))
    (sshd.home / base / attempt.remote_name / "work").mkdir(parents=True, exist_ok=True)
    return f"j{job_id}"


def test_a_command_runs_where_the_job_works(cli: Cli, running: str) -> None:
    script = 'pwd; echo "$OUTPUT_DIR"; printf "[%s]" "$@"; exit 7'
    code, out, err = cli.run("ssh", running, "--", "sh", "-c", script, "x", "a  b", "it's $(no)")
    lines = out.decode().splitlines()
    assert lines[0].endswith("/j1-1/work"), (out, err)
    assert lines[1].endswith("/j1-1/outputs")
    assert (lines[2], code) == ("[a  b][it's $(no)]", 7)


def test_one_word_is_a_shell_line(cli: Cli, running: str) -> None:
    assert cli.run("ssh", running, "--", "echo one | tr o 0; exit 3")[:2] == (3, b"0ne\n")


def test_a_worker_is_named_as_well_and_input_goes_there(cli: Cli, running: str, sshd: SshdInfo) -> None:
    with cli.start("ssh", "w1", "--", "cat", stdin=subprocess.PIPE) as client:
        out, _ = client.communicate(b"through\0", timeout=PATIENCE_SEC)
    assert out == b"through\0"


def test_a_shell_opens_on_a_terminal(cli: Cli, running: str) -> None:
    with contextlib.closing(Pty(["ssh", running], **cli.environ)) as terminal:
        terminal.wait_for(b"the job goes on")
        terminal.send(b"echo $((40+2))-${PWD##*/}; exit 5\r")
        terminal.wait_for(b"42-work")
        assert terminal.ended() == 5


def test_nothing_of_the_users_own_takes_part(cli: Cli, running: str, tmp_path: Path) -> None:
    """A configuration that would lead elsewhere, and an agent that nobody may ask."""
    own = tmp_path / "own"
    (own / ".ssh").mkdir(parents=True)
    (own / ".ssh" / "config").write_text("Host *\n  Hostname 192.0.2.1\n  ProxyCommand false\n")
    more = {"HOME": str(own), "SSH_AUTH_SOCK": str(tmp_path / "agent")}
    assert cli.run("ssh", running, "--", "echo there", env=more)[:2] == (0, b"there\n")
    assert [each.name for each in (own / ".ssh").iterdir()] == ["config"]


def test_another_host_key_is_refused(cli: Cli, bench: Bench, keys: Path, sshd: SshdInfo) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key("openssh").decode().strip()
    job = place(cli, bench, keys, sshd, host_key=other)
    code, out, err = cli.run("ssh", job, "--", "echo", "reached")
    assert (code, out) == (255, b"")
    assert b"Host key verification failed" in err


def test_what_can_be_reached_is_said(cli: Cli, bench: Bench, keys: Path, sshd: SshdInfo) -> None:
    bench.submit()
    assert "j1 is pending: it runs on no machine" in fails(cli, "ssh", "j1")
    assert "there is no job j9" in fails(cli, "forward", "9", "6006")
    assert "there is no worker w9" in fails(cli, "ssh", "w9")
    bench.order()
    assert "has no address yet" in fails(cli, "ssh", "w1")
    bench.boot()
    assert "host key is not known" in fails(cli, "ssh", "w2")
    assert "no such file" not in fails(cli, "ssh", "x1", code=2)
    attempt = bench.placed()
    bench.end(bench.advance(attempt, AttemptState.STAGING, AttemptState.RUNNING), Cause.FINISHED, JobState.DONE)
    assert "is done: it runs on no machine" in fails(cli, "ssh", f"j{attempt.job_id}")


def test_without_a_client_or_a_key(cli: Cli, running: str, tmp_path: Path) -> None:
    assert "no OpenSSH client" in fails(cli, "ssh", running, PATH=str(tmp_path))
    cli.home.client_key.unlink()
    assert "private key" in fails(cli, "ssh", running)


def fails(cli: Cli, *words: str, code: int = 1, **environ: str) -> str:
    result = cli(*words, **environ)
    assert result.exit_code == code, result.output
    return result.stderr


def test_ports() -> None:
    assert reach.parse_ports("6006") == (6006, 6006)
    assert reach.parse_ports("1:65535") == (1, 65535)
    for wrong in ("", "0", "65536", "6006:", ":6006", "a", "-1", "1:2:3", "١", "6006 "):
        with pytest.raises(reach.FieldError):
            reach.parse_ports(wrong)


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"over there: " + self.request.recv(100))


@contextmanager
def echoing() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_a_port_is_forwarded_until_ctrl_c(cli: Cli, running: str) -> None:
    with echoing() as remote:
        local = free_port()
        with cli.start("forward", running, f"{local}:{remote}") as client:
            assert client.stdout is not None
            said = client.stdout.readline().decode()
            assert said.startswith(f"127.0.0.1:{local} is port {remote} of w1"), said
            with socket.create_connection(("127.0.0.1", local), timeout=PATIENCE_SEC) as near:
                near.sendall(b"hello")
                assert near.recv(100) == b"over there: hello"
            client.send_signal(signal.SIGINT)
            assert client.wait(PATIENCE_SEC) == 0
        until_free(local)


def test_a_port_that_is_taken(cli: Cli, running: str) -> None:
    with echoing() as taken:
        assert "cannot be listened on" in fails(cli, "forward", running, str(taken))


def test_a_forward_to_a_machine_that_does_not_answer(cli: Cli, bench: Bench, running: str) -> None:
    bench.write(workers.set_endpoint, 1, Endpoint("127.0.0.1", free_port(), host_key="ssh-ed25519 AAAA"))
    code, out, err = cli.run("forward", running, str(free_port()))
    assert (code, out) == (1, b"")
    assert b"Connection refused" in err


def test_a_shared_homes_key_is_taken(cli: Cli, running: str) -> None:
    """OpenSSH refuses a key that a group may read; every member of a shared home may."""
    cli.home.client_key.chmod(0o660)
    assert cli.run("ssh", running, "--", "echo in")[:2] == (0, b"in\n")
    for path in (cli.home.client_key.parent / "hosts").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_paths_with_odd_characters_are_options_whole(tmp_path: Path, keys: Path, sshd: SshdInfo, cli: Cli) -> None:
    odd = Cli(type(cli.home)(tmp_path / 'a home "of" 100%h \\ours'), cli.config)
    odd.home.ensure()
    bench = Bench(odd.home.database)
    try:
        job = place(odd, bench, keys, sshd, host_key=sshd.host_key)
        assert odd.run("ssh", job, "--", "echo in")[:2] == (0, b"in\n")
    finally:
        bench.db.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until_free(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_SEC
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
        assert time.monotonic() < deadline
        time.sleep(0.02)
