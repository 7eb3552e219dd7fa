"""A store that has nothing of what it should have: no job begins anew because a disk was not mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuscale_tui.engine.saver import _choose
from gpuscale_tui.store import jobs
from gpuscale_tui.store.archive import Gone, SnapshotMeta
from gpuscale_tui.store.checkpoints import SnapshotStore
from tests.store.support import T0, Bench


def test_an_empty_store_is_not_taken_for_a_job_without_snapshots(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "store.db")
    [job_id] = bench.submit()
    job = bench.read(jobs.get, job_id)
    assert job is not None
    store = SnapshotStore(tmp_path / "mount")
    assert _choose(store, job, lambda *_: None) is None
    with pytest.raises(Gone, match="none of the 2 that j1 should have there; is it mounted"):
        _choose(store, job, lambda *_: None, expected=2)
    made = store.commit(store.begin(job_id), (), SnapshotMeta(job_id, 1, 1, T0))
    assert _choose(store, job, lambda *_: None, expected=2) == made
    (made.path / "manifest.json").unlink()
    told: list[int] = []
    assert _choose(store, job, lambda number, _reason: told.append(number), expected=2) is None
    assert told == [1], "what is there and broken is told, and the job begins anew"
    bench.db.close()
