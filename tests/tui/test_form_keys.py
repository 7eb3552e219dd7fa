"""Every key of the form, and what a form about another job does: copies, branches, changes with undo."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from textual.pilot import Pilot

from gpuscale_tui.engine import commands
from gpuscale_tui.model.jobs import GitSource, Job, JobSpec, StartFrom
from gpuscale_tui.store import jobs
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.secrets import read_job_secrets
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.draft import NAMES
from gpuscale_tui.tui.form.chooser import Chooser
from gpuscale_tui.tui.form.directories import DirectoryPicker
from gpuscale_tui.tui.form.keeping import Drafts
from gpuscale_tui.tui.form.rows_editor import RowsEditor
from gpuscale_tui.tui.screens.form import Field, FormScreen
from gpuscale_tui.tui.screens.queue import QueueScreen

from .conftest import MakeApp, press, settle, shown, write


def form(app: GpuscaleApp) -> FormScreen:
    """The form, which must be shown."""
    assert isinstance(app.screen, FormScreen)
    return app.screen


def field(app: GpuscaleApp, name: str) -> Field:
    """One field of it."""
    return form(app).fields[NAMES.index(name)]


async def go_to(pilot: Pilot[object], name: str) -> None:
    """Put the cursor into a field."""
    app = pilot.app
    assert isinstance(app, GpuscaleApp)
    form(app).set_focus(field(app, name))
    await settle(pilot)


def job_of(home: Home, job_id: int) -> Job:
    """A job as it stands in the store."""
    with Database(home.database, readonly=True) as db:
        job = db.read(jobs.get, job_id)
    assert job is not None
    return job


def text_of(app: GpuscaleApp) -> str:
    """All that is shown."""
    return "\n".join(shown(app))


def told(app: GpuscaleApp) -> str:
    """All that was told in passing."""
    return "\n".join(note.message for note in app._notifications)


async def test_the_sweep_editor(busy_once: Home, make_app: MakeApp) -> None:
    """Ctrl+W from any field: rows, how many jobs, their commands; a new row, one removed, kept with Ctrl+S."""
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        await write(pilot, "t.py {lr} {seed}")
        await press(pilot, "ctrl+w")
        assert isinstance(app.screen, RowsEditor)
        await write(pilot, "lr")
        await press(pilot, "tab")
        await write(pilot, "1,2")
        await press(pilot, "tab")
        await write(pilot, "seed")
        await press(pilot, "enter")
        await write(pilot, "1..3")
        assert "6 jobs = 2 x 3" in text_of(app)
        assert "t.py 1 1" in text_of(app)
        await press(pilot, "ctrl+n")
        await write(pilot, "x")
        await press(pilot, "ctrl+s")
        assert isinstance(app.screen, RowsEditor), "x has no values"
        await press(pilot, "ctrl+d", "ctrl+s")
        assert field(app, "sweep").value == "lr=1,2 seed=1..3"
        await press(pilot, "ctrl+w", "ctrl+d", "escape")
        assert field(app, "sweep").value == "lr=1,2 seed=1..3"


async def test_the_environment_editor_hides_what_its_name_says(busy_once: Home, make_app: MakeApp) -> None:
    """Ctrl+O on the environment: a secret value is never shown, and lands in the hidden line."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        await go_to(pilot, "env")
        await press(pilot, "ctrl+o")
        assert isinstance(app.screen, RowsEditor)
        for text in ("A", "1 2", "HF_TOKEN", "hunter2"):
            await write(pilot, text)
            await press(pilot, "tab")
        assert "2 variables, 1 secret" in text_of(app)
        assert "hunter2" not in text_of(app)
        await press(pilot, "ctrl+s")
        assert (field(app, "env").value, field(app, "secret").value) == ("A='1 2'", "HF_TOKEN=hunter2")
        assert "hunter2" not in text_of(app)
        assert "hunter2" not in app.drafts.path.read_text()


async def test_templates_from_past_jobs(busy_once: Home, make_app: MakeApp) -> None:
    """Ctrl+T: found by typing, Enter fills the form, sweep and all."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "n", "ctrl+t")
        assert isinstance(app.screen, Chooser)
        await write(pilot, "charlm")
        await press(pilot, "enter")
        assert field(app, "command").value == "python train.py --lr {lr} --batch {batch} --out $CHECKPOINT_DIR"
        assert field(app, "sweep").value == "lr=1e-3,5e-4,2e-4 batch=16,32,64"
        assert "9 jobs on RTX 4090" in text_of(app)
        await press(pilot, "ctrl+t", "down", "pagedown", "escape")
        assert field(app, "sweep").value == "lr=1e-3,5e-4,2e-4 batch=16,32,64"


async def test_the_directory_picker_says_what_would_be_uploaded(
    busy_once: Home, make_app: MakeApp, tmp_path: Path
) -> None:
    """Ctrl+O on the workdir: in and out, completed, with files, bytes and what stays."""
    place = tmp_path / "work" / "charlm"
    (place / ".venv").mkdir(parents=True)
    (place / "train.py").write_text("x" * 1500)
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        await go_to(pilot, "workdir")
        field(app, "workdir").value = f"{tmp_path}/work/"
        await settle(pilot)
        await press(pilot, "ctrl+o")
        assert isinstance(app.screen, DirectoryPicker)
        await press(pilot, "right")
        assert "1 file, 1.5 kB would be uploaded" in text_of(app)
        assert "stays here: .venv" in text_of(app)
        await press(pilot, "left", "tab", "enter")
        assert field(app, "workdir").value == str(place)
        await press(pilot, "ctrl+o", "up", "down", "escape")
        assert field(app, "workdir").value == str(place)


async def test_values_used_before_are_chosen_from_a_list(busy_once: Home, make_app: MakeApp) -> None:
    """Ctrl+O on a field that has some; on one that has none it says so."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        await go_to(pilot, "project")
        await press(pilot, "ctrl+o")
        await write(pilot, "vis")
        await press(pilot, "enter")
        assert field(app, "project").value == "vision"
        await go_to(pilot, "from")
        await press(pilot, "ctrl+o")
        await write(pilot, "j2/3")
        await press(pilot, "enter")
        assert field(app, "from").value == "j2/3"
        await go_to(pilot, "retries")
        await press(pilot, "ctrl+o")
        assert "just a line" in told(app)


@dataclass
class Editor:
    """An editor that writes what a test wants, and keeps what it was given."""

    script: Path

    def will_write(self, text: str) -> None:
        """What it saves."""
        Path(f"{self.script}.wanted").write_text(text)

    @property
    def seen(self) -> str:
        """What it was given."""
        return Path(f"{self.script}.seen").read_text()


@pytest.fixture
def editor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Editor:
    """The user's editor, over a terminal that can be left."""

    @contextlib.contextmanager
    def left(_app: GpuscaleApp) -> Iterator[None]:
        yield

    monkeypatch.setattr(GpuscaleApp, "suspend", left)
    script = tmp_path / "editor.sh"
    script.write_text('#!/bin/sh\ncp "$1" "$0.seen"\ncp "$0.wanted" "$1"\n')
    script.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(script))
    return Editor(script)


async def test_the_users_own_editor(busy_once: Home, make_app: MakeApp, editor: Editor) -> None:
    """Ctrl+E: the whole form as a job file, without secrets; read back, with errors at their fields."""
    editor.will_write('[[jobs]]\ncommand = "new.py"\npriority = 99\nenv = { A = "1" }\n')
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        await write(pilot, "old.py")
        field(app, "secret").value = "HF_TOKEN=hunter2"
        await settle(pilot)
        await press(pilot, "ctrl+e")
        assert 'command = "old.py"' in editor.seen
        assert "hunter2" not in editor.seen
        assert (field(app, "command").value, field(app, "env").value) == ("new.py", "A=1")
        assert field(app, "secret").value == "HF_TOKEN=hunter2"
        assert field(app, "gpu").value == ""
        assert "1 (first) to 10 (last)" in text_of(app)
        assert not list(app.home.path.glob("job-*.toml"))


async def test_an_editor_that_fails_changes_nothing(
    busy_once: Home, make_app: MakeApp, editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, and the form stands as it was; so it does where the terminal cannot be left."""
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        await write(pilot, "old.py")
        await press(pilot, "ctrl+e")
        assert "ended with 1" in told(app)
        assert field(app, "command").value == "old.py"
        monkeypatch.undo()
        await press(pilot, "ctrl+e")
        assert "cannot be left" in told(app)


async def test_a_draft_outlives_the_program(busy_once: Home, make_app: MakeApp, tmp_path: Path) -> None:
    """Nothing is said to the program before it dies; the next one has the draft, says so, and lacks the secrets."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        await write(pilot, "abc")
        field(app, "secret").value = "HF_TOKEN=hunter2"
        await settle(pilot)
        kept = json.loads(app.drafts.path.read_text())
        assert kept["drafts"]["new"]["texts"]["command"] == "abc"
    again = make_app(busy_once)
    again._drafts = Drafts(app.drafts.path)
    async with again.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        assert field(again, "command").value == "abc"
        assert "is back" in told(again)
        assert "Its secrets were not kept: HF_TOKEN" in told(again)
        assert "HF_TOKEN has no value" in text_of(again)
        await press(pilot, "ctrl+r", "escape", "n")
        assert field(again, "command").value == ""


async def test_a_waiting_job_is_edited_and_the_edit_undone(busy_home: Home, make_app: MakeApp) -> None:
    """e: its values, what may not change, what was changed; Ctrl+S changes it, u takes that back."""
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "slash", *"ablation", "enter", "e")
        job = form(app).origin.job
        assert job is not None
        job_id = job.id
        before = job_of(busy_home, job_id).spec
        assert "stays: it is one job" in text_of(app)
        assert field(app, "sweep").disabled
        await write(pilot, " --more")
        await go_to(pilot, "priority")
        field(app, "priority").value = "2"
        await settle(pilot)
        assert "was 6" in text_of(app)
        assert "2 changes" in text_of(app)
        await press(pilot, "ctrl+s")
        assert isinstance(app.screen, QueueScreen)
        after = job_of(busy_home, job_id).spec
        assert after.command == f"{before.command} --more"
        assert (after.priority, after.params, after.env) == (2, before.params, before.env)
        assert "is changed" in told(app)
        await press(pilot, "u")
        assert job_of(busy_home, job_id).spec == before


async def test_a_job_that_has_started_meanwhile_is_not_edited(busy_home: Home, make_app: MakeApp) -> None:
    """The refusal is said, the form stays with what was written; one that runs cannot be edited at all."""
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "slash", *"ablation", "enter", "e")
        job = form(app).origin.job
        assert job is not None
        with Database(busy_home.database) as db:
            db.connection.execute("UPDATE jobs SET state = 'running' WHERE id = ?", (job.id,))
        await write(pilot, "x")
        await press(pilot, "ctrl+s")
        assert "is running now: only a waiting job can be edited" in told(app)
        assert field(app, "command").value.endswith("x")
        await press(pilot, "escape", "e")
        assert isinstance(app.screen, QueueScreen)


async def test_a_branch_begins_with_a_checkpoint_and_shows_the_difference(busy_home: Home, make_app: MakeApp) -> None:
    """B on a job: its newest snapshot, its values, each change as it was and is; the new job starts from it."""
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "slash", *"whisper", "enter", "B")
        assert field(app, "from").value == "j11/2"
        assert "branch of j11 whisper-small finetune de from snapshot 2" in text_of(app)
        await write(pilot, " --lr 2")
        assert "was python whisper-small.py" in text_of(app)
        assert "1 job, 1 change" in text_of(app)
        await press(pilot, "ctrl+s")
        made = job_of(busy_home, 23)
        assert made.spec.start_from == StartFrom(11, 2)
        assert made.spec.command == "python whisper-small.py --lr 2"
        await press(pilot, "escape", "slash", *"tokenizer", "enter", "B")
        assert "has no snapshot that is kept" in told(app)


async def test_a_copy_takes_over_secrets_and_words(busy_home: Home, make_app: MakeApp) -> None:
    """Neither the screen nor the draft knows the values; a command given as words stays words."""
    spec = JobSpec(image="x", argv=("run", "a b"), name="words", secret_env={"HF_TOKEN": "hunter2"}, user="ada")
    with Database(busy_home.database) as db:
        db.write(commands.submit, busy_home, [spec], now=1)
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "slash", *"words", "enter", "c")
        assert field(app, "secret").value == "HF_TOKEN="
        await press(pilot, "ctrl+s")
        assert read_job_secrets(busy_home, 24) == {"HF_TOKEN": "hunter2"}
        assert job_of(busy_home, 24).spec.argv == ("run", "a b")


async def test_a_hostile_command_reaches_no_terminal(busy_home: Home, make_app: MakeApp) -> None:
    """Escape sequences in another member's job: in the form, in its notes, in the templates."""
    evil = "run \x1b]52;c;ZXZpbA==\x07\x1b[2J\u202eevil\n{second"
    with Database(busy_home.database) as db:
        spec = JobSpec(image="x", command=evil, name="ev\u202eil", workdir="/x\x1b[31m", env={"A": "\x1b[2J"})
        db.write(jobs.insert, [spec], 1)
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "slash", *"j23", "enter", "c")
        await write(pilot, "z")
        for _ in range(2):
            assert "\x1b" not in text_of(app)
            assert "\x07" not in text_of(app)
            await press(pilot, "ctrl+t")
        assert isinstance(app.screen, Chooser)


async def test_seldom_fields_are_folded_away_on_a_small_screen(busy_once: Home, make_app: MakeApp) -> None:
    """Ctrl+N shows them and puts the cursor there; again, only those that say something stay."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        assert "stop signal" not in text_of(app)
        await press(pilot, "ctrl+n")
        assert form(app).focused_name == "checkpoint_dir"
        await go_to(pilot, "stop_signal")
        await write(pilot, "usr1")
        assert "stop signal" in text_of(app)
        await go_to(pilot, "grace")
        await press(pilot, "ctrl+n")
        shown_names = [each.about.name for each in form(app).fields if each.display]
        assert "stop_signal" in shown_names
        assert "grace" not in shown_names
        assert form(app).focused_name == "command"


async def test_data_sets_as_rows(busy_once: Home, make_app: MakeApp, tmp_path: Path) -> None:
    """Ctrl+O on the data sets: the variable that each becomes; what is not there is refused when it is sent."""
    (tmp_path / "words.txt").write_text("a b c")
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        await write(pilot, "t.py")
        await go_to(pilot, "data")
        await press(pilot, "ctrl+o")
        assert isinstance(app.screen, RowsEditor)
        await write(pilot, "words")
        await press(pilot, "tab")
        await write(pilot, f"{tmp_path}/words.txt")
        assert "$DATA_WORDS" in text_of(app)
        await press(pilot, "ctrl+s")
        assert field(app, "data").value == f"words={tmp_path}/words.txt"
        field(app, "data").value = f"words={tmp_path}/none"
        await settle(pilot)
        await press(pilot, "ctrl+s")
        assert isinstance(app.screen, FormScreen)
        assert "none is not there" in text_of(app)


def test_an_edited_job_keeps_the_commit_of_its_code(busy_home: Home) -> None:
    """As long as git is the same; other code is another commit."""
    with Database(busy_home.database) as db:
        spec = replace(job_of(busy_home, 22).spec, git=GitSource("https://git.example/x", "main"))
        db.write(jobs.replace_spec, 22, spec)
        db.connection.execute("UPDATE jobs SET git_commit = 'abc' WHERE id = 22")
        db.write(jobs.replace_spec, 22, replace(spec, priority=2))
        assert (job_of(busy_home, 22).git_commit, job_of(busy_home, 22).spec.priority) == ("abc", 2)
        db.write(jobs.replace_spec, 22, replace(spec, git=GitSource("https://git.example/x", "v2")))
        assert job_of(busy_home, 22).git_commit is None
