"""A large file put together on this side from parts that come in any order, hashed in order, resumed after a crash."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from gpuscale_tui.remote.errors import TransferError
from gpuscale_tui.remote.extents import Extent, merged

HASH_BYTES = 1024 * 1024
"""Read and hashed at a time; both let other threads run meanwhile."""
WRITE_PIECES = 512
"""As many as one system call takes, with room (IOV_MAX is 1024)."""
JOURNAL_BYTES = 4 * 1024 * 1024
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DATA, JOURNAL = ".data", ".journal"


class Assembly:
    """The file on its way. All methods block and are for worker threads; one call at a time, but `write` beside others.

    With a journal, what `note` recorded is there again after a crash of this process, as long as the file on the
    machine is the same (`stamp`) and this computer was not restarted: what a disk had not yet written by then nobody
    knows. Raises OSError with the name of the file.
    """

    def __init__(self, place: Path, size: int, stamp: str = "", journal: Path | None = None) -> None:
        self.place = place
        self.size = size
        self.arrived: list[Extent] = []
        self.hashed = 0
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._journal = -1
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        if journal is not None:
            self._journal = os.open(journal, flags | os.O_APPEND, 0o600)
            self._claim()
            self.arrived = self._recall([stamp, size, _boot()])
        try:
            self._data = os.open(place, flags | (0 if journal else os.O_EXCL), 0o600)
            if self.arrived and os.fstat(self._data).st_size < self.arrived[-1][1]:
                self.arrived = self._forget([stamp, size, _boot()])
            if not self.arrived:
                os.ftruncate(self._data, 0)
        except BaseException:
            self._close_journal()
            raise

    def write(self, offset: int, pieces: Sequence[bytes]) -> int:
        """Write pieces that follow one another at `offset`; how many bytes they were."""
        position = offset
        for first in range(0, len(pieces), WRITE_PIECES):
            some = pieces[first : first + WRITE_PIECES]
            end = position + sum(map(len, some))
            try:
                wrote = os.pwritev(self._data, some, position)
                if wrote < end - position:  # a disk nearly full takes a part, then says why
                    self._write_rest(b"".join(some)[wrote:], position + wrote)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self.place)) from error
            position = end
        return position - offset

    def note(self, start: int, end: int) -> None:
        """Record that these bytes have arrived."""
        self.arrived = merged([*self.arrived, (start, end)])
        if self._journal >= 0:
            os.write(self._journal, b"%d %d\n" % (start, end))

    def hash_to(self, end: int) -> None:
        """Hash what lies on disk from where hashing stands to `end`."""
        if not self._buffer:
            self._buffer = bytearray(min(HASH_BYTES, self.size))
        view = memoryview(self._buffer)
        while self.hashed < end:
            size = os.preadv(self._data, [view[: end - self.hashed]], self.hashed)
            if size == 0:
                raise OSError(5, "the file became shorter while it was written", str(self.place))
            self._hash.update(view[:size])
            self.hashed += size

    def finish(self, target: Path) -> str:
        """Put the whole file into its place, where nothing may be; its SHA-256 in hex."""
        if self.hashed != self.size or os.fstat(self._data).st_size != self.size:
            raise TransferError(f"{target} has not come whole; try again")
        if self.place != target:
            if os.path.lexists(target):
                raise TransferError(f"{target} exists already; the target must be empty")
            shutil.move(self.place, target)
            self.place.with_suffix(JOURNAL).unlink(missing_ok=True)
        return self._hash.hexdigest()

    def close(self) -> None:
        """Let go of it; what has arrived stays. Harmless to repeat."""
        if self._data >= 0:
            os.close(self._data)
            self._data = -1
        self._close_journal()

    def _write_rest(self, data: bytes, position: int) -> None:
        while data:
            wrote = os.pwrite(self._data, data, position)
            data, position = data[wrote:], position + wrote

    def _claim(self) -> None:
        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._close_journal()
            raise TransferError(f"{self.place} is being fetched by somebody else; wait for that") from error

    def _recall(self, head: list[object]) -> list[Extent]:
        """What an earlier call noted, if it was of the same file; else a new journal."""
        lines = os.pread(self._journal, JOURNAL_BYTES, 0).split(b"\n")
        if lines[0] != json.dumps(head).encode():
            return self._forget(head)
        found = []
        for line in lines[1:-1]:  # a last line without its newline was torn
            start, _, end = line.partition(b" ")
            if start.isdigit() and end.isdigit() and int(end) <= self.size:
                found.append((int(start), int(end)))
        return merged(found)

    def _forget(self, head: list[object]) -> list[Extent]:
        os.ftruncate(self._journal, 0)
        os.write(self._journal, json.dumps(head).encode() + b"\n")
        return []

    def _close_journal(self) -> None:
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1


def in_parts(parts: Path, path: str, size: int, stamp: str) -> Assembly:
    """The file `path` of a machine, kept in the directory `parts` until it is whole."""
    parts.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = parts / f"{_key(path)}{DATA}"
    return Assembly(place, size, stamp, place.with_suffix(JOURNAL))


def clear_parts(parts: Path, wanted: Collection[str]) -> None:
    """Remove what is kept of files other than these."""
    keys = {_key(path) for path in wanted}
    for entry in parts.iterdir() if parts.is_dir() else ():
        if entry.suffix in {DATA, JOURNAL} and entry.stem not in keys:
            entry.unlink(missing_ok=True)


def _key(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _boot() -> str:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return f"process {os.getpid()}"
