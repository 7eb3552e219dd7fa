"""Takes a tar stream from an untrusted machine apart: only the files asked for, only regular ones, never too much.

Python's tarfile reads the bodies of extension headers into memory whatever their size, makes links and devices, and
needs a filter to be safe; this reader knows the three header families that real tar programs write (ustar, GNU, pax:
POSIX.1-2001 pax interchange format) and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from gpuscale_tui.remote.errors import TransferError
from gpuscale_tui.remote.tree import FetchedFile

BLOCK = 512
EXTENSION_BYTES = 64 * 1024
OVERHEAD_PER_FILE = 2 * EXTENSION_BYTES
REGULAR = (b"0", b"\0", b"7")
HARD_LINK = b"1"
LONG_NAME, LONG_LINK = b"L", b"K"
PAX, PAX_GLOBAL = b"x", b"g"


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    size: int
    mode: int
    kind: bytes
    target: str


class Untar:
    """Feed it the stream; it writes the wanted files below `target`, which exists, and keeps their hashes.

    Files get mode 0600, directories 0700. Members that nobody asked for are refused; links to files outside, symbolic
    links, devices and directories of a wanted name are passed over. Blocking file I/O: meant for a worker thread.
    Raises TransferError, OSError.
    """

    def __init__(self, target: Path, wanted: Collection[str], *, max_bytes: int) -> None:
        self.done: dict[str, FetchedFile] = {}
        self.received = 0
        self.finished = False
        self._target = target
        self._wanted = frozenset(wanted)
        self._room = max_bytes
        self._overhead = OVERHEAD_PER_FILE * (len(self._wanted) + 1)
        self._header = bytearray()
        self._left = 0
        self._padding = 0
        self._file: _Writing | None = None
        self._extension: tuple[bytes, bytearray] | None = None
        self._overrides: dict[str, str] = {}

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        view = memoryview(data)
        while view and not self.finished:
            if self._left:
                taken = self._take_body(view[: self._left])
            elif self._padding:
                taken = min(self._padding, len(view))
                self._padding -= taken
            else:
                taken = self._take_header_bytes(view)
            view = view[taken:]

    def close(self) -> None:
        """Let go of a file that is not complete. The partial file stays for the caller to throw away."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _take_body(self, data: memoryview) -> int:
        self._left -= len(data)
        if self._extension is not None:
            self._extension[1].extend(data)
        elif self._file is not None:
            self._file.write(data)
            self.received += len(data)
        if self._left == 0:
            self._end_body()
        return len(data)

    def _take_header_bytes(self, view: memoryview) -> int:
        piece = view[: BLOCK - len(self._header)]
        self._header += piece
        if len(self._header) == BLOCK:
            block, self._header = bytes(self._header), bytearray()
            self._take_header(block)
        return len(piece)

    def _end_body(self) -> None:
        if self._extension is not None:
            kind, body = self._extension
            self._extension = None
            self._overrides |= _read_extension(kind, bytes(body))
        elif self._file is not None:
            self.done[self._file.member.name] = self._file.finish()
            self._file = None

    def _take_header(self, block: bytes) -> None:
        if not block.strip(b"\0"):
            self.finished = True
            return
        member = self._parse(block)
        self._left, self._padding = member.size, -member.size % BLOCK
        self._spend_overhead(BLOCK)
        if member.kind in {LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL}:
            if member.size > EXTENSION_BYTES:
                raise TransferError(f"the archive has an extension header of {member.size} bytes; given up")
            self._spend_overhead(member.size + self._padding)
            self._extension = (member.kind, bytearray())
            if member.size == 0:
                self._end_body()
            return
        self._overrides = {}
        self._begin_member(member)

    def _parse(self, block: bytes) -> _Member:
        if _number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 32:
            raise TransferError("what came is not a tar archive (a header's checksum is wrong)")
        name = block[:100].split(b"\0", 1)[0]
        kind = block[156:157]
        if block[257:263] == b"ustar\0" and (prefix := block[345:500].split(b"\0", 1)[0]):
            name = prefix + b"/" + name
        member = _Member(
            name=_text(name),
            size=_number(block[124:136]),
            mode=_number(block[100:108]) & 0o777,
            kind=kind,
            target=_text(block[157:257].split(b"\0", 1)[0]),
        )
        return member if kind in {LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL} else self._overridden(member)

    def _overridden(self, member: _Member) -> _Member:
        given = self._overrides
        size = member.size
        if "size" in given:
            if not (given["size"].isascii() and given["size"].isdigit() and len(given["size"]) < 19):
                raise TransferError("the archive has a size that is no number; given up")
            size = int(given["size"])
        return replace(
            member, name=given.get("path", member.name), target=given.get("linkpath", member.target), size=size
        )

    def _begin_member(self, member: _Member) -> None:
        name = member.name.removeprefix("./")
        if name.rstrip("/") not in self._wanted:
            raise TransferError(f"the machine sent {name[:100]!r}, which was not asked for; nothing of it is kept")
        if name in self.done:
            raise TransferError(f"the machine sent {name[:100]!r} twice; nothing of it is kept")
        if member.kind in REGULAR:
            self._begin_file(replace(member, name=name))
        elif member.kind == HARD_LINK:
            self._copy(name, member)
        else:  # a directory or link where a file was a moment ago: not there, as far as we care
            self._spend_overhead(member.size)

    def _begin_file(self, member: _Member) -> None:
        if member.size > self._room:
            raise TransferError(f"{member.name[:100]!r} does not fit: {member.size} bytes, room for {self._room}")
        self._room -= member.size
        self._file = _Writing(self._target, member)
        if member.size == 0:
            self._end_body()

    def _copy(self, name: str, member: _Member) -> None:
        """A second name of a file that came before: tar sends it as a link without content."""
        self._left = self._padding = 0
        first = self.done.get(member.target.removeprefix("./"))
        if first is None:
            return
        if first.size > self._room:
            raise TransferError(f"{name[:100]!r} does not fit: {first.size} bytes, room for {self._room}")
        self._room -= first.size
        with (self._target / first.path).open("rb") as source, _create(self._target, name) as copy:
            shutil.copyfileobj(source, copy)
        self.done[name] = replace(first, path=name)

    def _spend_overhead(self, size: int) -> None:
        self._overhead -= size
        if self._overhead < 0:
            raise TransferError("the archive is more wrapping than content; given up")


class _Writing:
    """The file that is being written."""

    def __init__(self, target: Path, member: _Member) -> None:
        self.member = member
        self._file = _create(target, member.name)
        self._hash = hashlib.sha256()

    def write(self, data: memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)

    def finish(self) -> FetchedFile:
        self.close()
        return FetchedFile(self.member.name, self.member.size, self._hash.hexdigest(), self.member.mode)

    def close(self) -> None:
        self._file.close()


def _create(target: Path, name: str) -> BinaryIO:
    place = target / name
    for parent in reversed(Path(name).parents[:-1]):
        (target / parent).mkdir(mode=0o700, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(place, flags, 0o600), "wb")
    except FileExistsError as error:
        raise TransferError(f"{place} exists already; the target must be empty") from error


def _number(field: bytes) -> int:
    """An octal number, or GNU's base-256 for large ones."""
    if field[:1] == b"\x80":
        number = int.from_bytes(field[1:], "big")
        if number >= 1 << 62:
            raise TransferError("the archive has a number beyond reason; given up")
        return number
    digits = field.strip(b" \0")
    if not all(byte in b"01234567" for byte in digits):
        raise TransferError("what came is not a tar archive (a number is not octal)")
    return int(digits or b"0", 8)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _read_extension(kind: bytes, body: bytes) -> dict[str, str]:
    if kind == LONG_NAME:
        return {"path": _text(body.split(b"\0", 1)[0])}
    if kind == LONG_LINK:
        return {"linkpath": _text(body.split(b"\0", 1)[0])}
    return {} if kind == PAX_GLOBAL else _read_pax(body)


def _read_pax(body: bytes) -> dict[str, str]:
    """Records of the form `LENGTH KEY=VALUE\\n`, where LENGTH counts the whole record."""
    found: dict[str, str] = {}
    while body:
        length = body.partition(b" ")[0]
        if not length.isdigit() or len(length) > 6 or not len(length) + 4 <= int(length) <= len(body):
            raise TransferError("the archive has a broken extension header; given up")
        record = body[len(length) + 1 : int(length)]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise TransferError("the archive has a broken extension header; given up")
        if key in {b"path", b"linkpath", b"size"}:
            found[key.decode("ascii")] = _text(value[:-1])
        body = body[int(length) :]
    return found
