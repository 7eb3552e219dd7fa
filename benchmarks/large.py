"""A home as large as the screen must bear: 100,000 jobs, 1,000 machines, 1,000,000 events, a log of 1 GB."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from benchmarks.store import T0, training_output
from gpuscale_tui.engine.lock import EngineLock
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import engines, jobs, logs
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home

JOBS, WAITING, RUNNING, WORKERS, EVENTS = 100_000, 10_000, 50, 1_000, 1_000_000
LOG_BYTES = 2**30
PIECE_LINES = 100_000
GPUS = ("RTX 4090", "RTX 3090", "A100 80GB", "H100", "L40S")


def job_name(number: int) -> str:
    """The name of a job by its place, none like another."""
    return f"lr-sweep-{number:06d}"


def make(home: Home, *, log_bytes: int = LOG_BYTES) -> None:
    """Write it: 50 jobs run, 10,000 wait, the others are cancelled. Takes some twenty seconds."""
    home.ensure()
    specs = [
        JobSpec(image="none", command="true", name=job_name(n), gpu_type=GPUS[n % 5], project=f"p{n % 20}")
        for n in range(JOBS)
    ]
    with Database(home.database) as db:
        ids = db.write(jobs.insert, specs, T0)
        db.write(jobs.request_cancel, ids[WAITING + RUNNING :], T0, "bench")
        connection = db.connection
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO workers (provider, state, token, order_id, server_id, gpu_type, gpu_count, market, rate,"
            " terms, quote, group_key, purpose, known_orders, created_at, held_from, idle_since, job_id, attempt,"
            " reason, why)"
            " VALUES ('clore', ?, ?, ?, ?, ?, 1, 'on-demand', ?, '{\"rate\": 200000}', '', 'g', 'queue', '[]', ?, ?, ?,"
            " ?, ?, ?, '')",
            [_worker(n, ids) for n in range(WORKERS)],
        )
        connection.executemany(
            "INSERT INTO attempts (job_id, number, worker_id, state, assigned_at, started_at) VALUES (?, 1, ?,"
            " 'running', ?, ?)",
            [(ids[n], n + 1, T0, T0) for n in range(RUNNING)],
        )
        connection.executemany(
            "UPDATE jobs SET state = 'running', attempt = 1, worker_id = ?, started_at = ? WHERE id = ?",
            [(n + 1, T0, ids[n]) for n in range(RUNNING)],
        )
        connection.executemany(
            "INSERT INTO events (at, kind, job_id, from_state, to_state, detail) VALUES (?, 'job', ?, 'pending',"
            " 'running', ?)",
            ((T0 + n, ids[n % JOBS], f"placed, round {n // JOBS}") for n in range(EVENTS)),
        )
        connection.execute("COMMIT")
    with contextlib.closing(logs.connect_logs(home.logs)) as connection:
        piece, position = training_output(PIECE_LINES), 0
        while position < log_bytes:
            position = logs.append(connection, ids[0], 1, position, piece)


def _worker(n: int, ids: list[int]) -> tuple[object, ...]:
    job = ids[n] if n < RUNNING else None
    state = "busy" if n < RUNNING else "idle"
    idle_since = None if job else T0
    return (
        state, f"t{n}", str(700_000 + n), str(1000 + n), GPUS[n % 5], 200_000 + n, T0, T0, idle_since, job,
        1 if job else None, f"jobs wait for {GPUS[n % 5]}",
    )  # fmt: skip


@contextlib.contextmanager
def engine_elsewhere(home: Home) -> Iterator[None]:
    """An engine in another process, as far as the screen can see: lock, row, a heartbeat each second."""
    ending = threading.Event()
    with EngineLock(home), Database(home.database) as db:
        db.write(engines.begin_epoch, os.getpid(), "autopilot", engines.Limits(10**9, WORKERS), T0)
        beating = threading.Thread(target=_beat, args=(home.database, ending))
        beating.start()
        try:
            yield
        finally:
            ending.set()
            beating.join()


def _beat(path: Path, ending: threading.Event) -> None:
    import time

    with Database(path) as db:
        while not ending.wait(1.0):
            db.write(engines.heartbeat, time.time_ns() // 1_000_000, "")


@contextlib.contextmanager
def printing(home: Home, job_ids: list[int], lines_a_second: int) -> Iterator[None]:
    """So many lines each second in all, shared out among these jobs' logs, twenty writes a second."""
    ending = threading.Event()
    thread = threading.Thread(target=_print_lines, args=(home, job_ids, lines_a_second, ending))
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def _print_lines(home: Home, job_ids: list[int], lines_a_second: int, ending: threading.Event) -> None:
    piece = training_output(max(1, lines_a_second // 20))
    with contextlib.closing(logs.connect_logs(home.logs)) as connection:
        at = {job_id: logs.size(connection, job_id, 1) for job_id in job_ids}
        turn = 0
        while not ending.wait(0.05):
            job_id = job_ids[turn % len(job_ids)]
            at[job_id] = logs.append(connection, job_id, 1, at[job_id], piece)
            turn += 1
