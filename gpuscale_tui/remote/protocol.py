"""The words of the run protocol, and the machine's answers read as such; nothing else of them is believed."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum

from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import RemoteCommandFailed, RemoteError, Unreachable

BASE = re.compile(r"(?:[A-Za-z0-9._][A-Za-z0-9._-]{0,63}/){0,3}[A-Za-z0-9._][A-Za-z0-9._-]{0,63}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NUMBER = re.compile(r"[0-9]{1,18}")
RECORD_FLAGS = re.compile("[01] [012] [0-7]")
ANSWER_SEC = 30
"""How long the machine may take to answer one question."""


@dataclass(frozen=True, slots=True)
class AttemptRef:
    """Where an attempt lives on its machine: `name` in `base`, a directory relative to the remote home."""

    base: str
    name: str

    def __post_init__(self) -> None:
        parts = self.base.split("/")
        if not BASE.fullmatch(self.base) or any(part.strip(".") == "" for part in parts):
            raise ValueError(f"base {self.base!r}: up to four names of letters, digits, . _ - with / between them")
        if not NAME.fullmatch(self.name):
            raise ValueError(f"attempt name {self.name!r}: up to 64 letters, digits, . _ -; not . _ - first")

    @property
    def directory(self) -> str:
        """The attempt's directory, relative to the remote home; `work` and `checkpoints` are in it."""
        return f"{self.base}/{self.name}"

    def line(self, *more: int) -> bytes:
        """The first stdin line of a script."""
        return " ".join((self.base, self.name, *(str(number) for number in more))).encode("ascii") + b"\n"


@dataclass(frozen=True, slots=True)
class Exit:
    """How the command ended.

    `code` is its exit code, 128 + N after signal N. `timed_out`: the runtime limit ended it. `stopped`: someone had
    asked for its end by `stop`; `lapsed`: that was the machine itself, when its lease was over. `output_size` counts
    the bytes that it wrote, all of which were delivered. `has_checkpoints`: something lay in its checkpoint directory
    at the end, be it only what was put there before; `has_outputs`: something lay in its OUTPUT_DIR. `killed`: not all
    of it ended by itself when it was asked to, so that it may have been killed while it wrote a file.
    """

    code: int
    timed_out: bool
    output_size: int
    stopped: bool = False
    has_checkpoints: bool = False
    lapsed: bool = False
    has_outputs: bool = False
    killed: bool = False


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """The exit record as the machine tells it."""

    code: int
    timed_out: bool
    stopped: bool
    has_checkpoints: bool
    lapsed: bool = False
    has_outputs: bool = False
    killed: bool = False

    def exit(self, output_size: int) -> Exit:
        return Exit(
            self.code, self.timed_out, output_size, self.stopped, self.has_checkpoints, self.lapsed, self.has_outputs,
            self.killed,
        )  # fmt: skip


class AttemptState(Enum):
    """Where an attempt stands on its machine."""

    NOT_STARTED = "none"
    RUNNING = "running"
    EXITED = "exited"
    VANISHED = "vanished"


@dataclass(frozen=True, slots=True)
class AttemptStatus:
    """What the machine says of an attempt. `exit` is there when it has exited; `output_size` is the size so far."""

    state: AttemptState
    output_size: int
    exit: Exit | None = None


async def ask(
    machine: Machine, script: str, stdin: bytes, label: str, *arguments: str, timeout_sec: float = ANSWER_SEC
) -> list[tuple[str, ...]]:
    """Run one of our scripts to its end, with more `arguments` from $2 on; its control lines.

    Raises RemoteCommandFailed for a non-zero status.
    """
    changed = asyncio.Event()
    controls: list[tuple[str, ...]] = []
    command = machine.command(script, *arguments)
    try:
        async with asyncio.timeout(timeout_sec), machine.channel(command, changed) as channel:
            channel.write(stdin)
            channel.write_eof()
            while not channel.drained:
                changed.clear()
                channel.take()
                while (words := channel.take_control()) is not None:
                    controls = [*controls[-99:], words]
                if not channel.drained:
                    await changed.wait()
            channel.take()
            status, said = channel.exit_status, channel.excerpt()
    except TimeoutError as error:
        raise Unreachable(f"{machine.where}: {label} gave no answer within {timeout_sec:g} s; try again") from error
    if status is None:
        raise Unreachable(f"{machine.where}: the connection was lost while {label}; connect again")
    if status != 0 and ("stuck",) not in controls:
        raise failed(machine, label, status, said)
    return controls


def failed(machine: Machine, label: str, status: int, said: str) -> RemoteCommandFailed:
    return RemoteCommandFailed(machine.where, label, status, said.strip())


@contextlib.asynccontextmanager
async def answer_bound(machine: Machine) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ANSWER_SEC):
            yield
    except TimeoutError as error:
        raise Unreachable(f"{machine.where}: silent for {ANSWER_SEC} s; connect again") from error


def find_state(machine: Machine, controls: list[tuple[str, ...]]) -> AttemptStatus:
    for words in reversed(controls):
        if words[:1] == ("state",):
            return state_of(machine, words)
    raise RemoteError(f"{machine.where}: the machine did not answer as our script does; is it really a POSIX shell?")


def state_of(machine: Machine, words: tuple[str, ...]) -> AttemptStatus:
    """`state VERDICT CODE TIMED STOPPED SIZE KEPT` as a status. Raises RemoteError for anything else."""
    try:
        _, verdict, code, timed, stopped, size_text, kept = words
        state = AttemptState(verdict)
    except ValueError as error:
        raise RemoteError(f"{machine.where}: not an answer of ours: {words!r:.200}") from error
    size = _number(machine, size_text)
    if state is not AttemptState.EXITED:
        return AttemptStatus(state, size)
    return AttemptStatus(state, size, exit_record(machine, code, timed, stopped, kept).exit(size))


def exit_record(machine: Machine, code: str, *flags: str) -> ExitRecord:
    """`CODE TIMED STOPPED KEPT` as a record. Raises RemoteError for anything else."""
    number = _number(machine, code)
    if number > 255 or not RECORD_FLAGS.fullmatch(" ".join(flags)):
        raise RemoteError(f"{machine.where}: not an exit record of ours: {(code, *flags)!r:.200}")
    timed, stopped, kept = flags[0], flags[1], int(flags[2])
    return ExitRecord(
        number, timed == "1", stopped != "0", bool(kept & 1), stopped == "2", bool(kept & 2), bool(kept & 4)
    )


def _number(machine: Machine, text: str) -> int:
    if not NUMBER.fullmatch(text):
        raise RemoteError(f"{machine.where}: expected a number, got {text[:40]!r}")
    return int(text)
