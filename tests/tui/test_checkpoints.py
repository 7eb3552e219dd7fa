"""The screen of checkpoints: what is unsaved, what is on disk, and every key of it; hostile names stay names."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from gpuscale_tui.engine import checkpoints
from gpuscale_tui.engine.checkpoints import Copied, Stopped
from gpuscale_tui.model.jobs import JobSpec, StartFrom
from gpuscale_tui.model.settings import CheckpointConfig
from gpuscale_tui.store import jobs, snapshots
from gpuscale_tui.store.archive import Archive, Progress, Snapshot, SnapshotMeta
from gpuscale_tui.store.checkpoints import SnapshotStore
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.snapshots import SnapshotRow
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.form.directories import DirectoryPicker
from gpuscale_tui.tui.screens.checkpoints import CheckpointsScreen
from gpuscale_tui.tui.screens.form import FormScreen
from gpuscale_tui.tui.screens.job import JobScreen

from .conftest import MakeApp, press, send, settle, shown, until, write


def screen(app: GpuscaleApp) -> CheckpointsScreen:
    """The screen, which must be shown."""
    assert isinstance(app.screen, CheckpointsScreen)
    return app.screen


def text_of(app: GpuscaleApp) -> str:
    """All that is shown."""
    return "\n".join(shown(app))


def told(app: GpuscaleApp) -> str:
    """All that was told in passing."""
    return "\n".join(note.message for note in app._notifications)


def kept(home: Home) -> list[SnapshotRow]:
    """The snapshots that were not removed."""
    with Database(home.database, readonly=True) as db:
        return db.read(snapshots.kept)


def on_disk(home: Home, job_id: int) -> list[int]:
    """Numbers of a job's snapshots on disk."""
    return SnapshotStore(home.checkpoints).numbers(job_id)


async def test_what_is_unsaved_stands_on_top(busy_once: Home, make_app: MakeApp) -> None:
    """In all, and the dearest by name, in time and money."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "5")
        lines = shown(app)
        assert lines[2].startswith(" unsaved now 28m of work, $0.20 in 4 running jobs")
        assert lines[3].split()[0] == "j4"
        assert "a save 1.9s, best 7m, set 1m" in lines[3]
        assert "nothing saved yet" in lines[4]


async def test_the_use_of_a_quota_is_shown(busy_once: Home, make_app: MakeApp) -> None:
    """Of the projects that have one, the fullest first, by what is really on disk."""
    app = make_app(busy_once)
    app.settings = replace(app.settings, checkpoints=CheckpointConfig(quotas={"charlm": 0.0001, "speech": 1.0}))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "5")
        await until(pilot, lambda: "quota charlm" in text_of(app))
        lines = [line for line in shown(app) if line.startswith(" quota ")]
        assert "of 100 B" in lines[0]
        assert lines[1].startswith(" quota speech")


async def test_the_list_says_what_is_on_disk(busy_once: Home, make_app: MakeApp) -> None:
    """Kept, broken, missing; filtered by name and step, sorted by size; Enter opens the job, y copies the name."""
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "5")
        said = text_of(app)
        assert [said.count(word) for word in ("kept", "verified", "pinned", "broken", "missing")] == [4, 2, 1, 1, 1]
        await press(pilot, "slash")
        await write(pilot, "name~charlm step>1200")
        assert screen(app).table.total == 2
        await press(pilot, "enter", "escape", "o", "o", "o", "o", "o")
        assert "by size" in text_of(app)
        await press(pilot, "O")
        first = screen(app).pointed
        assert first is not None
        assert first.listed.snapshot.bytes < 100_000_000
        await press(pilot, "y")
        assert f"Copied {first.label}" in told(app)
        await press(pilot, "enter")
        assert isinstance(app.screen, JobScreen)


async def test_about_one_snapshot(busy_once: Home, make_app: MakeApp) -> None:
    """w: whose it is, when it was taken, its largest files; what is wrong with it."""
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "5", "w")
        assert "Snapshot j11/2" in text_of(app)
        assert "optimizer.pt" in text_of(app)
        await press(pilot, "q", "G", "w")
        assert "On disk: not on disk" in text_of(app)
        await press(pilot, "q", "k", "w")
        assert "'optimizer.pt' is missing" in text_of(app)


async def test_a_download_asks_where_and_before_it_replaces(busy_home: Home, make_app: MakeApp, tmp_path: Path) -> None:
    """d: a directory, then every byte; the second time it asks first."""
    app = make_app(busy_home)
    target = tmp_path / "out"
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "5", "d")
        assert isinstance(app.screen, DirectoryPicker)
        app.screen.line.value = str(target)
        await press(pilot, "enter")
        await until(pilot, lambda: "j11/2 copied to" in told(app))
        stored = busy_home.checkpoints / "j11" / "2" / "files"
        for name in ("model.pt", "state/rng.bin"):
            assert (target / name).read_bytes() == (stored / name).read_bytes()
        (target / "model.pt").write_text("mine")
        await press(pilot, "d")
        assert isinstance(app.screen, DirectoryPicker)
        app.screen.line.value = str(target)
        await press(pilot, "enter")
        await until(pilot, lambda: "Replace what is there?" in text_of(app))
        await press(pilot, "n")
        assert (target / "model.pt").read_text() == "mine"
        await press(pilot, "d")
        assert isinstance(app.screen, DirectoryPicker)
        app.screen.line.value = str(target)
        await press(pilot, "enter")
        await until(pilot, lambda: "Replace what is there?" in text_of(app))
        await press(pilot, "y")
        await until(pilot, lambda: (target / "model.pt").read_bytes() == (stored / "model.pt").read_bytes())


async def test_a_copy_is_stopped(
    busy_once: Home, make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x: at the next piece; meanwhile no second one begins. Without a copy there is nothing to stop."""
    begun = threading.Event()

    def slow(_store: Archive, _snapshot: Snapshot, target: Path, **how: object) -> Copied:
        progress: Progress = how["progress"]  # type: ignore[assignment]
        progress(10, 40)
        begun.set()
        stopped = how["stopped"]
        while not stopped():  # type: ignore[operator]
            threading.Event().wait(0.01)
        raise Stopped(f"stopped; {target} has the files that were finished")

    monkeypatch.setattr(checkpoints, "download", slow)
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "5", "x")
        assert "Nothing is being copied" in told(app)
        await press(pilot, "d")
        assert isinstance(app.screen, DirectoryPicker)
        app.screen.line.value = str(tmp_path / "out")
        send(app, "enter")
        async with asyncio.timeout(120):
            while not (isinstance(app.screen, CheckpointsScreen) and app.screen.transfer[0] and begun.is_set()):
                await pilot.pause(0.01)
        await app.do("checkpoint.get")
        send(app, "x")
        await settle(pilot)
        assert screen(app).transfer[0] == ""
        assert "has the files that were finished" in told(app)
        assert "x stops that" in told(app)


async def test_a_job_resumes_from_an_older_snapshot(busy_home: Home, make_app: MakeApp) -> None:
    """r: what is left aside is said first; a running job is refused."""
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "5", "slash")
        await write(pilot, "job:j2 no:2")
        await press(pilot, "enter", "r")
        assert "begins with snapshot 2" in text_of(app)
        assert "1 newer snapshot, about 30m of saved work, 1,200 steps" in text_of(app)
        await press(pilot, "y")
        with Database(busy_home.database, readonly=True) as db:
            job = db.read(jobs.get, 2)
        assert job is not None
        assert (job.state, job.spec.start_from, job.start_after) == ("pending", StartFrom(2, 2), 2)
        assert "for j2" in text_of(app)
        await press(pilot, "escape", "g", "r", "y")
        assert "runs: cancel it first" in told(app)


async def test_a_branch_from_a_chosen_snapshot(busy_once: Home, make_app: MakeApp) -> None:
    """B: the form, beginning with that one."""
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "5", "slash")
        await write(pilot, "job:j2 no:2")
        await press(pilot, "enter", "B")
        assert isinstance(app.screen, FormScreen)
        assert app.screen.texts["from"] == "j2/2"
        assert "from snapshot 2 at step 2,400" in text_of(app)


async def test_pruning_what_is_marked_leaves_the_last_whole_one(busy_home: Home, make_app: MakeApp) -> None:
    """D: what it frees, what stays and why; files and rows are gone together."""
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "5", "slash")
        await write(pilot, "job:j2")
        await press(pilot, "enter", "A", "D")
        assert "Remove 3 snapshots?" in text_of(app)
        assert "frees up to" in text_of(app)
        await press(pilot, "n")
        assert on_disk(busy_home, 2) == [3, 2, 1]
        await press(pilot, "D", "y")
        assert on_disk(busy_home, 2) == [3, 2]
        assert [row.number for row in kept(busy_home) if row.job_id == 2] == [3, 2]
        assert "1 snapshot removed" in told(app)
        assert "j2/2 stays: it is pinned" in told(app)
        assert "j2/3 stays: it is the last whole snapshot of j2" in told(app)
        assert screen(app).marked == frozenset()
        await press(pilot, "G", "D")
        assert "was removed" in told(app)


async def test_every_byte_is_compared(busy_home: Home, make_app: MakeApp) -> None:
    """v on all that are marked: each is told, and remembered with its reason; the list says it."""
    app = make_app(busy_home)
    (busy_home.checkpoints / "j2" / "2" / "files" / "model.pt").write_text("MODEL.PT OF J2/2\n")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "5", "slash")
        await write(pilot, "job:j2 no>1")
        await press(pilot, "enter", "A", "v")
        await until(pilot, lambda: "1 of 2 snapshots verified" in told(app))
        assert "j2/2 is broken" in told(app)
        await until(pilot, lambda: "verified <1m" in text_of(app))
        assert "broken" in text_of(app)
        known = {row.number: row for row in kept(busy_home) if row.job_id == 2}
        assert (known[3].fault, known[3].checked_at) == (None, app.now())
        assert known[2].fault is not None
        assert screen(app).transfer[0] == ""
        await press(pilot, "A", "j", "w")
        assert "Broken: 'model.pt' has changed since it was stored." in text_of(app)


async def test_a_verification_is_stopped(
    busy_home: Home, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """x: nothing is noted of what was not read in full."""
    begun = threading.Event()

    def slow(_store: Archive, _which: StartFrom, *, hashes: bool = False, progress: Progress | None = None) -> str:
        while hashes and progress is not None:
            begun.set()
            progress(1, 2)
            threading.Event().wait(0.01)
        return ""

    monkeypatch.setattr(checkpoints, "broken", slow)
    before = [row.checked_at for row in kept(busy_home)]
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "5")
        send(app, "v")
        async with asyncio.timeout(120):
            while not (screen(app).transfer[0] and begun.is_set()):
                await pilot.pause(0.01)
        send(app, "x")
        await until(pilot, lambda: screen(app).transfer[0] == "")
        assert [row.checked_at for row in kept(busy_home)] == before


async def test_a_pinned_snapshot_stays(busy_home: Home, make_app: MakeApp) -> None:
    """P pins, u takes it back, P again; pruning says that it stays."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "5", "slash")
        await write(pilot, "job:j2 no:3")
        await press(pilot, "enter", "P")
        assert "pinned" in text_of(app)
        assert "j2/3 is pinned" in told(app)
        assert pinned(busy_home) == [2, 3]
        await press(pilot, "u")
        assert pinned(busy_home) == [2]
        await press(pilot, "P", "D")
        assert "1 pinned one stays" in text_of(app)
        await press(pilot, "y")
        await until(pilot, lambda: "j2/3 stays: it is pinned" in told(app))
        assert on_disk(busy_home, 2) == [3, 2, 1]
        await press(pilot, "P")
        assert pinned(busy_home) == [2]


def pinned(home: Home) -> list[int]:
    """Numbers of the snapshots of j2 that are pinned."""
    return sorted(row.number for row in kept(home) if row.job_id == 2 and row.pinned_at is not None)


async def test_hostile_names_reach_no_terminal(busy_home: Home, make_app: MakeApp) -> None:
    """Files and jobs with escape sequences in their names: shown harmless, everywhere."""
    with Database(busy_home.database) as db:
        (job_id,) = db.write(jobs.insert, [JobSpec(image="x", command="x", name="ev\u202eil\u200b")], 1)
        db.connection.execute("UPDATE jobs SET name = ? WHERE id = ?", ("e\x1b[2Jvil\x07", job_id))
        store = SnapshotStore(busy_home.checkpoints)
        drawn = store.begin(job_id)
        names = ["a\x1b]52;c;ZXZpbA==\x07", "b\nc", "d\u202e"]
        for name in names:
            (drawn.path / name).write_text("x")
        made = store.commit(drawn, dict.fromkeys(names, 0o600), SnapshotMeta(job_id, 1, 1, 1))
        db.write(snapshots.record_snapshot, job_id, 1, 1, 3, made.size, now=2**41, epoch=None)
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "5", "g", "w")
        assert f"Snapshot j{job_id}/1" in text_of(app)
        for keys in (("q", "d"), ("escape", "D"), ("n", "r")):
            assert not set("\x1b\x07\u202e") & set(text_of(app))
            await press(pilot, *keys)
        assert not set("\x1b\x07\u202e") & set(text_of(app))
