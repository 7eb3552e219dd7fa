"""What crashes leave among snapshots: found and removed later, noted later, and nothing else touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuscale_tui.model.states import Cause, JobState
from gpuscale_tui.store import clearing, snapshots
from gpuscale_tui.store.archive import Snapshot, SnapshotMeta
from gpuscale_tui.store.checkpoints import SnapshotStore
from gpuscale_tui.store.clearing import Cleared, Doomed
from tests.store.support import T0, Bench

NOW = T0 + 10 * 60_000 + 1


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "checkpoints")


def save(store: SnapshotStore, job_id: int, attempt: int = 1, at: int = T0) -> Snapshot:
    draft = store.begin(job_id)
    (draft.path / "a").write_bytes(b"x")
    return store.commit(draft, {"a": 0o600}, SnapshotMeta(job_id, attempt, 1, at, step=5, kind="last"))


def noted(bench: Bench, store: SnapshotStore, job_id: int) -> Snapshot:
    made = save(store, job_id)
    bench.write(snapshots.record_snapshot, job_id, made.number, 1, 1, made.size, now=T0, epoch=None)
    return made


def clear(bench: Bench, store: SnapshotStore, now: int = NOW) -> Cleared:
    """What the engine does now and then."""
    found = clearing.look(store, store.jobs())
    cleared = clearing.clear(store, found, bench.read(clearing.decide, found), now=now)
    bench.write(clearing.note_unknown, cleared.unknown, epoch=None)
    return cleared


def test_a_removal_that_a_crash_cut_short_is_carried_out(bench: Bench, store: SnapshotStore) -> None:
    attempt = bench.placed()
    for _ in range(3):
        noted(bench, store, 1)
    for number in (1, 2):
        bench.write(snapshots.mark_pruned, 1, number, now=T0, epoch=None)
    assert clear(bench, store).snapshots == 0, "its job is being set up, perhaps from one of them"
    bench.end(attempt, Cause.HOST_FAULT, JobState.PENDING)
    assert clear(bench, store).snapshots == 2
    assert store.numbers(1) == [3]
    assert clear(bench, store) == Cleared(0, 0, ())


def test_what_the_dead_left_goes_and_what_lives_stays(bench: Bench, store: SnapshotStore) -> None:
    attempt = bench.placed()
    living, left = store.begin(1), store.begin(1)
    left.hold.let_go()
    os.mkdir(store.root / "j1" / ".gone-7-ab")  # noqa: PTH102
    store.parts(1, 1)
    assert clear(bench, store).rubbish == 2
    assert living.shell.is_dir()
    assert store.attempts_with_parts(1) == [1]
    bench.end(attempt, Cause.HOST_FAULT, JobState.PENDING)
    assert clear(bench, store).rubbish == 1, "nobody goes on with partial files of an attempt that has ended"
    store.discard(living)
    assert list((store.root / "j1").iterdir()) == []


def test_a_snapshot_that_was_never_noted_is_noted(bench: Bench, store: SnapshotStore) -> None:
    bench.placed()
    noted(bench, store, 1)
    save(store, 1)
    assert clear(bench, store, T0 + 60_000).unknown == (), "it may be on its way"
    assert [each.number for each in clear(bench, store).unknown] == [2]
    row = bench.read(snapshots.get, 1, 2)
    assert row is not None
    assert (row.attempt, row.at, row.files, row.bytes, row.step, row.kind) == (1, T0, 1, 1, 5, "last")
    assert clear(bench, store).unknown == ()


def test_nothing_of_another_home_is_touched(bench: Bench, store: SnapshotStore) -> None:
    """Two homes that share a directory by mistake: what one does not know is not its own."""
    bench.submit()
    save(store, 99)
    (store.root / "j99" / ".parts-4").mkdir()
    (store.root / "readme").write_text("mine")
    (store.root / "jx").mkdir()
    assert store.jobs() == [99]
    found = clearing.look(store, [1, 99])
    assert bench.read(clearing.decide, found) == Doomed()
    assert clear(bench, store) == Cleared(0, 0, ())
    assert store.numbers(99) == [1]
