"""Which files go along with a job."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gpuscale_tui.remote.transfer import WorkdirError, WorkdirTooLarge, select_workdir
from gpuscale_tui.remote.workdir import link_stays_inside

MIB = 1024 * 1024


def fill(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def git(root: Path, *words: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(("git", *identity, *words), cwd=root, check=True, capture_output=True)


def test_outside_git_ballast_stays(tmp_path: Path) -> None:
    fill(tmp_path, "train.py", "pkg/a.py", ".env", ".git/config", "pkg/__pycache__/a.pyc", "a.pyc", "node_modules/x/y")
    fill(tmp_path, ".venv/bin/python", "myenv/pyvenv.cfg", "myenv/lib/x.py", "p.egg-info/PKG", ".DS_Store", "é 日本\n'")
    workdir = select_workdir(tmp_path, max_bytes=MIB)
    assert workdir.files == (".env", "pkg/a.py", "train.py", "é 日本\n'")
    assert workdir.total_bytes == sum((tmp_path / name).stat().st_size for name in workdir.files)
    assert workdir.left_out == ()


def test_inside_git_what_git_would_track(tmp_path: Path) -> None:
    fill(tmp_path, ".gitignore", "tracked.py", "gone.py", "sub/tracked", "é 日本")
    (tmp_path / ".gitignore").write_text("*.ckpt\n/data/\n")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "x")
    fill(tmp_path, "untracked.py", "big.ckpt", "data/set", "__pycache__/kept-unless-ignored", "inner/file")
    (tmp_path / "gone.py").unlink()
    git(tmp_path / "inner", "init")
    names = {".gitignore", "tracked.py", "sub/tracked", "é 日本", "untracked.py", "inner/file"}
    assert set(select_workdir(tmp_path, max_bytes=MIB).files) == names | {"__pycache__/kept-unless-ignored"}
    assert select_workdir(tmp_path / "sub", max_bytes=MIB).files == ("tracked",)
    assert select_workdir(tmp_path / "data", max_bytes=MIB).files == ("set",)  # ignored as a whole, asked for by name


def test_git_variables_of_the_caller_do_not_mislead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "one", "a")
    fill(tmp_path / "two", "b")
    git(tmp_path / "one", "init")
    git(tmp_path / "two", "init")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "two" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "two"))
    assert select_workdir(tmp_path / "one", max_bytes=MIB).files == ("a",)


def test_without_git_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a", ".git/config")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert select_workdir(tmp_path, max_bytes=MIB).files == ("a",)


def test_links_and_odd_things(tmp_path: Path) -> None:
    fill(tmp_path / "w", "a", "d/b")
    for name, target in {"in": "a", "d/up": "../a", "dir": "d", "out": "/etc/passwd", "d/above": "../../x"}.items():
        (tmp_path / "w" / name).symlink_to(target)
    os.mkfifo(tmp_path / "w" / "pipe")
    workdir = select_workdir(tmp_path / "w", max_bytes=MIB)
    assert workdir.files == ("a", "d/b", "d/up", "dir", "in")
    assert workdir.left_out == ("d/above", "out", "pipe")


@pytest.mark.parametrize(
    ("name", "target", "inside"),
    [
        ("a", "b", True),
        ("d/a", "../b", True),
        ("a", "../b", False),
        ("a", "..", False),
        ("a", "/b", False),
        ("d/a", "../../b", False),
        ("a", "d/../../b", False),
        ("a", "..b", True),
        ("d/a", "..", True),
    ],
)
def test_where_links_lead(name: str, target: str, inside: bool) -> None:
    assert link_stays_inside(name, target) is inside


def test_too_large_names_size_limit_and_the_biggest(tmp_path: Path) -> None:
    fill(tmp_path, "small")
    (tmp_path / "data").mkdir()
    for name in ("x", "y"):
        (tmp_path / "data" / name).write_bytes(bytes(3 * MIB))
    (tmp_path / "model.bin").write_bytes(bytes(2 * MIB))
    with pytest.raises(
        WorkdirTooLarge, match=r"8\.0 MiB.*limit is 1\.0 MiB.*data/ 6\.0 MiB, model\.bin 2\.0 MiB.*\.gitignore"
    ):
        select_workdir(tmp_path, max_bytes=MIB)
    assert select_workdir(tmp_path, max_bytes=9 * MIB).total_bytes == 8 * MIB + 5


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuscale_tui.remote.workdir.MOST_FILES", 3)
    fill(tmp_path, "a", "b", "c")
    assert len(select_workdir(tmp_path, max_bytes=MIB).files) == 3
    fill(tmp_path, "d")
    with pytest.raises(WorkdirTooLarge, match="more than 3 files"):
        select_workdir(tmp_path, max_bytes=MIB)


def test_no_directory(tmp_path: Path) -> None:
    fill(tmp_path, "file")
    with pytest.raises(WorkdirError, match="not a directory"):
        select_workdir(tmp_path / "file", max_bytes=MIB)
    with pytest.raises(WorkdirError, match="not there"):
        select_workdir(tmp_path / "missing", max_bytes=MIB)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable(tmp_path: Path) -> None:
    fill(tmp_path, "secret", "d/x")
    (tmp_path / "secret").chmod(0)
    with pytest.raises(WorkdirError, match="secret cannot be read"):
        select_workdir(tmp_path, max_bytes=MIB)
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "d").chmod(0)
    with pytest.raises(WorkdirError, match="d cannot be read"):
        select_workdir(tmp_path, max_bytes=MIB)
    (tmp_path / "d").chmod(0o700)
