"""Jobs in the store: what is asked for comes back as it was, and users' commands do what they say."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.model.jobs import JobSpec, StartFrom, job_label, parse_label, worker_label
from gpuscale_tui.model.offers import Market, Need
from gpuscale_tui.model.states import AttemptState, Cause, JobState, OrderOutcome, Purpose, WorkerState
from gpuscale_tui.store import demand, engines, events, jobs, queries, rows, workers
from tests.store.support import DOLLAR, NEED, T0, Bench, intent, offer, spec

text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
env_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}\Z").filter(lambda name: not name.startswith("GPUSCALE_"))
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
words = st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z")


@st.composite
def specs(draw: st.DrawFn) -> JobSpec:
    """Any job that the model lets through."""
    commands = st.fixed_dictionaries({"command": values.filter(str.strip)})
    argvs = st.fixed_dictionaries({"argv": st.lists(values, min_size=1, max_size=4).map(tuple)})
    while True:
        try:
            return JobSpec(
                image=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,40}\Z")),
                name=draw(text),
                gpu_type=draw(st.none() | st.sampled_from(["RTX 4090", "H100"])),
                gpu_count=draw(st.integers(1, 64)),
                max_price=draw(st.none() | st.integers(1, 2**40)),
                priority=draw(st.integers(1, 10)),
                max_runtime_sec=draw(st.none() | st.integers(1, 365 * 86_400)),
                env=draw(st.dictionaries(env_names, values, max_size=4)),
                params=draw(st.dictionaries(values, values, max_size=3)),
                workdir=draw(st.none() | values.map(lambda path: f"/{path}")),
                checkpoint_dir=draw(st.none() | st.sampled_from(["ckpt", "out/ckpt"])),
                project=draw(words),
                provider=draw(words),
                market=draw(st.none() | st.sampled_from(Market)),
                retries=draw(st.none() | st.integers(0, 10_000)),
                user=draw(values),
                **draw(commands | argvs),
            )
        except FieldError:
            continue


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One database for many examples."""
    return Bench(tmp_path_factory.mktemp("jobs") / "gpuscale.db")


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=specs())
def test_a_job_comes_back_as_it_was_asked_for(shared: Bench, asked: JobSpec) -> None:
    (job_id,) = shared.write(jobs.insert, [asked], T0)
    job = shared.read(jobs.get, job_id)
    assert job is not None
    assert job.spec == asked
    assert (job.state, job.attempt, job.faults, job.submitted_at, job.cost) == (JobState.PENDING, 0, 0, T0, 0)
    assert shared.read(demand.needs)[asked.need.key] == asked.need
    shared.write(jobs.request_cancel, [job_id], T0, "ann")


def test_values_of_secrets_never_reach_the_database(bench: Bench) -> None:
    secret = "hunter2-hunter2"
    (job_id,) = bench.submit(secret_env={"HF_TOKEN": secret}, env={"A": "b"})
    job = bench.read(jobs.get, job_id)
    assert job is not None
    assert dict(job.spec.secret_env) == {"HF_TOKEN": ""}
    assert secret not in repr(spec(secret_env={"HF_TOKEN": secret}))
    bench.db.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert secret.encode() not in bench.path.read_bytes()


def test_a_submission_is_all_or_nothing_and_keeps_its_order(bench: Bench) -> None:
    assert bench.write(jobs.insert, [spec(name="a"), spec(name="b"), spec()], T0) == [1, 2, 3]
    assert [row.name for row in bench.read(queries.job_rows)] == ["a", "b", "job 3"]
    assert [event.to_state for event in bench.read(queries.events_page)] == ["pending"] * 3
    good, bad = spec(), spec()
    object.__setattr__(bad, "priority", 99)
    with pytest.raises(Exception, match="CHECK"):
        bench.write(jobs.insert, [good, bad], T0)
    assert bench.read(queries.count_jobs) == 3
    assert bench.write(jobs.insert, [], T0) == []


def test_labels() -> None:
    assert (job_label(17), worker_label(3)) == ("j17", "w3")
    assert [parse_label(given, "j") for given in ("j17", "17", " J17 ")] == [17, 17, 17]
    assert {parse_label(given, "j") for given in ("j0", "017", "w17", "", "j", "-1", "1.5", "j١")} == {None}
    assert parse_label("w9", "w") == 9


def test_cancel_says_what_became_of_each(bench: Bench) -> None:
    running = bench.placed()
    pending, done = bench.submit()[0], bench.job_in(JobState.DONE)
    said = bench.write(jobs.request_cancel, [running.job_id, pending, done], T0 + 1, "ann")
    assert said == [(running.job_id, "cancelling"), (pending, "cancelled"), (done, "done")]
    assert [job.id for job in bench.read(jobs.cancelling, T0 + 1)] == [running.job_id]
    job = bench.read(jobs.get, pending)
    assert job is not None
    assert (job.state, job.cause, job.finished_at) == (JobState.CANCELLED, Cause.CANCELLED, T0 + 1)
    count = bench.read(queries.events_count)
    assert bench.write(jobs.request_cancel, [running.job_id], T0 + 2, "ann") == [(running.job_id, "cancelling")]
    assert bench.read(jobs.get, running.job_id).cancel_requested_at == T0 + 1  # type: ignore[union-attr]
    assert bench.read(queries.events_count) == count, "asking twice is one request"
    with pytest.raises(LookupError, match="there is no job j99"):
        bench.write(jobs.request_cancel, [99], T0, "ann")


def test_a_cancelled_job_that_was_put_back_is_not_placed_again(bench: Bench) -> None:
    attempt = bench.placed()
    bench.write(jobs.request_cancel, [attempt.job_id], T0, "ann")
    bench.end(attempt, Cause.HOST_FAULT, JobState.PENDING)
    assert bench.write(jobs.place, attempt.job_id, attempt.worker_id, **bench.by) is None
    assert [waiting.id for waiting in bench.read(demand.heads, 5, T0)] == []
    bench.write(jobs.cancel_requeued, attempt.job_id, **bench.by)
    job = bench.read(jobs.get, attempt.job_id)
    assert job is not None
    assert (job.state, job.cancel_requested_at) == (JobState.CANCELLED, None)
    count = bench.read(queries.events_count)
    bench.write(jobs.cancel_requeued, attempt.job_id, **bench.by)
    assert bench.read(queries.events_count) == count


def test_retry_begins_with_a_clean_slate_and_a_new_attempt(bench: Bench) -> None:
    first = bench.placed()
    bench.end(first, Cause.HOST_FAULT, JobState.PENDING, counted=True)
    again = bench.place(first.job_id, first.worker_id)
    bench.end(again, Cause.USER_ERROR, JobState.FAILED, exit_code=1, error="no")
    assert bench.write(jobs.retry, first.job_id, T0, "ann")
    job = bench.read(jobs.get, first.job_id)
    assert job is not None
    assert (job.state, job.faults, job.exit_code, job.cause, job.error, job.finished_at, job.worker_id) == (
        JobState.PENDING, 0, None, None, None, None, None,
    )  # fmt: skip
    assert bench.place(first.job_id, first.worker_id).number == 3
    assert not bench.write(jobs.retry, first.job_id, T0, "ann"), "it runs"
    with pytest.raises(LookupError):
        bench.write(jobs.retry, 99, T0, "ann")


def test_priority_changes_the_order(bench: Bench) -> None:
    bench.submit(3)
    bench.write(jobs.set_priority, 3, 1, T0, "ann")
    assert [job.id for job in bench.read(jobs.pending)] == [3, 1, 2]
    assert [row.id for row in bench.read(queries.job_rows)] == [3, 1, 2]
    assert bench.read(queries.job_events, 3)[-1].detail == "priority 1 set by ann"
    with pytest.raises(LookupError):
        bench.write(jobs.set_priority, 99, 1, T0, "ann")


def test_output_and_resumption_are_noted_on_the_attempt(bench: Bench) -> None:
    attempt = bench.placed()
    bench.write(jobs.record_output, attempt.job_id, 1, 4711)
    bench.write(jobs.record_resume, attempt, StartFrom(attempt.job_id, 3), **bench.by)
    found = bench.read(jobs.get_attempt, attempt.job_id, 1)
    assert found == dataclasses.replace(attempt, output_bytes=4711, resumed_from=3)
    assert found.remote_name == "j1-1"
    assert bench.read(jobs.get_attempt, 1, 2) is None


def test_an_attempt_that_does_not_exist_is_a_bug(bench: Bench) -> None:
    attempt = dataclasses.replace(bench.placed(), number=7)
    with pytest.raises(LookupError, match="j1-7 does not exist"):
        bench.advance(attempt, AttemptState.STAGING)
    assert not bench.end(attempt, Cause.FINISHED, JobState.DONE)


def test_demand_is_grouped_and_skips_what_is_held(bench: Bench) -> None:
    bench.submit(2, priority=7)
    bench.submit(priority=2)
    bench.submit(gpu_type=None)
    held = bench.placed()
    bench.end(held, Cause.HOST_FAULT, JobState.PENDING, not_before=T0 + 9)
    assert set(bench.read(demand.needs).values()) == {NEED, Need("img", None, 0, None)}
    assert [waiting.id for waiting in bench.read(demand.heads, 2, T0) if waiting.need == NEED] == [3, 1]
    assert [waiting.id for waiting in bench.read(demand.heads, 9, T0 + 9) if waiting.need == NEED] == [
        3,
        held.job_id,
        1,
        2,
    ]
    assert len(bench.read(demand.waiting)) == 5
    assert bench.read(demand.next_release_of_hold, T0) == T0 + 9
    assert bench.read(demand.next_release_of_hold, T0 + 9) is None
    assert bench.read(demand.count_by_state, "pending") == 5


def test_a_worker_comes_back_as_it_was_ordered(bench: Bench) -> None:
    made = offer(
        2 * DOLLAR, owner="o1", gpu_count=2, market=Market.SPOT, quote='{"a": 1}', any_image=False,
    )  # fmt: skip
    wanted = dataclasses.replace(intent(), offer=made, known_orders=frozenset({"b", "a"}), purpose=Purpose.HAND)
    worker = bench.write(workers.write_intent, wanted, **bench.by)
    assert not isinstance(worker, workers.CapReached)
    assert (worker.provider, worker.server_id, worker.owner, worker.market) == (
        "clore",
        made.server_id,
        "o1",
        Market.SPOT,
    )
    assert (worker.terms, worker.rate, worker.quote, worker.image) == (made.terms, 2 * DOLLAR, '{"a": 1}', "img")
    assert (worker.known_orders, worker.group_key, worker.purpose) == (frozenset({"a", "b"}), NEED.key, Purpose.HAND)
    assert (worker.state, worker.outcome, worker.endpoint) == (WorkerState.ORDERING, OrderOutcome.IN_FLIGHT, None)
    any_image = dataclasses.replace(intent(), offer=offer(any_image=True))
    assert bench.write(workers.write_intent, any_image, **bench.by).image is None  # type: ignore[union-attr]
    with pytest.raises(Exception, match=r"UNIQUE constraint failed: workers\.token"):
        bench.write(workers.write_intent, wanted, **bench.by)


def test_absences_are_counted_in_a_row(bench: Bench) -> None:
    worker = bench.boot()
    assert [bench.write(workers.absent, worker.id), bench.write(workers.absent, worker.id)] == [1, 2]
    bench.write(workers.seen, worker.id)
    assert bench.write(workers.absent, worker.id) == 1
    bench.write(workers.begin_release, worker.id, "enough", **bench.by)
    assert bench.worker(worker.id).absences == 0


def test_giving_back_is_asked_for_again_at_its_time(bench: Bench) -> None:
    worker = bench.idle()
    bench.write(workers.begin_release, worker.id, "idle", **bench.by)
    assert bench.worker(worker.id).release_next_at == T0
    bench.write(workers.release_asked, worker.id, "asked", T0 + 500, **bench.by)
    asked = bench.worker(worker.id)
    assert (asked.release_asked, asked.release_next_at, asked.why) == (1, T0 + 500, "idle")


def test_a_pinned_host_key_stays_unless_another_is_given(bench: Bench) -> None:
    worker = bench.idle()
    endpoint = worker.endpoint
    assert endpoint is not None
    assert endpoint.host_key == "ssh-ed25519 AAAA"
    bench.write(workers.set_endpoint, worker.id, dataclasses.replace(endpoint, host="h2", host_key=None))
    moved = bench.worker(worker.id).endpoint
    assert moved == dataclasses.replace(endpoint, host="h2")
    bench.write(workers.contacted, worker.id, T0 + 3)
    assert bench.worker(worker.id).contact_at == T0 + 3


def test_two_live_workers_never_share_an_order(bench: Bench) -> None:
    first, second = bench.boot(), bench.order()
    with pytest.raises(Exception, match=r"UNIQUE constraint failed: workers\.provider, workers\.order_id"):
        bench.write(workers.adopt, second.id, workers.Adoption(f"o{first.id}", T0, None), **bench.by)
    assert bench.worker(second.id).state == WorkerState.ORDERING


def test_requests_wait_until_they_are_closed(bench: Bench) -> None:
    first = bench.write(engines.ask, "scale_up", 2, user="ann", now=T0)
    bench.write(engines.ask, "stop", None, user="ann", now=T0)
    assert [(r.id, r.kind, r.amount, r.user) for r in bench.read(engines.open_requests)] == [
        (1, "scale_up", 2, "ann"), (2, "stop", None, "ann"),
    ]  # fmt: skip
    bench.write(engines.begin_epoch, 1, "screen", engines.Limits(1, 1), T0 + 1)
    assert [r.kind for r in bench.read(engines.open_requests)] == ["scale_up"], (
        "a new engine is not stopped by what was asked of the old one; the rest still waits"
    )
    bench.write(engines.close_request, first, "done", T0)
    assert bench.read(engines.open_requests) == []
    with pytest.raises(Exception, match="CHECK"):
        bench.write(engines.ask, "dance", None, user="ann", now=T0)


def test_an_installation_keeps_its_name(bench: Bench) -> None:
    name = bench.write(engines.installation)
    assert bench.write(engines.installation) == name
    assert len(name) == 12


def test_details_of_events_are_bounded(bench: Bench) -> None:
    bench.write(events.append, T0, "warning", "x" * 9_999_999)
    assert len(bench.read(queries.events_page)[0].detail) == 2000


def test_json_columns_are_json(bench: Bench) -> None:
    columns = rows.spec_columns(
        spec(command=None, argv=("a b", "ü", '"'), env={"B": "1", "A": "\n"}, params={"lr": "1e-3"})
    )
    assert json.loads(str(columns["argv"])) == ["a b", "ü", '"']
    assert json.loads(str(columns["env"])) == {"B": "1", "A": "\n"}
    assert json.loads(str(columns["params"])) == {"lr": "1e-3"}
