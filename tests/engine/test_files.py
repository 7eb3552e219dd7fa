"""What jobs bring to their machines and what is fetched from there, with a real engine over OpenSSH."""

from __future__ import annotations

import os
import re
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from gpuscale_tui.engine import commands, fetching
from gpuscale_tui.model.jobs import GitSource
from gpuscale_tui.store import jobs, output_files
from tests.engine.conftest import PATIENCE_SEC, Rig, until
from tests.engine.test_code import Upstream

pytestmark = pytest.mark.openssh


def brought(rig: Rig, job_id: int) -> str:
    """What the event of its command's start says was brought."""
    found = [each for each in rig.events() if each.job_id == job_id and each.to_state == "running" and each.detail]
    return found[-1].detail if found else ""


def warnings(rig: Rig, job_id: int) -> list[str]:
    return [each.detail for each in rig.events() if each.job_id == job_id and each.kind == "warning"]


def test_a_second_job_sends_nothing_and_a_change_one_file(hosts: Rig, tmp_path: Path) -> None:
    """On a machine that stays: the directory is put together there of what it was sent."""
    work = tmp_path / "work"
    work.mkdir()
    for name in ("train.py", "model.py", "data.txt"):
        (work / name).write_text(name * 100)
    hosts.submit("cat data.txt", workdir=str(work))
    hosts.drain()
    hosts.submit("cat data.txt; echo spoilt >> train.py", workdir=str(work))
    hosts.drain()
    (work / "model.py").write_text("new")
    hosts.submit("cat model.py; grep -c spoilt train.py", workdir=str(work))
    hosts.drain()
    assert [brought(hosts, job_id) for job_id in (1, 2, 3)] == [
        "working directory: 3 files, 3 of them sent, 2 KB",
        "working directory: 3 files, none of them sent, 0 B",
        "working directory: 3 files, 1 of them sent, 3 B",
    ]
    assert hosts.output(2) == b"data.txt" * 100
    assert hosts.output(3) == b"new0\n"


def test_code_by_git_is_the_same_at_each_attempt(hosts: Rig, tmp_path: Path) -> None:
    upstream = Upstream(tmp_path / "up")
    first = upstream.commit(train="print('one')")
    line = "cat train.py; exit $((GPUSCALE_ATTEMPT < 2))"
    (job_id,) = hosts.submit(line, git=GitSource(upstream.url, "trunk"))
    hosts.drain()
    upstream.commit(train="print('two')")
    hosts.command(lambda connection, user, now: jobs.retry(connection, job_id, now, user))
    hosts.drain()
    assert hosts.job(job_id).state == "done"
    assert hosts.output(job_id, 1) == hosts.output(job_id, 2) == b"print('one')"
    found = hosts.db.read(jobs.get, job_id)
    assert found is not None
    assert found.git_commit == first
    (other,) = hosts.submit("true", git=GitSource(upstream.url, "nowhere"))
    hosts.drain()
    error = hosts.job(other).error or ""
    assert hosts.job(other).state == "failed"
    assert "no branch, tag or commit 'nowhere'" in error
    assert upstream.url in error


def test_a_data_set_comes_once_and_every_job_finds_it(hosts: Rig, tmp_path: Path) -> None:
    """A directory and a single file; the second job waits for nothing and sends nothing."""
    data = tmp_path / "set"
    (data / "deep").mkdir(parents=True)
    (data / "deep" / "part 1").write_bytes(b"x" * 100_000)
    (data / "out").symlink_to("/etc/passwd")
    single = tmp_path / "it's one.txt"
    single.write_text("alone")
    sets = {"corpus": str(data), "one": str(single)}
    line = 'wc -c < "$DATA_CORPUS/deep/part 1"; cat "$DATA_ONE"; echo; echo "$DATA_CORPUS" > "$OUTPUT_DIR/place"'
    ids = hosts.submit(line, 2, data=sets, env={"HOME": "/nowhere"})
    hosts.drain(max_workers=1)
    assert [hosts.output(job_id).split() for job_id in ids] == [[b"100000", b"alone"]] * 2
    assert brought(hosts, ids[0]) == "data set corpus: 2 files, 100 KB sent; data set one: 1 files, 5 B sent"
    assert brought(hosts, ids[1]) == "data set corpus was there; data set one was there"
    assert warnings(hosts, ids[0]) == ["stays here and does not travel: data set corpus: out"]
    places = {(fetching.place_of(hosts.home, job_id, 1) / "place").read_text() for job_id in ids}
    assert len(places) == 1
    shutil.rmtree(data)
    (job_id,) = hosts.submit("true", data=sets)
    hosts.drain()
    assert re.search(r"data set corpus .* is not there any more", hosts.job(job_id).error or "")


def test_outputs_are_fetched_whatever_they_are_called(hosts: Rig) -> None:
    """Names that a terminal or a shell would take for something, and links that lead out."""
    script = r"""
        cd "$OUTPUT_DIR"; mkdir -p 'a b/c' empty; echo deep > 'a b/c/-rf'; printf 'x' > "$(printf 'n\nl\\\033[31m')"
        ln -s /etc/passwd out; ln -s ../../../.. up; ln -s 'a b/c' inner; ln -s a/../../x sly; mkfifo pipe
        echo '#!/bin/sh' > run.sh; chmod 755 run.sh
    """
    (failing,) = hosts.submit(f"{script}\nexit 3", retries=0)
    (empty,) = hosts.submit("true")
    hosts.drain()
    place = fetching.place_of(hosts.home, failing, 1)
    assert (place / "a b" / "c" / "-rf").read_text() == "deep\n"
    assert (place / "inner" / "-rf").exists()
    assert (place / "empty").is_dir()
    assert stat.S_IMODE((place / "run.sh").stat().st_mode) == 0o711
    found = {str(path.relative_to(place)) for path in place.rglob("*")}
    assert not found & {"out", "up", "sly", "pipe"}
    (row,) = hosts.db.read(output_files.of_job, failing)
    assert (row.attempt, row.error is not None) == (1, True)
    assert "3 links that lead out" in (row.error or "")
    assert "1 that are no files" in (row.error or "")
    assert warnings(hosts, failing) == [row.error]
    assert hosts.db.read(output_files.of_job, empty) == []
    assert sorted(path.name for path in hosts.home.outputs.iterdir()) == [f"j{failing}"]


def test_outputs_beyond_the_limit_are_named(hosts: Rig) -> None:
    hosts.settings = replace(hosts.settings, checkpoints=replace(hosts.settings.checkpoints, outputs_max_mb=0.01))
    line = 'cd "$OUTPUT_DIR"; head -c 9000 /dev/zero > large; echo 1 > small; head -c 2000 /dev/zero > mid'
    (job_id,) = hosts.submit(line)
    hosts.drain()
    place = fetching.place_of(hosts.home, job_id, 1)
    assert sorted(os.listdir(place)) == ["mid", "small"]  # noqa: PTH208 - names
    (row,) = hosts.db.read(output_files.of_job, job_id)
    assert (row.files, row.bytes) == (2, 2002)
    assert "1 files (9 KB) beyond 10 KB (outputs_max_mb), such as 'large'" in (row.error or "")
    assert hosts.job(job_id).state == "done"


def test_a_job_that_is_cancelled_need_not_bring_its_data_first(hosts: Rig, tmp_path: Path) -> None:
    """Its attempt ends while files are read; the thread that reads them ends as well."""
    large = tmp_path / "large"
    large.write_bytes(b"")
    os.truncate(large, 1 << 42)  # hours to read; a hole takes no room
    (job_id,) = hosts.submit("true", data={"set": str(large)})
    with hosts.engine() as engine:
        until(lambda: hosts.job(job_id).state == "running")
        until(lambda: [each for each in hosts.events() if each.to_state == "staging"])
        hosts.command(commands.cancel, [job_id])
        until(lambda: hosts.job(job_id).state == "cancelled")
        engine.stop(at_once=True)
        assert engine.wait(PATIENCE_SEC)
