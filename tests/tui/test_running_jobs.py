"""Keys for jobs that run: saved now, moved to rehearse that, a shell on their machine; and what a page tells of it."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from gpuscale_tui.engine import reach
from gpuscale_tui.model.jobs import Job
from gpuscale_tui.model.states import Rehearsal
from gpuscale_tui.store import jobs, output_files
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.output_files import OutputRow
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.form.directories import DirectoryPicker
from gpuscale_tui.tui.messages import EngineState

from .conftest import MakeApp, press, settle, shown, until, write


def text_of(app: GpuscaleApp) -> str:
    """All that is shown."""
    return "\n".join(shown(app))


def told(app: GpuscaleApp) -> str:
    """All that was told in passing."""
    return "\n".join(note.message for note in app._notifications)


def job_of(home: Home, job_id: int) -> Job:
    """A job as it stands in the store."""
    with Database(home.database, readonly=True) as db:
        job = db.read(jobs.get, job_id)
    assert job is not None
    return job


def save_asked(home: Home) -> list[int]:
    """Jobs whose user waits for a snapshot."""
    with Database(home.database, readonly=True) as db:
        rows = db.connection.execute("SELECT id FROM jobs WHERE save_asked_at IS NOT NULL ORDER BY id")
        return [row[0] for row in rows]


async def test_a_snapshot_is_asked_for(busy_home: Home, make_app: MakeApp) -> None:
    """Ctrl+S on a running job, then on all that are marked; what waits is left out, and refused when it is alone."""
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        first = app.screen.job.id  # type: ignore[attr-defined]
        await press(pilot, "ctrl+s")
        assert save_asked(busy_home) == [first]
        assert f"A snapshot of j{first} is taken now" in told(app)
        await press(pilot, "A", "ctrl+s")
        assert len(save_asked(busy_home)) == 4
        assert "A snapshot of 4 jobs is taken now" in told(app)
        await press(pilot, "escape", "j", "j", "j", "j", "ctrl+s")
        assert "it runs on no machine now" in told(app)


async def test_saving_needs_an_engine(busy_home: Home, make_app: MakeApp) -> None:
    """Nobody would take it."""
    app = make_app(busy_home, engine=EngineState("none"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "ctrl+s")
        assert "No engine runs that would save it" in told(app)
        assert save_asked(busy_home) == []


async def test_a_move_is_rehearsed_after_asking(busy_home: Home, make_app: MakeApp) -> None:
    """K: what it means first; n leaves it, y moves it, once."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        job_id = app.screen.job.id  # type: ignore[attr-defined]
        await press(pilot, "K")
        assert f"Rehearse a move of j{job_id}?" in text_of(app)
        assert "goes on from its snapshot" in " ".join(text_of(app).split())
        await press(pilot, "n")
        assert job_of(busy_home, job_id).rehearsal == Rehearsal.NONE
        await press(pilot, "K", "y")
        assert job_of(busy_home, job_id).rehearsal == Rehearsal.WANTED
        await press(pilot, "K")
        assert "is being rehearsed already" in told(app)
        await press(pilot, "enter")
        assert "a move is rehearsed after its next snapshot" in " ".join(text_of(app).split())


async def test_a_shell_takes_the_terminal_and_gives_it_back(
    busy_once: Home, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """S on a job and on a machine; a terminal that cannot be left says what to do; one without a way says that."""
    ran = tmp_path / "ran"

    def words(_home: Home, target: reach.Target) -> list[str]:
        line = f"open({str(ran)!r}, 'a').write('w{target.worker_id} '); raise SystemExit(255)"
        return [sys.executable, "-c", line]

    monkeypatch.setattr(reach, "shell_command", words)
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "S")
        assert "cannot be left for a shell: gpuscale ssh" in told(app)
        assert not ran.exists()
        monkeypatch.setattr(app, "suspend", contextlib.nullcontext)
        worker = app.screen.job.worker_id  # type: ignore[attr-defined]
        await press(pilot, "S")
        assert ran.read_text() == f"w{worker} "
        assert f"There was no way to w{worker}" in told(app)
        await press(pilot, "2", "S")
        assert len(ran.read_text().split()) == 2
        assert "running" in text_of(app)


async def test_a_shell_where_nothing_runs(busy_once: Home, make_app: MakeApp) -> None:
    """Refused with the reason: the job waits."""
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "G", "S")
        assert "it runs on no machine now" in told(app)


async def test_a_page_tells_code_data_ends_and_outputs(busy_home: Home, make_app: MakeApp) -> None:
    """What was cloned, staged, how it is told to end; what each end cost, where it resumed; what was fetched."""
    with Database(busy_home.database) as db:
        db.connection.execute(
            "UPDATE jobs SET git_url = 'https://git.example/gpt', git_rev = 'v1', git_commit = 'abc123',"
            " workdir = NULL, data = '{\"words\": \"/data/words\"}', stop_signal = 'USR1', grace_sec = 90,"
            " rehearsal = 'verified', rehearsal_detail = 'resume verified: step 2,400 went on' WHERE id = 2"
        )
        db.connection.execute(
            "UPDATE attempts SET lost_ms = 192000, lost_cost = 20000, lost_steps = 140 WHERE job_id = 2 AND number = 1"
        )
        db.connection.execute(
            "UPDATE attempts SET resumed_from = 2, resumed_step = 2400, first_step = 2401"
            " WHERE job_id = 2 AND number = 2"
        )
        db.write(output_files.record, OutputRow(2, 2, 1, 3, 4_200, "2 files beyond 2 GB"))
    app = make_app(busy_home)
    async with app.run_test(size=(120, 60)) as pilot:
        await settle(pilot)
        app.show_job(2)
        await settle(pilot)
        await press(pilot, "v")
        said = " ".join(text_of(app).split())
        for words in (
            "https://git.example/gpt@v1", "abc123", "words=/data/words", "by SIGUSR1, then 1m30s to save and end",
            "resume verified: step 2,400 went on", "140 steps", "$0.02", "resumed from snapshot 2 at step 2,400",
            "attempt 2 3 files, 4.2 kB",
        ):  # fmt: skip
            assert words in said, words
        await press(pilot, "escape", "slash")
        await write(pilot, "rehearsal:verified")
        await press(pilot, "enter")
        assert "; resume verified" in text_of(app)


async def test_outputs_are_copied_out(busy_home: Home, make_app: MakeApp, tmp_path: Path) -> None:
    """d: where to, then every file; another one of the same name is not replaced unasked; nothing there is said."""
    place = busy_home.outputs / "j2" / "2"
    place.mkdir(parents=True)
    (place / "report.md").write_text("loss 1.5")
    with Database(busy_home.database) as db:
        db.write(output_files.record, OutputRow(2, 2, 1, 1, 8, None))
    app = make_app(busy_home)
    target = tmp_path / "out"
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "d")
        assert "is fetched when its attempt ends" in told(app)
        app.show_job(2)
        await settle(pilot)
        for found, answer in (("", ""), ("mine", "n"), ("mine", "y")):
            if found:
                (target / "report.md").write_text(found)
            await press(pilot, "d")
            assert isinstance(app.screen, DirectoryPicker)
            app.screen.line.value = str(target)
            await press(pilot, "enter")
            if answer:
                await until(pilot, lambda: "Replace what is there?" in text_of(app))
                await press(pilot, answer)
            wanted = "mine" if answer == "n" else "loss 1.5"
            await until(pilot, lambda wanted=wanted: _text(target / "report.md") == wanted)  # type: ignore[misc]
        await until(pilot, lambda: "Copied to" in told(app))


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
