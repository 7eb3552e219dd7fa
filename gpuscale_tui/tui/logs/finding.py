"""Searching, filtering, folding and jumping on the Logs screen: in the background, in slices, the nearest first."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.tui.logs.helper import Helper, SearchError, compiled
from gpuscale_tui.tui.logs.layout import Part, filtered, folded, plain
from gpuscale_tui.tui.logs.metrics import find_metric
from gpuscale_tui.tui.logs.scan import Found, Slice, Spans, Texts, run
from gpuscale_tui.tui.logs.sweep import Place, Sweep, nearest

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp
    from gpuscale_tui.tui.widgets.filter import FilterBar
    from gpuscale_tui.tui.widgets.log_view import LogView

SMALL = 4 * 2**20
"""Bytes of output that are looked through for errors and epochs in this process; more goes to the helper."""
SMALL_BUDGET_MS = 8
TELL_SEC = 0.25
MOST_MARKED = 2_000
"""Texts whose matches are remembered."""

Sought = Literal["match", "error", "metric"]


class LogFinding:
    """Mixed into the Logs screen. What is looked for, and how far that is, is told in one line (`found`)."""

    output: LogView
    gpuscale: GpuscaleApp
    typed: str
    run_worker: Callable[..., Any]
    notify: Callable[..., None]
    open_line: Callable[..., Any]
    close_line: Callable[[], None]

    def set_up_finding(self) -> None:
        """Nothing is looked for yet."""
        self.search: Sweep | None = None
        self.index: Sweep | None = None
        self.mode: Literal["all", "matches", "sections"] = "all"
        self.trouble = ""
        self.unfolded: frozenset[Place] = frozenset()
        self._sought: Sought = "match"
        self._seek: tuple[Sought, Place, bool] | None = None
        self._origin: Place | None = None
        self._following = True
        self._at_work: set[str] = set()
        self._broken: object = None
        self._told = 0.0
        self._helper: Helper | None = None

    def tell_found(self) -> None:
        """Show how far it is."""
        raise NotImplementedError

    @property
    def helper(self) -> Helper:
        """The process that runs expressions."""
        if self._helper is None:
            self._helper = Helper(self.gpuscale.home.logs)
        return self._helper

    async def on_unmount(self) -> None:
        """No process is left behind."""
        if self._helper is not None:
            await self._helper.close()

    @property
    def _parts(self) -> tuple[Part, ...]:
        return self.output.lineup.parts

    def begin_stream(self) -> None:
        """Another output is shown: what is looked for is looked for there, the rest begins anew."""
        self.index, self._seek, self.unfolded = None, None, frozenset()
        self.output.matches.clear()
        if self.search is not None:
            self.search = self._sweep_of(self.search.pattern, self.search.flags, None)
        self._show_mode()

    def _sweep_of(self, pattern: str, flags: int, place: Place | None) -> Sweep | None:
        stream = self.output.stream
        return Sweep(stream.job_id, place, pattern=pattern, flags=flags) if stream else None

    def go_on(self) -> None:
        """Something was read: look through what is new, and mark what is in view."""
        if self.output.stream is None or not self._parts:
            return
        self.index = self.index or self._sweep_of("", 0, None)
        if self.index is not None and self._broken != self.output.stream and self.index.next(self._parts):
            self._work("index", self._index_all)
        if self.search is not None and self.search.next(self._parts):
            self._work("find", self._search_all)
        if self.search is not None and self._unmarked():
            self._work("marks", self._mark_all)

    def _work(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do something beside the screen, unless it is being done: it goes on with what is wanted by then."""
        if name in self._at_work:
            return
        self._at_work.add(name)

        async def working() -> None:
            try:
                await work()
            finally:
                self._at_work.discard(name)

        self.run_worker(working, group=name)

    async def _index_all(self) -> None:
        try:
            while (index := self.index) is not None and (task := index.next(self._parts)) is not None:
                found = await self._look(task)
                if index is self.index:
                    self._went_on(index, changed=index.take(task, found))
        except (GpuscaleError, sqlite3.Error, OSError) as error:
            self._broken = self.output.stream
            self.notify(f"Errors and epochs cannot be looked for: {error}", severity="error", timeout=6, markup=False)
        self.tell_found()

    async def _search_all(self) -> None:
        """The search that is wanted; one that was given up meanwhile is forgotten."""
        while (search := self.search) is not None and (task := search.next(self._parts)) is not None:
            try:
                found = await self.helper.look(task)
            except (GpuscaleError, sqlite3.Error, OSError) as error:
                self._stop_search(search, error)
                continue
            if search is self.search:
                self._went_on(search, changed=search.take(task, found))
        if self.search is not None:
            self._show_mode()
            self.tell_found()

    def _stop_search(self, search: Sweep, error: Exception) -> None:
        if search is self.search:
            self.search, self._seek = None, None
            self.trouble = str(error)
            self._show_mode()
            self.tell_found()

    def _unmarked(self) -> list[str]:
        """Lines in view of which it is not known yet where they match."""
        texts = [item.shown.text for _, item in self.output.items_here() if item.row.kind == "line"]
        return [text for text in dict.fromkeys(texts) if text and text not in self.output.matches]

    async def _mark_all(self) -> None:
        while (search := self.search) is not None and (texts := self._unmarked()):
            try:
                found = await self.helper.spans(Texts(search.pattern, search.flags, texts))
            except (GpuscaleError, OSError) as error:
                self._stop_search(search, error)
                continue
            if search is self.search:
                self._take_marks(texts, found)

    def _take_marks(self, texts: list[str], found: Spans) -> None:
        matches = self.output.matches
        if len(matches) > MOST_MARKED:
            matches.clear()
        matches.update({text: tuple(spans) for text, spans in zip(texts, found.spans, strict=True)})
        if any(found.spans):
            self.output.repaint()

    async def _look(self, task: Slice) -> Found:
        if sum(part.size for part in self._parts) > SMALL:
            return await self.helper.look(task)
        here = Slice(task.job_id, task.attempt, task.forward, task.line, task.chunk, budget_ms=SMALL_BUDGET_MS)
        found = await self.gpuscale.reader.read_output(lambda connection: run(connection, here))
        if not isinstance(found, Found):
            raise GpuscaleError("the log file is gone")
        return found

    def _went_on(self, sweep: Sweep, *, changed: bool) -> None:
        """A slice more was looked through."""
        over = sweep.next(self._parts) is None
        if self._seek is not None and (changed or over):
            self._go(over=over)
        now = asyncio.get_running_loop().time()
        if over or now - self._told > TELL_SEC:
            self._told = now
            if changed or over:
                self._show_mode()
            self.tell_found()

    def found_of(self, sought: Sought) -> Mapping[int, Any]:
        """What was found so far of what is sought, by attempt."""
        sweep = self.search if sought == "match" else self.index
        return sweep.found() if sweep is not None else {}

    def _go(self, *, over: bool) -> None:
        """Go to what is sought as soon as there is one."""
        assert self._seek is not None
        sought, place, backwards = self._seek
        found = nearest(self.found_of(sought), self._parts, place, backwards=backwards)
        if found is None or (found[1] and not over):
            if over:
                self._seek = None
                self.notify({"match": "No match", "error": "No errors in this output"}.get(sought, ""), timeout=2)
            return
        self._seek = None
        target, round_the_end = found
        if round_the_end and not (sought == "match" and self._searching_line):
            self.notify(f"Round the {'beginning' if backwards else 'end'}", timeout=1)
        self._sought = sought
        self.output.go_to(target)

    @property
    def _searching_line(self) -> bool:
        line: FilterBar | None = getattr(self, "line", None)
        return line is not None and line.has_focus

    def seek(self, sought: Sought, *, backwards: bool, place: Place | None = None) -> None:
        """Go to the next match or error, now or when one is found."""
        place = place or self.output.place
        sweep = self.search if sought == "match" else self.index
        if place is None or sweep is None:
            return
        self._seek = (sought, place, backwards)
        self._go(over=sweep.next(self._parts) is None)
        self.go_on()

    def _show_mode(self) -> None:
        """Give the output the lines that the mode wants."""
        output = self.output
        if self.mode == "matches" and self.search is not None:
            output.show_lines(filtered(self.search.found()), ("matches", id(self.search), self.search.generation))
        elif self.mode == "sections" and self.index is not None:
            index = self.index
            output.show_lines(folded(index.epochs(), self.unfolded), ("sections", index.generation, self.unfolded))
        else:
            output.show_lines(plain, None)
        output.numbered = self.mode == "matches"

    async def do_log_search(self) -> None:
        """Type what to find; the nearest above is shown with each letter."""
        self._origin, self._following = self.output.place, self.output.follow
        await self.open_line(anew=True)
        self.tell_found()

    def look_for(self, text: str) -> None:
        """Look for an expression anew, from where the search began; a wrong one is told."""
        self.trouble = ""
        self.output.matches.clear()
        self.search, self._seek = None, None
        if text:
            try:
                pattern, flags = compiled(text)
            except SearchError as error:
                self.trouble = f"no regular expression: {error}"
            else:
                self.search = self._sweep_of(pattern, flags, self._origin)
        if self.search is not None and self._origin is not None:
            attempt, line = self._origin
            self.seek("match", backwards=True, place=(attempt, line + 1))
        self._show_mode()
        self.output.forget_drawn()
        self.tell_found()
        self.go_on()

    def on_input_changed(self, event: Any) -> None:
        """Another letter: the search before it is given up."""
        if getattr(event.input, "id", "") == "filter" and event.input.has_focus:
            self.look_for(event.value)

    def on_filter_bar_left(self, event: FilterBar.Left) -> None:
        """Enter keeps the search; Escape ends it, where it began."""
        pattern = self.search.pattern if self.search is not None else None
        if event.kept and pattern != self.typed and not self.trouble:
            self.look_for(self.typed)
        if not event.kept:
            self.end_search()
            if self._following:
                self.output.follow_end()
            elif self._origin is not None:
                self.output.go_to(self._origin)
        self.tell_found()

    def end_search(self) -> None:
        """Nothing is looked for any more."""
        self.search, self._seek, self.trouble = None, None, ""
        if self.mode == "matches":
            self.mode = "all"
        self.output.matches.clear()
        self.close_line()
        self._show_mode()
        self.output.forget_drawn()
        self.tell_found()

    async def do_log_next(self) -> None:
        """The next of what was looked for last."""
        await self._again(backwards=False)

    async def do_log_previous(self) -> None:
        """The one before."""
        await self._again(backwards=True)

    async def _again(self, *, backwards: bool) -> None:
        if self._sought == "metric":
            await self.to_metric(backwards=backwards)
        elif self._sought == "match" and self.search is None:
            await self.do_log_search()
        else:
            self.seek(self._sought, backwards=backwards)

    def do_log_error(self) -> None:
        """The last error, or the next one once the reader has left the end."""
        self._sought = "error"
        self.seek("error", backwards=self.output.follow)

    async def do_log_metric(self) -> None:
        """The last metrics, or the next ones."""
        self._sought = "metric"
        await self.to_metric(backwards=self.output.follow)

    async def to_metric(self, *, backwards: bool) -> None:
        """Go to the nearest line with metrics."""
        stream, place = self.output.stream, self.output.place
        if stream is None or place is None:
            return
        found = await find_metric(
            self.gpuscale.reader, stream, self._parts, place, backwards=backwards, here=self.output.follow
        )
        if isinstance(found, str):
            self.notify(found, timeout=3)
        else:
            self.output.go_to(found)

    async def do_log_filter(self) -> None:
        """Only the lines that match, or all of them again."""
        if self.search is None:
            self.mode = "matches"
            await self.do_log_search()
            return
        self._change_mode("matches")

    def do_log_fold(self) -> None:
        """One row for each epoch, or all lines again."""
        if self.mode != "sections" and self.index is not None and not any(self.index.epochs().values()):
            looked = self.index.next(self._parts) is None
            self.notify("No epochs in this output" if looked else "No epoch found yet", timeout=3)
            return
        self._change_mode("sections")

    def _change_mode(self, mode: Literal["matches", "sections"]) -> None:
        self.mode = "all" if self.mode == mode else mode
        self._show_mode()
        self.tell_found()

    def do_log_open(self) -> None:
        """Unfold the section under the cursor, or fold it again."""
        if not self.output.total or self.mode != "sections":
            return
        row = self.output.lineup.at(self.output.cursor)
        marks = [] if self.index is None else self.index.epochs().get(row.attempt, ())
        starts = [line for line, _ in marks if line <= row.line]
        if row.kind == "rule" or not starts:
            return
        first = row.line if row.kind == "section" else self._section_of(row.attempt, row.line)
        self.unfolded ^= {(row.attempt, first)}
        self.output.leave_end()
        if row.kind != "section":
            self.output.go_to((row.attempt, first))
        self._show_mode()

    def _section_of(self, attempt: int, line: int) -> int:
        return max((first for at, first in self.unfolded if at == attempt and first <= line), default=0)
