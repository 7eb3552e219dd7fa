"""OpenSSH's own sshd on 127.0.0.1, with a configuration and a home of the test's own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh

SSHD = "/usr/sbin/sshd"
START_SEC = 60
PORTS_TRIED = 10


@dataclass(frozen=True, slots=True)
class SshdInfo:
    """Where the server listens, and the home that its sessions have."""

    host: str
    port: int
    user: str
    home: Path
    host_key: str


def sshd_missing() -> str | None:
    """Why no sshd can be run here, None when it can."""
    return None if Path(SSHD).exists() else f"{SSHD} is not installed (apt-get install openssh-server)"


@contextmanager
def running_sshd(tmp_path: Path, *, clients_public_key: str, max_sessions: int = 500) -> Iterator[SshdInfo]:
    """An sshd that lets the present user in with that key; its sessions have HOME under `tmp_path`."""
    root = tmp_path / "sshd"
    home = root / "home"
    home.mkdir(parents=True)
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    _write_private(root / "host_key", host_key.export_private_key())
    _write_private(root / "authorized_keys", clients_public_key.encode() + b"\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation directory
    server, port = _start(root, home, max_sessions)
    try:
        line = host_key.export_public_key("openssh").decode().strip()
        yield SshdInfo("127.0.0.1", port, getpass.getuser(), home, line)
    finally:
        server.terminate()
        server.wait(START_SEC)
        shutil.rmtree(home, ignore_errors=True)


def _start(root: Path, home: Path, max_sessions: int) -> tuple[subprocess.Popen[bytes], int]:
    """A listening server and its port. Another program may take a free port before it does: then the next is tried."""
    config, log = root / "sshd_config", root / "log"
    for _ in range(PORTS_TRIED):
        port = _free_port()
        config.write_text(_config(root, home, port, max_sessions))
        with log.open("wb") as stream:
            server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=stream)
        if _listens(server, port, log):
            return server, port
    raise AssertionError(f"sshd did not come up: {log.read_text(errors='replace')[-2000:]}")


def _config(root: Path, home: Path, port: int, max_sessions: int) -> str:
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {root}/host_key",
        f"AuthorizedKeysFile {root}/authorized_keys",
        f"PidFile {root}/pid",
        f"SetEnv HOME={home}",
        "PermitRootLogin yes",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "StrictModes no",
        "UsePAM no",
        "PermitUserRC no",
        "PrintMotd no",
        "MaxStartups 1000:30:2000",
        f"MaxSessions {max_sessions}",
        "Subsystem sftp internal-sftp",
    ]
    return "\n".join(lines) + "\n"


def _write_private(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(server: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    """Whether it has the port, by its own word: somebody else may answer there."""
    deadline = time.monotonic() + START_SEC
    while f"listening on 127.0.0.1 port {port}." not in log.read_text(errors="replace"):
        if server.poll() is not None or time.monotonic() > deadline:
            server.kill()
            server.wait(START_SEC)
            return False
        time.sleep(0.01)
    return True
