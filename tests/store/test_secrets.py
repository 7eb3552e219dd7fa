"""Secrets of jobs: in 0600 files, whole or not there, and gone when they are dropped."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gpuscale_tui.store.home import Home
from gpuscale_tui.store.opening import StoreError
from gpuscale_tui.store.secrets import drop_job_secrets, read_job_secrets, write_job_secrets

VALUES = {"HF_TOKEN": "hunter2", "OTHER_KEY": 'üb\n"er'}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_secrets_come_back_and_are_private_whatever_the_umask(home: Home) -> None:
    previous = os.umask(0)
    try:
        write_job_secrets(home, 17, VALUES)
    finally:
        os.umask(previous)
    assert read_job_secrets(home, 17) == VALUES
    (file,) = home.secrets.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o700
    assert file.name == "j17.json"


def test_writing_again_replaces(home: Home) -> None:
    write_job_secrets(home, 17, VALUES)
    write_job_secrets(home, 17, {"A_KEY": "b"})
    write_job_secrets(home, 18, VALUES)
    assert read_job_secrets(home, 17) == {"A_KEY": "b"}
    assert read_job_secrets(home, 18) == VALUES


def test_a_job_without_secrets_has_none(home: Home) -> None:
    assert read_job_secrets(home, 17) == {}
    drop_job_secrets(home, 17)
    write_job_secrets(home, 17, VALUES)
    drop_job_secrets(home, 17)
    drop_job_secrets(home, 17)
    assert read_job_secrets(home, 17) == {}
    assert list(home.secrets.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b'"text"'])
def test_a_damaged_file_is_named_without_its_content(home: Home, content: bytes) -> None:
    write_job_secrets(home, 17, VALUES)
    (home.secrets / "j17.json").write_bytes(content)
    with pytest.raises(StoreError, match="secrets of j17 cannot be read: submit it again"):
        read_job_secrets(home, 17)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(home: Home, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    write_job_secrets(home, 17, VALUES)

    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, step, full)
        if step == "replace":
            patched.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            write_job_secrets(home, 17, {"A": "b"})
    assert read_job_secrets(home, 17) == VALUES
    assert [file.name for file in home.secrets.iterdir()] == ["j17.json"], "no half-written secret stays behind"
