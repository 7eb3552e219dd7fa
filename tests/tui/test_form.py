"""The form: worked by keyboard, checked at each field, priced before it is sent, never losing what was written."""

from __future__ import annotations

import pytest

from gpuscale_tui.model.jobs import Job, JobSpec
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.model.states import JobState
from gpuscale_tui.store import jobs
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui import draft
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.draft import NAMES, check
from gpuscale_tui.tui.screens.form import FormScreen
from gpuscale_tui.tui.screens.queue import QueueScreen

from .conftest import MakeApp, press, send, settle, shown, write


def texts(**given: str) -> dict[str, str]:
    """A form with some fields written."""
    return {**draft.empty(Settings()), "command": "python t.py", **given}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("command", "", "needed"),
        ("name", "a\x07b", "printable"),
        ("sweep", "lr", "NAME=VALUE"),
        ("sweep", "lr=1,1", "differ"),
        ("gpu", "RTX<4090>", "GPU model"),
        ("gpus", "0", "1 to 64"),
        ("gpus", "two", "whole number"),
        ("max_price", "free", "0.50"),
        ("max_price", "0", "above 0"),
        ("image", "two words", "Docker image"),
        ("priority", "11", "1 (first) to 10"),
        ("max_runtime", "2 fortnights", "90m"),
        ("checkpoint_dir", "../up", "below"),
        ("env", "1A=2", "digit"),
        ("env", "A", "no ="),
        ("env", "A='open", "quotes closed"),
        ("env", "GPUSCALE_X=1", "GPUSCALE_"),
        ("env", "A=1 A=2", "once"),
        ("project", "a b", "letters"),
        ("provider", "clor", "did you mean 'clore'"),
        ("retries", "-1", "whole number"),
        ("git", "not a url", "URL@REV"),
        ("git", "https://ada:secret@git.example/x", "without"),
        ("data", "words", "no ="),
        ("data", "words=", "NAME=PATH"),
        ("data", "1x=/data", "NAME=PATH"),
        ("stop_signal", "KILL", "TERM"),
        ("grace", "2 days ago", "45s"),
        ("grace", "2d", "1 day"),
        ("rehearse", "perhaps", "yes"),
    ],
)
def test_each_field_says_what_is_wrong_with_it(field: str, value: str, words: str) -> None:
    """The error stands at its own field and says what is allowed; the others are not blamed."""
    checked = check(texts(**{field: value}), "ada")
    assert set(checked.errors) == {field}
    assert words in checked.errors[field]
    assert checked.specs == ()


def test_several_wrong_fields_are_all_named() -> None:
    """Not one after the other."""
    assert set(check(texts(priority="0", env="A", gpus="x"), "ada").errors) == {"priority", "env", "gpus"}


def test_a_full_form_becomes_the_jobs_it_means() -> None:
    """Every field arrives in the specification."""
    checked = check(
        texts(
            command="python t.py --lr {lr}", name="run", sweep="lr=1e-3,5e-4 seed=1..3", gpu="rtx4090", gpus="2",
            max_price="$0.40", priority="2", max_runtime="1h30m", workdir="/data", checkpoint_dir="ckpt",
            env="A=1 B='two words'", secret="HF_TOKEN=abc", project="p", provider="clore", retries="0",
        ), "ada",
    )  # fmt: skip
    assert not checked.errors
    assert len(checked.specs) == checked.jobs == 6
    spec = checked.specs[0]
    assert (spec.command, spec.name) == ("python t.py --lr 1e-3", "run lr=1e-3 seed=1")
    assert (spec.gpu_type, spec.gpu_count, spec.max_price) == ("RTX 4090", 2, 400_000)
    assert (spec.max_runtime_sec, spec.retries, spec.user) == (5400, 0, "ada")
    assert spec.env["B"] == "two words"
    assert spec.secret_env == {"HF_TOKEN": "abc"}
    assert "seed" in checked.notes["sweep"]


def test_code_data_and_the_end_arrive_too() -> None:
    """Git, data sets, signal, grace and rehearsal, and the form that such a job makes is the one that made it."""
    given = texts(
        git="https://git.example/gpt@v1.2", data="words=/data/words val=/data/val", stop_signal="sigusr1",
        grace="90s", rehearse="yes",
    )  # fmt: skip
    (spec,) = check(given, "ada").specs
    assert spec.git is not None
    assert (spec.git.url, spec.git.rev) == ("https://git.example/gpt", "v1.2")
    assert dict(spec.data) == {"words": "/data/words", "val": "/data/val"}
    assert (spec.stop_signal, spec.grace_sec, spec.rehearse) == ("USR1", 90, True)
    again = draft.of_job(_as_job(spec), Settings())
    assert {**given, "stop_signal": "USR1", "grace": "1m30s"} == again
    assert check({**given, "workdir": "/home"}, "ada").errors.keys() == {"git"}


def _as_job(spec: JobSpec) -> Job:
    """A job that was just submitted."""
    return Job(
        id=1, spec=spec, state=JobState.PENDING, attempt=0, faults=0, submitted_at=0, started_at=None,
        finished_at=None, not_before=None, cancel_requested_at=None, worker_id=None, exit_code=None, cause=None,
        error=None, cost=0,
    )  # fmt: skip


def test_no_gpu_and_no_limit() -> None:
    """`none` and empty fields mean what they say."""
    (spec,) = check(texts(gpu="None", max_price="", max_runtime=""), "ada").specs
    assert spec.gpu_type is None
    assert spec.max_price is None
    assert spec.max_runtime_sec is None


def test_a_job_makes_the_form_that_made_it(busy_once: Home) -> None:
    """Cloning and sending again gives the same specification, but for its sweep and secrets."""
    with Database(busy_once.database, readonly=True) as db:
        job = db.read(jobs.get, 4)
    assert job is not None
    (spec,) = check(draft.of_job(job, Settings()), job.spec.user).specs
    assert spec.command == job.spec.command
    assert (spec.need, spec.workdir, spec.max_runtime_sec) == (
        job.spec.need,
        job.spec.workdir,
        job.spec.max_runtime_sec,
    )
    assert dict(spec.env) == {"WANDB_MODE": "offline"}


def test_secrets_leave_the_line_that_is_shown() -> None:
    """A variable whose name says that it is secret moves to the masked line; its value keeps its quotes."""
    moved = draft.move_secrets(texts(env="A=1 HF_TOKEN='a b' C=3", secret="X_KEY=1"))
    assert moved["env"] == "A=1 C=3"
    assert moved["secret"] == "X_KEY=1 HF_TOKEN='a b'"
    assert draft.move_secrets(texts(env="A='open"))["env"] == "A='open"


def form(app: GpuscaleApp) -> FormScreen:
    """The form, which must be shown."""
    assert isinstance(app.screen, FormScreen)
    return app.screen


async def test_a_sweep_is_submitted_by_keyboard_alone(busy_home: Home, make_app: MakeApp) -> None:
    """n, write, Tab, write, Ctrl+S: the jobs are in the store, with the price told before."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        await write(pilot, "run {lr}")
        await press(pilot, "tab", "enter")
        await write(pilot, "lr=1,2")
        lines = "\n".join(shown(app))
        assert "2 jobs on RTX 4090" in lines
        assert "2 offers within $0.48/h and GPU" in lines
        assert "the cap leaves $1.43/h: 3 more such machines fit now" in lines
        await press(pilot, "ctrl+s")
        assert isinstance(app.screen, QueueScreen)
        with Database(busy_home.database, readonly=True) as db:
            one, two = db.read(jobs.get, 23), db.read(jobs.get, 24)
        assert one is not None
        assert two is not None
        assert (one.spec.command, two.spec.command) == ("run 1", "run 2")
        assert one.spec.user == "ada"


async def test_keys_that_come_in_a_burst_are_taken_in_order(busy_home: Home, make_app: MakeApp) -> None:
    """Over a slow line keys arrive together: n, letters and Tab go where they are meant."""
    app = make_app(busy_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for key in ("n", "a", "b", "tab", "c", "tab", "tab", "tab", "2"):
            send(app, key)
        await settle(pilot)
        values = {each.about.name: each.value for each in form(app).fields}
        assert (values["command"], values["name"], values["gpus"]) == ("ab", "c", "12")
        await press(pilot, "escape")
        for key in ("j", "slash", "t", "o", "k", "enter", "l"):
            send(app, key)
        await settle(pilot)
        assert "tokenizer" in shown(app)[2]


async def test_nothing_is_lost_when_the_form_is_left(busy_once: Home, make_app: MakeApp) -> None:
    """Escape and n again: everything stands there; Ctrl+R empties it."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        await write(pilot, "abc")
        await press(pilot, "escape", "n")
        assert form(app).fields[0].value == "abc"
        await press(pilot, "ctrl+r")
        assert form(app).fields[0].value == ""
        assert form(app).fields[NAMES.index("gpus")].value == "1"


async def test_wrong_fields_are_marked_and_the_first_gets_the_cursor(busy_once: Home, make_app: MakeApp) -> None:
    """Ctrl+S on an empty form sends nothing."""
    app = make_app(busy_once)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "n", "tab", "tab")
        await write(pilot, "lr")
        await press(pilot, "ctrl+s")
        assert form(app).focused is form(app).fields[0]
        lines = "\n".join(shown(app))
        assert "2 fields to put right: command, sweep" in lines
        assert "NAME=VALUE,VALUE" in lines


async def test_a_missing_workdir_is_refused_at_its_field(busy_home: Home, make_app: MakeApp) -> None:
    """Before anything is sent."""
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        form(app).fields[0].value = "x"
        form(app).fields[NAMES.index("workdir")].value = "/no/such/place"
        await press(pilot, "ctrl+s")
        assert "a directory on this computer" in "\n".join(shown(app))
        with Database(busy_home.database, readonly=True) as db:
            assert db.read(jobs.get, 23) is None


async def test_secrets_are_neither_shown_nor_stored_in_the_database(busy_home: Home, make_app: MakeApp) -> None:
    """They go to a file of mode 0600."""
    app = make_app(busy_home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        form(app).fields[0].value = "x"
        form(app).set_focus(form(app).fields[NAMES.index("env")])
        await write(pilot, "HF_TOKEN=hunter2")
        await press(pilot, "tab")
        assert "hunter2" not in "\n".join(shown(app))
        await press(pilot, "ctrl+s")
    check_secret_files(busy_home)


def check_secret_files(home: Home) -> None:
    """One private file has the secret, the database has not."""
    (file,) = home.secrets.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "hunter2" in file.read_text()
    assert not [path for path in home.path.glob("gpuscale.db*") if b"hunter2" in path.read_bytes()]


async def test_the_completion_of_a_gpu_is_taken_with_the_right_arrow(busy_once: Home, make_app: MakeApp) -> None:
    """From the market first."""
    app = make_app(busy_once)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        field = form(app).fields[NAMES.index("gpu")]
        form(app).set_focus(field)
        field.value = ""
        await write(pilot, "rtx 30")
        await press(pilot, "right")
        assert field.value == "RTX 3090"
