"""A shell on a machine, from the screen: the terminal is lent to OpenSSH's client and taken back when that ends."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.tui.format import clean

if TYPE_CHECKING:
    from gpuscale_tui.engine.reach import Target
    from gpuscale_tui.tui.app import GpuscaleApp

NO_WAY = 255
"""What OpenSSH's client ends with when there was no way to the machine."""


async def open_shell(app: GpuscaleApp, find: Callable[[sqlite3.Connection, int], Target], number: int) -> None:
    """Open a shell where `find` says that a job or worker is; the engine and its jobs go on meanwhile."""
    from gpuscale_tui.engine import reach

    try:
        target = await app.reader.database.read(find, number)
        words = await asyncio.to_thread(reach.shell_command, app.home, target)
        with app.suspend():
            code = run(words, f"{target.where}; `exit` brings the screen back, the job goes on")
    except SuspendNotSupported:
        app.notify("This terminal cannot be left for a shell: gpuscale ssh in another one.", severity="warning",
                   timeout=6)  # fmt: skip
        return
    except (GpuscaleError, OSError) as error:
        app.notify(clean(str(error)), severity="error", timeout=8, markup=False)
        return
    app.refresh(layout=True)
    app.poke()
    if code == NO_WAY:
        words_of = f"There was no way to {clean(target.where)}; it may be starting or gone"
        app.notify(words_of, severity="warning", timeout=6, markup=False)


def run(words: Sequence[str], note: str) -> int:
    """Run a program in the terminal; its exit code. Blocks until it ends; Ctrl+C is the program's alone."""
    with _ctrl_c_is_theirs():
        print(clean(note), flush=True)
        return subprocess.run(list(words), check=False).returncode


@contextmanager
def _ctrl_c_is_theirs() -> Iterator[None]:
    """A handler that does nothing, not SIG_IGN: what is ignored stays ignored in the program that is started."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
