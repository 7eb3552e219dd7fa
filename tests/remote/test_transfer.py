"""Files to and from each kind of machine."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import stat
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gpuscale_tui.remote import download
from gpuscale_tui.remote.attempts import AttemptRef, prepare
from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import TransferError, Unreachable
from gpuscale_tui.remote.transfer import get_files, hashes, list_tree, local_tree, put_tree, select_workdir
from gpuscale_tui.remote.tree import FetchedFile, RemoteFile
from tests.remote.conftest import SLOW_SITES, Site, until
from tests.remote.proxy import proxying

REF = AttemptRef(".gpuscale/ab12cd", "j17-1")
WORK = f"{REF.directory}/work"
MIB = 1024 * 1024
ROOM = {"max_bytes": 64 * MIB, "timeout_sec": 60.0}
ODD = "odd\\n\n\x1b"
NAMES = (
    "plain.txt",
    "deep/er/est/file",
    "with space",
    "-dash",
    "é日本",
    "quote'\"$`[*?]!",
    "x" * 200,
    "y" * 90 + "/" + "z" * 90,
)


def make_tree(root: Path, names: tuple[str, ...] = NAMES, largest: int = 70_000) -> dict[str, bytes]:
    dice = random.Random(5)
    contents = {name: dice.randbytes(dice.choice([0, 1, 511, 512, 513, largest])) for name in names}
    for name, data in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return contents


def read_tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def asked(machine: Machine, directory: str, names: Sequence[str]) -> list[RemoteFile]:
    """The entries of a listing in the order of these names; made up where there is none."""
    found = {file.path: file for file in await list_tree(machine, directory)}
    return [found.get(name, RemoteFile(name, 0, 0, "file")) for name in names]


def expected(contents: dict[str, bytes], mode: int = 0o644) -> tuple[FetchedFile, ...]:
    return tuple(
        FetchedFile(name, len(data), hashlib.sha256(data).hexdigest(), mode) for name, data in contents.items()
    )


async def test_there_and_back(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    await prepare(machine, REF)
    source, target = tmp_path / "source", tmp_path / "target"
    contents = make_tree(source)
    for name in NAMES:
        (source / name).chmod(0o644)
    told: list[int] = []
    await put_tree(machine, WORK, local_tree(source, NAMES), progress=told.append)
    assert read_tree(site.home / WORK) == contents
    assert told == sorted(told)
    assert told[-1] > sum(map(len, contents.values()))

    listing = await list_tree(machine, WORK)
    assert {file.path: file.size for file in listing if file.kind == "file"} == {n: len(d) for n, d in contents.items()}
    assert listing.left_out == ()
    fetched = await get_files(machine, WORK, await asked(machine, WORK, NAMES), target, **ROOM, progress=told.append)
    assert fetched == expected(contents)
    assert read_tree(target) == contents
    assert told[-1] == sum(map(len, contents.values()))
    for path in target.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


async def test_upload_keeps_modes_and_inner_links(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    make_tree(tmp_path / "s", ("run.sh", "secret", "bin/tool", ODD))
    (tmp_path / "s" / "run.sh").chmod(0o4755)
    (tmp_path / "s" / "secret").chmod(0o600)
    (tmp_path / "s" / "bin" / "latest").symlink_to("../run.sh")
    (tmp_path / "s" / "here").symlink_to("bin")
    await put_tree(
        machine, WORK, local_tree(tmp_path / "s", ("run.sh", "secret", "bin/tool", "bin/latest", "here", ODD))
    )
    assert (site.home / WORK / ODD).exists()
    place = site.home / WORK
    assert stat.S_IMODE((place / "run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((place / "secret").stat().st_mode) == 0o600
    assert str((place / "bin" / "latest").readlink()) == "../run.sh"
    assert str((place / "here").readlink()) == "bin"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "bin/../../x", "../../../../etc/passwd"])
async def test_upload_refuses_links_out(dash_site: Site, tmp_path: Path, target: str) -> None:
    machine = await dash_site.connect()
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "link").symlink_to(target)
    with pytest.raises(TransferError, match="links to"):
        await put_tree(machine, WORK, local_tree(tmp_path / "s", ("link",)))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a//b", "", ".", "a/../b", "missing", "pipe"])
async def test_upload_refuses_what_is_no_file_inside(dash_site: Site, tmp_path: Path, name: str) -> None:
    machine = await dash_site.connect()
    make_tree(tmp_path / "s", ("good",))
    os.mkfifo(tmp_path / "s" / "pipe")
    with pytest.raises(TransferError):
        await put_tree(machine, WORK, local_tree(tmp_path / "s", ("good", name)))
    assert not (dash_site.home / WORK).exists() or read_tree(dash_site.home / WORK) == {}


async def test_a_repeated_upload_leaves_exactly_the_new_tree(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    make_tree(tmp_path / "one", ("a", "b/c", "d"))
    two = make_tree(tmp_path / "two", ("a/x", "b"))
    await put_tree(machine, WORK, local_tree(tmp_path / "one", ("a", "b/c", "d")))
    await put_tree(machine, WORK, local_tree(tmp_path / "two", tuple(two)))
    assert read_tree(site.home / WORK) == two
    await put_tree(machine, WORK, local_tree(tmp_path / "two", ()))
    assert read_tree(site.home / WORK) == {}


async def test_a_torn_upload_is_never_taken_for_a_whole_one(site: Site, tmp_path: Path) -> None:
    old = make_tree(tmp_path / "old", ("old",))
    names = tuple(f"f{number}" for number in range(40))
    new = make_tree(tmp_path / "new", names)
    direct = await site.connect()
    async with proxying(site.endpoint.port) as proxy:
        torn = 0
        for limit in (*range(0, 3_000, 500), 20_000, 100_000, 500_000):
            await put_tree(direct, WORK, local_tree(tmp_path / "old", tuple(old)))
            async with AsyncExitStack() as stack:
                machine = await site.connect(port=proxy.port)
                stack.push_async_callback(machine.close)
                proxy.cut_up = limit
                try:
                    await put_tree(machine, WORK, local_tree(tmp_path / "new", names))
                except Unreachable:
                    torn += 1
            proxy.cut_up = None
            assert read_tree(site.home / WORK) in (old, new)
        assert torn > 3
    await put_tree(direct, WORK, local_tree(tmp_path / "new", names))
    assert read_tree(site.home / WORK) == new
    around = (site.home / WORK).parent
    await until(lambda: [each.name for each in around.iterdir()] == ["work"], "torn uploads to be cleared away")


async def test_a_cancelled_upload_ends_its_thread(dash_site: Site, tmp_path: Path) -> None:
    machine = await dash_site.connect()
    (tmp_path / "big").write_bytes(bytes(64 * MIB))
    sent = asyncio.Event()
    task = asyncio.create_task(
        put_tree(machine, WORK, local_tree(tmp_path, ("big",)), progress=lambda size: sent.set())
    )
    await sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await put_tree(machine, WORK, local_tree(tmp_path, ()))
    assert read_tree(dash_site.home / WORK) == {}


async def test_a_directory_that_cannot_be_made_is_told(dash_site: Site, tmp_path: Path) -> None:
    make_tree(tmp_path / "s", ("a",))
    (dash_site.home / "file").write_text("")
    machine = await dash_site.connect()
    with pytest.raises(TransferError, match="making room for the upload failed"):
        await put_tree(machine, "file/below", local_tree(tmp_path / "s", ("a",)))


ODD_NAMES = tuple(
    os.fsdecode(name)
    for name in (
        b"8180 5 17 .", b"x\n8180 5 17 1 1 2026|2026 ", b"new\nline", b"end\n", b"\n", b"esc\x1b[2J", b"\xff\xfe",
        b"back\\slash", b"\\101", b"%s%n", b"=", b"-rf", b"*", b" ", b"\t\x7f", bytes(range(1, 47)),
        bytes(range(48, 256)), b"d\nir/hidden\n/deep", "\u202eodd\u2028".encode(), b"$(x)`x`'\"",
    )
)  # fmt: skip


async def test_listing_tells_kinds_times_modes_and_targets(site: Site) -> None:
    machine = await site.connect()
    place = site.home / "ck"
    make_tree(place, ("a", "sub/b"))
    (place / "a").chmod(0o640)
    os.utime(place / "a", ns=(5, 1_700_000_000_123_456_789))
    (place / "empty").mkdir(mode=0o755)
    (place / "link").symlink_to("/etc/passwd")
    (place / "odd\nlink").symlink_to("x//y\nz 8180 .//./")
    (place / "away").symlink_to("sub")
    os.mkfifo(place / "pipe")
    before = time.time()
    listing = await list_tree(machine, "ck")
    found = {file.path: file for file in listing}
    assert [file.path for file in listing] == sorted(found)
    assert found["a"].mtime == 1_700_000_000_123
    assert found["a"].mode == 0o640
    for path, file in found.items():
        status = (place / path).lstat()
        assert (file.inode, file.size, file.changed_at) == (status.st_ino, status.st_size, status.st_ctime_ns // 10**6)
    links = {path: file.target for path, file in found.items() if file.kind == "link"}
    assert links == {"link": "/etc/passwd", "odd\nlink": "x//y\nz 8180 .//./", "away": "sub"}
    others = {path: file.kind for path, file in found.items() if path not in links}
    files = {"a": "file", "sub/b": "file"}
    assert others == files | {"sub": "directory", "empty": "directory", "pipe": "other"}
    assert listing.left_out == ()
    assert before * 1000 - 1000 <= listing.clock <= time.time() * 1000


async def test_names_of_every_byte_survive(site: Site, tmp_path: Path) -> None:
    """All but NUL and slash: listed, fetched, hashed there, sent back, each with its own content."""
    machine = await site.connect()
    contents = {name: os.fsencode(name) for name in ODD_NAMES}
    for name, data in contents.items():
        path = site.home / "ck" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    listing = await list_tree(machine, "ck")
    assert listing.left_out == ()
    files = [file for file in listing if file.kind == "file"]
    assert sorted(file.path for file in files) == sorted(ODD_NAMES)
    fetched = await get_files(machine, "ck", files, tmp_path / "t", **ROOM)
    assert {file.path: file.changed for file in fetched} == dict.fromkeys(ODD_NAMES, False)
    assert read_tree(tmp_path / "t") == contents
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    assert await hashes(machine, "ck", ODD_NAMES) == sums
    await put_tree(machine, WORK, local_tree(tmp_path / "t", ODD_NAMES))
    assert read_tree(site.home / WORK) == contents


async def test_an_entry_that_is_touched_has_another_stamp(dash_site: Site) -> None:
    machine = await dash_site.connect()
    make_tree(dash_site.home / "ck", ("same", "written", "renamed", "touched", "moded"))

    async def stamps() -> dict[str, str]:
        return {file.path: file.stamp for file in await list_tree(machine, "ck")}

    before = await stamps()
    assert await stamps() == before
    place = dash_site.home / "ck"
    (place / "written").write_bytes((place / "written").read_bytes())
    (place / "other").write_bytes((place / "renamed").read_bytes())
    (place / "other").rename(place / "renamed")
    os.utime(place / "touched", (1, 1))
    (place / "moded").chmod(0o600)
    after = await stamps()
    assert {name for name in before if before[name] == after[name]} == {"same"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
async def test_what_cannot_be_listed_is_named(site: Site) -> None:
    machine = await site.connect()
    make_tree(site.home / "ck", ("a", "shut/b"))
    (site.home / "ck" / "shut").chmod(0)
    try:
        listing = await list_tree(machine, "ck")
    finally:
        (site.home / "ck" / "shut").chmod(0o700)
    assert [file.path for file in listing] == ["a", "shut"]
    assert len(listing.left_out) == 1
    assert "shut" in listing.left_out[0]


async def test_listing_limits(site: Site) -> None:
    machine = await site.connect()
    make_tree(site.home / "many", tuple(f"f{number}" for number in range(50)))
    assert len(await list_tree(machine, "many", max_entries=50)) == 50
    with pytest.raises(TransferError, match="over 49 entries"):
        await list_tree(machine, "many", max_entries=49)
    with pytest.raises(TransferError, match="no directory"):
        await list_tree(machine, "missing")
    (site.home / "empty").mkdir()
    assert await list_tree(machine, "empty") == ()
    for wrong in ("/etc", "../x", "a/../b", "", "a b", "-x", "a;b"):
        with pytest.raises(ValueError, match="remote directory"):
            await list_tree(machine, wrong)


@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
async def test_a_large_tree(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    names = tuple(f"d{number % 40}/file-{number:05}" for number in range(1_200))
    contents = make_tree(tmp_path / "s", names, largest=2_000)
    await put_tree(machine, WORK, local_tree(tmp_path / "s", names))
    assert len(await list_tree(machine, WORK)) == 1_240
    fetched = await get_files(machine, WORK, await asked(machine, WORK, names), tmp_path / "t", **ROOM)
    assert [file.path for file in fetched] == list(names)
    assert read_tree(tmp_path / "t") == contents
    assert not any(file.changed for file in fetched)


async def test_fetching_what_is_gone_linked_or_twice(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    contents = make_tree(site.home / "ck", ("a", "b"))
    for name in contents:
        (site.home / "ck" / name).chmod(0o644)
    os.link(site.home / "ck" / "a", site.home / "ck" / "best")
    (site.home / "ck" / "latest").symlink_to("/etc/passwd")
    wanted = ("missing", "a", "latest", "best", "b", "a")
    fetched = await get_files(machine, "ck", await asked(machine, "ck", wanted), tmp_path / "t", **ROOM)
    contents = {"a": contents["a"], "best": contents["a"], "b": contents["b"]}
    assert fetched == expected(contents)
    assert read_tree(tmp_path / "t") == contents
    assert await get_files(machine, "ck", (), tmp_path / "none", **ROOM) == ()


async def test_a_file_that_changes_meanwhile_is_reported(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = await site.connect()
    make_tree(site.home / "ck", ("steady", "moving", "replaced"))
    stream = download._stream

    async def meddling(*details: object) -> None:
        await stream(*details)  # type: ignore[arg-type]
        (site.home / "ck" / "moving").write_bytes((site.home / "ck" / "moving").read_bytes() + b"x")
        size = (site.home / "ck" / "replaced").stat().st_size
        (site.home / "ck" / "new").write_bytes(bytes(size))
        (site.home / "ck" / "new").rename(site.home / "ck" / "replaced")

    monkeypatch.setattr(download, "_stream", meddling)
    fetched = await get_files(
        machine, "ck", await asked(machine, "ck", ("steady", "moving", "replaced")), tmp_path / "t", **ROOM
    )
    assert [file.changed for file in fetched] == [False, True, True]


async def test_fetch_limits(dash_site: Site, tmp_path: Path) -> None:
    machine = await dash_site.connect()
    (dash_site.home / "ck").mkdir()
    (dash_site.home / "ck" / "a").write_bytes(bytes(1000))
    (dash_site.home / "ck" / "b").write_bytes(bytes(1000))
    for number, (limit, fits) in enumerate(((2000, True), (1999, False), (0, False))):
        question = get_files(
            machine,
            "ck",
            await asked(machine, "ck", ("a", "b")),
            tmp_path / f"t{number}",
            max_bytes=limit,
            timeout_sec=60,
        )
        if fits:
            assert len(await question) == 2
        else:
            with pytest.raises(TransferError, match="does not fit"):
                await question
    with pytest.raises(TransferError, match="not empty"):
        await get_files(machine, "ck", await asked(machine, "ck", ("a",)), tmp_path / "t0", **ROOM)
    with pytest.raises(TransferError, match="no directory"):
        await get_files(machine, "missing", [RemoteFile("a", 1, 0, "file")], tmp_path / "t9", **ROOM)
    for wrong in ("../a", "/etc/passwd", "a\0b", "", "x/../y", "x" * 256):
        with pytest.raises(TransferError, match="cannot be fetched"):
            await get_files(machine, "ck", [RemoteFile(wrong, 1, 0, "file")], tmp_path / "t10", **ROOM)


async def test_what_git_would_track_arrives(site: Site, tmp_path: Path) -> None:
    machine = await site.connect()
    make_tree(tmp_path / "w", ("train.py", "data/x", "__pycache__/c.pyc"))
    workdir = select_workdir(tmp_path / "w", max_bytes=MIB)
    await put_tree(machine, WORK, local_tree(tmp_path / "w", workdir.files))
    assert set(read_tree(site.home / WORK)) == {"train.py", "data/x"}
