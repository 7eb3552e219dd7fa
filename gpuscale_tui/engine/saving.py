"""When an attempt's checkpoints are saved: now and then, when a user asks, and for the last time before its end."""

from __future__ import annotations

import asyncio
import contextlib

from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.saver import LAST, Saver, Unsettled, was_cut_off
from gpuscale_tui.engine.stopping import beside
from gpuscale_tui.model.jobs import Attempt
from gpuscale_tui.model.states import Cause, WorkerState
from gpuscale_tui.remote.attempts import Exit
from gpuscale_tui.remote.errors import TransferError, Unreachable
from gpuscale_tui.remote.site import Site
from gpuscale_tui.store import saving, workers
from gpuscale_tui.store.checkpoints import SnapshotError

FINAL_SAVE_TRIES = 3
HOLD_SEC, LONGEST_HOLD_SEC = 20.0, 1800.0
"""While a last snapshot is fetched, its machine stays for so long at a time, and in all."""


class SavingWatch:
    """Saves one attempt. `taken` counts its snapshots; `all_saved`: its command ended in good order, and what it left
    was stored after that."""

    def __init__(self, context: Context, attempt: Attempt, saver: Saver) -> None:
        self._context = context
        self._attempt = attempt
        self._saver = saver
        self._save_asked = asyncio.Event()
        self._last_complaint = ""
        self.taken = 0
        self.all_saved = False

    def ask(self) -> None:
        """A user wants a snapshot now."""
        self._save_asked.set()

    async def watch(self, site: Site) -> None:
        """Look again and again, until cancelled."""
        while True:
            asked = await self._until_next_save()
            with contextlib.suppress(Unreachable):  # the command's own channel notices that and reconnects
                said = await self._save_once(site, "asked" if asked else "interval")
                if asked:
                    await self._answer(said)

    async def _until_next_save(self) -> bool:
        """Wait for the next look; True when a user asks for a snapshot."""
        try:
            async with asyncio.timeout(self._context.settings.checkpoints.interval_sec):
                await self._save_asked.wait()
        except TimeoutError:
            return False
        return True

    async def _save_once(self, site: Site, kind: str) -> str:
        """Look and save; what came of it, in words. What goes wrong is said once, until it goes well again."""
        try:
            saved = await self._saver.save(site, kind)
        except (TransferError, Unsettled, SnapshotError) as error:
            return await self._complain(f"checkpoints could not be saved now: {error}")
        except OSError as error:
            return await self._complain(f"checkpoints could not be stored: {error}; free some space")
        self._last_complaint = ""
        self.taken += saved
        return "a snapshot was taken, as asked" if saved else "nothing has changed since the last snapshot"

    async def _complain(self, text: str) -> str:
        if text != self._last_complaint:
            self._last_complaint = text
            await self._warn(text)
        return text

    async def _answer(self, said: str) -> None:
        context = self._context
        self._save_asked.clear()
        await context.db.write(saving.answer, self._attempt, said, now=context.now(), epoch=context.epoch)

    async def save_last(self, site: Site, done: Exit) -> None:
        """The last snapshot; the machine stays for it, if it may. A lost connection is raised: it is tried again."""
        await beside(self._try_save_last(site, done), self._hold_machine())

    async def _try_save_last(self, site: Site, done: Exit) -> None:
        for left in reversed(range(FINAL_SAVE_TRIES)):
            try:
                saved = await self._saver.save(site, LAST, ended=done)
            except (TransferError, SnapshotError, Unsettled, OSError) as error:
                if not left:
                    await self._warn(f"the last checkpoints could not be saved: {error}")
            else:
                self.all_saved = saved and not was_cut_off(done)
                return

    async def _hold_machine(self) -> None:
        """A machine that goes back waits for the last snapshot, but not where money or our own end do not allow it."""
        context = self._context
        until = asyncio.get_running_loop().time() + LONGEST_HOLD_SEC
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(HOLD_SEC / 4)
            worker = await context.db.read(workers.get, self._attempt.worker_id)
            if worker is None or worker.cause == Cause.BUDGET or context.control.at_once:
                return
            due = worker.release_next_at
            if worker.state == WorkerState.RELEASING and due is not None and due < context.now() + HOLD_SEC * 500:
                later = context.now() + round(HOLD_SEC * 1000)
                await context.db.write(saving.hold_back_release, worker.id, later)

    async def _warn(self, text: str) -> None:
        attempt = self._attempt
        await self._context.warn(text, job_id=attempt.job_id, attempt=attempt.number, worker_id=attempt.worker_id)
