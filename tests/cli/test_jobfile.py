"""Job files: TOML and JSON Lines; all of a file is taken or nothing, and every wrong line is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import jobs
from gpuscale_tui.store.secrets import read_job_secrets
from tests.cli.conftest import Cli
from tests.store.support import Bench

TOML = """
[[jobs]]
command = "python train.py --lr {lr} | tee out"
name = "t"
gpu = "rtx4090"
gpus = 2
max_price = 0.45
priority = 1
max_runtime = "2h"
env = { A = "1", SEED = 3 }
secret = ["HIDDEN"]
workdir = "work"
market = "on-demand"
retries = 0
sweep = { lr = [1e-3, 5e-4] }

[[jobs]]
argv = ["echo", "a  b"]
gpu = "none"
max_runtime = 60
env = ["FROM_OUTSIDE", "B=2"]
sweep = ["x=1..2"]
"""


def write(tmp_path: Path, text: str, name: str = "jobs.toml") -> str:
    (tmp_path / "work").mkdir(exist_ok=True)
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def specs(bench: Bench) -> list[JobSpec]:
    return [job.spec for job in bench.read(jobs.pending)]


def test_a_toml_file(cli: Cli, bench: Bench, tmp_path: Path) -> None:
    """A command is a shell line, a directory is meant from where the file lies, sweeps expand."""
    file = write(tmp_path, TOML)
    assert cli.ids("--file", file, HIDDEN="h", FROM_OUTSIDE="o") == ["j1", "j2", "j3", "j4"]
    first, second, third, _ = specs(bench)
    assert (first.command, first.argv) == ("python train.py --lr 0.001 | tee out", ())
    assert second.command == "python train.py --lr 0.0005 | tee out"
    assert (first.gpu_type, first.gpu_count, first.max_price) == ("RTX 4090", 2, 450_000)
    assert (first.priority, first.max_runtime_sec, first.retries) == (1, 7200, 0)
    assert first.workdir == str(tmp_path / "work")
    assert {"A": "1", "SEED": "3"}.items() <= dict(first.env).items()
    assert read_job_secrets(cli.home, 1) == {"HIDDEN": "h"}
    assert (third.argv, third.gpu_type, third.max_runtime_sec) == (("echo", "a  b"), None, 60)
    assert dict(third.env) == {"FROM_OUTSIDE": "o", "B": "2", "GPUSCALE_PARAM_X": "1"}


def test_json_lines(cli: Cli, bench: Bench, tmp_path: Path) -> None:
    """One job a line; empty lines and a byte order mark do not matter."""
    text = '\ufeff{"command": "a", "priority": 2}\n\n{"argv": ["b"], "max_price": "$1.5", "max_runtime": "90m"}\n'
    assert cli.ids("--file", write(tmp_path, text, "jobs.jsonl")) == ["j1", "j2"]
    assert [spec.command for spec in specs(bench)] == ["a", None]


@pytest.mark.parametrize("text", ['{"command": "a"}\n', '[[jobs]]\ncommand = "a"\n'])
def test_stdin_says_itself_which_kind_it_is(cli: Cli, bench: Bench, text: str) -> None:
    """By its first character."""
    assert cli("submit", "--file", "-", stdin=text).stdout == "j1\n"
    assert specs(bench)[0].command == "a"


WRONG_ENTRIES = {
    "nothing to run": ("", "command: found None"),
    "two commands": ("command = 'a'\nargv = ['b']", "command: found"),
    "an unknown key": ("command = 'a'\ncomand = 'b'", "comand: found 'an unknown key'"),
    "the nearest key": ("command = 'a'\npriorty = 3", "did you mean 'priority'?"),
    "a priority": ("command = 'a'\npriority = 11", "priority: found 11; allowed is 1 (first) to 10 (last)"),
    "a priority that is text": ("command = 'a'\npriority = '3'", "priority: found '3'; allowed is a whole number"),
    "a priority that is a truth": ("command = 'a'\npriority = true", "priority: found True"),
    "a price": ("command = 'a'\nmax_price = 'x'", "max_price: found 'x'"),
    "a price that is a list": ("command = 'a'\nmax_price = [1]", "max_price: found [1]"),
    "an endless price": ("command = 'a'\nmax_price = inf", "max_price: found inf"),
    "a price below nothing": ("command = 'a'\nmax_price = -1", "max_price: found -1"),
    "a duration": ("command = 'a'\nmax_runtime = '2 x'", "max_runtime: found '2 x'"),
    "a duration of nothing": ("command = 'a'\nmax_runtime = 0", "max_runtime: found"),
    "a GPU": ("command = 'a'\ngpu = 3", "gpu: found 3"),
    "GPUs": ("command = 'a'\ngpus = 65", "gpus: found 65"),
    "GPUs without number": ("command = 'a'\ngpus = 1.5", "gpus: found 1.5"),
    "an image": ("command = 'a'\nimage = ''", "image: found ''"),
    "words": ("argv = 'a b'", "argv: found 'a b'"),
    "no words": ("argv = []", "argv: found []"),
    "a variable's name": ("command = 'a'\nenv = { '1A' = 'x' }", "env: found '1A'"),
    "a variable's value": ("command = 'a'\nenv = { A = ['x'] }", "env: found 'A with a value of another kind'"),
    "variables": ("command = 'a'\nenv = 3", "env: found"),
    "a variable that is nowhere": ("command = 'a'\nenv = ['NO_SUCH']", "env: found 'NO_SUCH'"),
    "a secret that is nowhere": ("command = 'a'\nsecret = ['NO_SUCH']", "secret: found 'NO_SUCH'"),
    "a directory": ("command = 'a'\nworkdir = 'no/such'", "workdir: found"),
    "a market": ("command = 'a'\nmarket = 'ondemand'", "did you mean 'on-demand'?"),
    "a provider": ("command = 'a'\nprovider = 'aws'", "provider: found 'aws'"),
    "retries": ("command = 'a'\nretries = -1", "retries: found -1"),
    "a sweep": ("command = 'a'\nsweep = 3", "sweep: found 3"),
    "a sweep of nothing": ("command = 'a'\nsweep = { lr = [] }", "sweep: found"),
    "a sweep of tables": ("command = 'a'\nsweep = { lr = [{}] }", "sweep: found"),
    "a checkpoint directory": ("command = 'a'\ncheckpoint_dir = '/abs'", "checkpoint_dir: found '/abs'"),
    "a NUL byte": ('command = "a\\u0000b"', "command: found"),
}


@pytest.mark.parametrize("what", WRONG_ENTRIES)
def test_a_wrong_entry_is_named_and_the_rest_is_not_submitted(cli: Cli, tmp_path: Path, what: str) -> None:
    """With the file, its number and line, the key, what was found and what is allowed."""
    body, expected = WRONG_ENTRIES[what]
    file = write(tmp_path, f"[[jobs]]\ncommand = 'good'\n\n[[jobs]]\n{body}\n")
    result = cli("submit", "--file", file)
    assert result.exit_code == 2
    assert f"{file}: job 2 (line 4): " in result.stderr
    assert expected in result.stderr
    assert "no job was submitted" in result.stderr
    assert result.stdout == ""
    assert not cli.home.database.exists()


def test_everything_that_is_wrong_is_told_in_one_pass(cli: Cli, tmp_path: Path) -> None:
    """Also two keys of one entry, and lines that are no JSON."""
    lines = [
        '{"command": "a", "priority": 0, "gpus": "x", "max_price": "y"}',
        "{nonsense",
        "[1]",
        '{"command": "good"}',
        '{"command": "a", "command": "b"}',
        '{"argv": ["\\ud800"]}',
    ]
    file = write(tmp_path, "\n".join(lines), "jobs.jsonl")
    text = cli("submit", "--file", file).stderr
    for expected in (
        "line 1: gpus: found 'x'", "line 1: max_price: found 'y'", "line 2: no valid JSON", "line 3: a job is a table",
        "line 5: no valid JSON: a key is there twice", "line 6: argv: found",
    ):  # fmt: skip
        assert f"{file}: {expected}" in text
    assert "line 4" not in text


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("jobs.toml", "[[jobs]]\ncommand = \n", "no valid TOML: Invalid value (at line 2"),
        ("jobs.toml", "", "there are no jobs in it"),
        ("jobs.jsonl", "\n\n", "there are no jobs in it"),
        ("jobs.toml", "[[job]]\ncommand = 'a'\n", "job: found an unknown key; allowed is [[jobs]]"),
        ("jobs.toml", "jobs = 3", "jobs: found a single value"),
        ("jobs.toml", "jobs = [3]", "job 1: a job is a table"),
        ("jobs.txt", '{"command": 3}', "line 1: command: found 3; allowed is text"),
        ("jobs.toml", "a = " + "[" * 20_000, "no valid TOML"),
        ("jobs.jsonl", "[" * 200_000, "line 1: no valid JSON"),
    ],
)
def test_files_that_are_no_job_files(cli: Cli, tmp_path: Path, name: str, text: str, expected: str) -> None:
    """Refused with the file's name, and where possible the line."""
    file = write(tmp_path, text, name)
    result = cli("submit", "--file", file)
    assert result.exit_code == 2
    assert f"{file}: " in result.stderr
    assert expected in result.stderr


def test_a_file_that_is_no_text(cli: Cli, tmp_path: Path) -> None:
    """The place of the first wrong byte is told."""
    path = tmp_path / "jobs.toml"
    path.write_bytes(b"[[jobs]]\ncommand = '\xff'\n")
    result = cli("submit", "--file", str(path))
    assert result.exit_code == 2
    assert "byte 20 is no UTF-8" in result.stderr


def test_a_file_of_too_many_jobs(cli: Cli, tmp_path: Path) -> None:
    """The sweeps of all entries together count."""
    file = write(tmp_path, "[[jobs]]\ncommand = 'a'\nsweep = ['x=1..6000']\n" * 2)
    result = cli("submit", "--file", file)
    assert result.exit_code == 2
    assert "found 12,000 jobs; allowed are 10,000" in result.stderr


def test_only_the_first_problems_are_told(cli: Cli, tmp_path: Path) -> None:
    """And how many more there are."""
    file = write(tmp_path, '{"priority": 0}\n' * 50, "jobs.jsonl")
    text = cli("submit", "--file", file).stderr
    assert text.count("priority") <= 21
    assert "and 30 more" in text


def test_the_values_of_secrets_are_never_repeated(cli: Cli, tmp_path: Path) -> None:
    """Not even when they stand in the wrong place."""
    file = write(
        tmp_path, '{"command": "a", "secret": "hush", "env": {"A_TOKEN": ["hush"]}, "api_key": "hush"}', "j.jsonl"
    )
    result = cli("submit", "--file", file)
    assert result.exit_code == 2
    assert "hush" not in result.output
