"""Data sets on a machine: brought once, given to many, in the room that there is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gpuscale_tui.remote import datasets
from gpuscale_tui.remote.attempts import AttemptRef, prepare, remove
from gpuscale_tui.remote.datasets import data_directory, give, make_room
from gpuscale_tui.remote.errors import LaunchRefused, TransferError
from gpuscale_tui.remote.launch import Launch
from gpuscale_tui.remote.transfer import local_tree, put_tree
from tests.remote.conftest import Site, run
from tests.remote.test_transfer import make_tree, read_tree

REF = AttemptRef(".gpuscale/ab12cd", "j17-1")
ONE, TWO, THREE = ("1" * 40, "2" * 40, "3" * 40)
ODD = "it's a $(file) \\ é"


async def test_jobs_find_what_was_brought_and_cannot_change_it(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    contents = make_tree(tmp_path / "s", ("deep/er/file", "top"))
    (tmp_path / ODD).write_bytes(b"alone")
    assert not await make_room(machine, REF.base, ONE, 1000)
    await put_tree(machine, f"{data_directory(REF.base)}/{ONE}", local_tree(tmp_path / "s", tuple(contents)))
    await put_tree(machine, f"{data_directory(REF.base)}/{TWO}", local_tree(tmp_path, (ODD,)))
    assert await make_room(machine, REF.base, ONE, 1000)
    for ref in (REF, AttemptRef(REF.base, "j18-1")):
        await prepare(machine, ref)
        await give(machine, ref, {"DATA_SET": ONE, "DATA_ALONE": f"{TWO}/{ODD}"})
        line = 'cat "$DATA_SET/deep/er/file"; printf "\\n%s\\n" "$HOME"; cat "$DATA_ALONE"; echo "$DATA_SET"'
        _, output = await run(machine, ref, Launch(command=line, env={"HOME": "/other"}))
        place = site.home / data_directory(REF.base) / ONE
        assert output == contents["deep/er/file"] + f"\n/other\nalone{place}\n".encode()
        await remove(machine, ref)
    assert read_tree(place) == contents
    assert all(not stat.S_IMODE(path.stat().st_mode) & 0o222 for path in (place, *place.rglob("*")))


async def test_the_oldest_makes_room(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk of which only a file system of its own would know the size: here what is free is said by a program."""
    machine = await site.connect()
    make_tree(tmp_path / "s", ("f",))
    assert not await make_room(machine, REF.base, ONE, 0)
    top = site.home / data_directory(REF.base)
    for age, digest in enumerate((TWO, ONE)):
        await put_tree(machine, f"{data_directory(REF.base)}/{digest}", local_tree(tmp_path / "s", ("f",)))
        await give(machine, await prepared(site, f"j{age}-1"), {"DATA_F": digest})
        os.utime(top / digest, (1000 + age, 1000 + age))
    free = 'df() { set -- [0-9]*; echo head; echo "fs 9 9 $((900000-$#*300000)) 9 /"; }\nfree() {'
    monkeypatch.setattr(datasets, "ROOM", datasets.ROOM.replace("free() {", free))
    assert not await make_room(machine, REF.base, THREE, 100_000_000)  # two lie there: 300,000 KiB are free
    assert sorted(path.name for path in top.iterdir()) == [ONE]
    with pytest.raises(TransferError, match=r"of 0\.8 GB has no room there: 0\.6 GB are free"):
        await make_room(machine, REF.base, THREE, 500_000_000, beside=(ONE,))
    assert sorted(path.name for path in top.iterdir()) == [ONE]
    assert await make_room(machine, REF.base, ONE, 10**15)


async def prepared(site: Site, name: str) -> AttemptRef:
    ref = AttemptRef(REF.base, name)
    await prepare(await site.connect(), ref)
    return ref


async def test_what_cannot_be_given_is_refused(site: Site) -> None:
    machine = await site.connect()
    await prepare(machine, REF)
    with pytest.raises(TransferError, match="not there"):
        await give(machine, REF, {"DATA_X": ONE})
    with pytest.raises(LaunchRefused):
        await give(machine, REF, {"DATA-X": ONE})
    for wrong in ("../j17-1", "x", "1" * 39, ""):
        with pytest.raises(ValueError, match="names no data set"):
            await make_room(machine, REF.base, wrong, 1)
    assert not (site.home / REF.directory / "given").exists()
