"""Output on its way from a machine into the store: how fast, how late, in how much memory, and every byte."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import (
    Options,
    Outcome,
    in_turns,
    median,
    memory,
    percentile,
    processor_time,
    seconds,
    wait_until,
)
from benchmarks.hosts import Site, engine, site, why_not
from benchmarks.store import training_output
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import logs

MEGABYTES = 192
RUNS = 3
LINES_A_SECOND = 500
STEADY_SEC = 6.0
PRINTER = """
import sys, time
rate, seconds = int(sys.argv[1]), float(sys.argv[2])
begin = time.monotonic()
for number in range(int(rate * seconds)):
    time.sleep(max(0.0, begin + number / rate - time.monotonic()))
    print(f"{time.time_ns()} step {number} loss 1.2345 lr 1.000e-03 tok/s 100000", flush=True)
"""


def rows(options: Options) -> Iterator[Outcome]:
    """Throughput beside `ssh host cat` to a file, and a job that prints steadily."""
    reason = why_not()
    if reason is not None:
        yield f"logs are not measured: {reason}"
        return
    with site() as place, engine(place, ready=1) as running:
        yield from _throughput(place, running.pid, options)
        yield from _steady(place, running.pid)


def _throughput(place: Site, pid: int, options: Options) -> Iterator[Outcome]:
    megabytes = MEGABYTES // 4 if options.quick else MEGABYTES
    source = place.servers[0].home / "output.txt"
    piece = training_output(10_000)
    with source.open("wb") as file:
        for _ in range(megabytes * 10**6 // len(piece)):
            file.write(piece)
    size = source.stat().st_size
    spec = JobSpec(image="none", argv=("cat", str(source)), user="bench")
    jobs: list[int] = []

    def ours() -> float:
        done = place.count("done")
        begin = time.perf_counter()
        jobs.extend(place.submit([spec]))
        wait_until(lambda: place.count("done") > done, within_sec=120, what="a long log")
        return size / 1e6 / (time.perf_counter() - begin)

    def bare() -> float:
        return size / 1e6 / seconds(lambda: _copy(place, source))

    mine, copied = in_turns(options.runs(RUNS), [ours, bare])
    wanted = _digest(source)
    wrong = sum(_stored_digest(place, job_id) != wanted for job_id in jobs)
    yield ("log from machine to store", median(mine), "MB/s", "ssh host cat > file", median(copied))
    yield ("stored logs that differ from what was printed", float(wrong), f"of {len(jobs)}", "", None)
    yield (f"engine's memory at most, {megabytes} MB of log", memory(pid)["VmHWM"], "MiB", "", None)


def _copy(place: Site, source: Path) -> None:
    with (place.root / "copy.txt").open("wb") as target:
        command = [*place.ssh(place.servers[0]), "cat", str(source)]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=target, check=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stored_digest(place: Site, job_id: int) -> str:
    found = hashlib.sha256()
    with contextlib.closing(logs.connect_logs(place.home.logs, readonly=True)) as connection:
        for part in logs.stream(connection, job_id, 1):
            found.update(part)
    return found.hexdigest()


def _steady(place: Site, pid: int) -> Iterator[Outcome]:
    """Each line carries the time at which it was printed: how old is the newest stored one, whenever one looks?"""
    words = (sys.executable, "-c", PRINTER, str(LINES_A_SECOND), str(STEADY_SEC))
    done = place.count("done")
    [job_id] = place.submit([JobSpec(image="none", argv=words, user="bench")])
    ages: list[float] = []
    with contextlib.closing(logs.connect_logs(place.home.logs, readonly=True)) as connection:
        wait_until(lambda: logs.line_count(connection, job_id, 1), within_sec=30, what="the first line")
        begin = time.perf_counter()
        with processor_time(pid) as used:
            while time.perf_counter() - begin < STEADY_SEC - 1:
                ages.append(time.time() - _newest(connection, job_id))
                time.sleep(0.02)
            share = 100 * used() / (time.perf_counter() - begin)
        wait_until(lambda: place.count("done") > done, within_sec=30, what="a job that prints steadily")
        lines = logs.line_count(connection, job_id, 1)
    yield (
        f"age of the newest stored line at {LINES_A_SECOND} lines/s, p95",
        1000 * percentile(ages, 95),
        "ms",
        "",
        None,
    )
    yield (f"engine's processor time at {LINES_A_SECOND} lines/s", share, "%", "", None)
    yield (f"lines stored at {LINES_A_SECOND} lines/s", float(lines), "", "lines printed", LINES_A_SECOND * STEADY_SEC)


def _newest(connection: object, job_id: int) -> float:
    """When the last complete stored line was printed, in seconds."""
    last = logs.line_count(connection, job_id, 1) - 2  # type: ignore[arg-type]
    line = logs.lines(connection, job_id, 1, max(0, last), 1)[0]  # type: ignore[arg-type]
    return int(line.split()[0]) / 1e9
