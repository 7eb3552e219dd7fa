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
START_SEC = 20


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
    port = _free_port()
    config = root / "sshd_config"
    config.write_text(_config(root, home, port, max_sessions))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation directory
    with (root / "log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=log)
    try:
        _wait_for_listening(server, port, root / "log")
        line = host_key.export_public_key("openssh").decode().strip()
        yield SshdInfo("127.0.0.1", port, getpass.getuser(), home, line)
    finally:
        server.terminate()
        server.wait(10)
        shutil.rmtree(home, ignore_errors=True)


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


def _wait_for_listening(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SEC
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError(f"sshd did not come up: {log.read_text(errors='replace')[-2000:]}")
