"""What ended attempts have left on a machine is found again after the engine has forgotten it."""

from __future__ import annotations

import asyncio

from gpuscale_tui.remote.attempts import AttemptRef, execute, list_ended, remove_many, stop
from gpuscale_tui.remote.launch import Launch
from tests.remote.conftest import Log, Site, run, until

BASE = ".gpuscale/ab12cd"


async def test_only_attempts_that_have_ended_are_listed(site: Site) -> None:
    machine = await site.connect()
    assert await list_ended(machine, BASE) == ()
    for number in (1, 2):
        await run(machine, AttemptRef(BASE, f"j{number}-1"), Launch(command="true"))
    for odd in ("with blank", "-rf", "new\nline"):
        (site.home / BASE / odd).mkdir()
        (site.home / BASE / odd / "exit").touch()
    living = AttemptRef(BASE, "j4-1")
    task = asyncio.create_task(execute(machine, living, Launch(command="sleep 1000"), offset=0, sink=Log()))
    await until((site.path(living) / "job").exists, "the command to be started")
    found = await list_ended(machine, BASE)
    assert {"j1-1", "j2-1"} <= set(found) <= {"j1-1", "j2-1", "new", "line"}
    await stop(machine, living, grace_sec=5)
    await task
    await remove_many(machine, [AttemptRef(BASE, name) for name in ("j1-1", "j4-1")])
    assert "j2-1" in await list_ended(machine, BASE)
    assert not site.path(living).exists()
