"""The screen over 100,000 jobs, 1,000 machines, 1,000,000 events and a log of 1 GB, while 50 jobs print 500 lines/s.

Beside it, in the same run, Textual's own DataTable with as many rows and its own Log with as many lines.
"""

from __future__ import annotations

import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import large
from benchmarks.common import Options, Outcome, median, memory, percentile, processor_time
from benchmarks.screen import KEYS, PAGES, key_times
from benchmarks.terminal import Terminal
from gpuscale_tui.store import queries
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home

LINES_A_SECOND = 500
WATCH_SEC = 15.0
SETTLED_SEC = 1.0
TIMES = 7
LAST = large.job_name(large.JOBS - 1)
"""The job that stands in no window but the one that it is looked for in."""
DATA_TABLE = "Textual's DataTable, as many rows"


@dataclass(frozen=True, slots=True)
class Peer:
    """What Textual's own table does: seconds until it is there, seconds from keys to their effects, MiB."""

    ready: float
    keys: list[float]
    resident: float


def rows(options: Options) -> Iterator[Outcome]:
    """The figures of the large home, then those of the log."""
    peer = _peer_table(options)
    with tempfile.TemporaryDirectory(prefix="gpuscale-bench-") as place:
        home = Home(Path(place) / "large")
        large.make(home, log_bytes=_log_bytes(options))
        with Database(home.database) as db:
            first = db.read(queries.job_rows, limit=1)[0]
        with large.engine_elsewhere(home), Terminal(home) as terminal:
            painted = terminal.wait_for(first.name)
            yield ("from exec until the table is there, large", 1000 * painted, "ms", DATA_TABLE, 1000 * peer.ready)
            terminal.settle(SETTLED_SEC)
            yield from _tables(terminal, peer, options)
            yield (
                "resident memory of the screen, large",
                memory(terminal.pid)["VmRSS"],
                "MiB",
                DATA_TABLE,
                peer.resident,
            )
            yield from _busy(home, terminal, options)
    yield from _peer_log()


def _log_bytes(options: Options) -> int:
    return large.LOG_BYTES // (8 if options.quick else 1)


def _peer_table(options: Options) -> Peer:
    count = large.JOBS // (10 if options.quick else 1)
    with Terminal(None, ("-m", "benchmarks.peer_app", "table", str(count))) as terminal:
        ready = terminal.wait_for("lr-sweep-000001")
        terminal.settle(SETTLED_SEC)
        return Peer(ready, key_times(terminal, KEYS + PAGES), memory(terminal.pid)["VmRSS"])


def _tables(terminal: Terminal, peer: Peer, options: Options) -> Iterator[Outcome]:
    begin = len(terminal.output)
    found = key_times(terminal, (KEYS + PAGES) * options.runs(4))
    written = terminal.output[begin:]
    for name, figure in (("p50", median), ("p95", lambda times: percentile(times, 95))):
        yield (f"key to the first byte of its effect, {name}, large", 1000 * figure(found), "ms", DATA_TABLE,
               1000 * figure(peer.keys))  # fmt: skip
    yield ("a key makes the terminal carry", len(written) / len(found) / 1024, "KiB", "deflated, as by ssh -C",
           len(zlib.compress(written, 6)) / len(found) / 1024)  # fmt: skip
    yield ("filter of 100,000 jobs, from its last letter", _middle(lambda: _filter(terminal), options), "ms", "", None)
    yield ("order of 100,000 jobs turned round", _middle(lambda: _sort(terminal), options), "ms", "", None)
    yield ("the newest of 1,000,000 events, from the key", _middle(lambda: _events(terminal), options), "ms", "", None)
    yield ("1,000 machines, from the key", _middle(lambda: _workers(terminal), options), "ms", "", None)
    terminal.type("1g")
    terminal.settle()


def _middle(measure: Callable[[], float], options: Options) -> float:
    return 1000 * median([measure() for _ in range(options.runs(TIMES))])


def _filter(terminal: Terminal) -> float:
    for keys in ("1", "/", "name:09999"):
        terminal.type(keys)
        terminal.settle(0.2)
    found = terminal.effect_of("9", LAST)
    terminal.type("\x1b")
    terminal.settle(0.3)
    return found


def _sort(terminal: Terminal) -> float:
    for keys in ("1", "g", "o"):
        terminal.type(keys)
        terminal.settle(0.2)
    found = terminal.effect_of("O", LAST)
    terminal.type("\x1b")
    terminal.settle(0.3)
    return found


def _events(terminal: Terminal) -> float:
    terminal.type("1")
    terminal.settle(0.2)
    return terminal.effect_of("7", f"round {large.EVENTS // large.JOBS - 1}")


def _workers(terminal: Terminal) -> float:
    terminal.type("1")
    terminal.settle(0.2)
    return terminal.effect_of("2", "w1 ")


def _busy(home: Home, terminal: Terminal, options: Options) -> Iterator[Outcome]:
    """While 50 jobs print: what the screen writes and uses on the queue and on the end of the 1 GB log."""
    with Database(home.database) as db:
        running = [row.id for row in db.read(queries.job_rows, limit=large.RUNNING)]
    with large.printing(home, running, LINES_A_SECOND):
        found = key_times(terminal, (KEYS + PAGES) * options.runs(4))
        yield (f"key to the first byte of its effect, p95, large, {large.RUNNING} jobs printing",
               1000 * percentile(found, 95), "ms", "", None)  # fmt: skip
        written, used = _watched(terminal)
        yield ("written in a minute of watching the queue, 50 jobs printing", written * 60, "KiB", "", None)
        yield ("processor used by the screen, queue, 50 jobs printing", 100 * used, "%", "", None)
        terminal.type("g")
        terminal.settle(0.3)
        opened = terminal.effect_of("l", "tok/s")
        yield (f"a log of {_log_bytes(options) // 2**20:,} MiB opened at its end", 1000 * opened, "ms", "", None)
    with large.printing(home, running[:1], LINES_A_SECOND):
        terminal.type("f")
        terminal.settle(0.05)
        written, used = _watched(terminal)
        yield (
            f"written while a log of {_log_bytes(options) // 2**20:,} MiB and {LINES_A_SECOND} lines/s is followed",
            written,
            "KiB/s",
            "",
            None,
        )
        yield (f"processor used by the screen, a log of {LINES_A_SECOND} lines/s followed", 100 * used, "%", "", None)
    yield ("resident memory of the screen after all that, large", memory(terminal.pid)["VmRSS"], "MiB", "", None)


def _watched(terminal: Terminal) -> tuple[float, float]:
    """KiB a second that it writes, and the part of a core that it uses."""
    begin = time.monotonic()
    with processor_time(terminal.pid) as used:
        written = terminal.written_in(WATCH_SEC) / 1024
        took = time.monotonic() - begin
        return written / took, used() / took


def _peer_log() -> Iterator[Outcome]:
    with Terminal(None, ("-m", "benchmarks.peer_app", "log", str(LINES_A_SECOND))) as terminal:
        terminal.wait_for("tok/s")
        written, used = _watched(terminal)
        yield (f"Textual's Log with {LINES_A_SECOND} lines/s writes", written, "KiB/s", "", None)
        yield (f"Textual's Log with {LINES_A_SECOND} lines/s uses", 100 * used, "%", "", None)
