"""A job's tree put together on its machine of what that was sent before."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gpuscale_tui.remote import cache
from gpuscale_tui.remote.cache import Sent, put_cached
from gpuscale_tui.remote.errors import TransferError
from gpuscale_tui.remote.transfer import local_tree
from gpuscale_tui.remote.tree import TreeFile
from tests.remote.conftest import SLOW_SITES, Site
from tests.remote.test_transfer import NAMES, make_tree, read_tree

BASE = ".gpuscale/ab12cd"
CACHE = f"{BASE}/cache"
ODD = ("a\nb", "back\\slash", "\x1b[31m", "=x", "%41", "-n", "q/\udcff\udc80")


def hashed(root: Path, names: Sequence[str]) -> tuple[TreeFile, ...]:
    return tuple(
        replace(file, sha256=hashlib.sha256(file.source.read_bytes()).hexdigest()) if file.source else file
        for file in local_tree(root, names)
    )


def job(number: int) -> str:
    return f"{BASE}/j{number}-1/work"


def inodes(root: Path) -> set[int]:
    return {path.stat().st_ino for path in root.rglob("*") if path.is_file()}


async def test_nothing_is_sent_twice_and_one_changed_file_alone(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    source, names = tmp_path / "s", (*NAMES, *ODD)
    contents = make_tree(source, names)
    (source / "run.sh").write_bytes(b"#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "copy.sh").write_bytes(b"#!/bin/sh\n")  # the same content, not to be run
    (source / "deep" / "link").symlink_to("../run.sh")
    (source / "empty").mkdir(mode=0o750)
    names = (*names, "run.sh", "copy.sh", "deep/link", "empty")
    contents |= {"run.sh": b"#!/bin/sh\n", "copy.sh": b"#!/bin/sh\n", "deep/link": b"#!/bin/sh\n"}

    first = await put_cached(machine, CACHE, job(1), hashed(source, names))
    assert first.bytes == sum(len(data) for data in {*contents.values()}) + len(b"#!/bin/sh\n")
    assert await put_cached(machine, CACHE, job(2), hashed(source, names)) == Sent(0, 0)
    (source / "plain.txt").write_bytes(b"changed")
    assert await put_cached(machine, CACHE, job(3), hashed(source, names)) == Sent(1, 7)

    for number in (1, 2, 3):
        place = site.home / job(number)
        wanted = contents if number < 3 else {**contents, "plain.txt": b"changed"}
        assert read_tree(place) == wanted
        assert stat.S_IMODE((place / "run.sh").stat().st_mode) == 0o755
        assert str((place / "deep" / "link").readlink()) == "../run.sh"
        assert (place / "empty").is_dir()
        assert list((site.home / CACHE).glob("*.*")) == []
    assert not inodes(site.home / job(1)) & inodes(site.home / job(2))
    assert not inodes(site.home / job(1)) & inodes(site.home / CACHE)


async def test_equal_files_of_one_tree_are_two(site: Site, tmp_path: Path) -> None:
    """A copy that kept hard links would make of all empty files of a package one."""
    machine = await site.connect()
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"")
    assert await put_cached(machine, CACHE, job(1), hashed(tmp_path, ("a", "b", "c"))) == Sent(1, 0)
    assert len(inodes(site.home / job(1))) == 3


async def test_what_a_job_writes_reaches_nobody_else(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    (tmp_path / "train.py").write_bytes(b"print(1)")
    files = hashed(tmp_path, ("train.py",))
    await put_cached(machine, CACHE, job(1), files)
    with (site.home / job(1) / "train.py").open("ab") as file:
        file.write(b"; spoilt")
    assert await put_cached(machine, CACHE, job(2), files) == Sent(0, 0)
    assert (site.home / job(2) / "train.py").read_bytes() == b"print(1)"


async def test_a_spoilt_object_is_sent_again(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    contents = make_tree(tmp_path / "s", ("one", "two"))
    files = hashed(tmp_path / "s", ("one", "two"))
    await put_cached(machine, CACHE, job(1), files)
    for kept in (site.home / CACHE / "objects").rglob(f"{files[0].sha256}*"):
        data = bytearray(kept.read_bytes() or b"x")
        data[0] ^= 1
        kept.write_bytes(data)
    assert (await put_cached(machine, CACHE, job(2), files)).files == 1
    assert await put_cached(machine, CACHE, job(3), files) == Sent(0, 0)
    assert read_tree(site.home / job(2)) == read_tree(site.home / job(3)) == contents


async def test_what_was_cut_short_is_taken_for_nothing(site: Site, tmp_path: Path) -> None:
    """Objects that came in part, structures and parts of trees that a dead connection has left."""
    machine = await site.connect()
    contents = make_tree(tmp_path / "s", ("one", "two"))
    files = hashed(tmp_path / "s", ("one", "two"))
    await put_cached(machine, CACHE, job(1), files)
    pack = next((site.home / CACHE / "objects").iterdir())
    for kept in pack.iterdir():
        kept.write_bytes(kept.read_bytes()[:-1])
    pack.rename(site.home / CACHE / "incoming" / pack.name)
    for name in ("hard.0", "soft.0"):
        (site.home / CACHE / name).mkdir()
        os.utime(site.home / CACHE / name, (1, 1))
    assert (await put_cached(machine, CACHE, job(1), files)).files == 2
    assert read_tree(site.home / job(1)) == contents
    assert sorted(path.name for path in (site.home / CACHE).iterdir()) == ["incoming", "objects"]
    assert list((site.home / CACHE / "incoming").iterdir()) == []


async def test_several_at_once(site: Site, tmp_path: Path) -> None:
    """The same tree, and one that shares half of it, for four jobs at the same time."""
    machine = await site.connect()
    contents = make_tree(tmp_path / "s")
    trees = [NAMES, NAMES, NAMES[:4], NAMES[2:]]
    await asyncio.gather(
        *(put_cached(machine, CACHE, job(number), hashed(tmp_path / "s", names)) for number, names in enumerate(trees))
    )
    for number, names in enumerate(trees):
        assert read_tree(site.home / job(number)) == {name: contents[name] for name in names}


async def test_the_oldest_goes_first(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    sent = []
    for number in range(4):
        (tmp_path / "big").write_bytes(os.urandom(400_000))
        sent.append(hashed(tmp_path, ("big",)))
        await put_cached(machine, CACHE, job(number), sent[-1], keep_bytes=1_000_000)
        for place in (site.home / CACHE / "objects").iterdir():  # a second later
            times = place.stat()
            os.utime(place, (times.st_atime - 60, times.st_mtime - 60))
    kept = [path.name[:64] for path in (site.home / CACHE / "objects").glob("*/*")]
    assert sorted(kept) == sorted(files[0].sha256 for files in sent[2:])


async def test_a_tree_larger_than_the_cache_is_put_together_all_the_same(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    contents = make_tree(tmp_path / "s")
    await put_cached(machine, CACHE, job(1), hashed(tmp_path / "s", NAMES), keep_bytes=0)
    assert read_tree(site.home / job(1)) == contents


@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
async def test_a_machine_that_cannot_link_is_sent_everything(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = await site.connect()
    contents = make_tree(tmp_path / "s")
    files = hashed(tmp_path / "s", NAMES)
    await put_cached(machine, CACHE, job(1), files)
    monkeypatch.setattr(cache, "ASSEMBLE", "echo gpuscale:begin\nexit 1")
    assert (await put_cached(machine, CACHE, job(2), files)).files == len({file.sha256 for file in files})
    assert read_tree(site.home / job(2)) == contents


@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
async def test_hostile_trees_are_refused(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    link = TreeFile("l", "link", target="../../out")
    for file in (link, TreeFile("../up", "directory"), TreeFile("p", "other"), TreeFile(cache.USED, "directory")):
        with pytest.raises(TransferError):
            await put_cached(machine, CACHE, job(1), [file])
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(ValueError, match="hash"):
        await put_cached(machine, CACHE, job(1), local_tree(tmp_path, ("f",)))
    assert not (site.home / BASE).exists()


async def test_what_the_machine_claims_is_not_believed() -> None:
    one = TreeFile("one", sha256="1" * 64, size=3, mode=0o644)
    name, pack = f"{'1' * 64}-644", "a" * 32
    lines = [
        f"{'2' * 64}  {pack}/{name}", f"{'1' * 64}  ../../{pack}/{name}", f"{'1' * 64}  {pack}/{'3' * 64}-644",
        "x" * 9999, f"{'1' * 64}  {pack}/{'1' * 64}-777",
    ]  # fmt: skip
    assert list(cache._held(lines, {name: one}, hashed=True)) == []
    assert list(cache._held([f"{'1' * 64}  {pack}/{name}"], {name: one}, hashed=True)) == [(name, pack)]
    assert list(cache._held([f"4 {pack}/{name}", f"   3 {pack}/{name}"], {name: one}, hashed=False)) == [(name, pack)]
