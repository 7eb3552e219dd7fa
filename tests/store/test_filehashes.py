"""Hashes of local files are remembered, and never believed of a file that has changed."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from gpuscale_tui.store import filehashes
from gpuscale_tui.store.filehashes import ChangedFile, hashes

OLD_NS = 1_600_000_000_000_000_000


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a test are as old as they need to be."""
    monkeypatch.setattr(filehashes, "SETTLED_NS", -1_000_000_000_000)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    memory, names = tmp_path / "memory", [tmp_path / "a", tmp_path / "b\udcff\n"]
    for name in names:
        name.write_bytes(b"x" * 5000)
    told: list[int] = []
    wanted = dict.fromkeys(names, digest(b"x" * 5000))
    assert hashes(memory, names, told=told.append) == wanted
    assert told == [5000, 10_000]
    assert hashes(memory, names, told=told.append) == wanted
    assert told == [5000, 10_000]
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600


def test_a_change_is_seen_though_size_and_time_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    os.utime(file, ns=(OLD_NS, OLD_NS))
    assert hashes(tmp_path / "m", [file]) == {file: digest(b"one")}
    file.write_bytes(b"two")
    os.utime(file, ns=(OLD_NS, OLD_NS))
    assert hashes(tmp_path / "m", [file]) == {file: digest(b"two")}
    other = tmp_path / "b"
    other.write_bytes(b"six")
    os.utime(other, ns=(OLD_NS, OLD_NS))
    other.replace(file)
    assert hashes(tmp_path / "m", [file]) == {file: digest(b"six")}


def test_a_file_of_this_moment_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filehashes, "SETTLED_NS", 3600 * 1_000_000_000)
    (tmp_path / "a").write_bytes(b"one")
    told: list[int] = []
    for _ in range(2):
        hashes(tmp_path / "m", [tmp_path / "a"], told=told.append)
    assert told == [3, 3]


def test_a_file_that_changes_while_it_is_read_has_no_hash(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    with pytest.raises(ChangedFile):
        hashes(tmp_path / "m", [file], told=lambda _: file.write_bytes(b"more") and None)
    (tmp_path / "l").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        hashes(tmp_path / "m", [tmp_path / "l"])


def test_a_spoilt_memory_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "m").write_bytes(b"no database" * 1000)
    assert hashes(tmp_path / "m", [tmp_path / "a"]) == {tmp_path / "a": digest(b"one")}
    assert (tmp_path / "m").read_bytes()[:6] == b"SQLite"
    assert hashes(tmp_path / "nowhere" / "m", [tmp_path / "a"]) == {tmp_path / "a": digest(b"one")}


def test_it_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filehashes, "MOST_FILES", 3)
    files = [tmp_path / f"f{number}" for number in range(8)]
    for file in files:
        file.write_bytes(b"")
    told: list[int] = []
    hashes(tmp_path / "m", files)
    for file in files:
        file.write_bytes(b"y")
    hashes(tmp_path / "m", files[:3], told=told.append)
    hashes(tmp_path / "m", files[:3], told=told.append)
    assert told == [1, 2, 3]
