"""Templates: job files in the package that are right as they are, and copies of them with what a user wants."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.cli.jobfile import read_jobs
from gpuscale_tui.cli.jobspecs import Surroundings
from gpuscale_tui.cli.template import names, text_of
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.model.settings import Settings
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]


def spec(path: Path) -> JobSpec:
    """The one job of a file, as `submit --file` reads it."""
    [found] = read_jobs(str(path), Surroundings(Settings(), os.environ, path.parent, "tester"))
    return found


def job(path: Path) -> dict[str, Any]:
    """The one job of a file, as it is written."""
    [found] = tomllib.loads(path.read_text())["jobs"]
    return dict(found)


def test_the_list_names_each_and_what_it_does(cli: Cli) -> None:
    """One line a template, without its own name twice."""
    lines = cli("template", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == names() == ["nanogpt", "pytorch", "shell"]
    assert lines[1].split(maxsplit=1)[1].startswith("the shortest training")


@pytest.mark.parametrize("name", names())
def test_each_is_a_valid_job_as_it_is(cli: Cli, tmp_path: Path, name: str) -> None:
    """What is shown is what is written, and what submit takes; shells find nothing wrong with its command."""
    target = tmp_path / f"{name}.toml"
    assert cli("template", "new", name, str(target)).exit_code == 0
    assert target.read_text() == cli("template", "show", name).stdout == text_of(name)
    found = spec(target)
    assert (found.name, found.gpu_type) == (name, None)
    if found.command is not None:
        subprocess.run(["sh", "-n", "-c", found.command], check=True)
    else:
        compile(found.argv[3], name, "exec")
    [submitted] = cli.ids("--file", str(target))
    assert submitted == "j1"


def test_options_fill_their_places(cli: Cli, tmp_path: Path) -> None:
    """Every option, with values that have to be quoted; comments stay."""
    text = tmp_path / 'all "works" of Shakespeare.txt'
    text.write_text("To be")
    target = tmp_path / "mine.toml"
    done = cli(
        "template", "new", "nanogpt", str(target), "--size", "small", "--steps", "300", "--save-every", "50", "--gpu",
        "RTX 3090", "--max-price", "0.4", "--git", "file:///srv/nanoGPT@main", "--data", str(text), "--python",
        "/opt/py thon", "--rehearse",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = spec(target)
    assert (found.name, found.gpu_type, found.max_price, found.rehearse) == ("nanogpt-small", "RTX 3090", 400_000, True)
    assert found.git is not None
    assert (found.git.label, dict(found.data)) == ("file:///srv/nanoGPT@main", {"shakespeare": str(text)})
    wanted = {"SIZE": "small", "STEPS": "300", "SAVE_EVERY": "50", "PYTHON": "/opt/py thon"}
    assert wanted.items() <= dict(found.env).items()
    assert "# ends after so many" in target.read_text()
    assert job(target)["command"] == tomllib.loads(text_of("nanogpt"))["jobs"][0]["command"]


@pytest.mark.parametrize(("size", "gpu"), [("tiny", None), ("medium", "RTX 4090"), ("large", "RTX 4090")])
def test_a_large_model_asks_for_a_gpu(cli: Cli, tmp_path: Path, size: str, gpu: str | None) -> None:
    """Unless its user names another, or none."""
    target, second = tmp_path / "a.toml", tmp_path / "b.toml"
    assert cli("template", "new", "nanogpt", str(target), "--size", size).exit_code == 0
    assert spec(target).gpu_type == gpu
    assert cli("template", "new", "nanogpt", str(second), "--size", size, "--gpu", "none", "--name", "x").exit_code == 0
    assert (spec(second).gpu_type, spec(second).name) == (None, "x")


def test_what_cannot_be_written_is_refused(cli: Cli, tmp_path: Path) -> None:
    """A file that is there, a template that is not, an option without a place, a value that submit would not take."""
    target = tmp_path / "shell.toml"
    target.write_text("mine")
    done = cli("template", "new", "shell", str(target))
    assert (done.exit_code, target.read_text()) == (4, "mine")
    assert "exists" in done.stderr
    done = cli("template", "new", "nanogpd")
    assert done.exit_code == 1
    assert "nanogpt" in done.stderr
    other = str(tmp_path / "other.toml")
    done = cli("template", "new", "shell", other, "--size", "tiny")
    assert done.exit_code == 2
    assert "--size: this template has no place for it" in done.stderr
    assert cli("template", "new", "nanogpt", other, "--data", str(tmp_path / "nowhere")).exit_code == 2
    assert cli("template", "new", "nanogpt", other, "--git", "ext::sh -c true").exit_code == 2
    assert not Path(other).exists()


def test_the_wheel_has_them(tmp_path: Path) -> None:
    """They are data of the package."""
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    if "No module named 'hatchling'" in done.stderr:
        pytest.skip("hatchling is not installed")
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    assert {f"gpuscale_tui/templates/{name}.toml" for name in names()} <= set(inside)
