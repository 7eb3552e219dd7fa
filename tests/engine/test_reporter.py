"""What jobs print and machines do becomes series and progress: over real SSH, across kill -9, beside the output."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest

from gpuscale_tui.engine.outputs import WARM_BYTES, OutputReader, Piece, windows
from gpuscale_tui.store import logs, progress, series, snapshots
from tests.engine.conftest import PATIENCE_SEC, WAIT, Rig, until
from tests.engine.test_hosts import autopilot

STEPS = 60


def points(rig: Rig, job_id: int, name: str = "loss") -> list[series.Point]:
    """A metric as it is stored now."""
    return ask(rig, series.metric, job_id, name)


def ask(rig: Rig, query: Any, *args: Any) -> Any:
    """A query of the log file."""
    connection = logs.connect_logs(rig.home.logs, readonly=True)
    try:
        return query(connection, *args)
    finally:
        connection.close()


@pytest.mark.openssh
def test_after_kill_9_no_point_is_missing_and_none_is_there_twice(hosts: Rig) -> None:
    """The engine dies while the job prints; the next one reads on from the byte up to which points are stored."""
    script = (
        f'i=0; while [ $i -lt {STEPS} ]; do i=$((i+1)); echo "step $i/{STEPS} loss 0.$((1000+i))"; sleep 0.05; done'
    )
    ids = hosts.submit(script + f"; {WAIT} true", 2)
    with autopilot(hosts) as engine:
        until(lambda: hosts.home.logs.exists() and all(points(hosts, job_id) for job_id in ids))
        engine.send_signal(signal.SIGKILL)
        engine.wait(PATIENCE_SEC)
    hosts.gate.touch()
    with autopilot(hosts, "--exit-when-idle") as engine:
        assert engine.wait(PATIENCE_SEC) == 0
    for job_id in ids:
        found = points(hosts, job_id)
        assert [point.step for point in found] == list(range(1, STEPS + 1))
        assert [point.value for point in found] == [float(f"0.{1000 + step}") for step in range(1, STEPS + 1)]
        assert [point.at for point in found] == sorted(point.at for point in found)
    known = hosts.db.read(progress.progress_of, ids)
    assert [(each.step, each.steps, each.fraction, each.eta_ms) for each in known.values()] == [
        (STEPS, STEPS, 1.0, 0)
    ] * 2


def test_a_machine_says_what_it_does_and_a_snapshot_knows_its_step(market: Rig) -> None:
    """GPU, memory and disk of a rented machine while its job computes; the step at which a checkpoint was taken."""
    market.settings = replace(market.settings, machines=replace(market.settings.machines, usage_interval_sec=1.0))
    script = (
        'echo "iter 7: loss 2.5000, time 3.20ms, mfu 1.00%";'
        ' until [ -e "$GATE" ]; do i=$((${i:-0}+1)); done; echo weights > $CHECKPOINT_DIR/model;'
    )
    [job_id] = market.submit(script)
    with market.engine():
        until(lambda: points(market, job_id))
        worker_id = until(lambda: [row.id for row in market.workers()])[0]
        now = 1 << 60
        use = until(
            lambda: next(
                (use for use in ask(market, series.usage, worker_id, 0, now) if (use.gpu_percent or 0) > 50), None
            )
        )
        assert use.gpu_mem_total_mb > 10_000
        assert 0 < use.mem_mb <= use.mem_total_mb
        assert use.disk_free_mb > 0
        market.gate.touch()
        until(lambda: market.job(job_id).state == "done")
    assert [point.step for point in points(market, job_id)] == [7]
    assert [row.step for row in market.db.read(snapshots.snapshots, job_id)] == [7]


def read_all(text: bytes, cuts: list[int]) -> tuple[list[float], int]:
    """The losses that a reader finds when it is given the output in such parts, and where it stands."""
    reader, found = OutputReader(1, 1, 0, 0), []
    for end in [*cuts, len(text)]:
        start = reader.position
        parsed = reader.read([Piece(start, text[start:end], whole=True)], end, 1000, final=end == len(text))
        found += [point.value for point in parsed.points.get("loss", ())]
    return found, reader.position


def test_lines_are_read_once_however_they_arrive() -> None:
    """Parts end anywhere, also inside a line, a number, or between the ends of a bar."""
    text = b"".join(b"step %d loss 1.%03d\n\r\n" % (step, step) for step in range(40)) + b"step 41 loss 1.041"
    whole = read_all(text, [])
    assert len(whole[0]) == 41
    assert all(read_all(text, [cut, cut + 5]) == whole for cut in range(0, 200, 3))


def test_floods_are_sampled_to_their_end() -> None:
    """However much there is, a bounded part is read, and the newest always."""
    assert windows(5, 70_000) == [(5, 70_000)]
    flood = windows(0, 10**9)
    assert sum(end - begin for begin, end in flood) < 300_000
    assert (flood[0][0], flood[-1][1]) == (0, 10**9)


def test_a_line_without_end_keeps_nobody() -> None:
    """A megabyte without a line end is passed over, and what follows is read."""
    reader = OutputReader(1, 1, 0, 0)
    reader.read([Piece(0, b"x" * 100_000, whole=True)], 100_000, 10, final=False)
    assert reader.position == 100_000
    parsed = reader.read([Piece(100_000, b"y\nstep 3 loss 2.0\n", whole=True)], 100_018, 20, final=False)
    assert [point.value for point in parsed.points["loss"]] == [2.0]


def test_a_reader_that_begins_late_knows_which_epoch_it_is() -> None:
    """What stands before is read again for its epoch, not for its points."""
    reader = OutputReader(1, 1, WARM_BYTES, 0)
    reader.warm_up(b"poch 2/10\nEpoch 3/10\n1/100 [>....] - ETA: 3s - loss: 9.0\n", whole=False)
    line = b"50/100 [==>..] - ETA: 3s - loss: 0.5\n"
    parsed = reader.read([Piece(WARM_BYTES, line, whole=True)], WARM_BYTES + len(line), 10, final=False)
    known = reader.progress()
    assert parsed.points["loss"] == [series.Point(10, 250, 0.5)]
    assert known is not None
    assert (known.epoch, known.epochs, known.fraction) == (3.0, 10, 0.25)
