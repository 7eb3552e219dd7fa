"""What the store takes: submitting, reading a large queue, keeping and reading output. `python -m benchmarks.store`.

Every figure stands beside a limit or a peer that was measured in the same run on the same disk: the same commit in bare
SQLite, the flush of one block, a queue kept as JSON lines that is rewritten at each change, zlib by itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import jobs, logs, queries
from gpuscale_tui.store.aio import AsyncDatabase
from gpuscale_tui.store.database import Database, connect
from gpuscale_tui.store.views import JobFilter

T0 = 1_700_000_000_000
SINGLES = 400
SWEEP = 10_000
FINISHED, RUNNING, PENDING, EVENTS = 220_000, 2_000, 10_500, 290_000
WORKERS = 4_000
LOG_BYTES = 2**30
WINDOW = 50


class Row(NamedTuple):
    """One figure and what it is to be compared with."""

    what: str
    measured: float
    unit: str
    peer: str
    peer_value: float


def spec(number: int) -> JobSpec:
    """A job as a sweep makes it."""
    return JobSpec(
        image="pytorch/pytorch:2.4.0", command=f"python train.py --lr {number}e-6", name=f"sweep {number}",
        gpu_type="RTX 4090", env={"SEED": str(number)}, params={"lr": f"{number}e-6"}, user="ann", project="bench",
    )  # fmt: skip


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def each(count: int, action: Callable[[int], object]) -> list[float]:
    """Wall times of so many calls, sorted."""
    return sorted(seconds(lambda number=number: action(number)) for number in range(count))  # type: ignore[misc]


def percentile(times: list[float], percent: float) -> float:
    """Of sorted times, in milliseconds."""
    return 1000 * times[min(len(times) - 1, int(len(times) * percent / 100))]


@contextmanager
def raw_sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    """Bare SQLite with the same durability and the smallest possible table."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, spec TEXT)")
        yield connection


def in_turns(count: int, *actions: Callable[[int], object]) -> list[list[float]]:
    """Sorted wall times of so many calls of each, one after the other in turns: a busy machine slows all alike."""
    times: list[list[float]] = [[] for _ in actions]
    for number in range(count):
        for kept, action in zip(times, actions, strict=True):
            begin = time.perf_counter()
            action(number)
            kept.append(time.perf_counter() - begin)
    return [sorted(kept) for kept in times]


def flusher(directory: Path) -> Callable[[int], None]:
    """Appends one 4 KiB block to a file and flushes it: what the disk itself needs for durability."""
    path = directory / "block"

    def flush(_: int) -> None:
        with path.open("ab", buffering=0) as file:
            file.write(bytes(4096))
            os.fsync(file.fileno())

    return flush


def rewriter(directory: Path, waiting: int) -> Callable[[int], None]:
    """Submits to a queue kept as a file of JSON lines that is written anew, flushed and renamed at each change."""
    lines = [json.dumps({"id": number, "command": spec(number).command}) for number in range(waiting)]
    path = directory / "queue.jsonl"

    def submit(number: int) -> None:
        lines.append(json.dumps({"id": number, "command": spec(number).command}))
        draft = path.with_suffix(".new")
        with draft.open("w") as file:
            file.write("\n".join(lines))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    return submit


def single_submits(directory: Path) -> list[Row]:
    """Durable submits of one job, one after the other, into a queue of 1,000."""
    with Database(directory / "single.db") as db, raw_sqlite(directory / "raw.db") as raw:
        db.write(jobs.insert, [spec(number) for number in range(1000)], T0)
        ours, bare, rewritten, flushed = in_turns(
            SINGLES,
            lambda number: db.write(jobs.insert, [spec(number)], T0),
            lambda number: raw.execute("INSERT INTO jobs (spec) VALUES (?)", (str(number),)),
            rewriter(directory, 1000),
            flusher(directory),
        )
    return [
        Row("durable submit, p50", percentile(ours, 50), "ms", "bare SQLite commit", percentile(bare, 50)),
        Row("durable submit, p99", percentile(ours, 99), "ms", "bare SQLite commit", percentile(bare, 99)),
        Row("durable submit, p99", percentile(ours, 99), "ms", "JSON lines rewritten", percentile(rewritten, 99)),
        Row("durable submits one by one", SINGLES / sum(ours), "/s", "flushes of a block", SINGLES / sum(flushed)),
        Row("durable submits one by one", SINGLES / sum(ours), "/s", "JSON lines rewritten", SINGLES / sum(rewritten)),
    ]


def submits_at_once(directory: Path) -> list[Row]:
    """Durable submits of one job each from 100 tasks of one engine: they share flushes."""
    rounds, tasks = 20, 100

    async def submit() -> float:
        async with await AsyncDatabase.open(directory / "tasks.db") as db:

            async def task(number: int) -> None:
                for _ in range(rounds):
                    await db.write(jobs.insert, [spec(number)], T0)

            begin = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for number in range(tasks):
                    group.create_task(task(number))
            return rounds * tasks / (time.perf_counter() - begin)

    rate = asyncio.run(submit())
    flushed = each(SINGLES, flusher(directory))
    return [Row("durable submits, 100 at once", rate, "/s", "flushes of a block", SINGLES / sum(flushed))]


def sweep_submit(directory: Path) -> list[Row]:
    """10,000 jobs as one submission, made and stored."""
    with Database(directory / "sweep.db") as db, raw_sqlite(directory / "raw-sweep.db") as raw:
        ours = seconds(lambda: db.write(jobs.insert, [spec(number) for number in range(SWEEP)], T0))

        def bare() -> None:
            raw.execute("BEGIN IMMEDIATE")
            raw.executemany("INSERT INTO jobs (spec) VALUES (?)", [(repr(spec(number)),) for number in range(SWEEP)])
            raw.execute("COMMIT")

        return [Row("10,000 jobs as one sweep", ours, "s", "bare SQLite, one column", seconds(bare))]


def fill(path: Path) -> None:
    """A store after a busy year: many finished jobs, a long queue, many events."""
    chance = random.Random(1)  # noqa: S311 - the same store each time
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO workers (id, provider, state, token, server_id, gpu_type, gpu_count, market, rate, terms,"
            " quote, group_key, purpose, known_orders, created_at, ended_at, reason) VALUES (?1, 'clore', ?2,"
            " 't' || ?1, 's' || ?1, 'RTX 4090', 1, 'on-demand', 400000, '{\"rate\": 400000}', '{}', 'k', 'queue',"
            " '[]', ?3, ?4,"
            " 'jobs wait')",
            [_worker(number) for number in range(1, WORKERS + 1)],
        )
        connection.executemany(
            "INSERT INTO jobs (id, name, state, priority, group_key, command, argv, image, gpu_type, gpu_count, env,"
            " secret_names, params, project, user, attempt, worker_id, submitted_at, started_at, finished_at, cause)"
            " VALUES (?1, 'job ' || ?1, ?2, ?3, 'g' || (?1 % 7), 'python train.py', '[]', 'img', 'RTX 4090', 1, '{}',"
            " '[]', '{}', 'p' || (?1 % 5), 'ann', ?4, ?5, ?6, ?6 + 5, ?7, ?8)",
            (_job(number, chance) for number in range(1, FINISHED + RUNNING + PENDING + 1)),
        )
        connection.execute(
            "INSERT INTO attempts (job_id, number, worker_id, state, assigned_at) SELECT id, 1, worker_id,"
            " CASE state WHEN 'running' THEN 'running' ELSE 'ended' END, started_at FROM jobs WHERE attempt = 1"
        )
        connection.execute(
            "INSERT INTO spans (worker_id, kind, job_id, attempt, started_at, ended_at, cost)"
            " SELECT worker_id, 'job', id, 1, started_at, finished_at, 273 FROM jobs WHERE attempt = 1"
        )
        connection.executemany(
            "INSERT INTO events (at, kind, job_id, to_state, detail) VALUES (?, 'job', ?, 'pending', 'submitted')",
            ((T0 + number, 1 + number % FINISHED) for number in range(EVENTS)),
        )
        connection.executemany(
            "INSERT INTO ledger (at, worker_id, amount) VALUES (?, ?, 300)",
            ((T0 + number * 1000, 1 + number % WORKERS) for number in range(200_000)),
        )
        connection.execute("COMMIT")


def _worker(number: int) -> tuple[object, ...]:
    live = number > WORKERS - RUNNING
    return (number, "busy" if live else "released", T0, None if live else T0 + number)


def _job(number: int, chance: random.Random) -> tuple[object, ...]:
    priority = chance.randint(1, 10)
    if number <= FINISHED:
        ended = T0 + number * 10 + chance.randint(0, 5000)
        state = chance.choice(("done", "done", "done", "failed", "cancelled"))
        return (number, state, priority, 1, chance.randint(1, WORKERS), T0 + number, ended, "finished")
    if number <= FINISHED + RUNNING:
        return (number, "running", priority, 1, WORKERS - RUNNING + number - FINISHED, T0 + number, None, None)
    return (number, "pending", priority, 0, None, T0 + number, None, None)


STATUS_AND_QUEUE = """
import sys
from pathlib import Path
from gpuscale_tui.store import queries
from gpuscale_tui.store.database import Database
with Database(Path(sys.argv[1]), readonly=True) as db:
    assert db.read(queries.status, 1_700_000_300_000, 1).jobs["running"]
    assert len(db.read(queries.job_rows)) == 100
"""


def large_queue(directory: Path) -> list[Row]:
    """`status` and `queue` with 12,500 live jobs, 220,000 finished ones and 290,000 events."""
    path = directory / "large.db"
    fill(path)
    script = [sys.executable, "-c", STATUS_AND_QUEUE, str(path)]
    whole = each(5, lambda _: subprocess.run(script, check=True))
    bare = each(5, lambda _: subprocess.run([sys.executable, "-c", "import sqlite3"], check=True))
    with Database(path, readonly=True) as db:
        count = each(5, lambda _: db.connection.execute("SELECT count(*) FROM jobs").fetchone())
        status = each(5, lambda _: db.read(queries.status, T0 + 300_000, 1))
        first = each(5, lambda _: db.read(queries.job_rows))
        deep = each(5, lambda _: db.read(queries.job_rows, JobFilter(), "queue", False, 100_000, 100))
        text = each(5, lambda _: db.read(queries.job_rows, JobFilter(text="job 4321")))
        costs = each(3, lambda _: db.read(queries.costs, "project", None))
    limit = ("SELECT count(*) FROM jobs", percentile(count, 50))
    return [
        Row("status and queue, Python's start included", whole[2], "s", "python -c 'import sqlite3'", bare[2]),
        Row("status", percentile(status, 50), "ms", *limit),
        Row("queue, first page", percentile(first, 50), "ms", *limit),
        Row("queue, page at row 100,000", percentile(deep, 50), "ms", *limit),
        Row("queue, a text in 232,500 jobs", percentile(text, 50), "ms", *limit),
        Row("costs by project", percentile(costs, 50), "ms", *limit),
    ]


def training_output(lines: int) -> bytes:
    """Output as training scripts print it."""
    chance = random.Random(2)  # noqa: S311 - the same output each time
    return b"".join(
        f"2026-01-31 12:{number // 60 % 60:02d}:{number % 60:02d},{chance.randint(0, 999):03d} INFO"
        f" epoch {number // 500} step {number} loss {chance.random() * 3:.6f} lr {chance.random() * 1e-3:.3e}"
        f" tok/s {chance.randint(90_000, 110_000)}\n".encode()
        for number in range(lines)
    )


def output_kept_and_read(directory: Path, size: int = LOG_BYTES) -> list[Row]:
    """Appending a long log in pieces of 256 KiB, and opening any window of it."""
    piece = training_output(4000)[: 4 * logs.CHUNK]
    path = directory / "plain.log"
    with closing(logs.connect_logs(directory / "logs.db")) as log, path.open("wb", buffering=0) as plain:
        stored, packed, written = in_turns(
            -(-size // len(piece)),
            lambda number: logs.append(log, 1, 1, number * len(piece), piece),
            lambda _: [zlib.compress(piece[at : at + logs.CHUNK], 1) for at in range(0, len(piece), logs.CHUNK)],
            lambda _: plain.write(piece),
        )
        total = logs.size(log, 1, 1) / 1e6
        windows, scanned = _windows(log, path)
        exported = seconds(lambda: sum(len(part) for part in logs.stream(log, 1, 1)))
        small = _small_appends(log, piece)
    return [
        Row("log append", total / sum(stored), "MB/s", "zlib level 1 alone", total / sum(packed)),
        Row("log append", total / sum(stored), "MB/s", "plain file, not flushed", total / sum(written)),
        Row(f"log window of {WINDOW} lines, p50", percentile(windows, 50), "ms", "sed -n on a plain file", scanned),
        Row(f"log window of {WINDOW} lines, p99", percentile(windows, 99), "ms", "sed -n on a plain file", scanned),
        Row("log export", total / exported, "MB/s", "log append", total / sum(stored)),
        Row("appends of one line", small, "/s", "lines a noisy job prints", 500),
    ]


def _windows(log: sqlite3.Connection, plain: Path) -> tuple[list[float], float]:
    """Times of 200 random windows, and milliseconds that sed needs for one in the middle."""
    chance = random.Random(3)  # noqa: S311 - the same windows each time
    count = logs.line_count(log, 1, 1)
    windows = each(200, lambda _: logs.lines(log, 1, 1, chance.randrange(count - WINDOW), WINDOW))
    middle = count // 2
    script = ["sed", "-n", f"{middle},{middle + WINDOW}p;{middle + WINDOW}q", str(plain)]
    return windows, 1000 * seconds(lambda: subprocess.run(script, check=True, stdout=subprocess.DEVNULL))


def _small_appends(log: sqlite3.Connection, piece: bytes) -> float:
    """Appends of single lines, each a transaction, in a second."""
    lines = piece.splitlines(keepends=True)[:3000]

    def append() -> None:
        position = 0
        for line in lines:
            position = logs.append(log, 2, 1, position, line)

    return len(lines) / seconds(append)


def rows(log_bytes: int = LOG_BYTES) -> Iterator[Row]:
    """Every figure, as it is measured."""
    for measure in (
        single_submits, submits_at_once, sweep_submit, large_queue,
        lambda place: output_kept_and_read(place, log_bytes),
    ):  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="gpuscale-bench-") as place:
            yield from measure(Path(place))


def main() -> None:
    """Print the table."""
    quick = "--quick" in sys.argv
    for row in rows(LOG_BYTES // 16 if quick else LOG_BYTES):
        print(f"{row.what:45} {row.measured:10.2f} {row.unit:5} {row.peer:30} {row.peer_value:10.2f}", flush=True)


if __name__ == "__main__":
    main()
