"""Series: thinned as they grow, never a point twice, nan kept; use of machines; progress in the main database."""

from __future__ import annotations

import itertools
import math
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuscale_tui.store import logs, progress, series, usage
from gpuscale_tui.store.database import transact
from gpuscale_tui.store.progress import JobProgress, Usage
from gpuscale_tui.store.series import MOST_POINTS, MOST_SERIES, Parsed, Point, Unread
from tests.store.support import Bench

HOUR = 3_600_000


@pytest.fixture
def file(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = logs.connect_logs(tmp_path / "logs.db")
    yield connection
    connection.close()


def print_bytes(file: sqlite3.Connection, count: int, job_id: int = 1, attempt: int = 1) -> None:
    """The job prints so many bytes more."""
    logs.append(file, job_id, attempt, logs.size(file, job_id, attempt), b"x" * count)


def say(
    file: sqlite3.Connection, values: list[float], *, name: str = "loss", job_id: int = 1, attempt: int = 1
) -> None:
    """One more batch of readings, each a byte of output; steps and times go on."""
    start = logs.size(file, job_id, attempt)
    print_bytes(file, len(values), job_id, attempt)
    points = [Point((start + n) * 1000, start + n, value) for n, value in enumerate(values)]
    assert transact(file, None, series.keep, [Parsed(job_id, attempt, start, start + len(values), {name: points})]) == 1


def test_a_short_series_is_kept_as_it_is(file: sqlite3.Connection) -> None:
    """Every point, also those that cannot be compared or have no step."""
    print_bytes(file, 9)
    points = [Point(5, None, 1.5), Point(6, 2, math.inf), Point(7, 3, -math.inf), Point(8, 4, 1e-300)]
    transact(file, None, series.keep, [Parsed(1, 1, 0, 9, {"loss": points})])
    assert series.metric(file, 1, "loss") == points
    say(file, [math.nan])
    assert math.isnan(series.metric(file, 1, "loss")[-1].value)


def test_what_was_read_is_read_no_more(file: sqlite3.Connection) -> None:
    """Points and the byte up to which was read change together; a second time, or by another engine, nothing does."""
    print_bytes(file, 100)
    assert series.unread(file) == [Unread(1, 1, 0, 100)]
    first = Parsed(1, 1, 0, 40, {"loss": [Point(1, 1, 3.0)]})
    assert transact(file, None, series.keep, [first]) == 1
    assert transact(file, None, series.keep, [first]) == 0
    assert transact(file, None, series.keep, [Parsed(1, 1, 50, 60, {"loss": [Point(2, 2, 2.0)]})]) == 0
    assert transact(file, None, series.keep, [Parsed(1, 1, 40, 101, {"loss": [Point(2, 2, 2.0)]})]) == 0
    assert series.metric(file, 1, "loss") == [Point(1, 1, 3.0)]
    assert series.unread(file) == [Unread(1, 1, 40, 100)]


def test_a_long_series_keeps_its_peaks_and_stays_small(file: sqlite3.Connection) -> None:
    """A hundred thousand readings: bounded, in order, with the one spike, the one nan and the last value."""
    dice = random.Random(7)
    values = [5.0 * 0.99999**n + dice.uniform(-0.1, 0.1) for n in range(100_000)]
    values[33_333], values[77_777] = 99.0, math.nan
    for begin in range(0, len(values), 700):
        say(file, values[begin : begin + 700])
    found = series.metric(file, 1, "loss", most=10**6)
    assert MOST_POINTS / 4 < len(found) <= MOST_POINTS + 3
    assert [point.at for point in found] == sorted({point.at for point in found})
    assert all(
        point.step is not None and (point.value == values[point.step] or math.isnan(point.value)) for point in found
    )
    assert {33_333, 77_777, 99_999} <= {point.step for point in found}
    few = series.metric(file, 1, "loss", most=120)
    assert len(few) <= 120
    assert {33_333, 77_777, 99_999} & {point.step for point in few} >= {77_777, 99_999}
    stored = file.execute("SELECT sum(length(data)) FROM blocks").fetchone()[0]
    assert stored < 24 * MOST_POINTS
    gaps = [after.at - before.at for before, after in itertools.pairwise(found)]
    assert max(gaps) < 20 * sum(gaps) / len(gaps)


def test_a_new_attempt_goes_on_in_the_same_series(file: sqlite3.Connection) -> None:
    """All attempts in order of time."""
    say(file, [3.0, 2.0])
    print_bytes(file, 1, attempt=2)
    transact(file, None, series.keep, [Parsed(1, 2, 0, 1, {"loss": [Point(9_000, 1, 2.5)]})])
    assert [(point.at, point.value) for point in series.metric(file, 1, "loss")] == [(0, 3.0), (1000, 2.0), (9000, 2.5)]


def test_names_are_in_order_and_bounded(file: sqlite3.Connection) -> None:
    """Loss first; a job that invents names gets so many and no more."""
    for name in ("zeta", "val_loss", "lr", "loss", *(f"m{n}" for n in range(100))):
        say(file, [1.0], name=name)
    names = series.metric_names(file, 1)
    assert names[:3] == ["loss", "val_loss", "lr"]
    assert len(names) == MOST_SERIES
    assert series.metric(file, 1, "m99") == []
    assert series.metric_names(file, 2) == []


def test_series_go_with_the_output_of_their_job(file: sqlite3.Connection) -> None:
    """Nothing of a dropped job stays; what is said of it later is passed over."""
    say(file, [1.0] * 200)
    say(file, [1.0], job_id=2)
    logs.drop(file, 1)
    assert series.metric_names(file, 1) == []
    assert file.execute("SELECT count(*) FROM blocks").fetchone()[0] == 0
    assert transact(file, None, series.keep, [Parsed(1, 1, 0, 1, {"loss": [Point(1, 1, 3.0)]})]) == 0
    assert series.metric_names(file, 2) == ["loss"]


def gauged(at: int, worker_id: int = 1, percent: int = 50) -> Usage:
    return Usage(worker_id, at, percent, 1_000, 24_000, 60, 10, 2_000, 64_000, 90_000)


def test_use_becomes_coarse_with_age_and_ends(file: sqlite3.Connection) -> None:
    """15 s for hours, minutes for days, quarters of an hour for weeks: means, of each machine by itself."""
    now = 200 * HOUR
    for worker_id in (1, 2):
        times = range(now - 100 * HOUR, now, 60_000)
        transact(file, None, usage.add_usage, [gauged(at, worker_id, (at // 60_000) % 2 * 100) for at in times])
    transact(file, None, usage.thin_usage, 0, now)
    old = series.usage(file, 1, now - 100 * HOUR, now - 73 * HOUR, most=10_000)
    assert {after.at - before.at for before, after in itertools.pairwise(old)} == {900_000}
    assert {use.gpu_percent for use in old} == {50}
    middle = series.usage(file, 1, now - 71 * HOUR, now - 7 * HOUR, most=10_000)
    assert {after.at - before.at for before, after in itertools.pairwise(middle)} == {120_000}
    young = series.usage(file, 2, now - 5 * HOUR, now, most=10_000)
    assert len(young) == 300
    assert len(series.usage(file, 2, 0, now, most=50)) == 50
    before = file.execute("SELECT count(*) FROM usage").fetchone()[0]
    transact(file, None, usage.thin_usage, now, now)
    assert file.execute("SELECT count(*) FROM usage").fetchone()[0] == before
    transact(file, None, usage.thin_usage, now, now + usage.KEPT_MS + HOUR)
    assert series.usage(file, 1, 0, now * 10) == []


def test_thinning_step_by_step_is_thinning_at_once(file: sqlite3.Connection) -> None:
    """Whatever the moments at which it is done."""
    transact(file, None, usage.add_usage, [gauged(at, 1, at // 15_000 % 101) for at in range(0, 9 * HOUR, 15_000)])
    since = 0
    for now in (7 * HOUR, 7 * HOUR + 1, 7 * HOUR + 50_000, 8 * HOUR + 7, 9 * HOUR + 33_333):
        transact(file, None, usage.thin_usage, since, now)
        since = now
    merged = list(series.usage(file, 1, 0, 3 * HOUR, most=10**6))
    assert [use.at for use in merged] == list(range(0, 3 * HOUR, 120_000))


def test_progress_and_use_are_read_as_they_were_written(bench: Bench) -> None:
    """Unknown stays unknown, nan stays nan; jobs and machines that are not there are passed over."""
    [job_id] = bench.submit()
    known = JobProgress(job_id, 1, 5, 10, 100, 1.5, 3, 0.1, math.nan, 2.5, 36_000)
    bench.write(progress.record, [known, JobProgress(999, 1, 5)], [Usage(999, 5)])
    found = bench.read(progress.progress_of, [job_id, 999])
    assert list(found) == [job_id]
    assert math.isnan(found[job_id].loss or 0.0)
    assert found[job_id].eta_ms == 36_000
    bench.write(progress.record, [JobProgress(job_id, 2, 6, loss=math.inf)], [])
    assert bench.read(progress.progress_of, [job_id]) == {job_id: JobProgress(job_id, 2, 6, loss=math.inf)}
    assert bench.read(progress.usage_now, [1, 999]) == {}
