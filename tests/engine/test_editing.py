"""A waiting job is changed in place; a job begins with, or goes on from, a snapshot that its user chose."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.engine import checkpoints, commands
from gpuscale_tui.engine.checkpoints import DownloadError, Stopped
from gpuscale_tui.engine.copying import PART, Standing
from gpuscale_tui.engine.saver import _choose
from gpuscale_tui.model.errors import FieldError, NotFound, Refused
from gpuscale_tui.model.jobs import Job, StartFrom
from gpuscale_tui.model.states import AttemptState, Cause, JobState
from gpuscale_tui.store import jobs, queries, snapshots
from gpuscale_tui.store.archive import Begun, FileEntry, Snapshot, SnapshotError, SnapshotMeta
from gpuscale_tui.store.checkpoints import SnapshotStore
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.secrets import read_job_secrets
from tests.store.support import T0, Bench, spec


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home of its own."""
    made = Home(tmp_path / "home")
    made.ensure()
    return made


@pytest.fixture
def bench(home: Home) -> Bench:
    """The home's store."""
    return Bench(home.database)


@pytest.fixture
def store(home: Home) -> SnapshotStore:
    """The home's snapshots."""
    return SnapshotStore(home.checkpoints)


def job_of(bench: Bench, job_id: int) -> Job:
    """A job as it stands."""
    job = bench.read(jobs.get, job_id)
    assert job is not None
    return job


def save(bench: Bench, store: SnapshotStore, job_id: int, attempt: int, content: str) -> Snapshot:
    """One snapshot of two files, on disk and in the store."""
    draft = store.begin(job_id)
    for name in ("model.pt", "state/rng.bin"):
        (draft.path / name).parent.mkdir(exist_ok=True)
        (draft.path / name).write_text(content + name)
    made = store.commit(draft, {"model.pt": 0o640, "state/rng.bin": 0o600}, SnapshotMeta(job_id, attempt, 1, T0))
    bench.write(snapshots.record_snapshot, job_id, made.number, attempt, 2, made.size, **bench.by)
    return made


def test_a_waiting_job_is_edited_in_place(bench: Bench, home: Home) -> None:
    """All that was asked for changes, group and all; its user, sweep and secrets stay; the event names the fields."""
    sweep = {"GPUSCALE_PARAM_LR": "1"}
    first = spec(
        user="ada", env={"A": "1", **sweep}, params={"lr": "1"}, secret_env={"HF_TOKEN": "s3cret", "X_KEY": "x"}
    )
    (job_id,) = bench.write(commands.submit, home, [first], now=T0)
    wanted = spec(user="eve", command="python b.py", gpu_type="A100", priority=2, env={"B": "2"},
                  secret_env={"HF_TOKEN": "", "NEW_KEY": "new"})  # fmt: skip
    before = bench.write(commands.edit, home, job_id, 0, wanted, user="ada", now=T0)
    after = job_of(bench, job_id)
    assert (after.spec.command, after.spec.gpu_type, after.spec.priority) == ("python b.py", "A100", 2)
    assert (after.spec.user, after.spec.params, after.spec.env) == ("ada", {"lr": "1"}, {"B": "2", **sweep})
    assert bench.value("SELECT group_key FROM jobs WHERE id = ?", job_id) == after.spec.need.key
    assert read_job_secrets(home, job_id) == {"HF_TOKEN": "s3cret", "NEW_KEY": "new"}
    newest = bench.read(queries.job_events, job_id)[-1].detail
    assert newest == "edited by ada: command, gpu_type, priority, env, secrets"
    assert "s3cret" not in home.database.read_bytes().decode("latin1")
    bench.write(commands.edit, home, job_id, 0, before, user="ada", now=T0)
    undone = job_of(bench, job_id).spec
    assert (undone.command, undone.gpu_type, undone.priority) == (first.command, "RTX 4090", 5)
    assert dict(undone.env) == dict(first.env)


def test_only_a_job_that_still_waits_is_edited(bench: Bench, home: Home) -> None:
    """Running, done, run since it was looked at, unknown: refused, and nothing has changed."""
    running = bench.placed().job_id
    with pytest.raises(Refused, match="is running now"):
        bench.write(commands.edit, home, running, 1, spec(), user="ada", now=T0)
    with pytest.raises(NotFound):
        bench.write(commands.edit, home, 99, 0, spec(), user="ada", now=T0)
    attempt = bench.placed()
    bench.end(attempt, Cause.PREEMPTED, JobState.PENDING)
    with pytest.raises(Refused, match="has run in the meantime"):
        bench.write(commands.edit, home, attempt.job_id, 0, spec(command="other"), user="ada", now=T0)
    assert job_of(bench, attempt.job_id).spec.command == "python train.py"
    bench.db.connection.execute("UPDATE jobs SET cost = 5 WHERE id = ?", (attempt.job_id,))
    with pytest.raises(FieldError, match="project"):
        bench.write(commands.edit, home, attempt.job_id, 1, spec(project="other"), user="ada", now=T0)


def test_a_branch_begins_with_anothers_snapshot_until_it_has_its_own(
    bench: Bench, home: Home, store: SnapshotStore
) -> None:
    """And that snapshot is not pruned while the branch needs it."""
    source = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING)
    start = StartFrom(source.job_id, save(bench, store, source.job_id, 1, "one").number)
    (branch,) = bench.write(commands.submit, home, [spec(start_from=start, name="branch")], now=T0)
    assert _choose(store, job_of(bench, branch), lambda *_: None) == store.find(source.job_id, 1)
    assert not bench.write(snapshots.mark_pruned, source.job_id, 1, **bench.by)
    assert bench.read(snapshots.holder, source.job_id, 1) == branch
    own = save(bench, store, branch, 1, "own")
    assert _choose(store, job_of(bench, branch), lambda *_: None) == own
    assert bench.write(snapshots.mark_pruned, source.job_id, 1, **bench.by)
    with pytest.raises(Refused, match="was removed"):
        bench.write(commands.submit, home, [spec(start_from=start)], now=T0)
    with pytest.raises(NotFound):
        bench.write(commands.submit, home, [spec(start_from=StartFrom(source.job_id, 7))], now=T0)
    assert bench.value("SELECT count(*) FROM jobs") == branch


def test_a_broken_start_is_said_and_never_replaced_by_nothing(bench: Bench, home: Home, store: SnapshotStore) -> None:
    """A branch would begin anew, at full price, without its user knowing."""
    made = save(bench, store, bench.placed().job_id, 1, "one")
    (branch,) = bench.write(commands.submit, home, [spec(start_from=StartFrom(made.meta.job_id, 1))], now=T0)
    (made.files_path / "model.pt").write_text("XXX")
    with pytest.raises(SnapshotError, match=r"model\.pt"):
        _choose(store, job_of(bench, branch), lambda *_: None)


def test_a_job_goes_on_from_an_older_snapshot_of_its_own(bench: Bench, home: Home, store: SnapshotStore) -> None:
    """Newer ones are left aside until it has made another; a running one is refused."""
    attempt = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING)
    job_id = attempt.job_id
    for content in ("one", "two", "three"):
        save(bench, store, job_id, 1, content)
    with pytest.raises(Refused, match="runs: cancel it first"):
        bench.write(checkpoints.resume, StartFrom(job_id, 1), user="ada", now=T0)
    bench.end(attempt, Cause.USER_ERROR, JobState.FAILED)
    bench.write(checkpoints.resume, StartFrom(job_id, 1), user="ada", now=T0)
    job = job_of(bench, job_id)
    assert job.state == JobState.PENDING
    assert _choose(store, job, lambda *_: None) == store.find(job_id, 1)
    assert bench.read(snapshots.holder, job_id, 1) == job_id
    newer = save(bench, store, job_id, 2, "four")
    assert _choose(store, job, lambda *_: None) == newer
    with pytest.raises(NotFound):
        bench.write(checkpoints.resume, StartFrom(job_id, 99), user="ada", now=T0)


def test_pruning_by_hand_leaves_a_whole_one_and_what_jobs_need(bench: Bench, home: Home, store: SnapshotStore) -> None:
    """The last valid one stays whatever is asked; one that is being set up from, too."""
    attempt = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING)
    job_id = attempt.job_id
    made = [save(bench, store, job_id, 1, content) for content in ("one", "two", "three")]
    every = [StartFrom(job_id, snapshot.number) for snapshot in made]
    (made[2].files_path / "model.pt").write_text("broken")
    judged = checkpoints.removable(store, every)
    assert [each.snapshot for each in judged.going] == [1, 3]
    assert judged.staying[0][0].snapshot == 2
    (branch,) = bench.write(commands.submit, home, [spec(start_from=every[0])], now=T0)
    claimed = bench.write(checkpoints.claim_removal, judged.going, user="ada", now=T0)
    assert [each.snapshot for each in claimed.going] == [3]
    assert "starts from it" in claimed.staying[0][1]
    checkpoints.remove(store, claimed.going)
    checkpoints.remove(store, claimed.going)
    assert store.numbers(job_id) == [2, 1]
    assert [row.number for row in bench.read(snapshots.kept, job_id)] == [2, 1]
    assert bench.read(queries.job_events, job_id)[-1].detail == "snapshot 3 removed, by ada"
    placed = bench.place(branch, bench.idle().id)
    save(bench, store, branch, 0, "old")
    assert "being set up" in bench.read(checkpoints.refuse_removal, StartFrom(placed.job_id, 1))
    with pytest.raises(Refused, match="is not there"):
        checkpoints.removable(SnapshotStore(home.path / "nowhere"), every)


def test_what_is_wrong_on_disk_is_said(bench: Bench, store: SnapshotStore) -> None:
    """Missing, cut short, changed: each in words."""
    job_id = bench.placed().job_id
    made = save(bench, store, job_id, 1, "one")
    which = StartFrom(job_id, 1)
    assert checkpoints.broken(store, which, hashes=True) == ""
    (made.files_path / "model.pt").write_text("XYZmodel.pt")
    assert checkpoints.broken(store, which) == ""
    assert "has changed" in checkpoints.broken(store, which, hashes=True)
    (made.files_path / "model.pt").write_text("")
    assert "0 bytes" in checkpoints.broken(store, which)
    (made.files_path / "model.pt").unlink()
    assert "is missing" in checkpoints.broken(store, which)
    (made.path / "manifest.json").unlink()
    assert "manifest" in checkpoints.broken(store, which)
    assert checkpoints.broken(store, replace(which, snapshot=9)) == "not on disk"


def test_a_download_is_byte_exact_and_replaces_nothing_unasked(
    bench: Bench, store: SnapshotStore, tmp_path: Path
) -> None:
    """Progress reaches the end; what is in the way is named first, and stays."""
    made = save(bench, store, bench.placed().job_id, 1, "one")
    target, told = tmp_path / "out", list[tuple[int, int]]()
    assert checkpoints.look(made, target) == Standing()
    done = checkpoints.download(store, made, target, progress=lambda *so_far: told.append(so_far))
    assert (done.bytes, done.there) == (made.size, 0)
    assert told[-1] == (made.size, made.size)
    assert (target / "state/rng.bin").read_bytes() == (made.files_path / "state/rng.bin").read_bytes()
    assert (target / "model.pt").stat().st_mode & 0o777 == 0o640
    assert checkpoints.look(made, target).right == {"model.pt", "state/rng.bin"}
    assert checkpoints.download(store, made, target).bytes == 0
    (target / "model.pt").write_text("mine")
    assert checkpoints.look(made, target).taken == ("model.pt",)
    with pytest.raises(DownloadError, match="is there already"):
        checkpoints.download(store, made, target)
    assert (target / "model.pt").read_text() == "mine"
    done = checkpoints.download(store, made, target, overwrite=True)
    assert (done.bytes, done.there) == (made.files[0].size, made.size - made.files[0].size)
    assert (target / "model.pt").read_bytes() == (made.files_path / "model.pt").read_bytes()


def test_a_download_that_goes_wrong_leaves_nothing_half_done(
    bench: Bench, store: SnapshotStore, tmp_path: Path
) -> None:
    """Changed on disk, stopped, led away by a link."""
    made = save(bench, store, bench.placed().job_id, 1, "one")
    target = tmp_path / "out"
    with pytest.raises(Stopped):
        checkpoints.download(store, made, target, stopped=lambda: True)
    assert list(target.iterdir()) == []
    (made.files_path / "model.pt").write_text("XYZmodel.pt")
    with pytest.raises(DownloadError, match="has changed since it was stored"):
        checkpoints.download(store, made, target)
    assert list(target.iterdir()) == []
    (tmp_path / "elsewhere").mkdir()
    (target / "state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DownloadError, match="is a link"):
        checkpoints.look(made, target)
    with pytest.raises(DownloadError, match="File exists"):
        checkpoints.download(store, made, made.path / "manifest.json")


def test_a_copy_that_was_stopped_goes_on(
    bench: Bench, store: SnapshotStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was finished is not copied again, a file that was cut short goes on, a wrong beginning is done again."""
    job_id, target = bench.placed().job_id, tmp_path / "out"
    draft = store.begin(job_id)
    (draft.path / "a").write_bytes(b"small")
    (draft.path / "large").write_bytes(bytes(range(256)) * 12_288)
    made = store.commit(draft, {"a": 0o644, "large": 0o644}, SnapshotMeta(job_id, 1, 1, 1))
    begun: list[int] = []

    def read(snapshot: Snapshot, entry: FileEntry, before: Begun | None = None) -> Iterator[bytes]:
        begun.append(before.size if before else 0)
        return SnapshotStore.read(store, snapshot, entry, before)

    monkeypatch.setattr(store, "read", read)
    for wrong in (False, True):
        shutil.rmtree(target, ignore_errors=True)
        asked = iter((False, False, False, True))
        with pytest.raises(Stopped):
            checkpoints.download(store, made, target, stopped=lambda asked=asked: next(asked))
        (part,) = (path for path in target.iterdir() if path.name.endswith(PART))
        assert sorted(path.name for path in target.iterdir()) == [part.name, "a"]
        assert part.stat().st_size == 2 << 20
        if wrong:
            part.write_bytes(b"x" * (2 << 20))
        begun.clear()
        told: list[tuple[int, int]] = []
        done = checkpoints.download(store, made, target, progress=lambda *so_far, told=told: told.append(so_far))
        assert begun == ([2 << 20, 0] if wrong else [2 << 20])
        assert (done.there, told[-1]) == (5, (made.size, made.size))
        assert sorted(path.name for path in target.iterdir()) == ["a", "large"]
        assert (target / "large").read_bytes() == (made.files_path / "large").read_bytes()
        assert store.newest_valid(job_id) == made, "what was wrong was the copy, and nothing is held against the store"


def test_what_prune_frees_is_told_by_contents(bench: Bench, store: SnapshotStore) -> None:
    """What another snapshot shares stays; pinned ones stay whatever is asked."""
    job_id = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING).job_id
    made = [save(bench, store, job_id, 1, content) for content in ("one", "one", "two")]
    every = [StartFrom(job_id, snapshot.number) for snapshot in made]
    assert checkpoints.frees(store, every[:1]) == 0
    assert checkpoints.frees(store, every[:2]) == made[0].size
    assert bench.write(checkpoints.pin, every[:1], user="ada", now=T0) == every[:1]
    assert bench.write(checkpoints.pin, every[:1], user="ada", now=T0) == []
    claimed = bench.write(checkpoints.claim_removal, every[:2], user="ada", now=T0)
    assert claimed.going == (every[1],)
    assert "pinned" in claimed.staying[0][1]
    assert bench.write(checkpoints.unpin, every[:1], user="ada", now=T0) == every[:1]
    assert bench.write(checkpoints.claim_removal, every[:1], user="ada", now=T0).going == (every[0],)
    with pytest.raises(Refused, match="was removed"):
        bench.write(checkpoints.pin, every[:1], user="ada", now=T0)


def test_what_was_compared_lately_is_not_read_again(bench: Bench, store: SnapshotStore) -> None:
    """A check of every byte is remembered with what is wrong, and for a day its sizes are enough."""
    job_id = bench.placed().job_id
    made = [save(bench, store, job_id, 1, content) for content in ("one", "two")]
    every = [StartFrom(job_id, snapshot.number) for snapshot in made]
    bench.write(checkpoints.note_check, every[1], "", now=T0)
    checked = bench.read(checkpoints.checked_lately, [job_id], T0 + 1)
    assert checked == {every[1]}
    assert bench.read(checkpoints.checked_lately, [job_id], T0 + 2 * checkpoints.CHECK_LASTS_MS) == frozenset()
    (made[1].files_path / "model.pt").write_text("owTmodel.pt"[: made[1].files[0].size])
    assert checkpoints.removable(store, every[:1], checked=checked).going == (every[0],)
    assert checkpoints.removable(store, every[:1]).going == ()
    bench.write(checkpoints.note_check, every[1], "'model.pt' has changed", now=T0)
    row = bench.read(snapshots.get, job_id, 2)
    assert row is not None
    assert (row.checked_at, row.fault) == (T0, "'model.pt' has changed")
    assert bench.read(checkpoints.newest_kept, job_id).number == 1


def test_a_snapshot_is_asked_for_while_the_command_runs(bench: Bench) -> None:
    """Once; a job that waits or is being set up is refused."""
    attempt = bench.placed()
    with pytest.raises(Refused, match="only a job whose command runs"):
        bench.write(checkpoints.ask_to_save, attempt.job_id, user="ada", now=T0)
    bench.advance(attempt, AttemptState.STAGING, AttemptState.RUNNING)
    assert bench.write(checkpoints.ask_to_save, attempt.job_id, user="ada", now=T0) == 1
    bench.write(checkpoints.ask_to_save, attempt.job_id, user="ada", now=T0 + 5)
    assert bench.read(jobs.save_asked, attempt.job_id) == T0
    with pytest.raises(NotFound):
        bench.write(checkpoints.ask_to_save, 99, user="ada", now=T0)


def test_links_and_empty_directories_come_out_too(bench: Bench, store: SnapshotStore, tmp_path: Path) -> None:
    """As they were: nothing is written through a link, whatever its name sorts before; a copy that is repeated copies
    nothing."""
    draft = store.begin(1)
    (draft.path / "step_2").mkdir()
    (draft.path / "step_2" / "w.pt").write_bytes(b"weights")
    tree = [
        FileEntry("latest", 0, 0o777, "", "link", "step_2"), FileEntry("empty", 0, 0o750, "", "directory"),
        FileEntry("step_2/w.pt", 7, 0o600, hashlib.sha256(b"weights").hexdigest()),
    ]  # fmt: skip
    made = store.commit(draft, tree, SnapshotMeta(1, 1, 1, T0))
    target = tmp_path / "out"
    checkpoints.download(store, made, target)
    assert (target / "latest" / "w.pt").read_bytes() == b"weights"
    assert (target / "latest").is_symlink()
    assert (target / "empty").stat().st_mode & 0o777 == 0o750
    assert checkpoints.look(made, target).right == {"latest", "empty", "step_2/w.pt"}
    (target / "latest").unlink()
    (target / "latest").symlink_to("elsewhere")
    assert checkpoints.look(made, target).taken == ("latest",)
    checkpoints.download(store, made, target, overwrite=True)
    assert str((target / "latest").readlink()) == "step_2"


NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\x00"), min_size=1, max_size=30).filter(
        lambda name: name not in {".", ".."} and len(name.encode()) < 200
    ),
    min_size=1, max_size=6, unique_by=str.casefold,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(names=NAMES, content=st.binary(max_size=200))
def test_any_name_comes_out_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], content: bytes
) -> None:
    """Names with escape sequences, newlines, other scripts: plain files in the directory, nothing beside it."""
    root = tmp_path_factory.mktemp("names")
    store = SnapshotStore(root / "store")
    draft = store.begin(1)
    for name in names:
        (draft.path / name).write_bytes(content)
    made = store.commit(draft, dict.fromkeys(names, 0o600), SnapshotMeta(1, 1, 1, T0))
    checkpoints.download(store, made, root / "out")
    assert {path.name for path in (root / "out").iterdir()} == set(names)
    assert all((root / "out" / name).read_bytes() == content for name in names)
