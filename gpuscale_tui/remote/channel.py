"""One SSH session channel: bytes from stdout with back-pressure, short control lines from stderr, nothing unbounded."""

from __future__ import annotations

import asyncio
from collections import deque

import asyncssh

from gpuscale_tui.remote.errors import RemoteError, Unreachable
from gpuscale_tui.remote.scripts import BEGIN

CONTROL_PREFIX = b"gs:"
CONTROL_LINE_BYTES = 256
CONTROL_LINES = 1_000
NOISE_BYTES = 64 * 1024
"""What a machine may print beside the protocol (login shell chatter, warnings) before the channel is given up."""
BUFFER_BYTES = 1024 * 1024
STALL_SEC = 60
EXCERPT_BYTES = 500


class Channel(asyncssh.SSHClientSession[bytes]):
    """The client's end of one remote command. Everything happens in callbacks; `changed` tells that something did.

    `changed` may be shared by several channels that one task watches. `where` names the machine in messages. Of stdout
    at most some `buffer_bytes` are held, and `changed` is set only once `notify_bytes` are, or at the end.
    """

    def __init__(
        self,
        where: str,
        changed: asyncio.Event,
        *,
        noise_limit: int = NOISE_BYTES,
        buffer_bytes: int = BUFFER_BYTES,
        notify_bytes: int = 0,
    ) -> None:
        self.where = where
        self.changed = changed
        self.noise_limit = noise_limit
        self.closed = False
        self.exit_status: int | None = None
        self.controls: deque[tuple[str, ...]] = deque()
        self.noise = bytearray()
        self._chan: asyncssh.SSHClientChannel[bytes] | None = None
        self._begun = False
        self._before = b""
        self._data: deque[bytes] = deque()
        self._buffer_bytes = buffer_bytes
        self._notify_bytes = notify_bytes
        self._held = 0
        self._paused = False
        self._line = b""
        self._trouble: RemoteError | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    # What asyncssh calls.

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._chan = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if self._trouble is not None:
            return
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            self._take_stderr(data)
        elif self._begun:
            self._hold(data)
            if self._held < self._notify_bytes:
                return
        else:
            self._seek_begin(data)
        self.changed.set()

    def eof_received(self) -> bool:
        return True  # our direction stays open: the channel ends when the far side closes it

    def exit_status_received(self, status: int) -> None:
        self.exit_status = status

    def exit_signal_received(self, _signal: str, _core_dumped: bool, _msg: str, _lang: str) -> None:
        self.exit_status = 255

    def connection_lost(self, _exc: Exception | None) -> None:
        self.closed = True
        self._writable.set()
        self.changed.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What we call.

    def take(self) -> bytes:
        """The stdout bytes that wait, b"" when there are none now. Raises RemoteError when the far side misbehaved."""
        pieces = self.take_pieces()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def take_pieces(self) -> list[bytes]:
        """The same as it came, without copying it together."""
        if not self._data:
            self._raise_trouble()
            return []
        pieces = list(self._data)
        self._data.clear()
        self._held = 0
        self._set_paused(False)
        return pieces

    async def wait_for_more(self) -> None:
        """Wait until `changed`, or take what little there is after a while. Raises Unreachable when nothing comes."""
        held = self._held
        try:
            async with asyncio.timeout(STALL_SEC):
                await self.changed.wait()
        except TimeoutError as error:
            if self._held == held:
                raise Unreachable(f"{self.where}: nothing came for {STALL_SEC} s; connect again") from error

    def take_control(self) -> tuple[str, ...] | None:
        """The next control line as words, None when there is none now."""
        if not self.controls:
            self._raise_trouble()
            return None
        return self.controls.popleft()

    @property
    def held(self) -> int:
        """How many bytes of stdout wait to be taken."""
        return self._held

    @property
    def drained(self) -> bool:
        """True when the far side is done and everything that it sent was taken."""
        return self.closed and not self._data and not self.controls

    def excerpt(self) -> str:
        """What the far side said on stderr beside the protocol, cut short, for a message. Untrusted."""
        return bytes(self.noise[:EXCERPT_BYTES]).decode("utf-8", "replace").strip()

    def write(self, data: bytes) -> None:
        """Send to stdin without waiting; for small things. A channel that is gone swallows it."""
        if self._chan is not None and not self.closed and not self._chan.is_closing():
            self._chan.write(data)

    async def feed(self, data: bytes) -> None:
        """Send to stdin and wait while the far side is slow. Raises Unreachable when it is gone or takes nothing."""
        try:
            async with asyncio.timeout(STALL_SEC):
                await self._writable.wait()
        except TimeoutError as error:
            raise Unreachable(f"{self.where}: took no data for {STALL_SEC} s; connect again") from error
        if self.closed:
            raise Unreachable(f"{self.where}: the connection was lost while data was sent; connect again")
        self.write(data)

    def write_eof(self) -> None:
        if self._chan is not None and not self.closed and not self._chan.is_closing():
            self._chan.write_eof()

    def abort(self) -> None:
        """Close at once; what runs on the far side sees its pipes closed. Harmless to repeat."""
        if self._chan is not None and not self.closed:
            self._set_paused(False)
            self._data.clear()
            self._trouble = self._trouble or RemoteError(f"{self.where}: the channel was closed by us")
            self._chan.abort()
            self.closed = True  # a far side that answers no more must keep nobody waiting
            self._writable.set()

    # Parts.

    def _hold(self, data: bytes) -> None:
        self._data.append(data)
        self._held += len(data)
        if self._held > self._buffer_bytes:
            self._set_paused(True)

    def _set_paused(self, paused: bool) -> None:
        if self._chan is None or paused == self._paused:
            return
        self._paused = paused
        if paused:
            self._chan.pause_reading()
        else:
            self._chan.resume_reading()

    def _seek_begin(self, data: bytes) -> None:
        before, mark, after = (self._before + data).partition(BEGIN)
        self._before = b"" if mark else before
        if mark:
            self._begun = True
            if after:
                self._hold(after)
        elif len(before) > NOISE_BYTES:
            self._fail(f"the login shell printed more than {NOISE_BYTES} bytes before our script began")

    def _take_stderr(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._take_line(line)
        if len(self._line) > CONTROL_LINE_BYTES:
            self._take_noise(self._line)
            self._line = b""
        if len(self.controls) > CONTROL_LINES:
            self._fail(f"more than {CONTROL_LINES} control lines at once")

    def _take_line(self, line: bytes) -> None:
        if line.startswith(CONTROL_PREFIX) and len(line) <= CONTROL_LINE_BYTES:
            self.controls.append(tuple(line[len(CONTROL_PREFIX) :].decode("ascii", "replace").split()))
        else:
            self._take_noise(line + b"\n")

    def _take_noise(self, noise: bytes) -> None:
        self.noise += noise
        if len(self.noise) > self.noise_limit:
            del self.noise[self.noise_limit :]
            self._fail(f"more than {self.noise_limit} bytes on stderr")

    def _fail(self, what: str) -> None:
        self._trouble = RemoteError(f"{self.where}: {what}; given up (a machine's login scripts should be quiet)")
        self._data.clear()
        if self._chan is not None:
            self._chan.abort()

    def _raise_trouble(self) -> None:
        if self._trouble is not None:
            raise self._trouble
