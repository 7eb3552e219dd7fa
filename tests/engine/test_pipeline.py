"""The Python API, as the README shows it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gpuscale_tui import Job, Pipeline, ScalerConfig
from gpuscale_tui.model.errors import FieldError, NotFound
from gpuscale_tui.model.jobs import GitSource
from tests.engine.conftest import IMAGE, SCALER, Rig, until

pytestmark = pytest.mark.openssh
CONFIG = replace(SCALER, gpu_type="none", docker_image=IMAGE)


def pipeline(rig: Rig) -> Pipeline:
    return Pipeline(config=CONFIG, providers=rig.settings.providers, home=rig.home.path, environ=rig.environ)


def test_submit_start_blocking_read_state(hosts: Rig) -> None:
    """Blocking start returns when nothing is pending, running or rented any more."""
    with pipeline(hosts) as work:
        ids = work.submit_many([Job(command=f"echo {number}") for number in range(3)])
        argv = work.submit(Job(command=["printf", "%s|", "two words", "$HOME"]))
        work.start(block=True)
        status = work.status()
        assert {work.job(job_id).state for job_id in ids} == {"done"}
        assert hosts.output(int(argv[1:])) == b"two words|$HOME|"
        assert status.jobs["done"] == 4
        assert not status.engine.running
        assert status.spend.used == status.spend.reserved == 0


def test_start_in_the_background_cancel_and_stop(hosts: Rig) -> None:
    """`block=False` works behind the program's back until `stop`, which leaves nothing rented."""
    with pipeline(hosts) as work:
        work.start(block=False)
        assert work.status().engine.running
        job_id = work.submit(Job(command="sleep 300"))
        until(lambda: work.job(job_id).state == "running")
        assert work.cancel(job_id) == "cancelling"
        until(lambda: work.job(job_id).state == "cancelled")
        work.stop(now=True)
        assert not work.status().engine.running
    assert {worker.state for worker in hosts.workers()} == {"released"}


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    """A wrong field, a wrong setting, an unknown id."""
    work = Pipeline(home=tmp_path, environ={})
    with pytest.raises(FieldError, match="priority"):
        work.submit(Job(command="true", priority=11))
    with pytest.raises(FieldError, match="max_price"):
        work.submit(Job(command="true", max_price="cheap"))
    with pytest.raises(FieldError, match="workdir"):
        work.submit(Job(command="true", workdir=tmp_path / "nowhere"))
    with pytest.raises(NotFound, match="j99"):
        work.job("j99")
    with pytest.raises(FieldError, match="max_workers"):
        Pipeline(config=ScalerConfig(max_workers=-1), home=tmp_path, environ={})


def test_the_package_itself_imports_nothing_heavy() -> None:
    """`import gpuscale_tui` costs nothing until the API is used."""
    code = "import gpuscale_tui, sys; sys.exit(any(name in sys.modules for name in ('asyncio', 'sqlite3', 'textual')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=90).returncode == 0


def test_what_a_job_brings_and_how_it_ends(tmp_path: Path) -> None:
    """The same fields as on the command line."""
    (tmp_path / "set").mkdir()
    job = Job(
        command="true", git="https://h/x@v1", data={"set": tmp_path / "set"}, stop_signal="sigusr1", grace="2m",
        rehearse=True,
    )  # fmt: skip
    spec = job.spec(Pipeline(home=tmp_path / "home", environ={}).settings)
    assert (spec.git, spec.data) == (GitSource("https://h/x", "v1"), {"set": str(tmp_path / "set")})
    assert (spec.stop_signal, spec.grace_sec, spec.rehearse) == ("USR1", 120, True)
    work = Pipeline(home=tmp_path / "home", environ={})
    for field, wrong in (
        ("git", Job(command="true", git="ext::sh")),
        ("data", Job(command="true", data={"a": tmp_path / "nowhere"})),
        ("data", Job(command="true", data={"a": tmp_path, "A": tmp_path})),
        ("env", Job(command="true", data={"a": tmp_path}, env={"DATA_A": "mine"})),
        ("grace", Job(command="true", grace="never")),
    ):
        with pytest.raises(FieldError) as error:
            work.submit(wrong)
        assert error.value.field in {field, "max_runtime", "duration"}
