"""The engine's event loop with many jobs running and many waiting: how late it is, and how much memory it holds."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.common import Options, Outcome, memory, percentile, processor_time, wait_until
from benchmarks.hosts import START_SEC, Site, site, why_not
from gpuscale_tui.model.jobs import JobSpec

WAITING = 2_000
WATCHED_SEC = 10.0
NAP_SEC = 0.005
COMMAND = 'i=0; while [ ! -e "$HOME/end" ]; do i=$((i+1)); echo "step $i loss 1.234"; sleep 1; done'
PROMISED = 2_000
"""Running jobs that the design promises memory for."""


def rows(options: Options) -> Iterator[Outcome]:
    """Watch an engine whose loop tells how late it wakes."""
    reason = why_not()
    if reason is not None:
        yield f"the event loop's lag is not measured: {reason}"
        return
    live = max(10, options.live // 4) if options.quick else options.live
    with site(servers=2, hosts=live) as place, _watched(place) as child:
        _report(child)
        empty = memory(child.pid)["VmRSS"]
        wait_until(lambda: place.workers("idle") == live, within_sec=START_SEC + live, what=f"{live} idle machines")
        ids = place.submit([JobSpec(image="none", command=COMMAND, user="bench")] * (live + WAITING))
        wait_until(
            lambda: all(place.output_sizes(ids[:live])),
            within_sec=START_SEC + live,
            what="the start of all jobs",
            look_sec=0.2,
        )
        _report(child)
        with processor_time(child.pid) as used:
            bare = asyncio.run(_bare_loop(WATCHED_SEC))
            share = 100 * used() / WATCHED_SEC
        late, after = _report(child), memory(child.pid)["VmRSS"]
    what = f"{live} running jobs, {WAITING:,} waiting"
    peer = ("an idle loop beside it", 1000 * percentile(bare, 99))
    yield (f"event-loop lag p99, {what}", 1000 * percentile(late, 99), "ms", *peer)
    yield (f"event-loop lag at most, {what}", 1000 * max(late), "ms", "an idle loop beside it", 1000 * max(bare))
    yield (f"engine's processor time, {what}", share, "%", "", None)
    yield (f"engine's memory, {what}", after, "MiB", "without machines and jobs", empty)
    whole = empty + (after - empty) * PROMISED / live
    yield (f"engine's memory for {PROMISED:,} running jobs, from that", whole, "MiB", "", None)


class _watched:  # noqa: N801 - reads as a function
    """An engine in a child process that runs `benchmarks.watched`."""

    def __init__(self, place: Site) -> None:
        self._place = place

    def __enter__(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks.watched", str(self._place.home.path), str(self._place.config)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._place.environ
        )
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def _report(child: subprocess.Popen[str]) -> list[float]:
    """How late the child's loop woke, in seconds, each time since the last report."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("report\n")
    child.stdin.flush()
    return list(json.loads(child.stdout.readline()))


async def _bare_loop(duration: float) -> list[float]:
    """The same for a loop that has nothing to do, in this process at the same time."""
    late: list[float] = []
    deadline = time.perf_counter() + duration
    while time.perf_counter() < deadline:
        late.append(await nap())
    return late


async def nap() -> float:
    """Sleep for a moment; how much later than asked it ended."""
    begin = time.perf_counter()
    await asyncio.sleep(NAP_SEC)
    return time.perf_counter() - begin - NAP_SEC
