"""Pretended machines: the run protocol's promises, kept over a network that breaks, and jobs that make progress.

What a job does stands in its command (`Work.command`), so that a machine needs to know nothing else. A machine works
out where its jobs are from the time, and wakes nobody for a step that nobody watches.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gpuscale_tui.model.hosts import Card, Examination
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.remote.attempts import AttemptRef, Exit, Sink
from gpuscale_tui.remote.cache import Sent
from gpuscale_tui.remote.errors import (
    AttemptVanished,
    HostKeyChanged,
    RemoteError,
    TransferError,
    Unreachable,
)
from gpuscale_tui.remote.launch import Launch
from gpuscale_tui.remote.lease import Ending, Lease
from gpuscale_tui.remote.object_upload import Fetching, Sending, Way
from gpuscale_tui.remote.protocol import AttemptState, AttemptStatus
from gpuscale_tui.remote.pulse import Pulse
from gpuscale_tui.remote.site import Progress
from gpuscale_tui.remote.transfer import FetchedFile, RemoteFile, RemoteListing, TreeFile
from gpuscale_tui.remote.usage import MachineUsage

if TYPE_CHECKING:
    from tests.sim.world import Universe

T = TypeVar("T")
CONNECT_SEC = 15.0
KEEPALIVE_SEC = 60.0
"""A connection over which nothing comes back is closed after so long, at most."""
ANSWER_SEC = 30.0
STEP_FILE = "step.txt"


@dataclass(frozen=True, slots=True)
class Work:
    """What a job does: `steps` of `step_sec` each, a line of output at each, a checkpoint at every `every`-th."""

    steps: int = 10
    step_sec: float = 60.0
    every: int = 2
    code: int = 0
    leaves: float = 5.0
    """How long it takes to end when it is asked to."""
    outputs: int = 0
    """How many files it leaves in OUTPUT_DIR, beside a link that leads out of it."""

    @property
    def command(self) -> str:
        return f"train {self.steps} {self.step_sec} {self.every} {self.code} {self.leaves} {self.outputs}"

    @classmethod
    def read(cls, command: str) -> Work:
        _, steps, step_sec, every, code, leaves, outputs = command.split()
        return cls(int(steps), float(step_sec), int(every), int(code), float(leaves), int(outputs))


@dataclass(slots=True)
class Process:
    """One attempt on a machine. Times are ms of the world."""

    name: str
    machine: Machine
    base_step: int = 0
    work: Work = field(default_factory=Work)
    started_at: int | None = None
    limit_at: int | None = None
    stopped_at: int | None = None
    gone_at: int | None = None
    barred: bool = False
    lapsed: bool = False
    killed: bool = False
    """It would not end in time when it was asked to."""
    files: dict[str, bytes] = field(default_factory=dict)
    """What was put into its checkpoint directory before it began."""

    def finished_at(self) -> int | None:
        """When the command ends, or ended, by itself or by others; None before it begins."""
        if self.started_at is None:
            return None
        ends = [self.started_at + int((self.work.steps - self.base_step) * self.work.step_sec * 1000)]
        ends += [self.limit_at] if self.limit_at is not None else []
        ends += [self.stopped_at] if self.stopped_at is not None else []
        return min(ends)

    def step(self, now: int) -> int:
        """How far it is."""
        if self.started_at is None:
            return self.base_step
        until = min(now, self.finished_at() or now, self.gone_at if self.gone_at is not None else now)
        done = int((until - self.started_at) / (self.work.step_sec * 1000) + 1e-9)
        return min(self.work.steps, self.base_step + done)

    def running(self, now: int) -> bool:
        end = self.finished_at()
        return end is not None and now < end and self.gone_at is None

    def vanished(self) -> bool:
        """Its processes are gone and no exit status was written."""
        end = self.finished_at()
        return self.gone_at is not None and (end is None or self.gone_at < end)

    def exit(self, now: int) -> Exit | None:
        if self.barred:
            return Exit(143, False, 0, stopped=True, has_checkpoints=bool(self.files))
        end = self.finished_at()
        if end is None or now < end or self.vanished():
            return None
        size, kept, left = len(self.output(now)), bool(self.checkpoint(now)), self.work.outputs > 0
        if self.stopped_at == end:
            code = 137 if self.killed else 143
            return Exit(code, False, size, True, kept, self.lapsed, has_outputs=left, killed=self.killed)
        if self.limit_at == end:
            return Exit(143, True, size, has_checkpoints=kept, has_outputs=left)
        return Exit(self.work.code, False, size, has_checkpoints=kept, has_outputs=left)

    def output(self, now: int) -> bytes:
        """All that it has written."""
        if self.started_at is None:
            return b""
        lines = [f"{self.name} begins at {self.base_step}\n"]
        steps = range(self.base_step + 1, self.step(now) + 1)
        lines += [f"{printed(self.name, step)}\n" for step in steps]
        return "".join(lines).encode()

    def saved_step(self, now: int) -> int:
        """The step of its newest checkpoint."""
        reached = self.step(now) // self.work.every * self.work.every
        return max(self.base_step, reached)

    def saved_at(self, now: int) -> int:
        """When its newest checkpoint was written (ms)."""
        began = self.started_at or 0
        return began + int((self.saved_step(now) - self.base_step) * self.work.step_sec * 1000)

    def checkpoint(self, now: int) -> dict[str, bytes]:
        """Its checkpoint directory."""
        saved = self.saved_step(now)
        if saved == self.base_step:
            return self.files
        return {STEP_FILE: str(saved).encode(), "model.bin": weights(self.name.split("-")[0], saved)}

    def left(self, directory: str, now: int) -> dict[str, bytes]:
        """What lies in one of its directories."""
        if not directory.endswith("/outputs"):
            return self.checkpoint(now)
        return {f"result{number}": f"{self.name} {number}".encode() for number in range(self.work.outputs)}

    def next_change(self, now: int) -> int | None:
        """When its output grows next or it ends."""
        if not self.running(now):
            return None
        return min(
            self.finished_at() or now,
            (self.started_at or 0) + int((self.step(now) - self.base_step + 1) * self.work.step_sec * 1000),
        )


def printed(name: str, step: int) -> str:
    """What a job says of a step."""
    return f"{name} loss {1 / step:.4f} step {step}"


def weights(job: str, step: int) -> bytes:
    """A model as it is after so many steps."""
    return hashlib.sha256(f"{job} {step}".encode()).digest() * (1 + step % 7)


@dataclass(slots=True)
class Machine:
    """One host. `ssh_at` is when it begins to answer (None: never), `dead` that it never will again. `cards` are the
    GPUs that it really has. An `own` one is nobody's to take away. `power_off` ends its rental, where its provider
    notices that it is off.
    """

    universe: Universe
    address: str
    label: str
    ssh_at: int | None = 0
    dead: bool = False
    ended: bool = False
    out_until: int = 0
    host_key: str = ""
    cards: tuple[Card, ...] = ()
    own: bool = False
    power_off: Callable[[], None] | None = None
    lease_at: int | None = None
    lease_over: bool = False
    processes: dict[str, Process] = field(default_factory=dict)
    sites: list[PretendedSite] = field(default_factory=list)
    data: set[str] = field(default_factory=set)
    """Directories of data sets that were brought."""
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(f"{self.universe.seed} machine {self.label}")
        self.host_key = self.host_key or f"ssh-ed25519 key-of-{self.label}"

    def answers(self) -> bool:
        """Whether it can be reached now."""
        now = self.universe.now()
        return not self.dead and not self.ended and self.ssh_at is not None and self.ssh_at <= now >= self.out_until

    def end(self) -> None:
        """The rental is over: everything on it is gone."""
        self.ended = True
        self.lose_processes()
        self.reset()

    def die(self) -> None:
        """It stops answering for good, and nobody is told."""
        self.dead = True
        self.lose_processes()
        self.universe.note(self.label, "dies")
        for site in list(self.sites):
            site.fall_silent()

    def lease(self, terms: Lease) -> bool:
        """The engine called: count anew. True when the lease was over since it last did."""
        over, self.lease_over = self.lease_over, False
        self.lease_at = self.universe.now() + terms.seconds * 1000 if terms.seconds else None
        if terms.seconds:
            self.universe.loop.outside(terms.seconds + 0.001, lambda: self._lapse(terms))
        return over

    def _lapse(self, terms: Lease) -> None:
        """Nobody called for so long: jobs are stopped, and a rented machine ends itself."""
        now = self.universe.now()
        if self.dead or self.ended or self.lease_at is None or now < self.lease_at:
            return
        self.lease_at, self.lease_over = None, True
        self.universe.note(self.label, "lapses")
        for process in self.live_processes():
            process.stopped_at = process.stopped_at or now + int(min(process.work.leaves, terms.grace_sec) * 1000)
            process.lapsed = True
        if terms.ending is Ending.MACHINE:
            self.universe.loop.outside(terms.grace_sec + 5.0, self._off)

    def _off(self) -> None:
        if self.lease_over and not self.ended:
            self.die()
            if self.power_off is not None:
                self.power_off()

    def lose_processes(self) -> None:
        """Whatever runs on it is gone without an exit status."""
        for process in self.processes.values():
            if process.gone_at is None and process.running(self.universe.now()):
                process.gone_at = self.universe.now()

    def restart(self) -> None:
        """It restarts by itself: files stay, processes and connections do not."""
        self.universe.note(self.label, "restarts")
        self.lose_processes()
        self.reset()

    def reset(self) -> None:
        """All connections are lost at once."""
        for site in list(self.sites):
            site.lose()

    def part(self, seconds: float) -> None:
        """Nothing comes through for a while."""
        self.universe.note(self.label, "parts", int(seconds))
        self.out_until = max(self.out_until, self.universe.now() + int(seconds * 1000))
        for site in list(self.sites):
            site.fall_silent()

    def live_processes(self) -> list[Process]:
        now = self.universe.now()
        return [process for process in self.processes.values() if process.running(now)]

    def process(self, ref: AttemptRef) -> Process | None:
        return self.processes.get(ref.directory)

    def prepared(self, ref: AttemptRef) -> Process:
        return self.processes.setdefault(ref.directory, Process(ref.name, self))


class PretendedSite:
    """A connection to a pretended machine; see `remote.site.Site`."""

    def __init__(self, machine: Machine, endpoint: Endpoint) -> None:
        self._machine = machine
        self._universe = machine.universe
        self._loop = machine.universe.loop
        self._closed = False
        self._incarnation = machine.universe.loop.incarnation
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self.where = f"{endpoint.user}@{endpoint.host}:{endpoint.port}"
        machine.sites.append(self)

    @property
    def host_key(self) -> str:
        return self._machine.host_key

    @property
    def closed(self) -> bool:
        return self._closed

    def lose(self) -> None:
        """The connection is gone, and this side knows."""
        if self._closed:
            return
        self._closed = True
        if self in self._machine.sites:
            self._machine.sites.remove(self)
        if (
            not self._lost.done() and self._incarnation == self._loop.incarnation
        ):  # an engine that is dead hears nothing
            self._lost.set_result(None)

    def fall_silent(self) -> None:
        """Nothing comes back any more; the keepalive notices that in time."""
        incarnation = self._loop.incarnation

        def notice() -> None:
            if self._loop.incarnation == incarnation and not self._machine.answers():
                self.lose()

        self._loop.outside(self._machine.dice.uniform(1, KEEPALIVE_SEC), notice)

    async def close(self) -> None:
        self.lose()

    async def _ask(self, kind: str, act: Callable[[], T], *, bound: float = ANSWER_SEC) -> T:
        """One command on the machine. It is carried out there even when the answer is lost on its way back."""
        if self._closed:
            raise Unreachable(f"{self.where}: the connection is lost")
        machine, faults = self._machine, self._universe.faults
        there = machine.dice.uniform(0.01, max(0.02, faults.op_slow_sec))
        back = machine.dice.uniform(0.01, max(0.02, faults.op_slow_sec))

        def on_the_machine() -> T:
            if not machine.answers():
                raise Silence
            return act()

        asked = self._loop.effect(f"ssh {kind}", on_the_machine, delay=there, reply=back, travels=True)
        try:
            return await self._unless_lost(asked, bound)
        except Silence:
            await self._unless_lost(self._loop.create_future(), bound)
            raise Unreachable(f"{self.where}: no answer within {bound:g} s") from None

    async def _unless_lost(self, wanted: asyncio.Future[T], bound: float | None) -> T:
        """What a future brings, unless the connection is lost or the time is over first."""
        await asyncio.wait({wanted, self._lost}, timeout=bound, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            return wanted.result()
        if self._lost.done():
            raise Unreachable(f"{self.where}: the connection was lost")
        raise Unreachable(f"{self.where}: no answer within {bound} s")

    def _fails(self) -> bool:
        return self._machine.dice.random() < self._universe.faults.fills

    # The port.

    async def is_usable(self) -> bool:
        return await self._ask("probe", lambda: True)

    async def examine(self, base: str, now: Callable[[], int]) -> Examination:
        def look() -> Examination:
            return Examination(
                cards=self._machine.cards, driver="570.86", cuda=(12, 8), free_disk_gb=400.0, down_mbps=900.0,
                up_mbps=300.0, skew_ms=0,
            )  # fmt: skip

        return await self._ask("examine", look, bound=120.0)

    async def pulse(self, ref: AttemptRef) -> Pulse:
        return await self._ask("pulse", lambda: Pulse(self._universe.now() % 10**12, 95))

    async def usage(self, base: str) -> MachineUsage:
        busy = 90 if self._machine.live_processes() else 0
        return await self._ask("usage", lambda: MachineUsage(gpu_percent=busy, cpu_ticks=self._universe.now()))

    async def renew_lease(self, base: str, terms: Lease) -> bool:
        return await self._ask("lease", lambda: self._machine.lease(terms))

    async def prepare(self, ref: AttemptRef) -> None:
        await self._ask("prepare", lambda: self._machine.prepared(ref))

    async def execute(self, ref: AttemptRef, launch: Launch, *, offset: int, sink: Sink) -> Exit:
        process = await self._ask("start", lambda: self._start(ref, launch, offset))
        received = offset
        while True:
            now = self._universe.now()
            if not self._machine.answers() and not self._closed:
                await self._unless_lost(self._loop.create_future(), ANSWER_SEC)
            if self._closed:
                raise Unreachable(f"{self.where}: the connection was lost while following the output")
            written = process.output(now)
            if len(written) > received:
                await sink(written[received:])
                received = len(written)
                continue
            if process.vanished():
                raise AttemptVanished(f"{self.where}: {ref.name} is neither alive nor ended")
            done = process.exit(now)
            if done is not None:
                return done
            await self._next(process, now)

    async def _next(self, process: Process, now: int) -> None:
        """Wait until there is something to see, or the connection is lost."""
        change = process.next_change(now)
        seconds = 60.0 if change is None else max(0.0, (change - now) / 1000)
        await asyncio.wait({self._lost}, timeout=min(seconds, 3600.0) + 0.001)

    def _start(self, ref: AttemptRef, launch: Launch, offset: int) -> Process:
        process, universe = self._machine.process(ref), self._universe
        if process is None or process.started_at is None:
            if offset > 0:
                raise AttemptVanished(f"{self.where}: {ref.name} is gone although it had written output")
            process = self._machine.prepared(ref)
        if process.started_at is None and not process.barred:
            now = universe.now()
            process.work = Work.read(launch.command)
            process.base_step = int(process.files.get(STEP_FILE, b"0"))
            process.started_at = now
            if launch.runtime_limit_sec is not None:
                process.limit_at = now + launch.runtime_limit_sec * 1000
            universe.note(self._machine.label, "starts", ref.name, process.base_step)
            universe.checker.started(process, launch)
        return process

    async def status(self, ref: AttemptRef) -> AttemptStatus:
        return await self._ask("status", lambda: self._status(ref))

    def _status(self, ref: AttemptRef) -> AttemptStatus:
        process, now = self._machine.process(ref), self._universe.now()
        if process is None or (process.started_at is None and not process.barred):
            return AttemptStatus(AttemptState.NOT_STARTED, 0)
        if process.vanished():
            return AttemptStatus(AttemptState.VANISHED, len(process.output(now)))
        done = process.exit(now)
        state = AttemptState.RUNNING if done is None else AttemptState.EXITED
        return AttemptStatus(state, len(process.output(now)), done)

    async def stop(self, ref: AttemptRef, *, grace_sec: int, signal: str = "TERM") -> Exit:
        process = await self._ask("stop", lambda: self._stop(ref, grace_sec))
        now = self._universe.now()
        end = process.finished_at()
        if end is not None and end > now and process.gone_at is None:
            await asyncio.wait({self._lost}, timeout=(end - now) / 1000 + 0.001)
        if self._closed:
            raise Unreachable(f"{self.where}: the connection was lost while stopping")
        return await self._ask("stopped", lambda: self._stopped(process))

    def _stop(self, ref: AttemptRef, grace_sec: int) -> Process:
        process, now = self._machine.prepared(ref), self._universe.now()
        if process.started_at is None:
            process.barred = True
        elif process.running(now):
            told, latest = process.stopped_at is not None, now + grace_sec * 1000
            wanted = process.stopped_at if process.stopped_at is not None else now + int(process.work.leaves * 1000)
            process.stopped_at = min(wanted, latest)
            process.killed |= wanted > latest
            if not told:
                self._universe.note(self._machine.label, "stops", ref.name)
        return process

    def _stopped(self, process: Process) -> Exit:
        done = process.exit(self._universe.now())
        if done is not None:
            return done
        if process.vanished():
            return Exit(137, False, len(process.output(self._universe.now())), stopped=True)
        raise RemoteError(f"{self.where}: {process.name} is not over after it was stopped; try again")

    async def list_ended(self, base: str) -> tuple[str, ...]:
        def ended() -> tuple[str, ...]:
            now = self._universe.now()
            found = self._machine.processes.items()
            return tuple(
                sorted(each.name for path, each in found if path.startswith(f"{base}/") and each.exit(now) is not None)
            )

        return await self._ask("list ended", ended)

    async def remove_many(self, refs: Sequence[AttemptRef]) -> tuple[AttemptRef, ...]:
        def remove() -> tuple[AttemptRef, ...]:
            left = []
            for ref in refs:
                process = self._machine.process(ref)
                if process is not None and process.running(self._universe.now()):
                    left.append(ref)
                elif process is not None:
                    del self._machine.processes[ref.directory]
            return tuple(left)

        return await self._ask("remove", remove, bound=300.0)

    async def put_tree(self, directory: str, files: Sequence[TreeFile], *, progress: Progress | None = None) -> None:
        content = {file.path: file.source.read_bytes() for file in files if file.source is not None}

        def put() -> None:
            if self._fails():
                raise TransferError(f"{self.where}: the machine could not unpack the upload; is its disk full?")
            path, _, last = directory.rpartition("/")
            base, _, name = path.rpartition("/")
            if last == "checkpoints":
                self._machine.prepared(AttemptRef(base, name)).files = content
            elif name == "data":
                self._machine.data.add(directory)

        await self._ask("put", put, bound=300.0)

    async def put_cached(
        self, base: str, directory: str, files: Sequence[TreeFile], *, progress: Progress | None = None
    ) -> Sent:
        await self.put_tree(directory, files, progress=progress)
        return Sent(len(files), sum(file.size for file in files))

    async def make_room(self, base: str, digest: str, size: int, *, beside: Collection[str] = ()) -> bool:
        return await self._ask("room", lambda: f"{base}/data/{digest}" in self._machine.data)

    async def give(self, ref: AttemptRef, shared: Mapping[str, str]) -> None:
        def given() -> None:
            lacking = {f"{ref.base}/data/{path.split('/')[0]}" for path in shared.values()} - self._machine.data
            if lacking or self._fails():
                raise TransferError(f"{self.where}: a data set is not there any more, or the disk is full")

        await self._ask("give", given)

    async def list_tree(self, directory: str) -> RemoteListing:
        def listed() -> RemoteListing:
            process = self._process_of(directory)
            now = self._universe.now()
            at = process.saved_at(now)
            files = [
                RemoteFile(name, len(data), at, "file", 0o644, _stamp(data, at), changed_at=at)
                for name, data in sorted(process.left(directory, now).items())
            ]
            links = [RemoteFile("zzz", 0, at, "link", 0o777, target="/etc")] if directory.endswith("/outputs") else []
            return RemoteListing((*files, *links), clock=now)

        return await self._ask("list", listed, bound=120.0)

    async def get_files(
        self,
        directory: str,
        files: Sequence[RemoteFile],
        target: Path,
        *,
        parts: Path | None,
        max_bytes: int,
        timeout_sec: float,
        progress: Progress | None = None,
    ) -> Sequence[FetchedFile]:
        def began() -> dict[str, bytes]:
            if self._fails():
                raise TransferError(f"{self.where}: the stream is not as asked")
            return dict(self._process_of(directory).left(directory, self._universe.now()))

        content = await self._ask("fetch", began, bound=timeout_sec)
        after = {file.path: file.stamp for file in await self.list_tree(directory)}
        target.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - in memory, and nobody waits in virtual time
        found = []
        for file in files:
            if file.path in content:
                data = content[file.path]
                (target / file.path).write_bytes(data)
                digest = hashlib.sha256(data).hexdigest()
                changed = after.get(file.path) != file.stamp
                found.append(FetchedFile(file.path, len(data), digest, 0o644, changed=changed))
        return tuple(found)

    async def hashes(self, directory: str, paths: Sequence[str]) -> Mapping[str, str]:
        def made() -> Mapping[str, str]:
            content = self._process_of(directory).checkpoint(self._universe.now())
            return {path: hashlib.sha256(content[path]).hexdigest() for path in paths if path in content}

        return await self._ask("hashes", made, bound=300.0)

    async def tools(self) -> frozenset[str]:
        return await self._ask("tools", lambda: frozenset({"sha256sum"}))

    async def send_objects(self, directory: str, way: Way, files: Sequence[Sending]) -> Sequence[int]:
        raise TransferError(f"{self.where}: there is no object storage in this world")

    async def fetch_objects(self, directory: str, way: Way, files: Sequence[Fetching]) -> Sequence[int]:
        raise TransferError(f"{self.where}: there is no object storage in this world")

    async def part_sums(self, directory: str, path: str, size: int, part_bytes: int) -> Sequence[str]:
        return ()

    async def read_back(self, urls: Sequence[str], size: int) -> Sequence[str]:
        return ("",) * len(urls)

    async def set_modes(self, directory: str, modes: Mapping[str, int]) -> None:
        raise TransferError(f"{self.where}: there is no object storage in this world")

    def _process_of(self, directory: str) -> Process:
        process = self._machine.processes.get(directory.rpartition("/")[0])
        if process is None:
            raise TransferError(f"{self.where}: there is no directory {directory}")
        return process

    async def checkpoint_path(self, ref: AttemptRef) -> str:
        return await self._ask("where", lambda: f"/root/{ref.directory}/checkpoints")

    async def link_checkpoints(self, ref: AttemptRef, path: str) -> bool:
        return await self._ask("link", lambda: True)


def _stamp(data: bytes, at: int) -> str:
    return f"{len(data)} {at}"


class Silence(Exception):
    """The machine does not answer."""


async def connect(universe: Universe, endpoint: Endpoint) -> PretendedSite:
    """Open a connection to a machine of the world. Raises Unreachable or HostKeyChanged."""
    machine, loop = universe.machines.get(endpoint.host), universe.loop
    if machine is None or machine.ended:
        await loop.effect("connect", lambda: None, delay=0.1)
        raise Unreachable(f"{endpoint.host}: connection refused")
    await loop.effect("connect", lambda: None, delay=machine.dice.uniform(0.05, 1.0))
    if not machine.answers():
        if machine.ssh_at is None or machine.ssh_at > universe.now():
            raise Unreachable(f"{endpoint.host}: connection refused")
        await asyncio.sleep(CONNECT_SEC)
        raise Unreachable(f"{endpoint.host}: no answer within {CONNECT_SEC:g} s")
    if endpoint.host_key is not None and endpoint.host_key != machine.host_key:
        raise HostKeyChanged(f"{endpoint.host}: another host key")
    return PretendedSite(machine, endpoint)
