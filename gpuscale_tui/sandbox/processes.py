"""Ending every process of a machine, whatever it did to hide, and removing what it wrote.

Every process that a machine runs carries `SANDBOX_MARK=<mark>` in its environment, and children inherit it through
fork, setsid and exec. A sweep reads /proc and kills whatever carries the mark, whatever works in the machine's
directory without a terminal (a command may have cleared its environment; somebody's shell that looks around in there
is not ours to kill), and all their descendants. It repeats until two looks in a row
find nothing, since a process may fork while we look. Standard library only: the watchdog uses it after a fork.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import time
from dataclasses import dataclass
from pathlib import Path

MARK_VARIABLE = "SANDBOX_MARK"
PROC = Path("/proc")
SWEEP_SECONDS = 10.0
PAUSE_SECONDS = 0.02
REMOVALS = 3


@dataclass(frozen=True, slots=True)
class Target:
    """What to sweep: a mark (all marks that begin so when it ends in a dot) and a directory."""

    mark: str
    directory: Path

    @property
    def needle(self) -> bytes:
        """What a marked process has in its environment block."""
        end = "" if self.mark.endswith(".") else "\0"
        return f"\0{MARK_VARIABLE}={self.mark}{end}".encode()


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    session: int
    terminal: int


def _read_process(pid: int) -> _Process | None:
    """The process, or None when it is gone or a zombie, which nobody needs to kill."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else _Process(pid, int(fields[1]), int(fields[3]), int(fields[4]))


def _belongs(process: _Process, target: Target) -> bool:
    base = PROC / str(process.pid)
    with contextlib.suppress(OSError):  # gone, or somebody else's: not ours to kill
        if target.needle in b"\0" + (base / "environ").read_bytes():
            return True
    with contextlib.suppress(OSError):
        return not process.terminal and (base / "cwd").readlink().is_relative_to(target.directory)
    return False


def _with_descendants(roots: set[int], everything: dict[int, _Process]) -> set[int]:
    found = set(roots)
    while True:
        more = {p.pid for p in everything.values() if (p.parent in found or p.session in found) and p.pid not in found}
        if not more:
            return found
        found |= more


def find(target: Target) -> set[int]:
    """Process ids that belong to the target now. Never this process or its watchdog."""
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    everything = {pid: process for pid in pids if (process := _read_process(pid))}
    protected = {os.getpid(), os.getppid(), 1}
    roots = {pid for pid, it in everything.items() if pid not in protected and _belongs(it, target)}
    return _with_descendants(roots, everything) - protected


def sweep(target: Target, seconds: float = SWEEP_SECONDS) -> bool:
    """Kill all processes of the target until two looks in a row find none. False when time ran out. Blocks."""
    deadline = time.monotonic() + seconds
    clean = 0
    while time.monotonic() < deadline:
        found = find(target)
        clean = 0 if found else clean + 1
        if clean == 2:
            return True
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE_SECONDS if found else 0)
    return False


def remove_tree(path: Path) -> None:
    """Remove a directory, also one whose modes forbid it. Blocks. Raises OSError when it cannot."""
    for _ in range(REMOVALS):  # a process that was just killed may leave a last file behind
        try:
            _remove_once(path)
        except OSError:
            time.sleep(PAUSE_SECONDS)
        else:
            return
    _remove_once(path)


def _remove_once(path: Path) -> None:
    if not path.exists():
        return
    path.chmod(stat.S_IRWXU)
    for folder, names, _ in os.walk(path):  # from the top: a folder is opened up before the walk enters it
        for inner in (Path(folder, name) for name in names):
            if not inner.is_symlink():
                inner.chmod(stat.S_IRWXU)
    shutil.rmtree(path)


def end(target: Target) -> bool:
    """Sweep, then remove the directory. False when some process would not die. Blocks."""
    swept = sweep(target)
    remove_tree(target.directory)
    return swept
