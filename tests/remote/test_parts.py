"""Large files come in parts, go on where they were cut, and are never taken for whole when they are not."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.remote import assembly, download, parts
from gpuscale_tui.remote.assembly import in_parts
from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import RemoteError, TransferError, Unreachable
from gpuscale_tui.remote.extents import covered, merged, missing, reach
from gpuscale_tui.remote.transfer import get_files, list_tree
from gpuscale_tui.remote.tree import RemoteFile
from tests.remote.conftest import SLOW_SITES, Site, until
from tests.remote.proxy import proxying
from tests.remote.test_hostile import Liar, lying

MIB = 1024 * 1024
SIZE = 12 * MIB + 345
ROOM = {"max_bytes": 64 * MIB, "timeout_sec": 120.0}
CHILD = """
import asyncio, sys
from pathlib import Path
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.remote import download, parts
from gpuscale_tui.remote.connection import connect
from gpuscale_tui.remote.transfer import get_files, list_tree
download.LARGE_BYTES = parts.PART_BYTES = 1024 * 1024
key, host, port, user, place = sys.argv[1:]
async def main():
    machine = await connect(Endpoint(host, int(port), user), client_key=Path(key))
    files = await list_tree(machine, "ck")
    place_ = Path(place)
    await get_files(machine, "ck", files, place_ / "t1", parts=place_ / "parts", max_bytes=10**9, timeout_sec=120)
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large here, and the parts of it."""
    monkeypatch.setattr(download, "LARGE_BYTES", MIB)
    monkeypatch.setattr(parts, "PART_BYTES", MIB)


def make_large(site: Site, name: str = "model", size: int = SIZE, seed: int = 1) -> bytes:
    data = random.Random(seed).randbytes(size)
    (site.home / "ck").mkdir(exist_ok=True)
    (site.home / "ck" / name).write_bytes(data)
    return data


async def listed(machine: Machine) -> list[RemoteFile]:
    return [file for file in await list_tree(machine, "ck") if file.kind == "file"]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
async def test_a_large_file_comes_in_parts(site: Site, tmp_path: Path, kept: bool) -> None:
    machine = await site.connect()
    contents = {"odd\n\\name": make_large(site, "odd\n\\name"), "small": make_large(site, "small", 1000)}
    contents["exact"] = make_large(site, "exact", 2 * MIB)
    told: list[int] = []
    place = tmp_path / "parts" if kept else None
    files = await listed(machine)
    fetched = await get_files(machine, "ck", files, tmp_path / "t", parts=place, **ROOM, progress=told.append)
    assert {file.path: (file.sha256, file.changed) for file in fetched} == {
        name: (hashlib.sha256(data).hexdigest(), False) for name, data in contents.items()
    }
    assert {path.name: path.read_bytes() for path in (tmp_path / "t").iterdir()} == contents
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (tmp_path / "t").iterdir())
    assert told == sorted(told)
    assert told[-1] == sum(map(len, contents.values()))
    assert not kept or list((tmp_path / "parts").iterdir()) == []


@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
async def test_after_a_cut_it_goes_on_where_it_was(site: Site, tmp_path: Path) -> None:
    data = make_large(site)
    async with proxying(site.endpoint.port) as proxy:
        torn = 0
        for cut in (4 * MIB, 5 * MIB, None):
            machine = await site.connect(port=proxy.port)
            files = await listed(machine)
            proxy.down, proxy.cut_down = 0, cut
            try:
                fetched = await get_files(machine, "ck", files, tmp_path / f"t{torn}", parts=tmp_path / "parts", **ROOM)
            except Unreachable:
                torn += 1
    assert torn == 2
    assert fetched[0].sha256 == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "t2" / "model").read_bytes() == data
    # nine MiB came before; each of up to three parts that were cut begins again at its last whole MiB, twice
    assert proxy.down < SIZE - MIB


async def test_a_fetch_that_was_killed_goes_on(dash_site: Site, tmp_path: Path) -> None:
    data = make_large(dash_site)
    key = str(dash_site.client_key)
    async with proxying(dash_site.endpoint.port) as proxy:
        words = (key, "127.0.0.1", str(proxy.port), dash_site.endpoint.user, str(tmp_path))
        child = subprocess.Popen([sys.executable, "-c", CHILD, *words])  # noqa: ASYNC220 - looked at, not waited for
        try:
            while proxy.down < 8 * MIB:
                assert child.poll() is None
                await asyncio.sleep(0.002)
            proxy.held = True  # so that it cannot end before it is killed
            await until(lambda: _kept(tmp_path / "parts") >= 2 * MIB, "parts to be noted")
        finally:
            child.kill()
            child.wait()
        proxy.cut()
        proxy.held = False
        came = _kept(tmp_path / "parts")
        assert came >= 2 * MIB
        machine = await dash_site.connect(port=proxy.port)
        files = await listed(machine)
        proxy.down = 0
        fetched = await get_files(machine, "ck", files, tmp_path / "t2", parts=tmp_path / "parts", **ROOM)
    assert fetched[0].sha256 == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "t2" / "model").read_bytes() == data
    assert proxy.down < SIZE - came + 4 * MIB


def _kept(place: Path) -> int:
    """How many bytes the journal says have arrived."""
    journals = list(place.glob("*.journal"))
    lines = journals[0].read_text().split("\n")[1:-1] if journals else []
    return covered((int(start), int(end)) for start, end in (line.split() for line in lines))


async def test_parts_of_another_file_are_not_used(dash_site: Site, tmp_path: Path) -> None:
    """Same name and size, written anew; and a journal that somebody scribbled in."""
    make_large(dash_site)
    machine = await dash_site.connect()
    (file,) = await listed(machine)
    place = tmp_path / "parts"
    with_some = in_parts(place, file.path, file.size, file.stamp)
    with_some.write(0, [b"x" * (3 * MIB)])
    with_some.note(0, 3 * MIB)
    with_some.close()
    again = in_parts(place, file.path, file.size, file.stamp)
    assert again.arrived == [(0, 3 * MIB)]
    again.close()
    data = make_large(dash_site, seed=2)
    (file,) = await listed(machine)
    (await asyncio.to_thread(in_parts, place, "other", 5, "stamp")).close()
    fetched = await get_files(machine, "ck", [file], tmp_path / "t", parts=place, **ROOM)
    assert fetched[0].sha256 == hashlib.sha256(data).hexdigest()
    assert list(place.iterdir()) == []


async def test_a_journal_after_a_restart_of_this_computer_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for boot, arrived in (("one", []), ("one", [(0, 5)]), ("two", []), ("two", [(0, 5)])):
        (tmp_path / "boot").write_text(boot)
        monkeypatch.setattr(assembly, "BOOT_ID", tmp_path / "boot")
        place = in_parts(tmp_path / "parts", "a", 10, "stamp")
        assert place.arrived == arrived
        place.write(0, [b"hello"])
        place.note(0, 5)
        place.close()
    (journal,) = (tmp_path / "parts").glob("*.journal")
    journal.write_bytes(journal.read_bytes() + b"nonsense\n5 99\n-1 4\n6 8\n9 1")
    place = in_parts(tmp_path / "parts", "a", 10, "stamp")
    assert place.arrived == []  # it would reach beyond the data that is there
    place.close()


async def test_two_fetches_do_not_share_their_parts(dash_site: Site, tmp_path: Path) -> None:
    make_large(dash_site)
    machine = await dash_site.connect()
    (file,) = await listed(machine)
    other = in_parts(tmp_path / "parts", file.path, file.size, file.stamp)
    with pytest.raises(TransferError, match="somebody else"):
        await get_files(machine, "ck", [file], tmp_path / "t", parts=tmp_path / "parts", **ROOM)
    other.close()
    await get_files(machine, "ck", [file], tmp_path / "u", parts=tmp_path / "parts", **ROOM)


@pytest.mark.parametrize("how", ["shorter", "gone", "longer", "replaced", "link", "pipe"])
async def test_a_large_file_that_changes_meanwhile(dash_site: Site, tmp_path: Path, how: str) -> None:
    data = make_large(dash_site)
    make_large(dash_site, "steady")
    machine = await dash_site.connect()
    files = await listed(machine)
    path = dash_site.home / "ck" / "model"
    if how in {"shorter", "longer"}:
        os.truncate(path, SIZE + (5 if how == "longer" else -5 * MIB))
    else:
        path.unlink()
    if how == "replaced":
        path.write_bytes(data)
    elif how == "link":
        path.symlink_to("steady")
    elif how == "pipe":
        os.mkfifo(path)
    fetched = await get_files(machine, "ck", files, tmp_path / "t", parts=tmp_path / "p", **ROOM)
    assert {file.path: file.changed for file in fetched} == {"model": True, "steady": False}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a full disk does it: a write beyond fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_here_is_named(dash_site: Site, tmp_path: Path) -> None:
    data = make_large(dash_site)
    machine = await dash_site.connect()
    files = await listed(machine)
    with files_of_at_most(5 * MIB + 7), pytest.raises(OSError, match=str(tmp_path)) as raised:
        await get_files(machine, "ck", files, tmp_path / "t", parts=tmp_path / "p", **ROOM)
    assert raised.value.errno == errno.EFBIG
    fetched = await get_files(machine, "ck", files, tmp_path / "u", parts=tmp_path / "p", **ROOM)
    assert fetched[0].sha256 == hashlib.sha256(data).hexdigest()


async def test_a_cancelled_fetch_leaves_nothing_open(dash_site: Site, tmp_path: Path) -> None:
    make_large(dash_site)
    machine = await dash_site.connect()
    files = await listed(machine)
    came = asyncio.Event()
    task = asyncio.create_task(
        get_files(
            machine, "ck", files, tmp_path / "t", parts=tmp_path / "p", **ROOM, progress=lambda n: n and came.set()
        )
    )
    await came.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not _open_below(tmp_path), "its files to be closed")


def _open_below(place: Path) -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue
    return [path for path in found if path.startswith((str(place / "t"), str(place / "p")))]


async def test_a_machine_that_sends_more_than_was_asked_for(
    client_key: Path, host_key: asyncssh.SSHKey, tmp_path: Path
) -> None:
    liar = Liar(flood="stdout")
    async with lying(liar, client_key, host_key) as machine:
        with pytest.raises(TransferError, match="more of"):
            await get_files(machine, "ck", [RemoteFile("a", SIZE, 0, "file")], tmp_path / "t", **ROOM)
    assert liar.sent < 200 * MIB
    assert _bytes_below(tmp_path) <= SIZE + 2**16


def _bytes_below(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*"))


@pytest.mark.parametrize("wrong", [SIZE - 1, 0])
async def test_room_is_looked_at_before_a_byte_comes(dash_site: Site, tmp_path: Path, wrong: int) -> None:
    make_large(dash_site)
    machine = await dash_site.connect()
    with pytest.raises(TransferError, match="does not fit"):
        await get_files(machine, "ck", await listed(machine), tmp_path / "t", max_bytes=wrong, timeout_sec=60)


async def test_silence_and_a_lost_line_end_it(client_key: Path, host_key: asyncssh.SSHKey, tmp_path: Path) -> None:
    async with lying(Liar(status=None), client_key, host_key) as machine:
        with pytest.raises(RemoteError, match="took over"):
            await get_files(
                machine, "ck", [RemoteFile("a", SIZE, 0, "file")], tmp_path / "t", max_bytes=SIZE, timeout_sec=0.5
            )


EXTENTS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=8)


@given(EXTENTS, st.integers(0, 200), st.integers(1, 20), st.integers(1, 4))
def test_missing_pieces_and_those_that_are_there_make_the_whole(
    extents: list[tuple[int, int]], size: int, grain: int, times: int
) -> None:
    there = [(start, min(end, size)) for start, end in extents]
    pieces = missing(there, size, grain=grain, longest=grain * times)
    assert merged([*there, *pieces]) == ([(0, size)] if size else [])
    assert all(start % grain == 0 and 0 < end - start <= grain * times for start, end in pieces)
    have = {byte for start, end in there for byte in range(start, end)}
    assert covered(there) == len(have)
    # asked for again is less than a grain before each gap
    asked = sum(end - start for start, end in pieces)
    assert asked - (size - len(have)) <= (grain - 1) * len(merged(there)) if there else asked == size
    assert all(reach(there, byte) > byte for byte in have)
    assert all(reach(there, byte) == byte for byte in range(size) if byte not in have)
