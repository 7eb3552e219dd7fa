"""Checkpoints on their way from a machine and a working directory on its way there, beside scp of the same file."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator

from benchmarks.common import Options, Outcome, in_turns, median, seconds
from benchmarks.hosts import SSH_OPTIONS, Site, site, why_not
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.remote import transfer
from gpuscale_tui.remote.connection import Machine, connect

MEGABYTES = 256
RUNS = 3
FILES = 200
"""Files of a checkpoint directory that has not changed."""
UNCHANGED = "unchanged"


def rows(options: Options) -> Iterator[Outcome]:
    """Fetching, bringing, and looking whether there is anything to fetch."""
    reason = why_not()
    if reason is not None:
        yield f"transfer is not measured: {reason}"
        return
    with site() as place:
        remote = place.servers[0].home / "from"
        remote.mkdir()
        megabytes = MEGABYTES // 4 if options.quick else MEGABYTES
        (remote / "model").write_bytes(os.urandom(megabytes * 10**6))
        unchanged = place.servers[0].home / UNCHANGED
        unchanged.mkdir()
        for number in range(FILES):
            (unchanged / f"shard{number}").write_bytes(b"x" * 1000)
        ours = [lambda: asyncio.run(_with(place, _fetch)), lambda: asyncio.run(_with(place, _put))]
        theirs = [lambda: _scp(place, fetch=True), lambda: _scp(place, fetch=False)]
        fetched, copied, brought, sent = in_turns(options.runs(RUNS), [ours[0], theirs[0], ours[1], theirs[1]])
        yield ("checkpoint fetched, hashed", megabytes / median(fetched), "MB/s", "scp", megabytes / median(copied))
        yield ("working directory brought", megabytes / median(brought), "MB/s", "scp", megabytes / median(sent))
        looks, listed = in_turns(options.runs(RUNS), [lambda: asyncio.run(_with(place, _look)), lambda: _ls(place)])
        yield (
            f"seeing that {FILES} files are unchanged",
            1000 * median(looks),
            "ms",
            "ssh host ls -l",
            1000 * median(listed),
        )


async def _with(place: Site, work: Callable[[Site, Machine], Awaitable[None]]) -> float:
    """Seconds that some work takes on an open connection, as the engine has one."""
    server = place.servers[0]
    endpoint = Endpoint(server.host, server.port, server.user)
    machine = await connect(endpoint, client_key=place.home.client_key)
    try:
        begin = time.perf_counter()
        await work(place, machine)
        return time.perf_counter() - begin
    finally:
        await machine.close()


async def _fetch(place: Site, machine: Machine) -> None:
    target = place.root / "fetched"
    shutil.rmtree(target, ignore_errors=True)
    listing = await transfer.list_tree(machine, "from")
    found = await transfer.get_files(machine, "from", listing, target, parts=None, max_bytes=10**12, timeout_sec=300)
    if found[0].changed:
        raise RuntimeError("a file that nobody writes to has changed")


async def _put(place: Site, machine: Machine) -> None:
    await transfer.put_tree(machine, "to", transfer.local_tree(place.servers[0].home / "from", ["model"]))


async def _look(_: Site, machine: Machine) -> None:
    if len(await transfer.list_tree(machine, UNCHANGED)) < FILES:
        raise RuntimeError("files are missing")


def _scp(place: Site, *, fetch: bool) -> float:
    server = place.servers[0]
    source, far = server.home / "from" / "model", f"{server.user}@{server.host}:"
    words = [f"{far}{source}", str(place.root / "copied")] if fetch else [str(source), f"{far}{server.home}/copied"]
    command = ["scp", "-q", *SSH_OPTIONS, "-i", str(place.home.client_key), "-P", str(server.port), *words]
    return seconds(lambda: subprocess.run(command, check=True, stdin=subprocess.DEVNULL))


def _ls(place: Site) -> float:
    command = [*place.ssh(place.servers[0]), "ls", "-l", str(place.servers[0].home / UNCHANGED)]
    quiet = subprocess.DEVNULL
    return seconds(lambda: subprocess.run(command, check=True, stdin=quiet, stdout=quiet))
