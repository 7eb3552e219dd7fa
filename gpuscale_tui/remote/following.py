"""Output on its way from an attempt to a sink: from the channel that started it, by a follower, or fetched."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from gpuscale_tui.remote import protocol, scripts
from gpuscale_tui.remote.channel import Channel
from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import AttemptVanished, NotStarted, RemoteError, Unreachable
from gpuscale_tui.remote.protocol import AttemptRef, AttemptState, AttemptStatus, Exit, ExitRecord

FOLLOW_AFTER_SEC = 0.06
"""How long a command may run before a second channel streams its output; a shorter one costs one channel in all."""
FIRST_TICK_SEC = 0.5
SLOWEST_TICK_SEC = 2.0
"""How often an attached attempt, whose end nobody tells us, is asked about: a fifth of the time that it is followed.
Each question costs both sides some milliseconds, and after a restart all attempts are asked at once."""
PARENT_TICK_SEC = 10.0
"""The same where the starting channel tells the end at once: only to notice a machine that stopped answering."""

Sink = Callable[[bytes], Awaitable[None]]
Started = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Delivery:
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
        return protocol.failed(self.machine, label, channel.exit_status, channel.excerpt())


class StartChannel:
    """The channel that started an attempt: parent of the runner, so that it knows the end at once."""

    def __init__(self, delivery: Delivery, channel: Channel, changed: asyncio.Event) -> None:
        self.delivery = delivery
        self.channel = channel
        self.changed = changed
        self.claimed = False
        self.record: ExitRecord | None = None
        self.telling = False
        """True when the end will be told here."""

    async def watch_briefly(self) -> ExitRecord | None:
        """The exit record when the command ends soon after its start, else None. Raises when it cannot start."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(protocol.ANSWER_SEC) as bound:
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
                raise Unreachable(
                    f"{where}: no sign of a start within {protocol.ANSWER_SEC} s; connect again"
                ) from error
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
                case ["exit", code, timed, stopped, kept]:
                    self.record = protocol.exit_record(self.delivery.machine, code, timed, stopped, kept)
                    self.telling = False
                case ["unwritable"]:
                    raise self._cannot_start("no file could be written (disk?)")
                case ["unable"]:
                    raise self._cannot_start("no setsid and no job control")
                case _:
                    pass

    def _cannot_start(self, why: str) -> RemoteError:
        return protocol.failed(self.delivery.machine, "starting the attempt", 1, why)

    async def complete(self) -> bool:
        """Deliver what this channel carries of the output; True when that is all of it."""
        size = 0
        async with protocol.answer_bound(self.delivery.machine):
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


async def follow(delivery: Delivery, changed: asyncio.Event, parent: StartChannel | None) -> Exit:
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
    return replace(found.exit, output_size=max(delivery.received, found.output_size))


def _never_started(delivery: Delivery) -> RemoteError:
    place = f"{delivery.machine.where}: {delivery.ref.directory}"
    if delivery.received > 0:
        return AttemptVanished(f"{place} is gone although it had written output; run it again as a new attempt")
    return NotStarted(f"{place} was never started on this machine; start it")


class _Follower:
    """Streams output by `tail -f` on the machine and asks after the attempt's state now and then.

    One question is open at a time; the script asks itself the first. `due` is when something must be done: the next
    question, or giving up on the answer.
    """

    def __init__(
        self, delivery: Delivery, channel: Channel, changed: asyncio.Event, parent: StartChannel | None
    ) -> None:
        self.delivery = delivery
        self.channel = channel
        self.changed = changed
        self.parent = parent
        self.clock = asyncio.get_running_loop().time
        self.since = self.clock()
        self.asked = True
        self.hurry = False
        self.due = self.since + protocol.ANSWER_SEC
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
                self.due = self.clock() + protocol.ANSWER_SEC  # whoever sends output is alive, be the answer late
        while (words := self.channel.take_control()) is not None:
            if words == ("running",):
                self.asked = False
                self.due = self.clock() + self._tick()
                await self.delivery.tell_started()
            elif words[:1] == ("state",):
                self.found = protocol.state_of(self.delivery.machine, words)

    def _keep_asking(self) -> None:
        now = self.clock()
        if self.asked and now >= self.due:
            raise Unreachable(f"{self.delivery.machine.where}: no answer within {protocol.ANSWER_SEC} s; connect again")
        if not self.asked and (self.hurry or now >= self.due):
            self.channel.write(b"\n")
            self.asked, self.hurry, self.due = True, False, now + protocol.ANSWER_SEC

    def _tick(self) -> float:
        if self.parent is not None and self.parent.telling:
            return PARENT_TICK_SEC
        return min(SLOWEST_TICK_SEC, FIRST_TICK_SEC + (self.clock() - self.since) / 5)


async def _fetch_rest(delivery: Delivery, size: int) -> None:
    while delivery.received < size:
        before = delivery.received
        await _fetch(delivery, size)
        if delivery.received == before:
            raise RemoteError(
                f"{delivery.machine.where}: {delivery.ref.directory} has less output than it said "
                f"({before} of {size} bytes); attach again"
            )


async def _fetch(delivery: Delivery, size: int) -> None:
    changed = asyncio.Event()
    async with delivery.machine.channel(delivery.machine.command(scripts.FETCH), changed) as channel:
        channel.write(delivery.ref.line(delivery.received))
        while not channel.drained and delivery.received < size:
            changed.clear()
            while data := channel.take():
                await delivery.give(data[: size - delivery.received])
            channel.controls.clear()
            if not channel.drained and not changed.is_set():
                async with protocol.answer_bound(delivery.machine):
                    await changed.wait()
        if channel.exit_status != 0 and delivery.received < size:
            raise delivery.broken(channel, "reading the rest of the output")
