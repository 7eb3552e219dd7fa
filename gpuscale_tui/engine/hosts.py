"""What the engine knows of other people's hosts, read again when something happened; breakers that open are told."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.standing import Opened, Record, Standing, read
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.store import events, notices
from gpuscale_tui.store.notices import NoticeKind


class Hosts:
    """Reads what came of renting machines and says how their hosts stand."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._record: Record | None = None
        self._judged_by = context.settings.machines
        self._told: set[str] = set()

    async def look(self, now: int, live: Sequence[Worker]) -> Standing:
        """How hosts stand now; `live` are the machines that are rented. Breakers that have opened are told."""
        context = self._context
        own = frozenset(name for name, provider in context.providers.items() if not provider.facts.boots)
        settings = context.settings.machines
        if settings != self._judged_by:  # read anew: what is known is judged again
            self._record, self._judged_by = None, settings
        self._record = record = await context.db.read(read, self._record, settings, own, now)
        await self._tell(record.opened)
        return record.opened.standing(record, live, now)

    async def _tell(self, opened: Opened) -> None:
        """Say once that a breaker has opened."""
        context = self._context
        for key, text in opened.messages():
            if key not in self._told:
                self._told.add(key)
                await context.db.write(tell_once, key, text, now=context.now(), epoch=context.epoch)


def tell_once(connection: sqlite3.Connection, key: str, text: str, *, now: int, epoch: int | None) -> None:
    """Tell of a breaker in the audit log and to the outside, unless an engine before this one has."""
    if not notices.is_known(connection, key):
        notices.add(connection, now, NoticeKind.BREAKER, text, key=key)
        events.append(connection, now, "warning", text, epoch=epoch)
