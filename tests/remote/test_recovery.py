"""Connections break at every byte; the log stays exact and the command runs once."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from gpuscale_tui.remote.attempts import AttemptRef, Exit, attach, execute, status
from gpuscale_tui.remote.errors import Unreachable
from gpuscale_tui.remote.launch import Launch
from tests.remote.conftest import Log, Site, until
from tests.remote.proxy import Proxy, proxying

REF = AttemptRef(".gpuscale/ab12cd", "j17-1")


async def persist(site: Site, proxy: Proxy, launch: Launch, log: Log, ref: AttemptRef = REF) -> tuple[Exit, int]:
    """What a caller does: execute, and on a lost connection again from the bytes received. The number of tries too."""
    for tries in range(1, 500):
        try:
            async with AsyncExitStack() as stack:
                machine = await site.connect(port=proxy.port)
                stack.push_async_callback(machine.close)
                return await execute(machine, ref, launch, offset=len(log.data), sink=log), tries
        except Unreachable:
            continue
    raise AssertionError("never got through")


async def test_log_is_exact_across_many_reconnects(site: Site) -> None:
    line = "echo run >> ../ran; i=0; while [ $i -lt 60 ]; do seq $((i*2000)) $((i*2000+1999)); i=$((i+1)); done; exit 5"
    dice, log = random.Random(7), Log()
    async with proxying(site.endpoint.port) as proxy, asyncio.timeout(110):
        proxy.each_down = lambda: dice.randrange(6_000, 120_000)
        ended, tries = await persist(site, proxy, Launch(command=line), log)
    expected = b"".join(b"%d\n" % number for number in range(120_000))
    assert ended == Exit(5, False, len(expected))
    assert log.data == expected
    assert tries > 5
    assert (site.path(REF) / "ran").read_text() == "run\n"


async def test_cut_after_any_byte_that_we_send(dash_site: Site) -> None:
    launch = Launch(command="echo run >> ../ran; echo out; exit 3", env={"A": "b" * 300})
    broken = 0
    async with proxying(dash_site.endpoint.port) as proxy:
        for step in range(0, 12_000, 240):
            ref, log = AttemptRef(".g", f"u{step}"), Log()
            machine = await dash_site.connect(port=proxy.port)
            proxy.cut_up = step
            try:
                ended = await execute(machine, ref, launch, offset=0, sink=log)
            except Unreachable:
                broken += 1
                proxy.cut_up = None
                ended, _ = await persist(dash_site, proxy, launch, log, ref)
            else:
                proxy.cut_up = None
            await machine.close()
            assert (ended, bytes(log.data)) == (Exit(3, False, 4), b"out\n"), step
            assert (dash_site.path(ref) / "ran").read_text() == "run\n", step
    assert broken > 15


async def test_cut_after_any_byte_that_we_receive(dash_site: Site) -> None:
    launch = Launch(command="echo run >> ../ran; echo out; exit 3")
    broken = 0
    async with proxying(dash_site.endpoint.port) as proxy:
        for step in range(0, 1_200, 30):
            ref, log = AttemptRef(".g", f"d{step}"), Log()
            machine = await dash_site.connect(port=proxy.port)
            proxy.cut_down = step
            try:
                ended = await execute(machine, ref, launch, offset=0, sink=log)
            except Unreachable:
                broken += 1
                proxy.cut_down = None
                ended, _ = await persist(dash_site, proxy, launch, log, ref)
            else:
                proxy.cut_down = None
            await machine.close()
            assert (ended, bytes(log.data)) == (Exit(3, False, 4), b"out\n"), step
            assert (dash_site.path(ref) / "ran").read_text() == "run\n", step
    assert broken > 10


async def test_we_die_between_any_two_steps(dash_site: Site) -> None:
    """The task is dropped after each of its first wake-ups in turn, as by kill -9; a later one takes over."""
    launch = Launch(command="echo run >> ../ran; sleep 0.03; echo out; exit 3")
    machine = await dash_site.connect()
    outcomes = set()
    for step in range(20):
        ref = AttemptRef(".g", f"k{step}")
        task = asyncio.create_task(execute(machine, ref, launch, offset=0, sink=Log()))
        for _ in range(step):
            await asyncio.sleep(0)
        await asyncio.sleep(0.004 * step)
        task.cancel()
        outcomes.add(type((await asyncio.gather(task, return_exceptions=True))[0]))
        log = Log()
        ended = await execute(machine, ref, launch, offset=0, sink=log)
        assert (ended, bytes(log.data)) == (Exit(3, False, 4), b"out\n"), step
        assert (dash_site.path(ref) / "ran").read_text() == "run\n", step
    assert asyncio.CancelledError in outcomes


async def test_a_frozen_link_is_noticed(dash_site: Site) -> None:
    async with proxying(dash_site.endpoint.port) as proxy:
        machine = await dash_site.connect(port=proxy.port, keepalive_sec=0.3)
        log = Log()
        line = "echo one; until [ -e go ]; do sleep 0.05; done; echo two"
        task = asyncio.create_task(execute(machine, REF, Launch(command=line), offset=0, sink=log))
        await until(lambda: log.data == b"one\n")
        proxy.frozen = True
        with pytest.raises(Unreachable):
            await task
        assert machine.closed
        with pytest.raises(Unreachable):
            await status(machine, REF)
        (dash_site.path(REF) / "work" / "go").touch()
        ended = await attach(await dash_site.connect(), REF, offset=len(log.data), sink=log)
    assert (ended.code, bytes(log.data)) == (0, b"one\ntwo\n")


@pytest.mark.openssh
@pytest.mark.parametrize("site", ["openssh"], indirect=True)
async def test_fifty_megabytes_arrive_exactly(site: Site) -> None:
    block = random.Random(3).randbytes(1024 * 1024)
    site.path(REF).mkdir(parents=True)
    (site.path(REF) / "block").write_bytes(block)
    line = "i=0; while [ $i -lt 50 ]; do cat ../block; i=$((i+1)); done"
    machine, log = await site.connect(), Log()
    ended = await execute(machine, REF, Launch(command=line), offset=0, sink=log)
    assert ended == Exit(0, False, 50 * len(block))
    assert log.data == block * 50
