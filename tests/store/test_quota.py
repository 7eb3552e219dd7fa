"""Room for snapshots: what goes, in which order, and what is refused."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.model.settings import CheckpointConfig
from gpuscale_tui.store import quota, snapshots
from gpuscale_tui.store.checkpoints import SnapshotMeta, SnapshotStore
from gpuscale_tui.store.quota import Held, plan
from tests.store.support import T0, Bench


def held(job_id: int, number: int, contents: dict[str, int], **more: object) -> Held:
    return Held(job_id, number, number, contents, **more)  # type: ignore[arg-type]


def test_settings_name_the_quota() -> None:
    settings = CheckpointConfig(quota_mb=5, quotas={"vision": 1.5, "free": 0})
    assert [quota.quota_of(settings, name) for name in ("", "vision", "free")] == [5_000_000, 1_500_000, 0]


def test_superfluous_ones_go_first_then_the_oldest() -> None:
    all_ = [
        held(1, 1, {"a": 10}), held(1, 2, {"b": 10}), held(1, 3, {"c": 10}, last=True),
        held(2, 4, {"d": 10}, surplus=True), held(2, 5, {"e": 10}, last=True),
    ]  # fmt: skip
    assert plan(all_, 1, 10, 60).before == ()
    assert plan(all_, 1, 10, 50).before == ((2, 4),)
    assert plan(all_, 1, 10, 40).before == ((2, 4), (1, 1))
    room = plan(all_, 1, 10, 20)
    assert (room.used, room.before, room.after) == (50, ((2, 4), (1, 1), (1, 2)), ((1, 3),))
    refused = plan(all_, 1, 10, 19)
    assert (refused.before, refused.after) == ((), ()), "nothing goes in vain"
    assert "would still be 0.0 MB" in refused.refused
    assert "jobs without a project" in refused.refused


def test_what_is_shared_frees_nothing_until_all_who_share_it_go() -> None:
    all_ = [
        held(1, 1, {"big": 50}), held(1, 2, {"big": 50, "x": 1}), held(1, 3, {"y": 20}), held(1, 4, {"z": 1}, last=True)
    ]  # fmt: skip
    assert plan(all_, 1, 0, 25).before == ((1, 1), (1, 2))
    room = plan([*all_[:3], held(1, 4, {"big": 50}, last=True)], 2, 5, 60)
    assert room.before == ((1, 3),), "one whose bytes stay anyway is left alone"


def test_pinned_and_needed_ones_stay() -> None:
    all_ = [held(1, 1, {"a": 10}, stays="pinned"), held(1, 2, {"b": 10}, last=True)]
    assert plan(all_, 1, 10, 20, "vision").after == ((1, 2),)
    assert "project vision" in plan(all_, 1, 11, 20, "vision").refused
    assert plan(all_, 3, 10, 29).refused, "another job's last one stays"


CONTENTS = st.dictionaries(st.sampled_from("abcdef"), st.just(7), min_size=1)


@given(
    st.lists(st.tuples(st.integers(1, 3), CONTENTS, st.booleans(), st.booleans()), max_size=12),
    st.integers(0, 60), st.integers(1, 120),
)  # fmt: skip
def test_the_quota_holds_or_it_is_refused(
    made: list[tuple[int, dict[str, int], bool, bool]], wanted: int, limit: int
) -> None:
    newest = {job_id: number for number, (job_id, *_) in enumerate(made)}
    all_ = [
        held(job_id, number, contents, stays="pinned" if pinned else "", last=newest[job_id] == number, surplus=surplus)
        for number, (job_id, contents, pinned, surplus) in enumerate(made)
    ]
    room = plan(all_, 1, wanted, limit)
    gone = {*room.before, *room.after}
    kept = [each for each in all_ if (each.job_id, each.number) not in gone]
    size = sum({(each.job_id, name): 7 for each in kept for name in each.contents}.values())
    if room.refused:
        assert not gone
        assert size + wanted > limit
    else:
        assert size + wanted <= limit
        assert all(each in kept for each in all_ if each.stays or (each.last and each.job_id != 1))
        assert all(number == newest[1] for _, number in room.after)
        if size + wanted + 7 * 6 * len(gone) <= limit:
            assert not gone


def test_room_is_made_by_what_is_on_disk(bench: Bench, tmp_path: Path) -> None:
    """Jobs of a project, their snapshots and pins as the database has them, their bytes as the directory has them."""
    store = SnapshotStore(tmp_path / "store")
    jobs = [bench.submit(project=project)[0] for project in ("vision", "vision", "other")]
    for job_id in jobs:
        for number in (1, 2):
            draft = store.begin(job_id)
            (draft.path / "a").write_bytes(bytes([job_id, number]) * 500_000)
            (draft.path / "same").write_bytes(b"same" * 1000)
            made = store.commit(draft, {"a": 0o600, "same": 0o600}, SnapshotMeta(job_id, 1, 1, T0 + number))
            bench.write(snapshots.record_snapshot, job_id, number, 1, 2, made.size, now=T0 + number, epoch=None)
    bench.write(snapshots.pin, jobs[0], 1, now=T0, by="ana")
    claimed = bench.read(quota.claim, jobs[1])
    assert (claimed.project, claimed.job_ids) == ("vision", tuple(jobs[:2]))
    assert claimed.staying == {(jobs[0], 1): "pinned"}
    room = quota.make_room(store, claimed, jobs[1], 1_000_000, 4_100_000, keep=3)
    assert (room.used, room.before, room.after, room.refused) == (4_008_000, ((jobs[1], 1),), (), "")
    room = quota.make_room(store, claimed, jobs[0], 1_000_000, 4_100_000, keep=3)
    assert room.before == ((jobs[1], 1),)
    (store.find(jobs[1], 2).files_path / "a").write_bytes(b"rotten")
    room = quota.make_room(store, claimed, jobs[0], 1_000_000, 4_100_000, keep=3)
    assert room.before == ((jobs[1], 2),), "the last whole one of a job stays, and it is not the newest"
    (store.find(jobs[1], 1).files_path / "a").write_bytes(b"rotten")
    room = quota.make_room(store, claimed, jobs[0], 1_000_000, 4_100_000, keep=3)
    assert (room.before, room.after) == ((), ((jobs[0], 2),)), "where none is whole, none is thrown away"
    (store.find(jobs[1], 1).files_path / "a").write_bytes(b"r" * 1_000_000)
    (store.find(jobs[1], 2).files_path / "a").write_bytes(b"r" * 1_000_000)
    used = store.usage(jobs)
    assert used.keys() == set(jobs)
    assert all(2_004_000 < size < 2_010_000 for size in used.values()), "what two names share counts once"
