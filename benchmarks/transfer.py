"""Checkpoints on their way from a machine and back, one large file and many small ones, beside scp on the same host."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.common import Options, Outcome, in_turns, median, memory, seconds
from benchmarks.hosts import SSH_OPTIONS, Site, site, why_not
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.remote import transfer
from gpuscale_tui.remote.connection import Machine, connect
from gpuscale_tui.remote.tree import TreeFile

MEGABYTES = 2000
FILES = 10_000
FILE_BYTES = 2000
DIRECTORIES = 100
RUNS = 3
PIECE = 1_000_000
LARGE, MANY = "large", "many"
FETCH_SEC = 600


@dataclass(frozen=True, slots=True)
class Place:
    """Where one process of ours works: the machine, our key, the machine's home as seen from here, room of our own."""

    endpoint: Endpoint
    key: Path
    home: Path
    root: Path


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds on an open connection, and the most MiB that the process had resident."""

    took: float
    peak: float


def rows(options: Options) -> Iterator[Outcome]:
    """One large file and many small ones there and back, and looking whether there is anything to fetch."""
    reason = why_not()
    if reason is not None:
        yield f"transfer is not measured: {reason}"
        return
    with site() as made:
        server = made.servers[0]
        endpoint = Endpoint(server.host, server.port, server.user)
        place = Place(endpoint, made.home.client_key, server.home, made.root)
        megabytes, files = (MEGABYTES // 4, FILES // 4) if options.quick else (MEGABYTES, FILES)
        _fill(place, megabytes, files)
        yield from _large(options, made, place, megabytes)
        yield from _many(options, made, place, files)


def _fill(place: Place, megabytes: int, files: int) -> None:
    (place.home / LARGE).mkdir()
    with (place.home / LARGE / "model").open("wb") as stream:
        for _ in range(megabytes):
            stream.write(os.urandom(PIECE))
    for number in range(files):
        path = place.home / MANY / f"d{number % DIRECTORIES}" / f"shard{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(FILE_BYTES))


def _large(options: Options, made: Site, place: Place, megabytes: int) -> Iterator[Outcome]:
    peaks: list[float] = []
    actions = [
        lambda: _own(place, "fetch", LARGE, peaks), lambda: _scp(made, LARGE, fetch=True),
        lambda: _own(place, "put", LARGE, peaks), lambda: _scp(made, LARGE, fetch=False),
    ]  # fmt: skip
    fetched, copied, brought, sent = in_turns(options.runs(RUNS), actions)
    size = f"{megabytes / 1000:g} GB"
    yield (
        f"checkpoint fetched, {size}, hashed",
        megabytes / median(fetched),
        "MB/s",
        "scp",
        megabytes / median(copied),
    )
    yield (
        f"checkpoint brought back, {size}, hashed there", megabytes / median(brought), "MB/s", "scp",
        megabytes / median(sent),
    )  # fmt: skip
    yield ("memory for that at most, Python's own included", max(peaks), "MiB", "", None)


def _many(options: Options, made: Site, place: Place, files: int) -> Iterator[Outcome]:
    peaks: list[float] = []
    actions = [
        lambda: _own(place, "fetch", MANY, peaks), lambda: _scp(made, MANY, fetch=True),
        lambda: _own(place, "put", MANY, peaks), lambda: _scp(made, MANY, fetch=False),
        lambda: _own(place, "look", MANY, peaks), lambda: _ls(made),
    ]  # fmt: skip
    fetched, copied, brought, sent, looked, listed = in_turns(options.runs(RUNS), actions)
    yield (f"{files} small files fetched, hashed", median(fetched), "s", "scp -r", median(copied))
    yield (f"{files} small files brought, hashed there", median(brought), "s", "scp -r", median(sent))
    yield (f"seeing that {files} files are unchanged", 1000 * median(looked), "ms", "ssh ls -lR", 1000 * median(listed))


def _own(place: Place, what: str, name: str, peaks: list[float]) -> float:
    """Seconds of one of WORKS in a process of its own, so that its memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        cost = process.submit(_in_process, place, what, name).result()
    peaks.append(cost.peak)
    return cost.took


def _in_process(place: Place, what: str, name: str) -> Cost:
    files = _tree(place.home / name) if what == "put" else ()
    for old in (place.root / "fetched", place.home / f"to-{name}"):  # as for scp, which does not remove what was there
        shutil.rmtree(old, ignore_errors=True)

    async def timed() -> float:
        machine = await connect(place.endpoint, client_key=place.key)
        try:
            begin = time.perf_counter()
            await WORKS[what](place, machine, name, files)
            return time.perf_counter() - begin
        finally:
            await machine.close()

    took = asyncio.run(timed())
    return Cost(took, memory(os.getpid())["VmHWM"])


def _tree(root: Path) -> tuple[TreeFile, ...]:
    """A tree whose hashes are known, as those of a snapshot are."""
    names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    return tuple(replace(file, sha256=_sum(root / file.path)) for file in transfer.local_tree(root, names))


def _sum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


async def _fetch(place: Place, machine: Machine, name: str, _: tuple[TreeFile, ...]) -> None:
    listing = await transfer.list_tree(machine, name)
    found = await transfer.get_files(
        machine, name, [file for file in listing if file.kind == "file"], place.root / "fetched",
        parts=place.root / "parts", max_bytes=10**12, timeout_sec=FETCH_SEC,
    )  # fmt: skip
    if any(file.changed for file in found):
        raise RuntimeError("a file that nobody writes to has changed")


async def _put(_: Place, machine: Machine, name: str, files: tuple[TreeFile, ...]) -> None:
    await transfer.put_tree(machine, f"to-{name}", files)


async def _look(_: Place, machine: Machine, name: str, __: tuple[TreeFile, ...]) -> None:
    if len(await transfer.list_tree(machine, name)) < FILES // 4:
        raise RuntimeError("files are missing")


Work = Callable[[Place, Machine, str, tuple[TreeFile, ...]], Awaitable[None]]
WORKS: dict[str, Work] = {"fetch": _fetch, "put": _put, "look": _look}


def _scp(made: Site, name: str, *, fetch: bool) -> float:
    server = made.servers[0]
    source, far = server.home / name, f"{server.user}@{server.host}:"
    here, there = made.root / "copied", server.home / "copied"
    for path in (here, there):
        shutil.rmtree(path, ignore_errors=True)
    words = [f"{far}{source}", str(here)] if fetch else [str(source), f"{far}{there}"]
    command = ["scp", "-q", "-r", *SSH_OPTIONS, "-i", str(made.home.client_key), "-P", str(server.port), *words]
    return seconds(lambda: subprocess.run(command, check=True, stdin=subprocess.DEVNULL))


def _ls(made: Site) -> float:
    command = [*made.ssh(made.servers[0]), "ls", "-lR", str(made.servers[0].home / MANY)]
    quiet = subprocess.DEVNULL
    return seconds(lambda: subprocess.run(command, check=True, stdin=quiet, stdout=quiet))
