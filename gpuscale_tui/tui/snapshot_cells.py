"""The columns of snapshots, and what running jobs would lose now, in lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from gpuscale_tui.engine.meter import Advice
from gpuscale_tui.model.jobs import StartFrom, job_label
from gpuscale_tui.store.snapshot_list import ListedSnapshot
from gpuscale_tui.store.unsaved import Unsaved
from gpuscale_tui.tui.cells import text
from gpuscale_tui.tui.format import clean, plural, share, size, span, usd, wait
from gpuscale_tui.tui.look import Line, Look, Span
from gpuscale_tui.tui.widgets.columns import Column

WIDE = 110
"""Cells from which on the lines of unsaved work are whole sentences."""
GONE = "not on disk"
KINDS = {"interval": "by time", "last": "at end", "asked": "asked"}
"""Why a snapshot was taken, in a word or two."""


@dataclass(frozen=True, slots=True)
class SnapshotLine:
    """One snapshot, and what is wrong with it on disk: None while nobody has looked, nothing where it is all right."""

    listed: ListedSnapshot
    wrong: str | None = None

    @property
    def id(self) -> tuple[int, int]:
        """Job and number."""
        return self.listed.id

    @property
    def start(self) -> StartFrom:
        """As what a job can begin with."""
        return StartFrom(*self.listed.id)

    @property
    def label(self) -> str:
        """`j17/3`."""
        return self.start.label

    @property
    def kept(self) -> bool:
        """Whether it was not removed."""
        return self.listed.snapshot.pruned_at is None


def state(row: SnapshotLine, look: Look, now: int) -> Span:
    """Removed, missing, broken, in use, verified or kept; and whether it is pinned."""
    glyphs, states = look.glyphs, look.glyphs.states
    snapshot = row.listed.snapshot
    pinned = f" {glyphs.mark} pinned" if snapshot.pinned_at is not None else ""
    if not row.kept:
        return f"{states['cancelled']} removed", "muted"
    if row.wrong == GONE:
        return f"{states['failed']} missing{pinned}", "bad"
    if row.wrong or snapshot.fault is not None:
        return f"{states['failed']} broken{pinned}", "bad"
    if row.listed.needed_by is not None:
        return f"{states['running']} for {job_label(row.listed.needed_by)}{pinned}", "accent"
    if snapshot.checked_at is not None:
        return f"{states['done']} verified {_age(now - snapshot.checked_at)}{pinned}", "good"
    if row.wrong is None:
        return f"{states['pending']} kept{pinned}", "text"
    return f"{states['done']} kept{pinned}", "good"


def _age(milliseconds: int) -> str:
    """In one unit: `<1m`, `12m`, `3h`, `40d`."""
    minutes = milliseconds // 60_000
    if minutes < 60:
        return f"{minutes}m" if minutes >= 1 else "<1m"
    return f"{minutes // 60}h" if minutes < 48 * 60 else f"{min(999, minutes // 1440)}d"


def _step(row: SnapshotLine, _look: Look, _now: int) -> Span:
    step = row.listed.snapshot.step
    return ("-", "muted") if step is None else (f"{step:,}", "text")


def _loss(row: SnapshotLine, _look: Look, _now: int) -> Span:
    loss = row.listed.snapshot.loss
    if loss is None:
        return "-", "muted"
    return (f"{loss:.4g}"[:7], "text") if isfinite(loss) else (f"!{loss:.0f}", "bad")


def _kind(row: SnapshotLine, _look: Look, _now: int) -> Span:
    return KINDS.get(row.listed.snapshot.kind, row.listed.snapshot.kind), "muted"


def _stored(row: SnapshotLine, _look: Look, _now: int) -> Span:
    stored = row.listed.snapshot.stored
    return ("-", "muted") if stored is None else (size(stored), "text")


COLUMNS: tuple[Column[SnapshotLine], ...] = (
    Column("job", "JOB", 6, lambda row, _look, _now: (job_label(row.listed.snapshot.job_id), "strong")),
    Column("name", "NAME", 11, lambda row, look, _now: text(row.listed.name, look), grow=1, most=60),
    Column("", "NO", 4, lambda row, _look, _now: (str(row.listed.snapshot.number), "strong"), right=True),
    Column("step", "STEP", 7, _step, right=True),
    Column("loss", "LOSS", 7, _loss, right=True, drop=1,
           value=lambda row, _now: row.listed.snapshot.loss),
    Column("", "TRY", 3, lambda row, _look, _now: (str(row.listed.snapshot.attempt), "muted"), right=True, drop=6),
    Column("", "WHY", 8, _kind, drop=3),
    Column("taken", "TAKEN", 11, lambda row, look, now: (look.when(row.listed.snapshot.at, now), "text"), drop=5),
    Column("", "AGE", 6, lambda row, _look, now: (wait(now - row.listed.snapshot.at), "muted"), right=True),
    Column("files", "FILES", 5, lambda row, _look, _now: (f"{row.listed.snapshot.files:,}", "text"), right=True,
           drop=4),
    Column("size", "SIZE", 8, lambda row, _look, _now: (size(row.listed.snapshot.bytes), "text"), right=True,
           value=lambda row, _now: row.listed.snapshot.bytes),
    Column("stored", "STORED", 8, _stored, right=True, drop=2,
           value=lambda row, _now: row.listed.snapshot.stored),
    Column("", "STATE", 23, state),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Losing:
    """What a running job would lose now, with its name, and how often saving it is worth its while where that is known.

    `set_ms` is how often it is looked at by the settings.
    """

    name: str
    unsaved: Unsaved
    advice: Advice | None = None
    set_ms: int = 0


def unsaved_lines(found: Sequence[Losing], look: Look, most: int, width: int) -> list[Line]:
    """What running jobs would lose if their machines were lost now: the sum, and the dearest of them by name."""
    if not found:
        return [[(" nothing runs that could lose work", "muted")]]
    lost = [each.unsaved for each in found]
    cost, lasted = sum(each.cost for each in lost), sum(each.ms for each in lost)
    lines: list[Line] = [
        [(" unsaved now ", "title"), (f"{span(lasted)} of work, {usd(cost)}", "strong"),
         (f" in {plural(len(lost), 'running job')}", "text")]
    ]  # fmt: skip
    for each in sorted(found, key=lambda one: -one.unsaved.cost)[:most]:
        lines.append(_losing_line(each, look, width))
    return lines


def _losing_line(each: Losing, look: Look, width: int) -> Line:
    lost = each.unsaved
    wide = width >= WIDE
    named = look.fit(clean(each.name, ascii_only=look.glyphs.ascii), 26 if wide else 20)
    saved = "nothing saved yet" if lost.saved_at is None else "since its snapshot"
    line: Line = [
        (f"   {job_label(lost.job_id):<6} ", "strong"), (named, "text"),
        (f" {span(lost.ms):>6}  {usd(lost.cost):>7}", "warn"),
    ]  # fmt: skip
    advice = each.advice
    if advice is None:
        return [*line, (f"  {saved}", "muted")]
    often = each.set_ms and not advice.interval_ms / 3 <= each.set_ms <= advice.interval_ms * 3
    role = "accent" if often else "muted"
    save, best, now = _short(advice.save_ms), _about(advice.interval_ms), _about(each.set_ms)
    if wide:
        return [*line, (f"  {saved}; a save takes {save}, ", "muted"), (f"best every {best}, set is {now}", role)]
    return [*line, (f"  a save {save}, ", "muted"), (f"best {best}, set {now}", role)]


def _about(milliseconds: int) -> str:
    """In one unit, rounded: `40s`, `7m`, `3h`."""
    for size_ms, unit, below in ((1_000, "s", 100), (60_000, "m", 100), (3_600_000, "h", 48)):
        count = round(milliseconds / size_ms)
        if count < below and (unit != "s" or count != 60):
            return f"{count}{unit}"
    return f"{round(milliseconds / 86_400_000)}d"


def _short(milliseconds: int) -> str:
    """With a tenth below ten seconds."""
    return f"{milliseconds / 1000:.1f}s" if milliseconds < 10_000 else span(milliseconds)


def quota_line(project: str, used: int, quota: int) -> Line:
    """How much of its quota a project's snapshots take."""
    role = "bad" if used > quota else "warn" if used * 10 > quota * 8 else "text"
    name = clean(project) or "no project"
    return [
        (" quota ", "title"), (f"{name}  ", "strong"), (f"{size(used)} of {size(quota)}", role),
        (f"  {share(used, quota)}", "muted"),
    ]  # fmt: skip
