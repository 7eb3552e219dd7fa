"""Ways to a job's machine for its user: what OpenSSH's client is called with, for a shell there or a port of it.

Cheap to import: the screen does. Nothing of the user's own SSH settings takes part: no agent, no configuration, no
known hosts; the host key is the one that the engine pinned at first contact.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuscale_tui import rights
from gpuscale_tui.model.errors import FieldError, GpuscaleError, NotFound
from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.states import JobState, WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.store import engines, jobs, workers
from gpuscale_tui.store.home import Home, private_opener

CONNECT_SEC = 15
ALIVE_SEC = 15
READY = "gpuscale:forwarded"
"""What the client of `forward_command` prints once it is connected and listens."""
GONE = frozenset({WorkerState.RELEASED, WorkerState.LOST})

# $1 the directory, then the words to run; without any the user's own shell. As a constant it holds no single quote.
_ENTER = """
cd
if [ -n "$1" ] && cd "./$1" 2>/dev/null; then
  export CHECKPOINT_DIR="${PWD%/work}/checkpoints" OUTPUT_DIR="${PWD%/work}/outputs"
elif [ -n "$1" ]; then
  echo "gpuscale: its directory $1 is not there (yet); this is the home" >&2
fi
shift
if [ "$#" = 0 ]; then exec "${SHELL:-/bin/sh}" -l; fi
exec "$@"
"""


class Unreachable(GpuscaleError):
    """There is no way to that machine now; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Target:
    """A machine that can be reached: `directory` is where its job works, relative to the home there, "" without one."""

    worker_id: int
    endpoint: Endpoint
    directory: str = ""

    @property
    def where(self) -> str:
        """`w3 (root@192.0.2.7:22)`, to show."""
        place = f"{self.endpoint.user}@{self.endpoint.host}:{self.endpoint.port}"
        return f"{worker_label(self.worker_id)} ({place})"


def of_job(connection: sqlite3.Connection, job_id: int) -> Target:
    """The machine that runs a job. Raises NotFound, and Unreachable while it runs nowhere."""
    job = jobs.get(connection, job_id)
    if job is None:
        raise NotFound(f"there is no job {job_label(job_id)}; `gpuscale queue --all` lists them")
    if job.state != JobState.RUNNING or job.worker_id is None:
        hint = "" if job.worker_id is None else f"; `gpuscale ssh {worker_label(job.worker_id)}` if that still runs"
        raise Unreachable(f"{job_label(job_id)} is {job.state}: it runs on no machine now{hint}")
    return of_worker(connection, job.worker_id)


def of_worker(connection: sqlite3.Connection, worker_id: int) -> Target:
    """A worker, in the directory of the job that it runs. Raises NotFound, and Unreachable."""
    worker = workers.get(connection, worker_id)
    if worker is None:
        raise NotFound(f"there is no worker {worker_label(worker_id)}; `gpuscale workers --all` lists them")
    label = worker_label(worker_id)
    if worker.state in GONE:
        raise Unreachable(f"{label} is {worker.state}: it is not ours any more")
    if worker.endpoint is None:
        raise Unreachable(f"{label} is {worker.state}: it has no address yet; `gpuscale workers` says when it has")
    if worker.endpoint.host_key is None:
        raise Unreachable(f"{label} is {worker.state}: the engine has not reached it yet, so its host key is not known")
    return Target(worker_id, worker.endpoint, _directory(connection, worker))


def _directory(connection: sqlite3.Connection, worker: Worker) -> str:
    installation = engines.known_installation(connection)
    if worker.job_id is None or worker.attempt is None or installation is None:
        return ""
    return f"{base_of(installation)}/j{worker.job_id}-{worker.attempt}/work"


def base_of(installation: str) -> str:
    """Our directory on every machine, relative to the home there."""
    return f".gpuscale/{installation}"


def shell_command(home: Home, target: Target, words: Sequence[str] = (), *, terminal: bool = True) -> list[str]:
    """The words that open a shell on the machine, in the directory where its job works; or that run `words` there.

    One word is a shell line, several are run as they are. `terminal`: give it a terminal, which a shell needs. Writes
    the file with the pinned host key; raises Unreachable where there is no OpenSSH client or no key, and OSError.
    """
    from gpuscale_tui.remote.launch import quote

    given = ("/bin/sh", "-c", words[0]) if len(words) == 1 else tuple(words)
    inner = " ".join(quote(word) for word in ("-c", _ENTER, "gpuscale", target.directory, *given))
    return [*_client(home, target), "-t" if terminal else "-T", *_address(target), f"exec /bin/sh {inner}"]


def forward_command(home: Home, target: Target, local: int, remote: int) -> list[str]:
    """The words that forward port `local` of 127.0.0.1 here to port `remote` of the machine, until they are ended.

    Prints READY once it listens. Raises as `shell_command`.
    """
    ready = ("-o", "PermitLocalCommand=yes", "-o", f"LocalCommand=echo {READY}")
    ports = ("-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{local}:localhost:{remote}")
    return [*_client(home, target), "-N", "-T", *ready, *ports, *_address(target)]


def parse_ports(text: str) -> tuple[int, int]:
    """`6006` or `8080:6006`: the port here and the one of the machine. Raises FieldError (field `port`)."""
    local, colon, remote = text.partition(":")
    parts = (local, remote if colon else local)
    if not all(part.isascii() and part.isdigit() and 1 <= int(part[:6]) <= 65_535 for part in parts):
        raise FieldError("port", text, "PORT or PORT:REMOTE with numbers from 1 to 65535, such as 6006 or 8080:6006")
    return int(parts[0]), int(parts[1])


def check_free(port: int) -> None:
    """Raise Unreachable where another program listens on this port of 127.0.0.1, or we may not."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            way = "another number before the colon, such as 18080:8080"
            raise Unreachable(f"127.0.0.1:{port} cannot be listened on ({error.strerror}): give {way}") from error


def _client(home: Home, target: Target) -> list[str]:
    """The client with our key, the pinned host key and nothing of the user's own settings."""
    program = shutil.which("ssh")
    if program is None:
        raise Unreachable("there is no OpenSSH client on this computer (no `ssh` in PATH): install it, then try again")
    endpoint = target.endpoint
    key = Path(endpoint.key_file).expanduser() if endpoint.key_file else home.client_key
    if not key.exists():
        raise Unreachable(f"the private key {key} is not there: is this the home of the engine?")
    hosts = home.client_key.parent / "hosts"
    rights.make_directory(hosts)
    key = _presentable(key, hosts)
    known = _known_hosts(hosts, target)
    options = {
        "BatchMode": "yes",  # nothing is asked: no password, no question about a host key
        "CheckHostIP": "no",
        "ClearAllForwardings": "no",
        "ConnectTimeout": str(CONNECT_SEC),
        "ControlMaster": "no",
        "ControlPath": "none",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": _alias(target),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": _path(key),
        "LogLevel": "ERROR",
        "PreferredAuthentications": "publickey",
        "ServerAliveCountMax": "3",
        "ServerAliveInterval": str(ALIVE_SEC),
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "UserKnownHostsFile": _path(known),
    }
    words = [program, "-F", "/dev/null"]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return words


def _address(target: Target) -> tuple[str, ...]:
    endpoint = target.endpoint
    return ("-p", str(endpoint.port), "-l", endpoint.user, "--", endpoint.host)


def _alias(target: Target) -> str:
    return f"gpuscale-{worker_label(target.worker_id)}"


def _path(path: Path) -> str:
    """A path for one option: quoted, and with nothing that the client would expand."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'


def _known_hosts(hosts: Path, target: Target) -> Path:
    """A file that holds this machine's pinned key alone."""
    path = hosts / worker_label(target.worker_id)
    _write(path, f"{_alias(target)} {target.endpoint.host_key}\n".encode(), private_opener)
    return path


def _presentable(key: Path, hosts: Path) -> Path:
    """A file with the key that OpenSSH takes: it refuses one of ours that a group may read, as in a shared home."""
    found = key.stat()
    if found.st_uid != os.geteuid() or not found.st_mode & 0o077:
        return key
    copy = hosts / f"key-{os.geteuid()}"
    _write(copy, key.read_bytes(), lambda path, flags: os.open(path, flags, 0o600))
    return copy


def _write(path: Path, content: bytes, opener: Callable[[str, int], int]) -> None:
    """Write a small file whole: another shell may be reading it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with open(draft, "wb", opener=opener) as file:
        file.write(content)
    draft.replace(path)
