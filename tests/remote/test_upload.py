"""Trees to each kind of machine: whole or not at all, what arrived is not sent again, and hashes are compared there."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.remote import download, parts, sending, upload
from gpuscale_tui.remote.connection import connect
from gpuscale_tui.remote.errors import TransferError, Unreachable
from gpuscale_tui.remote.keys import ensure_client_key
from gpuscale_tui.remote.transfer import TreeFile, get_files, hashes, list_tree, local_tree, put_tree, tools
from tests.remote.conftest import SLOW_SITES, Site
from tests.remote.proxy import proxying
from tests.sshd import running_sshd, sshd_missing

MIB = 1024 * 1024
SIZE = 12 * MIB + 345
WORK = "base/work"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large here, and the parts of it."""
    for module in (upload, download):
        monkeypatch.setattr(module, "LARGE_BYTES", MIB)
    for module in (sending, parts):
        monkeypatch.setattr(module, "PART_BYTES", MIB)


def make_file(root: Path, name: str, size: int, *, mode: int = 0o600, known: bool = True) -> TreeFile:
    data = random.Random(name).randbytes(size)
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return TreeFile(name, "file", mode, size, hashlib.sha256(data).hexdigest() if known else "", source=path)


def same(site: Site, file: TreeFile) -> bool:
    place = site.home / WORK / file.path
    assert file.source is not None
    return place.read_bytes() == file.source.read_bytes() and stat.S_IMODE(place.stat().st_mode) == file.mode


async def test_a_tree_of_all_kinds(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    (tmp_path / "s").mkdir()
    files = [
        TreeFile("empty", "directory", 0o755),
        TreeFile("shut/inner", "directory", 0o500),
        make_file(tmp_path / "s", "deep/large", SIZE, mode=0o640),
        make_file(tmp_path / "s", "only/large\n\\odd ", 2 * MIB, mode=0o444, known=False),
        make_file(tmp_path / "s", "shut/small", 100, mode=0o755),
        make_file(tmp_path / "s", "unknown", 100, known=False),
        TreeFile("latest", "link", target="deep/large"),
        TreeFile("deep/odd\n", "link", target="../nowhere \\ \n"),
    ]
    told: list[int] = []
    await put_tree(machine, WORK, files, progress=told.append)
    assert all(same(site, file) for file in files if file.kind == "file")
    place = site.home / WORK
    assert stat.S_IMODE((place / "empty").stat().st_mode) == 0o755
    assert stat.S_IMODE((place / "shut" / "inner").stat().st_mode) == 0o700
    assert os.readlink(place / "latest") == "deep/large"  # noqa: PTH115 - the text as it stands
    assert os.readlink(place / "deep" / "odd\n") == "../nowhere \\ \n"  # noqa: PTH115
    paths = {file.path for file in await list_tree(machine, WORK)}
    assert paths == {file.path for file in files} | {"deep", "only", "shut"}
    assert told == sorted(told)
    assert told[-1] >= sum(file.size for file in files)
    assert [entry.name for entry in place.parent.iterdir()] == ["work"]
    (place / "shut" / "inner").chmod(0o500)
    await put_tree(machine, WORK, [])
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("site", "known"), [pytest.param("openssh", True, marks=pytest.mark.openssh), ("busybox", False)], indirect=["site"]
)
async def test_after_a_cut_only_what_lacks_is_sent(site: Site, tmp_path: Path, known: bool) -> None:
    many = [make_file(tmp_path / "s", f"many/{number}", 20_000, known=known) for number in range(100)]
    files = [*many, make_file(tmp_path / "s", "large", SIZE, known=known)]
    total = sum(file.size for file in files)
    async with proxying(site.endpoint.port) as proxy:
        for cut in (MIB, 8 * MIB):
            machine = await site.connect(port=proxy.port)
            proxy.cut_up = cut
            with pytest.raises(Unreachable):
                await put_tree(machine, WORK, files)
            assert not (site.home / WORK).exists()
        machine = await site.connect(port=proxy.port)
        proxy.up = 0
        await put_tree(machine, WORK, files)
    assert all(same(site, file) for file in files)
    # the small ones and at least two parts were there: up to three were under way at the cut
    assert proxy.up < total - 3_000_000
    assert [entry.name for entry in (site.home / WORK).parent.iterdir()] == ["work"]


async def test_what_arrived_is_compared_before_it_is_used(dash_site: Site, tmp_path: Path) -> None:
    """A bit flipped on the machine while the line was cut."""
    files = [make_file(tmp_path / "s", "a/small", 30_000), make_file(tmp_path / "s", "large", SIZE)]
    async with proxying(dash_site.endpoint.port) as proxy, AsyncExitStack() as stack:
        machine = await dash_site.connect(port=proxy.port)
        stack.push_async_callback(machine.close)
        proxy.cut_up = 8 * MIB
        with pytest.raises(Unreachable):
            await put_tree(machine, WORK, files)
    (part,) = (dash_site.home / "base").iterdir()
    with (part / "large").open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"flipped")
    machine = await dash_site.connect()
    await put_tree(machine, WORK, files)
    assert all(same(dash_site, file) for file in files)


@pytest.mark.parametrize("size", [100, 2 * MIB])
@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
async def test_another_hash_than_said_is_refused(site: Site, tmp_path: Path, size: int) -> None:
    machine = await site.connect()
    old = make_file(tmp_path / "s", "old", 10)
    await put_tree(machine, WORK, [old])
    good, bad = make_file(tmp_path / "s", "good", 50), make_file(tmp_path / "s", "bad", size)
    assert bad.source is not None
    data = bytearray(bad.source.read_bytes())
    data[size // 2] ^= 1
    bad.source.write_bytes(data)
    with pytest.raises(TransferError, match=r"bad (has another SHA-256|is not there as it was sent)"):
        await put_tree(machine, WORK, [good, bad])
    assert same(site, old)
    assert [entry.name for entry in (site.home / WORK).parent.iterdir()] == ["work"]


@pytest.mark.parametrize("size", [600_000, SIZE])
async def test_a_full_disk_there_is_told_and_leaves_nothing(dash_site: Site, tmp_path: Path, size: int) -> None:
    machine = await dash_site.connect()
    assert dash_site.server is not None
    old = make_file(tmp_path / "s", "old", 10)
    await put_tree(machine, WORK, [old])
    dash_site.server.prelude = "ulimit -f 500; trap '' XFSZ; "
    files = [make_file(tmp_path / "s", "small", 50), make_file(tmp_path / "s", "much", size)]
    with pytest.raises(TransferError, match="is its disk full"):
        await put_tree(machine, WORK, files)
    assert same(dash_site, old)
    assert [entry.name for entry in (dash_site.home / WORK).parent.iterdir()] == ["work"]


async def test_without_a_program_for_hashes(dash_site: Site, tmp_path: Path) -> None:
    machine = await dash_site.connect()
    assert dash_site.server is not None
    (tmp_path / "bin").mkdir()
    for name in ("chmod", "date", "dd", "find", "mkdir", "mv", "readlink", "rm", "sh", "stat", "tar"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    dash_site.server.path = str(tmp_path / "bin")
    files = [make_file(tmp_path / "s", "small", 100), make_file(tmp_path / "s", "large", 3 * MIB)]
    await put_tree(machine, WORK, files)
    assert all(same(dash_site, file) for file in files)
    assert await hashes(machine, WORK, ["small"]) == {}
    assert await tools(machine) == frozenset()


async def test_hashes_and_tools_by_the_machine(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    files = [
        make_file(tmp_path / "s", name, 1000) for name in ("plain", "with space", "é/日本", "new\nline", "back\\x")
    ]
    await put_tree(machine, WORK, files)
    asked = [*(file.path for file in files), "missing"]
    assert await hashes(machine, WORK, asked) == {file.path: file.sha256 for file in files}
    with pytest.raises(TransferError, match="no directory"):
        await hashes(machine, "nowhere", ["a"])
    assert "sha256sum" in await tools(machine)


@pytest.mark.openssh
async def test_a_server_that_opens_few_sessions(tmp_path: Path, client_key: Path) -> None:
    """There and back, with as few as it needs; what is taken by others is not waited for."""
    if reason := sshd_missing():
        pytest.skip(reason)
    file = make_file(tmp_path / "s", "large", 4 * MIB)
    with running_sshd(tmp_path, clients_public_key=ensure_client_key(client_key), max_sessions=2) as info:
        machine = await connect(Endpoint(info.host, info.port, info.user, info.host_key), client_key=client_key)
        try:
            await put_tree(machine, WORK, [file])
            fetched = await get_files(
                machine, WORK, await list_tree(machine, WORK), tmp_path / "t", max_bytes=file.size, timeout_sec=120
            )
        finally:
            await machine.close()
    assert [each.sha256 for each in fetched] == [file.sha256]


REFUSED = {
    "twice": [TreeFile("a", "directory"), TreeFile("a", "directory")],
    "in a link": [TreeFile("a", "link", target="b"), TreeFile("a/x", "directory")],
    "in a file": [TreeFile("a", "file", source=Path("/dev/null")), TreeFile("a/x/y", "directory")],
    "above": [TreeFile("../a", "directory")],
    "absolute": [TreeFile("/a", "directory")],
    "too long": [TreeFile("a" * 256, "directory")],
    "no kind": [TreeFile("a", "socket")],
    "without content": [TreeFile("a", "file", size=5)],
    "no file": [TreeFile("a", "file", source=Path("/dev/null"))],
    "out": [TreeFile("a/b", "link", target="../../c")],
}


@pytest.mark.parametrize("what", list(REFUSED))
async def test_trees_that_cannot_be_are_refused(dash_site: Site, what: str) -> None:
    machine = await dash_site.connect()
    with pytest.raises(TransferError):
        await put_tree(machine, WORK, REFUSED[what])
    assert not (dash_site.home / "base").exists() or list((dash_site.home / "base").iterdir()) == []


async def test_a_file_that_changes_here_is_told(dash_site: Site, tmp_path: Path) -> None:
    machine = await dash_site.connect()
    for size in (100, SIZE):
        file = make_file(tmp_path / "s", f"file{size}", size)
        (tmp_path / "s" / file.path).write_bytes(bytes(size - 1))
        with pytest.raises(TransferError, match="repeat when it stands still"):
            await put_tree(machine, WORK, [file])
    gone = TreeFile("gone", "file", size=5, source=tmp_path / "gone")
    with pytest.raises(TransferError, match="could not be sent"):
        await put_tree(machine, WORK, [gone])
    with pytest.raises(TransferError, match="could not be sent"):
        local_tree(tmp_path, ["gone"])
