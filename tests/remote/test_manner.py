"""How a command is told to end: by the signal it asked for, once, and whether it had to be killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gpuscale_tui.remote import scripts
from gpuscale_tui.remote.attempts import AttemptRef, execute, status, stop
from gpuscale_tui.remote.errors import LaunchRefused
from gpuscale_tui.remote.launch import Launch
from gpuscale_tui.remote.protocol import ask
from tests.remote.conftest import SLOW_SITES, Log, Site, run, until

REF = AttemptRef(".gpuscale/ab12cd", "j17-1")


def tells(signal: str, then: str = "exit 0") -> str:
    """A command that says which signal it got, how often."""
    return f"trap 'echo got {signal} >> told; {then}' {signal}; echo up; while :; do sleep 0.05; done"


async def begin(site: Site, launch: Launch) -> asyncio.Task[object]:
    machine = await site.connect()
    task: asyncio.Task[object] = asyncio.create_task(execute(machine, REF, launch, offset=0, sink=Log()))
    await until(lambda: (site.path(REF) / "output").is_file() and (site.path(REF) / "output").read_text() == "up\n")
    return task


@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
@pytest.mark.parametrize("signal", ["INT", "USR1", "HUP"])
async def test_the_signal_that_the_job_asked_for(site: Site, signal: str) -> None:
    """INT, too, which shells ignore in what they run in the background."""
    task = await begin(site, Launch(command=tells(signal), signal=signal))
    done = await stop(await site.connect(), REF, grace_sec=60, signal=signal)
    assert (done.stopped, done.killed) == (True, False)
    if signal == "INT" and "busybox" in str(await asyncio.to_thread(Path(site.shell).resolve)):
        assert done.code == 143, "nothing there can undo what the shell did: TERM it is"
    else:
        assert (done.code, (site.path(REF) / "work" / "told").read_text()) == (0, f"got {signal}\n")
    assert await task is not None


async def test_it_is_sent_once_however_often_one_asks(dash_site: Site) -> None:
    """A second one could break off what the first has begun; a shorter grace counts all the same."""
    task = await begin(dash_site, Launch(command=tells("TERM", "sleep 0")))
    first = asyncio.create_task(stop(await dash_site.connect(), REF, grace_sec=60))
    await until((dash_site.path(REF) / "work" / "told").exists)
    done = await stop(await dash_site.connect(), REF, grace_sec=1)
    assert (done.code, done.stopped, done.killed) == (137, True, True)
    assert (dash_site.path(REF) / "work" / "told").read_text() == "got TERM\n"
    assert (await first).killed
    await task
    assert (await status(await dash_site.connect(), REF)).exit == done


async def test_the_limit_and_the_lease_use_it_too(dash_site: Site) -> None:
    """The watchdog on the machine, and a stop that names none, as the lease does it."""
    done, _ = await run(
        await dash_site.connect(), REF, Launch(command=tells("USR2"), signal="USR2", runtime_limit_sec=1)
    )  # fmt: skip
    assert (done.code, done.timed_out, done.killed) == (0, True, False)
    other = AttemptRef(REF.base, "j18-1")
    machine = await dash_site.connect()
    task = asyncio.create_task(
        execute(machine, other, Launch(command=tells("QUIT"), signal="QUIT", grace_sec=60), offset=0, sink=Log())
    )
    output = dash_site.path(other) / "output"
    await until(lambda: output.is_file() and output.read_text() == "up\n")
    controls = await ask(machine, scripts.STOP, f"{other.base} {other.name} 1\n".encode(), "as the lease does")
    assert controls[-1][:5] == ("state", "exited", "0", "0", "1")
    assert (await task).stopped
    assert (dash_site.path(other) / "work" / "told").read_text() == "got QUIT\n"


async def test_what_is_killed_by_the_limit_is_told(dash_site: Site) -> None:
    done, _ = await run(
        await dash_site.connect(), REF,
        Launch(command="trap '' TERM; while :; do sleep 0.05; done", runtime_limit_sec=1, grace_sec=1),
    )  # fmt: skip
    assert (done.timed_out, done.killed) == (True, True)


def test_signals_are_checked() -> None:
    with pytest.raises(LaunchRefused, match="signal 'KILL'"):
        Launch(command="true", signal="KILL")
