"""How fast jobs run one after the other, and how soon the first one begins, beside bare SSH to the same servers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncssh

from benchmarks.common import Options, Outcome, in_turns, median, processor_time, seconds, wait_until
from benchmarks.hosts import PLAIN, Site, engine, site, why_not
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.remote.attempts import AttemptRef, execute, remove_many
from gpuscale_tui.remote.connection import Machine, connect
from gpuscale_tui.remote.launch import Launch
from gpuscale_tui.store import logs

JOBS = 1_000
PEER_JOBS = 200
RUNS = 3
FIRST_BYTES = 11
JOB_SEC = 0.5
WHAT = "no-op jobs over SSH, two slots"


def rows(options: Options) -> Iterator[Outcome]:
    """Throughput and latency."""
    reason = why_not()
    if reason is not None:
        yield f"dispatch is not measured: {reason}"
        return
    with site(servers=2, hosts=2) as place, engine(place, ready=2) as running:
        yield from _throughput(place, running.pid, options)
        yield from _first_bytes(place, options)


def _throughput(place: Site, pid: int, options: Options) -> Iterator[Outcome]:
    count = JOBS // 4 if options.quick else JOBS
    peers: dict[str, Callable[[], float]] = {
        "the run protocol alone, nothing recorded": lambda: asyncio.run(_protocol_alone(place)),
        "bare asyncssh, `true`": lambda: asyncio.run(_bare_asyncssh(place)),
        "ssh client, ControlMaster, `true`": lambda: _with_masters(place),
    }
    parallel = _parallel(place)
    if isinstance(parallel, str):
        yield parallel
    else:
        peers["GNU parallel -S"] = parallel
    _run_jobs(place, 20)
    spent: list[float] = []

    def run() -> float:
        with processor_time(pid) as used:
            rate = _run_jobs(place, count)
            spent.append(1000 * used() / count)
        return rate

    ours, *others = in_turns(options.runs(RUNS), [run, *peers.values()])
    for name, rates in zip(peers, others, strict=True):
        yield (WHAT, median(ours), "/s", name, median(rates))
    yield ("engine's processor time a no-op job", median(spent), "ms", "", None)


def _run_jobs(place: Site, count: int) -> float:
    """Jobs a second from the submission of all to the recorded end of the last."""
    before = place.count("done")
    begin = time.perf_counter()
    place.submit([PLAIN] * count)
    wait_until(lambda: place.count("done") >= before + count, within_sec=30 + count * JOB_SEC, what="the jobs")
    return count / (time.perf_counter() - begin)


async def _protocol_alone(place: Site) -> float:
    """The same commands started, detached and awaited on the same servers by `remote`, without engine and store."""
    async with contextlib.AsyncExitStack() as stack:
        machines = []
        for server in place.servers:
            machine = await connect(Endpoint(server.host, server.port, server.user), client_key=place.home.client_key)
            stack.push_async_callback(machine.close)
            machines.append(machine)

        async def sink(_: bytes) -> None:
            """`true` prints nothing."""

        async def repeat(machine: Machine) -> list[AttemptRef]:
            refs = [AttemptRef(".gpuscale/alone", f"j{number}-1") for number in range(PEER_JOBS)]
            for ref in refs:
                await execute(machine, ref, Launch(argv=("true",)), offset=0, sink=sink)
            return refs

        begin = time.perf_counter()
        done = await asyncio.gather(*(repeat(machine) for machine in machines))
        rate = PEER_JOBS * len(machines) / (time.perf_counter() - begin)
        for machine, refs in zip(machines, done, strict=True):
            await remove_many(machine, refs)
        return rate


async def _bare_asyncssh(place: Site) -> float:
    """`true` again and again over one open connection to each server, with nothing recorded."""
    async with contextlib.AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(
                asyncssh.connect(
                    server.host, server.port, username=server.user, client_keys=[str(place.home.client_key)],
                    known_hosts=None, config=None, agent_path=None,
                )
            )
            for server in place.servers
        ]  # fmt: skip

        async def repeat(connection: asyncssh.SSHClientConnection) -> None:
            for _ in range(PEER_JOBS):
                await connection.run("true", check=True)

        begin = time.perf_counter()
        await asyncio.gather(*(repeat(connection) for connection in connections))
        return PEER_JOBS * len(connections) / (time.perf_counter() - begin)


def _with_masters(place: Site) -> float:
    """A process of OpenSSH's client for each job, over one master connection to each server."""
    with contextlib.ExitStack() as stack:
        loops = []
        for number, server in enumerate(place.servers):
            socket = place.root / f"master{number}"
            command = place.ssh(server, "-o", f"ControlPath={socket}")
            stack.enter_context(_master(command, socket))
            loop = 'i=0; while [ $i -lt "$0" ]; do "$@" true; i=$((i+1)); done'
            loops.append(["sh", "-c", loop, str(PEER_JOBS), *command])
        begin = time.perf_counter()
        running = [subprocess.Popen(loop, stdin=subprocess.DEVNULL) for loop in loops]
        for process in running:
            process.wait(120)
        return PEER_JOBS * len(running) / (time.perf_counter() - begin)


@contextlib.contextmanager
def _master(command: list[str], socket: Path) -> Iterator[None]:
    process = subprocess.Popen([*command[:1], "-M", "-N", *command[1:]], stdin=subprocess.DEVNULL)
    try:
        wait_until(socket.exists, within_sec=20, what="an SSH master connection")
        yield
    finally:
        process.terminate()
        process.wait(20)


def _parallel(place: Site) -> Callable[[], float] | str:
    program = shutil.which("parallel")
    if program is None:
        return "GNU parallel is not installed: left out as a peer of dispatch"
    logins = [option for server in place.servers for option in ("-S", f"1/{' '.join(place.ssh(server))}")]
    count = PEER_JOBS * len(place.servers)
    words = [program, "--will-cite", "--plain", *logins, "true", ":::", *(str(number) for number in range(count))]
    return lambda: count / seconds(lambda: subprocess.run(words, check=True, stdin=subprocess.DEVNULL))


def _first_bytes(place: Site, options: Options) -> Iterator[Outcome]:
    """The command writes down when it began; all clocks here are one."""
    server = place.servers[0]
    first_byte = ["sh", "-c", "echo x; exec sleep 0"]
    typed = [sys.executable, "-m", "gpuscale_tui", "submit", "--gpu", "none", "--", *first_byte]

    def bare() -> float:
        return _until_first_byte([*place.ssh(server), "sh -c 'echo x; exec sleep 0'"])

    def by_command() -> float:
        begin = time.perf_counter()
        done = subprocess.run(typed, env=place.environ, check=True, capture_output=True, text=True)
        return _stored_at(place, int(done.stdout.strip().removeprefix("j"))) - begin

    def in_process() -> float:
        begin = time.perf_counter()
        [job_id] = place.submit([JobSpec(image="none", argv=tuple(first_byte), user="bench")])
        return _stored_at(place, job_id) - begin

    for warm in (bare, by_command):
        warm()
    bares, typed_ones, inside = in_turns(options.runs(FIRST_BYTES), [bare, by_command, in_process])
    peer = ("ssh host command", 1000 * median(bares))
    yield ("gpuscale submit to the first byte, stored", 1000 * median(typed_ones), "ms", *peer)
    yield ("submit in Python to the first byte, stored", 1000 * median(inside), "ms", *peer)


def _until_first_byte(command: list[str]) -> float:
    begin = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        found = process.stdout.read(1)
        taken = time.perf_counter() - begin
    if found != b"x":
        raise RuntimeError("ssh to a server of our own gave nothing")
    return taken


def _stored_at(place: Site, job_id: int) -> float:
    """When the first byte of a job's output was in the store; waits until the job is over."""
    with contextlib.closing(logs.connect_logs(place.home.logs, readonly=True)) as connection:
        wait_until(lambda: logs.size(connection, job_id, 1), within_sec=30, what="the first byte", look_sec=0.001)
    found = time.perf_counter()
    wait_until(lambda: not place.count("running"), within_sec=30, what="the end of the job")
    return found
