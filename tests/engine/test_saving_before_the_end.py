"""Before every end a job is told, has its grace, and what it leaves is stored; only then does its machine go back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.engine import commands, expiry, rehearsal
from gpuscale_tui.engine.ending import AttemptEnd, attempt_over
from gpuscale_tui.engine.engine import Engine, utc_ms
from gpuscale_tui.model.jobs import Lost
from gpuscale_tui.model.settings import BudgetConfig, CheckpointConfig
from gpuscale_tui.model.states import AttemptState, Cause
from gpuscale_tui.store import jobs, losses, progress, snapshots, spans, workers
from gpuscale_tui.store.snapshots import About, SnapshotRow
from tests.engine.conftest import Rig, morning, until
from tests.store.support import Bench

SELDOM = CheckpointConfig(interval_sec=3600, settle_sec=0.2, grace_sec=40)
"""No look while the job runs: what is stored was stored at its end."""


def saves_on(signal: str) -> str:
    """A job that writes its last checkpoint when it is told to end, and then some more for a while."""
    return (
        f"trap 'sleep 0.3; echo final > \"$CHECKPOINT_DIR/state\"; exit 0' {signal};"
        ' echo first > "$CHECKPOINT_DIR/state"; echo step 7; while :; do sleep 0.05; done'
    )


STUBBORN = "trap '' TERM; echo first > \"$CHECKPOINT_DIR/state\"; echo 'step 9 loss 1.0'; while :; do sleep 0.05; done"


@dataclass(frozen=True)
class End:
    """One way in which an attempt ends: what brings it about, and what becomes of attempt and job."""

    name: str
    act: Callable[[Rig, Engine], object]
    cause: Cause
    state: str
    spec: dict[str, Any]
    signal: str = "TERM"
    goes_back: bool = False


def worker_of(rig: Rig) -> int:
    found = rig.job(1).worker_id
    assert found is not None
    return found


def begin_release(rig: Rig, cause: Cause | None) -> None:
    """As the services do that give machines back."""
    rig.db.write(
        workers.begin_release, worker_of(rig), "it must go", cause=cause, grace_ms=60_000, now=utc_ms(), epoch=None
    )


def ends_soon(connection: sqlite3.Connection) -> None:
    """The machine was rented for hours, of which a minute is left."""
    now = utc_ms()
    connection.execute("UPDATE workers SET held_from = ?, expires_at = ?", (now - 36_000_000, now + 60_000))


ENDS = (
    End("time-out", lambda rig, engine: None, Cause.TIMEOUT, "failed", {"max_runtime_sec": 2}, "USR1"),
    End("cancel", lambda rig, engine: rig.command(commands.cancel, [1]), Cause.CANCELLED, "cancelled", {}, "INT"),
    End(
        "release", lambda rig, engine: rig.command(commands.release, worker_of(rig)), Cause.PREEMPTED, "pending", {},
        goes_back=True,
    ),
    End(
        "stop at once", lambda rig, engine: engine.stop(at_once=True), Cause.PREEMPTED, "pending", {"grace_sec": 500},
        goes_back=True,
    ),
    End(
        "losing bid", lambda rig, engine: begin_release(rig, Cause.PREEMPTED), Cause.PREEMPTED, "pending", {},
        goes_back=True,
    ),
    End("budget", lambda rig, engine: begin_release(rig, Cause.BUDGET), Cause.BUDGET, "pending", {}, goes_back=True),
    End(
        "rental ends", lambda rig, engine: rig.db.write(ends_soon),
        Cause.PREEMPTED, "pending", {}, "HUP", goes_back=True,
    ),
    End("rehearsal", lambda rig, engine: ask_and_save(rig), Cause.PREEMPTED, "pending", {}),
)  # fmt: skip


def ask_and_save(rig: Rig) -> None:
    rig.db.write(rehearsal.ask, 1, user="tester", now=utc_ms())
    rig.command(jobs.ask_save, 1)


def rows(rig: Rig) -> list[SnapshotRow]:
    return rig.db.read(snapshots.snapshots, 1)


def stored(rig: Rig, number: int) -> str:
    return (rig.home.checkpoints / "j1" / str(number) / "files" / "state").read_text()


def begun(rig: Rig) -> bool:
    return b"step" in rig.output(1)


def event_at(rig: Rig, words: str) -> int:
    """Where in the audit log something is said first, after the command had begun."""
    return next(event.id for event in rig.events() if words in event.detail)


@pytest.mark.openssh
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
def test_the_last_state_is_stored_before_the_end(hosts: Rig, end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job's own signal, its handler runs to its end, and its last file is in a snapshot when the attempt ends."""
    monkeypatch.setattr(expiry, "LOOK_SEC", 0.2)
    hosts.settings = replace(hosts.settings, checkpoints=SELDOM)
    hosts.submit(saves_on(end.signal), stop_signal=end.signal, **end.spec)
    with hosts.engine(max_workers=1, min_workers=1) as engine:
        until(lambda: begun(hosts))
        end.act(hosts, engine)
        until(lambda: hosts.attempts(1)[0].ended_at)
    first = hosts.attempts(1)[0]
    assert first.cause == end.cause
    assert "killed" not in " ".join(event.detail for event in hosts.events())
    last = next(row for row in rows(hosts) if row.kind == "last" and row.attempt == 1)
    assert stored(hosts, last.number) == "final\n"
    assert (last.took_ms is not None, last.stored) == (True, 6)
    meta = json.loads((hosts.home.checkpoints / "j1" / str(last.number) / "meta.json").read_text())
    assert (meta["kind"], meta["attempt"]) == ("last", 1)
    ended = next(event.id for event in hosts.events() if event.kind == "attempt" and event.to_state == "ended")
    assert event_at(hosts, f"snapshot {last.number} saved") < ended
    if end.goes_back:
        asked = [event.id for event in hosts.events() if event.detail.startswith("asked ssh to take")]
        assert all(each > ended for each in asked)
    if end.name == "stop at once":
        assert any("of its 500 s to save and end" in event.detail for event in hosts.events())
    assert first.lost is None, "all of it was saved"


@pytest.mark.openssh
def test_who_ignores_the_signal_is_killed_and_what_that_cost_is_told(hosts: Rig) -> None:
    """After the grace: the reason, the loss in time, money and steps; the sums agree with the books."""
    hosts.settings = replace(hosts.settings, checkpoints=replace(SELDOM, interval_sec=1))
    hosts.submit(STUBBORN, grace_sec=1)
    with hosts.engine(max_workers=1):
        until(lambda: rows(hosts))
        hosts.command(commands.release, worker_of(hosts))
        until(lambda: hosts.attempts(1)[0].ended_at)
    first = hosts.attempts(1)[0]
    assert first.lost is not None
    assert first.lost.ms > 0
    told = [event.detail for event in hosts.events()]
    assert any("did not end when it was told to, and was killed" in each for each in told)
    assert any(each == losses.in_words(first.lost) for each in told)
    booked = hosts.db.connection.execute(
        "SELECT coalesce(sum(ended_at - started_at), 0) FROM spans WHERE kind = 'lost' AND job_id = 1"
    ).fetchone()[0]
    assert booked == first.lost.ms
    assert stored(hosts, rows(hosts)[0].number) == "first\n"


def test_a_used_up_budget_saves_the_job(market: Rig) -> None:
    """The project's money is used up: the job is saved and put back."""
    market.settings = replace(market.settings, budget=BudgetConfig(projects={"p": 0.2}), checkpoints=SELDOM)
    clock = morning()
    market.submit(saves_on("TERM"), project="p")
    with market.engine(now=clock, max_hourly_budget=10, max_workers=1):
        until(lambda: begun(market))
        clock.ahead_ms += 40 * 60_000
        until(lambda: market.attempts(1)[0].ended_at)
    assert market.attempts(1)[0].cause == "budget"
    assert stored(market, rows(market)[0].number) == "final\n"


def test_losses_agree_with_the_books_whenever_they_are_written(tmp_path: Path) -> None:
    """An hour after a snapshot of half an hour ago: the cost that is noted follows what the machine is billed."""
    bench = Bench(tmp_path / "db")
    attempt = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING)
    half = 1_800_000
    bench.now += half
    about = About(at=bench.now, step=100, of_at=bench.now - 60_000)
    bench.write(snapshots.record_snapshot, attempt.job_id, 1, attempt.number, 1, 1, about=about, **bench.by)
    bench.now += half
    end = AttemptEnd(Cause.HOST_FAULT, error="it went", step=240)
    bench.write(attempt_over, attempt, end, retries=3, **bench.by)

    def lost() -> Lost:
        found = bench.read(jobs.get_attempt, attempt.job_id, attempt.number)
        assert found is not None
        assert found.lost is not None
        return found.lost

    assert (lost().ms, lost().steps) == (half + 60_000, 140)
    for total in (3_000_000, 4_500_001):
        bench.write(spans.book, attempt.worker_id, total, bench.now, billed=True)
        booked = bench.value("SELECT sum(cost) FROM spans WHERE kind = 'lost'")
        assert lost().cost == booked > 0
    assert "lost 31 min of work, 140 steps, $0.52" in bench.value(
        "SELECT detail FROM events WHERE detail LIKE 'lost %'"
    )
    bench.db.close()


COUNTS = (
    'n=$(cat "$CHECKPOINT_DIR/n" 2>/dev/null || echo 0);'
    ' while [ ! -e "$GATE" ]; do n=$((n+1)); echo "step $n loss 0.5";'
    ' echo $n > "$CHECKPOINT_DIR/n.tmp"; mv "$CHECKPOINT_DIR/n.tmp" "$CHECKPOINT_DIR/n"; sleep 0.2; done'
)


@pytest.mark.openssh
def test_asked_for_it_comes_at_once_and_the_next_attempt_knows_where_it_began(hosts: Rig) -> None:
    """A snapshot on request, its outcome told; the step of the next attempt's begin and the first that it tells."""
    hosts.settings = replace(hosts.settings, checkpoints=SELDOM)
    hosts.submit(COUNTS)
    with hosts.engine(max_workers=1) as engine:
        until(lambda: begun(hosts))
        hosts.command(jobs.ask_save, 1)
        until(lambda: rows(hosts))
        until(lambda: any(event.detail == "a snapshot was taken, as asked" for event in hosts.events()))
        assert hosts.db.read(jobs.save_asked, 1) is None
        assert rows(hosts)[0].kind == "asked"
        until(lambda: hosts.db.read(progress.progress_of, [1]))
        hosts.command(commands.release, worker_of(hosts))
        until(lambda: hosts.job(1).attempt == 2 and b"step" in hosts.output(1, 2))
        hosts.gate.touch()
        until(lambda: hosts.job(1).state == "done")
        engine.stop(at_once=False)
        assert engine.wait(100)
    first, second = hosts.attempts(1)
    source = next(row for row in rows(hosts) if row.number == second.resumed_from)
    assert source.attempt == 1
    assert second.resumed_step == source.step
    assert source.step is not None
    told = int(hosts.output(1, 2).split()[1])
    assert second.first_step in {None, told}
    assert first.first_step == 1


@pytest.mark.openssh
def test_an_engine_that_comes_back_does_not_fetch_again_what_is_stored(hosts: Rig) -> None:
    """The machine itself says by its hashes that nothing is new; what is new is stored, the rest is taken over."""
    hosts.settings = replace(hosts.settings, checkpoints=replace(SELDOM, interval_sec=1))
    hosts.submit(
        'head -c 300000 /dev/zero > "$CHECKPOINT_DIR/big"; echo step 1;'
        ' while [ ! -e "$GATE" ]; do sleep 0.05; done; echo new > "$CHECKPOINT_DIR/more"'
    )
    with hosts.engine(max_workers=1):
        until(lambda: rows(hosts))
    with hosts.engine(max_workers=1):
        hosts.command(jobs.ask_save, 1)
        until(lambda: any(event.detail == "nothing has changed since the last snapshot" for event in hosts.events()))
        assert len(rows(hosts)) == 1
        hosts.gate.touch()
        until(lambda: hosts.job(1).state == "done")
    newest = rows(hosts)[0]
    assert (newest.number, newest.files, newest.stored, newest.kind) == (2, 2, 4, "last")
