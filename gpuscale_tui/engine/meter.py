"""How often saving a running job is worth its while: what a save takes against how often such machines are lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from gpuscale_tui.policy.saving import Evictions, suggested_interval_ms
from gpuscale_tui.store.unsaved import Unsaved, lost_under_jobs

FRESH_MS = 60_000
"""What was seen of machines is looked up anew so often: it changes slowly and is dear."""


@dataclass(frozen=True, slots=True)
class Advice:
    """A save takes `save_ms`; one every `interval_ms` loses the least by the rule of Young and Daly. `basis` says on
    what that rests."""

    save_ms: int
    interval_ms: int
    basis: str


class Meter:
    """Answers for one screen; for one thread at a time."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, Evictions]] = {}

    def advice(self, connection: sqlite3.Connection, found: Iterable[Unsaved], now: int) -> dict[int, Advice]:
        """For each job of which a save was measured, by its id."""
        told: dict[int, Advice] = {}
        for each in found:
            if each.save_ms is not None:
                seen = self._evictions(connection, each.job_id, now)
                interval = suggested_interval_ms(each.save_ms, seen.between_ms)
                told[each.job_id] = Advice(each.save_ms, interval, seen.words)
        return told

    def _evictions(self, connection: sqlite3.Connection, job_id: int, now: int) -> Evictions:
        known = self._seen.get(job_id)
        if known is not None and 0 <= now - known[0] < FRESH_MS:
            return known[1]
        rented = lost_under_jobs(connection, job_id, now)
        seen = Evictions(0, 0) if rented is None else Evictions(rented.ran_ms, rented.lost)
        self._seen[job_id] = (now, seen)
        return seen
