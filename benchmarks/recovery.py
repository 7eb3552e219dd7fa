"""The engine is killed with many jobs at work: how soon has the next one all of them, was any lost or run twice?"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from benchmarks.common import Options, Outcome, percentile, wait_until
from benchmarks.hosts import Site, engine, site, why_not
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import engines, jobs, logs

BEAT_SEC = 1.0
WATCHED_SEC = 8.0
LIVE_SEC = 120.0
COMMAND = (
    'echo "$GPUSCALE_JOB_ID" >> "$HOME/began"; i=0; '
    'while [ ! -e "$HOME/end" ]; do i=$((i+1)); echo "line $i"; sleep 1; done; echo "end $i"'
)


def rows(options: Options) -> Iterator[Outcome]:
    """Kill, start again, count."""
    reason = why_not()
    if reason is not None:
        yield f"recovery is not measured: {reason}"
        return
    live = max(10, options.live // 4) if options.quick else options.live
    with site(servers=2, hosts=live) as place:
        ids = _start(place, live)
        time.sleep(1.5)  # nobody listens while each of them prints at least one more line
        stored = place.output_sizes(ids)
        begin = time.perf_counter()
        with engine(place):
            wait_until(
                lambda: _all_grown(place, ids, stored), within_sec=LIVE_SEC, what="attaching again", look_sec=0.05
            )
            attached = time.perf_counter() - begin
            beats = _beats(place, WATCHED_SEC)
            for server in place.servers:
                (server.home / "end").touch()
            wait_until(lambda: place.count("done") == live, within_sec=LIVE_SEC, what="the end of all jobs")
        yield (f"all of {live} live jobs attached again after kill -9", attached, "s", "", None)
        yield (f"jobs lost, of {live}", float(_lost(place, ids)), "", "", None)
        yield (f"jobs run twice, of {live}", float(_doubled(place, live)), "", "", None)
        late = [abs(gap - BEAT_SEC) for gap in beats]
        yield (f"jitter of the engine's heartbeat with {live} live jobs", 1000 * percentile(late, 99), "ms", "", None)


def _start(place: Site, live: int) -> list[int]:
    """Submit, wait until all of them print, kill the engine."""
    with engine(place, ready=live):
        ids = place.submit([JobSpec(image="none", command=COMMAND, user="bench")] * live)
        wait_until(
            lambda: all(place.output_sizes(ids)), within_sec=LIVE_SEC, what="the start of all jobs", look_sec=0.1
        )
        return ids


def _all_grown(place: Site, ids: Sequence[int], before: Sequence[int]) -> bool:
    return all(now > then for now, then in zip(place.output_sizes(ids), before, strict=True))


def _beats(place: Site, duration: float) -> list[float]:
    """Seconds between the engine's heartbeats, as they appear in the store."""
    gaps: list[float] = []
    deadline = time.monotonic() + duration
    last = None
    while time.monotonic() < deadline:
        row = place.db.read(engines.engine)
        assert row is not None
        if last is not None and row.heartbeat_at != last:
            gaps.append((row.heartbeat_at - last) / 1000)
        last = row.heartbeat_at
        time.sleep(0.02)
    return gaps


def _lost(place: Site, ids: Sequence[int]) -> int:
    """Jobs that did not end well in their first attempt, or whose stored output lacks or repeats a line."""
    lost = 0
    with contextlib.closing(logs.connect_logs(place.home.logs, readonly=True)) as connection:
        for job_id in ids:
            job = place.db.read(jobs.get, job_id)
            lines = logs.read(connection, job_id, 1, 0, 1 << 40).decode().splitlines()
            wanted = [f"line {number}" for number in range(1, len(lines))] + [f"end {len(lines) - 1}"]
            lost += job is None or job.attempt != 1 or job.exit_code != 0 or lines != wanted
    return lost


def _doubled(place: Site, live: int) -> int:
    """Commands that began more than once, as they themselves wrote down."""
    began: Counter[str] = Counter()
    for server in place.servers:
        began.update((server.home / "began").read_text().split())
    return sum(count > 1 for count in began.values()) + max(0, live - len(began))
