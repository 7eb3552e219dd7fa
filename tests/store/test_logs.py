"""Output in the store: byte-exact whatever the pieces, and any window of lines without reading the rest."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuscale_tui.store import logs
from gpuscale_tui.store.aio import AsyncLogs
from gpuscale_tui.store.log_scan import Scan, line_times
from gpuscale_tui.store.logs import CHUNK, LogGap
from gpuscale_tui.store.opening import StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs.db"


@pytest.fixture
def log(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(logs.connect_logs(path)) as connection:
        yield connection


def write(log: sqlite3.Connection, data: bytes, step: int = CHUNK, job: int = 1) -> None:
    """Append data in steps after what is there."""
    begin = logs.size(log, job, 1)
    for start in range(0, len(data), step):
        logs.append(log, job, 1, begin + start, data[start : start + step])


def split_lines(data: bytes) -> list[bytes]:
    """The lines of some bytes as `lines` must give them."""
    parts = data.split(b"\n")
    return [part[: logs.LONGEST_LINE] for part in (parts[:-1] if parts[-1] == b"" else parts)]


piece = st.one_of(
    st.binary(max_size=50),
    st.lists(st.sampled_from([b"epoch 1 loss 0.5", b"", b"\xff\x00\r", b"x" * 300]), max_size=400).map(b"\n".join),
    st.integers(1, 3 * CHUNK).map(lambda size: b"y" * size),
    st.integers(1, 2000).map(lambda size: b"\n" * size),
    st.tuples(st.integers(CHUNK - 3, CHUNK + 3)).map(lambda size: b"z" * size[0] + b"\n"),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(pieces=st.lists(piece, max_size=14), data=st.data())
def test_whatever_the_pieces_bytes_and_lines_come_back(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], data: st.DataObject
) -> None:
    with closing(logs.connect_logs(tmp_path_factory.mktemp("logs") / "logs.db")) as log:
        log.execute("PRAGMA synchronous = OFF")
        model = b""
        for part in pieces:
            seen = data.draw(st.integers(0, min(len(model), 70_000)))
            model += part
            offset = len(model) - len(part) - seen
            assert logs.append(log, 1, 1, offset, model[offset:]) == len(model), "what is stored already is skipped"
        expected = split_lines(model)
        assert logs.size(log, 1, 1) == len(model)
        assert logs.line_count(log, 1, 1) == len(expected)
        for _ in range(4):
            first, count = data.draw(st.integers(0, len(expected) + 2)), data.draw(st.integers(0, 60))
            assert logs.lines(log, 1, 1, first, count) == expected[first : first + count]
            start, end = (data.draw(st.integers(0, len(model) + 9)) for _ in range(2))
            assert logs.read(log, 1, 1, start, end) == model[start:end]
        assert b"".join(logs.stream(log, 1, 1)) == model
        assert b"".join(logs.stream(log, 1, 1, len(model) // 2)) == model[len(model) // 2 :]


def test_repeating_an_append_is_harmless_and_a_gap_is_refused(log: sqlite3.Connection) -> None:
    assert logs.append(log, 1, 1, 0, b"hello\n") == 6
    assert logs.append(log, 1, 1, 0, b"hello\n") == 6
    assert logs.append(log, 1, 1, 3, b"lo\nworld") == 11
    assert logs.append(log, 1, 1, 2, b"") == 11
    for offset in (12, -1):
        with pytest.raises(LogGap, match=f"bytes from {offset}, but 11 are stored"):
            logs.append(log, 1, 1, offset, b"x")
    with pytest.raises(LogGap):
        logs.append(log, 2, 1, 1, b"x")
    assert logs.read(log, 1, 1, 0, 99) == b"hello\nworld"
    assert log.execute("SELECT count(*) FROM streams").fetchone()[0] == 1, "a refused append leaves no trace"


def test_a_last_line_without_its_end_is_a_line(log: sqlite3.Connection) -> None:
    seen = []
    for part in (b"a", b"b\n", b"", b"c", b"\n", b"\n"):
        logs.append(log, 1, 1, logs.size(log, 1, 1), part)
        seen.append((logs.line_count(log, 1, 1), logs.lines(log, 1, 1, 0, 9)))
    assert seen == [
        (1, [b"a"]), (1, [b"ab"]), (1, [b"ab"]), (2, [b"ab", b"c"]), (2, [b"ab", b"c"]), (3, [b"ab", b"c", b""]),
    ]  # fmt: skip


def test_streams_do_not_mix(log: sqlite3.Connection) -> None:
    for job, attempt in ((1, 1), (1, 2), (2, 1)):
        logs.append(log, job, attempt, 0, f"j{job}-{attempt}\n".encode() * 9000)
    for job, attempt in ((1, 1), (1, 2), (2, 1)):
        assert logs.lines(log, job, attempt, 8999, 5) == [f"j{job}-{attempt}".encode()]
    assert logs.size(log, 3, 1) == logs.line_count(log, 3, 1) == 0
    assert logs.lines(log, 3, 1, 0, 5) == []
    assert logs.read(log, 3, 1, 0, 5) == b""
    assert list(logs.stream(log, 3, 1)) == []


def test_odd_windows_are_empty(log: sqlite3.Connection) -> None:
    write(log, b"a\nb\n")
    for first, count in ((-1, 5), (2, 1), (0, 0), (0, -1), (10**15, 10**15)):
        assert logs.lines(log, 1, 1, first, count) == []
    for start, end in ((-1, 2), (3, 1), (9, 12)):
        assert logs.read(log, 1, 1, start, end) == b""


def test_whole_chunks_are_packed_and_what_does_not_shrink_is_kept_as_it_is(log: sqlite3.Connection, path: Path) -> None:
    noise = random.Random(1).randbytes(CHUNK)
    write(log, b"step 1 loss 0.5\n" * (CHUNK // 16) + noise + b"tail")
    stored = [
        (row["number"], row["packed"], len(row["data"])) for row in log.execute("SELECT * FROM chunks ORDER BY number")
    ]
    assert stored[0][:2] == (0, 1)
    assert stored[0][2] < 1000
    assert stored[1] == (1, 0, CHUNK)
    assert logs.read(log, 1, 1, CHUNK, 2 * CHUNK + 4) == noise + b"tail"


def test_what_comes_too_fast_is_stored_as_it_is_and_packed_later(log: sqlite3.Connection, path: Path) -> None:
    data = b"".join(b"step %d loss 0.5\n" % number for number in range(60_000))
    write(log, data, step=logs.FLOOD + 10)
    waiting = len(log.execute("SELECT 1 FROM chunks WHERE packed = ?", (logs.TO_PACK,)).fetchall())
    assert waiting >= 8
    assert logs.read(log, 1, 1, 0, 1 << 30) == data
    assert logs.pack_later(log, 5) == 5
    assert logs.read(log, 1, 1, 0, 1 << 30) == data, "half of it packed"
    before = path.stat().st_size + path.with_name("logs.db-wal").stat().st_size
    assert logs.pack_later(log, waiting) == waiting - 5
    assert logs.pack_later(log) == 0
    assert logs.read(log, 1, 1, 0, 1 << 30) == data
    assert logs.lines(log, 1, 1, 59_999, 5) == [b"step 59999 loss 0.5"]
    log.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert path.stat().st_size < before / 2


def test_many_tiny_appends_keep_few_pieces(log: sqlite3.Connection) -> None:
    data = bytes(range(256)) * 10
    write(log, data, step=1)
    assert log.execute("SELECT count(*) FROM tails").fetchone()[0] <= logs.MOST_PIECES + 1
    assert logs.read(log, 1, 1, 0, 9999) == data


def steps_for(log: sqlite3.Connection, query: Any, *args: Any) -> int:
    """How many hundreds of steps SQLite's machine takes for a query."""
    ticks = 0

    def tick() -> int:
        nonlocal ticks
        ticks += 1
        return 0

    log.set_progress_handler(tick, 100)
    try:
        query(log, *args)
    finally:
        log.set_progress_handler(None, 0)
    return ticks


def test_a_window_costs_the_same_wherever_it_is_and_however_long_the_log(log: sqlite3.Connection) -> None:
    line = b"2026-01-01 00:00:00 INFO step 123456 loss 0.123456 lr 1e-3\n"
    write(log, line * 20_000)
    short = max(steps_for(log, logs.lines, 1, 1, first, 50) for first in (0, 10_000, 19_950))
    write(log, line * 200_000, step=1_000_000)
    long = max(steps_for(log, logs.lines, 1, 1, first, 50) for first in (0, 110_000, 219_950))
    assert long <= short + 1


def test_a_line_of_megabytes_is_cut_and_stepped_over(log: sqlite3.Connection) -> None:
    giant = b"first\n" + b"a" * (40 * CHUNK) + b"\nlast\n" + b"b" * (9 * CHUNK)
    write(log, giant, step=10 * CHUNK)
    read: list[int] = []
    log.set_trace_callback(lambda sql: read.append(1) if "SELECT packed" in sql else None)
    assert logs.lines(log, 1, 1, 0, 10) == [b"first", b"a" * CHUNK, b"last", b"b" * CHUNK]
    log.set_trace_callback(None)
    assert len(read) < 10, "the middle of a cut line is not read"


def test_dropping_a_job_gives_the_room_back_and_leaves_the_others(log: sqlite3.Connection, path: Path) -> None:
    write(log, random.Random(2).randbytes(3_000_000), step=500_000)
    write(log, b"kept\n", job=2)
    before = path.stat().st_size + path.with_name("logs.db-wal").stat().st_size
    logs.drop(log, 1)
    log.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size < before / 10
    assert logs.size(log, 1, 1) == 0
    assert logs.lines(log, 2, 1, 0, 1) == [b"kept"]
    logs.drop(log, 99)


def test_a_damaged_chunk_is_named_and_the_rest_can_be_read(log: sqlite3.Connection) -> None:
    write(log, b"a line\n" * 50_000)
    log.execute("UPDATE chunks SET data = x'00' WHERE number = 2")
    with pytest.raises(StoreError, match=f"damaged between bytes {2 * CHUNK} and {3 * CHUNK}"):
        logs.read(log, 1, 1, 0, 4 * CHUNK)
    assert logs.lines(log, 1, 1, 0, 2) == [b"a line"] * 2
    assert logs.lines(log, 1, 1, 49_000, 2) == [b"a line"] * 2


def test_appends_can_share_a_transaction(log: sqlite3.Connection) -> None:
    log.execute("BEGIN IMMEDIATE")
    logs.append(log, 1, 1, 0, b"one\n")
    logs.append(log, 2, 1, 0, b"two\n")
    assert logs.lines(log, 1, 1, 0, 1) == [b"one"]
    log.execute("ROLLBACK")
    assert logs.size(log, 1, 1) == 0


def test_a_reader_sees_what_is_committed_while_a_chunk_fills(path: Path, log: sqlite3.Connection) -> None:
    with closing(logs.connect_logs(path, readonly=True)) as reader:
        for step in range(1, 40):
            write(log, b"0123456789" * 1000)
            assert logs.size(reader, 1, 1) == step * 10_000
            assert len(logs.read(reader, 1, 1, step * 10_000 - 15_000 if step > 1 else 0, 10**9)) == min(
                step * 10_000, 15_000
            )
        with pytest.raises(StoreError, match="may not be written"):
            logs.append(reader, 1, 1, 390_000, b"x")


async def test_logs_on_an_event_loop(path: Path) -> None:
    async with await AsyncLogs.open(path) as output:
        assert await output.append(1, 1, 0, b"one\ntwo\n") == 8
        assert await output.size(1, 1) == 8
        assert await output.line_count(1, 1) == 2
        assert await output.lines(1, 1, 1, 5) == [b"two"]
        assert await output.read(1, 1, 2, 5) == b"e\nt"
        with pytest.raises(LogGap):
            await output.append(1, 1, 99, b"x")
        async with await AsyncLogs.open(path, readonly=True) as reader:
            assert await reader.size(1, 1) == 8
            with pytest.raises(RuntimeError, match="reading only"):
                await reader.append(1, 1, 8, b"x")
        await output.drop(1)
        assert await output.size(1, 1) == 0


def test_arrivals_are_kept_a_second_apart(log: sqlite3.Connection) -> None:
    """A line's time is that of the bytes it began with; many appends in one second leave one row; drop forgets them."""
    append = logs.append
    append(log, 1, 1, 0, b"one\ntw", at=10_000)
    append(log, 1, 1, 6, b"o\n", at=12_000)  # no line begins here
    append(log, 1, 1, 8, b"three\n", at=12_100)
    append(log, 1, 1, 14, b"four\n", at=12_900)  # within the second
    append(log, 1, 1, 19, b"five\n", at=13_100)
    append(log, 1, 1, 24, b"six\n")  # nobody knows when
    assert line_times(log, 1, 1, 0, 6) == [10_000, 10_000, 12_100, 12_100, 13_100, 13_100]
    assert line_times(log, 1, 1, 4, 9) == [13_100] * 9
    assert line_times(log, 2, 1, 0, 2) == [None, None]
    logs.drop(log, 1)
    assert log.execute("SELECT count(*) FROM arrivals").fetchone()[0] == 0


def test_arrivals_of_a_long_attempt_are_further_apart(log: sqlite3.Connection) -> None:
    """After 20,000 gaps of a second a gap becomes longer than a second."""
    append = logs.append
    begin = 0
    for at in (0, 80_000_000, 80_002_000, 80_003_000, 80_004_100):
        begin = append(log, 1, 1, begin, b"x\n", at=at)
    kept = [row[0] for row in log.execute("SELECT at FROM arrivals ORDER BY line")]
    assert kept == [0, 80_000_000, 80_004_100]


@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(piece, max_size=8))
def test_scanning_chunk_by_chunk_sees_each_line_once(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    """The lines that begin in each chunk are together all lines, in order, with their numbers."""
    with closing(logs.connect_logs(tmp_path_factory.mktemp("logs") / "logs.db")) as log:
        begin = 0
        for part in pieces:
            if part:
                begin = logs.append(log, 1, 1, begin, part)
        seen: list[bytes] = []
        scan = Scan(log, 1, 1)
        for number in range(scan.chunks):
            first, found = scan.lines(number)
            assert not found or first == len(seen)
            seen += found
        assert seen == logs.lines(log, 1, 1, 0, 1 << 40)
