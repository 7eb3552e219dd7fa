"""Tar streams from a hostile machine, and from honest tar programs of each kind."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import asyncssh
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuscale_tui.remote.errors import RemoteError, TransferError
from gpuscale_tui.remote.transfer import get_files
from gpuscale_tui.remote.tree import FetchedFile, RemoteFile
from gpuscale_tui.remote.untar import Untar
from tests.remote.test_hostile import Liar, lying

LONG = "x" * 120 + "/" + "y" * 120
WANTED = ("ok", "dir/inner", LONG, "é日本" * 30)
OK = RemoteFile("ok", 800, 0, "file")
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, data: bytes = b"", **fields: object) -> Entry:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def archive(entries: Iterable[Entry], form: int = tarfile.GNU_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w|", format=form) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return stream.getvalue()


def take(stream: bytes, target: Path, *, piece: int = 700, max_bytes: int = 1_000_000) -> dict[str, FetchedFile]:
    target.mkdir(parents=True, exist_ok=True)
    untar = Untar(target, WANTED, max_bytes=max_bytes)
    try:
        for start in range(0, len(stream), piece):
            untar.feed(stream[start : start + piece])
    finally:
        untar.close()
    return untar.done if untar.finished else {}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    contents=st.dictionaries(st.sampled_from(WANTED), st.binary(max_size=1200), max_size=4),
    piece=st.integers(7, 3000),
    dotted=st.booleans(),
)
def test_honest_archives_in_pieces_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, form: int, contents: dict[str, bytes], piece: int, dotted: bool
) -> None:
    target = tmp_path_factory.mktemp("t")
    prefix = "./" if dotted else ""
    done = take(
        archive((entry(prefix + name, data, mode=0o751) for name, data in contents.items()), form), target, piece=piece
    )
    assert done == {
        name: FetchedFile(name, len(data), hashlib.sha256(data).hexdigest(), 0o751) for name, data in contents.items()
    }
    for name, data in contents.items():
        assert (target / name).read_bytes() == data


REFUSED: dict[str, Callable[[], bytes]] = {
    "not asked for": lambda: archive([entry("other", b"x")]),
    "above": lambda: archive([entry("../ok", b"x")]),
    "absolute": lambda: archive([entry("/ok", b"x")]),
    "above by a long name": lambda: archive([entry("a/" * 200 + "../" * 300 + "ok", b"x")]),
    "above by pax": lambda: archive([entry("é/../../ok", b"x")], tarfile.PAX_FORMAT),
    "dotted inside": lambda: archive([entry("dir/../ok", b"x")]),
    "twice": lambda: archive([entry("ok", b"x"), entry("ok", b"y")]),
    "a link not asked for": lambda: archive([entry("other", type=tarfile.SYMTYPE, linkname="/etc/passwd")]),
    "too large": lambda: archive([entry("ok", bytes(1_000_001))]),
    "a size beyond reason": lambda: archive([entry("ok")])[:124] + b"\x80" + b"\xff" * 11,
    "no archive": lambda: b"<html>not found</html>" * 100,
    "random": lambda: hashlib.sha256(b"x").digest() * 64,
    "an endless name": lambda: archive([entry("n" * 100_000, b"x")]),
    "an endless pax record": lambda: archive(
        [entry("n", b"x", pax_headers={"path": "n" * 100_000})], tarfile.PAX_FORMAT
    ),
}


@pytest.mark.parametrize("kind", list(REFUSED))
def test_hostile_archives_are_refused(tmp_path: Path, kind: str) -> None:
    stream = REFUSED[kind]()
    with pytest.raises(TransferError):
        take(stream + bytes(10_240), tmp_path / "t" / "deep")
    assert not (tmp_path / "t" / "ok").exists()
    assert not Path("/ok").exists()


def test_links_and_devices_of_a_wanted_name_are_passed_over(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        stream = archive([entry("ok", type=kind, linkname="/etc/passwd"), entry("dir/inner", b"data")])
        target = tmp_path / kind.decode()
        assert set(take(stream, target)) == {"dir/inner"}
        assert [path.name for path in target.rglob("*") if not path.is_dir()] == ["inner"]


def test_a_link_cannot_redirect_a_later_file(tmp_path: Path) -> None:
    stream = archive([entry("dir", type=tarfile.SYMTYPE, linkname="/tmp"), entry("dir/inner", b"data")])
    with pytest.raises(TransferError, match="not asked for"):
        take(stream, tmp_path / "t")


def test_hard_links_copy_only_what_came(tmp_path: Path) -> None:
    stream = archive(
        [
            entry("ok", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
            entry("./dir/inner", b"data", mode=0o640),
            entry(LONG, type=tarfile.LNKTYPE, linkname="./dir/inner"),
        ]
    )
    done = take(stream, tmp_path)
    assert set(done) == {"dir/inner", LONG}
    assert (tmp_path / LONG).read_bytes() == b"data"
    with pytest.raises(TransferError, match="does not fit"):
        take(stream, tmp_path / "again", max_bytes=7)


def test_a_flood_of_wrapping_is_given_up(tmp_path: Path) -> None:
    one = archive([entry("ok", pax_headers={"comment": "c" * 20_000})], tarfile.PAX_FORMAT)
    wrapping = one[: 512 + 20_480]
    with pytest.raises(TransferError, match="wrapping"):
        take(wrapping * 100, tmp_path)
    links = archive(entry("ok", type=tarfile.SYMTYPE, linkname="x") for _ in range(3_000))
    with pytest.raises(TransferError, match="wrapping"):
        take(links, tmp_path / "links")


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_archives_end_in_our_error_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    target = tmp_path_factory.mktemp("t") / "below"
    form = data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    stream = bytearray(archive([entry("ok", b"data" * 100), entry("é日本" * 30, b"more"), entry(LONG, b"")], form))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(stream)))
    try:
        done = take(bytes(stream[:cut]), target)
    except TransferError:
        done = {}
    for name, file in done.items():
        assert name in WANTED
        assert hashlib.sha256((target / name).read_bytes()).hexdigest() == file.sha256
    assert not [path for path in target.parent.rglob("*") if path.is_symlink()]


def names_below(root: Path) -> set[str]:
    return {path.name for path in root.rglob("*")}


@pytest.mark.parametrize("cut", [0, 100, 600, -1])
async def test_a_machine_that_lies_in_its_archive(
    client_key: Path, host_key: asyncssh.SSHKey, tmp_path: Path, cut: int
) -> None:
    stream = archive([entry("ok", b"data"), entry("../../evil", b"x")])
    stream = stream if cut < 0 else archive([entry("ok", b"data" * 200)])[:cut]
    async with lying(Liar(stream), client_key, host_key) as machine:
        with pytest.raises(RemoteError):
            await get_files(machine, "ck", [OK], tmp_path / "a" / "b", max_bytes=10_000, timeout_sec=10)
    assert "evil" not in names_below(tmp_path)


async def test_an_endless_archive_is_cut_off(client_key: Path, host_key: asyncssh.SSHKey, tmp_path: Path) -> None:
    head = archive([entry("ok", bytes(5_000))])[:512]
    liar = Liar(head, flood="stdout")
    async with lying(liar, client_key, host_key) as machine:
        with pytest.raises(RemoteError):
            await get_files(machine, "ck", [OK], tmp_path / "t", max_bytes=10_000, timeout_sec=10)
    assert liar.sent < 64 * 1024 * 1024
