"""A job file from elsewhere is data: read whole or refused, never run, never more than its cap."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpuscale_tui.cli import jobfile
from gpuscale_tui.store.home import Home
from tests.cli.conftest import CONFIG, Cli
from tests.hostile.corpus import EVIL


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command line on a home of its own."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    return Cli(Home(tmp_path / "home"), config)


FILES = {
    "python tags": "[[jobs]]\ncommand = 'x'\nimage = '!!python/object/apply:os.system [\"touch owned\"]'\n",
    "a table too deep": "[[jobs]]\ncommand = 'x'\nenv = " + "{a=" * 3000 + "1" + "}" * 3000 + "\n",
    "lists too deep": "[[jobs]]\ncommand = " + "[" * 5000 + "]" * 5000 + "\n",
    "json too deep": json.dumps({"command": "x"})[:-1] + ', "env": ' + '{"a":' * 5000 + "1" + "}" * 5000 + "}",
    "a number that is none": '{"command": "x", "max_price": NaN}',
    "infinity": '{"command": "x", "max_price": 1e999}',
    "a number without end": '{"command": "x", "priority": ' + "9" * 5000 + "}",
    "terminal codes": json.dumps({"command": "x", "name": EVIL}),
    "terminal codes in a key": json.dumps({"command": "x", EVIL: "y"}),
    "terminal codes in an image": json.dumps({"command": "x", "image": EVIL}),
    "a way out of the working directory": '{"command": "x", "checkpoint_dir": "../../etc"}',
    "an absolute way out": '{"command": "x", "checkpoint_dir": "/etc"}',
    "an environment that is ours": '{"command": "x", "env": {"GPUSCALE_JOB_ID": "j9"}}',
    "a name of the environment that is code": '{"command": "x", "env": {"A=$(touch owned);B": "1"}}',
}


@pytest.mark.parametrize("kind", FILES)
def test_a_job_file_from_elsewhere_is_refused_as_data(
    cli: Cli, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, the reason as plain text, nothing submitted, nothing run."""
    monkeypatch.chdir(tmp_path)
    text = FILES[kind]
    path = tmp_path / ("jobs.jsonl" if text.lstrip().startswith("{") else "jobs.toml")
    path.write_text(text)
    result = cli("submit", "--file", str(path))
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert not set(result.stderr) & {"\x1b", "\x07", "\x9b", "\u202e", "\u200b"}
    assert cli.json("queue", "--all") == []
    assert not (tmp_path / "owned").exists()


def test_a_job_file_has_a_cap(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so much of it is ever read, be it a file, a device or a pipe."""
    monkeypatch.setattr(jobfile, "MAX_BYTES", 2**20)
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b"#" * (2**20 + 1))
    assert "larger than 1 MiB" in cli("submit", "--file", str(path)).stderr
    assert "larger than 1 MiB" in cli("submit", "--file", "/dev/zero").stderr
    assert "larger than 1 MiB" in cli("submit", "--file", "-", stdin="#" * (2**20 + 1)).stderr
