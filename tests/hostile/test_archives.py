"""No archive leaves its directory: what comes from a machine as a tar stream, whatever stands in it."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuscale_tui.remote.errors import TransferError
from gpuscale_tui.remote.untar import Untar
from tests.remote.test_untar import archive, entry

WANTED = ("ok", "dir/inner", "Ok", "case/a", "CASE/a")
NAMES = (
    *WANTED, "dir", "case", "../ok", "../../ok", "/ok", "/etc/passwd", "dir/../../ok", "./ok", ".//ok", "ok/", "ok/.",
    "", ".", "..", "ok\0x", "dir//inner", "\udcff", "x" * 300, "dir/inner/deeper", "C:\\ok", "..\\ok",
)  # fmt: skip
TYPES = (
    tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE,
    tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE, b"Z",
)  # fmt: skip
ROOM = 20_000
MEMBER = st.builds(
    lambda name, kind, link, mode, size: (name, kind, link, mode, size),
    st.sampled_from(NAMES),
    st.sampled_from(TYPES),
    st.sampled_from(("ok", "./ok", "dir/inner", "/etc/passwd", "../../outside", "..", "")),
    st.integers(0, 0o7777),
    st.integers(0, 6_000),
)


def stream_of(members: list[tuple[str, bytes, str, int, int]], form: int) -> bytes:
    out = io.BytesIO()
    for name, kind, link, mode, size in members:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode, info.size, info.uid = kind, link, mode, size, 0
        out.write(info.tobuf(form, "utf-8", "surrogateescape"))
        if kind in {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z"}:
            out.write(b"d" * size + bytes(-size % 512))
    return out.getvalue() + bytes(1024)


def take(stream: bytes, target: Path, *, room: int = ROOM) -> Untar:
    untar = Untar(target, WANTED, max_bytes=room)
    try:
        untar.feed(stream)
    finally:
        untar.close()
    return untar


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(members=st.lists(MEMBER, max_size=6), form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_an_archive_never_leaves_its_directory(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes, str, int, int]], form: int
) -> None:
    """Any names, types, links, modes and sizes: plain private files of wanted names below the target, or nothing."""
    place = tmp_path_factory.mktemp("archive")
    (place / "outside").write_text("untouched")
    target = place / "a" / "target"
    target.mkdir(parents=True)
    with contextlib.suppress(TransferError):
        take(stream_of(members, form), target)
    total = 0
    for path in place.rglob("*"):
        status = path.lstat()
        if path in {place / "outside", place / "a", target}:
            continue
        assert path.is_relative_to(target)
        if stat.S_ISDIR(status.st_mode):
            assert stat.S_IMODE(status.st_mode) == 0o700
            continue
        assert stat.S_ISREG(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert status.st_nlink == 1
        assert path.relative_to(target).as_posix() in WANTED
        total += status.st_size
    assert total <= ROOM
    assert (place / "outside").read_text() == "untouched"
    assert not Path("/ok").exists()


def test_an_archive_makes_no_program_of_root(tmp_path: Path) -> None:
    """Set-id and other bits are noted, as far as they are permissions, and never set."""
    done = take(archive([entry("ok", b"x", mode=0o6755)]), tmp_path).done
    assert done["ok"].mode == 0o755
    assert stat.S_IMODE((tmp_path / "ok").stat().st_mode) == 0o600


def test_an_archive_whose_names_differ_by_case_overwrites_nothing(tmp_path: Path) -> None:
    """Where the disk tells them apart both are kept; where it does not, the second is refused, never merged."""
    take(archive([entry("ok", b"first"), entry("Ok", b"second")]), tmp_path)
    assert (tmp_path / "ok").read_bytes() == b"first"
    assert (tmp_path / "Ok").read_bytes() == b"second"
    (tmp_path / "case").mkdir()
    os.link(tmp_path / "ok", tmp_path / "case" / "a")  # as if CASE/a had come to the same place before
    with pytest.raises(TransferError, match="exists already"):
        take(archive([entry("case/a", b"third")]), tmp_path)
    assert (tmp_path / "ok").read_bytes() == b"first"


def test_an_archive_that_grows_is_cut_off(tmp_path: Path) -> None:
    """Sizes are judged before a byte is written, sparse files bring only what they bring, nothing is compressed."""
    header = tarfile.TarInfo("ok")
    header.size = 10 * 2**30
    with pytest.raises(TransferError, match="does not fit"):
        take(header.tobuf(tarfile.GNU_FORMAT), tmp_path)
    assert list(tmp_path.iterdir()) == []
    sparse = stream_of([("ok", tarfile.GNUTYPE_SPARSE, "", 0o600, 1024)], tarfile.GNU_FORMAT)
    assert take(sparse, tmp_path).done == {}
    pax = tarfile.TarInfo("dir/inner")
    pax.size = 5
    pax.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(10 * 2**30)}
    done = take(pax.tobuf(tarfile.PAX_FORMAT) + b"12345" + bytes(507) + bytes(1024), tmp_path).done
    assert done["dir/inner"].size == 5
