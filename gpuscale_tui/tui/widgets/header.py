"""The lines at the top of every screen: the truth about money, engine and counts; the tabs; the banner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events
from textual.strip import Strip
from textual.widget import Widget

from gpuscale_tui.store.views import Spend, Status
from gpuscale_tui.tui.actions import SCREENS, by_id
from gpuscale_tui.tui.format import clean, meter, plural, span, usd
from gpuscale_tui.tui.look import Line, Look, Span, first_that_fits, width_of
from gpuscale_tui.tui.messages import EngineState, Snapshot

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp

SILENT_AFTER_MS = 20_000
"""An engine that has not written for so long is called silent."""

LIVE = ("ordering", "booting", "idle", "busy", "releasing")


class Bar(Widget):
    """A line of the screen's frame, drawn by itself."""

    DEFAULT_CSS = "Bar { height: 1; width: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._drawn: Strip | None = None

    @property
    def gpuscale(self) -> GpuscaleApp:
        """The application, by its own type."""
        return self.app  # type: ignore[return-value]

    @property
    def look(self) -> Look:
        """How lines are drawn now."""
        return self.gpuscale.look

    def draw(self, width: int) -> Strip:
        """The line."""
        raise NotImplementedError

    def repaint(self) -> None:
        """Paint again if the line looks different."""
        if self.size.width and self.draw(self.size.width) != self._drawn:
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The line, as Textual asks for it."""
        strip = self.draw(self.size.width) if y == 0 else Strip.blank(self.size.width)
        self._drawn = strip
        return strip


class Header(Bar):
    """Money used, reserved and allowed, today's sum, the engine, the counts. Always true, or it says that it is old."""

    def draw(self, width: int) -> Strip:
        """The richest variant that fits."""
        snapshot = self.gpuscale.snapshot
        made = variants(snapshot, self.gpuscale.now(), self.look, width, readonly=self.gpuscale.readonly)
        return self.look.strip(first_that_fits(made, width), width, "bar")


def variants(snapshot: Snapshot, now: int, look: Look, width: int, *, readonly: bool = False) -> list[Line]:
    """The header from the richest to the leanest."""
    if snapshot.status is None:
        return [[(" gpuscale ", "title"), *trouble(snapshot, now, look)]]
    status, engine = snapshot.status, snapshot.engine
    made: list[Line] = []
    for level in range(4):
        left = [(" gpuscale  " if level < 3 else " ", "title"), *engine_words(status, engine, now, look, level)]
        left += [("  read-only", "warn")] if readonly else []
        left += [("  ", "text"), *money_words(status.spend, look, level), *trouble(snapshot, now, look)]
        right = [*count_words(status, look, level), (" ", "text")]
        gap = width - width_of(left) - width_of(right)
        made.append([*left, (" " * max(2, gap), "text"), *right])
    return made


def trouble(snapshot: Snapshot, now: int, look: Look) -> Line:
    """That the store cannot be read, and how old the shown data is therefore."""
    if not snapshot.error:
        return ()
    age = span(now - snapshot.taken_at)
    return [(f" {look.glyphs.warn} store unreadable, data {age} old ", "bad")]


def engine_words(status: Status, engine: EngineState, now: int, look: Look, level: int) -> list[Span]:
    """Where the engine runs, and whether it shows signs of life."""
    heartbeat = status.engine.heartbeat_at
    silent = heartbeat is not None and now - heartbeat > SILENT_AFTER_MS and engine.kind in {"inside", "attached"}
    if silent and heartbeat is not None:
        return [(f"{look.glyphs.warn} engine silent {span(now - heartbeat)}", "warn")]
    if engine.kind == "inside":
        return [(f"{look.glyphs.states['running']} " + ("engine inside" if level == 0 else "inside"), "good")]
    if engine.kind == "attached":
        where = f"attached {engine.pid}" if engine.pid and level < 3 else "attached"
        return [(f"{look.glyphs.states['booting']} {where}", "good")]
    if engine.kind == "starting":
        return [(f"{look.glyphs.states['booting']} starting", "accent")]
    return [(f"{look.glyphs.warn} no engine" + (", E starts one" if level < 2 else ""), "warn")]


def money_words(spend: Spend, look: Look, level: int) -> list[Span]:
    """Used, reserved and cap per hour, and what today has cost; a sign and a word beside the colour near the cap."""
    committed = spend.used + spend.reserved
    role = "bad" if committed > spend.cap else "warn" if committed * 5 >= spend.cap * 4 and committed else "strong"
    sign = f"{look.glyphs.warn} " if role in {"bad", "warn"} else ""
    full, empty = meter(committed, spend.cap, 10, look.glyphs)
    bar: list[Span] = [(" ", "text"), (full, role if sign else "title"), (empty, "line")] if level < 2 else []
    today: list[Span] = [("  today ", "muted"), (usd(spend.today), "strong")]
    if level == 0:
        return [
            (f"{sign}{usd(spend.used)}", role), (" used + ", "muted"), (usd(spend.reserved), role),
            (" reserved of ", "muted"), (f"{usd(spend.cap)}/h", "text"), *bar, *today, ("  month ", "muted"),
            (usd(spend.month), "strong"),
        ]  # fmt: skip
    used = f"{sign}{usd(spend.used)}"
    if spend.reserved or level < 3:
        used += f"+{usd(spend.reserved).removeprefix('$')}"
    return [(used, role), (" of ", "muted"), (f"{usd(spend.cap)}/h", "text"), *bar, *today]


def count_words(status: Status, look: Look, level: int) -> list[Span]:
    """Jobs by state and machines that are up: words where there is room, signs else."""
    machines = sum(status.workers.get(state, 0) for state in LIVE)
    always = ("running", "pending") if level < 3 else ()
    spans: list[Span] = []
    for state in ("running", "pending", "done", "failed"):
        count = status.jobs.get(state, 0)
        if (count and not (state == "done" and level == 1)) or state in always:
            sign = look.glyphs.states[state]
            text = f"{sign} {count:,} {state}  " if level < 2 else f"{sign}{count:,} "
            spans.append((text, f"state-{state}"))
    spans.append((plural(machines, "machine") if level < 2 else f"{machines} up", "text"))
    return spans


class Tabs(Bar):
    """The screens on number keys; the one shown is marked."""

    def __init__(self, current: str) -> None:
        super().__init__()
        self._current = current

    def draw(self, width: int) -> Strip:
        """All tabs with full words, shorter ones where they do not fit."""
        return self.look.strip(first_that_fits(self._variants(), width), width)

    def _variants(self) -> list[Line]:
        return [self._tabs(12), self._tabs(8), self._tabs(5), self._tabs(0)]

    def _tabs(self, letters: int) -> list[Span]:
        spans: list[Span] = [(" ", "text")]
        for number, name in enumerate(SCREENS, 1):
            here = name == self._current
            label = by_id()[f"screen.{name}"].label
            label = label if here and not letters else label[:letters]
            spans += [(f" {number} ", "tab" if here else "key"), (f"{label} ", "tab" if here else "muted")]
        return spans

    def on_click(self, event: events.Click) -> None:
        """A click on a tab shows its screen."""
        position = 0
        spans = first_that_fits(self._variants(), self.size.width)
        for index, (text, _) in enumerate(spans):
            position += len(text)
            if event.x < position and index:
                self.gpuscale.show_screen(SCREENS[(index - 1) // 2])
                return


class Banner(Bar):
    """A line that every screen shows: which money is at stake, why there is no engine. Gone when there is neither."""

    def on_mount(self) -> None:
        """Nothing is known of the engine yet."""
        self.display = bool(self.line())

    def line(self) -> Line:
        """What is to be said."""
        said = clean(self.gpuscale.settings.ui.banner)
        trouble = clean(self.gpuscale.snapshot.engine.note)
        return [
            *([(f" {said} ", "accent")] if said else []),
            *([(f" {self.look.glyphs.warn} {trouble}", "bad")] if trouble else []),
        ]

    def draw(self, width: int) -> Strip:
        """The line."""
        return self.look.strip(self.line(), width, "raised")

    def repaint(self) -> None:
        """Come and go with what is to be said."""
        self.display = bool(self.line())
        super().repaint()
