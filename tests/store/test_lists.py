"""The lists of jobs and events: any filter in any order by pages, places of rows, and searches in slices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuscale_tui.model.query import Query, parse_query
from gpuscale_tui.model.states import JobState
from gpuscale_tui.store import event_list, events, jobs
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.event_list import EVENT_FIELDS, EventList
from gpuscale_tui.store.job_list import JOB_FIELDS, JOB_SORTS, JobList, JobView, queue_place, rows_for
from gpuscale_tui.store.progress import JobProgress, record
from tests.store.support import T0, Bench, spec

FINAL = ("done", "failed", "cancelled")
NOW = T0 + 3_600_000

made_jobs = st.lists(
    st.tuples(
        st.sampled_from([state.value for state in JobState]), st.integers(1, 3),
        st.sampled_from(["alpha", "Beta", "50%_off"]), st.sampled_from([None, "RTX 4090", "H100"]),
        st.integers(0, 4), st.integers(0, 2),
    ),
    min_size=1, max_size=25,
)  # fmt: skip


def make(bench: Bench, made: list[Any]) -> None:
    """Jobs set straight into their states, with times and costs that often tie."""
    bench.write(jobs.insert, [spec(name=name, gpu_type=gpu, priority=priority)
                              for _, priority, name, gpu, _, _ in made], T0)  # fmt: skip
    for job_id, (state, _, _, _, tick, cost) in enumerate(made, 1):
        bench.db.connection.execute(
            "UPDATE jobs SET state = ?, started_at = ?, finished_at = ?, cost = ? WHERE id = ?",
            (state, None if state == "pending" else T0 + tick, T0 + tick if state in FINAL else None, cost, job_id),
        )


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    made=made_jobs,
    typed=st.sampled_from(["", "alpha", "failed", "!pending cost>0", "gpu:rtx", "%", "ran<1h"]),
    sort=st.sampled_from(JOB_SORTS),
    descending=st.booleans(),
    size=st.integers(1, 6),
)
def test_pages_places_and_ranges_are_of_one_list(  # noqa: PLR0917 - a list and how it is looked at
    tmp_path_factory: pytest.TempPathFactory, made: list[Any], typed: str, sort: str, descending: bool, size: int
) -> None:
    """Whatever the filter and the order: pages put together are the list, each job stands where it says."""
    bench = Bench(tmp_path_factory.mktemp("l") / "gpuscale.db")
    make(bench, made)
    view, of = JobView(parse_query(typed, JOB_FIELDS), sort, descending), JobList()
    whole: list[int] = []
    total = bench.read(of.page, view, (0, size), None, NOW).total
    while len(whole) < total:
        count = min(size, total - len(whole))
        page = bench.read(of.page, view, (len(whole), count), None, NOW)
        assert (page.total, page.first, len(page.rows)) == (total, len(whole), count)
        whole += [row.id for row in page.rows]
    assert sorted(whole) == sorted(bench.read(of.ids, view, NOW))
    if view.sort == "queue":
        known = bench.read(JobList().ids, JobView(parse_query('""', JOB_FIELDS), "queue", descending), NOW)
        assert [each for each in known if each in whole] == whole
    for place, job_id in enumerate(whole):
        followed = bench.read(of.page, view, ((place + total // 2) % total, 1), job_id, NOW)
        assert followed.place == place or job_id in {row.id for row in followed.rows}
        if typed == "" and sort == "queue":
            assert bench.read(queue_place, job_id, descending) == place
    for job_id in set(range(1, len(made) + 1)) - set(whole):
        assert bench.read(of.page, view, (0, size), job_id, NOW).place is None
    if whole:
        one, other = whole[0], whole[len(whole) // 2]
        assert list(bench.read(of.between, view, other, one, NOW)) == whole[: len(whole) // 2 + 1]
    bench.db.close()


def test_the_window_goes_with_a_job_that_was_in_view(bench: Bench) -> None:
    """A job that was on screen and has moved far is shown where it is now; one that was not leaves the window."""
    make(bench, [("pending", 5, "x", None, 0, 0)] * 60)
    of, view = JobList(), JobView()
    bench.db.connection.execute("UPDATE jobs SET priority = 10 WHERE id = 2")
    seen = bench.read(of.page, view, (0, 10), 2, NOW, seen=True)
    assert seen.place == 59
    assert 2 in {row.id for row in seen.rows}
    unseen = bench.read(of.page, view, (0, 10), 2, NOW, seen=False)
    assert (unseen.place, unseen.first) == (59, 0)


def test_a_list_is_walked_again_only_when_the_data_have_changed(bench: Bench) -> None:
    """Pages of the same filter cost one walk; a change by somebody else is seen."""
    make(bench, [("pending", 5, "x", None, 0, 0)] * 9)
    of, view = JobList(), JobView(parse_query("name:x", JOB_FIELDS))
    said: list[str] = []
    with Database(bench.path, readonly=True) as reader:
        reader.connection.set_trace_callback(said.append)
        for first in (0, 3, 6):
            assert reader.read(of.page, view, (first, 3), None, NOW).total == 9
        assert sum("group_concat" in statement for statement in said) == 1
        bench.db.connection.execute("UPDATE jobs SET name = 'y' WHERE id < 4")
        assert reader.read(of.page, view, (0, 3), None, NOW).total == 6


def test_rows_know_how_far_their_jobs_are(bench: Bench) -> None:
    """What a job's output says stands in its row, and can be asked for and sorted by."""
    make(bench, [("running", 5, "x", None, 0, 0)] * 3)
    told = [JobProgress(1, 0, NOW, fraction=0.25, eta_ms=60_000, loss=2.0), JobProgress(3, 0, NOW, fraction=0.75)]
    bench.write(record, told, [])
    assert [row.progress and row.progress.fraction for row in bench.read(rows_for, [1, 2, 3])] == [0.25, None, 0.75]
    for typed, ids in (("progress>50%", [3]), ("eta<2m", [1]), ("loss<3", [1]), ("!progress>0", [2])):
        assert list(bench.read(JobList().ids, JobView(parse_query(typed, JOB_FIELDS)), NOW)) == ids
    assert list(bench.read(JobList().ids, JobView(Query(), "progress", True), NOW)) == [3, 1, 2]


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Bench]:
    """Five thousand events: every hundredth one is a warning, about ten jobs and three machines."""
    bench = Bench(tmp_path / "gpuscale.db")
    bench.db.connection.executemany(
        "INSERT INTO events (at, epoch, kind, job_id, worker_id, cause, detail) VALUES (?, 1, ?, ?, ?, ?, ?)",
        [
            (
                T0 + n,
                "warning" if n % 100 == 0 else "job",
                n % 10,
                n % 3,
                "host_fault" if n % 7 == 0 else None,
                f"no {n}",
            )
            for n in range(1, 5001)
        ],
    )
    yield bench
    bench.db.close()


def test_events_are_paged_by_id(busy: Bench) -> None:
    """Without a filter a place is an id; nothing is counted."""
    page = busy.read(EventList().page, Query(), (100, 20), 4000, T0)
    assert (page.total, page.first, page.place) == (5000, 100, 1000)
    assert [row.id for row in page.rows] == list(range(4900, 4880, -1))
    assert not page.more


def test_a_filter_of_events_looks_back_in_slices(busy: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reading looks at one slice more, says how far it has come, and ends with all that there are."""
    for name in ("SMALLEST", "FIRST", "LARGEST"):
        monkeypatch.setattr(event_list, name, 1000)
    of, query = EventList(), parse_query("kind:warning", EVENT_FIELDS)
    seen = []
    for reading in range(1, 6):
        page = busy.read(of.page, query, (0, 200), None, T0)
        seen.append(page.total)
        assert page.more is (reading < 5)
        assert page.searched_to == (None if reading == 5 else T0 + 5001 - 1000 * reading)
    assert seen == [10, 20, 30, 40, 50]
    assert [row.id for row in page.rows] == list(range(5000, 0, -100))
    first = busy.read(EventList().page, query, (0, 5), None, T0)
    assert (first.total, first.more) == (10, False)


def test_new_events_come_at_the_top_of_a_filter(busy: Bench) -> None:
    """What is written meanwhile is found, and what the cursor was on has another place."""
    of, query = EventList(), parse_query("job:j7 no", EVENT_FIELDS)
    before = busy.read(of.page, query, (0, 5), None, T0)
    followed = before.rows[2].id
    busy.write(events.append, T0, "job", "no more", job_id=7)
    after = busy.read(of.page, query, (0, 5), followed, T0)
    assert after.total == before.total + 1
    assert after.rows[0].detail == "no more"
    assert after.place == 3


@pytest.mark.parametrize(
    ("typed", "count"),
    [("host fault", 714), ("cause:host_fault job:j7", 72), ("w2 !job:j1", 1500), ("text:4999", 1), ("by:user", 0)],
)
def test_filters_of_events(busy: Bench, typed: str, count: int) -> None:
    """By cause, job, machine, text and who did it."""
    page = busy.read(EventList().page, parse_query(typed, EVENT_FIELDS), (0, 5000), None, T0)
    assert page.total == count
