"""The engine clears up what crashes left among the snapshots, a slice of the jobs at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gpuscale_tui.engine import clearer
from gpuscale_tui.engine.clearer import LOOK_SEC, NEXT_SEC, Clearer
from gpuscale_tui.engine.context import Bells, Context, Control
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.store import snapshots
from gpuscale_tui.store.aio import AsyncDatabase
from gpuscale_tui.store.archive import SnapshotMeta
from gpuscale_tui.store.checkpoints import SnapshotStore
from tests.store.support import T0, Bench


async def test_the_clearer_goes_over_all_jobs_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clearer, "AT_ONCE", 2)
    monkeypatch.setattr(clearer, "FIRST_SEC", 0.0)
    bench, store = Bench(tmp_path / "store.db"), SnapshotStore(tmp_path / "checkpoints")
    bench.submit(3)
    for job_id in (1, 2, 3):
        made = store.commit(store.begin(job_id), (), SnapshotMeta(job_id, 1, 1, T0))
        bench.write(snapshots.record_snapshot, job_id, made.number, 1, 0, 0, now=T0, epoch=None)
        bench.write(snapshots.mark_pruned, job_id, made.number, now=T0, epoch=None)
    store.commit(store.begin(3, after=1), (), SnapshotMeta(3, 1, 1, T0))
    nothing = None
    async with await AsyncDatabase.open(bench.path) as db:
        context = Context(
            home=nothing, settings=Settings(), db=db, logs=nothing, snapshots=store, providers={}, epoch=None,
            base="", public_key="", now=lambda: T0 + 3_600_000, bells=Bells(("clearer",)), control=Control(),
            connect=nothing, new_token=lambda: "",
        )  # type: ignore[arg-type]  # fmt: skip
        service = Clearer(context)
        service._next = asyncio.get_running_loop().time()
        assert await service.tick() == NEXT_SEC
        assert [store.numbers(job_id) for job_id in (1, 2, 3)] == [[], [], [2, 1]]
        service._next = asyncio.get_running_loop().time()
        assert await service.tick() == LOOK_SEC
    assert store.numbers(3) == [2]
    assert [row.number for row in bench.read(snapshots.kept)] == [2], "one that nobody had noted is noted"
    bench.db.close()
