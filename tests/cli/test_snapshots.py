"""`checkpoints`: every verb of it, by what users see; nothing is half done, and what is repeated goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuscale_tui.cli.going_on import Outcome, outcome
from gpuscale_tui.model.jobs import GitSource
from gpuscale_tui.model.states import AttemptState, Cause, JobState
from gpuscale_tui.store import jobs, saving, snapshots
from gpuscale_tui.store.archive import SnapshotMeta
from gpuscale_tui.store.checkpoints import SnapshotStore
from gpuscale_tui.store.secrets import read_job_secrets
from tests.store.support import Bench

from .conftest import Cli

CONTENTS = ("one", "two", "three")


@pytest.fixture
def store(cli: Cli) -> SnapshotStore:
    """Where the home has its snapshots."""
    return SnapshotStore(cli.home.checkpoints)


@pytest.fixture
def ended(cli: Cli, bench: Bench, store: SnapshotStore) -> int:
    """A job that failed and has three snapshots."""
    attempt = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING)
    for number, content in enumerate(CONTENTS, 1):
        drawn = store.begin(1)
        (drawn.path / "model.pt").write_text(content)
        (drawn.path / "same.bin").write_text("always the same")
        made = store.commit(drawn, {"model.pt": 0o644, "same.bin": 0o644}, SnapshotMeta(1, 1, 1, 5))
        bench.write(snapshots.record_snapshot, 1, number, 1, 2, made.size, **bench.by)
    bench.end(attempt, Cause.USER_ERROR, JobState.FAILED)
    return attempt.job_id


def test_the_list_says_what_is_known_of_each(cli: Cli, bench: Bench, ended: int) -> None:
    """For programs: the keys of before and new ones; pinned, verified and broken in words."""
    bench.db.connection.execute(
        "UPDATE snapshots SET step = 40, loss = 9e999, epoch = 1.5, kind = 'last', stored = 7 WHERE number = 3"
    )
    row = cli.json("checkpoints", "j1")[0]
    assert list(row)[:6] == ["job_id", "snapshot", "attempt", "at", "files", "bytes"]
    assert (row["step"], row["epoch"], row["loss"], row["kind"], row["stored_bytes"]) == (40, 1.5, None, "last", 7)
    assert (row["pinned"], row["checked_at"], row["fault"], row["place"]) == (False, None, None, "dir")
    assert cli("checkpoints", "pin", "j1/3").stdout == "j1/3 is pinned\n"
    assert cli("checkpoints", "pin", "j1/3").stdout == "j1/3 was pinned before\n"
    assert cli("checkpoints", "verify", "j1/3").exit_code == 0
    lines = cli("checkpoints").stdout.splitlines()
    assert lines[0].split("\t")[:6] == ["JOB", "SNAPSHOT", "ATTEMPT", "FILES", "BYTES", "AGE"]
    assert "pinned, verified 0s ago" in lines[1] or "pinned, verified 1s ago" in lines[1]
    assert cli("checkpoints", "unpin", "j1/3").stdout == "j1/3 is not pinned any more\n"
    assert cli.json("checkpoints", "j1")[0]["pinned"] is False


def test_verify_reads_every_byte_and_remembers(cli: Cli, bench: Bench, store: SnapshotStore, ended: int) -> None:
    """Of all, of a job, of some; exit code 1 with the reason; those verified lately are left out where asked."""
    assert cli("checkpoints", "verify").exit_code == 0
    (store.root / "j1" / "2" / "files" / "model.pt").write_text("TWO")
    found = cli("checkpoints", "verify", "j1")
    assert found.exit_code == 1
    assert "j1/2  broken: 'model.pt' has changed since it was stored" in found.stdout
    assert "j1/3  whole, 2 files, 20 B" in found.stdout
    row = bench.read(snapshots.get, 1, 2)
    assert row is not None
    assert row.checked_at is not None
    assert row.fault == "'model.pt' has changed since it was stored"
    assert "nothing to verify" in cli("checkpoints", "verify", "j1", "--older", "1h").stderr
    assert cli("checkpoints", "verify", "j1/2").exit_code == 1
    assert cli("checkpoints", "verify", "j1/9").exit_code == 1
    assert cli("checkpoints", "verify", "x").exit_code == 2
    assert cli("checkpoints", "resume", "j1").stdout == "j1 waits in the queue, from snapshot 3\n"


def test_get_goes_on_where_it_was_interrupted(cli: Cli, ended: int, tmp_path: Path) -> None:
    """What is there and right stays; what is other is named and not replaced."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "same.bin").write_text("always the same")
    done = cli("checkpoints", "get", "j1/1", str(out))
    assert done.exit_code == 0
    assert "15 B of it were there already" in done.stderr
    refused = cli("checkpoints", "get", "j1/2", str(out))
    assert refused.exit_code == 4
    assert "1 other file of the same name ('model.pt')" in refused.stderr


def test_pruning_to_the_newest(cli: Cli, store: SnapshotStore, ended: int) -> None:
    """Pinned ones stay beside them; what is freed is told; a removal that was interrupted is finished."""
    assert cli("checkpoints", "prune", "j1").exit_code == 2
    assert cli("checkpoints", "prune", "j1/1", "--keep", "1").exit_code == 2
    assert cli("checkpoints", "pin", "j1/1").exit_code == 0
    done = cli("checkpoints", "prune", "j1", "--keep", "1")
    assert (done.exit_code, done.stdout) == (0, "j1/2 removed\n")
    assert "3 B freed" in done.stderr
    assert store.numbers(1) == [3, 1]
    (store.root / "j1" / "2").mkdir()
    again = cli("checkpoints", "prune", "j1/2")
    assert again.exit_code == 0
    assert "j1/2 was removed before" in again.stderr
    assert store.numbers(1) == [3, 1]
    refused = cli("checkpoints", "prune", "j1/1", "--yes")
    assert refused.exit_code == 4
    assert "it is pinned" in refused.stderr


def test_a_branch_is_like_its_job_but_for_what_is_changed(cli: Cli, bench: Bench, store: SnapshotStore) -> None:
    """Another command, keys of a job file, single variables; its secrets come along."""
    (job,) = cli.ids(
        "--env", "A=1", "--env", "B=2", "--env", "HF_TOKEN=abc", "--priority", "3", "--", "train", "--lr", "1"
    )
    drawn = store.begin(1)
    (drawn.path / "w").write_text("w")
    made = store.commit(drawn, {"w": 0o600}, SnapshotMeta(1, 1, 1, 5))
    bench.write(snapshots.record_snapshot, 1, 1, 1, 1, made.size, **bench.by)
    changes = (
        "--set",
        "name=colder",
        "--set",
        "env.A=7",
        "--set",
        "max_runtime=4h",
        "--set",
        "git=https://g.example/x",
    )
    made_id = cli("checkpoints", "branch", job, *changes, "--", "train", "--lr", "2").stdout.strip()
    new = bench.read(jobs.get, 2)
    assert new is not None
    assert made_id == "j2"
    spec = new.spec
    assert (spec.argv, spec.name, spec.priority, spec.max_runtime_sec) == (("train", "--lr", "2"), "colder", 3, 14_400)
    assert dict(spec.env) == {"A": "7", "B": "2"}
    assert spec.git == GitSource("https://g.example/x")
    assert spec.start_from is not None
    assert spec.start_from.label == "j1/1"
    assert read_job_secrets(cli.home, 2) == {"HF_TOKEN": "abc"}
    assert cli("checkpoints", "branch", "j1/1", "--set", "gpu=none", "--set", 'sweep=["s=1,2"]').stdout == "j3\nj4\n"
    for wrong in ("lr", "colour=red", "priority=11", "=1"):
        refused = cli("checkpoints", "branch", "j1/1", "--set", wrong)
        assert refused.exit_code == 2, refused.output
    assert cli("checkpoints", "branch", "j1/7").exit_code == 1
    assert cli("checkpoints", "branch", "j2").exit_code == 1
    told = cli("checkpoints", "resume", "j1/1", "--", "train")
    assert told.exit_code == 2
    assert "checkpoints branch" in told.stderr


def test_saving_now_tells_what_came_of_it(cli: Cli, bench: Bench) -> None:
    """A snapshot, nothing new, an end meanwhile; without an engine nothing is asked for."""
    attempt = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING)
    assert cli("checkpoints", "save", "j1").exit_code == 3
    with cli.engine():
        assert cli("checkpoints", "save", "j1", "--no-wait").exit_code == 0
        assert bench.read(jobs.save_asked, 1) is not None
        late = cli("checkpoints", "save", "j1", "--timeout", "1s")
        assert late.exit_code == 1
        assert "no snapshot came within 1s" in late.stdout
        assert bench.read(outcome, 1, 1, 0) is None
        bench.write(snapshots.record_snapshot, 1, 1, 1, 2, 3_000, **bench.by)
        bench.db.connection.execute("UPDATE snapshots SET kind = 'asked', took_ms = 2000, stored = 500")
        found = bench.read(outcome, 1, 1, 0)
        assert found is not None
        assert found.words == "snapshot 1: 2 files, 3.0 kB, 500 B of it new, in 2s"
        assert bench.read(outcome, 1, 1, 1) is None
        bench.write(saving.answer, attempt, "nothing new to save", **bench.by)
        assert _words(bench.read(outcome, 1, 1, 1)) == "nothing new to save"
        bench.db.connection.execute("UPDATE jobs SET save_asked_at = 1")
        bench.end(attempt, Cause.FINISHED, JobState.DONE)
        assert "it is done now" in _words(bench.read(outcome, 1, 1, 1))
        assert cli("checkpoints", "save", "j1").exit_code == 4


def _words(found: Outcome | None) -> str:
    assert found is not None
    assert found.snapshot is None
    return found.words
