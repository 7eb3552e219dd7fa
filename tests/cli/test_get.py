"""`get`: what was fetched of a job's OUTPUT_DIR, copied to where its user stands."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gpuscale_tui.model.states import AttemptState, Cause, JobState
from gpuscale_tui.store import jobs, output_files
from gpuscale_tui.store.output_files import OutputRow
from tests.cli.conftest import Cli
from tests.store.support import Bench

ODD = "n\nl\x1b[31m"


@pytest.fixture
def left(cli: Cli, bench: Bench) -> Path:
    """Outputs of the first attempt of job 1, which is done."""
    attempt = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING)
    root = cli.home.outputs / "j1" / "1"
    (root / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "deep" / "weights").write_bytes(b"w" * 3_000_000)
    (root / ODD).write_bytes(b"odd")
    (root / "run.sh").write_bytes(b"#!/bin/sh\n")
    (root / "run.sh").chmod(0o711)
    (root / "inner").symlink_to("deep")
    bench.write(output_files.record, OutputRow(1, 1, bench.now, 3, 3_000_013, None))
    bench.end(attempt, Cause.FINISHED, JobState.DONE)
    return root


def test_outputs_are_copied_and_a_copy_goes_on(cli: Cli, left: Path, tmp_path: Path) -> None:
    target = tmp_path / "here"
    result = cli("get", "j1", str(target))
    assert result.exit_code == 0, result.output
    assert "3 files, 3.0 MB" in result.stderr
    assert (target / "deep" / "weights").read_bytes() == b"w" * 3_000_000
    assert (target / ODD).read_bytes() == b"odd"
    assert (target / "empty").is_dir()
    assert os.readlink(target / "inner") == "deep"  # noqa: PTH115 - the text
    assert stat.S_IMODE((target / "run.sh").stat().st_mode) == 0o711
    (target / ODD).unlink()
    before = (target / "deep" / "weights").stat()
    again = cli("get", "1", str(target))
    assert again.exit_code == 0, again.output
    assert "were there already" in again.stderr
    assert (target / "deep" / "weights").stat().st_ino == before.st_ino
    assert (target / ODD).read_bytes() == b"odd"


def test_other_files_of_the_same_name_stay(cli: Cli, left: Path, tmp_path: Path) -> None:
    (tmp_path / "j1").mkdir()
    (tmp_path / "j1" / "run.sh").write_text("mine")
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        refused = cli("get", "j1")
        assert refused.exit_code == 4
        assert "--overwrite" in refused.stderr
        assert sorted(os.listdir("j1")) == ["run.sh"]  # noqa: PTH208 - names
        assert (tmp_path / "j1" / "run.sh").read_text() == "mine"
        assert cli("get", "j1", "--overwrite").exit_code == 0
    finally:
        os.chdir(before)
    assert (tmp_path / "j1" / "run.sh").read_text() == "#!/bin/sh\n"


def test_nothing_is_written_through_a_link(cli: Cli, left: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "deep").symlink_to(tmp_path / "elsewhere")
    assert cli("get", "j1", str(tmp_path / "t"), "--overwrite").exit_code != 0
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_there_is_is_listed(cli: Cli, left: Path) -> None:
    rows = cli.json("get", "j1")
    assert {row["path"]: (row["bytes"], row["kind"]) for row in rows} == {
        "deep": (0, "directory"), "deep/weights": (3_000_000, "file"), "empty": (0, "directory"), "inner": (0, "link"),
        ODD: (3, "file"), "run.sh": (10, "file"),
    }  # fmt: skip
    listed = cli("get", "j1", "--list")
    assert "\x1b" not in listed.stdout
    assert "3,000,000" in listed.stdout


def test_the_newest_attempt_that_left_something_is_taken(cli: Cli, left: Path, bench: Bench, tmp_path: Path) -> None:
    bench.write(jobs.retry, 1, bench.now, "me")
    running = bench.advance(bench.place(1, bench.idle().id), AttemptState.STAGING, AttemptState.RUNNING)
    early = cli("get", "j1", str(tmp_path / "a"))
    assert early.exit_code == 0
    assert "what attempt 2 leaves is fetched when it ends" in early.stderr
    (cli.home.outputs / "j1" / "2").mkdir()
    (cli.home.outputs / "j1" / "2" / "second").write_bytes(b"2")
    bench.write(output_files.record, OutputRow(1, 2, bench.now, 1, 1, "not everything of OUTPUT_DIR was fetched: x"))
    bench.end(running, Cause.FINISHED, JobState.DONE)
    newest = cli("get", "j1", str(tmp_path / "b"))
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["second"]
    assert "not everything of OUTPUT_DIR was fetched" in newest.stderr
    assert "there are others of 1" in newest.stderr
    assert cli("get", "j1", str(tmp_path / "c"), "--attempt", "1").exit_code == 0
    assert (tmp_path / "c" / "run.sh").exists()


def test_why_there_is_nothing(cli: Cli, bench: Bench) -> None:
    bench.submit()
    bench.placed()
    done = bench.advance(bench.placed(), AttemptState.STAGING, AttemptState.RUNNING)
    bench.end(done, Cause.FINISHED, JobState.DONE)
    for job, words in (
        ("j1", "j1 waits"), ("j2", "j2 runs: what it writes"), ("j3", "j3 is done and left nothing"),
        ("j9", "no job j9"),
    ):  # fmt: skip
        result = cli("get", job)
        assert result.exit_code == 1
        assert words in result.stderr
    assert "attempts that did: none" in cli("get", "j3", "--attempt", "7").stderr
