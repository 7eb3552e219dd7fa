"""nanoGPT, or what stands in for it, trained by the real program on machines that vanish: what that takes and tells."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuscale_tui.model.jobs import Attempt
from gpuscale_tui.store import jobs, logs, snapshots, workers
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.snapshots import SnapshotRow

HERE = Path(__file__).parent
PATIENCE_SEC = 100.0
ITER = re.compile(r"^iter (\d+): loss ([\d.]+)", re.MULTILINE)
TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\n" * 20


def until(probe: Callable[[], Any], seconds: float, story: Callable[[], str]) -> Any:
    """Wait until the probe gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (result := probe()):
        assert time.monotonic() < deadline, story()
        time.sleep(0.05)
    return result


@dataclass(frozen=True, slots=True)
class Source:
    """What is trained: code by URL, a text, a Python that has what the code imports."""

    url: str
    text: Path
    python: str
    patience_sec: float = PATIENCE_SEC
    steps: int = 100
    save_every: int = 20
    size: str = "tiny"


def stand_in(place: Path, held_at: str, **more: Any) -> Source:
    """A repository with the same files, whose training learns nothing and takes seconds. Its attempts wait at these
    iterations, in their order, until their machine is taken away."""
    repository = place / "standin"
    shutil.copytree(HERE / "standin", repository, ignore=shutil.ignore_patterns("__pycache__"))
    git = [
        "git",
        "-C",
        str(repository),
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@localhost",
        "-c",
        "commit.gpgsign=false",
    ]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], check=True, stdout=subprocess.DEVNULL)
    text = place / "input.txt"
    text.write_text(TEXT)
    variables = f'HELD_AT="{held_at}" PYTHONPATH={HERE / "standin_modules"}'
    python = one_line(place / "python", f'{variables} exec {sys.executable} "$@"')
    return Source(f"file://{repository}@main", text, python, **more)


def one_line(path: Path, line: str) -> str:
    """A program of one line of shell."""
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


@dataclass
class Program:
    """The real program on a home of its own."""

    place: Path
    settings: str
    environ: Mapping[str, str] = field(default_factory=dict)
    engine: str = "gpuscale_tui"
    """The module that runs the engine."""

    def __post_init__(self) -> None:
        self.home = Home(self.place / "home")
        self.home.ensure()
        self.config = self.place / "config.toml"
        self.config.write_text(self.settings)

    @property
    def _everything(self) -> dict[str, Any]:
        places = {"GPUSCALE_HOME": str(self.home.path), "GPUSCALE_CONFIG": str(self.config)}
        paths = os.pathsep.join([str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {"env": {**os.environ, **self.environ, **places, "PYTHONPATH": paths}, "cwd": self.place}

    def __call__(self, *words: str) -> str:
        """Run a verb that must succeed; what it printed."""
        command = [sys.executable, "-m", "gpuscale_tui", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SEC, **self._everything)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def autopilot(self) -> Iterator[subprocess.Popen[str]]:
        """The engine, until nothing is left to do."""
        command = [sys.executable, "-m", self.engine, "--autopilot", "--exit-when-idle"]
        with (self.place / "autopilot.log").open("a") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, text=True, **self._everything)
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                process.wait(PATIENCE_SEC)

    def submit(self, source: Source, *options: str) -> None:
        """Template, job file, queue: as a user would."""
        self(
            "template", "new", "nanogpt", "--git", source.url, "--data", str(source.text), "--python", source.python,
            "--size", source.size, "--steps", str(source.steps), "--save-every", str(source.save_every), *options,
        )  # fmt: skip
        assert self("submit", "--file", "nanogpt.toml").split() == ["j1"]

    def read(self, query: Callable[..., Any], *args: Any) -> Any:
        """A query of the store."""
        with Database(self.home.database) as db:
            return db.read(query, *args)

    def attempts(self) -> list[Attempt]:
        """The job's attempts."""
        found = (self.read(jobs.get_attempt, 1, number) for number in range(1, 30))
        return [each for each in found if each is not None]

    def machine(self) -> str:
        """The server on which the newest attempt is."""
        worker = self.read(workers.get, self.attempts()[-1].worker_id)
        return str(worker.server_id)

    def snapshots(self) -> list[SnapshotRow]:
        """The job's snapshots, newest first."""
        return list(self.read(snapshots.snapshots, 1))

    def output(self, attempt: int) -> str:
        """What an attempt has printed."""
        if not self.home.logs.exists():
            return ""
        connection = logs.connect_logs(self.home.logs, readonly=True)
        try:
            return logs.read(connection, 1, attempt, 0, 1 << 40).decode()
        finally:
            connection.close()

    def iters(self, attempt: int) -> list[tuple[int, float]]:
        """The iterations that an attempt told, with their losses."""
        return [(int(number), float(loss)) for number, loss in ITER.findall(self.output(attempt))]

    def story(self) -> str:
        """What happened, for a test that fails."""
        log = (self.place / "autopilot.log").read_text()[-6000:]
        return "\n".join([self("show", "j1"), *(self.output(each.number)[-1500:] for each in self.attempts()), log])


@dataclass(frozen=True, slots=True)
class Move:
    """One loss of a machine: what was told last before and first after it."""

    attempt: int
    reached: int
    saved: int
    went_on: int
    loss_before: float
    loss_after: float
    away_sec: float
    lost: str

    def __str__(self) -> str:
        return (
            f"attempt {self.attempt}: killed at iter {self.reached}, snapshot of iter {self.saved}; went on at iter"
            f" {self.went_on} after {self.away_sec:.1f} s; loss {self.loss_after:.4f} (before, at that iter:"
            f" {self.loss_before:.4f}); {self.reached - self.went_on} steps done again; by gpuscale: {self.lost}"
        )


def moves(program: Program, iter_of: Callable[[Path], int]) -> list[Move]:
    """Each move of the job; `iter_of` reads the iteration in a checkpoint file."""
    found, attempts = [], program.attempts()
    for before, after in itertools.pairwise(attempts):
        assert after.resumed_from is not None, program.story()
        place = program.place / f"snapshot-{after.resumed_from}"
        if not place.exists():
            program("checkpoints", "get", f"j1/{after.resumed_from}", str(place))
        told = [each for one in attempts if one.number <= before.number for each in program.iters(one.number)]
        first = program.iters(after.number)[0]
        earlier = [loss for number, loss in told if number <= first[0]]
        lost = before.lost
        words = "nothing" if lost is None else f"{lost.steps} steps, {lost.ms / 60000:.2f} min, ${lost.cost / 1e6:.6f}"
        away = ((after.started_at or 0) - (before.ended_at or 0)) / 1000
        reached = program.iters(before.number)[-1][0]
        found.append(
            Move(before.number, reached, iter_of(place / "ckpt.pt"), first[0], earlier[-1], first[1], away, words)
        )
    return found


def judge(program: Program, source: Source, iter_of: Callable[[Path], int]) -> list[Move]:
    """The job came to its end, each attempt went on where its snapshot was, and so did the loss."""
    job = program.read(jobs.get, 1)
    assert job.state == "done", program.story()
    made = moves(program, iter_of)
    begin = program.iters(1)[0]
    assert begin[0] == 0
    for move in made:
        assert move.went_on == move.saved > 0, (move, program.story())
        assert abs(move.loss_after - move.loss_before) < max(0.3, (begin[1] - move.loss_before) / 2), move
        assert move.reached >= move.went_on
    told = [number for each in program.attempts() for number, _ in program.iters(each.number)]
    assert told[-1] == source.steps
    assert set(range(0, source.steps + 1, 10)) <= set(told)
    return made


def pickled_iter(file: Path) -> int:
    """The iteration in a checkpoint of the stand-in."""
    import pickle

    return int(pickle.loads(file.read_bytes())["iter_num"])


def torch_iter(python: str) -> Callable[[Path], int]:
    """The iteration in a checkpoint of nanoGPT."""
    script = "import json, sys, torch; print(json.dumps(torch.load(sys.argv[1], map_location='cpu')['iter_num']))"

    def read(file: Path) -> int:
        done = subprocess.run([python, "-c", script, str(file)], check=True, capture_output=True, text=True)
        return int(json.loads(done.stdout))

    return read


def destroy(home: Path, pid_file: Path) -> int:
    """A machine is gone: its sshd, every process that has or had this home, and its disk. How many were killed."""
    killed = 0
    while victims := _of_machine(home, int(pid_file.read_text())):
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        time.sleep(0.02)
    shutil.rmtree(home, ignore_errors=True)
    return killed


def _of_machine(home: Path, listener: int) -> list[int]:
    """Processes of a machine that live: the listener, what it has begun, and what has its home."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            environ = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended meanwhile
        if status[0] == "Z":
            continue
        parents[int(entry.name)] = int(status[1])
        if b"HOME=" + os.fsencode(home) in environ or int(entry.name) == listener:
            found.add(int(entry.name))
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)
