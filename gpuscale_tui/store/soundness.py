"""Whether a file is whole by its own format: what a crash in mid-writing leaves is cut off, and its bytes say so.

Only headers and ends of large files are looked at, and nothing in them is run. A reason is no proof: a snapshot with
one is kept, and is taken when there is no other. Formats, each told by its first bytes or its name:

* ZIP, which is what `torch.save` and NumPy's `.npz` write: the end of central directory record stands at the end, and
  the directory it points to lies right before it (PKWARE's APPNOTE, sections 4.3.12 to 4.3.16).
* safetensors: eight bytes with the length of a JSON header, whose largest `data_offsets` ends where the file does.
* gzip: a small one can be unpacked to its end, any has a header and the eight bytes of its trailer.
* HDF5: the superblock has the address of the file's end.
* NumPy's `.npy`: the header's shape and type tell how many bytes there are.
* pickle of protocol 2 or newer: its last byte is STOP. JSON: it does not end in the middle of something.
* index files of shards (`*.safetensors.index.json`, `*.bin.index.json`): the shards that they name are there.

A file of any other kind is not judged, unless it is empty and its name says that it should not be.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

JSON_BYTES = 4 << 20
"""Larger JSON files are not read."""
HEADER_BYTES = 100_000_000
"""The longest header that safetensors itself takes."""
LOOKED_AT_BYTES = 16 << 20
"""Longer headers of safetensors are judged by their length alone."""
GZIP_BYTES = 1 << 20
"""gzip files up to this size are unpacked, as far as they go, to at most a hundred times this."""
COMMENT_BYTES = 65_535
BROKEN_OFF = 10
"""A JSON text that makes no sense so near its end is cut off there, in a number or a word."""
INDEX = ".index.json"
NEVER_EMPTY = frozenset(
    {"pt", "pth", "ckpt", "bin", "safetensors", "npz", "npy", "zip", "gz", "tgz", "h5", "hdf5", "pkl", "pickle", "json"}
)
"""Endings of files that always hold something once they are written."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a file says of itself: the format by which it was judged (empty: none that is known), why it is cut off."""

    format: str = ""
    torn: str | None = None


@dataclass(frozen=True, slots=True)
class _Subject:
    """A file that is judged: `present` are the names of all things in its tree."""

    file: IO[bytes]
    size: int
    name: str
    present: Collection[str]


def judge(root: Path, name: str, present: Collection[str]) -> Verdict:
    """Judge one file of a tree; `present` are the names of all things in it. Raises OSError where it cannot be read."""
    path = root / name
    with path.open("rb") as file:
        return judge_open(file, path.stat().st_size, name, present)


def judge_open(file: IO[bytes], size: int, name: str, present: Collection[str]) -> Verdict:
    """The same for a file that is open for reading and seeking, wherever its `size` bytes are."""
    ending = name.rpartition("/")[2].rpartition(".")[2].lower()
    if not size:
        return Verdict(ending, "it is empty") if ending in NEVER_EMPTY else Verdict()
    head = file.read(8)
    for kind, is_one, check in _FORMATS:
        if is_one(ending, head):
            file.seek(0)
            return Verdict(kind, _checked(check, _Subject(file, size, name, present)))
    return Verdict()


def _checked(check: Callable[[_Subject], str | None], subject: _Subject) -> str | None:
    try:
        return check(subject)
    except (struct.error, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "its header makes no sense"


def _zip(subject: _Subject) -> str | None:
    tail_size = min(subject.size, COMMENT_BYTES + 22 + 20 + 56)
    subject.file.seek(subject.size - tail_size)
    tail = subject.file.read(tail_size)
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if _ends_zip(subject, tail, at):
            return None
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return "the end of a ZIP file is missing"


def _ends_zip(subject: _Subject, tail: bytes, at: int) -> bool:
    """Whether an end record has the directory of a ZIP file before it. From 4 GiB on, another record has its place."""
    if at + 22 > len(tail):
        return False
    length, offset = struct.unpack_from("<II", tail, at + 12)
    if 0xFFFFFFFF in {length, offset}:
        wide = tail.rfind(b"PK\x06\x06", 0, at)
        if wide < 0:
            return False
        length, offset = struct.unpack_from("<QQ", tail, wide + 40)
    if offset + length > subject.size - len(tail) + at:
        return False
    subject.file.seek(offset)
    return length == 0 or subject.file.read(4) == b"PK\x01\x02"


def _safetensors(subject: _Subject) -> str | None:
    head = subject.file.read(8)
    if len(head) < 8:
        return "the length of its header is missing"
    (length,) = struct.unpack("<Q", head)
    if length > min(HEADER_BYTES, subject.size - 8):
        return f"its header should have {length} bytes, and {subject.size - 8} are there"
    if length > LOOKED_AT_BYTES:
        return None
    header = json.loads(subject.file.read(length))
    ends = [int(entry["data_offsets"][1]) for key, entry in header.items() if key != "__metadata__"]
    return _compared("its tensors need", 8 + length + max(ends, default=0), subject)


def _compared(what: str, wanted: int, subject: _Subject) -> str | None:
    return None if subject.size >= wanted else f"{what} {wanted} bytes, and {subject.size} are there"


def _gzip(subject: _Subject) -> str | None:
    if subject.size < 18:
        return "the end of a gzip stream is missing"
    left = 100 * GZIP_BYTES if subject.size <= GZIP_BYTES else 0
    try:
        with gzip.open(subject.file) as unpacked:
            while left > 0 and (piece := unpacked.read(GZIP_BYTES)):
                left -= len(piece)
    except (EOFError, zlib.error):
        return "its gzip stream breaks off"
    except gzip.BadGzipFile:  # something stands behind the stream, which is no sign of a cut
        return None
    return None


def _hdf5(subject: _Subject) -> str | None:
    """The address of the file's end is the third in superblocks of versions 0 to 3 (HDF5 file format, II.A)."""
    head = subject.file.read(96)
    if head[8] > 3:
        return None
    old = head[8] < 2
    width = head[13 if old else 9]
    at = (28 if head[8] == 1 else 24) + 2 * width if old else 12 + 2 * width
    if at + width > len(head):
        return "its HDF5 header breaks off"
    return _compared("its HDF5 header says", int.from_bytes(head[at : at + width], "little"), subject)


def _npy(subject: _Subject) -> str | None:
    head = subject.file.read(12)
    begins = 10 if head[6] == 1 else 12
    length = int.from_bytes(head[8:begins], "little")
    if begins + length > subject.size:
        return "its NumPy header breaks off"
    subject.file.seek(begins)
    text = subject.file.read(min(length, 65_536)).decode("latin-1")
    kind = re.search(r"'descr': '[<>|=]?[biufc](\d+)'", text)
    shape = re.search(r"'shape': \(([\d, ]*)\)", text)
    if kind is None or shape is None:
        return None
    count = math.prod(int(each) for each in shape[1].split(",") if each.strip())
    return _compared("its array needs", begins + length + int(kind[1]) * count, subject)


def _pickle(subject: _Subject) -> str | None:
    subject.file.seek(subject.size - 1)
    return None if subject.file.read(1) == b"." else "the end of a pickle is missing"


def _is_pickle(ending: str, head: bytes) -> bool:
    """Protocols 2 to 5; not what `torch.save` wrote before it wrote ZIP files, where raw bytes follow the pickles."""
    if len(head) < 2 or head[0] != 0x80 or not 2 <= head[1] <= 5 or head[2:4] == b"\x8a\x0a":
        return False
    return ending in {"pkl", "pickle"} or (head[1] >= 4 and head[2:3] == b"\x95")


def _json(subject: _Subject) -> str | None:
    if subject.size > JSON_BYTES:
        return None
    text = subject.file.read().decode("utf-8", "replace").lstrip("\ufeff").rstrip()
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        breaks_off = error.msg.startswith("Unterminated string") or len(text) - error.pos <= BROKEN_OFF
        return "its JSON breaks off" if breaks_off and not _begins_whole(text) else None
    return _missing_shards(content, subject) if subject.name.endswith(INDEX) else None


def _begins_whole(text: str) -> bool:
    """Whether there are several values, one after another: a log in lines of JSON, whatever it is called."""
    try:
        json.JSONDecoder().raw_decode(text)
    except ValueError:
        return False
    return True


def _missing_shards(content: object, subject: _Subject) -> str | None:
    """`weight_map` of an index has for each tensor the file, beside the index, that holds it."""
    shards = content.get("weight_map") if isinstance(content, Mapping) else None
    if not isinstance(shards, Mapping):
        return None
    folder = subject.name.rpartition("/")[0]
    named = sorted({f"{folder}/{each}" if folder else str(each) for each in shards.values()})
    missing = [each for each in named if each not in subject.present]
    return f"of {len(named)} shards {len(missing)} are not there, such as {missing[0]!r}" if missing else None


_FORMATS: tuple[tuple[str, Callable[[str, bytes], bool], Callable[[_Subject], str | None]], ...] = (
    ("zip", lambda _, head: head[:4] in {b"PK\x03\x04", b"PK\x05\x06"}, _zip),
    ("safetensors", lambda ending, _: ending == "safetensors", _safetensors),
    ("gzip", lambda _, head: head[:3] == b"\x1f\x8b\x08", _gzip),
    ("hdf5", lambda _, head: head == b"\x89HDF\r\n\x1a\n", _hdf5),
    ("npy", lambda _, head: head[:6] == b"\x93NUMPY", _npy),
    ("pickle", _is_pickle, _pickle),
    ("json", lambda ending, _: ending == "json", _json),
)
