"""What takes more than a moment says now and then how far it is, where its user looks: in why its machine is up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.jobs import Job, job_label
from gpuscale_tui.store import workers

TELL_SEC = 5.0
UNITS = ("B", "KB", "MB", "GB", "TB")


def human(size: float) -> str:
    """Bytes for people: `18 KB`, `1.2 GB`."""
    for unit in UNITS:
        if size < 999.5 or unit == UNITS[-1]:
            return f"{size:.0f} {unit}" if size >= 99.5 or unit in {"B", "KB"} else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


class GivenUp(Exception):
    """Nobody waits for it any more."""


class Telling:
    """How far something is. Any thread may say; what is said last is told."""

    def __init__(self) -> None:
        self.text = ""
        self.over = False
        self._what = ""
        self._size = 0

    def begin(self, what: str, size: int = 0) -> None:
        """Something begins; `size` is how many bytes it will be, where that is known."""
        self._what, self._size = what, size
        self.text = what

    def moved(self, done: int) -> None:
        """So many bytes are done."""
        self.text = f"{self._what}: {human(done)}" + (f" of {human(self._size)}" if self._size else "")

    def reading(self, done: int) -> None:
        """The same, of a thread that reads files here; raises GivenUp once nobody waits for it any more."""
        if self.over:
            raise GivenUp
        self.moved(done)

    def said(self, words: str) -> None:
        """It says by itself how far it is."""
        self.text = f"{self._what}: {words}"


@contextlib.asynccontextmanager
async def telling(context: Context, job: Job) -> AsyncIterator[Telling]:
    """Tell what is said in the block every few seconds, once that has taken so long."""
    said = Telling()
    task = asyncio.create_task(_tell(context, job, said))
    try:
        yield said
    finally:
        said.over = True
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()  # its own failure


async def _tell(context: Context, job: Job, said: Telling) -> None:
    while True:
        await asyncio.sleep(TELL_SEC)
        if job.worker_id is not None and said.text:
            await context.db.note(workers.explain, [(job.worker_id, f"{job_label(job.id)}: {said.text}")])
