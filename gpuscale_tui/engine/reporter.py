"""Reporting: jobs' stored output is read for metrics and progress, beside the way of the output and never in it.

It is read from the log file by offset, so that an engine that is killed leaves no gap and says nothing twice. Floods
are sampled, and all of it together takes a tenth of a core at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gpuscale_tui.engine.board import Word
from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.outputs import WARM_BYTES, OutputReader, Piece, windows
from gpuscale_tui.store import progress, series
from gpuscale_tui.store.series import Parsed, Unread

BUSY_SEC = 0.25
"""A look goes no longer on with further attempts; the next one begins with them."""
LOOK_SEC = 30.0
REST_SEC = 10.0
"""What stands at the end of the output without a line end is taken for a line after so long."""
PUBLISH_SEC = 10.0
"""Least time between two writes to the main database: each wakes every screen."""
AT_ONCE = 32
KEPT_SEC = 3_600.0
Key = tuple[int, int]


class Reporter:
    """Rung by whoever stores output; nothing depends on it."""

    name = "reporter"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clock = asyncio.get_running_loop().time
        self._readers: dict[Key, OutputReader] = {}
        self._looked: dict[Key, float] = {}
        self._rests: dict[Key, tuple[int, float]] = {}
        """How much output there was, and when, when its last line was not ended."""
        self._published = float("-inf")

    async def tick(self) -> float:
        """See `Service.tick`."""
        self._forget()
        more = await self._read_output()
        wait = await self._publish()
        return min(wait, 0.0 if more else REST_SEC if self._rests else LOOK_SEC)

    async def last_look(self) -> None:
        """What was said until now is stored, before the engine ends."""
        await self._read_output()
        self._published = float("-inf")
        await self._publish()

    def _forget(self) -> None:
        now = self._clock()
        for key in [key for key, at in self._looked.items() if now - at > KEPT_SEC]:
            self._readers.pop(key, None)
            self._rests.pop(key, None)
            del self._looked[key]

    async def _read_output(self) -> bool:
        """Read what is new, longest waiting first; True when there was no time for all of it."""
        began = self._clock()
        found = await self._context.logs.query(series.unread)
        waiting = [each for each in found if self._is_due(each)]
        waiting.sort(key=lambda each: self._looked.get((each.job_id, each.attempt), float("-inf")))
        for begin in range(0, len(waiting), AT_ONCE):
            if begin and self._clock() - began > BUSY_SEC:
                return True
            await self._read_some(waiting[begin : begin + AT_ONCE])
        return False

    def _is_due(self, each: Unread) -> bool:
        """Not what is only waiting for the end of its last line."""
        rest = self._rests.get((each.job_id, each.attempt))
        return rest is None or rest[0] != each.end or self._clock() - rest[1] >= REST_SEC

    async def _read_some(self, some: Sequence[Unread]) -> None:
        context = self._context
        for each in some:
            await self._reader(each)
        wants = [(each.job_id, each.attempt, *window) for each in some for window in windows(each.start, each.end)]
        data = await context.logs.query(series.fetch, wants)
        pieces: dict[Key, list[Piece]] = {}
        for (job_id, attempt, start, _), part in zip(wants, data, strict=True):
            known = pieces.setdefault((job_id, attempt), [])
            known.append(Piece(start, part, whole=not known))
        read = await asyncio.to_thread(self._parse, some, pieces, context.now())
        await context.logs.command(series.keep, read)
        self._note(some, read)

    async def _reader(self, each: Unread) -> OutputReader:
        """Who reads this attempt's output; a new one where none has read up to here."""
        key = each.job_id, each.attempt
        reader = self._readers.get(key)
        if reader is None or reader.position != each.start:
            before = (await self._context.db.read(progress.progress_of, [each.job_id])).get(each.job_id)
            goes_on = before is not None and before.attempt == each.attempt and each.start > 0
            since = before.at if goes_on and before is not None else each.begun or self._context.now()
            reader = self._readers[key] = OutputReader(each.job_id, each.attempt, each.start, since)
            if each.start:
                want = (each.job_id, each.attempt, max(0, each.start - WARM_BYTES), each.start)
                [data] = await self._context.logs.query(series.fetch, [want])
                reader.warm_up(data, whole=each.start <= WARM_BYTES)
        return reader

    def _parse(self, some: Sequence[Unread], pieces: dict[Key, list[Piece]], now: int) -> list[Parsed]:
        """On a thread of its own: parsing takes its time."""
        found = []
        for each in some:
            key = each.job_id, each.attempt
            rest = self._rests.get(key)
            final = rest is not None and rest[0] == each.end
            found.append(self._readers[key].read(pieces[key], each.end, now, final=final))
        return found

    def _note(self, some: Sequence[Unread], read: Sequence[Parsed]) -> None:
        board, now = self._context.board, self._clock()
        for each, parsed in zip(some, read, strict=True):
            key = each.job_id, each.attempt
            self._looked[key] = now
            self._rests.pop(key, None)
            if parsed.end < each.end:
                self._rests[key] = (each.end, now)
            reader = self._readers[key]
            known = reader.progress()
            if known is not None and parsed.end > parsed.start:
                board.progress[each.job_id] = known
                step, first = reader.tracker.run_step, reader.tracker.first_step
                for word in (*_words(parsed), Word(known.at, step, known.epoch, known.loss)):
                    board.hear(each.job_id, each.attempt, word)
                if step is not None:
                    board.steps[each.job_id] = (each.attempt, step)
                if first is not None and reader.first_step is None and reader.began == 0:
                    reader.first_step = board.first_steps[key] = first

    async def _publish(self) -> float:
        """Store the news, all in one transaction; returns the seconds after which there may be more to store."""
        context, since = self._context, self._clock() - self._published
        if not context.board.progress and not context.board.usage:
            return LOOK_SEC
        if since < PUBLISH_SEC:
            return PUBLISH_SEC - since
        self._published = self._clock()
        jobs, machines = context.board.take()
        first, context.board.first_steps = context.board.first_steps, {}
        try:
            await context.db.note(progress.record, jobs, machines, first)
        except Exception:
            context.board.first_steps = first | context.board.first_steps
            context.board.put_back(jobs, machines)
            raise
        return PUBLISH_SEC


def _words(parsed: Parsed) -> list[Word]:
    """What a look has read, in order of time: so that it is known which step a file is of that was written then."""
    found: dict[int, Word] = {}
    for name, points in parsed.points.items():
        for point in points:
            loss = point.value if name == "loss" else None
            known = found.get(point.at)
            if known is None or loss is not None:
                found[point.at] = Word(point.at, point.step, None, loss)
    return [found[at] for at in sorted(found)]
