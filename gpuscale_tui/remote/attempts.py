"""The run protocol: one command on one machine, started once, detached, followed by byte offset, ended for certain.

What the machine does stands in `scripts`; this is our side of it. Everything here may be broken off at any point and
repeated: the truth is in the attempt's directory on the machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gpuscale_tui.model.jobs import STOP_SIGNALS
from gpuscale_tui.remote import scripts
from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import AttemptRunning, RemoteError
from gpuscale_tui.remote.following import Delivery, Sink, StartChannel, Started, follow
from gpuscale_tui.remote.launch import Launch, launch_script
from gpuscale_tui.remote.protocol import (
    ANSWER_SEC,
    NAME,
    AttemptRef,
    AttemptState,
    AttemptStatus,
    Exit,
    ask,
    find_state,
)

REMOVED_AT_ONCE = 90
REMOVE_SEC = 300

__all__ = [
    "AttemptRef",
    "AttemptState",
    "AttemptStatus",
    "Exit",
    "Launch",
    "Sink",
    "Started",
    "attach",
    "execute",
    "list_ended",
    "prepare",
    "remove",
    "remove_many",
    "status",
    "stop",
]


async def prepare(machine: Machine, ref: AttemptRef) -> None:
    """Make the attempt's directories, mode 0700, for files to be put there. Harmless to repeat.

    `execute` makes them itself when nothing is to be uploaded first.
    """
    await ask(machine, scripts.PREPARE, ref.line(), "making the attempt's directories")


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
    delivery = Delivery(machine, ref, sink, offset)
    if offset > 0:
        return await _attach(delivery, on_started)
    delivery.on_started = on_started
    changed = asyncio.Event()
    command = machine.command(scripts.START, scripts.RUNNER, scripts.WATCHDOG)
    async with machine.channel(command, changed) as start:
        start.write(_start_input(machine, ref, launch))
        first = StartChannel(delivery, start, changed)
        outcome = await first.watch_briefly()
        if outcome is not None and await first.complete():
            return outcome.exit(delivery.received)
        return await follow(delivery, changed, first)


async def attach(
    machine: Machine, ref: AttemptRef, *, offset: int, sink: Sink, on_started: Started | None = None
) -> Exit:
    """Like `execute`, for an attempt that was started before; never starts one. Raises NotStarted."""
    return await _attach(Delivery(machine, ref, sink, offset), on_started)


async def status(machine: Machine, ref: AttemptRef) -> AttemptStatus:
    """Where the attempt stands now. Raises Unreachable or RemoteError."""
    controls = await ask(machine, scripts.STATUS, ref.line(), "asking for the attempt's state")
    return find_state(machine, controls)


async def stop(machine: Machine, ref: AttemptRef, *, grace_sec: int, signal: str = "TERM") -> Exit:
    """End the attempt: `signal` to its whole process group, KILL after `grace_sec` seconds. How it ended.

    Idempotent: the signal is sent once, however often this is called. An attempt that was never started is barred from
    starting later and counts as ended by TERM (143); one whose runner is gone is marked as killed (137). Raises
    RemoteError when even KILL did not help.
    """
    label = "stopping the attempt"
    if signal not in STOP_SIGNALS:
        raise ValueError(f"signal {signal!r} is none of {', '.join(STOP_SIGNALS)}")
    line = ref.line(grace_sec).rstrip(b"\n") + f" {signal}\n".encode("ascii")
    controls = await ask(machine, scripts.STOP, line, label, timeout_sec=grace_sec + 2 * ANSWER_SEC)
    if ("stuck",) in controls:
        raise RemoteError(f"{machine.where}: {ref.directory} does not end even by KILL; give the machine back")
    found = find_state(machine, controls)
    if found.exit is None:
        raise RemoteError(f"{machine.where}: {ref.directory} is {found.state.value} after it was stopped; try again")
    return found.exit


async def remove(machine: Machine, ref: AttemptRef) -> None:
    """Delete the attempt's directory with all that is in it. Raises AttemptRunning while the attempt lives."""
    if await remove_many(machine, (ref,)):
        raise AttemptRunning(f"{machine.where}: {ref.directory} is still running; stop it first")


async def remove_many(machine: Machine, refs: Sequence[AttemptRef]) -> tuple[AttemptRef, ...]:
    """Delete the directories of many attempts in a few steps; those that were left because they are still running."""
    left: list[AttemptRef] = []
    bases: dict[str, dict[str, AttemptRef]] = {}
    for ref in refs:
        bases.setdefault(ref.base, {})[ref.name] = ref
    for base, named in bases.items():
        names = list(named)
        for start in range(0, len(names), REMOVED_AT_ONCE):
            stdin = "\n".join((base, *names[start : start + REMOVED_AT_ONCE], "")).encode("ascii")
            label = "removing attempts' directories"
            controls = await ask(machine, scripts.REMOVE, stdin, label, timeout_sec=REMOVE_SEC)
            running = {words[1] for words in controls if words[:1] == ("running",) and len(words) == 2}
            left += [ref for name, ref in named.items() if name in running]
    return tuple(left)


async def list_ended(machine: Machine, base: str) -> tuple[str, ...]:
    """The names of the attempts in `base` that have ended; what the machine says that could be no such name is left
    out."""
    done = await machine.run_command(
        machine.command(scripts.ENDED), stdin=f"{base}\n".encode("ascii"), timeout_sec=ANSWER_SEC,
        label="asking for ended attempts",
    )  # fmt: skip
    names = done.stdout.decode("ascii", "replace").split("\n")
    return tuple(name for name in names if NAME.fullmatch(name))


async def _attach(delivery: Delivery, on_started: Started | None) -> Exit:
    delivery.on_started = on_started
    return await follow(delivery, asyncio.Event(), None)


def _start_input(machine: Machine, ref: AttemptRef, launch: Launch) -> bytes:
    body = launch_script(launch, machine.shell)
    line = ref.line(body.count(b"\n"), launch.runtime_limit_sec or 0, launch.grace_sec).rstrip(b"\n")
    return line + f" {launch.signal}\n".encode("ascii") + body
