"""Files that say of themselves that they are cut off, and snapshots that have such files."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.store import soundness
from gpuscale_tui.store.archive import Snapshot, SnapshotMeta
from gpuscale_tui.store.checkpoints import SnapshotStore
from gpuscale_tui.store.soundness import Verdict
from tests.store.support import T0


def zipped(size: int = 3000, comment: bytes = b"") -> bytes:
    """What `torch.save` and `numpy.savez` write: a ZIP file, its members stored as they are."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"step": 40}))
        archive.writestr("archive/data/0", bytes(range(256)) * (size // 256))
        archive.comment = comment
    return made.getvalue()


def safetensors(count: int = 500) -> bytes:
    header = json.dumps({
        "__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]},
    }).encode()  # fmt: skip
    return struct.pack("<Q", len(header)) + header + b"\x01" * (4 * count)


def npy(count: int = 100) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({count}, 2), }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\x02" * (16 * count)


def hdf5(version: int, size: int = 800) -> bytes:
    """The superblock alone: the rest is nobody's to look at."""
    base, end, none = struct.pack("<Q", 0), struct.pack("<Q", size), b"\xff" * 8
    old = b"\x00\x00\x00\x00\x08\x08\x00\x04\x00\x10\x00\x00\x00\x00\x00"
    head = {
        0: bytes([0]) + old + base + none + end + none,
        1: bytes([1]) + old + b"\x20\x00\x00\x00" + base + none + end + none,
        2: bytes([2, 8, 8, 0]) + base + none + end + none,
        3: bytes([3, 8, 8, 0]) + base + none + end + none,
    }[version]
    return (b"\x89HDF\r\n\x1a\n" + head).ljust(size, b"\x07")


WHOLE = {
    "model.pt": ("zip", zipped()), "noted.npz": ("zip", zipped(comment=b"PK\x05\x06 in a comment")),
    "none.pt": ("zip", b"PK\x05\x06" + bytes(18)),
    "model.safetensors": ("safetensors", safetensors()), "x.npy": ("npy", npy()),
    "state.pkl": ("pickle", pickle.dumps({"a": list(range(50))}, protocol=2)),
    "state": ("pickle", pickle.dumps({"a": list(range(50))}, protocol=5)),
    "log.json.gz": ("gzip", gzip.compress(b"{}" * 400)), "v0.h5": ("hdf5", hdf5(0)), "v1.h5": ("hdf5", hdf5(1)),
    "v2.h5": ("hdf5", hdf5(2)), "v3.h5": ("hdf5", hdf5(3)),
    "trainer_state.json": ("json", json.dumps({"loss": [1.5, float("nan")], "best": None, "done": True}).encode()),
}  # fmt: skip
UNJUDGED = {
    "legacy.pt": b"\x80\x02\x8a\nl\xfcF\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.raw", "raw.bin": os.urandom(64) + b"x",
    "metrics.json": b'{"step": 1}\n{"step": 2}\n{"ste', "notes.txt": b"{", "empty.log": b"", "tricky": b"\x80\x04k",
    "odd.json": b'{"a": 1, // said here\n "b": 2 and more that no JSON has, at length}',
}  # fmt: skip


def put(root: Path, name: str, data: bytes) -> Verdict:
    (root / name).write_bytes(data)
    return soundness.judge(root, name, [name])


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_whole_and_cut_ones_are_not(tmp_path: Path, name: str) -> None:
    kind, data = WHOLE[name]
    assert put(tmp_path, name, data) == Verdict(kind)
    known_from = 8 if kind in {"zip", "gzip", "hdf5", "npy", "pickle"} else 0
    end = len(data) - len("PK.. in a comment") if name == "noted.npz" else len(data)  # without it, it is whole
    sizes = {*range(known_from, 40), *range(40, end - 40, 7), *range(max(known_from, end - 40), end)}
    missed = [size for size in sizes if size < end and put(tmp_path, name, data[:size]).torn is None]
    assert not missed or (kind == "pickle" and len(missed) < 5), "a pickle may have its last byte elsewhere, too"


@pytest.mark.parametrize("name", UNJUDGED)
def test_what_nobody_can_tell_is_not_judged(tmp_path: Path, name: str) -> None:
    assert put(tmp_path, name, UNJUDGED[name]).torn is None


@settings(max_examples=40)
@given(st.binary(max_size=300), st.sampled_from(["a.pt", "a.npz", "a.safetensors", "a.h5", "a.npy", "a.gz", "a.json"]))
def test_nothing_breaks_the_judge(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    heads = [b"PK\x03\x04", b"", b"\x1f\x8b\x08", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY", b"\x80\x04\x95"]
    for head in heads:
        assert put(tmp_path_factory.getbasetemp(), name, head + data).torn != ""


def test_a_zip_file_of_many_gigabytes_is_judged_by_its_other_record(tmp_path: Path) -> None:
    directory = b"PK\x01\x02" + bytes(42)
    place = tmp_path / "big.pt"
    with place.open("wb") as file:  # sparse: nobody reads what is in between
        file.write(b"PK\x03\x04")
        file.seek(5 * 2**30)
        file.write(directory)
        file.write(b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, len(directory), 5 * 2**30))
        file.write(b"PK\x06\x07" + struct.pack("<IQI", 0, 5 * 2**30 + len(directory), 1))
        file.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    assert soundness.judge(tmp_path, "big.pt", []) == Verdict("zip")
    os.truncate(place, 4 * 2**30)
    assert soundness.judge(tmp_path, "big.pt", []).torn == "the end of a ZIP file is missing"


def test_an_index_names_its_shards(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    name = "c/model.safetensors.index.json"
    (tmp_path / name).write_text(json.dumps({"weight_map": {"w": "m-1.safetensors", "v": "m-2.safetensors"}}))
    assert soundness.judge(tmp_path, name, [name, "c/m-1.safetensors", "c/m-2.safetensors"]) == Verdict("json")
    found = soundness.judge(tmp_path, name, [name, "c/m-1.safetensors", "m-2.safetensors"])
    assert found.torn == "of 2 shards 1 are not there, such as 'c/m-2.safetensors'"


WRITE = """
import sys
import numpy, torch
from safetensors.torch import save_file
w = torch.randn(2000)
torch.save({"w": w, "step": 3}, sys.argv[1] + "/a.pt")
save_file({"w": w}, sys.argv[1] + "/a.safetensors")
numpy.savez(sys.argv[1] + "/a.npz", w=w.numpy())
numpy.save(sys.argv[1] + "/a.npy", w.numpy())
"""


@pytest.mark.skipif("GPUSCALE_TORCH_PYTHON" not in os.environ, reason="needs a Python with PyTorch")
def test_what_pytorch_itself_writes(tmp_path: Path) -> None:
    subprocess.run([os.environ["GPUSCALE_TORCH_PYTHON"], "-c", WRITE, str(tmp_path)], check=True)
    for path in list(tmp_path.iterdir()):
        data = path.read_bytes()
        assert put(tmp_path, path.name, data).format
        for size in range(8, len(data), 37):
            assert put(tmp_path, path.name, data[:size]).torn is not None, (path.name, size)
        assert put(tmp_path, path.name, data).torn is None


META = SnapshotMeta(17, 2, 3, T0)
Files = dict[str, bytes]


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Files], Snapshot]:
    store = SnapshotStore(tmp_path / "store")

    def saving(files: Files) -> Snapshot:
        draft = store.begin(17)
        for name, data in files.items():
            (draft.path / name).parent.mkdir(parents=True, exist_ok=True)
            (draft.path / name).write_bytes(data)
        return store.commit(draft, dict.fromkeys(files, 0o600), META)

    return saving


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "store")


Save = Callable[[Files], Snapshot]
GOOD, OTHER = zipped(3000), zipped(5000)
TORN = GOOD[:1700]
REASON = "'ckpt.pt' is cut off: the end of a ZIP file is missing"


def test_a_torn_file_never_wins_over_an_older_whole_one(store: SnapshotStore, save: Save) -> None:
    sound = save({"ckpt.pt": GOOD})
    torn = save({"ckpt.pt": TORN})
    assert (sound.fault, torn.fault) == (None, REASON)
    assert store.find(17, 2).fault == REASON, "it stands in the manifest"
    assert store.verify(torn) is None, "its bytes are what was there"
    heard: list[tuple[int, str]] = []
    assert store.newest_valid(17, lambda number, why: heard.append((number, why))) == store.find(17, 1)
    assert heard == [(2, REASON)]
    assert [save({"ckpt.pt": TORN + bytes([n])}).fault for n in range(3)] == [REASON] * 3
    assert store.superfluous(17, 2, trusted=5) == [3, 2], "the last one that is sound stays"
    assert store.superfluous(17, 1, pinned={3}) == [4, 2]


def test_a_torn_file_is_better_than_none(store: SnapshotStore, save: Save) -> None:
    torn = save({"ckpt.pt": TORN})
    heard: list[tuple[int, str]] = []
    found = store.newest_valid(17, lambda number, why: heard.append((number, why)))
    assert found == store.find(17, torn.number)
    assert found.fault == REASON, "who takes it can say so"
    later = save({"ckpt.pt": TORN + b"more"})
    (later.files_path / "ckpt.pt").write_bytes(b"")
    assert store.newest_valid(17) == found, "whole beats broken, even so"
    assert store.superfluous(17, 1) == []


def test_what_an_old_crash_left_speaks_against_nothing(store: SnapshotStore, save: Save) -> None:
    save({"1.pt": GOOD})
    assert save({"1.pt": GOOD, "2.pt": TORN}).fault is not None
    still = save({"1.pt": GOOD, "2.pt": TORN, "log": b"more"})
    assert still.fault is not None, "nothing whole was written since"
    after = save({"1.pt": GOOD, "2.pt": TORN, "log": b"more", "3.pt": OTHER})
    assert (after.fault, after.torn) == (None, {"2.pt": "the end of a ZIP file is missing"})
    assert save({"2.pt": TORN, "log": b"and more"}).fault is None
    assert store.newest_valid(17) == store.find(17, 5)


def test_a_file_that_is_open_all_the_time_is_no_checkpoint(save: Save) -> None:
    """A compressed log that grows: it has no end before its job ends."""
    log = gzip.compress(os.urandom(4000))
    assert save({"m.pt": GOOD}).fault is None
    assert save({"m.pt": GOOD, "log.gz": log[:1000]}).fault is not None
    grown = save({"m.pt": OTHER, "log.gz": log[:2000]})
    assert (grown.fault, list(grown.torn)) == (None, ["log.gz"])
    assert save({"m.pt": OTHER[:-9], "log.gz": log[:3000]}).faults.keys() == {"m.pt"}


def test_shards_that_come_later_make_an_index_whole(save: Save) -> None:
    index = json.dumps({"weight_map": {"w": "m-1.safetensors"}}).encode()
    assert save({"m.safetensors.index.json": index}).fault is not None
    assert save({"m.safetensors.index.json": index, "m-1.safetensors": safetensors()}).fault is None
