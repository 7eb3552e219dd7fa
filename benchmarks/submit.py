"""How fast jobs are taken: durable, one at a time and as a sweep, beside other queues that keep theirs on disk."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks.common import Options, Outcome, clean_environ, in_turns, median, percentile, seconds
from gpuscale_tui.engine import commands
from gpuscale_tui.engine.engine import utc_ms
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home

SINGLES = 400
WAITING = 1_000
SWEEP = 10_000
SWEEP_RUNS = 3
STEADY_RATE = 500
STEADY_SEC = 4.0
PROCESSES = 11
SPEC = JobSpec(
    image="pytorch/pytorch:2.4.0", argv=("python", "train.py", "--lr", "{lr}"), name="sweep", gpu_type="RTX 4090",
    env={"SEED": "1"}, user="ann", project="bench",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of WAITING jobs to submit one more to."""

    name: str
    submit: Callable[[], object]


def rows(options: Options) -> Iterator[Outcome]:
    """Every figure of submission."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpuscale-bench-")))
        ours = _ours(place, stack)
        peers: list[Queue] = [_json_lines(place)]
        for made in (_huey(place, stack), _task_spooler(place, stack)):
            if isinstance(made, str):
                yield made
            else:
                peers.append(made)
        yield from _singles(ours, peers, options)
        yield from _whole_processes(place, options)
    yield from _sweeps(options)
    yield _steady()


def _singles(ours: Queue, peers: list[Queue], options: Options) -> Iterator[Outcome]:
    """One job at a time, in turns with the peers."""
    queues = [ours, *peers]
    taken = in_turns(options.runs(SINGLES), [lambda queue=queue: seconds(queue.submit) for queue in queues])  # type: ignore[misc]
    mine, *others = taken
    for queue, values in zip(peers, others, strict=True):
        yield ("durable submit, p50", 1000 * median(mine), "ms", queue.name, 1000 * median(values))
        yield ("durable submit, p99", 1000 * percentile(mine, 99), "ms", queue.name, 1000 * percentile(values, 99))


def _ours(place: Path, stack: contextlib.ExitStack) -> Queue:
    home = Home(place / "home")
    home.ensure()
    db = stack.enter_context(Database(home.database))
    db.write(commands.submit, home, [SPEC] * WAITING, now=utc_ms())
    return Queue("gpuscale", lambda: db.write(commands.submit, home, [SPEC], now=utc_ms()))


def _json_lines(place: Path) -> Queue:
    """A file of JSON lines, written anew, flushed and renamed at each submit: what a small queue of one's own does."""
    path = place / "queue.jsonl"
    lines = [json.dumps({"id": number, "argv": SPEC.argv}) for number in range(WAITING)]

    def submit() -> None:
        lines.append(json.dumps({"id": len(lines), "argv": SPEC.argv}))
        draft = path.with_suffix(".new")
        with draft.open("w") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    return Queue("JSON lines, rewritten", submit)


def _huey(place: Path, stack: contextlib.ExitStack) -> Queue | str:
    if find_spec("huey") is None:
        return "huey is not installed (dependency group `bench`): left out as a peer of submit"
    from huey import SqliteHuey  # type: ignore[import-untyped]

    queue = SqliteHuey(filename=str(place / "huey.db"), fsync=True)
    stack.callback(queue.storage.close)
    task = queue.task()(_nothing)
    for _ in range(WAITING):
        task(*SPEC.argv)
    return Queue("huey on SQLite, flushed", lambda: task(*SPEC.argv))


def _nothing(*words: str) -> None:
    """What a worker of huey would do; none runs here."""


def _task_spooler(place: Path, stack: contextlib.ExitStack) -> Queue | str:
    """A process a submit, and nothing is kept on disk."""
    program = shutil.which("tsp") or shutil.which("ts")
    if program is None:
        return "task-spooler (tsp) is not installed: left out as a peer of submit"
    environ = {**os.environ, "TS_SOCKET": str(place / "tsp.sock"), "TS_SAVELIST": str(place / "tsp.list")}

    def call(*words: str) -> None:
        subprocess.run([program, *words], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    call("-S", "1")
    call("sleep", "600")
    stack.callback(call, "-K")
    stack.callback(call, "-k", "0")
    return Queue("task-spooler, not on disk", lambda: call("-n", "true"))


def _whole_processes(place: Path, options: Options) -> Iterator[Outcome]:
    """`gpuscale submit` as a user types it."""
    home = Home(place / "typed")
    environ = {**clean_environ(), "GPUSCALE_HOME": str(home.path), "GPUSCALE_CONFIG": "/dev/null"}

    def run(*words: str) -> float:
        command = [sys.executable, *words]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return seconds(lambda: subprocess.run(command, env=environ, check=True, **quiet))  # type: ignore[call-overload]

    submit = ("-m", "gpuscale_tui", "submit", "--gpu", "none", "--", "true")
    run(*submit)
    bare, typed = in_turns(options.runs(PROCESSES), [lambda: run("-c", "pass"), lambda: run(*submit)])
    yield ("gpuscale submit, whole process", median(typed), "s", "python -c pass", median(bare))


def _sweeps(options: Options) -> Iterator[Outcome]:
    """10,000 jobs made and stored as one submission; the peer appends each to a file and flushes it once."""
    specs = [replace(SPEC, params={"lr": f"{number}e-6"}) for number in range(SWEEP)]

    def ours() -> float:
        with tempfile.TemporaryDirectory(prefix="gpuscale-bench-") as place:
            home = Home(Path(place))
            home.ensure()
            with Database(home.database) as db:
                return seconds(lambda: db.write(commands.submit, home, specs, now=utc_ms()))

    def plain() -> float:
        with tempfile.TemporaryFile("w") as file:

            def write() -> None:
                file.writelines(f"{json.dumps({'argv': spec.argv, 'params': dict(spec.params)})}\n" for spec in specs)
                file.flush()
                os.fsync(file.fileno())

            return seconds(write)

    mine, bare = in_turns(options.runs(SWEEP_RUNS), [ours, plain])
    yield ("10,000 jobs as one sweep", median(mine), "s", "JSON lines, written once", median(bare))


def _steady() -> Outcome:
    """Jobs that arrive at a steady rate, each durable before the next: how many a second were kept up with."""
    with tempfile.TemporaryDirectory(prefix="gpuscale-bench-") as place:
        home = Home(Path(place))
        home.ensure()
        with Database(home.database) as db:
            begin = time.perf_counter()
            count = 0
            while (spent := time.perf_counter() - begin) < STEADY_SEC:
                if count > spent * STEADY_RATE:
                    time.sleep(0.0005)
                    continue
                db.write(commands.submit, home, [SPEC], now=utc_ms())
                count += 1
        return (
            f"submits kept up with, one by one ({STEADY_RATE}/s arrive)",
            count / spent,
            "/s",
            "arriving",
            STEADY_RATE,
        )
