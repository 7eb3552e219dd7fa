"""The list of events as a screen asks for it: newest first, by id, filtered without ever reading a million at once.

Ids have no gaps, so that without a filter a place in the list is an id. With a filter the table is searched backwards
from the newest event, a bounded slice at each reading: a reading answers in some milliseconds, says how far back it
has looked, and the next one goes on from there. What was found is kept as ids.
"""

from __future__ import annotations

import json
import sqlite3
import time
from array import array
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from gpuscale_tui.model.query import AGE, NUMBER, TEXT, FieldKind, Query, label, words
from gpuscale_tui.model.states import AttemptState, Cause, JobState, WorkerState
from gpuscale_tui.store import queries
from gpuscale_tui.store.events import Event, latest_id
from gpuscale_tui.store.filtering import SqlField, where

KINDS = ("job", "attempt", "worker", "engine", "request", "warning")
STATES = tuple(dict.fromkeys(state.value for kind in (JobState, AttemptState, WorkerState) for state in kind))
SLICE_SEC = 0.015
"""A slice is made as long as this takes to read."""
SMALLEST, FIRST, LARGEST = 1_000, 20_000, 200_000
"""Events in a slice."""
MOST_FOUND = 200_000
"""Events that a filter shows at most; it is to be narrowed down then."""

EVENT_FIELDS: Mapping[str, FieldKind] = MappingProxyType({
    "kind": words(*KINDS, bare=True, help="what it is about"),
    "job": label("j", help="the job"),
    "worker": label("w", help="the machine"),
    "on": label("w").named("worker"),
    "cause": words(*(cause.value for cause in Cause), help="why it happened"),
    "to": words(*STATES, help="the state that it led to"),
    "from": words(*STATES, help="the state before"),
    "text": TEXT.told("its words"),
    "age": AGE.told("since it happened"),
    "by": words("user", "engine", help="who did it"),
    "try": NUMBER.told("which attempt of the job"),
    "attempt": NUMBER.named("try"),
})  # fmt: skip
"""What a filter of events knows."""

_SQL: Mapping[str, SqlField] = MappingProxyType({
    "kind": SqlField("kind"),
    "job": SqlField("job_id"),
    "worker": SqlField("worker_id"),
    "cause": SqlField("cause"),
    "to": SqlField("to_state"),
    "from": SqlField("from_state"),
    "text": SqlField("detail"),
    "age": SqlField("{now} - at"),
    "by": SqlField("CASE WHEN epoch IS NULL THEN 'user' ELSE 'engine' END"),
    "try": SqlField("attempt"),
})  # fmt: skip
_SEARCHED = (
    "detail", "kind", "to_state", "from_state", "cause", "replace(cause, '_', ' ')", "'j' || job_id",
    "'w' || worker_id",
)  # fmt: skip
"""What a word without a field is looked for in."""


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events from the `first` newest on, of the `total` that are known of.

    `place` is where the event that was asked for stands. `searched_to` is when the oldest event was that has been
    looked at (UTC ms), None when all were; `more` says that the rows on screen wait for older ones to be looked at.
    """

    total: int
    first: int
    rows: tuple[Event, ...]
    place: int | None = None
    searched_to: int | None = None
    more: bool = False


def condition(query: Query, now: int) -> tuple[str, tuple[object, ...]]:
    """What the events that a filter lets through have in common, as SQL and what it binds."""
    return where(query, _SQL, now, searched=_SEARCHED)


class EventList:
    """Answers for one screen; it keeps what was found so far for one filter. For one thread at a time."""

    def __init__(self) -> None:
        self._query = Query()
        self._now = 0
        self._found: array[int] = array("q")
        self._low = self._high = 0
        self._slice = FIRST

    def page(
        self,
        connection: sqlite3.Connection,
        query: Query,
        window: tuple[int, int],
        followed: int | None = None,
        now: int = 0,
    ) -> EventPage:
        """The rows of a window (first, number), as far as they have been found; looks further where it lacks some."""
        oldest, newest = _bounds(connection)
        if not query:
            return _plain(connection, newest, newest - oldest + 1 if newest else 0, window, followed)
        self._begin(query, newest, now)
        self._search(connection, newest, oldest, sum(window))
        total = len(self._found)
        first = max(0, min(window[0], total - window[1]))
        ids = self._found[::-1][first : first + window[1]]
        more = self._low > oldest and total < min(sum(window), MOST_FOUND)
        place = self._place(followed)
        rows = tuple(events_of(connection, ids))
        return EventPage(total, first, rows, place, self._looked_to(connection, oldest), more)

    def ids(self, connection: sqlite3.Connection, query: Query, most: int) -> Sequence[int]:
        """The ids of the newest `most` events that are known to match, newest first."""
        if not query:
            oldest, newest = _bounds(connection)
            return range(newest, max(oldest - 1, newest - most, 0), -1)
        return self._found[::-1][:most]

    def _begin(self, query: Query, newest: int, now: int) -> None:
        """Forget what was found for another filter."""
        if query != self._query:
            self._query, self._now, self._found = query, now, array("q")
            self._low, self._high, self._slice = newest + 1, newest, FIRST

    def _search(self, connection: sqlite3.Connection, newest: int, oldest: int, wanted: int) -> None:
        """Look at what is new, and at one more slice of what is old where that is wanted."""
        if newest > self._high:
            self._found.extend(self._matching(connection, self._high, newest))
            self._high = newest
        if self._low > oldest and len(self._found) < min(wanted, MOST_FOUND):
            begin = time.perf_counter()
            low = max(oldest, self._low - self._slice)
            self._found = self._matching(connection, low - 1, self._low - 1) + self._found
            self._low = low
            took = max(1e-4, time.perf_counter() - begin)
            self._slice = int(max(SMALLEST, min(LARGEST, self._slice * SLICE_SEC / took, self._slice * 4)))

    def _matching(self, connection: sqlite3.Connection, above: int, upto: int) -> array[int]:
        """The matching ids above one and up to another, ascending. Ages count from when the filter was begun."""
        test, bound = condition(self._query, self._now)
        found = connection.execute(
            f"SELECT group_concat(id) FROM (SELECT id FROM events WHERE id > ? AND id <= ? AND {test} ORDER BY id)",
            (above, upto, *bound),
        ).fetchone()[0]
        return array("q", map(int, found.split(",")) if found else ())

    def _place(self, followed: int | None) -> int | None:
        if followed is None:
            return None
        at = bisect_left(self._found, followed)
        return len(self._found) - 1 - at if at < len(self._found) and self._found[at] == followed else None

    def _looked_to(self, connection: sqlite3.Connection, oldest: int) -> int | None:
        if self._low <= oldest:
            return None
        row = connection.execute("SELECT at FROM events WHERE id >= ? ORDER BY id LIMIT 1", (self._low,)).fetchone()
        return None if row is None else int(row["at"])


def _bounds(connection: sqlite3.Connection) -> tuple[int, int]:
    """Ids of the oldest and the newest event; 1 and 0 when there is none."""
    row = connection.execute("SELECT min(id) AS oldest FROM events").fetchone()
    return int(row["oldest"] or 1), latest_id(connection)


def _plain(
    connection: sqlite3.Connection, newest: int, total: int, window: tuple[int, int], followed: int | None
) -> EventPage:
    first = max(0, min(window[0], total - window[1]))
    rows = tuple(queries.events_page(connection, newest - first + 1, window[1]))
    place = newest - followed if followed is not None and 0 <= newest - followed < total else None
    return EventPage(total, first, rows, place)


def events_of(connection: sqlite3.Connection, ids: Collection[int]) -> list[Event]:
    """These events, in this order."""
    found = connection.execute(
        "SELECT e.* FROM json_each(?) page CROSS JOIN events e ON e.id = page.value ORDER BY page.key",
        (json.dumps(list(ids)),),
    )
    return [Event(**dict(row)) for row in found]
