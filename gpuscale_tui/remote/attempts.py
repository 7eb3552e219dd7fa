"""The run protocol: one command on one machine, started once, detached, followed by byte offset, ended for certain.

What the machine does stands in `scripts`; this is our side of it. Everything here may be broken off at any point and
repeated: the truth is in the attempt's directory on the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from gpuscale_tui.remote import scripts
from gpuscale_tui.remote.channel import Channel
from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import (
    AttemptRunning,
    AttemptVanished,
    NotStarted,
    RemoteCommandFailed,
    RemoteError,
    Unreachable,
)
from gpuscale_tui.remote.launch import Launch, launch_script

BASE = re.compile(r"(?:[A-Za-z0-9._][A-Za-z0-9._-]{0,63}/){0,3}[A-Za-z0-9._][A-Za-z0-9._-]{0,63}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NUMBER = re.compile(r"[0-9]{1,18}")

FOLLOW_AFTER_SEC = 0.06
"""How long a command may run before a second channel streams its output; a shorter one costs one channel in all."""
ANSWER_SEC = 30
"""How long the machine may take to answer one question."""
SLOWEST_TICK_SEC = 1.0
"""How often an attached attempt, whose end nobody tells us, is asked about at the least."""
PARENT_TICK_SEC = 10.0
"""The same where the starting channel tells the end at once: only to notice a machine that stopped answering."""

Sink = Callable[[bytes], Awaitable[None]]
Started = Callable[[], Awaitable[None]]


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
    asked for its end by `stop`. `output_size` counts the bytes that it wrote, all of which were delivered.
    """

    code: int
    timed_out: bool
    output_size: int
    stopped: bool = False


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


async def prepare(machine: Machine, ref: AttemptRef) -> None:
    """Make the attempt's directories, mode 0700, for files to be put there. Harmless to repeat.

    `execute` makes them itself when nothing is to be uploaded first.
    """
    await _ask(machine, scripts.PREPARE, ref.line(), "making the attempt's directories")


async def execute(
    machine: Machine,
    ref: AttemptRef,
    launch: Launch,
    *,
    offset: int,
    sink: Sink,
    on_started: Started | None = None,
) -> Exit:
    """Start the attempt unless it was started before, deliver its output from byte `offset` on, wait for its end.

    `sink` gets each byte once and in order; `on_started` is awaited once, when it is certain that the attempt was
    started (by this call or an earlier one). Raises Unreachable when the connection is lost: connect again and
    repeat with `offset` = bytes received so far. Raises AttemptVanished when the attempt was started (an `offset`
    above 0 says so) but is neither alive nor ended.
    """
    delivery = _Delivery(machine, ref, sink, offset)
    if offset > 0:
        return await _attach(delivery, on_started)
    delivery.on_started = on_started
    changed = asyncio.Event()
    command = machine.command(scripts.START, scripts.RUNNER, scripts.WATCHDOG)
    async with machine.channel(command, changed) as start:
        start.write(_start_input(machine, ref, launch))
        first = _Start(delivery, start, changed)
        outcome = await first.watch_briefly()
        if outcome is not None and await first.complete():
            return outcome.exit(delivery.received)
        return await _follow(delivery, changed, first)


async def attach(
    machine: Machine, ref: AttemptRef, *, offset: int, sink: Sink, on_started: Started | None = None
) -> Exit:
    """Like `execute`, for an attempt that was started before; never starts one. Raises NotStarted."""
    return await _attach(_Delivery(machine, ref, sink, offset), on_started)


async def status(machine: Machine, ref: AttemptRef) -> AttemptStatus:
    """Where the attempt stands now. Raises Unreachable or RemoteError."""
    controls = await _ask(machine, scripts.STATUS, ref.line(), "asking for the attempt's state")
    return _find_state(machine, controls)


async def stop(machine: Machine, ref: AttemptRef, *, grace_sec: int) -> Exit:
    """End the attempt: TERM to its whole process group, KILL after `grace_sec` seconds. How it ended.

    Idempotent. An attempt that was never started is barred from starting later and counts as ended by TERM (143);
    one whose runner is gone is marked as killed (137). Raises RemoteError when even KILL did not help.
    """
    label = "stopping the attempt"
    controls = await _ask(machine, scripts.STOP, ref.line(grace_sec), label, timeout_sec=grace_sec + 2 * ANSWER_SEC)
    if ("stuck",) in controls:
        raise RemoteError(f"{machine.where}: {ref.directory} does not end even by KILL; give the machine back")
    found = _find_state(machine, controls)
    if found.exit is None:
        raise RemoteError(f"{machine.where}: {ref.directory} is {found.state.value} after it was stopped; try again")
    return found.exit


async def remove(machine: Machine, ref: AttemptRef) -> None:
    """Delete the attempt's directory with all that is in it. Raises AttemptRunning while the attempt lives."""
    controls = await _ask(machine, scripts.REMOVE, ref.line(), "removing the attempt's directory", timeout_sec=300)
    if ("running",) in controls:
        raise AttemptRunning(f"{machine.where}: {ref.directory} is still running; stop it first")


# --- delivery -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Delivery:
    """The bytes on their way from one attempt to one sink, and whether its start was told."""

    machine: Machine
    ref: AttemptRef
    sink: Sink
    received: int
    on_started: Started | None = None

    async def give(self, data: bytes) -> None:
        await self.sink(data)
        self.received += len(data)

    async def tell_started(self) -> None:
        told, self.on_started = self.on_started, None
        if told is not None:
            await told()

    def broken(self, channel: Channel, label: str) -> RemoteError:
        """The error for a channel that ended before it said what it had to say."""
        if channel.exit_status is None:
            return Unreachable(f"{self.machine.where}: the connection was lost while {label}; connect again and attach")
        return _failed(self.machine, label, channel.exit_status, bytes(channel.noise).decode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class _Record:
    """The exit record as the machine tells it."""

    code: int
    timed_out: bool
    stopped: bool

    def exit(self, output_size: int) -> Exit:
        return Exit(self.code, self.timed_out, output_size, self.stopped)


class _Start:
    """The channel that started an attempt: parent of the runner, so that it knows the end at once."""

    def __init__(self, delivery: _Delivery, channel: Channel, changed: asyncio.Event) -> None:
        self.delivery = delivery
        self.channel = channel
        self.changed = changed
        self.claimed = False
        self.record: _Record | None = None
        self.telling = False
        """True when the end will be told here."""

    async def watch_briefly(self) -> _Record | None:
        """The exit record when the command ends soon after its start, else None. Raises when it cannot start."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_SEC) as bound:
                while not self.over():
                    self.changed.clear()
                    was_telling = self.telling
                    self.listen()
                    if self.telling and not was_telling:
                        await self.delivery.tell_started()
                        bound.reschedule(loop.time() + FOLLOW_AFTER_SEC)
                    if not self.over():
                        await self.changed.wait()
        except TimeoutError as error:
            if not self.telling:
                where = self.delivery.machine.where
                raise Unreachable(f"{where}: no sign of a start within {ANSWER_SEC} s; connect again") from error
        return self.record

    def over(self) -> bool:
        """True when nothing more is to be learned from this channel's control lines."""
        return self.claimed or self.record is not None or self.channel.drained

    def listen(self) -> None:
        """Take in what the far side said. Raises RemoteError when it cannot start anything."""
        while (words := self.channel.take_control()) is not None:
            match words:
                case ["started"]:
                    self.telling = True
                case ["claimed"]:
                    self.claimed = True
                case ["lost"]:
                    self.telling = False
                case ["exit", code, timed, stopped]:
                    self.record = _record(self.delivery.machine, code, timed, stopped)
                    self.telling = False
                case ["unwritable"]:
                    raise _failed(self.delivery.machine, "starting the attempt", 1, "no file could be written (disk?)")
                case ["unable"]:
                    raise _failed(self.delivery.machine, "starting the attempt", 1, "no setsid and no job control")
                case _:
                    pass

    async def complete(self) -> bool:
        """Deliver what this channel carries of the output; True when that is all of it."""
        size = 0
        async with _answer_bound(self.delivery.machine):
            while not self.channel.drained:
                self.changed.clear()
                while data := self.channel.take():
                    size += len(data)
                    if size > scripts.FIRST_BYTES:
                        raise RemoteError(f"{self.delivery.machine.where}: more output than the protocol allows")
                    await self.delivery.give(data)
                self.channel.controls.clear()
                if not self.channel.drained:
                    await self.changed.wait()
        if self.channel.exit_status is None:
            raise self.delivery.broken(self.channel, "reading the first output")
        return self.channel.exit_status == 0 and size < scripts.FIRST_BYTES

    def attend(self) -> bool:
        """While another channel follows: take in control lines, drop output; True when the end was told just now."""
        was_telling = self.telling
        with contextlib.suppress(RemoteError):
            while self.channel.take():
                pass
            self.listen()
        if self.channel.closed:
            self.telling = False
        return was_telling and not self.telling


async def _attach(delivery: _Delivery, on_started: Started | None) -> Exit:
    delivery.on_started = on_started
    return await _follow(delivery, asyncio.Event(), None)


async def _follow(delivery: _Delivery, changed: asyncio.Event, parent: _Start | None) -> Exit:
    machine = delivery.machine
    async with machine.channel(machine.command(scripts.FOLLOW), changed) as channel:
        channel.write(delivery.ref.line(delivery.received))
        found = await _Follower(delivery, channel, changed, parent).watch()
    if found.state is AttemptState.NOT_STARTED:
        raise _never_started(delivery)
    await delivery.tell_started()
    await _fetch_rest(delivery, found.output_size)
    if found.exit is None:
        raise AttemptVanished(
            f"{machine.where}: {delivery.ref.directory} was started but is neither alive nor ended: the machine "
            "restarted, or its processes were killed; run it again as a new attempt"
        )
    return Exit(found.exit.code, found.exit.timed_out, max(delivery.received, found.output_size), found.exit.stopped)


def _never_started(delivery: _Delivery) -> RemoteError:
    place = f"{delivery.machine.where}: {delivery.ref.directory}"
    if delivery.received > 0:
        return AttemptVanished(f"{place} is gone although it had written output; run it again as a new attempt")
    return NotStarted(f"{place} was never started on this machine; start it")


class _Follower:
    """Streams output by `tail -f` on the machine and asks after the attempt's state now and then.

    One question is open at a time; the script asks itself the first. `due` is when something must be done: the next
    question, or giving up on the answer.
    """

    def __init__(self, delivery: _Delivery, channel: Channel, changed: asyncio.Event, parent: _Start | None) -> None:
        self.delivery = delivery
        self.channel = channel
        self.changed = changed
        self.parent = parent
        self.clock = asyncio.get_running_loop().time
        self.since = self.clock()
        self.asked = True
        self.hurry = False
        self.due = self.since + ANSWER_SEC
        self.found: AttemptStatus | None = None

    async def watch(self) -> AttemptStatus:
        """Deliver output until the attempt is over; what was said of it then. Raises Unreachable."""
        while not self.channel.drained:
            self.changed.clear()
            await self._take_all()
            if self.parent is not None and self.parent.attend():
                self.hurry = True
            self._keep_asking()
            if not self.channel.drained and not self.changed.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(self.due):
                        await self.changed.wait()
        if self.found is None:
            raise self.delivery.broken(self.channel, "following the output")
        return self.found

    async def _take_all(self) -> None:
        while data := self.channel.take():
            await self.delivery.give(data)
            if self.asked:
                self.due = self.clock() + ANSWER_SEC  # whoever sends output is alive, be the answer late
        while (words := self.channel.take_control()) is not None:
            if words == ("running",):
                self.asked = False
                self.due = self.clock() + self._tick()
                await self.delivery.tell_started()
            elif words[:1] == ("state",):
                self.found = _state(self.delivery.machine, words)

    def _keep_asking(self) -> None:
        now = self.clock()
        if self.asked and now >= self.due:
            raise Unreachable(f"{self.delivery.machine.where}: no answer within {ANSWER_SEC} s; connect again")
        if not self.asked and (self.hurry or now >= self.due):
            self.channel.write(b"\n")
            self.asked, self.hurry, self.due = True, False, now + ANSWER_SEC

    def _tick(self) -> float:
        if self.parent is not None and self.parent.telling:
            return PARENT_TICK_SEC
        return min(SLOWEST_TICK_SEC, 0.1 + (self.clock() - self.since) / 20)


async def _fetch_rest(delivery: _Delivery, size: int) -> None:
    while delivery.received < size:
        before = delivery.received
        await _fetch(delivery, size)
        if delivery.received == before:
            raise RemoteError(
                f"{delivery.machine.where}: {delivery.ref.directory} has less output than it said "
                f"({before} of {size} bytes); attach again"
            )


async def _fetch(delivery: _Delivery, size: int) -> None:
    changed = asyncio.Event()
    async with delivery.machine.channel(delivery.machine.command(scripts.FETCH), changed) as channel:
        channel.write(delivery.ref.line(delivery.received))
        while not channel.drained and delivery.received < size:
            changed.clear()
            while data := channel.take():
                await delivery.give(data[: size - delivery.received])
            channel.controls.clear()
            if not channel.drained and not changed.is_set():
                async with _answer_bound(delivery.machine):
                    await changed.wait()
        if channel.exit_status != 0 and delivery.received < size:
            raise delivery.broken(channel, "reading the rest of the output")


# --- questions and answers ------------------------------------------------------------------------------------------


def _start_input(machine: Machine, ref: AttemptRef, launch: Launch) -> bytes:
    body = launch_script(launch, machine.shell)
    return ref.line(body.count(b"\n"), launch.runtime_limit_sec or 0, launch.grace_sec) + body


async def _ask(
    machine: Machine, script: str, stdin: bytes, label: str, *, timeout_sec: float = ANSWER_SEC
) -> list[tuple[str, ...]]:
    """Run one of our scripts to its end; its control lines. Raises RemoteCommandFailed for a non-zero status."""
    changed = asyncio.Event()
    controls: list[tuple[str, ...]] = []
    try:
        async with asyncio.timeout(timeout_sec), machine.channel(machine.command(script), changed) as channel:
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
            status, noise = channel.exit_status, bytes(channel.noise)
    except TimeoutError as error:
        raise Unreachable(f"{machine.where}: {label} gave no answer within {timeout_sec:g} s; try again") from error
    if status is None:
        raise Unreachable(f"{machine.where}: the connection was lost while {label}; connect again")
    if status != 0 and ("stuck",) not in controls:
        raise _failed(machine, label, status, noise.decode("utf-8", "replace"))
    return controls


def _failed(machine: Machine, label: str, status: int, said: str) -> RemoteCommandFailed:
    return RemoteCommandFailed(machine.where, label, status, said.strip())


@contextlib.asynccontextmanager
async def _answer_bound(machine: Machine) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ANSWER_SEC):
            yield
    except TimeoutError as error:
        raise Unreachable(f"{machine.where}: silent for {ANSWER_SEC} s; connect again") from error


def _find_state(machine: Machine, controls: list[tuple[str, ...]]) -> AttemptStatus:
    for words in reversed(controls):
        if words[:1] == ("state",):
            return _state(machine, words)
    raise RemoteError(f"{machine.where}: the machine did not answer as our script does; is it really a POSIX shell?")


def _state(machine: Machine, words: tuple[str, ...]) -> AttemptStatus:
    """`state VERDICT CODE TIMED STOPPED SIZE` as a status. Raises RemoteError for anything else."""
    try:
        _, verdict, code, timed, stopped, size_text = words
        state = AttemptState(verdict)
    except ValueError as error:
        raise RemoteError(f"{machine.where}: not an answer of ours: {words!r:.200}") from error
    size = _number(machine, size_text)
    if state is not AttemptState.EXITED:
        return AttemptStatus(state, size)
    return AttemptStatus(state, size, _record(machine, code, timed, stopped).exit(size))


def _record(machine: Machine, code: str, timed: str, stopped: str) -> _Record:
    number = _number(machine, code)
    if number > 255 or timed not in {"0", "1"} or stopped not in {"0", "1"}:
        raise RemoteError(f"{machine.where}: not an exit record of ours: {code[:20]!r} {timed[:20]!r} {stopped[:20]!r}")
    return _Record(number, timed == "1", stopped == "1")


def _number(machine: Machine, text: str) -> int:
    if not NUMBER.fullmatch(text):
        raise RemoteError(f"{machine.where}: expected a number, got {text[:40]!r}")
    return int(text)
