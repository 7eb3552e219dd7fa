"""How often saving is worth its while: by what saves took and by the machines that were lost under jobs."""

from __future__ import annotations

from pathlib import Path

from gpuscale_tui.engine.meter import FRESH_MS, Meter
from gpuscale_tui.model.states import AttemptState
from gpuscale_tui.policy.saving import Evictions, suggested_interval_ms
from gpuscale_tui.store import snapshots
from gpuscale_tui.store.unsaved import unsaved
from tests.store.support import Bench


def test_the_advice_follows_what_saves_take(tmp_path: Path) -> None:
    """None before a save was measured; then by the rule; what was seen of machines is looked up once in a while."""
    bench = Bench(tmp_path / "gpuscale.db")
    attempt = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING)
    job_id = attempt.job_id
    meter = Meter()
    found = bench.read(unsaved, bench.now)
    assert bench.read(meter.advice, found.values(), bench.now) == {}
    bench.now += 60_000
    bench.write(snapshots.record_snapshot, job_id, 1, 1, 1, 5, **bench.by)
    bench.db.connection.execute("UPDATE snapshots SET took_ms = 4000")
    bench.now += 60_000
    found = bench.read(unsaved, bench.now)
    (told,) = bench.read(meter.advice, found.values(), bench.now).values()
    assert told.save_ms == 4000
    seen = meter._seen[job_id][1]
    assert told.interval_ms == suggested_interval_ms(4000, seen.between_ms)
    assert told.basis == seen.words
    meter._seen[job_id] = (bench.now, Evictions(3_600_000, 40))
    (often,) = bench.read(meter.advice, found.values(), bench.now + FRESH_MS - 1).values()
    assert often.interval_ms < told.interval_ms
    (anew,) = bench.read(meter.advice, found.values(), bench.now + FRESH_MS).values()
    assert anew.interval_ms > often.interval_ms
    bench.db.close()
