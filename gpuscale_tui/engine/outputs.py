"""One attempt's output read for what it says of progress: lines into readings, readings into points."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gpuscale_tui.policy.output import OutputParser
from gpuscale_tui.policy.output.tracking import Tracker
from gpuscale_tui.store.progress import JobProgress
from gpuscale_tui.store.series import KEPT_OF_GROUP, Parsed, Point, thinned

WHOLE_BYTES = 128 * 1024
"""So much output of one attempt is read whole at a look; of more, windows spread over it are read."""
WINDOW_BYTES = 4 * 1024
WINDOWS = 32
WARM_BYTES = 16 * 1024
"""Before going on where an engine left, so much is read again for the header of a table or the epoch that has begun."""
MOST_POINTS = 256
"""Points of one metric that one look adds."""
_END = re.compile(rb"[\r\n]")


def windows(start: int, end: int) -> list[tuple[int, int]]:
    """Which bytes to read of those from `start` to `end`: all, or windows spread over them, the last at the end."""
    if end - start <= WHOLE_BYTES:
        return [(start, end)]
    room = end - start - WINDOW_BYTES
    begins = [start + room * number // (WINDOWS - 1) for number in range(WINDOWS)]
    return [(begin, begin + WINDOW_BYTES) for begin in begins]


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an attempt's output that begin at `start`. `whole`: its first line begins there."""

    start: int
    data: bytes
    whole: bool


class OutputReader:
    """Reads one attempt's output, piece after piece. `position` is the byte that it is to go on from.

    `began` is where it began; `first_step`, for who uses it, the first step of the attempt once that was passed on.
    """

    def __init__(self, job_id: int, attempt: int, position: int, since: int) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.position = position
        self.began = position
        self.first_step: int | None = None
        self.tracker = Tracker()
        self._parser = OutputParser()
        self._heard_at = since

    def warm_up(self, before: bytes, *, whole: bool) -> None:
        """Read what stands before the position, for what has to be remembered of it."""
        for _, line in _lines(Piece(0, before, whole), final=False):
            reading = self._parser.feed(line)
            if reading is not None:
                self.tracker.take(reading, self._heard_at)

    def read(self, pieces: Sequence[Piece], end: int, now: int, *, final: bool) -> Parsed:
        """Read on up to byte `end`. What came since the last time is taken to have come evenly.

        The last line is left for the next time unless it is ended, or `final`. Takes a second for a megabyte.
        """
        start, since = self.position, min(self._heard_at, now)
        points: dict[str, list[Point]] = {}
        stop = start
        for piece in pieces:
            stop = piece.start if not piece.whole else stop
            for place, line in _lines(piece, final=final and piece is pieces[-1]):
                stop = place
                at = since + (now - since) * (place - start) // max(1, end - start)
                self._take(line, at, points)
        if not final and stop < end - WINDOW_BYTES:
            stop = end  # a line without end is no line
        self.position = end if final else stop
        if self.position > start:
            self._heard_at = now
        return Parsed(
            self.job_id, self.attempt, start, self.position, {name: _few(found) for name, found in points.items()}
        )

    def _take(self, line: str, at: int, points: dict[str, list[Point]]) -> None:
        reading = self._parser.feed(line)
        if reading is None:
            return
        step = self.tracker.take(reading, at)
        for name, value in reading.values.items():
            points.setdefault(name, []).append(Point(at, step, value))

    def progress(self) -> JobProgress | None:
        """How far the job is, as far as its output says."""
        known = self.tracker.known()
        if known is None:
            return None
        return JobProgress(
            self.job_id, self.attempt, known.at, known.step, known.steps, known.epoch, known.epochs, known.fraction,
            known.loss, known.speed, known.eta_ms,
        )  # fmt: skip


def _few(points: list[Point]) -> list[Point]:
    if len(points) <= MOST_POINTS:
        return points
    return thinned(points, math.ceil(len(points) * KEPT_OF_GROUP / MOST_POINTS))


def _lines(piece: Piece, *, final: bool) -> Iterator[tuple[int, str]]:
    """The lines of a piece with the byte after each; bars end their lines with a carriage return."""
    begin, skips = 0, not piece.whole
    for match in _END.finditer(piece.data):
        if match.start() > begin and not skips:
            yield piece.start + match.end(), piece.data[begin : match.start()].decode("utf-8", "replace")
        elif match.start() == begin and not skips:
            yield piece.start + match.end(), ""
        begin, skips = match.end(), False
    if final and begin < len(piece.data) and not skips:
        yield piece.start + len(piece.data), piece.data[begin:].decode("utf-8", "replace")
