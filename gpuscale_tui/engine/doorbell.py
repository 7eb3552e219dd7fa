"""The doorbell: a datagram socket in the home that wakes the engine at once. Nothing depends on it being heard."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from gpuscale_tui.rights import settle
from gpuscale_tui.store.home import Home


@contextlib.contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """A name for the socket within the 108 bytes that the kernel allows, whatever the home is called."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def ring(home: Home) -> None:
    """Wake the engine of this home, if there is one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.setblocking(False)
        with contextlib.suppress(OSError), _short_path(home.doorbell) as path:
            bell.sendto(b"!", path)


@contextlib.contextmanager
def listening(home: Home, wake: Callable[[], None]) -> Iterator[None]:
    """Call `wake` on the running event loop whenever somebody rings."""
    import asyncio  # only the engine pays for it: a verb that rings has no event loop

    home.doorbell.unlink(missing_ok=True)
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bell.setblocking(False)
    loop = asyncio.get_running_loop()

    def heard() -> None:
        with contextlib.suppress(BlockingIOError):
            while bell.recv(64):
                pass
        wake()

    try:
        with _short_path(home.doorbell) as path:
            bell.bind(path)
        settle(home.doorbell)
        loop.add_reader(bell, heard)
        yield
    finally:
        loop.remove_reader(bell)
        bell.close()
        home.doorbell.unlink(missing_ok=True)
