"""Taking lines out of a log: copied to the terminal's clipboard, saved to a file."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store import logs
from gpuscale_tui.store.home import private_opener
from gpuscale_tui.tui.format import plural, size
from gpuscale_tui.tui.logs.layout import ALL, Part, Row, Stream
from gpuscale_tui.tui.logs.lines import shown
from gpuscale_tui.tui.reader import OutputQuery

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp
    from gpuscale_tui.tui.widgets.log_view import LogView

MOST_COPIED = 48_000
"""Bytes that go to the terminal's clipboard: xterm and tmux take some 74,000 in base64, several others less."""
MOST_LINES = 20_000
SLICE = 2**20
"""Bytes written to a file before the next reading."""
TELL_SEC = 1.0


def copied(job_id: int, rows: Sequence[Row]) -> OutputQuery:
    """A query for the texts of rows, as shown; each is harmless."""

    def query(connection: sqlite3.Connection) -> list[str]:
        texts: list[str] = []
        left = MOST_COPIED
        for row in rows:
            count = row.count if row.kind == "section" and not row.open else min(1, row.count)
            for line in logs.lines(connection, job_id, row.attempt, row.line, min(count, MOST_LINES)):
                texts.append(shown(line).text)
                left -= len(texts[-1]) + 1
                if left < 0:
                    return texts
        return texts

    return query


def within(text: str, most: int) -> str:
    """The beginning of a text in at most so many bytes of UTF-8."""
    return text.encode()[:most].decode("utf-8", "ignore")


def slices(parts: Sequence[Part]) -> Iterator[tuple[int, int, int]]:
    """The bytes of a stream in slices: attempt, from, to."""
    for part in parts:
        for start in range(0, part.size, SLICE):
            yield part.attempt, start, min(start + SLICE, part.size)


def cleaned(data: bytes, rest: bytes) -> tuple[str, bytes]:
    """The whole lines of some output as they are shown, and what begins the next one. Colours are left out."""
    *ended, rest = (rest + data).split(b"\n")
    return "".join(shown(line).text + "\n" for line in ended), rest


class Saving:
    """Writes the output of a stream to a file, mode 0600, in slices; `exact` bytes, else cleaned text."""

    def __init__(self, path: Path, stream: Stream, parts: Sequence[Part], *, exact: bool) -> None:
        self.path = path
        self.stream = stream
        self.parts = parts
        self.exact = exact
        self.total = sum(part.size for part in parts)
        self.done = 0

    async def run(self, read: Callable[[OutputQuery], Any], tell: Callable[[int, int], None]) -> None:
        """Write all of it under another name, then give it its own. Raises OSError."""
        import asyncio

        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        told = time.monotonic()
        try:
            descriptor = await asyncio.to_thread(open, draft, "wb", opener=private_opener)
            with descriptor as file:
                rest, last = b"", 0
                for attempt, start, end in slices(self.parts):
                    data = await read(_bytes(self.stream.job_id, attempt, start, end))
                    if attempt != last and not self.exact:
                        await asyncio.to_thread(file.write, _heading(self, last, attempt, rest).encode())
                        rest = b""
                    last = attempt
                    rest = await asyncio.to_thread(self._write, file, data or b"", rest)
                    self.done += len(data or b"")
                    if time.monotonic() - told > TELL_SEC:
                        told = time.monotonic()
                        tell(self.done, self.total)
                if rest:
                    await asyncio.to_thread(file.write, shown(rest).text.encode() + b"\n")
            await asyncio.to_thread(draft.replace, self.path)
        finally:
            await asyncio.to_thread(draft.unlink, missing_ok=True)

    def _write(self, file: Any, data: bytes, rest: bytes) -> bytes:
        if self.exact:
            file.write(data)
            return b""
        text, rest = cleaned(data, rest)
        file.write(text.encode())
        return rest


def _heading(saving: Saving, last: int, attempt: int, rest: bytes) -> str:
    """What stands between two attempts in a cleaned text: the end of the one before, and a rule."""
    end = shown(rest).text + "\n" if rest else ""
    return end + (
        f"--- attempt {attempt} ---\n" if saving.stream.attempt == ALL and (last or len(saving.parts) > 1) else ""
    )


def _bytes(job_id: int, attempt: int, start: int, end: int) -> OutputQuery:
    return lambda connection: logs.read(connection, job_id, attempt, start, end)


def suggested(stream: Stream) -> str:
    """A name for the file."""
    attempt = "" if stream.attempt == ALL else f"-{stream.attempt}"
    return f"{job_label(stream.job_id)}{attempt}.log"


class LogTaking:
    """Mixed into the Logs screen."""

    output: LogView
    gpuscale: GpuscaleApp
    notify: Callable[..., None]

    def do_log_mark(self) -> None:
        """Mark lines from here on; again: none any more."""
        output = self.output
        if output.range_from is not None:
            output.range_from = None
        elif output.place is not None:
            output.range_from = output.place
            output.leave_end()
        output.forget_drawn()

    async def do_log_copy(self) -> None:
        """Copy the marked lines, or the one under the cursor."""
        output = self.output
        if output.stream is None or not output.total:
            return
        first, last = output.range()
        rows = [output.lineup.at(index) for index in range(first, min(last, first + MOST_LINES) + 1)]
        texts = await self.gpuscale.reader.read_output(copied(output.stream.job_id, rows))
        if not isinstance(texts, list):
            return
        text = "\n".join(texts)
        kept = within(text, MOST_COPIED)
        self.gpuscale.copy_to_clipboard(kept)
        cut = (
            f"; cut at {size(MOST_COPIED)}: S saves all" if len(kept) < len(text) or last - first >= MOST_LINES else ""
        )
        self.notify(f"Copied {plural(kept.count(chr(10)) + 1, 'line')} ({size(len(kept.encode()))}){cut}", timeout=3)
        output.range_from = None
        output.forget_drawn()

    async def do_log_save(self) -> None:
        """Ask for a path, and write the output there."""
        from gpuscale_tui.tui.logs.save import SaveQuestion

        output = self.output
        if output.stream is None or not output.lineup.parts:
            self.notify("There is no output yet", timeout=2)
            return
        stream, parts = output.stream, output.lineup.parts
        total = size(sum(part.size for part in parts))
        self.gpuscale.push_screen(
            SaveQuestion(suggested(stream), total),
            lambda chosen: (
                self.gpuscale.spawn(self._save(Saving(chosen[0], stream, parts, exact=chosen[1]))) if chosen else None
            ),
        )

    async def _save(self, saving: Saving) -> None:
        def tell(done: int, total: int) -> None:
            self.notify(f"Saving: {100 * done // max(1, total)} % of {size(total)}", timeout=2)

        try:
            await saving.run(self.gpuscale.reader.read_output, tell)
        except OSError as error:
            self.notify(f"Not saved: {error}", severity="error", timeout=8, markup=False)
            return
        self.notify(f"Saved {size(saving.done)} to {saving.path}", timeout=4, markup=False)
